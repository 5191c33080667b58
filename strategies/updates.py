"""Exchange of updates w_i - w instead of models w_i, for strategies that compress what clients send."""

from collections.abc import Iterable

from bench.plugins import torch
from strategies.base import State, Tensors, WeightedMean


def difference(params: Tensors, origin: Tensors) -> Tensors:
    """params - origin as new tensors, by name; of what is not floating-point, that of `params`."""
    names = [name for name, p in params.items() if p.is_floating_point()]
    changes = torch._foreach_sub([params[name].detach() for name in names], [origin[name] for name in names])
    return {**params, **dict(zip(names, changes, strict=True))}


def add_mean(server: State, updates: Iterable[tuple[Tensors, int]]) -> None:
    """w <- w + sum_i n_i u_i / sum_i n_i over pairs of an update and its number of images, as a running sum.

    Raises:
        ValueError: as `WeightedMean`.
    """
    params: Tensors = server["params"]
    mean = WeightedMean(params)
    for update, n_samples in updates:
        mean.add(update, n_samples)
    server["params"] = {
        name: params[name] + change if change.is_floating_point() else change for name, change in mean.result().items()
    }
