"""The reverse chain as an animated GIF, small enough for a page."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from bench.pictures.sheets import tile
from bench.store.files import write_bytes

FILM_SCALE = 4  # pixels of a film for one of an image
FILM_FRAMES = 24  # at most: the file grows with them, and viewers slow down what is shown for less than 20 ms
_FILM_SECONDS, _HELD_SECONDS = 2.0, 1.5  # of the chain, of its last frame
_FILM_GREYS = 32  # levels: the fewer, the smaller the file


def save_film(frames: Sequence[Tensor], path: Path, columns: int = 4, scale: int = FILM_SCALE) -> None:
    """An animated GIF of the reverse chain: 2 s from noise to images, which then stand for 1.5 s; it loops.

    Of more than `FILM_FRAMES` frames evenly spaced ones are taken, the first and the last among them.

    Args:
        frames: uint8 (N, C, H, W) each, in the order shown.
        columns, scale: see `tile`.
    Raises:
        ValueError: without a frame.
    """
    if not frames:
        raise ValueError("a film needs a frame at least")
    shown = np.linspace(0, len(frames) - 1, min(len(frames), FILM_FRAMES)).round().astype(int)
    first, *rest = [_paletted(frames[number], columns, scale) for number in shown]
    ends = np.linspace(0, 100 * _FILM_SECONDS, len(shown)).round().astype(int)  # a GIF counts in hundredths
    durations = [*(10 * np.diff(ends)).tolist(), round(1000 * _HELD_SECONDS)]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)
    write_bytes(path, buffer.getvalue())


def _paletted(images: Tensor, columns: int, scale: int) -> Image.Image:
    """Images as one tiled picture of at most 256 colours, `_FILM_GREYS` greys if they have one channel."""
    picture = tile(images, columns, scale)
    if images.shape[1] != 1:
        return Image.fromarray(picture).quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    levels = np.linspace(0, 255, _FILM_GREYS).round().astype(np.uint8)
    grey = Image.fromarray((picture[..., 0].astype(int) * _FILM_GREYS // 256).astype(np.uint8)).convert("P")
    grey.putpalette(np.repeat(levels, 3).tobytes())
    return grey
