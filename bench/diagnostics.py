"""Where a model's held-out loss comes from: by timestep, by class, and on each client's mix of classes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.tasks import DiffusionTask, in_evaluation

DRAWS = 8  # of timestep and noise for each held-out image, one from each eighth of the timesteps
BINS = 10


@dataclass(frozen=True)
class Diagnostics:
    """Mean squared errors of the predicted noise, by groups; all from the same fixed timesteps and noise.

    Attributes:
        draws: passes of each held-out image.
        t_edges: (BINS + 1,) timesteps; bin k holds t_edges[k] <= t < t_edges[k + 1].
        t_loss: (BINS,), None for a bin without a timestep.
        class_names, class_loss: of the images' classes, None for a class without held-out images.
        client_loss: (n,), the loss on each client's own mix of classes, None for a client none of whose classes is held
            out; [] for centralized training.
    """

    draws: int
    t_edges: list[int]
    t_loss: list[float | None]
    class_names: list[str]
    class_loss: list[float | None]
    client_loss: list[float | None]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def metrics(self) -> dict[str, float]:
        """Mean, standard deviation (over clients, not a sample of them) and maximum of the clients' losses."""
        losses = np.asarray([loss for loss in self.client_loss if loss is not None])
        if not len(losses):
            return {}
        told = {"mean": losses.mean(), "sd": losses.std(), "max": losses.max()}
        return {f"heldout_client_{key}": float(value) for key, value in told.items()}


def diagnose(
    task: DiffusionTask, net: nn.Module, labels: Tensor, class_names: Sequence[str], mixes: np.ndarray
) -> Diagnostics:
    """Measure the network in evaluation mode.

    A client's loss is the mean over classes of the class's loss, weighted by the client's shares: the same held-out
    images for all clients, so that a difference between clients is one of their classes.

    Args:
        labels: classes (M,) of the task's held-out images.
        mixes: (n, K) label histograms of the clients, counts or shares; (0, K) for none.
    """
    found: list[tuple[Tensor, Tensor, Tensor]] = []

    def measure() -> float:
        for batch in task.heldout_batches(DRAWS):
            assert batch.indices is not None
            found.append((task.noise_errors(net, batch).double().cpu(), batch.t, labels[batch.indices]))
        return 0.0

    in_evaluation(net, measure)
    losses, t, classes = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    T = task.process.schedule.T
    edges = np.linspace(0, T, BINS + 1).round().astype(int)
    by_class = _means(losses, classes, len(class_names))
    return Diagnostics(
        draws=DRAWS,
        t_edges=edges.tolist(),
        t_loss=_plain(_means(losses, np.searchsorted(edges, t, side="right") - 1, BINS)),
        class_names=list(class_names),
        class_loss=_plain(by_class),
        client_loss=[_mixed(by_class, mix) for mix in mixes],
    )


def _means(values: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Mean of each group 0 .. count - 1, NaN where it is empty."""
    sizes = np.bincount(groups, minlength=count)
    sums = np.bincount(groups, weights=values, minlength=count)
    return np.divide(sums, sizes, out=np.full(count, np.nan), where=sizes > 0)


def _mixed(by_class: np.ndarray, mix: np.ndarray) -> float | None:
    """Mean of the classes' losses weighted by `mix`, over the classes that are held out; None if there is none."""
    known = np.isfinite(by_class) & (mix > 0)
    return float(np.average(by_class[known], weights=mix[known])) if known.any() else None


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
