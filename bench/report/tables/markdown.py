"""Tables as GitHub's Markdown."""

import re
from collections.abc import Iterable, Sequence

from bench.report.tables.table import Place, Row, Table

_MARKS = {"": "{}", "state": "{}", "best": "**{}**", "tied": "<ins>{}</ins>"}
_ACTIVE = re.compile(r"([\\`*_{}\[\]<>|~&#$!])")
_LINKS = re.compile(r"(?i)(https?|ftp|mailto|xmpp)(:)|(www)(\.)")  # which are links without being marked as such


def escape(text: str) -> str:
    """`text` to be read as it is; what is not printable becomes a question mark, and line ends become blanks."""
    plain = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
    return _LINKS.sub(lambda found: "\\".join(part for part in found.groups() if part), _ACTIVE.sub(r"\\\1", plain))


def markdown(table: Table, caption: str) -> str:
    """A table below its title, with its caption and its notes below."""
    heads = [escape(f"{head.group}, {head.text}" if head.group else head.text) for head in table.heads]
    left = [head.kind == "text" or number == 0 or head.key == "strategy" for number, head in enumerate(table.heads)]
    rows = (_places(row, len(heads)) for row in table.rows)
    below = "\n\n".join(map(escape, [caption, *table.notes]))
    return f"### {escape(table.title)}\n\n{_table(heads, rows, left)}\n{below}\n"


def _places(row: Row, columns: int) -> list[str]:
    """Of a row that spans columns the last place stands in the first of them."""
    return [*map(_place, row.places), *[""] * (columns - len(row.places))]


def _place(place: Place) -> str:
    beside = f" {escape(place.beside)}" if place.beside else ""
    raised = f"<sup>{escape(place.raised)}</sup>" if place.raised else ""
    text = place.printed if place.is_number else escape(place.text)
    return (_MARKS[place.mark].format(text) if text else "") + beside + raised


def paragraphs(parts: Iterable[tuple[str, str]]) -> str:
    """Paragraphs with titles."""
    return "\n".join(f"**{escape(title)}.** {escape(text)}\n" for title, text in parts)


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]], left: Sequence[bool]) -> str:
    rules = ["---" if is_left else "---:" for is_left in left]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, rules, *rows))
