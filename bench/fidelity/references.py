"""Statistics of real images' features: of all of them, and by class."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import bench.data.torchvision_compat  # noqa: F401 - before torch_fidelity
from bench.fidelity.extractors import Array, Extractor
from bench.seeds import torch_stream
from bench.store.states import read_tensors, write_tensors

KEPT, KEPT_NUMBERS = 10_000, 2**22  # images whose features are kept, or more if they make no more numbers than that
ROWS = 1000  # of a matrix of distances or kernels at a time: 80 MB beside 10,000 images


@dataclass(frozen=True)
class ClassMoments:
    """Features of real images, class by class.

    Attributes:
        counts: images of each class (K,).
        mean: mean features (K, D); 0 for a class without images.
        second: means of the outer products of features (K, D, D), likewise.
    """

    counts: Array
    mean: Array
    second: Array

    def of_mix(self, mix: Array) -> tuple[Array, Array] | None:
        """Mean (D,) and covariance (D, D) of images whose classes have the shares or counts `mix` (K,).

        Every image of a class has the same weight w; the covariance is divided by 1 - sum w^2, which is (N - 1) / N for
        the data's own mix. None where that leaves nothing: one image has no covariance.

        Raises:
            ValueError: if `mix` has a class of which there is no image.
        """
        if ((mix > 0) & (self.counts == 0)).any():
            raise ValueError("a class of the mix has no image")
        shares = mix / mix.sum()
        mean = shares @ self.mean
        weights = np.divide(shares**2, self.counts, out=np.zeros_like(shares), where=self.counts > 0)
        left = 1 - weights.sum()
        spread = np.tensordot(shares, self.second, 1) - np.outer(mean, mean)
        return (mean, spread / left) if left > 1e-12 else None


def class_moments(
    images: Tensor, labels: Tensor, n_classes: int, name: str, extractor: Extractor, folder: Path, device: str
) -> ClassMoments:
    """Moments of real images uint8 (N, C, H, W) with classes (N,), computed once and cached in `folder`.

    A damaged file is computed anew, with a warning.

    Args:
        name: of the images: their digest, and their noise if they have some.
    """
    arithmetic = f"{torch.device(device).type}{torch.get_num_threads()}"  # the last bits depend on both
    path = folder / f"{name}-{extractor.name}-{extractor.digest[:16]}-{arithmetic}-classes.safetensors"
    try:
        cached = read_tensors(path)
        if cached is not None:
            return ClassMoments(*(cached[key].numpy() for key in ("counts", "mean", "second")))
    except (KeyError, ValueError) as error:
        warnings.warn(f"{path} is damaged ({error}); the classes' statistics are computed anew", stacklevel=2)
    moments = moments_by_class(extractor.features(images, device)[0].double(), labels, n_classes)
    write_tensors(path, {key: torch.from_numpy(value) for key, value in vars(moments).items()})
    return moments


def moments_by_class(features: Tensor, labels: Tensor, n_classes: int) -> ClassMoments:
    """Moments of features (N, D), float64, of images with classes (N,)."""
    D = features.shape[1]
    counts, mean, second = np.zeros(n_classes), np.zeros((n_classes, D)), np.zeros((n_classes, D, D))
    for k in range(n_classes):
        own = features[labels == k].numpy()
        counts[k] = len(own)
        if len(own):
            mean[k], second[k] = own.mean(axis=0), own.T @ own / len(own)
    return ClassMoments(counts, mean, second)


@dataclass(frozen=True)
class Reference:
    """Statistics of the real training images' features.

    Attributes:
        mean: (D,) float64.  covariance: (D, D) float64.
        features: (M, D) float32, of the images `drawn`: of all, up to `KEPT` (more where features are few).
        count: N, images that mean and covariance are of.
        extractor: digest of the weights that the features are of.
    """

    mean: Array
    covariance: Array
    features: Tensor
    count: int
    extractor: str

    @property
    def drawn(self) -> Tensor:
        """Numbers (M,) of the images that `features` are of, in their order."""
        return fixed_draw(self.count, len(self.features))

    @cached_property
    def kernel_mean(self) -> float:
        """Mean of `kernel` over the pairs of two different images, of which there must be 2."""
        y = self.features.double()
        sums = sum(float(kernel(part, y).sum()) for part in y.split(ROWS))
        own = float(((y.square().sum(1) / y.shape[1] + 1) ** 3).sum())
        return (sums - own) / (len(y) * (len(y) - 1))


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """KID's kernel (N, M) of features (N, D) and (M, D), float64 (Binkowski et al. 2018, eq. 3)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def reference(images: Tensor, data_digest: str, extractor: Extractor, folder: Path, device: str = "cpu") -> Reference:
    """Statistics of real images uint8 (N, C, H, W), computed once per data, number and extractor, cached in `folder`.

    The file's name is made of the digests of data and weights, N, device and threads. A damaged file is computed anew,
    with a warning.
    """
    arithmetic = f"{torch.device(device).type}{torch.get_num_threads()}"  # the last bits depend on both
    name = f"{data_digest}-{len(images)}-{extractor.name}-{extractor.digest[:16]}-{arithmetic}.safetensors"
    path = folder / name
    cached = _read_reference(path, extractor)
    if cached is not None:
        return cached
    features, _ = extractor.features(images, device)
    kept = max(KEPT, KEPT_NUMBERS // extractor.feature_width)
    (mean, covariance), drawn = statistics(features), features[fixed_draw(len(images), kept)]
    arrays = {"mean": torch.from_numpy(mean), "covariance": torch.from_numpy(covariance)}
    write_tensors(path, arrays | {"features": drawn, "count": torch.tensor(len(images))})
    return Reference(mean, covariance, drawn, len(images), extractor.digest)


def _read_reference(path: Path, extractor: Extractor) -> Reference | None:
    width = extractor.feature_width
    try:
        cached = read_tensors(path)
        if cached is None:
            return None
        mean, covariance, features = cached["mean"].numpy(), cached["covariance"].numpy(), cached["features"]
        record = Reference(mean, covariance, features, int(cached["count"]), extractor.digest)
        shapes = (mean.shape, covariance.shape, tuple(features.shape[1:]))
        if shapes != ((width,), (width, width), (width,)):
            raise ValueError(f"shapes {shapes} for {width} features")
    except (KeyError, ValueError) as error:
        warnings.warn(f"{path} is damaged ({error}); the reference statistics are computed anew", stacklevel=3)
        return None
    return record


def statistics(features: Tensor) -> tuple[Array, Array]:
    """Mean and covariance in float64, by torch-fidelity."""
    from torch_fidelity.metric_fid import fid_features_to_statistics

    moments = fid_features_to_statistics(features.double())
    return moments["mu"], moments["sigma"]


def fixed_draw(total: int, wanted: int) -> Tensor:
    """Indices of `wanted` of `total` images (all if there are fewer), the same at every call.

    A prefix would not do: images may be sorted by class.
    """
    return torch.randperm(total, generator=torch_stream(0, "fidelity", total))[:wanted]
