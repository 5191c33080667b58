"""How good samples are: FID and IS by torch-fidelity, KID, the classes of generated images, and neighbours.

Features are taken from an extractor in batches and given to torch-fidelity's metric functions, so torch-fidelity's
cache of pickles is never used. Real and generated images take the same path: uint8 in, the same preparation, the same
network.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import bench.data.torchvision_compat  # noqa: F401 - before torch_fidelity
from bench.fidelity.bootstrap import fid_uncertainty
from bench.fidelity.extractors import Array, Extractor
from bench.fidelity.neighbours import manifold_scores
from bench.fidelity.references import ROWS, Reference, kernel, moments_by_class, statistics
from bench.seeds import derive

IS_SPLITS = 10
SEED = derive(0, "fidelity")  # of the order in which IS splits the images, of every cell
SURE = 0.95  # probability of its class from which on an image counts as recognised
LEAST_RECOGNISED = 0.65  # share from which on class TV is right to 0.06: docs/measures.md has the calibration


def evaluate(images: Tensor, real: Reference, real_shares: Array, extractor: Extractor,
             device: str = "cpu", asked: Tensor | None = None, replicates: int = 0) -> dict[str, Any]:  # fmt: skip
    """All scores of generated images uint8 (N, C, H, W), N >= 2: see `score`.

    Raises:
        ValueError: as `score`, or for images that the extractor refuses.
    """
    if len(images) < 2:
        raise ValueError(f"scores need at least 2 images, got {len(images)}")
    return score(extractor.features(images, device), real, real_shares, extractor, asked, replicates)


def score(seen: tuple[Tensor, Tensor], real: Reference, real_shares: Array, extractor: Extractor,
          asked: Tensor | None = None, replicates: int = 0) -> dict[str, Any]:  # fmt: skip
    """All scores of generated images by what the extractor sees in them.

    Args:
        seen: features (N, D) and logits (N, K'), N >= 2.
        real_shares: (K,) shares of the classes among the real images.
        asked: classes (N,) that a class-conditional generator was asked for.
        replicates: of the bootstrap over images, 0 for none.
    Returns:
        fid, fid_bias (what N images of the reference's own distribution would score, see `expected_bias`), and what
        `image_scores` gives. With `asked` also label_accuracy, the share of images that the classifier puts into the
        class asked for; with `replicates` the result of `fid_uncertainty`, too.
    Raises:
        ValueError: for a reference of another extractor.
    """
    if real.extractor != extractor.digest:
        raise ValueError(
            f"the reference is of an extractor with weights {real.extractor}, not of {extractor.name} with "
            f"{extractor.digest}: distances between them mean nothing"
        )
    features, logits = seen
    scores: dict[str, Any] = {"fid": frechet_distance(statistics(features), (real.mean, real.covariance)),
              "fid_bias": expected_bias(real.covariance, len(features), real.count)}  # fmt: skip
    if replicates:
        moments = features.double().numpy(), real.mean, real.covariance
        scores |= fid_uncertainty(scores["fid"], *moments, replicates)
    scores |= image_scores(features, logits, real, real_shares, extractor.classes)
    if asked is not None:
        right = (logits.argmax(1) == asked).double().mean().item()
        scores["label_accuracy"] = None if extractor.classes is None else right
    return scores


def image_scores(
    features: Tensor, logits: Tensor, real: Reference, real_shares: Array, classes: int | None
) -> dict[str, Any]:
    """All scores but FID of features (N, D) and logits (N, K'): is_mean, is_std, kid_mean, kid_std, precision, recall,
    density, coverage, those of `class_scores`, n_generated, n_reference.
    """
    return {
        **inception_score(logits, SEED),
        **kernel_distance(features, real),
        **manifold_scores(features, real.features),
        **class_scores(logits, real_shares, classes),
        "n_generated": len(features),
        "n_reference": real.count,
    }


def frechet_distance(a: tuple[Array, Array], b: tuple[Array, Array]) -> float:
    """Distance of two Gaussians (mean (D,), covariance (D, D)), by torch-fidelity (Heusel et al. 2017, eq. 6)."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    first, second = ({"mu": mean, "sigma": covariance} for mean, covariance in (a, b))
    return float(fid_statistics_to_metric(first, second, verbose=False)[KEY_METRIC_FID])


def expected_bias(covariance: Array, *counts: int) -> float:
    """E[FID] of Gaussian samples of these sizes from one distribution: what finite samples add to the distance.

    For eigenvalues l and N samples against the exact reference, tr/N + (1/2N) (sum_{i != j} l_i l_j / (l_i + l_j)
    + tr), to first order in 1/N; terms of several finite sets add up. Too low where N is below the width.
    """
    l = np.clip(np.linalg.eigvalsh(covariance), 0, None)
    sums = l[:, None] + l[None, :]
    pairs = np.divide(np.outer(l, l), sums, out=np.zeros_like(sums), where=sums > 0)
    trace = l.sum()
    mixed = pairs.sum() - np.trace(pairs)
    return float(sum(trace / n + (mixed + trace) / (2 * n) for n in counts))


def inception_score(logits: Tensor, seed: int) -> dict[str, float]:
    """IS over 10 splits, by torch-fidelity (Salimans et al. 2016); between 1 and the number of classes.

    Fewer than 20 images make fewer splits, of two or more: a split of one image always scores 1.
    """
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    found = isc_features_to_metric(logits.double(), splits=max(1, min(IS_SPLITS, len(logits) // 2)),
                                   rng_seed=_short(seed))  # fmt: skip
    return {"is_mean": float(found[KEY_METRIC_ISC_MEAN]), "is_std": float(found[KEY_METRIC_ISC_STD])}


def kernel_distance(features: Tensor, real: Reference) -> dict[str, float | None]:
    """KID of features (N, D) to a reference's, N >= 2: the unbiased estimate from all pairs (Binkowski et al. 2018,
    eq. 4), and its standard deviation over other draws of N images.

    It is what means over random subsets tend to, without their noise. Where both are drawn from one distribution it is
    zero in the mean; one reference shifts all scores alike. One below zero says that the sample lies nearer to the
    reference than such samples do in the mean, as one with exactly the reference's shares of classes does.

    Returns:
        kid_mean.
        kid_std: by the exact variance of a U-statistic (Hoeffding 1948, eq. 5.13) with estimates for its two parts; it
        holds near zero, too, where resampling overstates. The reference counts as fixed. None below 5 images.
    """
    x, y = features.double(), real.features.double()
    n, parts = len(x), torch.arange(len(x)).split(ROWS)
    to_real = torch.cat([kernel(x[part], y).mean(1) for part in parts])
    sums, squares = torch.empty_like(to_real), 0.0
    for part in parts:  # the kernel between images less their means to the reference: KID is its mean over pairs
        centred = kernel(x[part], x) - to_real[part, None] - to_real + real.kernel_mean
        centred[torch.arange(len(part)), part] = 0
        sums[part] = centred.sum(1)
        squares += float(centred.square().sum())
    value, pairs = float(sums.sum()) / (n * (n - 1)), n * (n - 1)
    if n < 5:
        return {"kid_mean": value, "kid_std": None}
    of_pairs = squares / pairs - value**2
    of_images = max(0.0, (float(sums.var()) - (n - 2) * of_pairs) / ((n - 2) * (n - 4)))
    return {"kid_mean": value, "kid_std": ((4 * (n - 2) * of_images + 2 * of_pairs) / pairs) ** 0.5}


def class_scores(logits: Tensor, real_shares: Array, classes: int | None) -> dict[str, Any]:
    """Which classes were generated, how far their shares are from the real ones, and how sure the classifier is.

    Returns:
        class_histogram: shares of the K classes.
        class_tv: their total variation from the real ones, in [0, 1]; None below `LEAST_RECOGNISED`, where it says more
        of what the classifier makes of poor images than of their classes.
        recognised: share of images whose class has a probability above `SURE`.
        mean_confidence: mean probability of the class found.
        All None where the extractor does not know the data's classes.
    """
    if classes is None:
        return dict.fromkeys(("class_histogram", "class_tv", "recognised", "mean_confidence"))
    probabilities = logits.double().softmax(1)
    shares = np.bincount(probabilities.argmax(1).numpy(), minlength=classes) / len(logits)
    confidence = probabilities.max(1).values
    recognised = (confidence > SURE).double().mean().item()
    return {
        "class_histogram": shares.tolist(),
        "class_tv": float(np.abs(shares - real_shares).sum() / 2) if recognised >= LEAST_RECOGNISED else None,
        "recognised": recognised,
        "mean_confidence": confidence.mean().item(),
    }


def _short(seed: int) -> int:
    """A seed as NumPy's RandomState, which torch-fidelity uses, takes it."""
    return seed % 2**32


Seen = tuple[Tensor, Tensor]  # features (N, D) and logits (N, K') of images


def client_fids(seen: Mapping[int, Seen], references: Mapping[int, tuple[Array, Array]]) -> dict[int, float]:
    """FID of all images that are held against a client to its reference, by client.

    Args:
        seen: the global model's samples, the same for every client, or those of the client's own model.
        references: mean (D,) and covariance (D, D) of the clients that are judged.
    """
    return {i: frechet_distance(statistics(seen[i][0]), reference) for i, reference in references.items()}


def fid_of_mix(seen: Seen, mix: Array, reference: tuple[Array, Array]) -> float:
    """FID to a client's reference of the images of its classes, weighted to its shares of them.

    So a client of few classes is served by a generator of all of them; of classes that were not generated at all, the
    client's others take the weight, and all images if it has no other. Classes are the ones that the classifier finds.

    Args:
        seen: features (N, D) and logits (N, K).
        mix: counts or shares of the client's classes (K,).
        reference: mean (D,) and covariance (D, D) of images of that mix.
    """
    features, logits = seen
    moments = moments_by_class(features.double(), logits.argmax(1), len(mix))
    generated = np.where(moments.counts > 0, mix, 0.0)
    own = moments.of_mix(generated) if generated.any() else None
    return frechet_distance(own or statistics(features), reference)


def fid_spread(fids: Sequence[float], floors: Sequence[float]) -> dict[str, float]:
    """FID-avg, its spread over clients, which are no sample of others, and its excess over what real images score on
    the same split; nothing where no client has a FID.

    It does not rank generators: the more clients differ, the farther from each are even real images of all classes, and
    under strong skew poor images, whose classes differ less, score below real ones. `fid_of_mix` does not.

    Args:
        floors: of `bench.fidelity.floor.client_floors`, of the same clients.
    """
    if not fids:
        return {}
    found, floor = np.asarray(fids), float(np.mean(floors))
    average = float(found.mean())
    over_clients = {"fid_client_sd": float(found.std()), "fid_client_max": float(found.max())}
    return {"fid_avg": average, "fid_avg_floor": floor, "fid_avg_excess": average - floor} | over_clients
