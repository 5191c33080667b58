"""Pictures for a paper of two columns: a legend above, panels in rows, a note below; lines with seed bands.

They are as wide as a column where there is one panel, or one below the other, and else as the text. Only the overview,
costs and why are not: those are sheets for a screen, 9.6 inches wide and as high as their rows are many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.pictures.axes import OTHER, key, log_axis, place, plain, write
from bench.pictures.style import REFERENCE, Array, Style, literal
from bench.report.figures.split_parts import finished_splits, grey_note, left_out, line_styles
from bench.report.figures.widths import inches, shorten, wrap
from bench.report.lines import Line
from bench.report.results import Results, Split

COLUMN, PAGE = 3.3, 6.8  # inches: a column's width, and that of the text
SIZE, SMALL = 7.0, 6.0  # points
_LABEL = 2.7  # inches of a name in a legend, at most
DPI = 200


@dataclass(frozen=True)
class Room:
    """Inches of a panel and around it.

    Attributes:
        head, foot: above the first panels and below the last ones, for names of columns and of axes.
    """

    left: float = 0.46  # of the first panel in a row
    between: float = 0.1
    above: float = 0.2
    high: float = 1.2
    below: float = 0.16
    right: float = 0.08
    head: float = 0.0
    foot: float = 0.14


def page(
    rows: int,
    columns: int,
    room: Room,
    legend: Mapping[str, Any] = {},
    notes: Sequence[str] = (),
    width: float = PAGE,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with its panels (rows, columns), a legend above them and a note of all that is worth a word below.

    Args:
        legend: styles, or handles, by label.
    """
    labels = [shorten(label, min(width - 0.6, _LABEL), SIZE) for label in legend]
    across = _legend_columns(labels, width)
    top = 0.06 + 0.145 * -(-len(labels) // across) if labels else 0.0
    top += room.head
    each = room.above + room.high + room.below
    told = wrap("; ".join(note for note in notes if note), width - 0.1, SMALL)
    high = top + each * rows + room.foot + 0.105 * len(told) + 0.06
    figure = Figure(figsize=(width, high))
    if labels:
        handles = [key(style) if isinstance(style, Style) else style for style in legend.values()]
        where: dict[str, Any] = {"loc": "upper center", "borderaxespad": 0.3, "frameon": False}
        spaces: dict[str, Any] = {"labelspacing": 0.35, "columnspacing": 1.2, "handlelength": 2.4}
        figure.legend(handles, [*map(literal, labels)], ncols=across, fontsize=SIZE, **where, **spaces)
    wide = (width - room.left - room.right - (columns - 1) * room.between) / columns
    panels = [
        [
            place(figure, room.left + c * (wide + room.between), top + each * r + room.above, wide, room.high)
            for c in range(columns)
        ]
        for r in range(rows)
    ]
    write(figure, 0.05, high - 0.04, "\n".join(told), va="bottom", fontsize=SMALL, color="#555555")
    return figure, panels


def _legend_columns(labels: Sequence[str], width: float) -> int:
    each = 0.52 + max((inches(label, SIZE) for label in labels), default=0)
    return max(1, min(len(labels), int(width / each)))


def title(axes: Axes, text: str, **settings: Any) -> None:
    """Above a panel, cut to its width."""
    cut = shorten(text, width_of(axes), SIZE, settings.get("weight") == "bold")
    axes.set_title(literal(cut), fontsize=SIZE, pad=2.5, **settings)


def width_of(axes: Axes) -> float:
    """In inches."""
    return float(axes.get_window_extent().width / axes.figure.dpi)


def name_axes(axes: Axes, x: str = "", y: str = "") -> None:
    axes.set_xlabel(x, fontsize=SIZE, labelpad=1)
    axes.set_ylabel(y, fontsize=SIZE, labelpad=1.5)


# ------------------------------------------------------------------------------------------------ what is compared


@dataclass(frozen=True)
class Compared:
    """What a figure of strategies by split shows.

    Attributes:
        splits: those shown.
        styles: by strategy; grey for those that are not among the best, where there are many.
        notes: what is left out.
    """

    splits: list[Split]
    styles: dict[str, Style]
    notes: list[str]

    @property
    def told(self) -> dict[str, Style]:
        """Without the grey ones."""
        return {label: style for label, style in self.styles.items() if style != OTHER}


def compared(results: Results, splits: int) -> Compared:
    """The first splits of the plan, and a style for every strategy.

    Raises:
        NotApplicable: if no cell is finished.
    """
    found = finished_splits(results)
    notes = [*results.unfinished(), left_out(len(found) - splits, "split", "splits")]
    return Compared(found[:splits], line_styles(found), notes)


def grey(compared: Compared) -> str:
    """Which strategies are drawn in grey."""
    return grey_note(compared.styles)


def not_shown(compared: Compared) -> str:
    """Which strategies have no row, in figures that leave the grey ones out."""
    names = [label for label, style in compared.styles.items() if style == OTHER]
    return f"the best of each split by held-out loss or FID; not shown: {', '.join(names)}" if names else ""


# ------------------------------------------------------------------------------------------------ lines with bands


def draw_lines(axes: Axes, lines: Mapping[str, Line], styles: Mapping[str, Style]) -> None:
    """Means over seeds with their bands behind them; grey ones without."""
    for label, line in lines.items():
        style, band = styles[label], line.band
        if band is not None and style != OTHER:
            axes.fill_between(line.x, *band, color=style.colour, alpha=0.15, lw=0)
        _draw_line(axes, line.x, line.mean, style)
    plain(axes)


def _draw_line(axes: Axes, x: Array, y: Array, style: Style) -> None:
    central, few = style.colour == REFERENCE, max(1, len(x) // 5)
    axes.plot(
        x,
        y,
        style.dash,
        color=style.colour,
        marker=style.marker or ("o" if len(x) == 1 else ""),
        markersize=2 if style == OTHER else 2.8,
        markevery=few,
        lw=1.7 if central else 0.6 if style == OTHER else 1.0,
        zorder=1 if style == OTHER else 2 if central else 3,
    )


def log_heights(panels: Sequence[Axes], lines: Sequence[Line]) -> None:
    """One logarithmic axis for all panels: it holds the means, and the bands as far as half an octave around them."""
    ends = heights(lines)
    for axes in panels:
        if ends is None:
            axes.set_yticks([])
        else:
            log_axis(axes, "y", *ends)


def heights(lines: Sequence[Line]) -> tuple[float, float] | None:
    """What a logarithmic axis must hold: the means, and the bands as far as half an octave around them; None where no
    mean is positive.
    """
    means = np.concatenate([np.empty(0), *(line.mean for line in lines)])
    means = means[means > 0]
    if not len(means):
        return None
    ends = np.concatenate([*(end for line in lines if (band := line.band) for end in band), means])
    return max(means.min() / 1.4, ends.min()), min(means.max() * 1.4, ends.max())
