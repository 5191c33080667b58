"""How much of a FID is due to the images that happened to be drawn: a bootstrap over images, and FID-infinity.

Both ask for the distance of many resamples to one reference, so the reference's root is taken once, and only symmetric
matrices of the smaller of the two sides (images, features) are decomposed.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.seeds import numpy_stream

SIZES = 15  # of the subsets through whose FIDs the line is drawn (Chong & Forsyth 2020, section 4)
LEVEL = 0.95  # of intervals
LEAST = 4  # images a feature, below which the FID is no line in 1/N

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Distances:
    """Frechet distances of resamples of N images to one reference.

    Attributes:
        offsets: features (N, D) minus the reference's mean.
        rooted: features (N, D) times the root of the reference's covariance.
        gram: their inner products (N, N), where there are fewer images than features; else None.
        trace: of the reference's covariance.
    """

    offsets: Array
    rooted: Array
    gram: Array | None
    trace: float

    @classmethod
    def to(cls, features: Array, mean: Array, covariance: Array) -> "Distances":
        """Of features (N, D) to a reference of mean (D,) and covariance (D, D)."""
        values, vectors = np.linalg.eigh(covariance)
        root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
        rooted = (features - features.mean(axis=0)) @ root
        gram = rooted @ rooted.T if len(features) < features.shape[1] else None
        return cls(features - mean, rooted, gram, float(np.trace(covariance)))

    def of(self, chosen: NDArray[np.int64]) -> float:
        """The distance of the images `chosen` (M,), which may repeat; M of at least 2.

        Heusel et al. 2017, eq. 6, with tr((S R^2)^(1/2)) from the eigenvalues of R S R, or of the inner products, which
        are the same but for zeros.
        """
        offsets = self.offsets[chosen]
        middle, degrees = offsets.mean(axis=0), len(chosen) - 1
        spread = ((offsets - middle) ** 2).sum() / degrees
        if self.gram is None:
            rooted = self.rooted[chosen]
            rooted = rooted - rooted.mean(axis=0)
            product = rooted @ rooted.T if len(rooted) < rooted.shape[1] else rooted.T @ rooted
        else:
            product = self.gram[np.ix_(chosen, chosen)]
            product = product - product.mean(axis=0) - product.mean(axis=1, keepdims=True) + product.mean()
        shared = np.sqrt(np.clip(np.linalg.eigvalsh(product / degrees), 0, None)).sum()
        return float(middle @ middle + spread + self.trace - 2 * shared)


def fid_uncertainty(fid: float, features: Array, mean: Array, covariance: Array, replicates: int) -> dict[str, Any]:
    """The uncertainty of a FID.

    Args:
        fid: of all features (N, D) to the reference of mean (D,) and covariance (D, D).
        replicates: B, number of resamples, at least 2.
    Returns:
        fid_images_sd: standard deviation over resamples of N images with replacement.
        fid_images_low, fid_images_high: `fid` and 95 % of the resamples' deviations from their mean: an interval for
        the FID that N images of this model have in the mean. It covers that in 88 to 95 % of simulations, and always
        where nearly all of the FID is bias: there it is too wide.
        fid_images_bias: how much higher than `fid` resamples score, the bootstrap's own estimate of the bias.
        fid_infinity: see `fid_infinity`.
        bootstrap: {"fid": B distances}. The k-th resample takes the same images in every cell with N of them, and
        the noise that samples start from is common, so that differences between cells are paired.
    """
    distances = Distances.to(features, mean, covariance)
    values = np.array([distances.of(chosen) for chosen in _resamples(len(features), replicates)])
    low, high = bootstrap_interval(values, fid)
    return {
        "fid_images_sd": float(values.std(ddof=1)),
        "fid_images_low": low,
        "fid_images_high": high,
        "fid_images_bias": float(values.mean() - fid),
        "fid_infinity": fid_infinity(distances, replicates),
        "bootstrap": {"fid": values.tolist()},
    }


def bootstrap_interval(replicates: ArrayLike, value: float, level: float = LEVEL) -> tuple[float, float]:
    """A bootstrap's interval for the mean of `value`: that far from it as the replicates are from their mean.

    From their mean and not from `value`, because a statistic of resamples may be biased against that of the sample, as
    FID is. NaN below two replicates, or where `value` is missing.
    """
    array = np.asarray(replicates, dtype=float)
    if len(array) < 2 or not math.isfinite(value):
        return math.nan, math.nan
    low, high = np.quantile(array - array.mean(), [(1 - level) / 2, (1 + level) / 2])
    return value + float(low), value + float(high)


def _resamples(count: int, replicates: int) -> Iterator[NDArray[np.int64]]:
    for number in range(replicates):
        yield numpy_stream(0, "bootstrap", count, number).integers(count, size=count)


def fid_infinity(distances: Distances, replicates: int) -> float | None:
    """The FID that infinitely many images would have: where a line in 1/N meets 0 (Chong & Forsyth 2020, eq. 3).

    The line goes through FIDs of 15 sizes, spread evenly from a tenth of the images (at least twice as many as
    features) to all of them, at each size the mean of `replicates` / 15 random subsets. None below four images a
    feature, where FID is no line in 1/N.
    """
    count, width = distances.offsets.shape
    if count < LEAST * width:
        return None
    sizes = np.linspace(max(count // 10, 2 * width), count, SIZES).round().astype(int)
    draws = max(1, replicates // SIZES)
    means = [np.mean([distances.of(part) for part in _subsets(count, int(size), draws)]) for size in sizes]
    return float(np.polyfit(1 / sizes, means, 1)[1])


def _subsets(count: int, size: int, draws: int) -> Iterator[NDArray[np.int64]]:
    for number in range(draws):
        yield numpy_stream(0, "fid infinity", count, size, number).permutation(count)[:size]
