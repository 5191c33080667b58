"""What compares a grid's rows, in LaTeX: differences to a baseline, ranks, and the claims' answers."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from string import ascii_lowercase
from typing import Any

import pandas as pd

from bench.config.names import MISSING
from bench.report.metrics import TESTED, Metric
from bench.report.tables.claims import CLAIM_HEADS, claim_blocks
from bench.report.tables.latex import Frame, Numbers, Place, Tabular, line, numbers, pages, panels, row, typeset
from bench.report.tables.shown import Shown, keys, number, unique

MOST_RANKS = 7  # side by side
Key = tuple[str, ...]  # a row's axes
Records = Mapping[Key, Mapping[str, Any]]
Field = tuple[str, str, list[str]]  # a column's head, type and cells


def differences_table(frame: Frame, shown: Shown, differences: pd.DataFrame, caption: str) -> str:
    """Differences to the baseline with intervals and adjusted p, and why there is no p.

    Args:
        differences: of `bench.report.summary.differences`.
    """
    parts = [(column, differences[differences["metric"] == column.key]) for column in shown.columns]
    found: dict[Metric, Records] = {
        column: dict(zip(keys(part, shown.axes), part.to_dict("records"), strict=True))
        for column, part in parts
        if len(part) and column.tested
    }
    told = [record for records in found.values() for record in records.values()]
    marks = _marks(told)
    tested = any(not record["note"] for record in told)
    blocks = [list(group) for _, group in groupby(next(iter(found.values()), ()), key=lambda key: key[1:])]
    tabulars = [_differences_part(frame, shown, found, page, marks, tested) for page in pages(blocks)]
    return frame.table(tabulars or [_nothing("compare")], caption + _why_no_p(marks), "differences")


def difference_notes(differences: pd.DataFrame) -> list[str]:
    """Sentences on what stands in the table of differences."""
    table = differences[differences["metric"].isin(TESTED)]
    told = ["Mean differences with 95 % t intervals over seeds."] if table["low"].notna().any() else []
    if table["p_holm"].notna().any():
        told.append("p: two-sided sign-flip test, after Holm's adjustment over all comparisons of a metric.")
    if table["images_low"].notna().any():
        told.append(
            "Of images: 95 % bootstrap interval of the difference between the models' expected FIDs at as many images."
        )
    return told


def _marks(told: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A letter for each reason why there is no p, and none for there being one."""
    notes = [note for note in unique(record["note"] for record in told) if note]
    return {"": ""} | {note: ascii_lowercase[i % 26] * (1 + i // 26) for i, note in enumerate(notes)}


def _why_no_p(marks: Mapping[str, str]) -> str:
    notes = [f"({mark}) {note}." for note, mark in marks.items() if mark]
    return f" No p where a letter stands: {' '.join(notes)}" if notes else ""


def _nothing(what: str) -> Tabular:
    return Tabular("c", [], [[f"nothing to {what}"]], rules=1)


def _differences_part(
    frame: Frame,
    shown: Shown,
    found: Mapping[Metric, Records],
    page: Sequence[Sequence[Key]],
    marks: Mapping[str, str],
    tested: bool,
) -> Tabular:
    """`tested`: whether any comparison has a p, which else has no column."""
    rows = [key for block in page for key in block]
    axes = ["strategy", "$n$", r"$\beta$", *map(typeset, shown.extra_axes)]
    fields: list[Field] = [
        (head, "l" if place == 0 else "r", [typeset(key[place]) for key in rows]) for place, head in enumerate(axes)
    ]
    fields.append(("pairs", "r", ["/".join(unique(str(of[key]["n"]) for of in found.values())) for key in rows]))
    for metric, records in found.items():
        told = [records[key] for key in rows]
        fields += _difference_fields(frame, metric, told, shown.digits[metric.key], marks, tested)
    lines = dict(zip(rows, map(row, zip(*(cells for _, _, cells in fields), strict=True)), strict=True))
    return Tabular(
        "".join(types for _, types, _ in fields),
        [line(head for head, _, _ in fields)],
        [[lines[key] for key in block] for block in page],
        rules=1,
    )


def _difference_fields(
    frame: Frame,
    metric: Metric,
    told: Sequence[Mapping[str, Any]],
    digits: int,
    marks: Mapping[str, str],
    tested: bool,
) -> list[Field]:
    """The difference with its interval, p where any comparison has one, and what the images leave open of FID's."""
    ends = [_interval(record, "low", "high", metric, digits + 1) for record in told]  # an end near 0 keeps its side
    beside = [
        (rf"\,{{\scriptsize {end}}}" if end else "") + ("" if tested else _superscript(marks[record["note"]]))
        for record, end in zip(told, ends, strict=True)
    ]
    means = ["" if math.isnan(of["mean"]) else number(of["mean"] * metric.scale, digits, signed=True) for of in told]
    places = [Place(mean, "" if mean else MISSING, text) for mean, text in zip(means, beside, strict=True)]
    column = numbers(places, frame.siunitx)
    fields = [(column.head(f"Δ{metric.name}"), column.columns, [column.cell(place) for place in places])]
    if tested:
        fields.append(("$p$", "r", [_p(record, marks) for record in told]))
    images = [_interval(record, "images_low", "images_high", metric, digits + 1) for record in told]
    if any(images):
        fields.append(("of images", "r", [rf"{{\scriptsize {text or MISSING}}}" for text in images]))
    return fields


def _p(told: Mapping[str, Any], marks: Mapping[str, str]) -> str:
    if told["note"]:
        return _superscript(marks[told["note"]])
    return f"{told['p_holm']:.3f}" if told["p_holm"] >= 0.001 else "$<$0.001"


def _superscript(mark: str) -> str:
    return f"$^{{{mark}}}$" if mark else ""


def _interval(told: Mapping[str, Any], low: str, high: str, metric: Metric, digits: int) -> str:
    """Low and high in brackets, "" without them."""
    if math.isnan(told[low]):
        return ""
    ends = [number(told[end] * metric.scale, digits, signed=True).replace("-", "$-$") for end in (low, high)]
    return f"{{[}}{', '.join(ends)}{{]}}"


def ranks_table(frame: Frame, shown: Shown, ranks: pd.DataFrame, caption: str) -> str:
    """Mean ranks of strategies, a column a metric, with how many of how many blocks each wins.

    Args:
        ranks: of `bench.report.summary.ranks`, with the column metric.
    """
    metrics = [column for column in shown.together if column.key in set(ranks["metric"])]
    found = {column.key: _by_strategy(ranks, column) for column in metrics}
    names = unique(name for told in found.values() for name in told)
    tabulars = []
    for panel in panels(metrics, MOST_RANKS):
        columns = [numbers(found[column.key].values(), frame.siunitx) for column in panel]
        heads = [numbered.head(column.name) for numbered, column in zip(columns, panel, strict=True)]
        for page in pages([names]):
            blocks = [[_ranked(name, panel, columns, found) for name in block] for block in page]
            types = "l" + "".join(column.columns for column in columns)
            tabulars.append(Tabular(types, [line(["strategy", *heads])], blocks, rules=1))
    return frame.table(tabulars or [_nothing("rank")], caption, "ranks")


def _ranked(name: str, panel: Sequence[Metric], columns: Sequence[Numbers], found: Mapping[str, Any]) -> str:
    places = [found[column.key].get(name, Place(why=MISSING)) for column in panel]
    return row([typeset(name), *(column.cell(place) for column, place in zip(columns, places, strict=True))])


def _by_strategy(ranks: pd.DataFrame, column: Metric) -> dict[str, Place]:
    part = ranks[ranks["metric"] == column.key]
    top = part["mean_rank"].min()
    return {
        told["strategy"]: Place(why=MISSING)
        if math.isnan(told["mean_rank"])
        else Place(
            f"{told['mean_rank']:.2f}",
            beside=rf"\,{{\scriptsize({told['wins']}/{told['blocks']})}}",
            mark="best" if told["mean_rank"] == top else "",
        )
        for told in part.to_dict("records")
    }


# -------------------------------------------------------------------------------------------------------------- claims


def claims_table(frame: Frame, answers: pd.DataFrame, caption: str) -> str:
    """The claims with their answers, a row a measure.

    Args:
        answers: of `bench.report.claims.claims`.
    """
    blocks = []
    for (claim, *first), *others in claim_blocks(answers):
        head = rf"\multicolumn{{{len(CLAIM_HEADS) - 1}}}{{l}}{{\textbf{{{typeset(claim)}}}}}"
        blocks.append([head, *(row(map(typeset, cells)) for cells in (first, *(rest for _, *rest in others)))])
    types = r"l>{\raggedright}p{5.5cm}>{\raggedright}p{3cm}r>{\raggedright\arraybackslash}p{3.5cm}"
    return frame.table([Tabular(types, [line(CLAIM_HEADS[1:])], blocks, rules=1)], caption, "claims")
