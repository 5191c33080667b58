"""What quality costs: held-out loss and FID over bytes, rounds, samples, sequential steps and seconds, by split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.pictures.axes import (
    NOTE,
    OTHER,
    WIDTH,
    draw_line,
    headline,
    key,
    log_axis,
    place,
    plain,
    say,
    short,
    wrapped,
    write,
)
from bench.pictures.style import REFERENCE, NotApplicable, Style, literal, save
from bench.report.figures.layout import log_heights
from bench.report.figures.panels import known
from bench.report.figures.split_parts import (
    SPLITS_SHOWN,
    fid_images,
    fid_line,
    finished_splits,
    grey_note,
    left_out,
    line_styles,
)
from bench.report.lines import Line, round_line, seeds_note
from bench.report.metrics import COSTS
from bench.report.results import Results, Split

_LEFT, _PANEL, _BETWEEN = 0.62, 1.68, 0.11  # inches, from left to right
_TITLE, _HIGH, _GAP, _BELOW = 0.27, 1.42, 0.1, 0.42  # inches, from above to below, of a split
_LOG_FROM = {"megabytes": 10.0}  # costs that span such a factor have a logarithmic axis; the others from 30


@dataclass(frozen=True)
class Block:
    """The lines of one split: of the held-out loss (row 0) and of FID (row 1), by cost and strategy."""

    name: str
    rows: tuple[dict[str, dict[str, Line]], dict[str, dict[str, Line]]]

    def lines(self, row: int) -> list[Line]:
        """Those over all costs."""
        return [line for lines in self.rows[row].values() for line in lines.values()]


def costs(results: Results, *paths: Path) -> None:
    """What quality costs, for each split: held-out loss and FID against all that training is paid in.

    FID along training is of few images, where `evaluation.curve_every` had them drawn; else it is the finished models',
    one point each. What exchanges nothing is a horizontal line over bytes. A note says what is left out.

    Raises:
        NotApplicable: if no cell is finished, or no round tells both of quality and of its costs.
    """
    splits = finished_splits(results)
    shown, styles = splits[:SPLITS_SHOWN], line_styles(splits)
    along, counts = fid_images(shown)
    blocks = [read_block(split, along) for split in shown]
    every = [line for block in blocks for row in range(2) for line in block.lines(row)]
    if not every:
        raise NotApplicable("no round of a finished cell tells both its loss or FID and its costs")
    pairs = zip(shown, blocks, strict=True)
    missing = [g.strategy for split, block in pairs for g in split.groups if g.strategy not in block.rows[1]["round"]]
    level = any(not line.x[-1] for block in blocks for line in block.rows[0]["megabytes"].values())
    notes = [
        *results.unfinished(),
        left_out(len(splits) - len(shown), "split", "splits"),
        f"without FID: {', '.join(dict.fromkeys(missing))}" if missing else "",
        "a level line over MB: nothing travels, its height is the last value" if level else "",
        seeds_note(every),
        grey_note(styles),
    ]
    samples = f"\nof {' or '.join(f'{n:,}' for n in counts)} samples" if counts else ""
    _draw(blocks, styles, ("held-out loss", f"FID{samples}"), wrapped(notes, 155), *paths)


def read_block(split: Split, along: bool) -> Block:
    """The lines of a split, FID along training or of the finished models."""
    groups = split.groups
    loss = {x: known((group.strategy, round_line(group, "heldout_loss", x)) for group in groups) for x in COSTS}
    fid = {x: known((group.strategy, fid_line(group, along, x)) for group in groups) for x in COSTS}
    return Block(split.name, (loss, fid))


def _draw(
    blocks: Sequence[Block], styles: dict[str, Style], names: Sequence[str], notes: Sequence[str], *paths: Path
) -> None:
    told = {label: style for label, style in styles.items() if style != OTHER}
    columns = max(1, min(len(told), 5, 125 // (9 + max(map(len, told)))))
    legend = 0.12 + 0.172 * -(-len(told) // columns)
    each = _TITLE + 2 * _HIGH + _GAP + _BELOW
    high = legend + each * len(blocks) + 0.13 * len(notes) + 0.08
    figure = Figure(figsize=(WIDTH, high))
    settings: dict[str, Any] = {"loc": "upper center", "frameon": False, "fontsize": 8, "borderaxespad": 0.3}
    figure.legend([key(style) for style in told.values()], [*map(literal, told)], ncols=columns, **settings)
    costs_shown = list(COSTS)
    drawn: list[list[list[Axes]]] = [[[], []] for _ in COSTS]
    for number, block in enumerate(blocks):
        top = legend + each * number
        headline(figure, _LEFT, top + _TITLE - 0.07, block.name)
        for row, column in np.ndindex(2, len(COSTS)):
            cost, left = costs_shown[column], _LEFT + column * (_PANEL + _BETWEEN)
            axes = place(figure, left, top + _TITLE + row * (_HIGH + _GAP), _PANEL, _HIGH)
            _draw_panel(axes, block.rows[row][cost], cost, styles)
            axes.tick_params(labelleft=column == 0, labelbottom=row == 1)
            if column == 0:
                axes.set_ylabel(names[row], fontsize=8, labelpad=2)
            if row == 1:
                axes.set_xlabel(COSTS[cost], fontsize=8, labelpad=2)
            drawn[column][row].append(axes)
    _share_axes(blocks, drawn)
    write(figure, 0.1, high - 0.05, "\n".join(notes), va="bottom", **NOTE)
    save(figure, *paths)


def _draw_panel(axes: Axes, lines: dict[str, Line], cost: str, styles: dict[str, Style]) -> None:
    for label, line in lines.items():
        style, band = styles[label], line.band
        if cost == "megabytes" and not line.x[-1]:
            axes.axhline(line.mean[-1], color=style.colour, ls=style.dash, lw=1.6 if style.colour == REFERENCE else 1)
            continue
        if style != OTHER and band is not None and len(line.x) > 1:
            axes.fill_between(line.x, *band, color=style.colour, alpha=0.15, lw=0)
        draw_line(axes, line.x, line.mean, style)
    plain(axes)
    if not lines:
        say(axes, "not known")


def _share_axes(blocks: Sequence[Block], drawn: Sequence[Sequence[Sequence[Axes]]]) -> None:
    """The same scale for the same quantity in all panels of a row or column, so that splits compare."""
    for row in range(2):
        lines = [line for block in blocks for line in block.lines(row)]
        log_heights([axes for column in drawn for axes in column[row]], lines)
    for cost, column in zip(COSTS, drawn, strict=True):
        lines = [line for block in blocks for row in block.rows for line in row[cost].values()]
        paid = [x for line in lines for x in line.x if cost != "megabytes" or line.x[-1] > 0]
        for axes in (axes for row in column for axes in row):
            _cost_axis(axes, cost, paid, bool(lines))


def _cost_axis(axes: Axes, cost: str, paid: Sequence[float], known: bool) -> None:
    if not paid:
        axes.set_xticks([])
        if known:
            say(axes, "nothing travels", 0.85)
    elif cost != "round" and min(paid) > 0 and max(paid) > _LOG_FROM.get(cost, 30.0) * min(paid):
        log_axis(axes, "x", min(paid), max(paid))
    else:
        axes.set_xlim(0, 1.05 * max(paid) or 1)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=cost == "round"))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
