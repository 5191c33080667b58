"""Why federation hurts: what clients do to one another by round, and to which classes and clients that is done."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bench.pictures.axes import OTHER, log_ticks, short
from bench.pictures.style import Array
from bench.report.figures import panels
from bench.report.figures.captions import Caption, Picture, paged
from bench.report.figures.compared import Compared, compared
from bench.report.figures.layout import blank, room, stacked, wrapped
from bench.report.figures.rows import Row, read_rows
from bench.report.lines import Line
from bench.report.results import Results

_LINES, _STEP, _AROUND, _UPRIGHT = 1.35, 0.14, 0.85, 0.45  # inches: panels of lines, a row, around rows, long names
_WIDTHS = (0.65, 1.0, 1.0, 1.0, 1.0)  # of the panels beside one another
_ABOUT = (
    "drift and cosine: means over the seeds that have the round",
    "loss by class: of the global model on test images",
    "loss by client: a dot for each client and seed (range and middle half where there are many), a bar at their mean; "
    "for centralized training, the loss its model has on each client's mix of classes",
    "FID: of all generated images to all images (diamond), of those of a client's classes, in its shares, to its own "
    "images (dot), and the mean over clients (ring)",
)


@dataclass(frozen=True)
class Scales:
    """What colours and axes mean: the same in all splits, so that they compare. None where nothing is known."""

    drift: tuple[float, float] | None
    cosines: Sequence[Line]
    class_loss: tuple[float, float] | None
    share_gap: float
    client_loss: tuple[float, float] | None
    fid: tuple[float, float] | None


def find_scales(rows: Sequence[Row]) -> Scales:
    """The ranges of all rows."""
    gaps = np.concatenate([np.abs(row.share_gap) for row in rows])
    return Scales(
        panels.log_ends([row.drift for row in rows if row.drift], bands=False),
        [row.cosine for row in rows if row.cosine],
        panels.positive([row.class_loss for row in rows]),
        float(np.nanmax(gaps, initial=1e-3)),
        panels.positive([row.client_loss for row in rows]),
        panels.positive([np.array([row.fid, *row.client_fid]) for row in rows]),
    )


def why(results: Results) -> list[Picture]:
    """Why federation hurts: for each split drift and cosine by round, then a row a strategy.

    A row has the last round's drift and cosine, test loss by class, generated classes minus the data's, clients'
    test losses, and FID to all images beside that at the clients' mixes. All are means over seeds; of clients those of
    all seeds are shown.

    Raises:
        NotApplicable: if no cell is finished.
    """
    shown = compared(results)
    blocks = [(split.name, read_rows(split)) for split in shown.splits]
    every = [row for _, rows in blocks for row in rows]
    legend = shown.legend(row.group.strategy for row in every)
    names = shown.splits[0].groups[0].done[0].class_names
    scales = find_scales(every)

    def draw(part: Sequence[tuple[str, list[Row]]]) -> Figure:
        heights = [_height(rows, names) for _, rows in part]
        figure = blank(sum(heights), legend)
        places = figure.subfigures(len(part), 1, squeeze=False, height_ratios=heights).flat
        for (split, rows), place in zip(part, places, strict=True):
            if split:
                place.suptitle(wrapped(split, 80), x=0.01, ha="left", weight="bold")
            _draw(place, rows, shown, scales, names)
        return figure

    caption = Caption(
        "What federation does, by round, class and client",
        [*_ABOUT[not shown.results.repeated :], shown.grey()],
        "split",
    )
    parts = stacked(blocks, [_height(rows, names) for _, rows in blocks], room(legend))
    return paged(results, caption, blocks, parts, draw)


def _height(rows: Sequence[Row], names: Sequence[str]) -> float:
    """Inches of a split; centralized training alone has no panels of lines."""
    below = _AROUND + _STEP * len(rows) + _UPRIGHT * (max(map(len, names), default=0) > 2)
    return below + _LINES * (not all(row.group.central for row in rows))


def _draw(figure: SubFigure, rows: Sequence[Row], shown: Compared, scales: Scales, names: Sequence[str]) -> None:
    """A split: two panels of lines, and the rows below."""
    federated = [row for row in rows if not row.group.central]
    if federated:
        heights = [_LINES, _height(rows, names) - _LINES]
        above, figure = figure.subfigures(2, 1, squeeze=False, height_ratios=heights).flat
        drift, cosine = above.subplots(1, 2)
        if _draw_lines(drift, {row.group.strategy: row.drift for row in federated if row.drift}, shown):
            panels.log_heights(drift, scales.drift)
        drift.set_ylabel(r"drift $\|w_i - w\|$ (log)", parse_math=True)
        if _draw_lines(cosine, {row.group.strategy: row.cosine for row in federated if row.cosine}, shown):
            panels.heights(cosine, scales.cosines)
        cosine.set_ylabel("cosine of updates")
    _draw_rows(figure, rows, shown, scales, names)


def _draw_lines(axes: Axes, lines: dict[str, Line], shown: Compared) -> bool:
    """Lines by round; whether there are any."""
    axes.set_xlabel("round")
    panels.lines(axes, lines, shown.styles, bands=False)
    if lines:
        panels.count_axis(axes, max(line.x[-1] for line in lines.values()), 8)
    return bool(lines)


def _draw_rows(figure: SubFigure, rows: Sequence[Row], shown: Compared, scales: Scales, names: Sequence[str]) -> None:
    """Panels beside one another with a row a strategy: names and numbers, two heat maps, clients' losses, FIDs."""
    numbers, loss, gap, clients, fid = figure.subplots(1, 5, width_ratios=_WIDTHS)
    styles = [shown.styles[row.group.strategy] for row in rows]
    _draw_numbers(numbers, rows, shown)
    low, high = scales.class_loss or (1.0, 1.0)
    norm = LogNorm(low, max(high, 1.1 * low))
    loss.set_title("test loss\nby class")
    _draw_heat(loss, [row.class_loss for row in rows], names, norm, log_ticks(low, max(high, 1.1 * low)))
    ends = (-scales.share_gap, scales.share_gap)
    ticks = [float(t) for t in MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(*ends) if abs(t) <= ends[1]]
    gap.set_title("generated classes\nminus the data's")
    _draw_heat(gap, [row.share_gap for row in rows], names, Normalize(*ends), ticks)
    clients.set_title("test loss\nby client (log)")
    _draw_dots(clients, [row.client_loss for row in rows], [style.colour for style in styles], scales.client_loss)
    fid.set_title("FID (log): ◆ all,\n• a client's, ○ mean")
    _draw_dots(fid, [row.client_fid for row in rows], [style.colour for style in styles], scales.fid, mean=False)
    for number, (row, style) in enumerate(zip(rows, styles, strict=True)):
        if scales.fid:
            if len(row.client_fid):
                fid.plot(row.client_fid.mean(), number, "o", color=style.colour, markersize=4.6, mfc="white", mew=1.1)
            fid.plot(row.fid, number, "D", color=style.colour, markersize=4, mew=0)


def _draw_numbers(axes: Axes, rows: Sequence[Row], shown: Compared) -> None:
    """Names, and drift and cosine of the last round."""
    axes.set(title="last round's\ndrift   cosine", xlim=(0, 1), xticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    panels.rows(axes, len(rows), [shown.name(row.group.strategy) for row in rows])
    for number, (row, label) in enumerate(zip(rows, axes.get_yticklabels(), strict=True)):
        style = shown.styles[row.group.strategy]
        label.set(color="#666666" if style == OTHER else style.colour, weight="normal" if style == OTHER else "bold")
        place: dict[str, Any] = {"ha": "right", "va": "center_baseline", "color": label.get_color()}
        drift, cosine = (None, None) if row.group.central else (row.drift, row.cosine)
        axes.text(0.45, number, panels.three_digits(drift.mean[-1]) if drift else "–", **place)
        axes.text(0.95, number, f"{cosine.mean[-1]:.2f}".replace("-", "−") if cosine else "–", **place)


def _draw_heat(
    axes: Axes, values: Sequence[Array], names: Sequence[str], norm: Normalize, ticks: Sequence[float]
) -> None:
    """A row a strategy, a column a class, and a bar of the colours below."""
    K = max(len(names), *map(len, values))
    if not any(np.isfinite(part).any() for part in values):
        panels.nothing(axes, "not known")
        return
    table = np.array([np.pad(part, (0, K - len(part)), constant_values=np.nan) for part in values])
    image = panels.heat(axes, table, names, "viridis_r" if isinstance(norm, LogNorm) else "PuOr_r", norm)
    axes.set_yticks([])
    bar = axes.figure.colorbar(
        image, ax=axes, location="bottom", aspect=18, pad=0.01, ticks=FixedLocator(ticks[:: -(-len(ticks) // 4)])
    )
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def _draw_dots(
    axes: Axes, values: Sequence[Array], colours: Sequence[str], scale: tuple[float, float] | None, mean: bool = True
) -> None:
    panels.rows(axes, len(values), (), scale)
    if scale is None:
        panels.nothing(axes, "not known")
    panels.dots(axes, values, colours, mean)
