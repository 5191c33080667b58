"""Tables in LaTeX, for pdflatex with booktabs, array and graphicx, and siunitx where asked for.

A table's file holds its body alone, and another one its caption, so that a paper's own float goes around both. No body
is wider than the place it is made for: columns that do not fit go below the others, and a row that fits nowhere is
turned. A body that is longer than a page goes on in another file.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import groupby
from typing import Self

from matplotlib.font_manager import findfont, get_font

from bench.report.paging import evened, filled
from bench.report.tables.table import NOTHING, Head, Place, Row, Table

Block = tuple[Row, ...]
WIDTHS = {"column": 234.0, "text": 397.0}  # points: of the narrowest column, and of the narrowest page, of usual styles
TURNED = 460.0  # points that a turned body may be long
MOST_LINES = 40  # of a body
TURNED_LINES = 24  # of one that is turned
# Points of a letter 1 point wide: in \footnotesize, and in \scriptsize, whose letters are wide for their size.
_SIZE, _SMALL = 8.5, 8.0
_NOTES, _LINE = 7.5, 8.0  # a letter of notes with its blanks, and a line of them
_GAP = 4.0  # points on each side of a column
_LONG, _LEAST = 100.0, 80.0  # points from which on a text may be broken, and that it keeps
_BOLD = 1.15  # bold against upright

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
_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi"
_MORE_GREEK = "omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
_SYMBOLS = {
    "±": r"$\pm$", "−": "$-$", "∞": r"$_\infty$", "·": r"$\cdot$", "³": "$^3$", "×": r"$\times$",
    "↓": r"$\downarrow$", "↑": r"$\uparrow$", "–": "--", "—": "---", "…": r"\ldots{}", "\N{NO-BREAK SPACE}": "~",
    "‘": "`", "’": "'", "“": "``", "”": "''", "≤": r"$\leq$", "≥": r"$\geq$",
    **{letter: rf"$\{name}$" for letter, name in zip("αβγδεζηθικλμνξπρστυφχψ", _GREEK.split(), strict=True)},
    **{letter: rf"$\{name}$" for letter, name in zip("ωΓΔΘΛΞΠΣΥΦΨΩ", _MORE_GREEK.split(), strict=True)},
}  # fmt: skip
_LETTERS = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿ"  # that pdflatex has with any font
_RAGGED = r">{\raggedright\arraybackslash}"
_MARKS = {"": "{}", "state": "{}", "best": r"\textbf{{{}}}", "tied": r"\underline{{{}}}"}


def escape(text: str) -> str:
    """`text` with LaTeX's special characters escaped; what pdflatex does not know becomes a question mark."""
    return "".join(_LATEX.get(c, c if (c.isascii() and c.isprintable()) or c in _LETTERS else "?") for c in text)


def typeset(text: str) -> str:
    """As `escape`, but symbols that tables use are set."""
    return "".join(_SYMBOLS.get(c) or escape(c) for c in text)


def label(grid: str, table: str) -> str:
    """Of a grid's table, in letters that every package takes."""
    plain = "".join(c for c in grid if (c.isascii() and c.isalnum()) or c == "-")
    return f"tab:{plain}-{table.replace('_', '-')}"


def caption(text: str, name: str) -> str:
    """A file of a caption and its label."""
    return f"\\caption{{{typeset(text)}}}\n\\label{{{name}}}\n"


def paragraphs(parts: Iterable[tuple[str, str]]) -> str:
    """A file of paragraphs with titles."""
    return "\n".join(f"\\paragraph{{{typeset(title)}.}} {typeset(text)}\n" for title, text in parts)


# ---------------------------------------------------------------------------------------------------------------- body


def files(table: Table, text: str, grid: str, width: float, siunitx: bool = False) -> dict[str, str]:
    """The files of a grid's table by their names: its `bodies`, each with a caption, that of the first this text."""
    found: dict[str, str] = {}
    for number, body in enumerate(bodies(table, width, siunitx), 1):
        name = table.name if number == 1 else f"{table.name}_{number}"
        told = text if number == 1 else f"{table.title}, continued."
        found |= {f"{name}.tex": body, f"{name}_caption.tex": caption(told, label(grid, name))}
    return found


def bodies(table: Table, width: float, siunitx: bool = False) -> list[str]:
    """The bodies of a table, each of which fits in a float.

    Args:
        width: points that there are for it.
        siunitx: whether numbers stand in columns of that package.
    """
    if not table.rows:
        return [_body([], ["Nothing to show."], False, False)]
    panels = _panels(_Part(table, width))
    turned = any(panel.width > width for panel in panels)
    notes = math.ceil(_points(" ".join(table.notes), _NOTES) / width)  # lines, below what is turned and what is not
    panels = _panels(_Part(table, TURNED - notes * _LINE)) if turned else panels
    most = TURNED_LINES if turned else max(MOST_LINES - notes, MOST_LINES // 2)
    parts = [panel.page(page) for panel in panels for page in pages(panel.table.blocks, most, panel.lines)]
    heads = 4 if any(head.group for head in table.heads) else 3
    heights = [sum(map(part.lines, part.table.rows)) + heads for part in parts]
    together = [[place] for place in range(len(parts))] if turned else filled(heights, most)
    return [_body([parts[place] for place in run], table.notes, turned, siunitx) for run in together]


def _panels(whole: "_Part") -> list["_Part"]:
    """The table in parts below one another, each with the leading columns and some of the others, that are as wide.

    Columns below one heading stay together as far as they fit.
    """
    leads, heads = whole.table.leads, whole.table.heads
    widths = [size + 2 * _GAP for size in whole.widths]
    room = whole.room - sum(widths[:leads])
    wholes = [unit for unit in whole.groups if unit[0] >= leads]
    units = [[unit[k] for k in run] for unit in wholes for run in evened([widths[k] for k in unit], room)]
    least = [_points(heads[unit[0]].group, _SIZE) + 2 * _GAP for unit in units]
    sizes = [max(sum(widths[k] for k in unit), size) for unit, size in zip(units, least, strict=True)]
    runs = evened(sizes, room)
    return [whole.columns([*range(leads), *(k for place in run for k in units[place])]) for run in runs]


def pages(blocks: Iterable[Block], most: int, lines: Callable[[Row], int]) -> list[tuple[Block, ...]]:
    """Blocks by page of so many lines; only one that is longer than a page is taken apart."""
    whole = [tuple(block[k] for k in run) for block in blocks for run in filled([*map(lines, block)], most)]
    return [tuple(whole[k] for k in run) for run in filled([sum(map(lines, block)) for block in whole], most)]


# -------------------------------------------------------------------------------------------------------------- widths


@dataclass(frozen=True)
class _Part:
    """A table, or some of its columns or rows, and the points that there are for its width."""

    table: Table
    room: float

    @property
    def width(self) -> float:
        """Points that it takes."""
        return sum(size + 2 * _GAP for size in self.widths)

    @cached_property
    def widths(self) -> list[float]:
        """Points of each column's texts. Long texts share what the others leave."""
        heads = self.table.heads
        sizes = [max([_points(head.text, _SIZE), *map(_place, self.places(k))]) for k, head in enumerate(heads)]
        long = [k for k, head in enumerate(heads) if head.kind in ("axis", "text") and sizes[k] > _LONG]
        left = self.room - 2 * _GAP * len(heads) - sum(size for k, size in enumerate(sizes) if k not in long)
        long.sort(key=lambda k: sizes[k])  # the shortest first, whose least may be more than its share
        for place, k in enumerate(long):
            share = left * sizes[k] / sum(sizes[other] for other in long[place:])
            sizes[k] = max(_LEAST, self._longest_word(k), min(sizes[k], share))
            left -= sizes[k]
        for run in self.groups:
            shared = _points(heads[run[0]].group, _SIZE) - sum(sizes[k] for k in run) - 2 * _GAP * (len(run) - 1)
            sizes[run[-1]] += max(shared, 0.0)
        return sizes

    @property
    def groups(self) -> list[list[int]]:
        """Places of columns below one heading; of others each its own."""
        heads = enumerate(self.table.heads)
        return [[k for k, _ in run] for _, run in groupby(heads, key=lambda head: head[1].group or head[0])]

    def _longest_word(self, number: int) -> float:
        """Points of the longest part of a column's texts that TeX does not break."""
        texts = [self.table.heads[number].text, *(place.text for place in self.places(number))]
        return max(_points(word, _SIZE) for text in texts for word in ["", *text.split()])

    def places(self, number: int) -> list[Place]:
        """Of a column."""
        return [row.places[number] for row in self.table.rows if not row.spans or number < self.table.leads]

    def lines(self, row: Row) -> int:
        """How many a row takes: a long text is broken in its column, one that spans columns in all of them."""
        rooms = [*self.widths[: self.table.leads], self.room - 2 * _GAP] if row.spans else self.widths
        return max(math.ceil(_place(place) / room - 0.01) for place, room in zip(row.places, rooms, strict=True))

    def columns(self, kept: Sequence[int]) -> Self:
        """Some of its columns; a row that spans them does so still."""
        blocks = tuple(
            tuple(row if row.spans else Row(tuple(row.places[k] for k in kept)) for row in block)
            for block in self.table.blocks
        )
        heads = tuple(self.table.heads[k] for k in kept)
        return replace(self, table=replace(self.table, heads=heads, blocks=blocks))

    def page(self, blocks: tuple[Block, ...]) -> Self:
        """Some of its rows."""
        return replace(self, table=replace(self.table, blocks=blocks))


def _place(place: Place) -> float:
    small = f"{place.beside}{place.raised}"
    bold = _BOLD if place.mark == "best" else 1.0
    return bold * _points(place.text, _SIZE) + (_points(small, _SMALL) + 2.0 if small else 0.0)


def _points(text: str, size: float) -> float:
    return size * sum(map(_advance, text))


@cache
def _advance(letter: str) -> float:
    """Width of a letter at 1 point in Computer Modern; as an M where that has none, or another one in its place."""
    font = get_font(findfont("cmr10"))
    font.set_size(64, 72)
    known = letter not in "\\{}<>|_^~" and font.get_char_index(ord(letter))
    return float(font.load_char(ord(letter if known else "M")).linearHoriAdvance) / 65536 / 64


# -------------------------------------------------------------------------------------------------------------- source


def _body(parts: Sequence[_Part], notes: Sequence[str], turned: bool, siunitx: bool) -> str:
    """Tabulars below one another, and what has to be known of them."""
    packages = ["array", "booktabs", *(["graphicx"] if turned else []), *(["siunitx"] if siunitx else [])]
    lines = [
        rf"% needs \usepackage{{{','.join(packages)}}}",
        r"\begingroup\centering\footnotesize\setlength{\tabcolsep}{4pt}%",
    ]
    lines += [r"\sisetup{detect-weight,retain-explicit-plus}%"] if siunitx else []
    for number, part in enumerate(parts):
        lines += [r"\par\medskip"] if number else []
        inside = _tabular(part, siunitx)
        lines += [r"\rotatebox{90}{%", *inside, "}%"] if turned else inside
    if notes:
        lines.append(rf"\par\smallskip{{\raggedright\scriptsize {typeset(' '.join(notes))}\par}}")
    return "\n".join([*lines, r"\par\endgroup", ""])


def _tabular(part: _Part, siunitx: bool) -> list[str]:
    table = part.table
    columns = [
        _Column.of(head, part.places(k), part.widths[k], left=k == 0 < table.leads, siunitx=siunitx)
        for k, head in enumerate(table.heads)
    ]
    lines = [rf"\begin{{tabular}}{{{''.join(column.types for column in columns)}}}", r"\toprule"]
    lines += [*_heads(table, columns), r"\midrule"]
    for number, block in enumerate(table.blocks):
        lines += [r"\midrule" if number == 1 and _is_central(table.blocks[0]) else r"\addlinespace"] if number else []
        lines += [
            rf"{_row(row, table, columns, above, part.room - 2 * _GAP)} \\"
            for row, above in zip(block, (None, *block), strict=False)
        ]
    return [*lines, r"\bottomrule", r"\end{tabular}%"]


def _is_central(block: Sequence[Row]) -> bool:
    """Whether a block is of centralized training, whose place spans the others' or which has no clients."""
    return all(row.spans or (len(row.places) > 1 and row.places[1].text == NOTHING.text) for row in block)


@dataclass(frozen=True)
class _Column:
    """A column of LaTeX, and one beside it where anything stands there."""

    types: str
    siunitx: bool
    beside: bool

    @classmethod
    def of(cls, head: Head, places: Sequence[Place], width: float, left: bool, siunitx: bool) -> Self:
        beside = any(place.beside or place.raised for place in places)
        texts = [place.text for place in places if place.is_number]
        if head.kind in ("axis", "text") and max(map(_place, places), default=0.0) > width + 0.1:
            return cls(rf"{_RAGGED}p{{{width:.1f}pt}}", False, False)
        if head.kind == "number" and siunitx and texts:
            return cls(f"S[table-format={_table_format(texts)}]" + beside * "@{}l", True, beside)
        left = left or head.kind == "text" or head.key == "strategy"
        return cls(("l" if left else "r") + beside * "@{}l", False, beside)

    @property
    def width(self) -> int:
        """Number of LaTeX's columns."""
        return 1 + self.beside

    def head(self, text: str) -> str:
        if self.beside:
            return rf"\multicolumn{{2}}{{c}}{{{typeset(text)}}}"
        return f"{{{typeset(text)}}}" if self.siunitx else typeset(text)

    def cell(self, place: Place) -> str:
        """A row's cells."""
        return f"{self._text(place)} & {_beside(place)}" if self.beside else self._text(place)

    def _text(self, place: Place) -> str:
        if not self.siunitx:
            return _text(place)
        if place.is_number and place.mark in ("", "best"):
            return (r"\bfseries " if place.mark else "") + place.text
        return f"{{{_text(place)}}}"


def _table_format(texts: Iterable[str]) -> str:
    """siunitx's table-format that holds all of these numbers."""
    known = list(texts)
    parts = [text.lstrip("+-").partition(".") for text in known]
    sign = "+" if any(text[0] in "+-" for text in known) else ""
    before, after = (max((len(part[i]) for part in parts), default=0) for i in (0, 2))
    return f"{sign}{max(before, 1)}.{after}"


def _text(place: Place) -> str:
    text = place.text.replace("-", "$-$") if place.is_number else typeset(place.text)
    return _MARKS[place.mark].format(text) if text else ""


def _beside(place: Place) -> str:
    small = rf"\,{{\scriptsize {typeset(place.beside.replace('-', '−'))}}}" if place.beside else ""
    return small + (rf"\textsuperscript{{{typeset(place.raised)}}}" if place.raised else "")


def _row(row: Row, table: Table, columns: Sequence[_Column], above: Row | None, total: float) -> str:
    """A row without its end; of the columns that stand once for a block, what the row above does not say already.

    Args:
        total: points that there are for all columns together.
    """
    known = [place.text for place in above.places[: table.once]] if above else []
    first = ["" if known[: k + 1] == [place.text for place in row.places[: k + 1]] else columns[k].cell(row.places[k])
             for k in range(table.leads)]  # fmt: skip
    rest = columns[table.leads :]
    if not row.spans:
        return " & ".join([*first, *map(_Column.cell, rest, row.places[table.leads :])])
    (place,) = row.places[table.leads :]
    width, align = sum(column.width for column in rest), "c" if table.leads else rf"{_RAGGED}p{{{total:.1f}pt}}"
    return " & ".join([*first, rf"\multicolumn{{{width}}}{{{align}}}{{{_text(place)}{_beside(place)}}}"])


def _heads(table: Table, columns: Sequence[_Column]) -> list[str]:
    """The line of headings, and above it the headings that neighbours share."""
    line = " & ".join(column.head(head.text) for head, column in zip(table.heads, columns, strict=True))
    if not any(head.group for head in table.heads):
        return [rf"{line} \\"]
    upper, rules, at = [], [], 1
    for group, members in groupby(zip(table.heads, columns, strict=True), key=lambda pair: pair[0].group):
        width = sum(column.width for _, column in members)
        upper.append(rf"\multicolumn{{{width}}}{{c}}{{{typeset(group)}}}")
        rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if group else []
        at += width
    return [rf"{' & '.join(upper)} \\", "".join(rules), rf"{line} \\"]
