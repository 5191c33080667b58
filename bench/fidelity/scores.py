"""How good samples are: FID, IS and KID by torch-fidelity, and the histogram of generated classes.

Features are taken from an extractor in batches and given to torch-fidelity's metric functions, so torch-fidelity's
cache of pickles is never used. Real and generated images take the same path: uint8 in, the same preparation, the same
network.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

import bench.data.torchvision_compat  # noqa: F401 - before torch_fidelity
from bench.fidelity.bootstrap import fid_uncertainty
from bench.fidelity.extractors import Array, Extractor
from bench.fidelity.references import Reference, fixed_draw, statistics
from bench.seeds import derive

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
IS_SPLITS = 10
SEED = derive(0, "fidelity")  # of KID's subsets and of the order in which IS splits the images, of every cell


def evaluate(images: Tensor, real: Reference, real_shares: Array, extractor: Extractor,
             device: str = "cpu", asked: Tensor | None = None, replicates: int = 0) -> dict[str, Any]:  # fmt: skip
    """All scores of generated images uint8 (N, C, H, W), N >= 2.

    Args:
        real_shares: (K,) shares of the classes among the real images.
        asked: classes (N,) that a class-conditional generator was asked for.
        replicates: of the bootstrap over images, 0 for none.
    Returns:
        fid, fid_bias (what N images of the reference's own distribution would score, see `expected_bias`), is_mean,
        is_std, kid_mean, kid_std, class_tv (total variation of the generated classes from the real ones, in [0, 1]),
        mean_confidence, n_generated, n_reference, class_histogram (K shares); the class scores are None where the
        extractor does not know the data's classes. With `asked` also label_accuracy, the share of images that the
        classifier puts into the class asked for; with `replicates` the result of `fid_uncertainty`, too.
    Raises:
        ValueError: for fewer than 2 images, a reference of another extractor, or images that the extractor refuses.
    """
    if len(images) < 2:
        raise ValueError(f"scores need at least 2 images, got {len(images)}")
    if real.extractor != extractor.digest:
        raise ValueError(
            f"the reference is of an extractor with weights {real.extractor}, not of {extractor.name} with "
            f"{extractor.digest}: distances between them mean nothing"
        )
    features, logits = extractor.features(images, device)
    scores: dict[str, Any] = {"fid": frechet_distance(statistics(features), (real.mean, real.covariance)),
              "fid_bias": expected_bias(real.covariance, len(images), real.count)}  # fmt: skip
    if replicates:
        moments = features.double().numpy(), real.mean, real.covariance
        scores |= fid_uncertainty(scores["fid"], *moments, replicates)
    scores |= inception_score(logits, SEED) | kernel_distance(features, real.features, SEED)
    scores |= class_scores(logits, real_shares, extractor.classes)
    if asked is not None:
        right = (logits.argmax(1) == asked).double().mean().item()
        scores["label_accuracy"] = None if extractor.classes is None else right
    return scores | {
        "n_generated": len(images), "n_reference": real.count}  # fmt: skip


def real_floor(
    heldout: Tensor, n: int, real: Reference, real_shares: Array, extractor: Extractor, device: str = "cpu"
) -> dict[str, Any]:
    """Scores of real held-out images, as `evaluate` gives them: below these no generator can be told apart.

    At most `n` of them are taken, by a fixed draw: as many as generated images, so that both have the same bias.
    """
    return evaluate(heldout[fixed_draw(len(heldout), n)], real, real_shares, extractor, device)


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


def kernel_distance(features: Tensor, real: Tensor, seed: int) -> dict[str, float]:
    """KID over 100 subsets of up to 1,000 images, by torch-fidelity (Binkowski et al. 2018); unbiased."""
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    found = kid_features_to_metric(
        features.double(),
        real.double(),
        kid_subsets=KID_SUBSETS,
        kid_subset_size=min(KID_SUBSET_SIZE, len(features), len(real)),
        rng_seed=_short(seed),
        verbose=False,
    )
    return {"kid_mean": float(found[KEY_METRIC_KID_MEAN]), "kid_std": float(found[KEY_METRIC_KID_STD])}


def class_scores(logits: Tensor, real_shares: Array, classes: int | None) -> dict[str, Any]:
    """Which classes were generated, how far their shares are from the real ones, and how sure the classifier is."""
    if classes is None:
        return {"class_histogram": None, "class_tv": None, "mean_confidence": None}
    probabilities = logits.double().softmax(1)
    shares = np.bincount(probabilities.argmax(1).numpy(), minlength=classes) / len(logits)
    return {"class_histogram": shares.tolist(), "class_tv": float(np.abs(shares - real_shares).sum() / 2),
            "mean_confidence": float(probabilities.max(1).values.mean())}  # fmt: skip


def _short(seed: int) -> int:
    """A seed as NumPy's RandomState, which torch-fidelity uses, takes it."""
    return seed % 2**32


def client_fids(
    images: Tensor,
    by_client: Mapping[int, Tensor],
    references: Mapping[int, tuple[Array, Array]],
    extractor: Extractor,
    device: str,
) -> dict[int, float]:
    """FID to each client's reference: of the global model's samples `images`, or of the client's own in `by_client`.

    Args:
        references: mean and covariance by client, for those that are judged.
    """
    shared = None if by_client else statistics(extractor.features(images, device)[0])
    fids = {}
    for number, reference in references.items():
        own = shared or statistics(extractor.features(by_client[number], device)[0])
        fids[number] = frechet_distance(own, reference)
    return fids


def fid_spread(fids: Sequence[float]) -> dict[str, Any]:
    """FID-avg and its spread over clients, which are no sample of others; nothing where none has a FID."""
    if not fids:
        return {}
    found = np.asarray(fids)
    told = {"avg": found.mean(), "client_sd": found.std(), "client_max": found.max()}
    return {f"fid_{key}": float(value) for key, value in told.items()}
