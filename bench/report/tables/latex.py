"""What tables in LaTeX are made of, for pdflatex with booktabs, graphicx and multirow, and siunitx where asked for."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

PACKAGES = ("array", "booktabs", "graphicx", "multirow")
MOST_LINES = 32  # of a table that shall fit on a page with its caption, which may take a third of it

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{character: f"{{{character}}}" for character in "[]*"},  # which a line's end before them would take as its own
    **dict.fromkeys("\t\n\v\f\r", " "),
}
_SYMBOLS = {
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "β": r"$\beta$",
    "ε": r"$\epsilon$",
    "∞": r"$_\infty$",
    "·": r"$\cdot$",
    "³": "$^3$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
}


def escape(text: str) -> str:
    """`text` with LaTeX's special characters escaped; what is not printable ASCII becomes a question mark."""
    return "".join(_LATEX.get(c, c if c.isascii() and c.isprintable() else "?") for c in text)


def typeset(text: str) -> str:
    """As `escape`, but symbols that tables use are set."""
    return "".join(_SYMBOLS.get(c) or escape(c) for c in text)


@dataclass(frozen=True)
class Tabular:
    """A tabular environment: its column types, heads, and blocks of rows, all of them LaTeX.

    Attributes:
        rules: how many of the blocks have a rule above; others have some space.
    """

    columns: str
    heads: list[str]
    blocks: list[list[str]]
    rules: int


@dataclass(frozen=True)
class Frame:
    """What all tables of a grid have in common.

    Attributes:
        name: the grid's.
        siunitx: whether numbers stand in siunitx's columns.
    """

    name: str
    siunitx: bool = False

    def table(self, tabulars: Sequence[Tabular], caption: str, label: str = "") -> str:
        """A float, or several that follow one another where it were longer than a page."""
        plain = "".join(c for c in self.name if (c.isascii() and c.isalnum()) or c == "-")
        return _template("table.tex.jinja").render(
            packages=[*PACKAGES, "siunitx"] if self.siunitx else PACKAGES,
            siunitx=self.siunitx,
            caption=typeset(caption),
            label=f"{plain}-{label.replace('_', '-')}" if label else plain,
            floats=_floats(tabulars),
        )


def _floats(tabulars: Sequence[Tabular]) -> list[list[Tabular]]:
    """Tabulars that fit on one page go together."""
    floats: list[list[Tabular]] = []
    for tabular in tabulars:
        if floats and sum(map(_length, [*floats[-1], tabular])) <= MOST_LINES:
            floats[-1].append(tabular)
        else:
            floats.append([tabular])
    return floats


def _length(tabular: Tabular) -> int:
    return len(tabular.heads) + sum(map(len, tabular.blocks))


@cache
def _template(name: str) -> Template:
    """A template of this folder; its delimiters, << >> and <% %>, leave LaTeX's braces alone."""
    made = Environment(
        loader=PackageLoader("bench.report.tables", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        keep_trailing_newline=True,
    )
    return made.get_template(name)


def panels(columns: Sequence[Any], most: int) -> list[Sequence[Any]]:
    """Columns in parts of about the same size that are narrow enough."""
    count = max(1, math.ceil(len(columns) / most))
    borders = [round(i * len(columns) / count) for i in range(count + 1)]
    return [columns[a:b] for a, b in pairwise(borders)]


def pages(blocks: Iterable[Sequence[Any]]) -> list[list[Sequence[Any]]]:
    """Blocks page by page; only one that is longer than a page is taken apart."""
    found: list[list[Sequence[Any]]] = [[]]
    for block in blocks:
        rest = block
        while len(rest):
            room = MOST_LINES - sum(map(len, found[-1]))
            if room == 0 or room < len(rest) <= MOST_LINES:
                found.append([])
                room = MOST_LINES
            found[-1].append(rest[:room])
            rest = rest[room:]
    return [page for page in found if page]


# ------------------------------------------------------------------------------------------------ columns of numbers


@dataclass(frozen=True)
class Place:
    """What stands in one place of a column of numbers.

    Attributes:
        number: as `columns.number` writes it; "" if there is none.
        why: the text instead.
        beside: LaTeX right of the number.
        mark: as of an `Entry`.
    """

    number: str = ""
    why: str = ""
    beside: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Numbers:
    """A column of numbers, right-aligned or siunitx's, and one beside it where anything stands there."""

    siunitx: str
    beside: bool

    @property
    def width(self) -> int:
        """Number of LaTeX's columns."""
        return 1 + self.beside

    @property
    def columns(self) -> str:
        """Their types."""
        return (f"S[table-format={self.siunitx}]" if self.siunitx else "r") + ("@{}l" if self.beside else "")

    def head(self, text: str) -> str:
        """The column's head."""
        if self.beside:
            return rf"\multicolumn{{2}}{{c}}{{{typeset(text)}}}"
        return f"{{{typeset(text)}}}" if self.siunitx else typeset(text)

    def cell(self, place: Place) -> str:
        """A row's cells."""
        text = self._in_siunitx(place) if self.siunitx else inline(replace(place, beside=""))
        return f"{text} & {place.beside}" if self.beside else text

    def _in_siunitx(self, place: Place) -> str:
        if place.mark == "best":
            return rf"\bfseries {place.number}"
        return place.number if place.number and not place.mark else f"{{{inline(replace(place, beside=''))}}}"


def numbers(places: Iterable[Place], siunitx: bool, beside: bool | None = None) -> Numbers:
    """The column for these places; `beside`: whether there is one beside it, by default if any place needs it."""
    found = list(places)
    if beside is None:
        beside = any(place.beside for place in found)
    return Numbers(_table_format(place.number for place in found) if siunitx else "", beside)


def _table_format(texts: Iterable[str]) -> str:
    """siunitx's table-format that holds all of these numbers."""
    known = [text for text in texts if text]
    parts = [text.lstrip("+-").partition(".") for text in known]
    sign = "+" if any(text[0] in "+-" for text in known) else ""
    before, after = (max((len(part[i]) for part in parts), default=0) for i in (0, 2))
    return f"{sign}{max(before, 1)}.{after}"


def inline(place: Place) -> str:
    """A place in running text, marked and with what stands beside it."""
    text = {"": "{}", "best": r"\textbf{{{}}}", "tied": r"\underline{{{}}}"}[place.mark]
    return text.format(place.number.replace("-", "$-$") or typeset(place.why)) + place.beside


def row(cells: Iterable[str]) -> str:
    """A row without its end."""
    return " & ".join(cells)


def line(cells: Iterable[str]) -> str:
    """A row with its end."""
    return rf"{row(cells)} \\"
