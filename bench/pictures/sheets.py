"""Sheets of images, pixel by pixel: samples in a grid, a row a class, pairs."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bench.pictures.style import save
from bench.store.files import write_bytes

Colours = Literal["grey", "viridis"]

_SHEET_DPI = 128  # a power of two, so that inches are whole pixels


def sample_sheet(images: Tensor, path: Path, columns: int = 8, scale: int = 3, colours: Colours = "grey") -> None:
    """A PNG of uint8 images (N, C, H, W) in a grid, each pixel `scale` pixels wide, a grey line between images.

    Args:
        colours: see `coloured`.
    """
    Image.fromarray(tile(coloured(images, colours), columns, scale)).save(buffer := io.BytesIO(), "PNG")
    write_bytes(path, buffer.getvalue())


def coloured(images: Tensor, colours: Colours) -> Tensor:
    """Images, uint8 (N, C, H, W); "viridis" gives one-channel ones the colours of matplotlib's imshow, (N, 3, H, W).

    Levels 0 .. 255 take the whole range of colours; three-channel images are left as they are.

    Raises:
        ValueError: for another name of colours.
    """
    if colours not in ("grey", "viridis"):
        raise ValueError(f'colours must be "grey" or "viridis", got {colours!r}')
    if colours == "grey" or images.shape[1] != 1:
        return images
    table = torch.from_numpy(colormaps["viridis"](np.arange(256), bytes=True)[:, :3].copy())
    return table[images[:, 0].long()].permute(0, 3, 1, 2)


def class_sheet(
    images: Tensor, labels: Tensor, class_names: Sequence[str], path: Path, per_class: int = 8, scale: int = 3
) -> None:
    """A PNG with a row a class: its name and the first `per_class` images of that label, blank where there are fewer.

    Args:
        images: uint8 (N, C, H, W).
        labels: (N,) classes asked for, 0 .. K-1.
        class_names: K names.
    Raises:
        ValueError: unless there is a label for each image.
    """
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images, but {len(labels)} labels")
    rows = [images[labels == k][:per_class] for k in range(len(class_names))]
    _save_rows(rows, class_names, per_class, scale, path)


def rows_sheet(rows: Mapping[str, Tensor], path: Path, scale: int = 3) -> None:
    """A PNG with a named row of images each, uint8 (N, C, H, W), N the same or fewer in some."""
    _save_rows(list(rows.values()), list(rows), max(map(len, rows.values())), scale, path)


def pairs_sheet(
    above: Tensor,
    below: Tensor,
    path: Path,
    names: tuple[str, str] = ("real", "decoded"),
    columns: int = 8,
    scale: int = 3,
) -> None:
    """A PNG of images, each above its partner, `columns` pairs a line.

    Args:
        above, below: uint8 (N, C, H, W), N of at least 1.
        names: of the two rows.
    Raises:
        ValueError: if their shapes differ.
    """
    if above.shape != below.shape:
        raise ValueError(f"images of shape {tuple(above.shape)} and of {tuple(below.shape)} are no pairs")
    columns = min(columns, len(above))
    pairs = [images.split(columns) for images in (above, below)]
    rows = [row for pair in zip(*pairs, strict=True) for row in pair]
    _save_rows(rows, list(names) * len(pairs[0]), columns, scale, path)


def _save_rows(rows: Sequence[Tensor], names: Sequence[str], columns: int, scale: int, path: Path) -> None:
    """Write rows of at most `columns` images pixel by pixel, with a name at the left of each."""
    whole = torch.cat([filled(row, columns) for row in rows])
    picture = tile(whole, columns, scale, line=scale, colour=255)
    high, wide = picture.shape[:2]
    margin = 14 + 8 * max(map(len, names))
    figure = Figure(figsize=((wide + margin) / _SHEET_DPI, high / _SHEET_DPI))
    axes = figure.add_axes((margin / (wide + margin), 0, wide / (wide + margin), 1))
    axes.set_axis_off()
    axes.imshow(picture, interpolation="nearest", aspect="auto")
    size = min(7.0, 0.7 * high / len(names) * 72 / _SHEET_DPI)
    for row, name in enumerate(names):
        place: dict[str, Any] = {"ha": "right", "va": "center"}
        figure.text((margin - 6) / (wide + margin), 1 - (row + 0.5) / len(names), name, fontsize=size, **place)
    save(figure, path, dpi=_SHEET_DPI)


def filled(images: Tensor, count: int) -> Tensor:
    """The images, with white ones behind them up to `count`."""
    return torch.cat([images, images.new_full((count - len(images), *images.shape[1:]), 255)])


def tile(images: Tensor, columns: int, scale: int = 1, line: int = 1, colour: int = 110) -> NDArray[np.uint8]:
    """Images, uint8 (N, 1 or 3, H, W), as one picture, uint8 (rows, columns, 3), from left to right, then down.

    Args:
        scale: pixels of the picture for one of an image.
        line: width of the line between images, in pixels of the picture.
        colour: grey level of the lines and of empty places.
    """
    n, _, h, w = images.shape
    rows, high, wide = -(-n // columns), h * scale + line, w * scale + line
    canvas = np.full((rows * high + line, columns * wide + line, 3), colour, dtype=np.uint8)
    large = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    for number, picture in enumerate(large.numpy()):
        top, left = (number // columns) * high + line, (number % columns) * wide + line
        canvas[top : top + h * scale, left : left + w * scale] = picture
    return canvas
