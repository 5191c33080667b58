"""Images' sizes and ranges: fitted to a side, scaled to the model's range and back to uint8."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bench.data.config import FITS, RANGES


def fit_images(images: Tensor, size: int, fit: str) -> Tensor:
    """Images uint8 (N, C, H, H) at another side.

    Args:
        fit: "none" (H is `size`), "pad" (zeros around), "pad-pool" (zeros around up to a multiple of `size`, then means
            over squares, rounded), "resize" (bilinear with antialiasing by Pillow, as the paper's code; the 256 levels
            are lost).
    Raises:
        ValueError: for an unknown fit or a side that it cannot reach.
    """
    native = images.shape[-1]
    _check_fit(native, size, fit)
    if fit == "resize":
        return _resize(images, size)
    factor = -(-native // size)  # 1 but for "pad-pool"
    margin = factor * size - native
    if margin % 2:
        raise ValueError(f"data.fit={fit!r} cannot centre {native} pixels in {factor * size}; choose another data.size")
    padded = F.pad(images, [margin // 2] * 4)
    return padded if factor == 1 else F.avg_pool2d(padded.float(), factor).round().to(torch.uint8)


def _check_fit(native: int, size: int, fit: str) -> None:
    if fit not in FITS:
        raise ValueError(f"unknown data.fit {fit!r}; there are {', '.join(FITS)}")
    told = f"data.fit={fit!r} cannot bring {native} to data.size={size}"
    if fit == "none" and size != native:
        raise ValueError(f"{told}: it must be {native}; other sides need 'pad', 'pad-pool' or 'resize'")
    if fit == "pad" and size < native:
        raise ValueError(f"{told}: it must be {native} or more; smaller sides need 'pad-pool' or 'resize'")
    if fit == "pad-pool" and not 4 <= size < native:
        raise ValueError(f"{told}: it must be 4 .. {native - 1}; larger sides need 'pad' or 'resize'")
    if fit == "resize" and size < 1:
        raise ValueError(f"{told}: it must be 1 or more")


def _resize(images: Tensor, size: int) -> Tensor:
    # Pillow's fixed-point filter is the paper's, level by level; PyTorch's differs in a few per cent of pixels.
    planes = [Image.fromarray(plane) for plane in images.flatten(0, 1).numpy()]
    resized = np.stack([np.asarray(plane.resize((size, size), Image.Resampling.BILINEAR)) for plane in planes])
    return torch.from_numpy(resized).unflatten(0, images.shape[:2])


def to_model_range(images: Tensor, pixel_range: str) -> Tensor:
    """uint8 0 .. 255 as float32: "symmetric" [-1, 1] by x / 127.5 - 1, or "unit" [0, 1] by x / 255.

    Raises:
        ValueError: for another `pixel_range`.
    """
    _check_range(pixel_range)
    return images.float() / 127.5 - 1.0 if pixel_range == "symmetric" else images.float() / 255.0


def to_uint8(images: Tensor, pixel_range: str) -> Tensor:
    """The inverse of `to_model_range`: clamped and rounded to the nearest level.

    Raises:
        ValueError: for another `pixel_range`, or if a value is NaN, which has no level.
    """
    _check_range(pixel_range)
    images = images.float()
    if images.isnan().any():
        raise ValueError(f"{int(images.isnan().sum())} of {images.numel()} pixel values are NaN")
    levels = (images + 1.0) * 127.5 if pixel_range == "symmetric" else images * 255.0
    return levels.round().clamp(0, 255).to(torch.uint8)


def _check_range(pixel_range: str) -> None:
    if pixel_range not in RANGES:
        raise ValueError(f"unknown data.range {pixel_range!r}; there are {', '.join(RANGES)}")
