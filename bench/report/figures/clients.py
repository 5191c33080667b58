"""How differently clients fare: held-out loss and FID by client, a row a strategy."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.pictures.style import NotApplicable
from bench.report.figures import panels
from bench.report.figures.captions import Picture, paged
from bench.report.figures.compared import Compared, compared, split_title
from bench.report.figures.layout import HIGHEST, blank, head, stacked
from bench.report.figures.rows import Row, read_rows
from bench.report.results import Results

_STEP, _AROUND = 0.135, 0.38  # inches of a row, and around the rows of a split
_VALUES = {"held-out loss by client": "client_loss", "FID by client": "client_fid"}


def client_spread(results: Results) -> list[Picture]:
    """Held-out losses and FIDs of clients of all seeds, with their mean and standard deviation, in every split.

    Raises:
        NotApplicable: if no finished cell tells of its clients.
    """
    shown = compared(results)
    blocks = [[row for row in read_rows(split) if row.group.strategy in shown.leading] for split in shown.splits]
    blocks = [rows for rows in blocks if rows]
    every = [row for rows in blocks for row in rows]
    names = [name for name, key in _VALUES.items() if any((getattr(row, key) > 0).any() for row in every)]
    if not names:
        raise NotApplicable("no finished cell tells how its clients fare")
    scales = {name: panels.positive([getattr(row, _VALUES[name]) for row in every]) for name in names}

    def draw(part: Sequence[list[Row]]) -> Figure:
        heights = [_AROUND + _STEP * len(rows) for rows in part]
        figure = blank(sum(heights))
        grid = figure.subplots(len(part), len(names), squeeze=False, height_ratios=heights)
        for rows, line in zip(part, grid, strict=True):
            head(line[0], split_title(rows[-1].group.split))
            for axes, name in zip(line, names, strict=True):
                _draw(axes, rows, name, scales[name], shown, first=axes is line[0])
        for axes, name in zip(grid[-1], names, strict=True):
            axes.set_xlabel(name)
        return figure

    about = "How differently clients fare", [*_notes(every), shown.not_shown()]
    parts = stacked(blocks, [_AROUND + _STEP * len(rows) for rows in blocks], HIGHEST)
    return paged(results, about, blocks, parts, draw, "split")


def _notes(rows: Sequence[Row]) -> list[str]:
    many = any(max(len(row.client_loss), len(row.client_fid)) > panels.DOTS_SHOWN for row in rows)
    marks = "range and middle half of clients" if many else "a dot a client"
    notes = [f"{marks} of all seeds, a bar at their mean, the standard deviation at the right"]
    central = any(row.group.central and len(row.client_loss) for row in rows)
    return notes + ["of centralized training: its loss on the clients' mixes of classes"] * central


def _draw(
    axes: Axes, rows: Sequence[Row], name: str, scale: tuple[float, float] | None, shown: Compared, first: bool
) -> None:
    values = [getattr(row, _VALUES[name]) for row in rows]
    if not any(map(len, values)):
        panels.nothing(axes, "not known")
    panels.rows(axes, len(rows), [shown.name(row.group.strategy) for row in rows] if first else (), scale)
    panels.dots(axes, values, [shown.styles[row.group.strategy].colour for row in rows])
    for number, found in enumerate(values):
        if len(found) > 1:
            beside: Any = ("axes fraction", "data")
            text = panels.three_digits(found.std(ddof=1))
            axes.annotate(text, (1, number), (3, 0), beside, "offset points", va="center")
