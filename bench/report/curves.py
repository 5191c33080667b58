"""What a curve says in one number, and the running training loss. Pure functions of arrays and of logs' lines."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.store.records import Numbered, Steps

# Equal parts of a run, over which local losses are averaged: so many that a client's visit takes several of them in
# runs of tens of visits. Over parts as long as a visit the waves that visits make would average away.
STRETCHES = 200

Array = NDArray[np.float64]


def known(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """The points (n,) of a curve both of whose coordinates are finite, in the order of x.

    Raises:
        ValueError: if x and y are not of one length.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"a curve needs x and y of one length, got shapes {a.shape} and {b.shape}")
    there = np.isfinite(a) & np.isfinite(b)
    order = np.argsort(a[there], kind="stable")
    return a[there][order], b[there][order]


def area(x: ArrayLike, y: ArrayLike) -> float:
    """Area under the curve by trapezoids over the length of its axis: its mean height, in the unit of y.

    From the first known point to the last. NaN where the axis has no length.
    """
    a, b = known(x, y)
    if len(a) < 2 or a[-1] == a[0]:
        return math.nan
    return float(np.trapezoid(b, a) / (a[-1] - a[0]))


def roughness(y: ArrayLike) -> float:
    """Total variation over fall, first value minus last: 1 for a curve that only falls, more the more it goes up, too.

    It is 1 + 2 rises / fall, which is taken: curves that only fall then have exactly 1, and no rounding differs.
    NaN where the curve does not fall: there is nothing that its ups and downs could be measured by. Places without a
    value are passed over.
    """
    values = _finite(y)
    fall = values[0] - values[-1] if len(values) > 1 else 0.0
    return float(1 + 2 * _rises(values) / fall) if fall > 0 else math.nan


def unrest(y: ArrayLike) -> float:
    """How much more of its ups and downs a curve has in its second half than in its first, over the whole one's fall.

    Ups and downs are a half's total variation less its net change, so a half is not rougher for falling less; the
    middle belongs to both. Negative: smoother later. NaN below four points, or where the curve does not fall.
    """
    values = _finite(y)
    fall = values[0] - values[-1] if len(values) > 3 else 0.0
    if not fall > 0:
        return math.nan
    half = len(values) // 2 + 1
    return (_detours(values[-half:]) - _detours(values[:half])) / float(fall)


def _detours(values: Array) -> float:
    """Total variation less net change: twice what goes up or what goes down, whichever is less."""
    return 2 * min(_rises(values), _rises(-values))


def _rises(values: Array) -> float:
    steps = np.diff(values)
    return float(steps[steps > 0].sum())


def _finite(y: ArrayLike) -> Array:
    values = np.asarray(y, dtype=float)
    return values[np.isfinite(values)]


def first_reach(x: ArrayLike, y: ArrayLike, target: float) -> float:
    """The first x of a point at which y is no higher than the target; NaN if none is, nothing is extrapolated."""
    a, b = known(x, y)
    reached = np.flatnonzero(b <= target)
    return float(a[reached[0]]) if len(reached) else math.nan


def early_mean(x: ArrayLike, y: ArrayLike, share: float) -> float:
    """Mean of y over the points in the first `share` of the axis from 0 to the last x; NaN if there is no point."""
    a, b = known(x, y)
    early = b[a <= share * a[-1] * (1 + 1e-9)] if len(a) else b
    return float(early.mean()) if len(early) else math.nan


# -------------------------------------------------------------------------------------------- running training loss


def step_losses(lines: Sequence[Steps]) -> Array:
    """Losses of all local batches (N,) in the order in which they were executed, one client after another."""
    return np.array([loss for line in lines for loss in line.loss], dtype=float)


def running_mean(losses: ArrayLike, stretches: int = STRETCHES) -> Array:
    """Means (stretches,) of losses (N,) over equal stretches of the run that follow one another.

    A stretch is a share of the run, and not a number of batches, so that runs of a few batches more or less (the
    clients' last ones are smaller) have the same x. A batch across a border counts in both with its share; where there
    are fewer batches than stretches, means repeat. Stretches do not overlap: ups and downs are then those of the means,
    while those of a sliding mean are mostly of single batches. Missing losses are passed over; none give no means.
    """
    values = _finite(losses)
    if not len(values):
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    borders = np.linspace(0, len(values), stretches + 1)
    return np.diff(np.interp(borders, np.arange(len(sums)), sums)) * stretches / len(values)


def running_loss(lines: Sequence[Steps], samples: float, stretches: int = STRETCHES) -> tuple[Array, Array]:
    """The training loss as the paper plots it: images seen at the end of each stretch, and the mean local loss in it.

    Args:
        samples: images seen in the whole run.
    Returns:
        x and y (stretches,), both empty without lines.
    """
    y = running_mean(step_losses(lines), stretches)
    return samples * np.arange(1, len(y) + 1) / max(len(y), 1), y


def last_round_loss(lines: Sequence[Steps]) -> float:
    """Mean loss of the last round's local batches, of all its clients; NaN without any."""
    last = max((line.round for line in lines), default=None)
    losses = _finite(step_losses([line for line in lines if line.round == last]))
    return float(losses.mean()) if len(losses) else math.nan


# ------------------------------------------------------------------------------------------------ lines of a log


def column(lines: Sequence[Numbered], key: str) -> Array:
    """A number of each of a log's lines (n,), NaN where a line has none."""
    return np.array([line.value(key) for line in lines], dtype=float)
