"""Axes for pictures: ticks of log axes, styles of many lines, legend keys."""

import textwrap
from collections.abc import Mapping
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bench.pictures.style import COLOURS, DASHES, MARKERS, Style

WIDTH = 9.6  # inches: for a screen, wider than a paper's text
NOTE: dict[str, Any] = {"fontsize": 7, "color": "#555555"}
OTHER = Style("#B4B4B4", "-", "")


def distinct(number: int) -> Style:
    """A style that no other number below 24 has."""
    turn = number + number // len(COLOURS)
    return Style(COLOURS[number % len(COLOURS)], DASHES[turn % len(DASHES)], MARKERS[turn % len(MARKERS)])


def key(style: Style) -> Line2D:
    """The sample of a line for a legend."""
    return Line2D([], [], color=style.colour, ls=style.dash, marker=style.marker, markersize=4, lw=1.4)


def log_axis(axes: Axes, which: Literal["x", "y"], low: float, high: float) -> None:
    """A logarithmic axis from `low` to `high` with a little room, and a few ticks however near the two are."""
    room = (high / low) ** 0.06 if high > low else 1.1
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low / room, high * room)})
    axis = axes.xaxis if which == "x" else axes.yaxis
    near = high < 1.2 * low
    axis.set_major_locator(FixedLocator(log_ticks(low / room, high * room) if near else log_ticks(low, high)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_locator(NullLocator())


def short(value: float) -> str:
    """A tick's text, e.g. 0.02, 500, 20k, 3M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def log_ticks(low: float, high: float) -> list[float]:
    """Even numbers between two positive ones: decades where they are far apart, 1, 2, 5 or evenly spaced where near."""
    locators = [
        LogLocator(numticks=6),
        LogLocator(subs=(1.0, 2.0, 5.0)),
        MaxNLocator(5, steps=[1, 2, 5, 10]),
        MaxNLocator(8),
    ]
    for locator in locators[0 if high / low > 1e2 else 1 if high / low > 8 else 2 :]:
        ticks = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
        if len(ticks) > 1:
            break
    return ticks


def apart(heights: Mapping[int, float], gap: float) -> dict[int, float]:
    """The heights in [0, 1] moved apart by `gap` at least, in their order."""
    order = sorted(heights, key=heights.__getitem__)
    placed: dict[int, float] = {}
    below = -gap
    for number in order:
        placed[number] = below = max(heights[number], below + gap)
    above = 1.0 + gap
    for number in reversed(order):
        placed[number] = above = min(placed[number], above - gap)
    return placed


def plain(axes: Axes) -> None:
    """Small ticks, a light grid, no box."""
    axes.tick_params(labelsize=6.5, pad=1.5, length=2)
    axes.grid(alpha=0.3, lw=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def say(axes: Axes, text: str, height: float = 0.5) -> None:
    """Instead of what is missing, at a height in [0, 1]."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    told = textwrap.fill(text, 34)
    axes.text(0.5, height, told, transform=axes.transAxes, ha="center", va="center", bbox=box, **NOTE)
