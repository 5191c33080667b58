"""How the data are split: clients and classes of every split, the paper's figure 1."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bench.pictures.style import NotApplicable
from bench.report.figures import panels
from bench.report.figures.captions import Caption, Picture, paged
from bench.report.figures.compared import Compared, compared
from bench.report.figures.layout import COLUMN, TEXT, fitting, pages, tiles, wrapped
from bench.report.results import Cell, Group, Results

_COLOURS = "Blues"


@dataclass(frozen=True)
class Part:
    """A split: counts (n_clients, K), and the mean distance of clients' classes to all data's, None if not known."""

    name: str
    seed: int
    histogram: NDArray[np.int64]
    skew: float | None

    @property
    def title(self) -> str:
        skew = "" if self.skew is None else f"TV {self.skew:.2f}"
        return "\n".join(filter(None, [wrapped(self.name, 28), skew]))


def partitions(results: Results) -> list[Picture]:
    """Images of each class that each client holds, a panel a split, of the first seed.

    Raises:
        NotApplicable: if no cell with clients is finished.
    """
    shown = compared(results)
    found = read_parts(shown)
    if not found:
        raise NotApplicable("no cell with clients is finished")
    names = shown.splits[0].groups[0].done[0].class_names
    across, width = min(len(found), 4), COLUMN if len(found) == 1 else TEXT
    most = max(len(part.histogram) for part in found)
    each = 0.75 + min(1.5, max(0.6, 0.13 * most)) + 0.4 * (max(map(len, names), default=0) > 2)
    seeds = ", ".join(map(str, sorted({part.seed for part in found})))
    norm = Normalize(0, max(part.histogram.max() for part in found))

    def draw(parts: Sequence[Part]) -> Figure:
        figure, places = tiles(len(parts), across, each, width=width)
        for number, (axes, part) in enumerate(zip(places, parts, strict=True)):
            image = panels.heat(axes, part.histogram, names, _COLOURS, norm)
            axes.yaxis.set_major_locator(MaxNLocator(min(len(part.histogram), 8), integer=True, steps=[1, 2, 5, 10]))
            axes.set_title(part.title)
            axes.set_xlabel("class" if number + across >= len(parts) else "")
            axes.set_ylabel("client" if number % across == 0 else "")
        figure.colorbar(image, ax=places, label="images", pad=0.01, aspect=25, ticks=MaxNLocator(4, integer=True))
        return figure

    distance = "TV: total variation distance between a client's classes and all data's, mean over clients"
    notes = [f"the split of seed {seeds}", distance]
    caption = Caption("Images of each class that each client holds", notes, "split", samples=False)
    return paged(results, caption, found, pages(found, across * fitting(each)), draw)


def read_parts(shown: Compared) -> list[Part]:
    """Of the first finished seed, each split once, in the plan's order."""
    found: dict[str, list[Cell]] = {}
    for cell in shown.results.cells:
        if cell.done and not cell.central:
            same = {key: cell.config[key] for key in ("partition", "n_clients", "beta", "data")}
            found.setdefault(json.dumps(same, sort_keys=True), []).append(cell)
    several = len({json.dumps(cells[0].config["partition"], sort_keys=True) for cells in found.values()}) > 1
    parts = [_part(cells, several, shown) for cells in found.values()]
    return [part for part in parts if part is not None]


def _part(cells: Sequence[Cell], several: bool, shown: Compared) -> Part | None:
    """Of the first seed that has it; strategies of a seed have the same."""
    for cell in sorted(cells, key=lambda cell: cell.labels["seed"]):
        if cell.partition is not None:
            place = shown.place(Group((cell,)), shown.results.extra_axes)
            name = ", ".join(filter(None, [cell.config["partition"]["name"] if several else "", place]))
            counts = np.array(cell.partition.histogram)
            return Part(name, cell.labels["seed"], counts, cell.partition.total_variation_mean)
    return None
