"""Curves of a group of seeds: any quality over any cost, with one kind of band."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.report.curves import Array, running_loss
from bench.report.metrics import COSTS
from bench.report.results import Cell, Group
from bench.report.stats import half_width

SEEDS_FOR_INTERVAL = 3  # of two the t interval is 12.7 standard errors wide to each side


@dataclass(frozen=True)
class Line:
    """One quality of a group's seeds over one cost.

    Attributes:
        x: (R,), the mean of the seeds' costs.
        values: (seeds, R), NaN where a seed has none; every round has one.
    """

    x: Array
    values: Array

    @property
    def mean(self) -> Array:
        """(R,), of the seeds that have the round."""
        return np.asarray(np.nanmean(self.values, axis=0))

    @property
    def band(self) -> tuple[Array, Array] | None:
        """Low and high (R,): the mean's 95 % t interval from `SEEDS_FOR_INTERVAL` seeds on, below it their range; None
        for one seed.
        """
        if len(self.values) < 2:
            return None
        if len(self.values) < SEEDS_FOR_INTERVAL:
            return np.nanmin(self.values, axis=0), np.nanmax(self.values, axis=0)
        counts = np.isfinite(self.values).sum(axis=0)
        squares = np.nansum((self.values - self.mean) ** 2, axis=0)
        half = half_width(np.sqrt(squares / np.maximum(counts - 1, 1)), counts)
        return self.mean - half, self.mean + half


def seeds_note(lines: Sequence[Line], banded: bool = True) -> str:
    """Of how many seeds these lines are the means, and what their bands are; "" where each is of one seed."""
    seeds = sorted({len(line.values) for line in lines})
    if not seeds or seeds[-1] < 2:
        return ""
    counts = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    if not banded:
        return f"means of {counts} seeds"
    bands = "bands: 95 % t interval of the mean over seeds"
    if seeds[-1] < SEEDS_FOR_INTERVAL:
        bands = "bands: from the lowest seed to the highest"
    elif 2 in seeds:
        bands += "; of two seeds from the lower to the higher"
    return f"means of {counts} seeds; {bands}"


def round_line(group: Group, y: str, x: str = "round", shared: bool = True) -> Line | None:
    """A number of every round, over a cost, of the seeds that tell of it; None without a round.

    Args:
        y: a name in metrics.jsonl; "drawn " and a score for that of the images drawn along training, e.g. "drawn fid";
            or one of `bench.report.metrics.COSTS`.
        x: one of these costs.
        shared: whether only rounds count that all these seeds have. Else all rounds that any of them has: for what
            some rounds lack by chance, as those in which fewer than two updates arrive have no cosine.
    """
    seeds = [points for cell in group.done if (points := _points(cell, y, x))]
    rounds = set.intersection(*map(set, seeds)) if shared and seeds else {number for one in seeds for number in one}
    if not rounds:
        return None
    nothing, order = (math.nan, math.nan), sorted(rounds)
    found = np.array([[points.get(number, nothing) for number in order] for points in seeds], dtype=float)
    return Line(np.nanmean(found[..., 0], axis=0), found[..., 1])


def _points(cell: Cell, y: str, x: str) -> dict[int, tuple[float, float]]:
    """Cost and quality by round."""
    found = _by_round(cell, y)
    # Images may be drawn after a round that metrics.jsonl lacks.
    paid = {number: float(number) for number in found} if x == "round" else _by_round(cell, x)
    points = {number: (paid.get(number, math.nan), value) for number, value in found.items()}
    return {number: point for number, point in points.items() if all(map(math.isfinite, point))}


def _by_round(cell: Cell, name: str) -> dict[int, float]:
    if name in COSTS:
        return {line.round: cost for line, cost in zip(cell.rounds, cell.costs[name].tolist(), strict=True)}
    score = name.removeprefix("drawn ")
    return {line.round: line.value(score) for line in (cell.rounds if score == name else cell.drawn)}


def final_point(group: Group, x: str) -> Line | None:
    """One point: the finished models' FID over what their whole training cost; of the seeds that have it."""
    seeds = [(cell.costs[x][-1], cell.metrics.get("fid")) for cell in group.done if cell.rounds]
    found = np.array([pair for pair in seeds if pair[1] is not None], dtype=float).reshape(-1, 2)
    found = found[np.isfinite(found).all(axis=1)]
    return Line(found[:, :1].mean(axis=0), found[:, 1:]) if len(found) else None


def training_line(group: Group, x: str = "samples") -> Line | None:
    """The running mean of local batches' losses over a cost, of the seeds that kept every step; None without any."""
    found = [points for cell in group.done if (points := _running(cell, x)) is not None]
    return Line(np.mean([a for a, _ in found], axis=0), np.array([b for _, b in found])) if found else None


def _running(cell: Cell, x: str) -> tuple[Array, Array] | None:
    if not cell.steps or not cell.rounds:
        return None
    a, b = running_loss(cell.steps, cell.costs[x][-1])
    return (a, b) if np.isfinite(b).all() and np.isfinite(a).all() else None
