"""What real images score: the mean and the spread of samples that a perfect generator would draw."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bench.fidelity.bootstrap import Distances
from bench.fidelity.extractors import Array, Extractor
from bench.fidelity.references import Reference, fixed_draw
from bench.fidelity.scores import expected_bias, fid_of_mix, image_scores
from bench.seeds import numpy_stream

DRAWS = 20
POOL = 2  # real images for each that is drawn: with twice as many, draws differ by nearly as much as fresh ones


@dataclass(frozen=True)
class RealImages:
    """What the extractor sees in real images that nothing was trained on.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: their classes (N,).
        features, logits: (N, D) and (N, K').
    """

    images: Tensor
    labels: Tensor
    features: Tensor
    logits: Tensor

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, count: int, extractor: Extractor, device: str) -> "RealImages":
        """A fixed draw from real images uint8 (N, C, H, W): `POOL` times `count`, or all if there are fewer."""
        chosen = fixed_draw(len(images), POOL * count)
        return cls(images[chosen], labels[chosen], *extractor.features(images[chosen], device))


def real_floor(real: RealImages, n: int, to: Reference, shares: Array, classes: int | None) -> dict[str, Any]:
    """Scores of `n` real images (of all, if there are fewer), as `bench.fidelity.scores.evaluate` gives them.

    They are means over `DRAWS` draws by `iid_draws`: a generator that draws from the images' own distribution scores so
    in the mean. One sample of it is above or below by the spread, and a sample that has the reference's shares of
    classes exactly is below.

    Args:
        shares: of the reference's classes (K,).
        classes: K, where the logits are those of the data's classes.
    Returns:
        The scores without their histogram, each with its standard deviation over draws as ``<key>_sd``; n_draws,
        n_images (of a draw) and n_pool (that they are drawn from). What depends on classes spreads as fresh samples do;
        the rest does so less where n_pool is below 2 n.
    """
    distances = Distances.to(real.features.double().numpy(), to.mean, to.covariance)
    draws = []
    for chosen in iid_draws(real.labels, shares, n):
        scores = image_scores(real.features[chosen], real.logits[chosen], to, shares, classes)
        draws.append({"fid": distances.of(chosen)} | scores)
    count = min(n, len(real.labels))
    told: dict[str, Any] = {"fid_bias": expected_bias(to.covariance, count, to.count)}
    for key in [key for key in draws[0] if key not in ("class_histogram", "n_generated", "n_reference")]:
        told |= _mean_and_sd(key, [draw[key] for draw in draws])
    sizes = {"n_generated": count, "n_reference": to.count, "n_images": count, "n_pool": len(real.labels)}
    return told | sizes | {"n_draws": len(draws)}


def client_floors(
    real: RealImages, n: int, references: Mapping[int, tuple[Array, Array]], shares: Array
) -> dict[int, float]:
    """Mean FID of the same draws to each client's reference: what a perfect global model scores on this split.

    Args:
        references: mean (D,) and covariance (D, D) by client.
    """
    features, draws = real.features.double().numpy(), list(iid_draws(real.labels, shares, n))
    found = {}
    for client, moments in references.items():
        distances = Distances.to(features, *moments)
        found[client] = float(np.mean([distances.of(chosen) for chosen in draws]))
    return found


def client_mix_floors(
    real: RealImages,
    n: int,
    references: Mapping[int, tuple[Array, Array]],
    shares: Array,
    mixes: Mapping[int, Array],
) -> dict[int, float]:
    """Mean of `bench.fidelity.scores.fid_of_mix` of the same draws, by client.

    Args:
        mixes: counts of each client's classes (K,).
    """
    seen = [(real.features[chosen], real.logits[chosen]) for chosen in iid_draws(real.labels, shares, n)]
    return {
        i: float(np.mean([fid_of_mix(each, mixes[i], reference) for each in seen]))
        for i, reference in references.items()
    }


def iid_draws(labels: Tensor, shares: Array, n: int) -> Iterator[NDArray[np.int64]]:
    """Numbers of `n` images (of all, if there are fewer), `DRAWS` times, the same at every call.

    How many of a class are drawn is random (multinomial), as for a sampler that draws one image after the other; which,
    is without replacement as far as the class goes. Held-out images that have exact shares of the classes would
    else score lower than any such sampler does in the mean.

    Args:
        labels: classes of the images (N,).
        shares: of the classes (K,); those of classes that are not among the images go to the others.
    """
    known = np.bincount(labels.numpy(), minlength=len(shares)) > 0
    chances = np.where(known, shares, 0) / shares[known].sum()
    members = [np.flatnonzero(labels.numpy() == k) for k in range(len(shares))]
    count = min(n, len(labels))
    for number in range(DRAWS):
        stream = numpy_stream(0, "floor", len(labels), count, number)
        counts = stream.multinomial(count, chances)
        yield np.concatenate(
            [np.resize(stream.permutation(own), wanted) for own, wanted in zip(members, counts, strict=True)]
        )


def _mean_and_sd(key: str, values: Sequence[float | None]) -> dict[str, float | None]:
    """None where any draw has none."""
    if None in values:
        return {key: None, f"{key}_sd": None}
    found = np.array(values, dtype=float)
    return {key: float(found.mean()), f"{key}_sd": float(found.std(ddof=1))}
