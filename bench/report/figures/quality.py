"""What quality costs: loss and FID over traffic, rounds and time, with the strategies that no other beats at both; and
FID over the skew of the clients' labels.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from bench.pictures.axes import OTHER, log_axis, short
from bench.pictures.style import Array, NotApplicable, Style
from bench.report.figures import panels
from bench.report.figures.captions import Caption, Picture, paged
from bench.report.figures.compared import Compared, compared, fid_images, fid_line, known
from bench.report.figures.layout import COLUMN, TEXT, fitting, head, page, pages, tiles, wrapped
from bench.report.lines import Line, round_line, seeds_note
from bench.report.metrics import COSTS
from bench.report.results import Results, Split

SHOWN = ("megabytes", "round", "seconds")  # costs of `quality_cost`
SKEWED_FROM = 0.05  # total variation; clients whose labels are drawn alike are this far apart by chance
_APART = 0.02  # total variation, from which two splits are told apart
_FRONT: dict[str, Any] = {"color": "#C4C4C4", "lw": 2.6, "marker": "o", "markersize": 5.5}
_KEY = ("Pareto front", Line2D([], [], **_FRONT))
_LOG_FROM = {"megabytes": 10.0}  # costs that span such a factor have a logarithmic axis; the others from 30
_ROW, _SKEW_ROW = 1.28, 1.9  # inches


@dataclass(frozen=True)
class Row:
    """A quality of one split: lines by cost and strategy."""

    split: Split
    quality: str
    lines: dict[str, dict[str, Line]]

    def federated(self, cost: str) -> dict[str, Line]:
        names = [group.strategy for group in self.split.federated]
        return {name: self.lines[cost][name] for name in names if name in self.lines[cost]}

    def paid(self, cost: str) -> dict[str, Line]:
        """Without centralized training over traffic, of which it has none."""
        return self.federated(cost) if cost == "megabytes" else self.lines[cost]

    @property
    def every(self) -> list[Line]:
        return [line for lines in self.lines.values() for line in lines.values()]


def costs(results: Results) -> list[Picture]:
    """Validation loss and FID over all that training is paid in, two rows a split, with their Pareto fronts.

    FID along training is of few images, where `evaluation.curve_every` had them drawn; else it is the finished models',
    one point each.

    Raises:
        NotApplicable: if no cell is finished, or no round tells both of quality and of its costs.
    """
    shown = compared(results)
    rows = _rows(shown, ("validation_loss", "fid"), tuple(COSTS))
    if not any(row.lines[cost] for row in rows for cost in COSTS):
        raise NotApplicable("no round of a finished cell tells both its loss or FID and its costs")
    return _draw(shown, "Validation loss and FID over the cost of training", rows, named=False)


def quality_cost(results: Results) -> list[Picture]:
    """The row of FID over megabytes, rounds and seconds alone, with the names of those on its front.

    Raises:
        NotApplicable: if no FID of a strategy with clients is known, or none is above 0.
    """
    shown = compared(results)
    rows = [row for row in _rows(shown, ("fid",), SHOWN) if any(row.federated(cost) for cost in SHOWN)]
    if not rows:
        raise NotApplicable("no FID of a strategy with clients is known with its costs")
    if not any((line.mean > 0).any() for row in rows for line in row.every):
        raise NotApplicable("no FID is above 0")
    return _draw(shown, "FID over the cost of training, with the strategies on the Pareto front", rows, named=True)


def _rows(shown: Compared, qualities: Sequence[str], costs: Sequence[str]) -> list[Row]:
    """A row a split and quality, without qualities that no split has."""
    along, _ = fid_images(shown.splits)
    rows = [Row(s, q, {cost: _lines(s, q, cost, along) for cost in costs}) for s in shown.splits for q in qualities]
    known_of = {row.quality for row in rows if any(row.lines.values())}
    return [row for row in rows if row.quality in known_of]


def _lines(split: Split, quality: str, cost: str, along: bool) -> dict[str, Line]:
    if quality == "fid":
        return known((group.strategy, fid_line(group, along, cost)) for group in split.groups)
    return known((group.strategy, round_line(group, quality, cost)) for group in split.groups)


def pareto(lines: Mapping[str, Line]) -> list[tuple[float, float, str]]:
    """Points (cost, quality, label) that no other beats at both: as cheap and better, or cheaper and as good."""
    points = [(x, y, label) for label, line in lines.items() for x, y in zip(line.x, line.mean, strict=True)]
    kept: list[tuple[float, float, str]] = []
    for point in sorted(points):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def _draw(shown: Compared, title: str, rows: Sequence[Row], named: bool) -> list[Picture]:
    """Pages of rows in the same scales; `named` ones have the names of those on their fronts, and no bands."""
    each = len({row.quality for row in rows})  # rows of a split
    blocks = [rows[k : k + each] for k in range(0, len(rows), each)]
    legend = [*shown.legend(label for row in rows for lines in row.lines.values() for label in lines)]
    legend += [_KEY] * any(row.split.federated for row in rows)
    high, costs = _ROW + 0.2 * named, [cost for cost in rows[0].lines if any(row.paid(cost) for row in rows)]
    paid = {cost: [x for row in rows for line in row.paid(cost).values() for x in line.x] for cost in costs}
    ends = {
        quality: panels.log_ends([line for row in rows if row.quality == quality for line in row.every], not named)
        for quality in dict.fromkeys(row.quality for row in rows)
    }

    def draw(part: Sequence[Sequence[Row]]) -> Figure:
        figure, grid = page(each * len(part), len(costs), high, legend)
        for row, line in zip((row for block in part for row in block), grid, strict=True):
            name = "FID (log)" if row.quality == "fid" else "validation loss (log)"
            split = wrapped(row.split.name, 22) if named else ""
            line[0].set_ylabel("\n".join(filter(None, [split, name])))
            for axes, cost in zip(line, costs, strict=True):
                _draw_panel(axes, row, cost, shown, named)
                _cost_axis(axes, np.array(paid[cost]), cost)
                panels.log_heights(axes, ends[row.quality])
                axes.tick_params(labelleft=axes is line[0])
        for block, line in zip(part, grid[::each], strict=True):
            if not named:
                head(line[0], wrapped(block[0].split.name, 80))
        for axes, cost in zip(grid[-1], costs, strict=True):
            axes.set_xlabel(COSTS[cost] + (" (log)" if axes.get_xscale() != "linear" else ""))
        return figure

    parts = pages(blocks, max(1, fitting(high, legend) // each))
    about = Caption(title, _notes(shown, rows, named), "split", samples=False)  # a note says of how many FIDs are
    return paged(shown.results, about, blocks, parts, draw)


def _notes(shown: Compared, rows: Sequence[Row], named: bool) -> list[str]:
    """Whose FID it is, what bands and fronts are, and what is missing."""
    along, counts = fid_images(shown.splits)
    of = f"FID of {' or '.join(f'{n:,}' for n in counts)} images{' along training' if along else ''}" if counts else ""
    scored = [row for row in rows if row.quality == "fid"]
    lacking = dict.fromkeys(
        g.strategy for row in scored for g in row.split.groups if g.strategy not in row.lines["round"]
    )
    without = f"without FID: {', '.join(map(shown.results.title, lacking))}" if lacking else ""
    notes = [seeds_note([line for row in rows for line in row.every], banded=not named), of, without]
    if any(row.split.federated for row in rows):
        above = "; its strategies stand above each panel" if named else ""
        notes += [f"Pareto front: what no other strategy beats in both cost and quality{above}"]
        if any(group.central for row in rows for group in row.split.groups):
            notes += ["centralized training is not part of it, and over MB is a level line at its last value"]
    return [*notes, shown.grey()]


def _draw_panel(axes: Axes, row: Row, cost: str, shown: Compared, named: bool) -> None:
    """Lines over one cost, with their front."""
    front, lines, paid = pareto(row.federated(cost)), row.lines[cost], row.paid(cost)
    axes.step([x for x, *_ in front], [y for _, y, _ in front], where="post", zorder=0, **_FRONT)
    panels.lines(axes, paid, shown.styles, bands=not named)
    for label, line in lines.items():
        if label not in paid:
            panels.level(axes, line.mean[-1], shown.styles[label])
    if named:
        names = textwrap.wrap(", ".join(dict.fromkeys(shown.name(label) for *_, label in front)), 36)
        axes.set_title("\n".join(names if len(names) < 3 else [names[0], f"{names[1][:30]} …"]), color="#555555")


def _cost_axis(axes: Axes, paid: Array, cost: str) -> None:
    """From 0, or logarithmic where costs span a large factor; then with a place for what costs nothing."""
    positive = paid[paid > 0]
    if not len(paid):
        axes.set_xticks([])
    elif cost == "round" or not len(positive) or positive.max() < _LOG_FROM.get(cost, 30.0) * positive.min():
        panels.count_axis(axes, paid.max(), 5, cost == "round")
    else:
        log_axis(axes, "x", positive.min(), positive.max())
        panels.few_ticks(axes)
        if len(positive) < len(paid):
            ticks, (_, high) = list(axes.get_xticks()), axes.get_xlim()
            axes.set_xscale("symlog", linthresh=positive.min(), linscale=0.4)
            axes.set(xlim=(-0.2 * positive.min(), high))
            axes.set_xticks([0, *ticks], ["0", *map(short, ticks)])
            axes.xaxis.set_minor_locator(NullLocator())


# ------------------------------------------------------------------------------------------------ skew


def skew(results: Results) -> list[Picture]:
    """FID over skew, a panel a number of clients: a mark a seed, lines through the means over seeds.

    Raises:
        NotApplicable: if no partition is skewed, all are alike, or no FID above 0 is known.
    """
    shown = compared(results)
    found, central = _skews(shown)
    _check_skews([np.concatenate([pairs[:, 0] for _, pairs in points]) for points in found.values()])
    known_fids = [fids for each in central.values() for fids in each.values()]
    fids = np.concatenate([*known_fids, *(pairs[:, 1] for points in found.values() for _, pairs in points)])
    if not (fids > 0).any():
        raise NotApplicable("no FID is above 0")
    most = max(pairs[:, 0].max() for points in found.values() for _, pairs in points)
    legend = shown.legend(group.strategy for split in shown.splits for group in split.groups)
    width, across = (COLUMN, 1) if len(found) == 1 else (TEXT, min(len(found), 4))

    def draw(names: Sequence[str]) -> Figure:
        figure, places = tiles(len(names), across, _SKEW_ROW, legend, width)
        for number, (axes, name) in enumerate(zip(places, names, strict=True)):
            _draw_skew(axes, found[name], central[name], shown.styles)
            axes.set(title=wrapped(name, 28), xlabel="label skew", ylabel="" if number % across else "FID (log)")
            panels.count_axis(axes, most, 5, whole=False)
            log_axis(axes, "y", fids[fids > 0].min(), fids.max())
            axes.tick_params(labelleft=number % across == 0)
        return figure

    skewed = "label skew: total variation distance between a client's classes and all data's, mean over clients"
    notes = [*["small marks: seeds; lines: means over seeds"] * shown.results.repeated, skewed, shown.grey()]
    caption = Caption("FID over the skew of the clients' labels", notes, "panel")
    parts = pages(list(found), across * fitting(_SKEW_ROW, legend, width))
    return paged(results, caption, list(found), parts, draw)


def _check_skews(skews: Sequence[Array]) -> None:
    """Raise NotApplicable if those of each panel cannot be compared."""
    if not skews:
        raise NotApplicable("no finished cell with clients tells both its skew and its FID")
    if max(panel.max() for panel in skews) < SKEWED_FROM:
        raise NotApplicable("no partition is skewed")
    if all(np.ptp(panel) < _APART for panel in skews):
        raise NotApplicable("all partitions of the same number of clients are equally skewed")


def _skews(shown: Compared) -> tuple[dict[str, list[tuple[str, Array]]], dict[str, dict[str, Array]]]:
    """By panel: strategies with skew and FID of their seeds (seeds, 2), and the FIDs of each centralized training."""
    found: dict[str, list[tuple[str, Array]]] = {}
    central: dict[str, dict[str, Array]] = {}
    for split in shown.splits:
        for group in split.federated:
            values = [(cell.metrics.get("skew_tv"), cell.metrics.get("fid")) for cell in group.done]
            pairs = np.array([pair for pair in values if None not in pair], dtype=float).reshape(-1, 2)
            name = shown.place(group, ["beta", "partition"])
            if len(pairs):
                found.setdefault(name, []).append((group.strategy, pairs))
                beside = [other for other in split.groups if other.central]
                central.setdefault(name, {other.strategy: other.scores("fid") for other in beside})
    return found, central


def _draw_skew(
    axes: Axes, points: Sequence[tuple[str, Array]], central: Mapping[str, Array], styles: Mapping[str, Style]
) -> None:
    for label, fids in central.items():
        if len(fids):
            panels.level(axes, fids.mean(), styles[label])
    for strategy in dict.fromkeys(label for label, _ in points):
        own, style = [pairs for label, pairs in points if label == strategy], styles[strategy]
        for pairs in own:
            if len(pairs) > 1 and style != OTHER:
                axes.plot(*pairs.T, style.marker, color=style.colour, markersize=2.2, alpha=0.55, mew=0.5)
        x, y = np.array(sorted(tuple(pairs.mean(axis=0)) for pairs in own)).T
        panels.lines(axes, {strategy: Line(x, y[None])}, styles)
