"""Tables that compare a grid's rows: with a baseline, along every axis, by ranks, and the claims' answers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from string import ascii_lowercase
from typing import Any

import pandas as pd

from bench.config.names import value_text
from bench.report.claims import PAPER, interval_text, pooled
from bench.report.metrics import Metric
from bench.report.stats import LEAST_SEEDS
from bench.report.tables.caption import span
from bench.report.tables.contents import Contents, number
from bench.report.tables.table import NOTHING, Head, Place, Row, Table, minus, words

Key = tuple[str, ...]  # the texts of a row's axes
Comparison = Mapping[str, Any]  # a row of `bench.report.contrasts`
FROM = " − "  # between the two values of an axis that is contrasted
COLUMNS = {  # of each metric, and what they are
    "Δ": "mean difference with its 95 % t interval",
    "%": "of what is subtracted",
    "p": "paired t test, after Holm over {family}",
    "p (flips)": "exact, by sign flips, after Holm",
    "r": "correlation of the pairs",
}


def differences(contents: Contents) -> Table:
    """Differences to the baseline."""
    title = f"Differences to {contents.text('strategy', contents.baseline)}, paired by seed"
    return _table(contents, contents.differences, "differences", title, "all comparisons of a metric")


def contrasts(contents: Contents) -> Table:
    """Each value of an axis minus the one it is compared with, a block an axis."""
    title = "Contrasts along every axis, paired by seed"
    return _table(contents, contents.contrasts, "contrasts", title, "the comparisons of a metric along an axis")


def _table(contents: Contents, compared: pd.DataFrame, name: str, title: str, family: str) -> Table:
    """Comparisons in rows, and of each metric that a pair has the columns of `_columns`.

    A letter stands where the sign flips have no p, for the reason; it needs a column of them, or else no letter but
    the reasons alone, since all comparisons lack it.
    """
    of_tested = {metric: _by_key(contents, compared, metric) for metric in contents.metrics if metric.tested}
    every = {metric: rows for metric, rows in of_tested.items() if rows}
    by_metric = {metric: rows for metric, rows in every.items() if any(row["n"] for row in rows.values())} or every
    reasons = dict.fromkeys(row["note"] for rows in by_metric.values() for row in rows.values())
    marks, flips = _letters(reasons), "" in reasons
    axes = [Head(contents.heading(axis), "axis", key=axis) for axis in contents.axes]
    columns = [_columns(contents, metric, rows, marks if flips else None) for metric, rows in by_metric.items()]
    heads = [*axes, Head("pairs", "seeds", key="n"), *(head for part, _ in columns for head in part)]
    known: dict[Key, Comparison] = {key: row for rows in by_metric.values() for key, row in rows.items()}
    blocks = [
        tuple(_row(contents, key, by_metric, [places for _, places in columns]) for key in keys)
        for _, keys in groupby(known, key=lambda key: known[key].get("axis", key[1:]))
    ]
    shown = {head.text: COLUMNS[head.text] for head in heads if head.text in COLUMNS}
    notes = ["; ".join(f"{head}: {text}" for head, text in shown.items()).format(family=family) + "."] if shown else []
    notes += _pairing(compared, by_metric)
    if alone := [metric.name for metric in every if metric not in by_metric]:
        notes.append(f"No pair has {' or '.join(alone)}.")
    notes += [f"{f'({mark}) ' * flips}No p of sign flips: {note}." for note, mark in marks.items() if mark]
    return Table(name, title, tuple(heads), tuple(blocks), leads=len(axes) + 1, notes=tuple(notes))


def _pairing(compared: pd.DataFrame, metrics: Iterable[Metric]) -> list[str]:
    """How pairing changed the standard errors, where pairs tell."""
    of_metric = compared.groupby("metric")["pairing"]
    spans = {metric.name: span(of_metric.get_group(metric.key)) for metric in metrics}
    texts = [f"{found} ({name})" for name, found in spans.items() if found]
    return [f"Standard errors over those of unpaired seeds: {', '.join(texts)}."] if texts else []


def _by_key(contents: Contents, compared: pd.DataFrame, metric: Metric) -> dict[Key, Comparison]:
    part = compared[compared["metric"] == metric.key]
    return {_key(contents, row): row for row in part.to_dict("records")}


def _key(contents: Contents, row: Comparison) -> Key:
    """The texts of a row's axes; of the one that is contrasted both values."""
    texts = dict(zip(contents.axes, contents.axis_texts(row), strict=True))
    if axis := row.get("axis"):
        ours, theirs = (contents.results.title(text) for text in (texts[axis], value_text(row["reference"])))
        texts[axis] = f"{ours}{FROM}{theirs}"
    return tuple(texts.values())


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
    contents: Contents, metric: Metric, rows: Mapping[Key, Comparison], marks: Mapping[str, str] | None
) -> tuple[list[Head], dict[Key, list[Place]]]:
    """Of a metric the difference with its interval, and, where any comparison has them, the relative difference, p of
    the t test and of sign flips, and the pairs' correlation.

    Args:
        marks: letters of the reasons why there is no p of sign flips; None where no comparison has one.
    """
    digits = contents.digits[metric.key]
    found = {
        key: [_difference(row, metric, digits), _percent(row), _p(row["p_t_holm"]), _flips(row, marks), _r(row)]
        for key, row in rows.items()
    }
    keys = (metric.key, "relative", "p_t_holm", "p_sign_holm", "correlation")
    heads = [Head(text, group=metric.name, key=key) for text, key in zip(COLUMNS, keys, strict=True)]
    shown = [k for k in range(len(heads)) if k == 0 or any(places[k] != NOTHING for places in found.values())]
    return [heads[k] for k in shown], {key: [places[k] for k in shown] for key, places in found.items()}


def _difference(row: Comparison, metric: Metric, digits: int) -> Place:
    if math.isnan(row["mean"]):
        return NOTHING
    value = row["mean"] * metric.scale
    if math.isnan(row["low"]):
        return Place(number(value, digits, signed=True), value)
    # With a digit more an end near 0 keeps its side.
    ends = (number(row[end] * metric.scale, digits + 1, signed=True) for end in ("low", "high"))
    return Place(number(value, digits, signed=True), value, minus(f"[{', '.join(ends)}]"))


def _percent(row: Comparison) -> Place:
    value = 100 * row["relative"]
    return NOTHING if math.isnan(value) else Place(number(value, 1, signed=True), value)


def _p(value: float) -> Place:
    if math.isnan(value):
        return NOTHING
    return Place(f"{value:.3f}", value) if value >= 0.001 else Place("<0.001", "0")  # no number to set, but to sort by


def _flips(row: Comparison, marks: Mapping[str, str] | None) -> Place:
    if marks is None:
        return NOTHING
    return Place(raised=marks[row["note"]]) if row["note"] else _p(row["p_sign_holm"])


def _r(row: Comparison) -> Place:
    value = row["correlation"]
    return NOTHING if math.isnan(value) else Place(number(value, 2), value)


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
            mark="best" if row["mean_rank"] == top and row["seeds"] >= LEAST_SEEDS else "",
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
