"""Tables on a terminal."""

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from bench.command import terminal_text
from bench.config.names import AXES
from bench.report.claims import pooled
from bench.report.tables.caption import LOOKS, floor_of, legend, real_images, untested_note
from bench.report.tables.contents import Contents, number
from bench.report.tables.means import summary
from bench.report.tables.table import Head, Place, Table

STYLES = {"best": "bold", "tied": "underline", "": "", "state": ""}


def terminal_table(contents: Contents) -> RichTable:
    """All metrics: the best of each (n_clients, beta) bold, what ties underlined, the real images' floor below."""
    table = summary(contents)
    shown = rich_table(table, terminal_text(f"grid {contents.results.name}"), _legend(contents, table))
    _add_floor(shown, contents)
    return shown


def rich_table(table: Table, title: Text | None = None, caption: Text | None = None) -> RichTable:
    """Any table without a row that spans columns."""
    shown = RichTable(
        title=title, title_justify="left", title_style="bold", caption=caption, caption_justify="left",
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for head in table.heads:
        name = terminal_text(head.short or head.text) if head.kind == "axis" else head.short or head.text
        shown.add_column(name, justify="left" if head.key == "strategy" else "right", no_wrap=True)
    for number_, block in enumerate(table.blocks):
        if number_:
            shown.add_section()
        for row in block:
            shown.add_row(*(_text(*pair) for pair in zip(row.places, table.heads, strict=True)))
    return shown


def _text(place: Place, head: Head) -> Text:
    beside = place.beside.replace(" ", "") if head.spread else ""
    return Text.assemble((terminal_text(place.text).plain, STYLES[place.mark]), beside)


def _legend(contents: Contents, table: Table) -> Text | None:
    """What marks are, where there are any."""
    marks = [Text.assemble((LOOKS[mark], STYLES[mark]), f": {text}") for mark, text in legend(table)]
    notes = [Text("; ").join(marks), *map(Text, untested_note(contents))]
    return Text(". ").join(notes) if marks else None


def _add_floor(shown: RichTable, contents: Contents) -> None:
    floor = floor_of(contents.results)
    if floor is None:
        return
    values = [(floor.get(metric.key), metric) for metric in contents.together]
    texts = ["" if v is None else number(v * m.scale, contents.digits[m.key]) for v, m in values]
    shown.add_section()
    shown.add_row(real_images(floor), *[""] * (len(contents.axes) - len(AXES) + 3), *texts, style="dim")


def claim_lines(contents: Contents) -> list[str]:
    """A line a claim: its verdicts by the paper's measure and by the fair one."""
    if contents.answers is None:
        return []
    by_claim = pooled(contents.answers).groupby(["claim", "statement"], sort=False)
    return [
        f"claim {claim}, {statement}: {'; '.join(f'{row.verdict} ({row.measure})' for row in group.itertuples())}"
        for (claim, statement), group in by_claim
    ]
