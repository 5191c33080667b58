"""A model's loss on images that are held out, and where it comes from: timesteps, classes, clients' mixes of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bench.federation import mixture
from bench.federation.mixture import Personal
from bench.federation.tasks import DiffusionTask, in_evaluation
from bench.store.records import Diagnostics

DRAWS = 8  # of timestep and noise for each held-out image, one from each eighth of the timesteps
BINS = 10
Views = Callable[[int], DiffusionTask]


def diagnose(
    task: DiffusionTask,
    net: nn.Module,
    class_names: Sequence[str],
    mixes: np.ndarray,
    personal: Personal | None = None,
    views: Views | None = None,
) -> Diagnostics:
    """Measure the network in evaluation mode: errors of the predicted noise, all from the same timesteps and noise.

    A client's loss is the mean over classes of the class's loss, weighted by the client's shares: the same held-out
    images for all clients, so that a difference between clients is one of their classes, and of their noise or models
    where they have their own. With those only `mixture.judged` clients have a loss.

    Args:
        task: with the classes of its held-out images.
        class_names: K names.
        mixes: (n, K) label histograms of the clients, counts or shares; (0, K) for none.
        personal: clients' own models, which are put into `net`; losses by timestep and class are their mixture's.
        views: the task with a client's own kind of held-out images, by its number, where those differ.
    """
    K, T, clients = len(class_names), task.process.schedule.T, range(len(mixes))
    by_client: Mapping[int, np.ndarray]
    if personal is not None:
        passes, by_client = _measure_personal(task, net, K, personal, views)
    else:
        passes = _measure(task, net)
        if views is not None:
            by_client = {i: _measure(views(i), net).by_class(K) for i in mixture.judged(len(mixes))}
        else:
            by_client = dict.fromkeys(clients, passes.by_class(K))
    edges = np.linspace(0, T, BINS + 1).round().astype(int)
    return Diagnostics(
        loss=float(passes.losses.mean()),
        draws=DRAWS,
        t_edges=tuple(edges.tolist()),
        t_loss=_known(_means(passes.losses, np.searchsorted(edges, passes.t, side="right") - 1, BINS)),
        class_names=tuple(class_names),
        class_loss=_known(passes.by_class(K)),
        client_loss=tuple(mixture.of_classes(by_client[i], mixes[i]) if i in by_client else None for i in clients),
    )


def client_spread(client_loss: Sequence[float | None]) -> dict[str, float]:
    """Mean, standard deviation (over clients, not a sample of them) and maximum of the clients' known losses."""
    losses = np.asarray([loss for loss in client_loss if loss is not None])
    if not len(losses):
        return {}
    spread = {"mean": losses.mean(), "sd": losses.std(), "max": losses.max()}
    return {f"test_loss_client_{key}": float(value) for key, value in spread.items()}


def validation_by_group(errors: Tensor, labels: Tensor, mixes: np.ndarray) -> dict[str, list[float | None]]:
    """A round's validation loss by class and by client.

    Args:
        errors, labels: of the validation images (M,).
        mixes: as for `diagnose`.
    """
    by_class = _means(errors.numpy(), labels.numpy(), max(mixes.shape[1], int(labels.max()) + 1))
    return {"class_loss": list(_known(by_class)), "client_loss": [mixture.of_classes(by_class, mix) for mix in mixes]}


@dataclass(frozen=True)
class _Passes:
    """Losses (R,) of passes, their timesteps and their images' classes."""

    losses: np.ndarray
    t: np.ndarray
    classes: np.ndarray

    def by_class(self, K: int) -> np.ndarray:
        return _means(self.losses, self.classes, K)


def _measure(task: DiffusionTask, net: nn.Module, only: Tensor | None = None) -> _Passes:
    def measure() -> _Passes:
        found = []
        for batch in task.heldout_batches(DRAWS, only=only):
            assert task.heldout_labels is not None
            losses = task.noise_errors(net, batch).double().cpu()
            found.append((losses, batch.t, task.heldout_labels[batch.indices]))
        return _Passes(*(torch.cat(parts).numpy() for parts in zip(*found, strict=True)))

    return in_evaluation(net, measure)


def _measure_personal(
    task: DiffusionTask, net: nn.Module, K: int, personal: Personal, views: Views | None
) -> tuple[_Passes, dict[int, np.ndarray]]:
    """The passes of the mixture, and the judged clients' losses by class (K,)."""
    whose = mixture.assigned(personal.sizes, task.n_heldout)
    judged = mixture.judged(len(personal.sizes))
    parts, by_client = [], {}
    for number, weights in enumerate(personal.models()):
        own = (whose == number).nonzero().flatten()
        net.load_state_dict(weights)
        if len(own):
            parts.append(_measure(task, net, own))
        if number in judged:
            by_client[number] = _measure(views(number) if views else task, net).by_class(K)
    joined = (np.concatenate(same) for same in zip(*((p.losses, p.t, p.classes) for p in parts), strict=True))
    return _Passes(*joined), by_client


def _means(values: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Mean of each group 0 .. count - 1, NaN where it is empty."""
    sizes = np.bincount(groups, minlength=count)
    sums = np.bincount(groups, weights=values, minlength=count)
    return np.divide(sums, sizes, out=np.full(count, np.nan), where=sizes > 0)


def _known(values: np.ndarray) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else float(value) for value in values)
