"""Tables as GitHub's Markdown."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from bench.config.names import value_text
from bench.report.metrics import Metric
from bench.report.tables.claims import CLAIM_HEADS, claim_blocks
from bench.report.tables.shown import Entry, Shown, seeds_text

_MARKS = {"": "{}", "best": "**{}**", "tied": "<ins>{}</ins>"}
_ACTIVE = re.compile(r"([\\`*_{}\[\]<>|~&#$!])")
_LINKS = re.compile(r"(?i)(https?|ftp|mailto|xmpp)(:)|(www)(\.)")  # which are links without being marked as such


def escape(text: str) -> str:
    """`text` to be read as it is; what is not printable becomes a question mark, and line ends become blanks."""
    plain = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
    return _LINKS.sub(lambda found: "\\".join(part for part in found.groups() if part), _ACTIVE.sub(r"\\\1", plain))


def summary(name: str, shown: Shown, caption: str, notes: Sequence[str]) -> str:
    """All metrics, with what a reader must know of them below."""
    axes = ["strategy", "n", "β", *shown.extra_axes, "seeds"]
    heads = [*map(escape, axes), *(f"{column.name}{column.arrow()}" for column in shown.together)]
    rows = [
        [
            *map(escape, shown.axis_texts(index)),
            seeds_text(shown.rows[index]),
            *(_entry(*pair) for pair in zip(shown.entries(index), shown.together, strict=True)),
        ]
        for index in range(len(shown.rows))
    ]
    below = escape(f"Grid {name}: {caption}. {' '.join(notes)}")
    return f"### Grid {escape(name)}\n\n{_table(heads, rows, left=1)}\n{below}\n"


def _entry(entry: Entry, column: Metric) -> str:
    sd = f" ± {entry.sd}" if entry.sd and column.spread else ""
    return _MARKS[entry.mark].format(entry.mean or entry.why) + sd


def claims(name: str, answers: pd.DataFrame, caption: str) -> str:
    """The claims with their answers, of `bench.report.claims.claims`; the caption below."""
    rows = [map(escape, row) for block in claim_blocks(answers) for row in block]
    return (
        f"### Claims, grid {escape(name)}\n\n{_table(CLAIM_HEADS, rows, left=3)}\n{escape(f'Grid {name}: {caption}')}\n"
    )


def markdown_table(table: pd.DataFrame) -> str:
    """Any table, with numbers to six digits."""
    rows = ([escape(_six_digits(value)) for value in row] for row in table.itertuples(index=False, name=None))
    return _table([escape(str(name)) for name in table.columns], rows, left=1)


def _six_digits(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and not pd.isna(value) else value_text(value)


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]], left: int) -> str:
    """Cells as a table, the first `left` columns aligned left and the others right."""
    rules = ["---"] * left + ["---:"] * (len(heads) - left)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, rules, *rows))
