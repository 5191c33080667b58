"""Tensors and nested states on disk: what comes back is what was there, and damage is noticed."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.federation.client_states import ClientStates
from bench.store.files import Damaged
from bench.store.states import leaves, load_state, read_tensors, save_state, write_tensors

CPU = torch.device("cpu")


def test_a_state_comes_back_as_it_was(tmp_path):
    state = {
        "z": {"b": torch.arange(6.0).view(2, 3).T, "a": torch.tensor(3, dtype=torch.uint8), "empty": {}},
        "n": 3,
        "share": 0.1,
        "none": None,
        "flag": True,
        "odd": math.inf,
        "text": "ä.b",
        "a.b": {"c": 1},
        "a": {"b.c": torch.zeros(0)},
    }
    save_state(tmp_path / "state", state)
    found = load_state(tmp_path / "state", CPU)
    assert [key for key, _ in leaves(found)] == [key for key, _ in leaves(state)]
    for (key, wanted), (_, value) in zip(leaves(state), leaves(found), strict=True):
        assert type(value) is type(wanted), key
        assert torch.equal(value, wanted) if isinstance(wanted, torch.Tensor) else value == wanted
    assert found["z"]["a"].dtype == torch.uint8


@pytest.mark.parametrize(("state", "message"), [
    ({"a": {0: torch.ones(1)}}, r"state a\.0: a key must be a text, got 0"),
    ({"a": (1, 2)}, r"state a: got tuple; it must be a tensor, a number, a text or a dict"),
    ({"a": {"b": [1]}}, r"state a\.b: got list"),
    ({"a": {1, 2}}, r"state a: got set"),
])  # fmt: skip
def test_what_would_come_back_as_something_else_is_refused(tmp_path, state, message):
    with pytest.raises(TypeError, match=message):
        save_state(tmp_path / "state", state)


def test_what_a_client_has_put_away_stays_away(tmp_path):
    states = ClientStates(tmp_path, CPU)
    first = states.take(0)
    first["strategy"]["seen"] = 1
    states.put(0, first)
    states.take(1)
    again = states.take(0)
    assert again == {"strategy": {"seen": 1}, "optimizer": {}, "task": {}}
    again["strategy"].clear()
    states.put(0, again)
    states.take(1)
    assert states.take(0) == {"strategy": {}, "optimizer": {}, "task": {}}


# ------------------------------------------------------------------------------------------- tensors by name

TENSORS = {"a": torch.arange(6, dtype=torch.float64).reshape(2, 3), "b": torch.tensor([1, 2])}


def test_tensors_come_back(tmp_path):
    path = tmp_path / "new" / "x.safetensors"
    assert read_tensors(path) is None
    write_tensors(path, TENSORS)
    found = read_tensors(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in found)


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "other"])
def test_damage_is_noticed(tmp_path, damage):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1  # a bit of the last tensor or of the checksum
    path.write_bytes({"truncated": data[:-9], "empty": b"", "flipped": bytes(data), "other": b"no tensors"}[damage])
    with pytest.raises(Damaged):
        read_tensors(path)


@pytest.mark.parametrize(("name", "other"), [(b'"a"', b'"c"'), (b'"b"', b'"c"')])  # the order changes, and does not
def test_a_renamed_tensor_is_damage(tmp_path, name, other):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes().replace(name, other))
    with pytest.raises(Damaged, match="checksum"):
        read_tensors(path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(Damaged, match="a folder stands in its place"):
        read_tensors(tmp_path)


def test_what_other_tools_read_is_what_was_written(tmp_path):
    write_tensors(tmp_path / "x.safetensors", TENSORS)
    assert {name: t.tolist() for name, t in load_file(tmp_path / "x.safetensors").items()} == {
        name: t.tolist() for name, t in TENSORS.items()
    }


def test_a_file_older_than_checksums_is_read_only_where_it_is_said_to_be_allowed(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(TENSORS, path)
    assert read_tensors(path, sealed=False).keys() == TENSORS.keys()
    with pytest.raises(Damaged, match="no checksum"):
        read_tensors(path)


def test_a_wrong_checksum_is_damage_whether_or_not_one_is_needed(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged, match="checksum"):
        read_tensors(path, sealed=False)
