"""What costs.png and why.png show, read from the store: finished cells by split, and curves of quality over cost."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.config.grid_file import FEDERATED_ONLY
from bench.pictures.style import Array
from bench.report.figures.overview_data import Experiment, finished_experiments, scores
from bench.report.figures.records import record
from bench.report.lines import costs
from bench.report.metrics import COSTS
from bench.store.cell_folder import CellFolder
from bench.store.grid_folder import Store


@dataclass(frozen=True)
class Split:
    """What is compared in one place of a picture.

    Attributes:
        name: by `bench.config.names.split_name`.
        experiments: centralized training first, then the strategies in the plan's order.
    """

    name: str
    experiments: tuple[Experiment, ...]

    @property
    def federated(self) -> tuple[Experiment, ...]:
        return tuple(e for e in self.experiments if not e.central)


@dataclass(frozen=True)
class Curve:
    """Quality over cost: means over the seeds, at the rounds that all of them have.

    Attributes:
        costs: of each of `COSTS` the total so far (R,), with the autoencoder's bytes and seconds where there is one.
        mean, low, high: of the quality (R,): mean, minimum and maximum of the seeds.
    """

    costs: dict[str, Array]
    mean: Array
    low: Array
    high: Array

    @property
    def exchanges(self) -> bool:
        """Whether anything travelled."""
        return bool(self.costs["megabytes"][-1] > 0)


def finished_splits(store: Store) -> list[Split]:
    """Splits in the plan's order, with centralized training in every one that differs only in what means nothing to it.

    Centralized training that no strategy can be held against stands alone.

    Raises:
        NotApplicable: if no cell is finished.
    """
    own = [axis for axis in store.plan()["extra_axes"] if axis not in FEDERATED_ONLY]
    labels = {cell.cell_id: cell.labels for cell in store.planned()}
    experiments = finished_experiments(store)
    points = {e: [labels[e.cells[0]][axis] for axis in own] for e in experiments}
    central = [e for e in experiments if e.central]
    groups: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        if not experiment.central:
            groups.setdefault(experiment.split, []).append(experiment)
    beside = {name: [e for e in central if points[e] == points[group[0]]] for name, group in groups.items()}
    alone = [e for e in central if not any(e in matched for matched in beside.values())]
    return [Split(e.split, (e,)) for e in alone] + [Split(name, (*beside[name], *groups[name])) for name in groups]


def strategies(splits: Iterable[Split]) -> list[str]:
    """Labels of the federated ones, in the plan's order."""
    return list(dict.fromkeys(e.strategy for split in splits for e in split.federated))


def leaders(store: Store, splits: Iterable[Split], count: int) -> list[str]:
    """The strategies that are best in any split by held-out loss or FID, then the second best, until there are `count`.

    In the plan's order.
    """
    splits = list(splits)
    rankings = [_ranking(store, split, metric) for split in splits for metric in ("heldout_loss", "fid")]
    turns = (label for places in itertools.zip_longest(*rankings) for label in places if label is not None)
    chosen = list(dict.fromkeys(turns))[:count]
    return [label for label in strategies(splits) if label in chosen]


def _ranking(store: Store, split: Split, metric: str) -> list[str]:
    """Strategies with a known score, lowest mean first."""
    found = {e.strategy: scores(store, e, metric) for e in split.federated}
    means = {label: known.mean() for label, known in found.items() if len(known)}
    return sorted(means, key=means.__getitem__)


def loss_curve(store: Store, experiment: Experiment) -> Curve | None:
    """Held-out loss by round."""
    folders = [store.cell(cell) for cell in experiment.cells]
    lines = [_by_round(folder.rounds()) for folder in folders]
    return _curve(folders, [{n: line.get("heldout_loss") for n, line in known.items()} for known in lines])


def fid_curve(store: Store, experiment: Experiment) -> Curve | None:
    """FID of the few images that were drawn after some rounds; None where none were."""
    folders = [store.cell(cell) for cell in experiment.cells]
    return _curve(folders, [{n: scores.get("fid") for n, scores in _drawn(folder).items()} for folder in folders])


def final_fid(store: Store, experiment: Experiment) -> Curve | None:
    """One point: the FID of the finished model's samples at what its whole training cost."""
    folders = [folder for folder in map(store.cell, experiment.cells) if _final(folder) is not None]
    last = [max(_by_round(folder.rounds()), default=0) for folder in folders]
    return _curve(folders, [{n: _final(folder)} for n, folder in zip(last, folders, strict=True)])


def fid_samples(store: Store, experiments: Iterable[Experiment]) -> tuple[bool, list[int]]:
    """Whether there are FIDs along training, and of how many images they are (those of finished models, if not)."""
    folders = [store.cell(cell) for experiment in experiments for cell in experiment.cells]
    along = {scores.get("n_generated") for folder in folders for scores in _drawn(folder).values()}
    final = {((folder.result() or {}).get("metrics") or {}).get("n_generated") for folder in folders}
    return bool(along), sorted(int(n) for n in along or final if n is not None)


def _final(folder: CellFolder) -> float | None:
    metrics: Mapping[str, float | None] = (folder.result() or {}).get("metrics") or {}
    return metrics.get("fid")


def _drawn(folder: CellFolder) -> dict[int, dict[str, Any]]:
    """Scores of curve.json by round."""
    return _by_round((record(folder, "curve.json") or {}).get("curve") or [])


def _by_round(lines: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {line["round"]: line for line in lines}


def _curve(folders: Sequence[CellFolder], qualities: Sequence[Mapping[int, float | None]]) -> Curve | None:
    """Of the rounds of which all seeds know costs and quality; None if there is none."""
    spent = [_spent(folder) for folder in folders]
    known = [
        {n for n, quality in found.items() if quality is not None and n in paid}
        for found, paid in zip(qualities, spent, strict=True)
    ]
    rounds = sorted(set.intersection(*known)) if known else []
    if not rounds:
        return None
    values = np.array([[found[n] for n in rounds] for found in qualities], dtype=float)
    paid_by_cost = {cost: np.mean([[paid[n][cost] for n in rounds] for paid in spent], axis=0) for cost in COSTS}
    return Curve(paid_by_cost, values.mean(axis=0), values.min(axis=0), values.max(axis=0))


def _spent(folder: CellFolder) -> dict[int, dict[str, float]]:
    """The totals so far, of each round that tells all of them."""
    lines = list(_by_round(folder.rounds()).values())
    spent = costs(lines, (folder.result() or {}).get("metrics") or {})
    rows = [{cost: float(values[k]) for cost, values in spent.items()} for k in range(len(lines))]
    return {
        line["round"]: row
        for line, row in zip(lines, rows, strict=True)
        if not any(math.isnan(value) for value in row.values())
    }
