"""Statistics of few paired runs: intervals, exact tests by sign flips, Holm's adjustment.

Pure functions of numbers. A value that is missing (NaN or infinite) is left out, and so is a pair of which either half
is missing; `n` says what is left. With nothing left a mean is NaN; below two values there is no spread, so standard
deviation and interval are NaN; equal values have the spread 0 and an interval of one point.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

LEVEL = 0.95  # of intervals
ALPHA = 0.05  # of tests, over a whole family of them
MOST_ENUMERATED = 20  # pairs whose sign flips are all tried: half a million
_FLIPS = 99_999  # random ones where there are more pairs

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean over `n` values, their standard deviation (divisor n - 1) and the t interval of the mean."""

    mean: float
    sd: float
    low: float
    high: float
    n: int


def present(values: ArrayLike) -> Array:
    """The values (n,) that are there, that is finite."""
    array = np.asarray(values, dtype=float).ravel()
    return array[np.isfinite(array)]


def t_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean and Student's interval for it, at `level` in (0, 1)."""
    array = present(values)
    n = len(array)
    mean = float(array.mean()) if n else math.nan
    sd = float(array.std(ddof=1)) if n > 1 else math.nan
    half = float(half_width(sd, n, level))
    return Interval(mean, sd, mean - half, mean + half, n)


def half_width(sd: ArrayLike, n: ArrayLike, level: float = LEVEL) -> Array:
    """Half the width of the t interval of means of n values with these standard deviations; NaN where n < 2."""
    counts = np.asarray(n, dtype=float)
    enough = np.where(counts > 1, counts, np.nan)
    quantiles = stdtrit(enough - 1, (1 + level) / 2)  # Student's, by degrees of freedom
    return np.asarray(quantiles * np.asarray(sd, dtype=float) / np.sqrt(enough), dtype=float)


def paired_interval(values: ArrayLike, baseline: ArrayLike, level: float = LEVEL) -> Interval:
    """`t_interval` of the differences values - baseline of arrays (n,) whose places belong together.

    Raises:
        ValueError: if they are not of one length.
    """
    return t_interval(_differences(values, baseline), level)


def _differences(values: ArrayLike, baseline: ArrayLike) -> Array:
    a, b = np.asarray(values, dtype=float), np.asarray(baseline, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"pairs need arrays of one length, got {a.shape} and {b.shape}")
    return a - b


def sign_flip_p(differences: ArrayLike) -> float:
    """Two-sided p that the differences (n,) of pairs are symmetric about zero: Fisher's permutation test of the mean.

    Exact: the share of all 2^n ways to flip signs whose mean is at least as far from zero, up to `MOST_ENUMERATED`
    pairs; of random ones, always the same, beyond. NaN without a pair; 1 for one pair, and where all are zero.
    """
    array = present(differences)
    if not len(array):
        return math.nan
    if len(array) > MOST_ENUMERATED:
        return _sampled_p(array)
    sums = array[:1]  # the first sign is kept: flipping all signs changes no distance from zero
    for value in array[1:]:
        sums = np.concatenate([sums + value, sums - value])
    slack = 1e-9 * np.abs(array).sum()  # sums that are equal but for their rounding are equal
    return float(np.mean(np.abs(sums) >= abs(array.sum()) - slack))


def _sampled_p(array: Array) -> float:
    from scipy import stats  # a second to import, and few reports have so many pairs

    found: Any = stats.permutation_test(
        (array,), np.mean, permutation_type="samples", n_resamples=_FLIPS, vectorized=True, batch=1000, rng=0
    )
    return float(found.pvalue)


def smallest_p(n: int) -> float:
    """The smallest two-sided p that flipping the signs of `n` pairs can give; NaN without a pair."""
    return 2.0 ** (1 - n) if n > 0 else math.nan


def holm(p: ArrayLike) -> Array:
    """Holm's adjusted p (m,) of a family of m tests, capped at 1; a p that is missing stays NaN and is not counted.

    Holm: A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
    """
    array = np.asarray(p, dtype=float)
    order = [i for i in np.argsort(array, kind="stable") if not np.isnan(array[i])]
    factors = len(order) - np.arange(len(order))
    adjusted = np.full(array.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * array[order]), 1.0)
    return adjusted


def seeds_for_holm(comparisons: int, alpha: float = ALPHA) -> int:
    """How many pairs each of `comparisons` sign-flip tests needs before Holm's adjustment can reject any at `alpha`.

    Raises:
        ValueError: for no comparison, or an alpha outside (0, 1).
    """
    if comparisons < 1 or not 0 < alpha < 1:
        raise ValueError(f"needs a comparison and alpha in (0, 1), got {comparisons} and {alpha}")
    n = 1
    while comparisons * smallest_p(n) > alpha:
        n += 1
    return n
