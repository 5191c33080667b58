"""Arithmetic on dicts of tensors: copies, distances, directions, bytes, hashes."""

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from strategies.base import Tensors


@torch.no_grad()
def copy_into(live: Tensors, source: Mapping[str, Tensor]) -> None:
    """Copy `source`'s values into the live tensors of the same names; neither shares memory with the other after."""
    torch._foreach_copy_([live[name] for name in source], list(source.values()))


class Directions:
    """The mean cosine between updates, from the sum of their unit vectors: one model in memory for any number of them.

    sum_{i != j} u_i . u_j = ||sum_i u_i||^2 - n for unit vectors u_i. Updates that are 0 have no direction and are
    left out.
    """

    def __init__(self) -> None:
        self._sum: list[Tensor] = []
        self._count = 0

    @torch.no_grad()
    def add(self, live: Mapping[str, Tensor], origin: Mapping[str, Tensor]) -> float:
        """Take one update into account; returns its Euclidean norm over the tensors that both have."""
        both = [name for name in origin if name in live and live[name].is_floating_point()]
        update = torch._foreach_sub([live[name].detach() for name in both], [origin[name] for name in both])
        norm = _norm(update)
        if 0 < norm < math.inf:
            self._sum = self._sum or [torch.zeros_like(part) for part in update]
            torch._foreach_add_(self._sum, update, alpha=1 / norm)
            self._count += 1
        return norm

    def mean_cosine(self) -> float:
        """In [-1, 1]; NaN for fewer than two updates."""
        n = self._count
        return (_norm(self._sum) ** 2 - n) / (n * (n - 1)) if n > 1 else math.nan


def _norm(parts: Sequence[Tensor]) -> float:
    return float(torch.stack(torch._foreach_norm(list(parts))).double().square().sum().sqrt())


@torch.no_grad()
def distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Euclidean norm of the difference over the tensors that both have."""
    both = [name for name in a if name in b and a[name].is_floating_point()]
    return _norm(torch._foreach_sub([a[n].detach() for n in both], [b[n] for n in both]))


def nbytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the tensors as they travel, uncompressed."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def weight_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, by sorted name: equal exactly if the weights are, bit for bit."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name].detach().cpu().numpy())
        total.update(f"{name}:{array.dtype}:{array.shape};".encode())
        total.update(array.tobytes())
    return total.hexdigest()
