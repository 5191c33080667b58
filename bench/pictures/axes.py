"""Axes for pictures: ticks of log axes, styles of many lines, legend keys."""

import textwrap
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bench.pictures.style import COLOURS, DASHES, MARKERS, Style

WIDTH = 9.6  # inches: for a screen, wider than a paper's text
NOTE: dict[str, Any] = {"fontsize": 7, "color": "#555555"}
OTHER = Style("#B4B4B4", "-", "")
_EVENLY = ((5, [1, 2, 5, 10]), (6, [1, 2, 2.5, 5, 10]))  # intervals at most, and their lengths


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
    axis.set_major_locator(FixedLocator(log_ticks(low / room, high * room)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_locator(NullLocator())


def short(value: float) -> str:
    """A tick's text, e.g. 0.02, 500, 20k, 3M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def log_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between two positive ones, about evenly spread over a logarithmic axis.

    Decades where the two are far apart, then 1, 2 and 5, then more of each decade; evenly spaced where they are near.
    """
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)))
    choices = [10 ** decades[decades % step == 0] for step in (4, 2, 1)]
    choices += [np.outer(10**decades, digits).ravel() for digits in ([1, 2, 5], [1, 5], [1, 1.5, 2, 3, 5, 7])]
    choices += [MaxNLocator(count, steps=steps).tick_values(low, high) for count, steps in _EVENLY]
    within = ([float(tick) for tick in ticks if low <= tick <= high] for ticks in choices)
    return next((ticks for ticks in within if 3 <= len(ticks) <= 7), [low, high])


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
