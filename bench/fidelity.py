"""How good samples are: FID, IS and KID by torch-fidelity, and the histogram of generated classes.

The only module that imports torch_fidelity. It takes features from an extractor in batches and gives them to
torch-fidelity's metric functions, so torch-fidelity's cache of pickles is never used. Real and generated images
take the same path: uint8 in, the same preparation, the same network.
"""

import hashlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import bench.torchvision_compat  # noqa: F401 - before torch_fidelity
from bench.bootstrap import fid_uncertainty
from bench.extractors import mnist
from bench.seeds import torch_stream
from bench.tensor_files import read_tensors, write_tensors

INCEPTION = "inception-v3-compat"
EXTRACTORS = (mnist.NAME, INCEPTION)
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
KID_REFERENCE = 10_000  # real images KID draws its subsets from; at 2,048 features all would be half a gigabyte
IS_SPLITS = 10
INCEPTION_HASH = "6726825d"  # the first of the SHA-256 of torch-fidelity's weights, as their file's name has it
_BATCH = 250

Array = NDArray[np.float64]


class ExtractorUnavailable(ValueError):
    """The extractor's weights are not there; the message says how to come by them."""


@dataclass(frozen=True)
class Extractor:
    """A feature extractor, named and identified by the digest of its weights.

    Attributes:
        digest: SHA-256 of the weights' file.
        feature_width: D, features an image.
        classes: K where the logits are those of the data's classes, None where they are others (ImageNet's).
        test_accuracy: of the classifier, None where it has none on this data.
        check: raises ValueError unless it takes images of these channels and this side.
        run: uint8 (B, C, H, W) -> features (B, D) and logits (B, K').
        to: moves the network.
        datasets: names of the data sets it may judge, None for all.
    """

    name: str
    digest: str
    feature_width: int
    classes: int | None
    test_accuracy: float | None
    check: Callable[[int, int], None]
    run: Callable[[Tensor], tuple[Tensor, Tensor]]
    to: Callable[[str], object]
    datasets: tuple[str, ...] | None = None

    @torch.no_grad()
    def features(self, images: Tensor, device: str = "cpu") -> tuple[Tensor, Tensor]:
        """Features (N, D) and logits (N, K') of uint8 images (N, C, H, W), float32 on the CPU.

        Raises:
            ValueError: if the images are not uint8 or of a shape that the extractor does not take.
        """
        if images.dtype != torch.uint8:
            raise ValueError(f"extractor {self.name} takes uint8 images, got {images.dtype}")
        if images.ndim != 4 or images.shape[-2] != images.shape[-1] or not len(images):
            raise ValueError(f"extractor {self.name} takes images (N, C, S, S), got shape {tuple(images.shape)}")
        self.check(images.shape[1], images.shape[-1])
        self.to(device)
        made = [self.run(batch.to(device)) for batch in images.split(_BATCH)]
        return torch.cat([f.float().cpu() for f, _ in made]), torch.cat([y.float().cpu() for _, y in made])


@dataclass(frozen=True)
class Reference:
    """What the real training images look like to the extractor.

    Attributes:
        mean: (D,) float64.  covariance: (D, D) float64.
        features: (min(N, 10,000), D) float32, of a fixed draw of the images, from which KID draws.
        count: N, images that mean and covariance are of.
        extractor: digest of the weights that the features are of.
    """

    mean: Array
    covariance: Array
    features: Tensor
    count: int
    extractor: str


def extractor_digest(name: str, weights: Path | None = None, download: bool = False) -> str:
    """The digest that goes into a cell's id, without building the network.

    Raises:
        ExtractorUnavailable: if there are no weights and they were not to be fetched.
        ValueError: for an unknown name.
    """
    if name == mnist.NAME:
        return str(mnist.record()["digest"])
    return _file_digest(_inception_weights(name, weights, download))


def load_extractor(name: str, weights: Path | None = None, download: bool = False) -> Extractor:
    """The extractor called `name`, one of `EXTRACTORS`.

    Args:
        weights: a file, for inception-v3-compat: torch-fidelity's weights in PyTorch format.
        download: allow fetching them.
    Raises:
        ExtractorUnavailable: if there are no weights and they were not to be fetched.
        ValueError: for an unknown name, or a file that is not what it should be.
    """
    if name == mnist.NAME:
        net, record = mnist.load(), mnist.record()
        return Extractor(name, record["digest"], mnist.FEATURES, mnist.CLASSES, record["test_accuracy"], mnist.check,
                         lambda images: net(mnist.prepare(images)), net.to, mnist.DATASETS)  # fmt: skip
    return _inception(_inception_weights(name, weights, download))


def _inception_weights(name: str, weights: Path | None, download: bool) -> Path:
    """The weights' file, fetched into torch's hub folder if that is allowed."""
    if name != INCEPTION:
        raise ValueError(f"unknown extractor {name!r}; there are {', '.join(EXTRACTORS)}")
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
    path = weights or cached
    if os.path.isfile(path):  # False for a path that is too long, too
        return path
    if weights is None and download:
        cached.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(cached), hash_prefix=INCEPTION_HASH, progress=False)
        except (OSError, RuntimeError) as error:  # RuntimeError: what came has another hash
            raise ExtractorUnavailable(
                f"the weights of {INCEPTION} cannot be fetched from {URL_INCEPTION_V3}: {error}; "
                f"put the file at {cached}"
            ) from error
        return cached
    raise ExtractorUnavailable(
        f"the weights of {INCEPTION} are not at {path}; run with --download to fetch them from {URL_INCEPTION_V3}, or "
        'name the file with --set evaluation.extractor_weights=FILE, or use evaluation.extractor = "mnist-cnn"'
    )


def _inception(path: Path) -> Extractor:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        torch.load(path, weights_only=True, map_location="cpu")  # torch-fidelity itself would unpickle anything
        with torch.random.fork_rng(devices=[]):  # weights are drawn from the global generator before they are read
            net = FeatureExtractorInceptionV3(
                INCEPTION, ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
            )
    except (
        RuntimeError,
        OSError,
        ValueError,
        LookupError,
        EOFError,
        TypeError,
        AttributeError,
        UnpicklingError,
    ) as error:
        raise ValueError(f"{path} does not hold torch-fidelity's Inception weights: {error}") from error

    def check(channels: int, size: int) -> None:
        if channels not in (1, 3):
            raise ValueError(f"extractor {INCEPTION} takes images of 1 or 3 channels, got {channels}")

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = net(images.expand(-1, 3, -1, -1))
        return features, logits

    return Extractor(INCEPTION, _file_digest(path), 2048, None, None, check, run, net.to)


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ------------------------------------------------------------------------------------------------ reference


def reference(images: Tensor, data_digest: str, extractor: Extractor, folder: Path, device: str = "cpu") -> Reference:
    """Statistics of real images uint8 (N, C, H, W), computed once per data, number and extractor, kept in `folder`.

    The file's name is made of the digests of data and weights, N, device and threads. A broken file is made anew, with
    a warning.
    """
    arithmetic = f"{torch.device(device).type}{torch.get_num_threads()}"  # the last bits depend on both
    name = f"{data_digest}-{len(images)}-{extractor.name}-{extractor.digest[:16]}-{arithmetic}.safetensors"
    path = folder / name
    known = _read_reference(path, extractor)
    if known is not None:
        return known
    features, _ = extractor.features(images, device)
    mean, covariance = statistics(features)
    made = Reference(mean, covariance, features[fixed_draw(len(images), KID_REFERENCE)], len(images),
                     extractor.digest)  # fmt: skip
    _write_reference(path, made)
    return made


def _read_reference(path: Path, extractor: Extractor) -> Reference | None:
    width = extractor.feature_width
    try:
        kept = read_tensors(path)
        if kept is None:
            return None
        made = Reference(kept["mean"].numpy(), kept["covariance"].numpy(), kept["features"], int(kept["count"]),
                         extractor.digest)  # fmt: skip
        shapes = (made.mean.shape, made.covariance.shape, tuple(made.features.shape[1:]))
        if shapes != ((width,), (width, width), (width,)):
            raise ValueError(f"shapes {shapes} for {width} features")
    except (KeyError, ValueError) as error:
        warnings.warn(f"{path} is broken ({error}); the reference statistics are computed anew", stacklevel=3)
        return None
    return made


def _write_reference(path: Path, made: Reference) -> None:
    kept = {
        "mean": torch.from_numpy(made.mean),
        "covariance": torch.from_numpy(made.covariance),
        "features": made.features,
        "count": torch.tensor(made.count),
    }
    write_tensors(path, kept)


def statistics(features: Tensor) -> tuple[Array, Array]:
    """Mean and covariance in float64, by torch-fidelity."""
    from torch_fidelity.metric_fid import fid_features_to_statistics

    found = fid_features_to_statistics(features.double())
    return found["mu"], found["sigma"]


# --------------------------------------------------------------------------------------------------- scores


def evaluate(images: Tensor, known: Reference, real_shares: Array, extractor: Extractor, seed: int,
             device: str = "cpu", asked: Tensor | None = None, replicates: int = 0) -> dict[str, Any]:  # fmt: skip
    """All scores of generated images uint8 (N, C, H, W), N >= 2.

    Args:
        real_shares: (K,) shares of the classes among the real images.
        seed: of KID's subsets and of the order in which IS splits the images.
        asked: classes (N,) that a class-conditional generator was asked for.
        replicates: of the bootstrap over images, 0 for none.
    Returns:
        fid, fid_bias (what N images of the reference's own distribution would score, see `expected_bias`), is_mean,
        is_std, kid_mean, kid_std, class_tv (total variation of the generated classes from the real ones, in [0, 1]),
        mean_confidence, n_generated, n_reference, class_histogram (K shares); the class scores are None where the
        extractor does not know the data's classes. With `asked` also label_accuracy, the share of images that the
        classifier puts into the class asked for; with `replicates` what `bench.bootstrap.fid_uncertainty` gives.
    Raises:
        ValueError: for fewer than 2 images, a reference of another extractor, or images that the extractor refuses.
    """
    if len(images) < 2:
        raise ValueError(f"scores need at least 2 images, got {len(images)}")
    if known.extractor != extractor.digest:
        raise ValueError(
            f"the reference is of an extractor with weights {known.extractor}, not of {extractor.name} with "
            f"{extractor.digest}: distances between them mean nothing"
        )
    features, logits = extractor.features(images, device)
    scores: dict[str, Any] = {"fid": frechet_distance(statistics(features), (known.mean, known.covariance)),
              "fid_bias": expected_bias(known.covariance, len(images), known.count)}  # fmt: skip
    if replicates:
        known_of = features.double().numpy(), known.mean, known.covariance
        scores |= fid_uncertainty(scores["fid"], *known_of, replicates)
    scores |= inception_score(logits, seed) | kernel_distance(features, known.features, seed)
    scores |= class_scores(logits, real_shares, extractor.classes)
    if asked is not None:
        right = (logits.argmax(1) == asked).double().mean().item()
        scores["label_accuracy"] = None if extractor.classes is None else right
    return scores | {
        "n_generated": len(images), "n_reference": known.count}  # fmt: skip


def real_floor(heldout: Tensor, n: int, known: Reference, real_shares: Array, extractor: Extractor, seed: int,
               device: str = "cpu") -> dict[str, Any]:  # fmt: skip
    """What real held-out images score, as `evaluate`: no generator can be told apart below this.

    At most `n` of them are taken, by a fixed draw, so that the score has the bias of the generated images' where there
    are enough.
    """
    return evaluate(heldout[fixed_draw(len(heldout), n)], known, real_shares, extractor, seed, device)


def fixed_draw(total: int, wanted: int) -> Tensor:
    """Indices of `wanted` of `total` images (all if there are fewer), the same at every call.

    A prefix would not do: images may be sorted by class.
    """
    return torch.randperm(total, generator=torch_stream(0, "fidelity", total))[:wanted]


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
