"""Tables of means over seeds: all metrics together, each by itself, and what the page shows."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from bench.config.names import MISSING
from bench.report.metrics import METRICS, Metric
from bench.report.tables.contents import Contents, seeds_text
from bench.report.tables.table import NOTHING, Head, Place, Row, Table, words

CENTRAL = (MISSING, MISSING)  # n_clients and beta of centralized training
SHORT = 60  # letters of what a caption says of its metric
Split = tuple[str, str]  # n_clients and beta
Key = tuple[str, ...]  # the texts of all axes


def summary(contents: Contents) -> Table:
    """All metrics: centralized training first, then blocks of rows to be compared."""
    rows = [_mean_row(contents, index, contents.together) for index in range(len(contents.records))]
    splits = [contents.axis_texts(row)[1:3] for row in contents.records]
    blocks = [
        tuple(row for row, _ in found) for _, found in groupby(zip(rows, splits, strict=True), key=lambda it: it[1])
    ]
    heads = (*_axis_heads(contents), Head("seeds", "seeds", key="n"), *map(_head, contents.together))
    title = ", ".join(metric.name for metric in contents.metrics) if contents.chosen else "All metrics"
    return Table("summary", f"{title[0].upper()}{title[1:]}", heads, tuple(blocks), leads=len(contents.axes) + 1)


def _axis_heads(contents: Contents) -> list[Head]:
    return [Head(contents.heading(axis), "axis", "beta" if axis == "beta" else "", key=axis) for axis in contents.axes]


def _head(metric: Metric) -> Head:
    arrow, spread = metric.arrow(), metric.spread == "both"
    return Head(metric.name + arrow, "number", metric.head + arrow, "", metric.key, metric.about, spread)


def _mean_row(contents: Contents, index: int, metrics: Iterable[Metric]) -> Row:
    """A row of means; one without a finished cell says in the first place alone why."""
    row = contents.records[index]
    places = [_in_summary(contents.place(index, metric), metric) for metric in metrics]
    if row["n"] == 0:
        places[1:] = [NOTHING] * (len(places) - 1)
    return Row((*_axes(contents, row), Place(seeds_text(row), float(row["n"]), note=row["unfinished"]), *places))


def _axes(contents: Contents, row: Mapping[str, Any]) -> list[Place]:
    return [_axis(row[axis], contents.text(axis, row[axis])) for axis in contents.axes]


def _axis(value: Any, text: str) -> Place:
    if text == MISSING:
        return NOTHING
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Place(text, float(value) if is_number else text)


def _in_summary(place: Place, metric: Metric) -> Place:
    """With a spread where the table of all metrics shows this one's; of missing seeds the row tells."""
    return Place(place.text, place.value, place.beside if metric.spread else "", "", place.mark, place.note)


# --------------------------------------------------------------------------------------------------- one metric a table


def metric_table(contents: Contents, metric: Metric) -> Table:
    """One metric: strategies below one another, n_clients and beta side by side, further axes as blocks of rows.

    Centralized training knows nothing of clients, so its place spans all of theirs.
    """
    places = {contents.axis_texts(row): contents.place(index, metric) for index, row in enumerate(contents.records)}
    splits = _side_by_side((n, beta) for _, n, beta, *_ in places)
    extra = contents.results.extra_axes
    blocks: dict[Key, list[Row]] = {}
    for strategy, *further in dict.fromkeys((key[0], *key[3:]) for key in places):
        found = {split: place for split in (CENTRAL, *splits) if (place := places.get((strategy, *split, *further)))}
        if any(place != NOTHING for place in found.values()) or not further:
            blocks.setdefault(tuple(further), []).append(_across(contents, strategy, tuple(further), found, splits))
    leads = [Head(contents.heading(axis), "axis", key=axis) for axis in (*extra, "strategy")]
    heads = (*leads, *_split_heads(contents, splits, metric))
    parts = [tuple(rows) for rows in blocks.values()] if extra else _central_first(next(iter(blocks.values()), []))
    return Table(metric.file, _title(metric), heads, tuple(parts), leads=len(leads), once=len(extra))


def _side_by_side(found: Iterable[Split]) -> list[Split]:
    """The splits once each, those of one n_clients side by side; that of centralized training if there is no other."""
    known = [split for split in dict.fromkeys(found) if split != CENTRAL]
    order = list(dict.fromkeys(n for n, _ in known))
    return sorted(known, key=lambda split: order.index(split[0])) or [CENTRAL]


def _across(contents: Contents, strategy: str, extra: Key, found: Mapping[Split, Place], splits: list[Split]) -> Row:
    """A strategy's row: one place for each split, or one for all of them."""
    leads = words([contents.results.title(text) for text in (*extra, strategy)])
    if CENTRAL in found and len(splits) > 1:
        return Row((*leads, found[CENTRAL]), spans=True)
    return Row((*leads, *(found.get(split, found.get(CENTRAL, NOTHING)) for split in splits)))


def _central_first(rows: list[Row]) -> list[tuple[Row, ...]]:
    """Centralized training in a block of its own, where its place spans the others'."""
    parts = [tuple(row for row in rows if row.spans is spans) for spans in (True, False)]
    return [part for part in parts if part]


def _split_heads(contents: Contents, splits: list[Split], metric: Metric) -> list[Head]:
    """n_clients above beta; of one split both in a line."""
    names = [contents.heading(axis) for axis in ("n_clients", "beta")]
    if splits == [CENTRAL]:
        return [Head(metric.name + metric.arrow(), key=metric.key)]
    if len(splits) == 1:
        ((n, beta),) = splits
        return [Head(f"{names[0]} = {n}, {names[1]} = {beta}", key=metric.key)]
    return [Head(f"{names[1]} = {beta}", group=f"{names[0]} = {n}", key=metric.key) for n, beta in splits]


def _title(metric: Metric) -> str:
    """What a metric's table shows; the appendix says what the metric is, where a caption has no room for that."""
    name = f"{metric.about} ({metric.name})" if len(metric.about) <= SHORT else metric.name
    return f"{name[0].upper()}{name[1:]}" + (f", {metric.way} is better" if metric.way else "")


# ------------------------------------------------------------------------------------------------------------ the page


def page_means(contents: Contents) -> Table:
    """A row a mean over seeds, of every number that any of them has."""
    metrics = (*contents.metrics, *_further(contents))
    heads = (*_axis_heads(contents), Head("seeds", "seeds", key="seeds"), *map(_head, metrics))
    rows = tuple(
        Row((*_axes(contents, row), Place(seeds_text(row), float(row["n"]), note=row["unfinished"]),
             *_or_why(contents, index, metrics)))
        for index, row in enumerate(contents.records)
    )  # fmt: skip
    return Table("means", "Means over seeds", heads, (rows,), leads=len(contents.axes) + 1)


def _or_why(contents: Contents, index: int, metrics: Iterable[Metric]) -> list[Place]:
    places = [contents.place(index, metric) for metric in metrics]
    return [places[0], *[NOTHING] * (len(places) - 1)] if contents.records[index]["n"] == 0 else places


def page_cells(contents: Contents) -> Table:
    """A row a cell, of the same columns."""
    metrics = (*contents.metrics, *_further(contents))
    heads = (*_axis_heads(contents), Head("seeds", "seeds", key="seeds"), *map(_head, metrics))
    rows = tuple(
        Row((*_axes(contents, row), *_cell(contents, row, metrics))) for row in contents.rows.frame.to_dict("records")
    )
    return Table("cells", "Cells", heads, (rows,), leads=len(contents.axes) + 1)


def _cell(contents: Contents, row: Mapping[Any, Any], metrics: Iterable[Metric]) -> list[Place]:
    seed = Place(f"seed {row['seed']}", float(row["seed"]), note=row["cell_id"])
    numbers = [contents.number(metric, row.get(metric.key)) for metric in metrics]
    places = [
        Place(text, float(f"{row[metric.key] * metric.scale:.6g}")) if text else NOTHING
        for text, metric in zip(numbers, metrics, strict=True)
    ]
    if row["state"] != "done":
        places[0] = Place(row["state"], mark="state", note=row["error"] or "")
    return [seed, *places]


def _further(contents: Contents) -> list[Metric]:
    """Every other number that was summarised and is known of some row."""
    means = contents.means
    elsewhere = {metric.key for metric in contents.metrics}
    keys = [str(key) for key in means.columns if f"{key}_sd" in means.columns and key not in elsewhere]
    known = [key for key in keys if means[key].notna().any()]
    return [METRICS[key] if key in METRICS else Metric(key, key.replace("_", " ")) for key in known]
