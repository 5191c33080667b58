"""Tables on a terminal."""

import pandas as pd
from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from bench.command import terminal_text
from bench.config.names import AXES
from bench.report.claims import pooled
from bench.report.metrics import Metric
from bench.report.stats import ALPHA
from bench.report.tables.caption import LOOKS, floor_of, legend, real_images, untested_note
from bench.report.tables.contents import Contents, number
from bench.report.tables.means import summary
from bench.report.tables.table import Head, Place, Table, minus

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
    return Text.assemble((terminal_text(place.printed).plain, STYLES[place.mark]), beside)


def _legend(contents: Contents, table: Table) -> Text | None:
    """What marks are, where there are any."""
    marks = [Text.assemble((LOOKS[mark], STYLES[mark]), f": {text}") for mark, text in legend(table)]
    notes = [Text("; ").join(marks), *map(Text, untested_note(contents))]
    return Text(". ").join([note for note in notes if note]) or None


def _add_floor(shown: RichTable, contents: Contents) -> None:
    floor = floor_of(contents.results)
    if floor is None:
        return
    values = [(floor.get(metric.key), metric) for metric in contents.together]
    texts = ["" if v is None else minus(number(v * m.scale, contents.digits[m.key])) for v, m in values]
    shown.add_section()
    shown.add_row(real_images(floor), *[""] * (len(contents.axes) - len(AXES) + 3), *texts, style="dim")


def contrast_lines(contents: Contents) -> list[str]:
    """A line an axis: of each metric the least and the greatest of its contrasts, and how many differences are real."""
    lines = []
    for (axis, reference), rows in contents.contrasts.groupby(["axis", "reference"], sort=False):
        tested = [metric for metric in contents.metrics if metric.tested and metric.key in set(rows["metric"])]
        texts = [
            f"{metric.name} {_contrast(metric, rows[rows['metric'] == metric.key], contents)}" for metric in tested
        ]
        against = f"{contents.heading(axis)} against {contents.text(axis, reference)}"
        lines += [minus(f"{against}, paired by seed: {'; '.join(texts)}")] if texts else []
    return lines


def _contrast(metric: Metric, rows: pd.DataFrame, contents: Contents) -> str:
    """E.g. "-1.2 % to +0.4 %, 0 of 4 told apart"; in the metric's own unit where there is no share of a mean."""
    known, tested = rows[rows["n"] > 0], rows["p_t_holm"].notna().sum()
    if known.empty:
        return "in no pair"
    if known["relative"].notna().all():
        ends = [
            f"{number(100 * share, 1, signed=True)} %" for share in (known["relative"].min(), known["relative"].max())
        ]
    else:
        ends = [contents.number(metric, mean, signed=True) for mean in (known["mean"].min(), known["mean"].max())]
    told = f"{(rows['p_t_holm'] <= ALPHA).sum()} of {tested} told apart" if tested else "untested"
    return f"{' to '.join(dict.fromkeys(ends))}, {told}"


def claim_lines(contents: Contents) -> list[str]:
    """A line a claim: its verdicts by the paper's measure and by the fair one, or once if they are the same."""
    if contents.answers is None:
        return []
    lines = []
    for (claim, statement), group in pooled(contents.answers).groupby(["claim", "statement"], sort=False):
        verdicts = group.groupby("verdict", sort=False)["measure"].agg(" and ".join)
        lines.append(f"claim {claim}, {statement}: {'; '.join(f'{told} ({by})' for told, by in verdicts.items())}")
    return lines
