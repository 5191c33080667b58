"""Read a cell's files for figures; warn about damaged ones."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from torch import Tensor

from bench.store.cell_folder import CellFolder
from bench.store.files import Damaged, read_json
from bench.store.states import read_tensors


def record(folder: CellFolder, name: str) -> dict[str, Any] | None:
    """A record of a cell; a damaged one is as if it were not there, with a warning."""
    try:
        return read_json(folder.path / name)
    except Damaged as error:
        warnings.warn(f"{folder.path / name} is broken ({error}) and is not used", stacklevel=2)
        return None


def first_images(folder: CellFolder, count: int) -> Tensor | None:
    """The first of the generated images, uint8 (up to count, C, H, W); None if samples.safetensors was removed.

    Raises:
        Damaged: if it cannot be read.
    """
    file = folder.path / "samples.safetensors"
    try:
        tensors = read_tensors(file, sealed=False)
        return None if tensors is None else tensors["images"][:count]
    except (Damaged, KeyError) as error:
        raise Damaged(f"{file} cannot be read: {type(error).__name__}: {error}") from error


def film_frames(file: Path) -> list[NDArray[np.uint8]] | None:
    """Frames of an animated GIF, uint8 (rows, columns, 3); None if there is none.

    Raises:
        Damaged: if it cannot be read.
    """
    if not file.exists():
        return None
    try:
        with Image.open(file) as film:
            return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
    except (OSError, EOFError, SyntaxError, ValueError) as error:  # Pillow's, of broken files
        raise Damaged(f"{file} cannot be read: {type(error).__name__}: {error}") from error
