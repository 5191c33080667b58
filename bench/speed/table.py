"""The measurements as tables on a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from bench.command import print_whole
from bench.speed.measure import LOUD, Row

if TYPE_CHECKING:
    from rich.console import Console

_HEADS = (
    "program",
    "median",
    "least to greatest",
    "unit",
    "ratio",
    "least to greatest",
    "others",
    "before",
    "now / before",
)


def show(found: Sequence[Row], before: Mapping[str, float], console: "Console") -> None:
    """A table a kind of work; with values `before` by `Row.key` two columns more."""
    for part, what in dict.fromkeys((row.part, row.what) for row in found):
        own = [row for row in found if (row.part, row.what) == (part, what)]
        table = Table(title=f"{part}: {what}", title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
        for head in _HEADS if before else _HEADS[:-2]:
            table.add_column(head, justify="left" if head == "program" else "right", no_wrap=True)
        for row in own:
            table.add_row(*(_cells(row, before.get(row.key)) if before else _cells(row, None)[:-2]))
        print_whole(console, table)
        for row in own:
            if row.failed:
                console.print(f"{row.program} failed: {row.failed}")
        console.print()
    console.print(
        "ratio: to the first program of its table, in the same repetition. others: share of the machine that other "
        f"programs took, where it was most; above {LOUD:.0%} a program is run again, at most twice."
    )


def _cells(row: Row, before: float | None) -> list[str]:
    known = row.value is not None and before
    return [
        row.program,
        _number(row.value),
        _ends(row.low, row.high),
        row.unit,
        _number(row.ratio),
        _ends(row.ratio_low, row.ratio_high),
        "" if row.value is None else f"{row.others:.0%}",
        _number(before),
        _number(row.value / before) if known and row.value is not None and before is not None else "",
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None else f"{_number(low)} to {_number(high)}"
