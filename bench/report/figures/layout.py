"""The page of a figure: its size, its legend and how it looks. Matplotlib's constrained layout places what is on it.

A figure is as wide as a column or as the text and no higher than a page; what does not fit goes on in another figure.
"""

import math
import textwrap
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib import rc_params_from_file, rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from numpy.typing import NDArray

from bench.config.errors import ConfigError
from bench.report.paging import filled

T = TypeVar("T")
Settings = dict[Any, Any]  # of matplotlib, by name
COLUMN, TEXT, HIGHEST = 3.3, 6.8, 8.9  # inches: a column's width, the text's, and a page's height
AROUND = 0.15  # inches, around all rows of a page
MOST_PAGES = 2  # of a figure
NAME = 30  # letters of a name, at most

LOOK: Settings = {
    "font.size": 7,
    **dict.fromkeys(
        [
            "axes.titlesize",
            "axes.labelsize",
            "xtick.labelsize",
            "ytick.labelsize",
            "legend.fontsize",
            "figure.titlesize",
        ],
        "medium",  # which is font.size
    ),
    "axes.titlepad": 2.5,
    "axes.labelpad": 1.5,
    **{f"{axis}tick.major.{part}": size for axis in "xy" for part, size in (("size", 2), ("pad", 1.5))},
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.0,
    "lines.markersize": 2.8,
    "legend.frameon": False,
    "legend.labelspacing": 0.35,
    "legend.columnspacing": 1.2,
    "legend.handlelength": 3.2,
    "savefig.dpi": 200,
    **{f"figure.constrained_layout.{key}": pad for key, pad in (("w_pad", 0.03), ("h_pad", 0.03))},
}
# Names of a grid are no formulas, and sizes are those above.
FIXED: Settings = {
    "text.parse_math": False,
    "text.usetex": False,
    "savefig.bbox": None,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
}
Legend = Sequence[tuple[str, Artist]]


def read_style(file: Path) -> Settings:
    """The settings of a matplotlib style sheet.

    Raises:
        ConfigError: if it cannot be read, or a line of it is no setting of matplotlib's.
    """
    try:
        lines = [line.split("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise ConfigError(f"--style {file}: there is no such file") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"--style {file}: cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if line and (":" not in line or line.split(":")[0].strip() not in rcParams):
            raise ConfigError(f"--style {file}, line {number}: {line!r} is no setting of matplotlib's, as font.size: 8")
    try:
        found = rc_params_from_file(file, fail_on_error=True, use_default_template=False)
    except ValueError as error:
        raise ConfigError(f"--style {file}: {error}") from error
    if ignored := [key for key, value in FIXED.items() if found.get(key, value) != value]:
        warnings.warn(f"--style {file}: {', '.join(ignored)} is not taken: names and sizes rest on it", stacklevel=2)
    return {key: found[key] for key in found if key != "backend"}


def page(
    rows: int, columns: int, each: float, legend: Legend = (), width: float = TEXT, **settings: Any
) -> tuple[Figure, NDArray[Any]]:
    """A figure with axes (rows, columns), each row `each` inches high with its titles, and a legend above."""
    figure = blank(rows * each + AROUND, legend, width)
    return figure, figure.subplots(rows, columns, squeeze=False, **settings)


def tiles(count: int, across: int, each: float, legend: Legend = (), width: float = TEXT) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes, so many side by side."""
    figure, grid = page(-(-count // across), across, each, legend, width)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, list(grid.flat[:count])


def blank(high: float, legend: Legend = (), width: float = TEXT) -> Figure:
    """A figure with `high` inches below its legend, at most a page."""
    columns, above = _legend_size(legend, width)
    figure = Figure(figsize=(width, min(high + above, HIGHEST)), layout="constrained")
    if legend:
        names, handles = zip(*legend, strict=True)
        figure.legend(handles, names, ncols=columns, loc="outside upper center", borderpad=0.1)
    return figure


def settle(figure: Figure) -> None:
    """Place what is on a figure once, and not again for every file that it is written to."""
    for axis in (axis for axes in figure.findobj(Axes) for axis in (axes.xaxis, axes.yaxis)):
        if not axis.get_label_text():
            axis.set_label_coords(0, 0)  # else matplotlib seeks a place for it below all tick labels, again and again
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    figure.set_layout_engine(None)


def fitting(each: float, legend: Legend = (), width: float = TEXT) -> int:
    """How many rows of `each` inches fit on a page below a legend."""
    return max(1, int((room(legend, width) - AROUND) / each))


def room(legend: Legend, width: float = TEXT) -> float:
    """Inches of a page below a legend."""
    return HIGHEST - _legend_size(legend, width)[1]


def _legend_size(legend: Legend, width: float) -> tuple[int, float]:
    """The number of columns that fit into the width, and inches of the lines."""
    if not legend:
        return 0, 0.0
    size = FontProperties(size=rcParams["legend.fontsize"]).get_size_in_points() / 72
    texts = Figure(dpi=72)
    names = [texts.text(0, 0, name, fontsize=72 * size).get_window_extent().width / 72 for name, _ in legend]
    spaces = rcParams["legend.handlelength"] + rcParams["legend.handletextpad"] + rcParams["legend.columnspacing"]
    columns = min(len(legend), max(1, int(width / (max(names) + spaces * size))))
    return columns, (1.2 + rcParams["legend.labelspacing"]) * size * math.ceil(len(legend) / columns) + 0.08


def pages(rows: Sequence[T], most: int) -> list[Sequence[T]]:
    """Rows by page, about as many on each and at most `most`; what needs more than `MOST_PAGES` is left out."""
    shown = rows[: most * MOST_PAGES]
    count = math.ceil(len(shown) / most)
    borders = [round(k * len(shown) / count) for k in range(count + 1)] if count else []
    return [shown[a:b] for a, b in pairwise(borders)]


def stacked(blocks: Sequence[T], heights: Sequence[float], most: float) -> list[list[T]]:
    """Blocks by page, on as few as can be and about as high on each; at most `MOST_PAGES`."""
    count = len(filled(heights, most))
    limits = np.linspace(sum(heights) / count, most, 20)  # `evened` would take too long for hundreds of blocks
    runs = next(even for limit in limits if len(even := filled(heights, limit)) == count)
    return [[blocks[k] for k in run] for run in runs[:MOST_PAGES] if run]


def left_out(count: int, what: str = "row") -> str:
    """E.g. ``2 more rows are not shown``; "" for none."""
    return f"{count} more {what}{' is' if count == 1 else 's are'} not shown" if count > 0 else ""


def short_name(text: str, most: int = NAME) -> str:
    """A name without its middle, if it has more than so many letters."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2 - 1) :]}"


def wrapped(text: str, letters: int) -> str:
    """A text in three lines at most; where it needs more, what stands between its commas is shortened."""
    lines = textwrap.wrap(text, letters)
    if len(lines) > 3:
        *parts, last = (short_name(part, letters - 1) for part in text.split(", "))
        lines = [*(f"{part}," for part in parts), last]
    if len(lines) > 3:
        lines = textwrap.wrap(" ".join(lines), letters, max_lines=3, placeholder=" …")
    return "\n".join(lines)


def head(axes: Axes, text: str) -> None:
    """A name above a row of panels, left; its height counts for the layout, but not its width."""
    if text:
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
        axes.annotate(text, (0, 1), (0, 2.5), weight="bold", in_layout=False, **place)
        axes.set_title("\n".join(" " * (text.count("\n") + 1)), loc="right")  # a title of its height


def side_name(axes: Axes, text: str, **settings: Any) -> None:
    """The name of a row, left of its first panel."""
    axes.set_ylabel(text, rotation=0, ha="right", va="center", labelpad=4, **settings)
