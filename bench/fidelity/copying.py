"""Whether generated images are copies of training images: near-copies, authenticity and the data-copying test.

All three compare an image's distance to its nearest training image with another distance, of training or test images,
so they need no threshold in pixels. What test images score is what a generator that copies nothing scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bench.fidelity.extractors import Array
from bench.fidelity.neighbours import nearest

COPY = 1 / 3  # of the distance to the second nearest: Yoon et al. 2023, "Diffusion probabilistic models generalize ..."
LEAST = 20  # images of both sides in a cell of the data-copying test, for the normal approximation

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Nearest:
    """The training images nearest to N images in one space, pixels or features.

    Attributes:
        numbers: of the nearest training images (N,).
        distance, second: Euclidean distances (N,) to the nearest and to the second nearest.
        own: distance (N,) of the nearest training image to the one nearest to it.
    """

    numbers: Numbers
    distance: Array
    second: Array
    own: Array

    @classmethod
    def of(cls, images: Tensor, train: Tensor) -> "Nearest":
        """Of images (N, D) to training images (M, D), M >= 2."""
        distances, numbers = nearest(images, train, 2)
        found, places = numbers[:, 0].unique(return_inverse=True)
        own = nearest(train[found], train, 2)[0][:, 1]  # the first is the image itself
        return cls(numbers[:, 0].numpy(), distances[:, 0].numpy(), distances[:, 1].numpy(), own[places].numpy())

    @property
    def copied(self) -> NDArray[np.bool_]:
        """Which images (N,) are near-copies: less than a third as far from their nearest training image as from any
        other. A training image that is there twice hides its copies.
        """
        return self.distance < COPY * self.second

    @property
    def closest(self) -> Numbers:
        """Numbers of the images, those that come closest to a copy first."""
        return np.argsort(self.distance / np.maximum(self.second, np.finfo(float).tiny), kind="stable")

    def shares(self) -> dict[str, float]:
        """copies: share of near-copies.  authenticity: share of images that are farther from their nearest training
        image than that is from any other one (AuthPct of Alaa et al. 2022), around a half where nothing is copied.
        """
        authentic = self.distance > self.own
        return {"copies": float(self.copied.mean()), "authenticity": float(authentic.mean())}


def data_copying(generated: Nearest, test: Nearest, labels: Numbers) -> float | None:
    """C_T of Meehan, Chaudhuri & Dasgupta 2020: are generated images nearer to training images than test images are.

    In each cell of the space, the z-score of the Mann-Whitney U of the distances; over cells, their mean weighted by
    test images. Far below 0: copies. Far above: images unlike any. A cell is where the nearest training image has one
    class; those with fewer than 20 images of either side are left out, and it is None where none is left. A generator
    that draws the most typical images alone is below 0, too.

    Args:
        labels: classes of the training images.
    """
    from scipy.stats import mannwhitneyu

    scores, weights = [], []
    for k in np.unique(labels):
        ours, theirs = (each.distance[labels[each.numbers] == k] for each in (generated, test))
        m, n = len(ours), len(theirs)
        if min(m, n) >= LEAST:
            u = float(mannwhitneyu(ours, theirs).statistic)  # pairs in which the generated image is farther
            scores.append((u - m * n / 2) / np.sqrt(m * n * (m + n + 1) / 12))
            weights.append(n)
    return float(np.average(scores, weights=weights)) if scores else None


def copies_by_client(generated: Nearest, parts: Sequence[Numbers]) -> Numbers:
    """Near-copies (n,) of each client's training images.

    Args:
        parts: numbers of each client's training images.
    """
    copied = generated.numbers[generated.copied]
    return np.array([np.isin(copied, part).sum() for part in parts], dtype=np.int64)


def size_correlation(copies: Numbers, sizes: Sequence[int]) -> float | None:
    """Spearman's rank correlation over clients between their number of images and the copies for each of these: below 0
    where small clients are copied more than their images explain. None below three clients, and without differences.
    """
    from scipy.stats import spearmanr

    rates = copies / np.asarray(sizes)
    if len(copies) < 3 or len(set(rates)) < 2 or len(set(sizes)) < 2:
        return None
    return float(spearmanr(sizes, rates).statistic)
