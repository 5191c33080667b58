"""Lines by seed, read from the store: held-out loss, running training loss and whatever else a round tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.pictures.style import Array
from bench.report.curves import running_loss
from bench.report.figures.overview_data import Experiment
from bench.report.stats import half_width
from bench.store.cell_folder import CellFolder
from bench.store.grid_folder import Store


@dataclass(frozen=True)
class Line:
    """One quantity of an experiment's seeds at places that all of them have.

    Attributes:
        x: (R,), the mean of the seeds' own.
        values: (seeds, R).
    """

    x: Array
    values: Array

    @property
    def mean(self) -> Array:
        return np.asarray(self.values.mean(axis=0))

    def interval(self) -> tuple[Array, Array] | None:
        """The 95 % t interval of the mean (R,), low and high; None for one seed."""
        seeds = len(self.values)
        if seeds < 2:
            return None
        half = half_width(self.values.std(axis=0, ddof=1), np.full(self.values.shape[1], seeds))
        return self.mean - half, self.mean + half


def round_line(store: Store, experiment: Experiment, key: str, x: str = "round") -> Line | None:
    """`key` of metrics.jsonl over `x`, of the rounds at which every seed that tells of it has it; None without any."""
    seeds = [_points(store.cell(cell), key, x) for cell in experiment.cells]
    return _line([points for points in seeds if points])


def _points(folder: CellFolder, key: str, x: str) -> dict[int, tuple[float, float]]:
    """By round."""
    lines = [line for line in folder.rounds() if line.get(key) is not None and line.get(x) is not None]
    return {line["round"]: (line[x], line[key]) for line in lines}


def _line(seeds: Sequence[Mapping[int, tuple[float, float]]]) -> Line | None:
    rounds = sorted(set.intersection(*map(set, seeds))) if seeds else []
    if not rounds:
        return None
    found = np.array([[points[n] for n in rounds] for points in seeds], dtype=float)
    return Line(found[..., 0].mean(axis=0), found[..., 1])


def training_line(store: Store, experiment: Experiment, x: str = "samples") -> Line | None:
    """The running mean of local batches' losses over `x`, of the seeds that kept every step; None without any."""
    found = [line for cell in experiment.cells if (line := _running(store.cell(cell), x)) is not None]
    if not found:
        return None
    return Line(np.mean([a for a, _ in found], axis=0), np.array([b for _, b in found]))


def _running(folder: CellFolder, x: str) -> tuple[Array, Array] | None:
    steps, rounds = folder.lines("steps.jsonl"), folder.rounds()
    if not steps or not rounds or rounds[-1].get(x) is None:
        return None
    a, b = running_loss(steps, rounds[-1][x])
    return (a, b) if np.isfinite(b).all() else None
