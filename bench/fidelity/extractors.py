"""Feature extractors by name, with the digests of their weights."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import bench.data.torchvision_compat  # noqa: F401 - before torch_fidelity
from bench.config.cell import EXTRACTORS, ExtractorName
from bench.fidelity import mnist_cnn as mnist

INCEPTION: ExtractorName = "inception-v3-compat"
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
        outputs = [self.run(batch.to(device)) for batch in images.split(_BATCH)]
        return torch.cat([f.float().cpu() for f, _ in outputs]), torch.cat([y.float().cpu() for _, y in outputs])


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
