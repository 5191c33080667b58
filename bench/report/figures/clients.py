"""Test loss and FID-mix of single clients, a row a strategy."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.pictures.style import NotApplicable
from bench.report.figures import panels
from bench.report.figures.captions import Caption, Picture, paged
from bench.report.figures.compared import Compared, compared
from bench.report.figures.layout import HIGHEST, blank, head, stacked, wrapped
from bench.report.figures.rows import Row, read_rows
from bench.report.results import Results

_STEP, _AROUND = 0.135, 0.38  # inches of a row, and around the rows of a split
_VALUES = {"test loss by client": "client_loss", "FID-mix by client": "client_fid"}


def client_spread(results: Results) -> list[Picture]:
    """Test losses and FID-mixes of the clients of all seeds, with their mean and standard deviation, in every split.

    Raises:
        NotApplicable: if no finished cell tells of its clients.
    """
    shown = compared(results)
    blocks = [
        (split.name, [row for row in read_rows(split) if row.group.strategy in shown.leading]) for split in shown.splits
    ]
    blocks = [(name, rows) for name, rows in blocks if rows]
    every = [row for _, rows in blocks for row in rows]
    heights = [_AROUND + _STEP * len(rows) for _, rows in blocks]
    names = [name for name, key in _VALUES.items() if any((getattr(row, key) > 0).any() for row in every)]
    if not names:
        raise NotApplicable("no finished cell has losses or FID-mixes of its clients")
    scales = {name: panels.positive([getattr(row, _VALUES[name]) for row in every]) for name in names}

    def draw(part: Sequence[tuple[str, list[Row]]]) -> Figure:
        high = [_AROUND + _STEP * len(rows) for _, rows in part]
        figure = blank(sum(high))
        grid = figure.subplots(len(part), len(names), squeeze=False, height_ratios=high)
        for (split, rows), line in zip(part, grid, strict=True):
            head(line[0], wrapped(split, 80))
            for axes, name in zip(line, names, strict=True):
                _draw(axes, rows, name, scales[name], shown, first=axes is line[0])
        for axes, name in zip(grid[-1], names, strict=True):
            axes.set_xlabel(f"{name} (log)")
        return figure

    notes = [*_notes(every), shown.not_shown()]
    caption = Caption("Test loss and FID-mix of single clients", notes, "split", "FID-mix by client" in names)
    return paged(results, caption, blocks, stacked(blocks, heights, HIGHEST), draw)


def _notes(rows: Sequence[Row]) -> list[str]:
    many = any(max(len(row.client_loss), len(row.client_fid)) > panels.DOTS_SHOWN for row in rows)
    marks = "range and middle half of the clients of all seeds" if many else "dots: clients of all seeds"
    notes = [f"{marks}; bar: their mean; sd: their standard deviation"]
    central = any(row.group.central and len(row.client_loss) for row in rows)
    return notes + ["centralized training: the loss its model has on each client's mix of classes"] * central


def _draw(
    axes: Axes, rows: Sequence[Row], name: str, scale: tuple[float, float] | None, shown: Compared, first: bool
) -> None:
    values = [getattr(row, _VALUES[name]) for row in rows]
    beside: Any = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    if not any(map(len, values)):
        panels.nothing(axes, "not known")
    panels.rows(axes, len(rows), [shown.name(row.group.strategy) for row in rows] if first else (), scale)
    panels.dots(axes, values, [shown.styles[row.group.strategy].colour for row in rows])
    spreads = {k: panels.three_digits(own.std(ddof=1)) for k, own in enumerate(values) if len(own) > 1}
    for height, text in ({-1: "sd"} | spreads).items() if spreads else ():
        axes.annotate(text, (1, height), (3, 0), va="center", **beside)
