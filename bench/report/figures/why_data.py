"""What why.png shows of each strategy in a split, read from the store: means over seeds, NaN where nothing is known."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.federation.mixture import of_classes
from bench.pictures.style import Array
from bench.report.figures.overview_data import Experiment
from bench.report.figures.records import record
from bench.report.figures.split_data import Split
from bench.store.cell_folder import CellFolder
from bench.store.grid_folder import Store


@dataclass(frozen=True)
class Row:
    """One strategy, or centralized training, in one split.

    Attributes:
        drift, cosine: by round, of the seeds that have it.
        class_loss: held-out loss by class at the end (K,).
        share_gap: share of each class among the generated images minus that among the training images (K,).
        client_loss: held-out losses at the end of all seeds' clients (n * seeds,); of centralized training the losses
            that its one model would have on the clients' mixes of classes.
        fid, fid_avg: to all images; mean over clients of the distance to each one's own.
        client_fid: the latter client by client, of all seeds.
    """

    experiment: Experiment
    drift: dict[int, float]
    cosine: dict[int, float]
    class_loss: Array
    share_gap: Array
    client_loss: Array
    fid: float
    fid_avg: float
    client_fid: Array


@dataclass(frozen=True)
class _Seed:
    """What one cell tells; of `partition` a centralized cell has that of the split's strategies with its seed."""

    rounds: list[dict[str, Any]]
    result: dict[str, Any]
    class_loss: Array
    partition: dict[str, Any] | None


def read_rows(store: Store, split: Split) -> list[Row]:
    """The split's experiments, in its order."""
    seeds = {cell.cell_id: cell.labels["seed"] for cell in store.planned()}
    parts = {
        seeds[cell]: part
        for e in split.federated
        for cell in e.cells
        if (part := record(store.cell(cell), "partition.json")) is not None
    }
    return [_row(e, [_seed(store.cell(cell), parts.get(seeds[cell])) for cell in e.cells]) for e in split.experiments]


def _seed(folder: CellFolder, partition: dict[str, Any] | None) -> _Seed:
    result, lines = folder.result() or {}, folder.lines("heldout.jsonl")
    told = (result.get("diagnostics") or {}).get("class_loss") or (lines[-1].get("class_loss") if lines else None)
    own = record(folder, "partition.json")
    return _Seed(folder.rounds(), result, np.array(told or [], dtype=float), own or partition)


def _row(experiment: Experiment, seeds: Sequence[_Seed]) -> Row:
    metrics = [seed.result.get("metrics") or {} for seed in seeds]
    clients = [client.get("fid") for seed in seeds for client in seed.result.get("clients") or []]
    losses = [loss for seed in seeds for loss in _client_losses(experiment, seed)]
    return Row(
        experiment,
        _by_round(seeds, "drift"),
        _by_round(seeds, "update_cosine"),
        mean_known([seed.class_loss for seed in seeds]),
        mean_known([_share_gap(seed) for seed in seeds]),
        _known(losses),
        float(mean_known([np.array([m.get("fid")], dtype=float) for m in metrics])[0]),
        float(mean_known([np.array([m.get("fid_avg")], dtype=float) for m in metrics])[0]),
        _known(clients),
    )


def _by_round(seeds: Iterable[_Seed], key: str) -> dict[int, float]:
    """Means over those seeds that have the round's value."""
    found: dict[int, dict[int, float]] = {}
    for number, seed in enumerate(seeds):
        for line in seed.rounds:
            if line.get(key) is not None:
                found.setdefault(line["round"], {})[number] = line[key]
    return {n: float(np.mean(list(values.values()))) for n, values in sorted(found.items())}


def _share_gap(seed: _Seed) -> Array:
    """(K,), or (0,) where either of the two is not known."""
    made = np.array(seed.result.get("class_histogram") or [], dtype=float)
    if seed.partition is None:
        return made[:0]
    counts = np.sum(seed.partition["histogram"], axis=0)
    return made - counts / counts.sum() if len(counts) == len(made) else made[:0]


def _client_losses(experiment: Experiment, seed: _Seed) -> Sequence[float | None]:
    """As the cell measured them; of centralized training as its losses by class give them for the clients' mixes."""
    if not experiment.central:
        return (seed.result.get("diagnostics") or {}).get("client_loss") or []
    part: Mapping[str, Any] = seed.partition or {}
    if not part or any(part.get("noise") or []):  # clients' images have noise that this model was not measured on
        return []
    mixes = np.array(part["histogram"], dtype=float)
    if mixes.shape[1] != len(seed.class_loss):
        return []
    return [of_classes(seed.class_loss, mix) for mix in mixes]


def mean_known(parts: Sequence[Array]) -> Array:
    """Mean of vectors (K,), place by place over those that know it; empty vectors do not count; NaN where none does."""
    told = [part for part in parts if len(part)]
    if not told:
        return np.empty(0)
    values = np.stack(told)
    known = np.isfinite(values)
    sums, counts = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def _known(values: Iterable[float | None]) -> Array:
    return np.array([value for value in values if value is not None and np.isfinite(value)], dtype=float)
