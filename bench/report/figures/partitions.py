"""How the data are split: clients and classes of every split, the paper's figure 1."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bench.config.names import split_name
from bench.pictures.axes import place
from bench.pictures.style import NotApplicable, literal, save
from bench.report.figures.layout import COLUMN, DPI, PAGE, SMALL, Room, name_axes, page, title
from bench.report.figures.split_parts import finished_splits, left_out
from bench.report.results import Cell, Results

PANELS_SHOWN = 12
_COLOURS = "Blues"


@dataclass(frozen=True)
class Part:
    """A split: counts (n_clients, K), and the mean distance of clients' classes to all data's, None if not known."""

    name: str
    seed: int
    histogram: NDArray[np.int64]
    skew: float | None


def partitions(results: Results, *paths: Path) -> None:
    """Images of each class that each client holds, a panel a split, of the first seed.

    Raises:
        NotApplicable: if no cell with clients is finished.
    """
    splits, parts = finished_splits(results), read_parts(results)
    if not parts:
        raise NotApplicable("no cell with clients is finished")
    shown, names = parts[:PANELS_SHOWN], splits[0].groups[0].done[0].class_names
    across = min(len(shown), 4)
    clients, long = max(len(part.histogram) for part in shown), max(map(len, names), default=0) > 2
    room = Room(0.36, 0.3, 0.2, min(1.5, max(0.6, 0.13 * clients)), 0.62 if long else 0.3, 0.48, foot=0.02)
    seeds = ", ".join(str(seed) for seed in sorted({part.seed for part in shown}))
    notes = [f"seed {seeds}; TV: mean total variation between clients' classes and all data's", *results.unfinished()]
    cut = left_out(len(parts) - len(shown), "split", "splits")
    width = COLUMN if across == 1 else PAGE
    figure, panels = page(-(-len(shown) // across), across, room, {}, [*notes, cut], width)
    norm = Normalize(0, max(part.histogram.max() for part in shown))
    places = [axes for row in panels for axes in row]
    for number, (axes, part) in enumerate(zip(places, shown, strict=False)):
        _draw(axes, part, names, norm)
        name_axes(axes, "class" if number + across >= len(shown) else "", "client" if number % across == 0 else "")
    for axes in places[len(shown) :]:
        axes.set_visible(False)
    _draw_bar(figure, panels[0], room, width)
    save(figure, *paths, dpi=DPI)


def read_parts(results: Results) -> list[Part]:
    """Of the first finished seed, each split once, in the plan's order."""
    found: dict[str, list[Cell]] = {}
    for cell in results.cells:
        if cell.done and not cell.central:
            same = {key: cell.config[key] for key in ("partition", "n_clients", "beta", "data")}
            found.setdefault(json.dumps(same, sort_keys=True), []).append(cell)
    several = len({json.dumps(cells[0].config["partition"], sort_keys=True) for cells in found.values()}) > 1
    parts = [_part(cells, several) for cells in found.values()]
    return [part for part in parts if part is not None]


def _part(cells: Sequence[Cell], several: bool) -> Part | None:
    """Of the first seed that has it; strategies of a seed have the same."""
    for cell in sorted(cells, key=lambda cell: cell.labels["seed"]):
        if cell.partition is not None:
            name = split_name({key: cell.labels[key] for key in ("n_clients", "beta")})
            if several:
                name = f"{cell.config['partition']['name']}, {name}"
            return Part(
                name, cell.labels["seed"], np.array(cell.partition.histogram), cell.partition.total_variation_mean
            )
    return None


def _draw(axes: Axes, part: Part, names: Sequence[str], norm: Normalize) -> None:
    n, K = part.histogram.shape
    axes.imshow(part.histogram, cmap=_COLOURS, norm=norm, aspect="auto", interpolation="none")
    told = list(names) if len(names) == K else [str(k) for k in range(K)]
    long = max(map(len, told)) > 2
    shown = range(0, K, -(-K // 20))
    axes.set_xticks(shown, [literal(told[k][:10]) for k in shown], rotation=90 * long)
    axes.yaxis.set_major_locator(MaxNLocator(min(n, 10), integer=True, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=5.5, length=0, pad=2)
    axes.spines[:].set_color("#BBBBBB")
    title(axes, part.name + ("" if part.skew is None else f" (TV {part.skew:.2f})"))


def _draw_bar(figure: Figure, row: Sequence[Axes], room: Room, width: float) -> None:
    """The colours, right of the first row."""
    top = (1 - row[0].get_position().y1) * figure.get_size_inches()[1]
    bar = place(figure, width - room.right + 0.08, top, 0.07, room.high)
    figure.colorbar(row[0].images[0], cax=bar)
    bar.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    bar.tick_params(labelsize=5.5, length=1.5, pad=1)
    bar.set_ylabel("images", fontsize=SMALL, labelpad=1)
