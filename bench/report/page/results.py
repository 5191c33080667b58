"""The rows of the page's main table: means over seeds, and every cell."""

from typing import Any

import pandas as pd

from bench.config.names import MISSING, value_text
from bench.report.metrics import SHOWN, Metric
from bench.report.tables.contents import Contents
from bench.report.tables.shown import Shown, number, seeds_text

Field = list[Any]  # value, text, note, mark


def main_table(contents: Contents) -> dict[str, Any]:
    """`columns` (key, head, kind, better, scale, further, about), and `means` and `seeds`, rows of `Field`s.

    A field's value is what is sorted and filtered by, in the unit of its text; its note explains it, its mark is
    "best", "tied" or "state". Columns that are `further` are shown on demand.
    """
    shown = contents.shown
    columns = [*shown.columns, *_further(shown)]
    axes = [{"key": axis, "head": "clients" if axis == "n_clients" else axis, "kind": "axis"} for axis in shown.axes]
    return {
        "columns": [*axes, {"key": "seeds", "head": "seeds", "kind": "seeds"}, *map(_head, columns)],
        "means": [_mean_row(shown, index, columns) for index in shown.table.index],
        "seeds": [_seed_row(shown, row, columns) for _, row in contents.rows.frame.iterrows()],
    }


def _head(column: Metric) -> dict[str, Any]:
    told = {"key": column.key, "head": column.name, "better": column.better, "scale": column.scale}
    return told | {"kind": "number", "further": column.alone, "about": f"{column.about or column.name} ({column.key})"}


def _further(shown: Shown) -> list[Metric]:
    """Every other number that was summarised and is known of some row."""
    table = shown.table
    shown_elsewhere = {metric.key for metric in SHOWN}
    keys = [key for key in table.columns if f"{key}_sd" in table.columns and key not in shown_elsewhere]
    return [Metric(key, key.replace("_", " ")) for key in keys if table[key].notna().any()]


def _mean_row(shown: Shown, index: int, columns: list[Metric]) -> list[Field]:
    row = shown.table.loc[index]
    seeds = [int(row["n"]), seeds_text(row), row["unfinished"], ""]
    means = [_mean(shown, index, column) for column in columns]
    if row["n"] == 0:  # the first says why
        means[1:] = [[None, MISSING, "", ""]] * (len(means) - 1)
    return [*(_axis(row[axis]) for axis in shown.axes), seeds, *means]


def _mean(shown: Shown, index: int, column: Metric) -> Field:
    row = shown.table.loc[index]
    if column.key not in shown.digits:
        return _number(shown, column, row[column.key])
    entry = shown.entry(index, column)
    spread, seeds = entry.sd and f" ± {entry.sd}", entry.seeds and f" ({entry.seeds})"
    low, high = (_number(shown, column, row[f"{column.key}_{end}"])[1] for end in ("low", "high"))
    note = f"95 % interval of the mean: {low} to {high}" if MISSING not in (low, high) else ""
    mark = entry.mark if entry.mean else "" if entry.why == MISSING else "state"
    return [_number(shown, column, row[column.key])[0], f"{entry.mean or entry.why}{spread}{seeds}", note, mark]


def _seed_row(shown: Shown, row: pd.Series, columns: list[Metric]) -> list[Field]:
    seed = [int(row["seed"]), f"seed {row['seed']}", row["cell_id"], ""]
    numbers = [_number(shown, column, row.get(column.key)) for column in columns]
    if row["state"] != "done":
        numbers[0] = [None, row["state"], row["error"] or "", "state"]
    return [*(_axis(row[axis]) for axis in shown.axes), seed, *numbers]


def _axis(value: Any) -> Field:
    if isinstance(value, (list, dict)):
        return [str(value), str(value), "", ""]
    if pd.isna(value):
        return [None, MISSING, "", ""]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return [float(value) if is_number else str(value), value_text(value), "", ""]


def _number(shown: Shown, column: Metric, value: Any) -> Field:
    if value is None or pd.isna(value):
        return [None, MISSING, "", ""]
    scaled, digits = float(value) * column.scale, shown.digits.get(column.key)
    text = f"{scaled:.4g}" if digits is None else number(scaled, digits, column.signed)
    return [float(f"{scaled:.6g}"), text, "", ""]
