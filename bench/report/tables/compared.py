"""Tables that compare a grid's rows: differences to a baseline, ranks, and the claims' answers."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from string import ascii_lowercase
from typing import Any

import pandas as pd

from bench.report.claims import PAPER, interval_text, pooled
from bench.report.metrics import Metric
from bench.report.tables.contents import Contents, number
from bench.report.tables.table import NOTHING, Head, Place, Row, Table, words

Key = tuple[str, ...]  # the texts of a row's axes
Comparison = Mapping[str, Any]  # a row of differences


def differences(contents: Contents) -> Table:
    """Differences to the baseline with intervals and adjusted p, or a letter for the reason why there is no p."""
    of_tested = {metric: _by_key(contents, metric) for metric in contents.metrics if metric.tested}
    by_metric = {metric: rows for metric, rows in of_tested.items() if rows}
    reasons = dict.fromkeys(row["note"] for rows in by_metric.values() for row in rows.values())
    marks, tested = _letters(reasons), "" in reasons
    axes = [Head(contents.heading(axis), "axis", key=axis) for axis in contents.axes]
    columns = [_columns(contents, metric, rows, marks, tested) for metric, rows in by_metric.items()]
    heads = [*axes, Head("pairs", "seeds", key="n"), *(head for part, _ in columns for head in part)]
    blocks = [
        tuple(_row(contents, key, by_metric, [places for _, places in columns]) for key in keys)
        for _, keys in groupby(next(iter(by_metric.values()), ()), key=lambda key: key[1:])
    ]
    several = contents.differences["low"].notna().any()
    intervals = ", with 95 % intervals over seeds" if several else ""
    title = f"Differences to {contents.text('strategy', contents.baseline)}, paired by seed{intervals}"
    notes = tuple(f"({mark}) No p: {note}." for note, mark in marks.items() if mark)
    return Table("differences", title, tuple(heads), tuple(blocks), leads=len(axes) + 1, notes=notes)


def _by_key(contents: Contents, metric: Metric) -> dict[Key, Comparison]:
    part = contents.differences[contents.differences["metric"] == metric.key]
    return {contents.axis_texts(row): row for row in part.to_dict("records")}


def _letters(reasons: Iterable[str]) -> dict[str, str]:
    """A letter for each reason why there is no p, and none for there being one."""
    notes = [reason for reason in reasons if reason]
    return {"": ""} | {note: ascii_lowercase[i % 26] * (1 + i // 26) for i, note in enumerate(notes)}


def _row(
    contents: Contents,
    key: Key,
    by_metric: Mapping[Metric, Mapping[Key, Comparison]],
    columns: Sequence[Mapping[Key, list[Place]]],
) -> Row:
    pairs = "/".join(dict.fromkeys(str(rows[key]["n"]) for rows in by_metric.values()))
    leads = words([*map(contents.results.title, key), pairs])
    return Row((*leads, *(place for part in columns for place in part[key])))


def _columns(
    contents: Contents, metric: Metric, rows: Mapping[Key, Comparison], marks: Mapping[str, str], tested: bool
) -> tuple[list[Head], dict[Key, list[Place]]]:
    """The difference with its interval, p where any comparison has one, and what the images leave open of FID's."""
    digits = contents.digits[metric.key]
    images = {key: _interval(row, "images_low", "images_high", metric, digits + 1) for key, row in rows.items()}
    heads = [Head(f"Δ{metric.name}", key=metric.key)]
    heads += [Head("p", "text", key="p_holm")] if tested else []
    heads += [Head("of images", "text", key="images_low")] if any(images.values()) else []
    places = {}
    for key, row in rows.items():
        places[key] = [_difference(row, metric, digits, "" if tested else marks[row["note"]])]
        places[key] += [_p(row, marks)] if tested else []
        places[key] += [Place(images[key]) if images[key] else NOTHING] if any(images.values()) else []
    return heads, places


def _difference(row: Comparison, metric: Metric, digits: int, mark: str) -> Place:
    if math.isnan(row["mean"]):
        return Place(NOTHING.text, raised=mark)
    value = row["mean"] * metric.scale
    ends = _interval(row, "low", "high", metric, digits + 1)  # with a digit more an end near 0 keeps its side
    return Place(number(value, digits, signed=True), value, ends, mark)


def _interval(row: Comparison, low: str, high: str, metric: Metric, digits: int) -> str:
    """Low and high in brackets, "" without them."""
    if math.isnan(row[low]):
        return ""
    ends = (number(row[end] * metric.scale, digits, signed=True) for end in (low, high))
    return minus(f"[{', '.join(ends)}]")


def _p(row: Comparison, marks: Mapping[str, str]) -> Place:
    if row["note"]:
        return Place(raised=marks[row["note"]])
    return Place(f"{row['p_holm']:.3f}" if row["p_holm"] >= 0.001 else "<0.001")


# --------------------------------------------------------------------------------------------------------------- ranks


def ranks(contents: Contents) -> Table:
    """Mean ranks of strategies, a column a metric, with how many of how many blocks each wins."""
    table = contents.ranks
    metrics = [metric for metric in contents.together if metric.key in set(table["metric"])]
    places = {metric.key: _ranked(table[table["metric"] == metric.key]) for metric in metrics}
    names = list(dict.fromkeys(name for of_metric in places.values() for name in of_metric))
    rows = tuple(
        Row((*words([contents.text("strategy", name)]), *(places[metric.key].get(name, NOTHING) for metric in metrics)))
        for name in names
    )
    heads = (Head("strategy", "axis", key="strategy"), *(Head(metric.name, key=metric.key) for metric in metrics))
    axes = ", ".join(contents.heading(axis) for axis in contents.axes[1:])
    notes = (f"In parentheses: in how many of the blocks of equal ({axes}) the strategy is the best.",) if rows else ()
    return Table("ranks", "Mean ranks of federated strategies", heads, (rows,) if rows else (), notes=notes)


def _ranked(part: pd.DataFrame) -> dict[str, Place]:
    """Places of one metric by strategy."""
    top = part["mean_rank"].min()
    return {
        row["strategy"]: NOTHING
        if math.isnan(row["mean_rank"])
        else Place(
            f"{row['mean_rank']:.2f}",
            row["mean_rank"],
            f"({row['wins']}/{row['blocks']})",
            mark="best" if row["mean_rank"] == top else "",
        )
        for row in part.to_dict("records")
    }


# -------------------------------------------------------------------------------------------------------------- claims


def claims(contents: Contents) -> Table | None:
    """The claims with their answers, a block a claim; None where nobody asks for them.

    Of each measure a row says what the number is, and the next one what it comes to.
    """
    if contents.answers is None:
        return None
    heads = (
        Head("value", "text", key="value"),
        Head("seeds", "seeds", key="n"),
        Head("verdict", "text", key="verdict"),
    )
    blocks = []
    for (claim, statement), group in pooled(contents.answers).groupby(["claim", "statement"], sort=False):
        answers = [row for answer in group.to_dict("records") for row in _answer(answer)]
        blocks.append((Row(words([f"{claim}. {statement}"]), spans=True), *answers))
    return Table("claims", f"Claims of “{PAPER}” on FedAvg", heads, tuple(blocks), leads=0)


def _answer(answer: Mapping[Any, Any]) -> list[Row]:
    value = interval_text(answer["value"], answer["low"], answer["high"])
    what = f"{answer['measure']}: {answer['quantity']}" if answer["quantity"] else answer["measure"]
    texts = [minus(value), str(answer["n"]), answer["verdict"]]
    return [Row(words([minus(what)]), spans=True), Row(words(texts))]


def minus(text: str) -> str:
    """With the sign of negative numbers as printers have it."""
    return re.sub(r"-(?=\d)", "−", text)
