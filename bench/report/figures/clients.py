"""How differently clients fare: held-out loss and FID by client, a row a strategy."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from bench.pictures.axes import OTHER, log_axis, plain, say
from bench.pictures.style import Array, NotApplicable, Style, literal, save
from bench.report.figures.layout import DPI, SIZE, SMALL, Room, compared, name_axes, not_shown, page, title
from bench.report.figures.overview_parts import three_digits
from bench.report.figures.table import NAME
from bench.report.figures.why_data import Row, read_rows
from bench.report.figures.why_rows import DOTS_SHOWN
from bench.report.figures.widths import shorten
from bench.report.results import Results

SPLITS_SHOWN = 4
_STEP = 0.125  # inches of a row
_NUMBER = 0.4  # inches, of a standard deviation at the right of its row


def client_spread(results: Results, *paths: Path) -> None:
    """Held-out losses and FIDs of clients of all seeds, with their mean and standard deviation, in every split.

    Raises:
        NotApplicable: if no finished cell tells of its clients.
    """
    shown = compared(results, SPLITS_SHOWN)
    blocks = [[row for row in read_rows(split) if _leads(row, shown.styles)] for split in shown.splits]
    rows = [row for block in blocks for row in block]
    names = ["held-out loss by client"] * any((row.client_loss > 0).any() for row in rows)
    names += ["FID by client"] * any((row.client_fid > 0).any() for row in rows)
    if not names:
        raise NotApplicable("no finished cell tells how its clients fare")
    many = any(max(len(row.client_loss), len(row.client_fid)) > DOTS_SHOWN for row in rows)
    marks = "range and middle half of clients" if many else "a dot a client"
    notes = [f"{marks} of all seeds, a bar at their mean, the standard deviation at the right"]
    notes += ["of centralized training: its loss on the clients' mixes of classes"] * any(map(_central, rows))
    high = _STEP * max(map(len, blocks)) + 0.06
    room = Room(left=NAME + 0.1, between=_NUMBER + 0.1, above=0.2, high=high, right=_NUMBER)
    figure, panels = page(len(blocks), len(names), room, {}, [*notes, *shown.notes, not_shown(shown)])
    for split, block, line in zip(shown.splits, blocks, panels, strict=True):
        title(line[0], split.name or "centralized training", loc="left", weight="bold")
        _name_rows(line[0], block)
        for axes, name in zip(line, names, strict=True):
            _draw(axes, [_values(row, name) for row in block], [shown.styles[row.group.strategy] for row in block])
            name_axes(axes, name if line is panels[-1] else "")
    for column, name in enumerate(names):
        _share([line[column] for line in panels], [_values(row, name) for row in rows])
    save(figure, *paths, dpi=DPI)


def _leads(row: Row, styles: dict[str, Style]) -> bool:
    return styles[row.group.strategy] != OTHER


def _central(row: Row) -> bool:
    return row.group.central and len(row.client_loss) > 0


def _values(row: Row, name: str) -> Array:
    return row.client_fid if name.startswith("FID") else row.client_loss


def _name_rows(axes: Axes, rows: Sequence[Row]) -> None:
    for number, row in enumerate(rows):
        label, weight = row.group.strategy, "bold" if row.group.central else "normal"
        axes.annotate(
            literal(shorten(label, NAME, SIZE, bold=True)),
            (0, number),
            (-4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=SIZE,
            weight=weight,
        )


def _draw(axes: Axes, values: Sequence[Array], styles: Sequence[Style]) -> None:
    plain(axes)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_yticks(range(len(values)), [])
    axes.tick_params(left=False)
    for number, (found, style) in enumerate(zip(values, styles, strict=True)):
        if not len(found):
            continue
        if len(found) > DOTS_SHOWN:
            low, first, third, high = np.quantile(found, [0, 0.25, 0.75, 1])
            axes.plot([low, high], [number] * 2, color=style.colour, lw=0.8)
            axes.plot([first, third], [number] * 2, color=style.colour, lw=3.5, alpha=0.5, solid_capstyle="butt")
        else:
            axes.plot(found, [number] * len(found), "o", color=style.colour, markersize=2.4, alpha=0.6, mew=0)
        axes.plot(found.mean(), number, "|", color=style.colour, markersize=7, mew=1.4)
        told = three_digits(found.std(ddof=1)) if len(found) > 1 else ""
        beside = ("axes fraction", "data")
        axes.annotate(
            told, (1, number), (3, 0), xycoords=beside, textcoords="offset points", va="center", fontsize=SMALL
        )


def _share(panels: Sequence[Axes], values: Sequence[Array]) -> None:
    """One scale for all splits."""
    positive = np.concatenate([found[found > 0] for found in values])
    for axes in panels:
        log_axis(axes, "x", positive.min(), positive.max())
        if not axes.lines:
            say(axes, "not known")
