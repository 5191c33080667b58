"""How well samples fit each client's own distribution, beside that of all clients together.

Under label skew a client's distribution is that of its mix of classes. Its reference statistics are put together of the
classes' moments over all training images, so that they do not suffer from the client's few images. Average and pooled
distance can rank models differently (Wang, Farnia et al. 2023, arXiv 2310.11714), so both are reported.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.fidelity import Extractor, frechet_distance, statistics
from bench.tensor_files import read_tensors, write_tensors

Array = NDArray[np.float64]


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
            raise ValueError("a client holds a class without any training image")
        shares = mix / mix.sum()
        mean = shares @ self.mean
        weights = np.divide(shares**2, self.counts, out=np.zeros_like(shares), where=self.counts > 0)
        left = 1 - weights.sum()
        spread = np.tensordot(shares, self.second, 1) - np.outer(mean, mean)
        return (mean, spread / left) if left > 1e-12 else None


def class_moments(
    images: Tensor, labels: Tensor, n_classes: int, name: str, extractor: Extractor, folder: Path, device: str
) -> ClassMoments:
    """Moments of real images uint8 (N, C, H, W) with classes (N,), computed once and kept in `folder`.

    Args:
        name: of the images, by digest and whatever was done to them. A broken file is made anew, with a warning.
    """
    arithmetic = f"{torch.device(device).type}{torch.get_num_threads()}"  # the last bits depend on both
    path = folder / f"{name}-{extractor.name}-{extractor.digest[:16]}-{arithmetic}-classes.safetensors"
    try:
        kept = read_tensors(path)
        if kept is not None:
            return ClassMoments(*(kept[key].numpy() for key in ("counts", "mean", "second")))
    except (KeyError, ValueError) as error:
        warnings.warn(f"{path} is broken ({error}); the classes' statistics are computed anew", stacklevel=2)
    made = _moments(extractor.features(images, device)[0].double(), labels, n_classes)
    write_tensors(path, {key: torch.from_numpy(value) for key, value in vars(made).items()})
    return made


def _moments(features: Tensor, labels: Tensor, n_classes: int) -> ClassMoments:
    D = features.shape[1]
    counts, mean, second = np.zeros(n_classes), np.zeros((n_classes, D)), np.zeros((n_classes, D, D))
    for k in range(n_classes):
        own = features[labels == k].numpy()
        counts[k] = len(own)
        if len(own):
            mean[k], second[k] = own.mean(axis=0), own.T @ own / len(own)
    return ClassMoments(counts, mean, second)


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


def summary(fids: Sequence[float]) -> dict[str, Any]:
    """FID-avg and its spread over clients, which are no sample of others; nothing where none has a FID."""
    if not fids:
        return {}
    found = np.asarray(fids)
    told = {"avg": found.mean(), "client_sd": found.std(), "client_max": found.max()}
    return {f"fid_{key}": float(value) for key, value in told.items()}
