"""Noise that a partition puts on its clients' images."""

from collections.abc import Sequence

import numpy as np

from bench.plugins import Tensor, torch
from partitions.base import IntArray, PartitionError, check_levels

_AT_ONCE = 1024  # images whose noise is in memory together


def add_noise(images: Tensor, split: Sequence[IntArray], levels: Sequence[float], rng: np.random.Generator) -> Tensor:
    """The images with Gaussian noise, each of its client's level, rounded and clipped to 0..255.

    Noise is drawn for all images in their own order and then scaled: what an image gets follows from `rng`, its index
    and its client's level, whoever else holds what. Clipping takes the half of it that lies outside off black and
    white pixels, so at level s they move by s / sqrt(2 pi) of the range in the mean.

    Args:
        images: uint8 (N, C, H, W).
        split: per client the indices of its images.
        levels: per client the standard deviation, in units of the full pixel range; see `Partition.noise_levels`.
    Returns:
        A new uint8 tensor (N, C, H, W); `images` itself where no level is above 0.
    Raises:
        PartitionError: if the images are not uint8, or the levels do not fit the split.
    """
    if images.dtype != torch.uint8:
        raise PartitionError(f"noise is added to uint8 images, not to {images.dtype}")
    check_levels(levels, len(split))
    if not any(levels):
        return images
    scales = np.zeros(len(images), dtype=np.float32)
    for part, level in zip(split, levels, strict=True):
        scales[part] = 255 * level
    noisy = torch.empty_like(images)
    for start in range(0, len(images), _AT_ONCE):
        clean = images[start : start + _AT_ONCE]
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        noise *= torch.from_numpy(scales[start : start + _AT_ONCE]).view(-1, 1, 1, 1)
        noisy[start : start + _AT_ONCE] = (clean + noise.to(images.device)).round().clamp(0, 255).to(torch.uint8)
    return noisy
