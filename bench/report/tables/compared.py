"""Tables that compare a grid's rows: differences to a baseline, ranks, and the claims' answers."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from string import ascii_lowercase
from typing import Any

import pandas as pd

from bench.report.claims import PAPER, pooled
from bench.report.metrics import Metric
from bench.report.tables.contents import Contents, number
from bench.report.tables.table import NOTHING, Head, Place, Row, Table, words

Key = tuple[str, ...]  # the texts of a row's axes
Told = Mapping[str, Any]  # a comparison


def differences(contents: Contents) -> Table:
    """Differences to the baseline with intervals and adjusted p, or a letter for the reason why there is no p."""
    found = {metric: _by_key(contents, metric) for metric in contents.metrics if metric.tested}
    found = {metric: told for metric, told in found.items() if told}
    every = [told for of in found.values() for told in of.values()]
    marks = _letters(told["note"] for told in every)
    tested = any(not told["note"] for told in every)
    axes = [Head(contents.heading(axis), "axis", key=axis) for axis in contents.axes]
    columns = [_columns(contents, metric, of, marks, tested) for metric, of in found.items()]
    heads = [*axes, Head("pairs", "seeds", key="n"), *(head for part, _ in columns for head in part)]
    blocks = [
        tuple(_row(contents, key, found, [places for _, places in columns]) for key in keys)
        for _, keys in groupby(next(iter(found.values()), ()), key=lambda key: key[1:])
    ]
    title = f"Differences to {contents.text('strategy', contents.baseline)}, paired by seed"
    notes = tuple(f"({mark}) No p: {note}." for note, mark in marks.items() if mark)
    return Table("differences", title, tuple(heads), tuple(blocks), leads=len(axes) + 1, notes=notes)


def _by_key(contents: Contents, metric: Metric) -> dict[Key, Told]:
    part = contents.differences[contents.differences["metric"] == metric.key]
    return {contents.axis_texts(told): told for told in part.to_dict("records")}


def _letters(notes: Any) -> dict[str, str]:
    """A letter for each reason why there is no p, and none for there being one."""
    reasons = [note for note in dict.fromkeys(notes) if note]
    return {"": ""} | {note: ascii_lowercase[i % 26] * (1 + i // 26) for i, note in enumerate(reasons)}


def _row(
    contents: Contents,
    key: Key,
    found: Mapping[Metric, Mapping[Key, Told]],
    columns: Sequence[Mapping[Key, list[Place]]],
) -> Row:
    pairs = "/".join(dict.fromkeys(str(of[key]["n"]) for of in found.values()))
    leads = words([*map(contents.results.title, key), pairs])
    return Row((*leads, *(place for part in columns for place in part[key])))


def _columns(
    contents: Contents, metric: Metric, found: Mapping[Key, Told], marks: Mapping[str, str], tested: bool
) -> tuple[list[Head], dict[Key, list[Place]]]:
    """The difference with its interval, p where any comparison has one, and what the images leave open of FID's."""
    digits = contents.digits[metric.key]
    images = {key: _interval(told, "images_low", "images_high", metric, digits + 1) for key, told in found.items()}
    heads = [Head(f"Δ{metric.name}", key=metric.key)]
    heads += [Head("p", "text", key="p_holm")] if tested else []
    heads += [Head("of images", "text", key="images_low")] if any(images.values()) else []
    places = {}
    for key, told in found.items():
        places[key] = [_difference(told, metric, digits, "" if tested else marks[told["note"]])]
        places[key] += [_p(told, marks)] if tested else []
        places[key] += [Place(images[key]) if images[key] else NOTHING] if any(images.values()) else []
    return heads, places


def _difference(told: Told, metric: Metric, digits: int, mark: str) -> Place:
    if math.isnan(told["mean"]):
        return Place(NOTHING.text, raised=mark)
    value = told["mean"] * metric.scale
    ends = _interval(told, "low", "high", metric, digits + 1)  # with a digit more an end near 0 keeps its side
    return Place(number(value, digits, signed=True), value, ends, mark)


def _interval(told: Told, low: str, high: str, metric: Metric, digits: int) -> str:
    """Low and high in brackets, "" without them."""
    if math.isnan(told[low]):
        return ""
    ends = (number(told[end] * metric.scale, digits, signed=True) for end in (low, high))
    return minus(f"[{', '.join(ends)}]")


def _p(told: Told, marks: Mapping[str, str]) -> Place:
    if told["note"]:
        return Place(raised=marks[told["note"]])
    return Place(f"{told['p_holm']:.3f}" if told["p_holm"] >= 0.001 else "<0.001")


# --------------------------------------------------------------------------------------------------------------- ranks


def ranks(contents: Contents) -> Table:
    """Mean ranks of strategies, a column a metric, with how many of how many blocks each wins."""
    table = contents.ranks
    metrics = [metric for metric in contents.together if metric.key in set(table["metric"])]
    found = {metric.key: _ranked(table[table["metric"] == metric.key]) for metric in metrics}
    names = list(dict.fromkeys(name for told in found.values() for name in told))
    rows = tuple(
        Row((*words([contents.text("strategy", name)]), *(found[metric.key].get(name, NOTHING) for metric in metrics)))
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
        told["strategy"]: NOTHING
        if math.isnan(told["mean_rank"])
        else Place(
            f"{told['mean_rank']:.2f}",
            told["mean_rank"],
            f"({told['wins']}/{told['blocks']})",
            mark="best" if told["mean_rank"] == top else "",
        )
        for told in part.to_dict("records")
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
        answers = [row for told in group.to_dict("records") for row in _answer(told)]
        blocks.append((Row(words([f"{claim}. {statement}"]), spans=True), *answers))
    return Table("claims", f"Claims of “{PAPER}” on FedAvg", heads, tuple(blocks), leads=0)


def _answer(told: Mapping[Any, Any]) -> list[Row]:
    value = interval(*(f"{told[key]:+.3g}" for key in ("value", "low", "high")))
    what = f"{told['measure']}: {told['quantity']}" if told["quantity"] else told["measure"]
    return [Row(words([minus(what)]), spans=True), Row(words([minus(value), str(told["n"]), told["verdict"]]))]


def minus(text: str) -> str:
    """With the sign of negative numbers as printers have it."""
    return re.sub(r"-(?=\d)", "−", text)


def interval(mean: str, low: str, high: str) -> str:
    """Numbers as "mean [low, high]", without what there is none of."""
    if math.isnan(float(mean)):
        return ""
    return mean if math.isnan(float(low)) else f"{mean} [{low}, {high}]"
