"""The overview by recipe: a row each with held-out loss, FID and samples of what is compared."""

import itertools
import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from bench.config.grid_file import FEDERATED_ONLY
from bench.config.names import split_name, value_text
from bench.pictures.sheets import filled, tile
from bench.pictures.style import COLOURS, DASHES, FLOOR, MARKERS, REFERENCE, Style, literal, save
from bench.report.curves import Array
from bench.report.figures.layout import heights
from bench.report.figures.overview_parts import ROWS_SHOWN, draw_curve, finish_axes, loss_line, three_digits
from bench.report.lines import seeds_note
from bench.report.results import UNFINISHED, Cell, Group, Results

STRIPS = {1: (1, 10), 2: (2, 9), 3: (2, 5), 4: (2, 4)}  # by how many are compared: lines and columns of samples
_WIDTH = 10.6  # inches, of the picture
_BESIDE: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
_NUMBER = 0.58  # inches, of a row's FID
_EVERY = 1.16  # of the height of a recipe's row, from one to the next


@dataclass(frozen=True)
class Row:
    """What is compared under one recipe, or at one point of further axes.

    Attributes:
        name: e.g. ``cosine-guided``.
        groups: those compared, in the columns' order; one without cells where none was planned.
        weights: ids of the trainings; rows that differ in their sampling alone share them.
        scale: what must be equal for held-out losses to compare.
    """

    name: str
    groups: tuple[Group, ...]
    weights: tuple[str, ...]
    scale: str


def comparison(results: Results) -> tuple[list[str], list[Row]]:
    """Columns (what is compared: strategy, n_clients, beta) and rows (further axes), in the plan's order.

    Centralized training stands in all rows that differ only in what means nothing to it. Rows of which nothing is
    finished are left out.
    """
    axes, cells = results.extra_axes, results.cells
    own = [axis for axis in axes if axis not in FEDERATED_ONLY]
    federated = {_point(cell, own) for cell in cells if not cell.central}
    points = [_point(cell, axes) for cell in cells if not cell.central or _point(cell, own) not in federated]
    compared = list(dict.fromkeys(_column(cell) for cell in sorted(cells, key=lambda cell: not cell.central)))
    rows = []
    for point in dict.fromkeys(points):
        here = [cell for cell in cells if set(_point(cell, own if cell.central else axes)) <= set(point)]
        rows.append(_row(point, here, compared))
    return compared, [row for row in rows if row.weights]


def _point(cell: Cell, axes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Where the cell stands on the axes, with values as texts."""
    return tuple((axis, value_text(cell.labels[axis])) for axis in axes)


def _column(cell: Cell) -> str:
    """The column of a cell, e.g. ``fedavg`` and, on a second line, ``n = 5, β = 0.1``."""
    split = split_name({key: cell.labels[key] for key in ("n_clients", "beta")})
    return "\n".join(part for part in (cell.strategy, split) if part)


def _row(point: Sequence[tuple[str, str]], cells: Sequence[Cell], compared: Sequence[str]) -> Row:
    by_column: dict[str, list[Cell]] = {}
    for cell in cells:
        by_column.setdefault(_column(cell), []).append(cell)
    groups = [Group(tuple(by_column.get(column, ()))) for column in compared]
    config = cells[0].config
    noise = [config["diffusion"]["schedule"], config["diffusion"]["T"], config["latent"]["mode"], config["data"]]
    lines = [value if axis == "recipe" else f"{axis} = {value}" for axis, value in point]
    name = "\n".join(part for line in lines for part in textwrap.wrap(line, 28))
    weights = tuple(cell.planned.train_id for group in groups for cell in group.done)
    return Row(name, tuple(groups), weights, json.dumps(noise))


def draw_recipes(results: Results, compared: Sequence[str], rows: Sequence[Row], *paths: Path) -> None:
    """A row a recipe: its name, losses, FID of all that is compared on one axis, and samples with their FID."""
    shown, styles = rows[:ROWS_SHOWN], _column_styles(rows, compared)
    left = 0.5 + 0.068 * max(len(line) for row in shown for line in row.name.split("\n"))
    each = (_WIDTH - left - 3.05) / len(compared)
    widths = [1.15, 0.2, 1.6, *[_NUMBER, each - _NUMBER] * len(compared)]
    titles = [
        [line for part in name.split("\n") for line in textwrap.wrap(part, int(each / 0.09))] for name in compared
    ]
    inches = {"above": 0.42 + 0.15 * max(map(len, titles)), "rows": 0.58 * len(shown), "below": 0.68}
    high = sum(inches.values())
    figure = Figure(figsize=(_WIDTH, high))
    grid = figure.add_gridspec(
        len(shown),
        len(widths),
        width_ratios=widths,
        left=left / _WIDTH,
        right=1 - 0.1 / _WIDTH,
        bottom=inches["below"] / high,
        top=1 - inches["above"] / high,
        wspace=0,
        hspace=_EVERY - 1,
    )
    dots = figure.add_subplot(grid[:, 2])
    _draw_dots(dots, shown, styles)
    for row, place in zip(shown, dots.get_yticks(), strict=True):
        named: dict[str, Any] = {"xycoords": ("figure fraction", "data"), "ha": "right", "va": "center", "fontsize": 8}
        dots.annotate(literal(row.name), ((left - 0.33) / _WIDTH, place), annotation_clip=False, **named)
    _draw_row_curves(figure, grid, shown, styles)
    for place, title in enumerate(titles):
        strips = [figure.add_subplot(grid[number, 4 + 2 * place]) for number in range(len(shown))]
        _draw_strips(strips, shown, place, STRIPS[len(compared)])
        style: dict[str, Any] = {"fontsize": 9, "color": styles[place].colour, "weight": "bold"}
        strips[0].annotate(literal("\n".join(title)), (0, 1), (-60 * _NUMBER, 4), va="bottom", **style, **_BESIDE)
    _draw_legend(figure, compared, styles, any(len(_of(row, "reconstruction_fid")) for row in shown))
    note = "held-out losses compare within one noise schedule, and not between pixels and latents"
    texts = [note] * (len({row.scale for row in shown}) > 1)
    texts += [f"{len(rows) - ROWS_SHOWN} more rows are not shown"] * (len(rows) > ROWS_SHOWN) + results.unfinished()
    bands = seeds_note([line for row in shown for group in row.groups if (line := loss_line(group)) is not None])
    texts += [bands] * bool(bands)
    figure.text(0.01, 0.06 / high, "; ".join(texts), va="bottom", fontsize=7, color="#555555")
    save(figure, *paths)


def _of(row: Row, metric: str) -> Array:
    """The metric of all of a row's cells that have it."""
    return np.concatenate([group.scores(metric) for group in row.groups])


def _column_styles(rows: Sequence[Row], compared: Sequence[str]) -> list[Style]:
    """Of the columns: black diamonds for centralized training."""
    styles: list[Style] = []
    for place in range(len(compared)):
        number = sum(style.colour != REFERENCE for style in styles)
        if any(row.groups[place].central for row in rows):
            styles.append(Style(REFERENCE, DASHES[0], "D"))
        else:
            styles.append(Style(COLOURS[number], DASHES[(number + 1) % len(DASHES)], MARKERS[number]))
    return styles


def _draw_row_curves(figure: Figure, grid: GridSpec, rows: Sequence[Row], styles: Sequence[Style]) -> None:
    """Held-out loss by round, once for neighbours of the same weights; a later row of the same names the first."""
    drawn: list[tuple[Axes, Row]] = []
    first: dict[tuple[str, ...], str] = {}
    groups = [list(group) for _, group in itertools.groupby(enumerate(rows), key=lambda pair: pair[1].weights)]
    for group in groups:
        (top, row), bottom = group[0], group[-1][0]
        axes = figure.add_subplot(grid[top : bottom + 1, 0])
        if row.weights in first:
            axes.set_axis_off()
            told = literal(f"as\n{first[row.weights]}")
            axes.text(0.5, 0.5, told, ha="center", va="center", fontsize=6.5, color="#555555")
            continue
        first[row.weights] = row.name
        last = bottom
        for member, style in zip(row.groups, styles, strict=True):
            if (curve := draw_curve(axes, member, style)) is not None:
                curve.set(marker="" if len(np.asarray(curve.get_xdata())) > 1 else "o", linewidth=1.5)
        drawn.append((axes, row))
    scales: dict[str, list[float]] = {}
    for axes, row in drawn:
        finish_axes(axes, below=axes is drawn[-1][0])
        axes.tick_params(labelsize=6, pad=1.5)
        axes.set_xlabel("round" if axes is drawn[-1][0] and last == len(rows) - 1 else "", fontsize=8, labelpad=2)
        ends = heights([line for group in row.groups if (line := loss_line(group)) is not None])
        scales.setdefault(row.scale, []).extend(ends or axes.get_ylim())
    for axes, row in drawn:
        axes.set_ylim(low := min(scales[row.scale]) / 1.05, high := max(scales[row.scale]) * 1.05)
        axes.yaxis.set_major_locator(FixedLocator(_few_ticks(low, high)))
        axes.yaxis.set_minor_locator(NullLocator())
    drawn[0][0].set_title("held-out loss", fontsize=9, pad=4)


def _few_ticks(low: float, high: float) -> list[float]:
    """From two to four values between `low` and `high`, 1, 2 and 5 of the decades if there are enough of them."""
    even = [10.0**k * sub for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high))) for sub in (1, 2, 5)]
    ticks = [tick for tick in even if low <= tick <= high]
    if len(ticks) < 2:
        ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    return ticks if len(ticks) <= 4 else [ticks[0], ticks[len(ticks) // 2], ticks[-1]]


def _draw_dots(axes: Axes, rows: Sequence[Row], styles: Sequence[Style]) -> None:
    """FID of each row: a mark for each that is compared, a thin line over its seeds, and what floor there is."""
    places = 0.5 + _EVERY * np.arange(len(rows))
    for place, row in zip(places, rows, strict=True):
        found = [group.scores("fid") for group in row.groups]
        means = [known.mean() for known in found if len(known)]
        if means:
            axes.plot([min(means), max(means)], [place, place], color="#CCCCCC", lw=2.5, zorder=1)
        for known, style in zip(found, styles, strict=True):
            if len(known):
                axes.plot([known.min(), known.max()], [place, place], color=style.colour, lw=0.9, zorder=2)
                axes.plot(known.mean(), place, style.marker, color=style.colour, markersize=5.5, zorder=3)
        floor = _of(row, "reconstruction_fid")
        axes.plot(floor, np.full(len(floor), place), "|", color=FLOOR, markersize=11, mew=1.6, zorder=2)
    if (real := _real_fid(rows)) is not None:
        axes.axvline(real, color=FLOOR, lw=1.2, ls=":", zorder=1)
    axes.set_ylim(places[-1] + 0.5, 0)
    axes.set_yticks(places, [])
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 100 else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=8, left=False)
    axes.grid(alpha=0.3, lw=0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("FID, lower is better", fontsize=8, labelpad=2)


def _real_fid(rows: Sequence[Row]) -> float | None:
    """What real images score, if all cells were judged by the same ones."""
    results = [cell.result for row in rows for group in row.groups for cell in group.done if cell.result]
    found = {result.floor.get("fid") for result in results}
    return found.pop() if len(found) == 1 else None


def _draw_strips(strips: Sequence[Axes], rows: Sequence[Row], place: int, shape: tuple[int, int]) -> None:
    """The first samples of each row in one column, in `shape` (lines, columns), their FID at the left, lowest bold."""
    found = [row.groups[place].scores("fid") for row in rows]
    best = min((known.mean() for known in found if len(known)), default=np.nan)
    for axes, row, known in zip(strips, rows, found, strict=True):
        axes.set_axis_off()
        axes.set_anchor("W")
        group, count = row.groups[place], shape[0] * shape[1]
        images = group.done[0].images(count) if group.done else None
        if images is not None:
            images = filled(images, count)
            axes.imshow(tile(images, shape[1], scale=4, line=4, colour=255), interpolation="nearest", aspect="equal")
        else:
            told = "samples.safetensors was removed" if group.done else _state(group)
            axes.text(0.0, 0.5, told, transform=axes.transAxes, va="center", fontsize=7, color="#555555")
        if len(known):
            text = three_digits(known.mean()) + (f"\n±{known.std(ddof=1):.2g}" if len(known) > 1 else "")
            weight = "bold" if known.mean() == best else "normal"
            axes.annotate(text, (0, 0.5), (-5, 0), fontsize=8, weight=weight, ha="right", va="center", **_BESIDE)


def _state(group: Group) -> str:
    """What became of an unfinished cell; "" where none was planned."""
    return next((UNFINISHED.get(cell.state, cell.state) for cell in group.cells if not cell.done), "")


def _draw_legend(figure: Figure, compared: Sequence[str], styles: Sequence[Style], latents: bool) -> None:
    handles = [Line2D([], [], color=style.colour, ls=style.dash, marker=style.marker, markersize=5) for style in styles]
    handles.append(Line2D([], [], color=FLOOR, ls=":", lw=1.2))
    handles.append(Line2D([], [], color=FLOOR, ls="", marker="|", markersize=10, mew=1.6))
    names = [
        *(literal(name.replace("\n", ", ")) for name in compared),
        "FID of real images",
        *["FID of the autoencoder"] * latents,
    ]
    columns = min(len(names), 5)
    place: dict[str, Any] = {"loc": "upper left", "ncols": columns, "frameon": False, "fontsize": 8}
    figure.legend(handles[: len(names)], names, borderaxespad=0.3, **place)
