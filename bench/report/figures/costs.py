"""What quality costs: held-out loss and FID over bytes, rounds, samples, sequential steps and seconds, by split."""

from collections.abc import Iterable, Sequence
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
from bench.report.figures.overview_data import unfinished
from bench.report.figures.split_data import (
    Curve,
    Split,
    fid_curve,
    fid_samples,
    final_fid,
    finished_splits,
    loss_curve,
)
from bench.report.figures.split_parts import SPLITS_SHOWN, grey_note, left_out, line_styles
from bench.report.metrics import COSTS
from bench.store.grid_folder import Store

_LEFT, _PANEL, _BETWEEN = 0.62, 1.68, 0.11  # inches, from left to right
_TITLE, _HIGH, _GAP, _BELOW = 0.27, 1.42, 0.1, 0.42  # inches, from above to below, of a split
_LOG_FROM = {"megabytes": 10.0}  # costs that span such a factor have a logarithmic axis; the others from 30


@dataclass(frozen=True)
class Block:
    """The curves of one split by strategy, in drawing order; None where nothing is known."""

    name: str
    loss: dict[str, Curve | None]
    fid: dict[str, Curve | None]

    def curves(self, row: int) -> dict[str, Curve]:
        """Those that are known of the loss (row 0) or of FID (row 1)."""
        return {label: curve for label, curve in (self.loss, self.fid)[row].items() if curve is not None}


def costs(store: Store, *paths: Path) -> None:
    """What quality costs, for each split: held-out loss and FID against all that training is paid in.

    FID along training is of few images, where `evaluation.curve_every` had them drawn; else it is the finished models',
    one point each. Lines are means over seeds, with the range in which all seeds lie. What exchanges nothing is a
    horizontal line over bytes. A note says what is left out.

    Raises:
        NotApplicable: if no cell is finished, or no round tells both of quality and of its costs.
    """
    splits = finished_splits(store)
    shown, styles = splits[:SPLITS_SHOWN], line_styles(store, splits)
    along, counts = fid_samples(store, (e for split in shown for e in split.experiments))
    blocks = [read_block(store, split, along) for split in shown]
    if not any(block.curves(0) or block.curves(1) for block in blocks):
        raise NotApplicable("no round of a finished cell tells both its loss or FID and its costs")
    missing = [label for block in blocks for label, curve in block.fid.items() if curve is None]
    notes = [
        *unfinished(store),
        left_out(len(splits) - len(shown), "split", "splits"),
        f"without FID: {', '.join(dict.fromkeys(missing))}" if missing else "",
        "a level line over MB: nothing travels, its height is the last value" if any(map(_has_level, blocks)) else "",
        "bands: from the lowest seed to the highest" if _several_seeds(shown) else "",
        grey_note(styles),
    ]
    samples = f"\nof {' or '.join(f'{n:,}' for n in counts)} samples" if counts else ""
    _draw(blocks, styles, ("held-out loss", f"FID{samples}"), wrapped(notes, 155), *paths)


def _several_seeds(splits: Iterable[Split]) -> bool:
    return any(len(experiment.cells) > 1 for split in splits for experiment in split.experiments)


def read_block(store: Store, split: Split, along: bool) -> Block:
    """The curves of a split, FID along training or of the finished models."""
    fid = fid_curve if along else final_fid
    return Block(
        split.name,
        {e.strategy: loss_curve(store, e) for e in split.experiments},
        {e.strategy: fid(store, e) for e in split.experiments},
    )


def _has_level(block: Block) -> bool:
    return any(not curve.exchanges for curve in block.curves(0).values())


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
            _draw_panel(axes, block.curves(row), cost, styles)
            axes.tick_params(labelleft=column == 0, labelbottom=row == 1)
            if column == 0:
                axes.set_ylabel(names[row], fontsize=8, labelpad=2)
            if row == 1:
                axes.set_xlabel(COSTS[cost], fontsize=8, labelpad=2)
            drawn[column][row].append(axes)
    _share_axes(blocks, drawn)
    write(figure, 0.1, high - 0.05, "\n".join(notes), va="bottom", **NOTE)
    save(figure, *paths)


def _draw_panel(axes: Axes, curves: dict[str, Curve], cost: str, styles: dict[str, Style]) -> None:
    for label, curve in curves.items():
        style, x = styles[label], curve.costs[cost]
        if cost == "megabytes" and not curve.exchanges:
            axes.axhline(curve.mean[-1], color=style.colour, ls=style.dash, lw=1.6 if style.colour == REFERENCE else 1)
            continue
        if style != OTHER and len(x) > 1:
            axes.fill_between(x, curve.low, curve.high, color=style.colour, alpha=0.15, lw=0)
        draw_line(axes, x, curve.mean, style)
    plain(axes)
    if not curves:
        say(axes, "not known")


def _share_axes(blocks: Sequence[Block], drawn: Sequence[Sequence[Sequence[Axes]]]) -> None:
    """The same scale for the same quantity in all panels of a row or column, so that splits compare."""
    for row in range(2):
        values = [value for block in blocks for curve in block.curves(row).values() for value in _ends(curve)]
        for axes in (axes for column in drawn for axes in column[row]):
            if positive := [value for value in values if value > 0]:
                log_axis(axes, "y", min(positive), max(positive))
            else:
                axes.set_yticks([])
    for cost, column in zip(COSTS, drawn, strict=True):
        curves = [c for block in blocks for row in range(2) for c in block.curves(row).values()]
        paid = [x for curve in curves for x in curve.costs[cost] if cost != "megabytes" or curve.exchanges]
        for axes in (axes for row in column for axes in row):
            _cost_axis(axes, cost, paid)


def _ends(curve: Curve) -> Iterable[float]:
    return (*curve.low, *curve.high)


def _cost_axis(axes: Axes, cost: str, paid: Sequence[float]) -> None:
    if not paid:
        axes.set_xticks([])
        say(axes, "nothing travels", 0.85)
    elif cost != "round" and min(paid) > 0 and max(paid) > _LOG_FROM.get(cost, 30.0) * min(paid):
        log_axis(axes, "x", min(paid), max(paid))
    else:
        axes.set_xlim(0, 1.05 * max(paid) or 1)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=cost == "round"))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
