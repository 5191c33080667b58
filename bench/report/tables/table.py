"""A table as a value: what stands in its places, whoever writes it out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench.config.names import MISSING

Mark = Literal["", "best", "tied", "state"]
Kind = Literal["axis", "seeds", "number", "text"]


@dataclass(frozen=True)
class Place:
    """What stands in one place.

    Attributes:
        text: a number as text, a name, or why there is no number.
        value: what the place is sorted by; a number in the unit of its text.
        beside: what stands smaller to its right, "± 0.4" say, or an interval in brackets.
        raised: a superscript: how many of the planned seeds have the number, or the letter of a note.
        mark: whether it is the best of its split, ties with the best, or says what became of a cell.
        note: what a page tells beside it.
    """

    text: str = ""
    value: float | str | None = None
    beside: str = ""
    raised: str = ""
    mark: Mark = ""
    note: str = ""

    @property
    def is_number(self) -> bool:
        return isinstance(self.value, float)

    @property
    def printed(self) -> str:
        """The text, a negative number with the sign that printers have; an exponent keeps its own, as grids read it."""
        return self.text.replace("-", "−", 1) if self.is_number and self.text.startswith("-") else self.text


NOTHING = Place(MISSING)


@dataclass(frozen=True)
class Head:
    """A column.

    Attributes:
        text: its heading.
        short: its heading where there is little room, in lines; "" for `text`.
        group: the heading above it that it shares with its neighbours; "" for none.
        key: its name in the CSV files.
        about: a sentence on what it is.
        spread: whether a terminal shows what stands beside its numbers, too.
    """

    text: str
    kind: Kind = "number"
    short: str = ""
    group: str = ""
    key: str = ""
    about: str = ""
    spread: bool = False


@dataclass(frozen=True)
class Row:
    """Places, one a column; or, if it `spans`, one for all columns after the leading ones."""

    places: tuple[Place, ...]
    spans: bool = False


@dataclass(frozen=True)
class Table:
    """Rows in blocks that belong together.

    Attributes:
        name: of its file, without a suffix; "summary" or "fid", say.
        title: what it shows, in a few words.
        leads: how many of its columns say what a row is.
        once: how many of these stand once for the rows of a block that share them.
        notes: sentences without which it cannot be read; they stand below it.
    """

    name: str
    title: str
    heads: tuple[Head, ...]
    blocks: tuple[tuple[Row, ...], ...]
    leads: int = 1
    once: int = 0
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[Row]:
        return [row for block in self.blocks for row in block]

    def as_json(self) -> dict[str, Any]:
        """Columns, and rows of [value, text, note, mark], as the page shows them; of a table without a spanning row."""
        columns = [
            {"key": head.key, "head": f"{head.group} {head.text}".strip(), "kind": head.kind, "about": head.about}
            for head in self.heads
        ]
        rows = [[_field(place) for place in row.places] for row in self.rows]
        return {"columns": columns, "rows": rows}


def _field(place: Place) -> list[Any]:
    text = f"{place.printed}{place.beside and ' ' + place.beside}{place.raised and f' ({place.raised})'}"
    return [place.value, text, place.note, place.mark]


def minus(text: str) -> str:
    """With the sign of negative numbers as printers have it."""
    return re.sub(r"-(?=\d)", "−", text)


def words(texts: Sequence[str]) -> tuple[Place, ...]:
    """Places of texts that are sorted as such."""
    return tuple(Place(text, text) for text in texts)
