"""Rows of two panels with lines over the same axis, a row a split: losses, drift. One row stands in a column."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.pictures.axes import OTHER, say, short
from bench.pictures.style import Style, save
from bench.report.figures.layout import COLUMN, DPI, Room, draw_lines, log_heights, name_axes, page, title
from bench.report.lines import Line, seeds_note


@dataclass(frozen=True)
class Block:
    """A row: lines of the left panel and of the right one, by label."""

    name: str
    left: dict[str, Line]
    right: dict[str, Line]


@dataclass(frozen=True)
class Panel:
    """What stands in a column."""

    name: str
    log: bool


def known(lines: Iterable[tuple[str, Line | None]]) -> dict[str, Line]:
    """Those that there are."""
    return {label: line for label, line in lines if line is not None}


def draw_blocks(
    blocks: Sequence[Block],
    columns: Sequence[Panel],
    styles: Mapping[str, Style],
    notes: Sequence[str],
    x: str,
    *paths: Path,
) -> None:
    """Draw the blocks, with as many panels each as there are columns (1 or 2), in the same scales.

    The panels of a single block stand below one another, as wide as a paper's column.
    """
    every = [line for block in blocks for lines in (block.left, block.right) for line in lines.values()]
    drawn = {label for block in blocks for label in (*block.left, *block.right)}
    legend = {label: style for label, style in styles.items() if label in drawn and style != OTHER}
    told = [seeds_note(every) or "one seed", *notes]
    if len(blocks) == 1:
        figure, stack = page(len(columns), 1, Room(above=0.17), legend, told, COLUMN)
        panels = [[axes for (axes,) in stack]]
        lowest = panels[0][-1:]
    else:
        figure, panels = page(len(blocks), len(columns), Room(between=0.5), legend, told)
        lowest = panels[-1]
    for block, row in zip(blocks, panels, strict=True):
        title(row[0], block.name, loc="left", weight="bold")
        ends = [line.x[-1] for lines in (block.left, block.right) for line in lines.values()]
        for axes, lines, column in zip(row, (block.left, block.right), columns, strict=False):
            draw_lines(axes, lines, styles)
            _axis(axes, lines, max(ends, default=1.0))
            name_axes(axes, x if axes in lowest else "", column.name)
    for place, column in enumerate(columns):
        held = [line for block in blocks for line in (block.left, block.right)[place].values()]
        _heights([row[place] for row in panels], held, column.log)
    save(figure, *paths, dpi=DPI)


def _axis(axes: Axes, lines: Mapping[str, Line], end: float) -> None:
    if not lines:
        axes.set_xticks([])
        say(axes, "not known")
        return
    axes.set_xlim(0, 1.03 * end)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def _heights(panels: Sequence[Axes], lines: Sequence[Line], log: bool) -> None:
    if log or not lines:
        log_heights(panels, lines)
        return
    low, high = min(line.mean.min() for line in lines), max(line.mean.max() for line in lines)
    room = 0.1 * (high - low) or 0.1
    for axes in panels:
        axes.set_ylim(low - room, high + room)
        axes.axhline(0, color="#666666", lw=0.5)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
