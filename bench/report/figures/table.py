"""Pictures that are tables: a row a strategy, a column a split, with names at the left and above."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.pictures.axes import OTHER, write
from bench.pictures.style import REFERENCE
from bench.report.figures.layout import SIZE, Compared, Room, compared, not_shown, page, title
from bench.report.figures.widths import shorten
from bench.report.results import Group, Results

NAME = 1.25  # inches, of a strategy


@dataclass(frozen=True)
class Table:
    """Groups by place; places without a finished cell are missing.

    Attributes:
        rows: strategies; centralized training first.
        columns: names of splits.
    """

    rows: list[str]
    columns: list[str]
    groups: dict[tuple[str, str], Group]
    shown: Compared

    @property
    def notes(self) -> list[str]:
        """What is left out."""
        return [*self.shown.notes, not_shown(self.shown)]


def read_table(results: Results, columns: int) -> Table:
    """The strategies that stand out (all, where they are few) in the first splits.

    Raises:
        NotApplicable: if no cell is finished.
    """
    shown = compared(results, columns)
    rows = [label for label, style in shown.styles.items() if style != OTHER]
    groups = {
        (group.strategy, split.name): group
        for split in shown.splits
        for group in split.groups
        if group.strategy in rows
    }
    held = [row for row in rows if any(strategy == row for strategy, _ in groups)]
    return Table(held, [split.name for split in shown.splits], groups, shown)


def frame(
    table: Table, high: float, between: float, notes: Sequence[str], below: float = 0.06, ticks: float = 0.0
) -> tuple[Figure, Mapping[tuple[str, str], Axes]]:
    """A figure with axes for every place, and the names of rows and columns; `ticks` inches between them."""
    room = Room(left=NAME + 0.1 + ticks, between=between, above=0.0, high=high, below=below, head=0.2, foot=0.02)
    figure, panels = page(len(table.rows), len(table.columns), room, {}, notes)
    for strategy, row in zip(table.rows, panels, strict=True):
        style = table.shown.styles[strategy]
        top = (1 - row[0].get_position().y0) * figure.get_size_inches()[1] - high / 2
        weight = "bold" if style.colour == REFERENCE else "normal"
        text = shorten(strategy, NAME, SIZE, bold=True)
        write(figure, NAME + 0.04, top, text, ha="right", va="center", fontsize=SIZE, weight=weight)
    for name, axes in zip(table.columns, panels[0], strict=True):
        title(axes, name or "centralized training")
    return figure, {
        (strategy, name): axes
        for strategy, row in zip(table.rows, panels, strict=True)
        for name, axes in zip(table.columns, row, strict=True)
    }
