"""The summary and the claims on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from bench.command import terminal_text
from bench.config.names import AXES
from bench.report.metrics import Metric
from bench.report.tables.caption import real_images, untested_note
from bench.report.tables.claims import CLAIM_HEADS, claim_blocks
from bench.report.tables.contents import Contents
from bench.report.tables.shown import Entry, Shown, number, seeds_text

STYLES = {"best": "bold", "tied": "underline", "": ""}


def terminal_table(contents: Contents) -> Table:
    """All metrics: the best of each (n_clients, beta) bold, what ties underlined, the real images' floor below."""
    shown = contents.shown
    made = _table(f"grid {contents.name}")
    made.caption = _legend(shown)
    for name in ("strategy", "n", "beta", *shown.extra_axes, "seeds"):
        made.add_column(terminal_text(name), justify="left" if name == "strategy" else "right", no_wrap=True)
    for column in shown.together:
        made.add_column(f"{column.head}{column.arrow()}", justify="right", no_wrap=True)
    last = None
    for index, row in enumerate(shown.rows):
        axes = shown.axis_texts(index)
        if last is not None and axes[1:3] != last:
            made.add_section()
        last = axes[1:3]
        entries = zip(shown.entries(index), shown.together, strict=True)
        made.add_row(*map(terminal_text, axes), seeds_text(row), *(_entry(*pair) for pair in entries))
    _add_floor(made, contents.floor, shown)
    return made


def _table(title: str) -> Table:
    return Table(
        title=terminal_text(title),
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _legend(shown: Shown) -> Text | None:
    """What marks are, where there are any."""
    told = []
    if any(shown.best.values()):
        told.append(Text.assemble(("bold", "bold"), ": best federated strategy of its split"))
    if any(shown.tied.values()):
        told.append(Text.assemble(("underlined", "underline"), ": not told apart from it by the seeds"))
    told += map(Text, untested_note(shown, shown.together))
    return Text("; ").join(told) if told else None


def _entry(entry: Entry, column: Metric) -> Text:
    sd = f"±{entry.sd}" if entry.sd and column.spread == "both" else ""
    return Text.assemble((entry.why or entry.mean, STYLES[entry.mark]), sd)


def _add_floor(made: Table, floor: Mapping[str, Any] | None, shown: Shown) -> None:
    if floor:
        values = [(floor.get(column.key), column) for column in shown.together]
        texts = ["" if v is None else number(v * c.scale, shown.digits[c.key]) for v, c in values]
        made.add_section()
        blanks = [""] * (len(shown.axes) - len(AXES) + 3)
        made.add_row(real_images(floor), *blanks, *texts, style="dim")


def claims_table(contents: Contents) -> Table:
    """The claims with their answers."""
    made = _table("claims")
    for head, most in zip(CLAIM_HEADS[1:], (None, 46, None, None, 30), strict=True):
        made.add_column(head, overflow="fold", max_width=most)
    for (claim, *first), *others in claim_blocks(contents.claims):
        made.add_row("", Text(claim, style="bold"), "", "", "")
        for cells in (first, *(rest for _, *rest in others)):
            made.add_row(*map(terminal_text, cells))
        made.add_section()
    return made
