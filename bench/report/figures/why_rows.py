"""The lower part of why.png: a row a strategy, with panels that are aligned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bench.pictures.axes import OTHER, WIDTH, log_axis, log_ticks, place, plain, say, short, write
from bench.pictures.style import Array, Style, literal
from bench.report.figures.overview_parts import three_digits
from bench.report.figures.why_data import Row
from bench.report.lines import Line

DOTS_SHOWN = 40  # up to so many clients are a dot each
HEADING = 0.42  # inches, above the rows
_BAR = (0.28, 0.55)  # inches, from the rows down to the bar of colours (if names are long)
_KEY, _NUMBER, _GAP = 0.34, 0.5, 0.12  # inches: a line's sample, a number, between panels
_NAME = 32  # letters of a strategy, at most


@dataclass(frozen=True)
class Scales:
    """What colours and axes mean: the same in all splits, so that they compare. None where nothing is known."""

    class_loss: tuple[float, float] | None
    share_gap: float
    client_loss: tuple[float, float] | None
    fid: tuple[float, float] | None


def find_scales(rows: Sequence[Row]) -> Scales:
    """The ranges of all rows."""
    gaps = np.concatenate([np.abs(row.share_gap) for row in rows])
    fids = [np.array([row.fid, row.fid_avg, *row.client_fid]) for row in rows]
    return Scales(
        _range([row.class_loss for row in rows]),
        float(np.nanmax(gaps, initial=1e-3)),
        _range([row.client_loss for row in rows]),
        _range(fids),
    )


def _range(parts: Sequence[Array]) -> tuple[float, float] | None:
    """Of the positive numbers among them, which a logarithmic axis can show."""
    values = np.concatenate(parts)
    values = values[np.isfinite(values) & (values > 0)]
    return (float(values.min()), float(values.max())) if len(values) else None


def rows_height(rows: int, names: Sequence[str]) -> float:
    """Inches of `rows` rows with what stands above and below them."""
    return HEADING + _step(rows) * rows + _BAR[_long(names)] + 0.3


def _step(rows: int) -> float:
    """Inches of a row: closer where there are many."""
    return 0.2 if rows <= 12 else 0.165


def _long(names: Sequence[str]) -> bool:
    """Whether classes have names that must stand upright."""
    return max(map(len, names), default=0) > 2


def draw_rows(
    figure: Figure, top: float, rows: Sequence[Row], styles: dict[str, Style], scales: Scales, names: Sequence[str]
) -> None:
    """Aligned panels with a line a strategy: key, name, numbers, two heat maps, clients' losses, FIDs."""
    high = _step(len(rows)) * len(rows)
    titles = [shortened(row.group.strategy) for row in rows]
    names_wide = max(0.9, 0.068 * max(map(len, titles)))
    left = 0.1 + _KEY + names_wide + 2 * _NUMBER
    rest = WIDTH - left - 0.1 - 4 * _GAP
    heat, dots = 0.235 * rest, 0.265 * rest
    _draw_names(figure, top, rows, titles, styles, names_wide)
    columns = [(left + number * (heat + _GAP), heat) for number in range(2)]
    columns += [(columns[1][0] + heat + _GAP + number * (dots + 2 * _GAP), dots) for number in range(2)]
    loss, gap, clients, fid = (place(figure, x, top, wide, high) for x, wide in columns)
    _draw_class_loss(loss, rows, scales.class_loss, names)
    _draw_share_gap(gap, rows, scales.share_gap, names)
    _draw_clients(clients, rows, styles, scales.client_loss)
    _draw_fids(fid, rows, styles, scales.fid)


def shortened(label: str) -> str:
    """A long name without its middle."""
    return label if len(label) <= _NAME else f"{label[: _NAME // 2 - 1]}…{label[-_NAME // 2 :]}"


def _draw_names(
    figure: Figure, top: float, rows: Sequence[Row], titles: Sequence[str], styles: dict[str, Style], wide: float
) -> None:
    """Samples of the lines above, names, and drift and cosine of the last round."""
    keys = place(figure, 0.1, top, _KEY - 0.06, _step(len(rows)) * len(rows))
    keys.set(xlim=(-0.1, 1.1), ylim=(len(rows) - 0.5, -0.5))
    keys.set_axis_off()
    heads = [(0.1 + _KEY + wide + (k + 0.9) * _NUMBER, text) for k, text in enumerate(("last\ndrift", "last\ncosine"))]
    for x, text in heads:
        write(figure, x, top - 0.06, text, ha="right", va="bottom", fontsize=7.5)
    for number, (row, title) in enumerate(zip(rows, titles, strict=True)):
        style, y = styles[row.group.strategy], top + (number + 0.5) * _step(len(rows))
        if not row.group.central:
            keys.plot([0, 0.5, 1], [number] * 3, style.dash, color=style.colour, lw=1.2)
            keys.plot([0.5], [number], style.marker, color=style.colour, markersize=3.2)
        colour = "#666666" if style == OTHER else style.colour
        weight = "normal" if style == OTHER else "bold"
        place_: dict[str, Any] = {"va": "center_baseline", "fontsize": 7}
        write(figure, 0.1 + _KEY, y, title, color=colour, weight=weight, **place_)
        texts = [_last(row.drift, three_digits), _last(row.cosine, "{:.2f}".format)]
        for (x, _), text in zip(heads, texts, strict=True):
            write(figure, x, y, "–" if row.group.central else text, ha="right", color=colour, **place_)


def _last(line: Line | None, written: Callable[[float], str]) -> str:
    return written(line.mean[-1]) if line else "–"


def _draw_class_loss(axes: Axes, rows: Sequence[Row], scale: tuple[float, float] | None, names: Sequence[str]) -> None:
    axes.set_title("held-out loss\nby class", fontsize=7.5, pad=4)
    low, high = scale or (1.0, 1.0)
    high = max(high, 1.1 * low)
    losses = [row.class_loss for row in rows]
    _draw_heat(axes, losses, names, "viridis_r", LogNorm(low, high), log_ticks(low, high))


def _draw_share_gap(axes: Axes, rows: Sequence[Row], gap: float, names: Sequence[str]) -> None:
    axes.set_title("generated classes\nminus the data's", fontsize=7.5, pad=4)
    ticks = [float(tick) for tick in MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(-gap, gap) if abs(tick) <= gap]
    values = [row.share_gap for row in rows]
    _draw_heat(axes, values, names, "PuOr_r", Normalize(-gap, gap), ticks)


def _draw_heat(
    axes: Axes,
    values: Sequence[Array],
    names: Sequence[str],
    colours: str,
    norm: Normalize,
    ticks: Sequence[float],
) -> None:
    """Rows of strategies, columns of classes, grey where nothing is known; a bar of the colours below."""
    K = max(len(names), *map(len, values))
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if not any(np.isfinite(part).any() for part in values):
        axes.set_xticks([])
        say(axes, "not known")
        return
    table = np.array([np.pad(part, (0, K - len(part)), constant_values=np.nan) for part in values])
    axes.set_facecolor("#EEEEEE")
    image = axes.imshow(table, cmap=colours, norm=norm, aspect="auto", interpolation="nearest")
    told = list(names) if len(names) == K else [str(k) for k in range(K)]
    long = _long(told)
    axes.set_xticks(
        range(K) if K <= 20 else [], [literal(name[:10]) for name in told] if K <= 20 else [], rotation=90 * long
    )
    axes.tick_params(labelsize=5.5 if long else 6.5, length=0, pad=2)
    figure = axes.get_figure(root=True)
    assert figure is not None
    box, high = axes.get_position(), figure.get_size_inches()[1]
    bar = figure.add_axes((box.x0, box.y0 - _BAR[long] / high, box.width, 0.06 / high))
    figure.colorbar(image, cax=bar, orientation="horizontal")
    bar.xaxis.set_major_locator(FixedLocator(list(ticks)))
    bar.xaxis.set_minor_locator(NullLocator())
    bar.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    bar.tick_params(labelsize=6.5, length=2, pad=1.5)


def _rows_axes(axes: Axes, rows: int, scale: tuple[float, float] | None) -> None:
    """A line a row, over a logarithmic axis."""
    plain(axes)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_yticks(range(rows), [])
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    if scale is None:
        axes.set_xticks([])
        say(axes, "not known")
    else:
        log_axis(axes, "x", *scale)


def _draw_clients(axes: Axes, rows: Sequence[Row], styles: dict[str, Style], scale: tuple[float, float] | None) -> None:
    """A dot a client, or the range and the middle half where there are many; a bar at the mean."""
    many = any(len(row.client_loss) > DOTS_SHOWN for row in rows)
    marks = "range, middle half" if many else "• a client"
    axes.set_title(f"held-out loss by client\n{marks}, ❘ mean", fontsize=7.5, pad=4)
    _rows_axes(axes, len(rows), scale)
    for number, row in enumerate(rows):
        losses, colour = row.client_loss, styles[row.group.strategy].colour
        if not len(losses):
            continue
        if many:
            low, first, third, high = np.quantile(losses, [0, 0.25, 0.75, 1])
            axes.plot([low, high], [number] * 2, color=colour, lw=0.8)
            axes.plot([first, third], [number] * 2, color=colour, lw=4, alpha=0.5, solid_capstyle="butt")
        else:
            axes.plot(losses, [number] * len(losses), "o", color=colour, markersize=2.6, alpha=0.55, mew=0)
        axes.plot(losses.mean(), number, "|", color=colour, markersize=9, mew=1.6)


def _draw_fids(axes: Axes, rows: Sequence[Row], styles: dict[str, Style], scale: tuple[float, float] | None) -> None:
    axes.set_title("FID: ◆ all images,\n• a client's, ○ their mean", fontsize=7.5, pad=4)
    _rows_axes(axes, len(rows), scale)
    for number, row in enumerate(rows):
        colour = styles[row.group.strategy].colour
        if len(row.client_fid) > DOTS_SHOWN:
            axes.plot([row.client_fid.min(), row.client_fid.max()], [number] * 2, color=colour, lw=0.8)
        else:
            fids = row.client_fid
            axes.plot(fids, [number] * len(fids), "o", color=colour, markersize=2.6, alpha=0.55, mew=0)
        axes.plot(row.fid_avg, number, "o", color=colour, markersize=4.6, mfc="white", mew=1.1)
        axes.plot(row.fid, number, "D", color=colour, markersize=4, mew=0)
