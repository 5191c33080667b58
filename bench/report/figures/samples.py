"""Generated images: sheets in the colours of the paper's figures 5 and 6, strategies by split, moments of the reverse
chain; and the classes of the images.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from torch import Tensor

from bench.pictures.film import FILM_SCALE
from bench.pictures.style import REFERENCE, Array, NotApplicable
from bench.report.figures import panels
from bench.report.figures.captions import Caption, Picture, paged
from bench.report.figures.compared import Compared, compared
from bench.report.figures.layout import COLUMN, TEXT, fitting, page, pages, side_name, tiles, wrapped
from bench.report.results import Cell, Group, Results
from bench.report.stats import half_width
from bench.store.files import Damaged

SHEET = 4  # images, across and down
COLUMNS = 4  # splits side by side
MOMENTS = 10  # of a reverse chain
_SHEET, _STRIP, _BARS = 1.95, 0.68, 0.62  # inches of a row


def _schemes(shown: Compared) -> list[Group]:
    """What has a sheet or a strip each: centralized training first, then the strategies that stand out."""
    groups = [g for split in shown.splits for g in split.groups if g.strategy in shown.leading]
    return sorted(dict.fromkeys(groups), key=lambda group: not group.central)


def _seeds(groups: Iterable[Group]) -> str:
    """Which seed is shown: the first that is finished."""
    seeds = sorted({group.done[0].labels["seed"] for group in groups})
    return f"seed {', '.join(map(str, seeds))}" + (": not all from the same noise" if len(seeds) > 1 else "")


def _check(found: Iterable[Tensor | None]) -> None:
    if all(images is None for images in found):
        raise NotApplicable("samples.safetensors was removed from every cell that would be shown")


def _names(shown: Compared, group: Group, letters: int) -> str:
    names = [shown.name(group.strategy), shown.place(group)]
    return "\n".join(wrapped(name, letters) for name in names if name)


def samples(results: Results) -> list[Picture]:
    """A sheet of the first images a scheme, grey levels in viridis colours.

    Raises:
        NotApplicable: if no finished cell has its images.
    """
    shown = compared(results)
    schemes = _schemes(shown)
    width, across = (COLUMN, 2) if len(schemes) <= 2 else (TEXT, 4)
    found = {group: group.done[0].images(SHEET**2) for group in schemes}
    _check(found.values())

    def draw(groups: Sequence[Group]) -> Figure:
        figure, places = tiles(len(groups), across, _SHEET, width=width)
        for axes, group in zip(places, groups, strict=True):
            axes.set_title(_names(shown, group, 24))
            panels.images(axes, found[group], SHEET, "viridis")
        return figure

    notes = [f"the first {SHEET**2} images of each, {_seeds(schemes)}", shown.not_shown()]
    caption = Caption("Generated images", notes, "scheme")
    return paged(results, caption, schemes, pages(schemes, across * fitting(_SHEET)), draw)


# ------------------------------------------------------------------------------------------------ strategies by split


def _table(
    shown: Compared, title: str, each: float, notes: Sequence[str], draw: Callable[[Axes, Group | None, int], None]
) -> list[Picture]:
    """A row a strategy, a column a split; `draw` is given the group (None where none is finished) and the columns."""
    here = {(group.strategy, split.name): group for split in shown.splits for group in split.groups}
    columns = pages([split.name for split in shown.splits], COLUMNS)
    rows = [[label for label in shown.leading if any((label, name) in here for name in names)] for names in columns]
    figures = []
    for names, part in (
        (names, part) for names, labels in zip(columns, rows, strict=True) for part in pages(labels, fitting(each))
    ):
        figure, grid = page(len(part), len(names), each)
        for (row, label), (column, name) in product(enumerate(part), enumerate(names)):
            draw(grid[row, column], here.get((label, name)), len(names))
        for axes, label in zip(grid[:, 0], part, strict=True):
            central = shown.styles[label].colour == REFERENCE
            side_name(axes, shown.name(label), weight="bold" if central else "normal")
        for axes, name in zip(grid[0], names, strict=True):
            axes.set_title(wrapped(name, 100 // len(names)))
        figures.append(figure)
    caption = Caption(title, [*notes, shown.not_shown()], "split")
    text = caption.text(shown.results, len(shown.splits) - sum(map(len, columns)))
    return [Picture(figure, text) for figure in figures]


def samples_grid(results: Results) -> list[Picture]:
    """Strategies by split: the first images of each, those below one another from the same noise.

    Raises:
        NotApplicable: if no finished cell has its images.
    """
    shown = compared(results)
    groups = list(
        dict.fromkeys(group for split in shown.splits for group in split.groups if group.strategy in shown.leading)
    )
    found = {group: group.done[0].images(12) for group in groups}
    _check(found.values())

    def draw(axes: Axes, group: Group | None, columns: int) -> None:
        count = min(12, 16 // columns)
        if group is None:
            panels.nothing(axes, "not finished")
        else:
            images = found[group]
            panels.images(axes, images if images is None else images[:count], count, count=count)

    note = f"images below one another stem from the same noise; {_seeds(groups)}"
    return _table(shown, "Generated images by strategy and split", 0.45, [note], draw)


def class_histograms(results: Results) -> list[Picture]:
    """Shares of the classes among the generated images, a row a strategy, a column a split; a line for the data's.

    Raises:
        NotApplicable: if no finished cell tells of its classes.
    """
    shown = compared(results)
    groups = [group for split in shown.splits for group in split.groups]
    found = {group: shares for group in groups if len(shares := generated(group))}
    if not found:
        raise NotApplicable("no finished cell tells which classes it generated")
    real = {group: _real(group, groups) for group in groups}
    ends = [shares.mean(axis=0) + _half(shares) for shares in found.values()]
    top = 1.05 * min(1.0, np.concatenate([*ends, *real.values()]).max())
    names = groups[0].done[0].class_names

    def draw(axes: Axes, group: Group | None, _: int) -> None:
        if group is None or group not in found:
            panels.nothing(axes, "not finished" if group is None else "not known")
        else:
            panels.bars(axes, found[group], _half(found[group]), real[group], shown.styles[group.strategy].colour)
        axes.set_ylim(0, top)
        axes.yaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        panels.class_axis(axes, names if max(map(len, names), default=3) <= 2 else ())
        axes.set_xlabel("class")
        axes.label_outer()

    several = any(len(shares) > 1 for shares in found.values())
    notes = ["bars: means over seeds with their 95 % t interval, within 0 and 1"] if several else []
    notes += ["line: shares of the training images"] if any(map(len, real.values())) else []
    return _table(shown, "Classes of the generated images: the share of each", _BARS, notes, draw)


def generated(group: Group) -> Array:
    """Shares of the classes (seeds, K) of those seeds that tell."""
    shares = [cell.result.class_histogram for cell in group.done if cell.result and cell.result.class_histogram]
    return np.array(shares, dtype=float)


def _real(group: Group, groups: Sequence[Group]) -> Array:
    """Shares of the classes in the training data (K,), of centralized training those of any client; (0,) if unknown."""
    cells = [cell for member in ([group] if not group.central else groups) for cell in member.done]
    return next((shares for cell in cells if (shares := cell.class_shares) is not None), np.empty(0))


def _half(shares: Array) -> Array:
    """Of the 95 % t interval of the means over seeds (K,); 0 for one seed."""
    seeds, K = shares.shape
    return half_width(shares.std(axis=0, ddof=1), np.full(K, seeds)) if seeds > 1 else np.zeros(K)


# ------------------------------------------------------------------------------------------------ films


def films(results: Results) -> list[Picture]:
    """A strip a scheme: the first images at evenly spaced moments of the reverse chain.

    Raises:
        NotApplicable: if no finished cell has its film.
    """
    shown = compared(results)
    schemes = _schemes(shown)
    strips = {group: strip for group in schemes if (strip := _strip(group.done[0])) is not None}
    if not strips:
        raise NotApplicable("no finished cell that would be shown has its film.gif")
    lost = dict.fromkeys(group.strategy for group in schemes if group not in strips)

    def draw(groups: Sequence[Group]) -> Figure:
        figure, grid = page(len(groups), 1, _STRIP)
        for (axes,), group in zip(grid, groups, strict=True):
            panels.picture(axes, strips[group])
            side_name(axes, _names(shown, group, 30))
        grid[0, 0].set_title("noise", loc="left")
        grid[0, 0].set_title("image", loc="right")
        return figure

    notes = [f"the first image at {MOMENTS} moments, from noise to the end, {_seeds(strips)}", shown.not_shown()]
    notes += [f"without film.gif: {', '.join(map(results.title, lost))}"] if lost else []
    rows = list(strips)
    caption = Caption("Images along the reverse chain", notes, "scheme")
    return paged(results, caption, rows, pages(rows, fitting(_STRIP)), draw)


def _strip(cell: Cell) -> NDArray[np.uint8] | None:
    """The film's first image, uint8 (rows, columns, 3), moments from left to right; None without a film."""
    frames = film_frames(cell.folder.path / "film.gif")
    if frames is None:
        return None
    size = cell.config["data"]["size"] * FILM_SCALE
    kept = np.linspace(0, len(frames) - 1, MOMENTS).round().astype(int)
    cut = [frames[number][1 : 1 + size, 1 : 1 + size] for number in kept]
    return np.concatenate([np.pad(image, ((0, 4), (0, 4), (0, 0)), constant_values=255) for image in cut], axis=1)


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
