"""The five kinds of panels: lines, dots, bars, heat maps and images; and the axes that they share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator
from torch import Tensor

from bench.pictures.axes import OTHER, apart, log_axis, short
from bench.pictures.sheets import Colours, coloured, filled, tile
from bench.pictures.style import REFERENCE, Array, Style
from bench.report.lines import Line

DOTS_SHOWN = 40  # up to so many clients are a dot each
_LABEL = 24  # letters of a name at a line's end, at most


# ------------------------------------------------------------------------------------------------ lines


def lines(axes: Axes, found: Mapping[str, Line], styles: Mapping[str, Style], bands: bool = True) -> None:
    """Means over seeds with their bands behind them, paler the more there are; grey ones without.

    A line below others in the same place is the wider by their number, so that each is seen.
    """
    if not found:
        nothing(axes, "not known")
    depths = {label: 1 if styles[label] == OTHER else 2 if styles[label].colour == REFERENCE else 3 for label in found}
    upwards = sorted(found, key=depths.__getitem__)
    points = {label: np.array([line.x, line.mean]) for label, line in found.items()}
    for label, line in found.items():
        style, band = styles[label], line.band
        central, behind = style.colour == REFERENCE, style == OTHER
        higher = () if behind else upwards[upwards.index(label) + 1 :]
        covers = min(5, sum(_coincide(points[label], points[other]) for other in higher))
        if bands and band is not None and not behind:
            axes.fill_between(line.x, *band, color=style.colour, alpha=min(0.15, 0.6 / len(found)), lw=0)
        axes.plot(
            *points[label],
            style.dash,
            color=style.colour,
            marker=style.marker or ("o" if len(line.x) == 1 else ""),
            markevery=sorted({round(k * (len(line.x) - 1) / 4) for k in range(5)}),
            lw=rcParams["lines.linewidth"] * (1.7 if central else 0.6 if behind else 1.0) + 1.3 * covers,
            markersize=rcParams["lines.markersize"] + 1.4 * covers,
            zorder=depths[label],
        )


def level(axes: Axes, value: float, style: Style) -> None:
    """A level line behind all others, of what has one value only."""
    axes.axhline(value, color=style.colour, ls=style.dash, lw=1.5, zorder=1)


def _coincide(one: Array, other: Array) -> bool:
    """Whether the points (2, R) of two lines differ by less than what can be seen."""
    return one.shape == other.shape and bool((np.abs(one - other) <= 0.005 * np.abs(other)).all())


def label_ends(axes: Axes, found: Mapping[str, Line], styles: Mapping[str, Style], name: Callable[[str], str]) -> None:
    """Names at the lines' ends, right of the panel and moved apart, where there is room; its scales must be set."""
    ends = {label: line.mean[-1] for label, line in found.items() if styles[label] != OTHER}
    low, high = axes.get_ylim()
    scaled = np.log if axes.get_yscale() == "log" else np.asarray
    labels = [label for label, end in ends.items() if low <= end <= high]
    if not 1 < len(labels) <= 8 or max(len(name(label)) for label in labels) > _LABEL:
        return
    heights = {
        k: float((scaled(ends[label]) - scaled(low)) / (scaled(high) - scaled(low))) for k, label in enumerate(labels)
    }
    for k, height in apart(heights, 0.11).items():
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "center"}
        axes.annotate(name(labels[k]), (1, height), (3, 0), color=styles[labels[k]].colour, **place)


def log_ends(found: Sequence[Line], bands: bool = True) -> tuple[float, float] | None:
    """Ends that hold the positive means of lines, and their bands up to half an octave around; None without a mean."""
    means = np.concatenate([np.empty(0), *(line.mean for line in found)])
    means = means[means > 0]
    if not len(means):
        return None
    ends = np.concatenate([*(end for line in found if bands and (band := line.band) for end in band), means])
    return max(means.min() / 1.4, ends.min()), min(means.max() * 1.4, ends.max())


def log_heights(axes: Axes, ends: tuple[float, float] | None) -> None:
    """A logarithmic axis between `ends`; without ticks if there are none."""
    if ends is None:
        axes.set_yticks([])
    else:
        log_axis(axes, "y", *ends)


def heights(axes: Axes, found: Sequence[Line]) -> None:
    """A linear axis that holds the means of lines, with a line at 0."""
    if found:
        low, high = min(line.mean.min() for line in found), max(line.mean.max() for line in found)
        room = 0.1 * (high - low) or 0.1
        axes.set_ylim(low - room, high + room)
        axes.axhline(0, color="#666666", lw=0.5)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def count_axis(axes: Axes, end: float, ticks: int = 6, whole: bool = True) -> None:
    """From 0 to `end`, with short numbers."""
    axes.set_xlim(0, 1.03 * end or 1)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10], integer=whole))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


# ------------------------------------------------------------------------------------------------ rows


def dots(axes: Axes, values: Sequence[Array], colours: Sequence[str], mean: bool = True) -> None:
    """A row each: a dot a value, or their range and middle half where there are many, and a bar at their mean."""
    for number, (found, colour) in enumerate(zip(values, colours, strict=True)):
        if len(found) > DOTS_SHOWN:
            low, first, third, high = np.quantile(found, [0, 0.25, 0.75, 1])
            axes.plot([low, high], [number] * 2, color=colour, lw=0.8)
            axes.plot([first, third], [number] * 2, color=colour, lw=3.5, alpha=0.5, solid_capstyle="butt")
        elif len(found):
            axes.plot(found, [number] * len(found), "o", color=colour, markersize=2.4, alpha=0.6, mew=0)
        if len(found) and mean:
            axes.plot(found.mean(), number, "|", color=colour, markersize=7, mew=1.4)


def rows(axes: Axes, count: int, names: Sequence[str] = (), scale: tuple[float, float] | None = None) -> None:
    """Axes of `count` rows, from the top, with their names at the left; over a logarithmic axis if there is a scale."""
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_yticks(range(count), names or [""] * count)
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    if scale is not None:
        log_axis(axes, "x", *scale)
        few_ticks(axes)


def positive(parts: Sequence[Array]) -> tuple[float, float] | None:
    """The range of the positive numbers among them, which a logarithmic axis can show."""
    values = np.concatenate([np.empty(0), *parts])
    values = values[np.isfinite(values) & (values > 0)]
    return (float(values.min()), float(values.max())) if len(values) else None


def bars(axes: Axes, shares: Array, half: Array, real: Array, colour: str) -> None:
    """Means of shares (seeds, K) with `half` (K,) of their intervals, and a line at those of the data (K,), or (0,)."""
    seeds, K = shares.shape
    axes.grid(visible=False)
    axes.bar(range(K), shares.mean(axis=0), color=colour, alpha=0.7, width=0.8)
    if seeds > 1:
        axes.errorbar(range(K), shares.mean(axis=0), half, fmt="none", ecolor="#444444", elinewidth=0.6)
    if len(real) == K:
        axes.step(np.arange(-0.5, K + 0.5), [*real, real[-1]], where="post", color="black", lw=0.8)


# ------------------------------------------------------------------------------------------------ fields


def heat(axes: Axes, values: Any, names: Sequence[str], colours: str, norm: Normalize) -> AxesImage:
    """A field (rows, K) with names below its columns, grey where nothing is known."""
    K = np.shape(values)[1]
    axes.grid(visible=False)
    axes.set_facecolor("#EEEEEE")
    image = axes.imshow(values, cmap=colours, norm=norm, aspect="auto", interpolation="none")
    class_axis(axes, names if len(names) == K else [str(k) for k in range(K)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def class_axis(axes: Axes, names: Sequence[str]) -> None:
    """Classes by name, upright where they are long; a few of many."""
    long = max(map(len, names), default=0) > 2
    shown = range(0, len(names), max(1, -(-len(names) // (20 if long else 10))))
    axes.set_xticks(shown, [names[k][:10] for k in shown], rotation=90 * long)


def images(axes: Axes, found: Tensor | None, across: int, colours: Colours = "grey", count: int = 0) -> None:
    """Images side by side, `across` in a line, or why there are none.

    Args:
        count: for how many there is room, if more than these.
    """
    if found is None:
        nothing(axes, "samples were removed")
        return
    shown = coloured(found, colours)
    places = across * -(-max(len(shown), count) // across)
    picture(axes, tile(filled(shown, places), across, scale=4, line=4, colour=255))


def picture(axes: Axes, pixels: Any) -> None:
    """Pixels as they are, without axes."""
    axes.imshow(pixels, interpolation="none", aspect="equal")
    axes.set_anchor("W")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def nothing(axes: Axes, text: str) -> None:
    """Why a panel is empty."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    place: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes, "in_layout": False}
    axes.text(0.5, 0.5, text, color="#555555", **place)


def few_ticks(axes: Axes, most: int = 4) -> None:
    """Thin out the ticks of a logarithmic x axis."""
    ticks = list(axes.get_xticks())
    axes.set_xticks(ticks[:: -(-len(ticks) // most) or 1])


def three_digits(value: float) -> str:
    return f"{value:#.3g}".rstrip(".")
