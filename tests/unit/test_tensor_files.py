"""Tensor files: what was written comes back, and damage is noticed."""

import pytest
import torch

from bench.store.states import BrokenFile, read_tensors, write_tensors

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
    with pytest.raises(BrokenFile):
        read_tensors(path)


def test_a_renamed_tensor_is_damage(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"c"'))
    with pytest.raises(BrokenFile, match="checksum"):
        read_tensors(path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(BrokenFile, match="IsADirectoryError"):
        read_tensors(tmp_path)
