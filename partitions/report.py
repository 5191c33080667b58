"""How skewed a split is, in numbers that can stand beside a result."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.plugins import Later
from partitions.base import IntArray, PartitionError, check_levels, partition_digest

special = Later("scipy.special")
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SkewReport:
    """Skew of one split into n clients of data with K classes. "Global mix" is the label mix of all clients together.

    Attributes:
        sizes: samples of each client (n).
        histogram: samples of each class at each client (n, K).
        total_variation: half the L1 distance of each client's label mix to the global mix (n), in [0, 1].
        total_variation_mean: their plain mean over clients.
        total_variation_weighted: their mean weighted by client size.
        jensen_shannon: Jensen-Shannon distance (root of the divergence in bits) to the global mix (n), in [0, 1].
        effective_classes: exp of the entropy of each client's label mix (n), in [1, K].
        size_cv: population standard deviation of the sizes over their mean, >= 0.
        digest: `partition_digest` of the split.
        noise: standard deviation of the noise on each client's images (n), where 1 is the full pixel range.
    """

    sizes: tuple[int, ...]
    histogram: tuple[tuple[int, ...], ...]
    total_variation: tuple[float, ...]
    total_variation_mean: float
    total_variation_weighted: float
    jensen_shannon: tuple[float, ...]
    effective_classes: tuple[float, ...]
    size_cv: float
    digest: str
    noise: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON holds them: numbers, strings and lists."""
        as_lists = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return as_lists | {"histogram": [list(row) for row in self.histogram]}


def skew_report(
    labels: IntArray, split: Sequence[IntArray], n_classes: int, noise: Sequence[float] | None = None
) -> SkewReport:
    """Measures a split.

    Args:
        labels: (N,) class labels in [0, n_classes).
        split: index arrays (N_i,) into labels, none empty.
        noise: each client's `Partition.noise_levels`; None is none.
    Raises:
        PartitionError: if there is no client, a client is empty, a label is out of range or a noise level is wrong.
    """
    if not split or any(len(part) == 0 for part in split):
        raise PartitionError("the skew of a split is defined for one or more clients, each with a sample")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise PartitionError(f"labels lie in {labels.min()}..{labels.max()}, not in 0..{n_classes - 1}")
    levels = [0.0] * len(split) if noise is None else noise
    check_levels(levels, len(split))
    histogram = np.stack([np.bincount(labels[part], minlength=n_classes) for part in split])
    sizes = histogram.sum(axis=1)
    mixes = histogram / sizes[:, None]
    global_mix = histogram.sum(axis=0) / sizes.sum()
    distances = np.abs(mixes - global_mix).sum(axis=1) / 2
    return SkewReport(
        sizes=tuple(sizes.tolist()),
        histogram=tuple(tuple(row) for row in histogram.tolist()),
        total_variation=tuple(distances.tolist()),
        total_variation_mean=float(distances.mean()),
        total_variation_weighted=float(np.average(distances, weights=sizes)),
        jensen_shannon=tuple(_jensen_shannon(mixes, global_mix).tolist()),
        effective_classes=tuple(np.exp(special.entr(mixes).sum(axis=1)).tolist()),
        size_cv=float(sizes.std() / sizes.mean()),
        digest=partition_digest(split),
        noise=tuple(map(float, levels)),
    )


def _jensen_shannon(mixes: FloatArray, reference: FloatArray) -> FloatArray:
    """Jensen-Shannon distance (n,) of each row of `mixes` (n, K) to `reference` (K,), in [0, 1]."""
    between = special.entr((mixes + reference) / 2).sum(axis=1)
    within = (special.entr(mixes).sum(axis=1) + special.entr(reference).sum()) / 2
    # Equal mixes can come out a rounding error below 0.
    distance: FloatArray = np.sqrt(np.clip((between - within) / np.log(2), 0, 1))
    return distance
