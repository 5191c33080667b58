"""The overview by recipe: a row each with FID, validation loss and samples of what is compared."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.config.grid_file import FEDERATED_ONLY
from bench.config.names import AXES, axis_value, value_text
from bench.pictures.axes import key
from bench.pictures.style import COLOURS, DASHES, FLOOR, MARKERS, REFERENCE, Array, Style
from bench.report.figures import panels
from bench.report.figures.captions import Caption, Picture, paged
from bench.report.figures.compared import Compared, fixed_labels, known
from bench.report.figures.layout import Legend, blank, pages, room, side_name, wrapped
from bench.report.lines import Line, round_line, seeds_note
from bench.report.results import UNFINISHED, Cell, Group, Results

Point = tuple[tuple[str, str], ...]  # axes with the texts of their values
STRIPS = {1: (2, 12), 2: (2, 7), 3: (2, 4), 4: (2, 3)}  # by how many are compared: lines and columns of samples
_ROW, _AROUND = 0.5, 0.75  # inches of a row, and above and below them
_FLOORS: Legend = [
    ("FID of real images", Line2D([], [], color=FLOOR, ls=":", lw=1.2)),
    ("FID of the autoencoder", Line2D([], [], color=FLOOR, ls="", marker="|", markersize=10, mew=1.6)),
]


@dataclass(frozen=True)
class Row:
    """What is compared under one recipe, or at one point of further axes.

    Attributes:
        name: e.g. ``cosine-guided``.
        groups: those compared, in the columns' order; one without cells where none was planned.
        weights: ids of the trainings; rows that differ in their sampling alone share them.
        scale: what must be equal for losses to compare.
    """

    name: str
    groups: tuple[Group, ...]
    weights: tuple[str, ...]
    scale: str

    def lines(self) -> dict[str, Line]:
        """Of the validation loss, by the number of what is compared."""
        return known((str(k), round_line(group, "validation_loss")) for k, group in enumerate(self.groups))


def comparison(shown: Compared) -> tuple[list[str], list[Row]]:
    """Columns (what is compared: strategy, n_clients, beta) and rows (further axes), in the plan's order.

    Centralized training stands in all rows that differ only in what means nothing to it. Rows of which nothing is
    finished are left out.
    """
    axes, cells = shown.results.extra_axes, shown.results.cells
    own = [axis for axis in axes if axis not in FEDERATED_ONLY]
    federated = {_point(cell, own) for cell in cells if not cell.central}
    points = [_point(cell, axes) for cell in cells if not cell.central or _point(cell, own) not in federated]
    columns = {_compared(cell): _column(cell, shown) for cell in sorted(cells, key=lambda cell: not cell.central)}
    rows = []
    for point in dict.fromkeys(points):
        here = [cell for cell in cells if set(_point(cell, own if cell.central else axes)) <= set(point)]
        rows.append(_row(point, here, list(columns), shown.results))
    return list(columns.values()), [row for row in rows if row.weights]


def _point(cell: Cell, axes: Sequence[str]) -> Point:
    """Where the cell stands on the axes, with values as texts."""
    return tuple((axis, value_text(cell.labels[axis])) for axis in axes)


def _compared(cell: Cell) -> Point:
    """What a column is of."""
    return _point(cell, AXES)


def _column(cell: Cell, shown: Compared) -> str:
    """The title of a cell's column, e.g. ``FedAvg`` and, on a second line, ``n = 5, β = 0.1`` if these vary."""
    split = shown.place(Group((cell,)), shown.results.extra_axes)
    return "\n".join(filter(None, [axis_value(cell.strategy, cell.titles), split]))


def _row(point: Point, cells: Sequence[Cell], columns: Sequence[Point], results: Results) -> Row:
    by_column: dict[Point, list[Cell]] = {}
    for cell in cells:
        by_column.setdefault(_compared(cell), []).append(cell)
    groups = [Group(tuple(by_column.get(column, ()))) for column in columns]
    config = cells[0].config
    noise = [config["diffusion"]["schedule"], config["diffusion"]["T"], config["latent"]["mode"], config["data"]]
    fixed = fixed_labels(results)
    named = [(axis, results.title(value)) for axis, value in point if axis not in fixed]
    lines = [value if axis == "recipe" else f"{results.title(axis)} = {value}" for axis, value in named]
    name = "\n".join(wrapped(line, 28) for line in lines)
    weights = tuple(cell.planned.train_id for group in groups for cell in group.done)
    return Row(name, tuple(groups), weights, json.dumps(noise))


def draw_recipes(shown: Compared, columns: Sequence[str], rows: Sequence[Row]) -> list[Picture]:
    """A row a recipe: its name, FID of all that is compared on one axis, losses, and samples with their FID."""
    styles = column_styles(rows, columns)
    names = [", ".join(wrapped(line, 40) for line in column.split("\n")) for column in columns]
    legend: list[tuple[str, Artist]] = [(name, key(style)) for name, style in zip(names, styles.values(), strict=True)]
    legend += _FLOORS[: 1 + any(len(_of(row, "reconstruction_fid")) for row in rows)]
    each = max(_ROW, *(0.125 * (2 + row.name.count("\n")) + 0.05 for row in rows))

    def draw(part: Sequence[Row]) -> Figure:
        figure = blank(_AROUND + each * len(part), legend)
        _draw(figure, part, columns, styles, rows)
        return figure

    scales = len({row.scale for row in rows}) > 1
    notes = ["losses compare within one noise schedule, and not between pixels and latents"] * scales
    spread = " (± standard deviation)" if shown.results.repeated else ""
    notes += [f"beside the samples of the first seed their FID{spread}, the lowest of a page in bold"]
    notes += [seeds_note([line for row in rows for line in row.lines().values()])]
    caption = Caption("FID, validation loss by round and samples of each recipe", notes)
    return paged(shown.results, caption, rows, pages(rows, int((room(legend) - _AROUND) / each)), draw)


def column_styles(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, Style]:
    """Of the columns, by their number: black diamonds for centralized training."""
    styles: dict[str, Style] = {}
    for place in range(len(columns)):
        number = sum(style.colour != REFERENCE for style in styles.values())
        central = any(row.groups[place].central for row in rows)
        other = Style(COLOURS[number], DASHES[(number + 1) % len(DASHES)], MARKERS[number])
        styles[str(place)] = Style(REFERENCE, "-", "D") if central else other
    return styles


def _of(row: Row, metric: str) -> Array:
    """The metric of all of a row's cells that have it."""
    return np.concatenate([group.scores(metric) for group in row.groups])


def _draw(
    figure: Figure, rows: Sequence[Row], columns: Sequence[str], styles: dict[str, Style], every: Sequence[Row]
) -> None:
    """Draw a page; `every` row of all pages shares its scales."""
    grid = figure.add_gridspec(
        len(rows), 2 + len(columns), width_ratios=[1.1, 0.9, *[3.4 / len(columns)] * len(columns)]
    )
    _draw_dots(figure.add_subplot(grid[:, 0]), rows, styles, every)
    _draw_losses(figure, grid, rows, styles, every)
    for place, column in enumerate(columns):
        strips = [figure.add_subplot(grid[number, 2 + place]) for number in range(len(rows))]
        _draw_strips(strips, [row.groups[place] for row in rows], STRIPS[len(columns)])
        title = "\n".join(wrapped(line, 48 // len(columns)) for line in column.split("\n"))
        strips[0].set_title(title, loc="right", color=styles[str(place)].colour, weight="bold")


def _draw_dots(axes: Axes, rows: Sequence[Row], styles: dict[str, Style], every: Sequence[Row]) -> None:
    """FID of each row: a mark for each that is compared, a thin line over its seeds, and what floor there is."""
    fids = np.concatenate([_of(row, metric) for row in every for metric in ("fid", "reconstruction_fid")])
    real = _real_fid(every)
    fids = np.append(fids, [] if real is None else real)
    panels.rows(axes, len(rows), [row.name for row in rows], panels.positive([fids]))
    axes.set_xlabel("FID (log)")
    if real is not None:
        axes.axvline(real, color=FLOOR, lw=1.2, ls=":", zorder=1)
    for number, row in enumerate(rows):
        found = {style: group.scores("fid") for group, style in zip(row.groups, styles.values(), strict=True)}
        means = [values.mean() for values in found.values() if len(values)]
        if means:
            axes.plot([min(means), max(means)], [number] * 2, color="#CCCCCC", lw=2.5, zorder=1)
        for style, values in found.items():
            if len(values):
                axes.plot([values.min(), values.max()], [number] * 2, color=style.colour, lw=0.9, zorder=2)
                axes.plot(values.mean(), number, style.marker, color=style.colour, markersize=4.5, zorder=3)
        floor = _of(row, "reconstruction_fid")
        axes.plot(floor, np.full(len(floor), number), "|", color=FLOOR, markersize=10, mew=1.6, zorder=2)


def _real_fid(rows: Sequence[Row]) -> float | None:
    """What real images score, if all cells were judged by the same ones."""
    results = [cell.result for row in rows for group in row.groups for cell in group.done if cell.result]
    found = {result.floor.get("fid") for result in results}
    return found.pop() if len(found) == 1 else None


def _draw_losses(
    figure: Figure, grid: GridSpec, rows: Sequence[Row], styles: dict[str, Style], every: Sequence[Row]
) -> None:
    """Validation loss by round, once for neighbours of the same weights; a later row of the same names the first."""
    plain = {label: Style(style.colour, style.dash, "") for label, style in styles.items()}
    first: dict[tuple[str, ...], str] = {}
    drawn: list[Axes] = []
    for weights, group in itertools.groupby(enumerate(rows), key=lambda pair: pair[1].weights):
        members = list(group)
        (top, row), (bottom, _) = members[0], members[-1]
        axes = figure.add_subplot(grid[top : bottom + 1, 1])
        if weights in first:
            panels.nothing(axes, f"as\n{first[weights]}")
            continue
        first[weights] = row.name
        lines = row.lines()
        panels.lines(axes, lines, plain)
        scale = [line for other in every if other.scale == row.scale for line in other.lines().values()]
        panels.log_heights(axes, panels.log_ends(scale))
        if bottom - top < 2:
            axes.set_yticks(_ends(axes.get_yticks().tolist()))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.tick_params(labelbottom=False)
        drawn.append(axes)
    drawn[0].set_title("validation loss (log)")
    drawn[-1].tick_params(labelbottom=True)
    drawn[-1].set_xlabel("round")


def _ends(ticks: Sequence[float]) -> list[float]:
    """The first and the last of them."""
    return list(dict.fromkeys([ticks[0], ticks[-1]])) if len(ticks) else []


def _draw_strips(strips: Sequence[Axes], groups: Sequence[Group], shape: tuple[int, int]) -> None:
    """The first samples of each group, in `shape` (lines, columns), their FID at the left, lowest bold."""
    found = [group.scores("fid") for group in groups]
    best = min((values.mean() for values in found if len(values)), default=np.nan)
    count = shape[0] * shape[1]
    for axes, group, values in zip(strips, groups, found, strict=True):
        if group.done:
            panels.images(axes, group.done[0].images(count), shape[1], count=count)
        else:
            panels.nothing(axes, _state(group))
        if len(values):
            text = panels.three_digits(values.mean()) + (f"\n±{values.std(ddof=1):.2g}" if len(values) > 1 else "")
            side_name(axes, text, weight="bold" if values.mean() == best else "normal")


def _state(group: Group) -> str:
    """What became of an unfinished cell; "" where none was planned."""
    return next((UNFINISHED.get(cell.state, cell.state) for cell in group.cells if not cell.done), "")
