"""How images come to be: moments of each scheme's reverse chain, from noise to image."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from bench.pictures.axes import write
from bench.pictures.film import FILM_SCALE
from bench.pictures.style import NotApplicable, save
from bench.report.figures.layout import DPI, PAGE, SIZE, SMALL, Room, page
from bench.report.figures.samples import schemes_shown, seed_note
from bench.report.figures.widths import shorten
from bench.report.results import Cell, Results
from bench.store.files import Damaged

MOMENTS = 10
_TWO_IMAGES = 5  # up to so many schemes have two images below one another
_NAME = 1.25  # inches


def films(results: Results, *paths: Path) -> None:
    """A strip a scheme: the first images at evenly spaced moments of the reverse chain.

    Raises:
        NotApplicable: if no finished cell has its film.
    """
    shown = schemes_shown(results)
    images = 2 if len(shown.groups) <= _TWO_IMAGES else 1
    strips = {group: strip for group in shown.groups if (strip := _strip(group.done[0], images)) is not None}
    if not strips:
        raise NotApplicable("no finished cell that would be shown has its film.gif")
    lost = [group.strategy for group in shown.groups if group not in strips]
    notes = [f"{MOMENTS} moments of the reverse chain, {seed_note(strips)}; film.gif of a cell has all of them"]
    notes += [f"without film.gif: {', '.join(dict.fromkeys(lost))}"] if lost else []
    wide = PAGE - _NAME - 0.2
    shape = next(iter(strips.values())).shape
    high = wide * shape[0] / shape[1]
    room = Room(left=_NAME + 0.1, above=0.0, high=high, below=0.09, head=0.18, foot=0.02)
    figure, panels = page(len(strips), 1, room, {}, [*notes, *shown.notes])
    for (axes,), (group, strip) in zip(panels, strips.items(), strict=True):
        axes.set_axis_off()
        axes.imshow(strip, interpolation="none", aspect="auto")
        top = (1 - axes.get_position().y1) * figure.get_size_inches()[1] + high / 2
        names = [shorten(group.strategy, _NAME, SIZE), shorten(group.split, _NAME, SIZE)]
        write(figure, _NAME + 0.04, top, "\n".join(filter(None, names)), ha="right", va="center", fontsize=SIZE)
    place: dict[str, Any] = {"va": "bottom", "fontsize": SMALL, "color": "#555555"}
    write(figure, _NAME + 0.1, 0.14, "noise", **place)
    write(figure, PAGE - 0.08, 0.14, "image", ha="right", **place)
    save(figure, *paths, dpi=DPI)


def _strip(cell: Cell, images: int) -> NDArray[np.uint8] | None:
    """The film's first images below one another, uint8 (rows, columns, 3), moments from left to right; None without."""
    frames = film_frames(cell.folder.path / "film.gif")
    if frames is None:
        return None
    size = cell.config["data"]["size"] * FILM_SCALE
    kept = np.linspace(0, len(frames) - 1, MOMENTS).round().astype(int)
    return np.concatenate([_cut(frames[number], size, images) for number in kept], axis=1)


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
    except (OSError, EOFError, SyntaxError, ValueError) as error:  # Pillow's, of damaged files
        raise Damaged(f"{file} cannot be read: {type(error).__name__}: {error}") from error


def _cut(frame: NDArray[np.uint8], size: int, count: int) -> NDArray[np.uint8]:
    """The first images of the film's first column, with white lines between."""
    images = [frame[1 + k * (size + 1) : 1 + k * (size + 1) + size, 1 : 1 + size] for k in range(count)]
    whole = [image for image in images if image.shape[:2] == (size, size)]
    padded = [np.pad(image, ((0, 4), (0, 4), (0, 0)), constant_values=255) for image in whole]
    return np.concatenate(padded, axis=0)
