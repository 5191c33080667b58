"""Arithmetic on dicts of tensors."""

import pytest
import torch

from bench.federation.tensors import distance, nbytes, weight_hash

WEIGHTS = {"b": torch.tensor([3.0, 4.0]), "a": torch.tensor([[1.0]])}


def test_a_hash_is_of_names_and_values_and_not_of_their_order():
    turned = {name: WEIGHTS[name] for name in reversed(WEIGHTS)}
    assert weight_hash(turned) == weight_hash(WEIGHTS)
    assert weight_hash({"c": WEIGHTS["b"], "a": WEIGHTS["a"]}) != weight_hash(WEIGHTS)
    assert weight_hash(WEIGHTS | {"a": torch.tensor([[1.5]])}) != weight_hash(WEIGHTS)


def test_a_distance_is_the_norm_over_all_tensors():
    zeros = {name: torch.zeros_like(tensor) for name, tensor in WEIGHTS.items()}
    assert distance(WEIGHTS, zeros) == pytest.approx((1 + 9 + 16) ** 0.5)


def test_bytes_are_those_of_the_values():
    assert nbytes(WEIGHTS) == 3 * 4
