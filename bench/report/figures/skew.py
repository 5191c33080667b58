"""What label skew costs: FID over the measured skew of the clients' labels, strategy by strategy."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.config.names import split_name
from bench.pictures.axes import OTHER, log_axis, plain
from bench.pictures.style import REFERENCE, Array, NotApplicable, Style, save
from bench.report.figures.layout import COLUMN, DPI, PAGE, Room, compared, grey, name_axes, page, title
from bench.report.figures.split_parts import left_out
from bench.report.results import Group, Results, Split

PANELS_SHOWN = 4
SKEWED_FROM = 0.05  # total variation; clients whose labels are drawn alike are this far apart by chance
_APART = 0.02  # total variation, from which two splits are told apart


@dataclass(frozen=True)
class Points:
    """Of one group: skew and FID of each seed (seeds,)."""

    strategy: str
    skew: Array
    fid: Array


def skew(results: Results, *paths: Path) -> None:
    """FID over skew, a panel a number of clients: a mark a seed, lines through the means over seeds.

    Raises:
        NotApplicable: if no partition is skewed, all are alike, or no FID above 0 is known.
    """
    shown = compared(results, splits=10**6)
    panels = _read(shown.splits)
    every = [points for found, _ in panels.values() for points in found]
    if not every:
        raise NotApplicable("no finished cell with clients tells both its skew and its FID")
    if max(points.skew.max() for points in every) < SKEWED_FROM:
        raise NotApplicable("no partition is skewed")
    if all(_span(found) < _APART for found, _ in panels.values()):
        raise NotApplicable("all partitions of the same number of clients are equally skewed")
    fids = np.concatenate([*(points.fid for points in every), *(fid for _, fid in panels.values())])
    if not (fids > 0).any():
        raise NotApplicable("no FID is above 0")
    names = list(panels)[:PANELS_SHOWN]
    notes = ["small marks: seeds; lines: means over seeds", left_out(len(panels) - PANELS_SHOWN, "panel", "panels")]
    width = COLUMN if len(names) == 1 else PAGE
    room = Room(high=1.5, between=0.1)
    drawn = {points.strategy for points in every} | {"centralized"}
    legend = {label: style for label, style in shown.told.items() if label in drawn or style.colour == REFERENCE}
    figure, (row,) = page(1, len(names), room, legend, [*notes, *shown.notes, grey(shown)], width)
    for axes, name in zip(row, names, strict=True):
        _draw(axes, *panels[name], shown.styles)
        title(axes, name)
        name_axes(axes, "label skew (mean total variation)", "FID" if axes is row[0] else "")
        axes.set_xlim(0, 1.08 * max(points.skew.max() for points in every))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        log_axis(axes, "y", fids[fids > 0].min(), fids.max())
        axes.tick_params(labelleft=axes is row[0])
    save(figure, *paths, dpi=DPI)


def _span(found: Sequence[Points]) -> float:
    """How far apart the skews are, whatever the strategy and seed."""
    skews = np.concatenate([points.skew for points in found])
    return float(skews.max() - skews.min())


def _read(splits: Sequence[Split]) -> dict[str, tuple[list[Points], Array]]:
    """By panel: the groups' points, and the FIDs of centralized training."""
    found: dict[str, tuple[list[Points], Array]] = {}
    for split in splits:
        central = np.concatenate([np.empty(0), *(group.scores("fid") for group in split.groups if group.central)])
        for group in split.federated:
            name = split_name(group.labels | {"beta": None, "partition": None})
            points = _points(group)
            if len(points.fid):
                found.setdefault(name, ([], central))[0].append(points)
    return found


def _points(group: Group) -> Points:
    pairs = [(cell.metrics.get("skew_tv"), cell.metrics.get("fid")) for cell in group.done]
    known = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)
    return Points(group.strategy, known[:, 0], known[:, 1])


def _draw(axes: Axes, found: Sequence[Points], central: Array, styles: dict[str, Style]) -> None:
    plain(axes)
    if len(central):
        axes.axhline(central.mean(), color=REFERENCE, lw=1.5, zorder=1)
    for strategy in dict.fromkeys(points.strategy for points in found):
        own, style = [points for points in found if points.strategy == strategy], styles[strategy]
        means = np.array(sorted((points.skew.mean(), points.fid.mean()) for points in own))
        behind = style == OTHER
        for points in own:
            if len(points.fid) > 1 and not behind:
                look: dict[str, Any] = {"markersize": 2.2, "alpha": 0.55, "mew": 0.5}
                axes.plot(points.skew, points.fid, style.marker, color=style.colour, **look)
        axes.plot(*means.T, style.dash, color=style.colour, lw=0.6 if behind else 1, zorder=1 if behind else 3)
        axes.plot(*means.T, style.marker or ".", color=style.colour, markersize=2 if behind else 4, ls="")
