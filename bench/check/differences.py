"""Differences between dicts of tensors and between states, in names and numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.store.states import State, leaves


def difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], slack: float = 0.0) -> str | None:
    """Where the two differ, or None; bit for bit, or by more than `slack` times each expected tensor's largest size."""
    if found.keys() != expected.keys():
        return f"only one of the two has {sorted(found.keys() ^ expected.keys())[:3]}"
    for name, wanted in expected.items():
        wrong = _of_tensors(found[name].detach(), wanted.detach(), slack)
        if wrong is not None:
            return f"{name!r}{wrong}"
    return None


def _of_tensors(found: Tensor, expected: Tensor, slack: float) -> str | None:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return f" is {found.dtype} of shape {tuple(found.shape)} instead of {expected.dtype} of {tuple(expected.shape)}"
    if torch.equal(found, expected) or not found.numel():
        return None
    a, b = found.double().flatten(), expected.double().flatten()
    gaps = (a - b).abs().nan_to_num(nan=torch.inf)
    gaps[a.isnan() & b.isnan()] = 0
    allowed = slack * b.abs().max() if slack else 0.0
    wrong = gaps > allowed
    if not wrong.any():
        return None
    worst = int(gaps.argmax())
    place = list(map(int, np.unravel_index(worst, tuple(found.shape)))) if found.ndim else ""
    x, y = number(a[worst]), number(b[worst])
    return f"{place} is {x} instead of {y} ({int(wrong.sum())} of its {len(a)} numbers differ)"


def number(value: Tensor | float) -> str:
    """Enough digits to tell two float32 numbers apart."""
    return f"{float(value):.9g}"


def copied(state: State) -> State:
    """The state with copies of its tensors."""
    return {key: _copy(value) for key, value in state.items()}


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return copied(value)
    return value.detach().clone() if isinstance(value, Tensor) else value


def tensors_in(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """All tensors in a state, by their path with dots."""
    return {".".join(map(str, key)): value for key, value in leaves(state) if isinstance(value, Tensor)}


def state_difference(found: State, expected: State, slack: float = 0.0) -> str | None:
    """Where two states differ in keys, types or values, or None."""
    a, b = (dict(leaves(state)) for state in (found, expected))
    if a.keys() != b.keys():
        return f"only one of the two has {sorted(a.keys() ^ b.keys(), key=str)[:3]}"
    for key, wanted in b.items():
        if not isinstance(wanted, Tensor) and (type(a[key]) is not type(wanted) or not _same(a[key], wanted)):
            return f"{'.'.join(map(str, key))!r} is {a[key]!r} instead of {wanted!r}"
    return difference(tensors_in(found), tensors_in(expected), slack)


def _same(a: Any, b: Any) -> bool:
    return bool(a == b or (a != a and b != b))  # NaN is not itself


def storages(tensors: Mapping[str, Tensor]) -> dict[int, str]:
    """The memory that the tensors lie in, by address, with a name of each."""
    found = {tensor.untyped_storage().data_ptr(): name for name, tensor in tensors.items()}
    found.pop(0, None)  # of tensors without a number
    return found
