"""Which client's model judges or draws which image, where clients keep models of their own.

A federation of personal models is evaluated as a mixture: each image belongs to one client, clients in proportion to
their numbers of images. So the mixture costs what one global model costs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.seeds import torch_stream

MOST_JUDGED = 20  # each costs a set of samples where its model is its own, and a distance where it is not


@dataclass(frozen=True)
class Personal:
    """Models that clients keep to themselves.

    Attributes:
        sizes: the clients' numbers of images.
        models: gives each client's whole model, by number; they are not written to.
    """

    sizes: Sequence[int]
    models: Callable[[], Iterator[dict[str, Tensor]]]


def assigned(sizes: Sequence[int], count: int) -> Tensor:
    """The client (count,) of each of `count` images: client i has count * N_i / N of them, to one image.

    Rounding rests go to the largest remainders, smallest numbers first. Which images a client has is a fixed shuffle.
    """
    exact = torch.tensor(sizes, dtype=torch.float64) * count / sum(sizes)
    counts = exact.floor().long()
    rest = count - int(counts.sum())
    counts[(exact - counts).sort(descending=True, stable=True).indices[:rest]] += 1
    order = torch.randperm(count, generator=torch_stream(0, "mixture", count))
    return torch.arange(len(sizes)).repeat_interleave(counts)[order]


def judged(n_clients: int) -> list[int]:
    """The clients that are evaluated one by one: all, or `MOST_JUDGED` of them spread evenly over the numbers."""
    return spread(n_clients, MOST_JUDGED)


def spread(n: int, most: int) -> list[int]:
    """The numbers below n, or `most` >= 2 of them spread evenly from the first to the last."""
    return list(range(n)) if n <= most else [round(k * (n - 1) / (most - 1)) for k in range(most)]


def of_classes(by_class: np.ndarray, mix: np.ndarray) -> float | None:
    """Mean of the classes' values (K,) weighted by a client's counts or shares `mix` (K,), over the classes that have
    one; None if there is none.
    """
    known = np.isfinite(by_class) & (mix > 0)
    return float(np.average(by_class[known], weights=mix[known])) if known.any() else None
