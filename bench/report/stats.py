"""Statistics of few paired runs: intervals, tests of pairs, Holm's adjustment, which rows are worse than the best.

Pure functions of numbers. A value that is missing (NaN or infinite) is left out, and so is a pair of which either half
is missing; `n` says what is left. With nothing left a mean is NaN; below two values there is no spread, so standard
deviation and interval are NaN; equal values have the spread 0 and an interval of one point.
"""

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

LEVEL = 0.95  # of intervals
ALPHA = 0.05  # of tests, over a whole family of them
LEAST_SEEDS = 3  # of a row, and shared by the rows that are compared, before one is marked as the best
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
    a, b = _halves(values, baseline)
    return a - b


def _halves(values: ArrayLike, baseline: ArrayLike) -> tuple[Array, Array]:
    a, b = np.asarray(values, dtype=float), np.asarray(baseline, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"pairs need arrays of one length, got {a.shape} and {b.shape}")
    return a, b


# ------------------------------------------------------------------------------------------------- one comparison


class Paired(NamedTuple):
    """What `n` pairs say of the difference between their halves.

    Attributes:
        mean, sd, low, high: of the differences, see `Interval`.
        reference_mean: of the halves that are subtracted.
        relative, relative_low, relative_high: ratio of the halves' means, minus 1, and its interval, see `ratio`.
        p_sign: exact, see `sign_flip_p`.
        p_t: two-sided, of the paired t test; 1 where all differences are zero; NaN below two pairs, and where all are
            the same number, as those of counts and shares may be: they say nothing of how far seeds spread.
        correlation: Pearson's, between the halves; NaN below three pairs (of two it is always 1 or -1).
        pairing: standard error of the mean difference over what it would be if the halves were independent, below 1
            where pairing helps; NaN below three pairs, and where no half varies.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    reference_mean: float
    relative: float
    relative_low: float
    relative_high: float
    p_sign: float
    p_t: float
    correlation: float
    pairing: float


def paired(values: ArrayLike, reference: ArrayLike, level: float = LEVEL) -> Paired:
    """Everything that a comparison of arrays (n,) whose places belong together says.

    Raises:
        ValueError: if they are not of one length.
    """
    a, b = _halves(values, reference)
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    found = t_interval(a - b, level)
    mean = float(b.mean()) if len(b) else math.nan
    return Paired(
        found.n, found.mean, found.sd, found.low, found.high, mean, *ratio(a, b, level),
        sign_flip_p(a - b), _t_test_p(found), *_pairing(a, b),
    )  # fmt: skip


def ratio(a: Array, b: Array, level: float = LEVEL) -> tuple[float, float, float]:
    """mean(a) / mean(b) - 1 of pairs (n,) of positive numbers, with Fieller's interval; NaN where it has no meaning.

    The interval holds those ratios that the t interval of a - ratio * b cannot exclude, so it excludes 0 where that of
    the differences does. It has ends only where the mean of b can be told from 0. There is no ratio of numbers of
    which any is not positive: their scale has no zero, or they may cross it.
    Fieller: Some problems in interval estimation, Journal of the Royal Statistical Society B 16 (1954).
    """
    n = len(a)
    if n == 0 or min(a.min(), b.min()) <= 0:
        return math.nan, math.nan, math.nan
    d, mean = float((a - b).mean()), float(b.mean())
    if n == 1:
        return d / mean, math.nan, math.nan
    (dd, db), (_, bb) = np.cov(a - b, b) * stdtrit(n - 1, (1 + level) / 2) ** 2 / n
    square, linear, constant = mean**2 - bb, d * mean - db, d**2 - dd
    if square <= 0:
        return d / mean, math.nan, math.nan
    root = math.sqrt(max(linear**2 - square * constant, 0.0))
    return d / mean, (linear - root) / square, (linear + root) / square


def _t_test_p(found: Interval) -> float:
    if found.mean == 0 and found.n > 1:
        return 1.0
    if found.n < 2 or not spread(found.mean, found.sd):
        return math.nan
    return float(2 * stdtr(found.n - 1, -abs(found.mean) / (found.sd / math.sqrt(found.n))))


def spread(mean: ArrayLike, sd: ArrayLike) -> NDArray[np.bool_]:
    """Whether numbers of this mean differ by more than rounding."""
    return np.asarray(np.asarray(sd) > 1e-9 * np.abs(mean))


def _pairing(a: Array, b: Array) -> tuple[float, float]:
    """Correlation of the halves, and the paired over the unpaired standard error."""
    if len(a) < 3:
        return math.nan, math.nan
    (aa, ab), (_, bb) = np.cov(a, b)
    correlation = float(np.clip(ab / math.sqrt(aa * bb), -1, 1)) if aa * bb else math.nan
    return correlation, math.sqrt(np.var(a - b, ddof=1) / (aa + bb)) if aa + bb else math.nan


# ---------------------------------------------------------------------------------------------------- tests of pairs


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


# ---------------------------------------------------------------------------------------------------------- the best


def worse_than_best(values: ArrayLike, alpha: float = ALPHA) -> NDArray[np.bool_]:
    """Which of k rows (k,) are worse than the best of them, of values (seeds, k) of which lower are better.

    Two things are asked of a row that is worse. Tukey's range test, with seeds as blocks, tells its mean from the
    lowest one: it counts all pairs of rows, since any of them may turn out the lowest, and takes the spread from all
    rows. Rows found so leave, and the others are tested among themselves, so that one that varies wildly hides nothing.
    And the t interval of its own differences to the best row lies above 0, so that a spread unlike the others' earns
    no verdict, nor do differences that are all the same number. Of rows that are equal, and vary alike about their
    seeds' common effect, any is found in at most `alpha` of the tables. With two rows this is the paired t test.

    Hsu's intervals with the best, constrained as he gives them, promise less: that the best row is not excluded. Of
    equal rows one at least would be found in most tables of many rows.
    Tukey: The problem of multiple comparisons (1953); Hsu: Multiple Comparisons (1996), chapters 4 and 5.

    Raises:
        ValueError: for fewer than two seeds, or a value that is missing.
    """
    table = np.asarray(values, dtype=float)
    if len(table) < 2 or not np.isfinite(table).all():
        raise ValueError("needs two seeds or more, and every row's value of each")
    seeds, means = len(table), table.mean(axis=0)
    gaps = table - table[:, [means.argmin()]]
    gap, sd = gaps.mean(axis=0), gaps.std(axis=0, ddof=1)
    apart = (gap > half_width(sd, seeds, 1 - alpha)) & spread(gap, sd)
    left = np.arange(table.shape[1])
    while len(left) > 1:
        df = (seeds - 1) * (len(left) - 1)
        residuals = table[:, left] - means[left]
        residuals -= residuals.mean(axis=1, keepdims=True)
        error = math.sqrt((residuals**2).sum() / df / seeds)
        found = apart[left] & (means[left] - means.min() > range_quantile(len(left), df, alpha) * error)
        if not found.any():
            break
        left = left[~found]
    return ~np.isin(np.arange(table.shape[1]), left)


@cache
def range_quantile(rows: int, df: int, alpha: float = ALPHA) -> float:
    """What the studentized range of so many means exceeds with probability `alpha`, at `df` degrees of freedom."""
    from scipy.stats import studentized_range  # a second to import

    return float(studentized_range.isf(alpha, rows, df))
