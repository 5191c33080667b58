"""Where a model's held-out loss comes from: by timestep, by class, and on each client's mix of classes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.federation import mixture
from bench.federation.mixture import Personal
from bench.federation.tasks import DiffusionTask, in_evaluation

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
    task: DiffusionTask,
    net: nn.Module,
    labels: Tensor,
    class_names: Sequence[str],
    mixes: np.ndarray,
    personal: Personal | None = None,
    views: Callable[[int], DiffusionTask] | None = None,
) -> Diagnostics:
    """Measure the network in evaluation mode.

    A client's loss is the mean over classes of the class's loss, weighted by the client's shares: the same held-out
    images for all clients, so that a difference between clients is one of their classes, and of their noise or models
    where they have their own. With those only `mixture.judged` clients have a loss.

    Args:
        labels: classes (M,) of the task's held-out images.
        mixes: (n, K) label histograms of the clients, counts or shares; (0, K) for none.
        personal: clients' own models, which are put into `net`; losses by timestep and class are their mixture's.
        views: the task with a client's own kind of held-out images, by its number, where those differ.
    """
    K = len(class_names)
    if personal is None:
        found = _measure(task, net)
        by_client = {}
        if views is not None:
            seen = {number: _measure(views(number), net) for number in mixture.judged(len(mixes))}
            by_client = {number: _by_class(one, labels, K) for number, one in seen.items()}
    else:
        found, by_client = _measure_personal(task, net, labels, K, personal, views)
    by_class = _by_class(found, labels, K)
    T = task.process.schedule.T
    edges = np.linspace(0, T, BINS + 1).round().astype(int)
    if personal is None and views is None:
        by_client = dict.fromkeys(range(len(mixes)), by_class)
    client_losses = [mixture.of_classes(by_client[i], mix) if i in by_client else None for i, mix in enumerate(mixes)]
    return Diagnostics(
        draws=DRAWS,
        t_edges=edges.tolist(),
        t_loss=_plain(_means(found.losses, np.searchsorted(edges, found.t, side="right") - 1, BINS)),
        class_names=list(class_names),
        class_loss=_plain(by_class),
        client_loss=client_losses,
    )


def heldout_by_group(errors: Tensor, labels: Tensor, mixes: np.ndarray) -> dict[str, list[float | None]]:
    """A round's held-out loss by class and by client.

    Args:
        errors, labels: of the held-out images (M,).
        mixes: as for `diagnose`.
    """
    by_class = _means(errors.numpy(), labels.numpy(), max(mixes.shape[1], int(labels.max()) + 1))
    return {"class_loss": _plain(by_class), "client_loss": [mixture.of_classes(by_class, mix) for mix in mixes]}


@dataclass(frozen=True)
class _Measured:
    """Losses (R,) of passes, their timesteps and the numbers of their held-out images."""

    losses: np.ndarray
    t: np.ndarray
    images: np.ndarray


def _measure(task: DiffusionTask, net: nn.Module, only: Tensor | None = None) -> _Measured:
    def passes() -> _Measured:
        found = []
        for batch in task.heldout_batches(DRAWS, only=only):
            assert batch.indices is not None
            found.append((task.noise_errors(net, batch).double().cpu(), batch.t, batch.indices))
        return _Measured(*(torch.cat(parts).numpy() for parts in zip(*found, strict=True)))

    return in_evaluation(net, passes)


def _measure_personal(
    task: DiffusionTask,
    net: nn.Module,
    labels: Tensor,
    K: int,
    personal: Personal,
    views: Callable[[int], DiffusionTask] | None,
) -> tuple[_Measured, dict[int, np.ndarray]]:
    """The passes of the mixture, and the judged clients' losses by class (K,)."""
    whose = mixture.assigned(personal.sizes, len(labels))
    judged = mixture.judged(len(personal.sizes))
    parts, by_client = [], {}
    for number, weights in enumerate(personal.models()):
        own = (whose == number).nonzero().flatten()
        net.load_state_dict(weights)
        if len(own):
            parts.append(_measure(task, net, own))
        if number in judged:
            by_client[number] = _by_class(_measure(views(number) if views else task, net), labels, K)
    joined = (np.concatenate(same) for same in zip(*((p.losses, p.t, p.images) for p in parts), strict=True))
    return _Measured(*joined), by_client


def _by_class(found: _Measured, labels: Tensor, K: int) -> np.ndarray:
    return _means(found.losses, labels.numpy()[found.images], K)


def _means(values: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Mean of each group 0 .. count - 1, NaN where it is empty."""
    sizes = np.bincount(groups, minlength=count)
    sums = np.bincount(groups, weights=values, minlength=count)
    return np.divide(sums, sizes, out=np.full(count, np.nan), where=sizes > 0)


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
