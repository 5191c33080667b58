"""What quality costs: FID over traffic, rounds and time, with the strategies that no other beats at both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.pictures.axes import OTHER, log_axis, plain, say, short
from bench.pictures.style import REFERENCE, Array, NotApplicable, Style, literal, save
from bench.report.figures.layout import DPI, SMALL, Room, compared, grey, name_axes, page, width_of
from bench.report.figures.panels import known
from bench.report.figures.split_parts import fid_images, fid_line
from bench.report.figures.widths import shorten, wrap
from bench.report.lines import Line
from bench.report.metrics import COSTS
from bench.report.results import Results, Split

SPLITS_SHOWN = 4
SHOWN = ("megabytes", "round", "seconds")  # of all costs
_FRONT: dict[str, Any] = {"color": "#555555", "lw": 2.6, "alpha": 0.35}
_LOG_FROM = 10.0  # costs that span such a factor have a logarithmic axis
Curves = Mapping[str, Mapping[str, Line]]  # by cost and strategy


@dataclass(frozen=True)
class Scale:
    """An axis of costs; logarithmic ones have a place for what costs nothing, `zero`."""

    low: float
    high: float
    log: bool
    zero: float | None = None

    def places(self, costs: Array) -> Array:
        """Where they stand on the axis."""
        return costs if self.zero is None else np.where(costs > 0, costs, self.zero)


@dataclass(frozen=True)
class Front:
    """Points that no other beats at both: as cheap and better, or cheaper and as good.

    Attributes:
        cost, fid: (F,), cost rising and FID falling.
        names: of strategies, in that order, each once.
    """

    cost: Array
    fid: Array
    names: list[str]


def quality_cost(results: Results, *paths: Path) -> None:
    """FID over megabytes, rounds and seconds, a row a split, with the Pareto front of the federated strategies.

    FID is along training, of few images, where `evaluation.curve_every` had them drawn; else the finished models'.

    Raises:
        NotApplicable: if no FID of a strategy with clients is known, or none is above 0.
    """
    shown = compared(results, SPLITS_SHOWN)
    along, counts = fid_images(shown.splits)
    blocks = [(split, _curves(split, along)) for split in shown.splits if split.federated]
    blocks = [(split, curves) for split, curves in blocks if any(_federated(split, curves).values())]
    if not blocks:
        raise NotApplicable("no FID of a strategy with clients is known with its costs")
    fids = np.concatenate([line.mean for _, curves in blocks for lines in curves.values() for line in lines.values()])
    if not (fids > 0).any():
        raise NotApplicable("no FID is above 0")
    drawn = {label for _, curves in blocks for lines in curves.values() for label in lines}
    legend: dict[str, Style | Line2D] = {label: s for label, s in shown.told.items() if label in drawn}
    legend["Pareto front"] = Line2D([], [], **_FRONT)
    of = f"FID of {' or '.join(f'{n:,}' for n in counts)} images" if counts else "FID"
    notes = [f"{of}{' along training' if along else ''}, means over seeds; above each panel who is on its front"]
    central = any(group.central for split, _ in blocks for group in split.groups)
    notes += ["centralized training is not part of the front; over MB it is a line at its last value"] * central
    room = Room(above=0.42, high=1.25, between=0.1)
    figure, panels = page(len(blocks), len(SHOWN), room, legend, [*notes, *shown.notes, grey(shown)])
    scales = {cost: _scale([_federated(*block)[cost] for block in blocks], cost) for cost in SHOWN}
    for number, ((split, curves), row) in enumerate(zip(blocks, panels, strict=True)):
        row[0].annotate(literal(split.name), (0, 1), (0, 18), **_above(7.0), weight="bold")
        for axes, cost in zip(row, SHOWN, strict=True):
            _draw(axes, curves[cost], pareto(_federated(split, curves)[cost]), cost, scales[cost], shown.styles)
            log_axis(axes, "y", fids[fids > 0].min(), fids.max())
            axes.tick_params(labelleft=axes is row[0])
            name_axes(axes, COSTS[cost] if number == len(blocks) - 1 else "", "FID" if axes is row[0] else "")
    save(figure, *paths, dpi=DPI)


def _above(size: float) -> dict[str, Any]:
    return {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": size, "va": "bottom"}


def _curves(split: Split, along: bool) -> Curves:
    """FIDs along training or of the finished models, over each of `SHOWN`."""
    return {cost: known((group.strategy, fid_line(group, along, cost)) for group in split.groups) for cost in SHOWN}


def _federated(split: Split, curves: Curves) -> Curves:
    names = [group.strategy for group in split.federated]
    return {cost: {name: lines[name] for name in names if name in lines} for cost, lines in curves.items()}


def pareto(lines: Mapping[str, Line]) -> Front:
    """Of all points of the lines."""
    points = [(x, y, label) for label, line in lines.items() for x, y in zip(line.x, line.mean, strict=True)]
    kept: list[tuple[float, float, str]] = []
    for point in sorted(points):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return Front(
        np.array([p[0] for p in kept]), np.array([p[1] for p in kept]), list(dict.fromkeys(p[2] for p in kept))
    )


def _scale(blocks: Sequence[Mapping[str, Line]], cost: str) -> Scale:
    """One that holds all splits' federated lines over a cost."""
    paid = np.concatenate([np.empty(0), *(line.x for lines in blocks for line in lines.values())])
    if not len(paid):
        return Scale(0.0, 1.0, log=False)
    positive = paid[paid > 0]
    if cost == "round" or not len(positive) or positive.max() < _LOG_FROM * positive.min():
        return Scale(0.0, 1.05 * paid.max() or 1.0, log=False)
    zero = positive.min() / 2 if len(positive) < len(paid) else None
    return Scale(zero or positive.min(), positive.max(), True, zero)


def _draw(
    axes: Axes, lines: Mapping[str, Line], front: Front, cost: str, scale: Scale, styles: Mapping[str, Style]
) -> None:
    plain(axes)
    axes.step(scale.places(front.cost), front.fid, where="post", zorder=0, **_FRONT)
    for label, line in lines.items():
        style = styles[label]
        if style.colour == REFERENCE and cost == "megabytes":
            axes.axhline(line.mean[-1], color=REFERENCE, lw=1.5, zorder=1)
            continue
        behind = style == OTHER
        mark = style.marker or ("o" if len(line.mean) == 1 else "")
        look: dict[str, Any] = {"lw": 0.6 if behind else 1, "markersize": 2 if behind else 3.2, "marker": mark}
        axes.plot(scale.places(line.x), line.mean, style.dash, color=style.colour, zorder=1 if behind else 3, **look)
    _finish(axes, scale)
    if not lines:
        axes.set_xticks([])
        say(axes, "not known")
    wide = width_of(axes)
    names = wrap(", ".join(front.names), wide, SMALL)
    told = "\n".join([*names[:1], shorten(" ".join(names[1:]), wide, SMALL)] if len(names) > 2 else names)
    axes.annotate(literal(told), (0, 1), (0, 2), **_above(SMALL), color="#555555")


def _finish(axes: Axes, scale: Scale) -> None:
    if not scale.log:
        axes.set_xlim(scale.low, scale.high)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        return
    log_axis(axes, "x", scale.low, scale.high)
    if scale.zero is not None:
        ticks = [tick for tick in axes.get_xticks() if tick > 1.3 * scale.zero]
        axes.set_xticks([scale.zero, *ticks], ["0", *map(short, ticks)])
