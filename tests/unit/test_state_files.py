"""Nested states on disk: what comes back is what was there."""

import math

import pytest
import torch

from bench.federation.client_states import ClientStates
from bench.store.states import leaves, load_state, save_state

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
