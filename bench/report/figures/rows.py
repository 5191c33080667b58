"""What figures with a row a strategy show of each: means over seeds, NaN where nothing is known."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.federation.mixture import of_classes
from bench.report.curves import Array
from bench.report.lines import Line, round_line
from bench.report.results import Cell, Group, Split
from bench.store.records import Partition


@dataclass(frozen=True)
class Row:
    """One strategy, or centralized training, in one split.

    Attributes:
        drift, cosine: by round, the mean of the seeds that have it; None where no round does.
        class_loss: test loss by class at the end (K,).
        share_gap: share of each class among the generated images minus that among the training images (K,).
        client_loss: test losses at the end of all seeds' clients (n * seeds,); of centralized training the losses
            that its one model would have on the clients' mixes of classes.
        fid: to all images.
        client_fid: at each client's mix of classes, to its own images, of all seeds' clients.
    """

    group: Group
    drift: Line | None
    cosine: Line | None
    class_loss: Array
    share_gap: Array
    client_loss: Array
    fid: float
    client_fid: Array


def read_rows(split: Split) -> list[Row]:
    """The split's groups, in its order.

    Centralized training is held against the partition that the split's strategies have with the same seed.
    """
    cells = [cell for group in split.federated for cell in group.done]
    parts = {cell.labels["seed"]: cell.partition for cell in cells if cell.partition is not None}
    return [_row(group, parts) for group in split.groups]


def _row(group: Group, parts: dict[int, Partition]) -> Row:
    results = [cell.result for cell in group.done if cell.result]
    seeds = [(cell, cell.partition or parts.get(cell.labels["seed"])) for cell in group.done]
    losses = [loss for cell, part in seeds for loss in _client_losses(cell, part)]
    return Row(
        group,
        round_line(group, "drift", shared=False),
        round_line(group, "update_cosine", shared=False),
        mean_known([_class_loss(cell) for cell in group.done]),
        mean_known([_share_gap(cell, part) for cell, part in seeds]),
        _known(losses),
        _mean(group.scores("fid")),
        _known(client.fid_mix for result in results for client in result.clients),
    )


def _class_loss(cell: Cell) -> Array:
    """(K,), of the end of training, else of the last round; (0,) where none is known."""
    at_the_end = cell.result.diagnostics.class_loss if cell.result else ()
    return np.array(at_the_end or (cell.validation[-1].class_loss if cell.validation else ()), dtype=float)


def _share_gap(cell: Cell, part: Partition | None) -> Array:
    """(K,), or (0,) where either of the two is not known."""
    made = np.array(cell.result.class_histogram if cell.result else (), dtype=float)
    real = np.array(part.class_shares if part else (), dtype=float)
    return made - real if len(real) == len(made) else made[:0]


def _client_losses(cell: Cell, part: Partition | None) -> Sequence[float | None]:
    """As the cell measured them; of centralized training as its losses by class give them for the clients' mixes."""
    if not cell.central:
        return cell.result.diagnostics.client_loss if cell.result else ()
    if part is None or any(part.noise):  # clients' images have noise that this model was not measured on
        return ()
    mixes, by_class = np.array(part.histogram, dtype=float), _class_loss(cell)
    return [of_classes(by_class, mix) for mix in mixes] if mixes.shape[1] == len(by_class) else ()


def mean_known(parts: Sequence[Array]) -> Array:
    """Mean of vectors (K,), place by place over those that know it; empty vectors do not count; NaN where none does."""
    told = [part for part in parts if len(part)]
    if not told:
        return np.empty(0)
    values = np.stack(told)
    known = np.isfinite(values)
    sums, counts = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else np.nan


def _known(values: Iterable[float | None]) -> Array:
    return np.array([value for value in values if value is not None and np.isfinite(value)], dtype=float)
