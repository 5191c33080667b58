"""The global generators of random numbers, which no strategy and no partition may touch."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

GENERATORS = ("torch", "numpy", "random")


def states() -> tuple[Any, Any, Any]:
    """The states of torch's, NumPy's and Python's global generators."""
    numpy_state = np.random.get_state(legacy=True)  # noqa: NPY002 - it is looked at, nothing is drawn
    return torch.get_rng_state(), numpy_state, random.getstate()


def drawn_from(before: tuple[Any, Any, Any]) -> list[str]:
    """Names of the generators whose state has changed since `before`."""
    now = states()
    same = (
        torch.equal(now[0], before[0]),
        all(np.array_equal(a, b) for a, b in zip(now[1], before[1], strict=True)),
        now[2] == before[2],
    )
    return [name for name, is_same in zip(GENERATORS, same, strict=True) if not is_same]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the three global generators; restore them on exit."""
    before = states()
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - that it does not matter is what is tried
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        random.setstate(before[2])
