"""CIFAR-10's batches, read without running anything: they are pickles, and a pickle can name any function to call.

A file is unpickled only if it has the published MD5, and then from the bytes that were checked. Of the names it may
hold just those that make an array of bytes are known, and stand for the plain functions below.
"""

import hashlib
import importlib
import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Whatever a pickle that is no batch may end in, beside what reading any file may.
UNPICKLING_ERRORS = (
    pickle.UnpicklingError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OverflowError,
    TypeError,
)


class _Bytes:
    """An array of bytes as its pickle tells it; NumPy's own state setter would trust what it is given."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, _, self.fortran, self.raw = state

    def array(self) -> np.ndarray:
        """The array, uint8."""
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw  # a Python 2 text, or bytes
        return np.frombuffer(raw, np.uint8).reshape(self.shape, order="F" if self.fortran else "C")


class _ByteType:
    def __setstate__(self, state: object) -> None:
        """A byte has no further state."""


def _byte_type(code: object, *_: object) -> _ByteType:
    if code != "u1":
        raise pickle.UnpicklingError(f"pixels are of type {code!r}, not bytes")
    return _ByteType()


def _empty(*_: object) -> _Bytes:
    return _Bytes()


def _from_buffer(raw: object, dtype: object, shape: object, order: object) -> _Bytes:
    made = _Bytes()
    made.__setstate__((1, shape, dtype, order == "F", raw))
    return made


def _latin1(text: str, *_: object) -> bytes:
    return text.encode("latin1")


_KNOWN = {
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _byte_type,
    ("numpy.core.multiarray", "_reconstruct"): _empty,
    ("numpy._core.multiarray", "_reconstruct"): _empty,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _latin1,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which no batch of images needs; nothing was run"
            )
        return _KNOWN[module, name]


def unpickle(content: bytes) -> dict[str, Any]:
    """The dictionary that a batch's bytes hold.

    Raises:
        pickle.UnpicklingError: if they name anything but arrays of bytes, or hold no dictionary.
        UNPICKLING_ERRORS, EOFError, ValueError: if they are no pickle.
    """
    found = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    if not isinstance(found, dict):
        raise pickle.UnpicklingError(f"it holds a {type(found).__name__}, not a batch")
    return found


class Cifar10:
    """One part of CIFAR-10 in torchvision's layout.

    Attributes:
        data: uint8 (N, 32, 32, 3).
        targets: N classes.
        classes: their names.

    Raises:
        RuntimeError: if a file is missing or has another MD5 than the published one.
        others of `unpickle`: if it holds no batch.
    """

    def __init__(self, root: str, train: bool, download: bool) -> None:
        published = importlib.import_module("torchvision.datasets").CIFAR10
        folder = Path(root) / published.base_folder
        files = [*published.train_list, *published.test_list, (published.meta["filename"], published.meta["md5"])]
        if download and not all(_whole(folder / name, md5) for name, md5 in files):
            utils = importlib.import_module("torchvision.datasets.utils")
            utils.download_and_extract_archive(published.url, root, filename=published.filename, md5=published.tgz_md5)
        batches = _read_all(folder, published.train_list if train else published.test_list)
        meta = _read(folder / published.meta["filename"], published.meta["md5"])
        pixels = np.concatenate([_pixels(batch["data"]) for batch in batches])
        self.data = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        self.targets = [label for batch in batches for label in batch["labels"]]
        self.classes = [str(name) for name in meta[published.meta["key"]]]


def _pixels(told: object) -> np.ndarray:
    if not isinstance(told, _Bytes):
        raise pickle.UnpicklingError(f"its data are a {type(told).__name__}, not an array of bytes")
    return told.array()


def _read_all(folder: Path, files: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    return [_read(folder / name, md5) for name, md5 in files]


def _whole(path: Path, md5: str) -> bool:
    return path.is_file() and _md5(path.read_bytes()) == md5


def _read(path: Path, md5: str) -> dict[str, Any]:
    content = path.read_bytes()
    if _md5(content) != md5:
        raise RuntimeError(f"{path.name} is not the published file: its MD5 is {_md5(content)}, not {md5}")
    return unpickle(content)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
