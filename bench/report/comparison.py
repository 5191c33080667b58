"""Two grids' results side by side: finished cells matched by what they are, and what differs in each pair."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from bench.command import print_whole, terminal_text
from bench.config.cell import flatten
from bench.config.errors import ConfigError
from bench.config.names import AXES, axis_value, hashable
from bench.report.figures.agreement import agreement
from bench.report.metrics import COMPARED, METRICS, Metric
from bench.report.results import Cell, Results
from bench.report.stats import paired_interval
from bench.report.summary import cell_rows
from bench.report.tables.markdown import markdown
from bench.report.tables.table import NOTHING, Head, Place, Row, Table, minus, words
from bench.report.tables.terminal import rich_table
from bench.store.files import write_bytes

SEED = "seed"
SHOWN = 12  # settings that are printed


@dataclass(frozen=True)
class Comparison:
    """Two grids' finished cells, matched.

    Attributes:
        a, b: their results.
        axes: strategy, n_clients, beta and all further axes of either, without the seed.
        pairs: a row a matched pair: the axes, seed, cell_a, cell_b, same_weights, and each of `COMPARED` with _a, _b.
        only_a, only_b: cells without a finished partner.
        differences: settings and circumstances that are not the same, with the values of either and how many pairs
            have them.
    """

    a: Results
    b: Results
    axes: tuple[str, ...]
    pairs: pd.DataFrame
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    differences: pd.DataFrame


# ------------------------------------------------------------------------------------------------ matching


def compare(a: Results, b: Results) -> Comparison:
    """Match the finished cells of two grids.

    Raises:
        ConfigError: if no finished cell of one is one of the other, too.
    """
    axes = tuple(dict.fromkeys([*AXES, *a.extra_axes, *b.extra_axes]))
    cells_a, cells_b = finished(a, axes), finished(b, axes)
    both = [(cells_a[key], cells_b[key]) for key in cells_a if key in cells_b]
    if not both:
        raise ConfigError(
            f"{a.root} and {b.root} have no finished cell in common; {len(cells_a)} and {len(cells_b)} are finished"
        )
    rows_a, rows_b = (cell_rows(results).frame.set_index("cell_id") for results in (a, b))
    pairs = [
        place(ours, axes) | _numbers(rows_a.loc[ours.cell_id], rows_b.loc[theirs.cell_id]) for ours, theirs in both
    ]
    return Comparison(
        a,
        b,
        axes,
        pd.DataFrame(pairs),
        tuple(cell.cell_id for key, cell in cells_a.items() if key not in cells_b),
        tuple(cell.cell_id for key, cell in cells_b.items() if key not in cells_a),
        differing([(circumstances(ours), circumstances(theirs)) for ours, theirs in both]),
    )


def finished(results: Results, axes: Sequence[str]) -> dict[str, Cell]:
    """The finished cells by their place on the axes."""
    return {json.dumps(place(cell, axes)): cell for cell in results.cells if cell.done}


def place(cell: Cell, axes: Sequence[str]) -> dict[str, Any]:
    """The cell's values on the axes, those of its grid and others, and its seed."""
    values = dict(flatten(cell.config)) | cell.labels
    return {axis: hashable(values.get(axis)) for axis in (*axes, SEED)}


def _numbers(a: pd.Series, b: pd.Series) -> dict[str, Any]:
    """What a pair's rows say, side by side."""
    pair = {"cell_a": a.name, "cell_b": b.name, "same_weights": a["weight_hash"] == b["weight_hash"]}
    for metric in COMPARED:
        pair |= {f"{metric}_a": a.get(metric), f"{metric}_b": b.get(metric)}
    return pair


def circumstances(cell: Cell) -> dict[str, Any]:
    """What a finished cell was made of and with, by dotted name: its settings, data, extractor and environment."""
    assert cell.result is not None
    parts = {"result_version", "config", "data", "extractor", "environment"}
    return dict(flatten(cell.result.model_dump(include=parts)))


def differing(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> pd.DataFrame:
    """Columns name, a, b, pairs: how many pairs have these values under the name, which are not the same."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for a, b in pairs:
        for name in dict.fromkeys([*a, *b]):
            values = [json.dumps(side.get(name), sort_keys=True) for side in (a, b)]
            if values[0] != values[1]:
                counts[name, values[0], values[1]] += 1
    rows = [(*key, count) for key, count in counts.items()]
    return pd.DataFrame(rows, columns=["name", "a", "b", "pairs"])


# ------------------------------------------------------------------------------------------------ numbers


def comparison_table(comparison: Comparison) -> pd.DataFrame:
    """One row an experiment and metric.

    Columns: the axes, metric, `n` (pairs of seeds that both have it), `a` and `b` (means over those), `difference`
    (mean of b - a by seed), `low` and `high` (its 95 % t interval, NaN below two), `same_weights` (how many have).
    """
    rows = []
    for values, group in comparison.pairs.groupby([*comparison.axes], dropna=False, sort=False):
        for metric in COMPARED:
            known = group[[f"{metric}_a", f"{metric}_b"]].astype(float).dropna()
            if known.empty:
                continue
            a, b = (known[f"{metric}_{side}"].to_numpy() for side in "ab")
            interval = paired_interval(b, a)
            row = {"metric": metric, "n": interval.n, "a": a.mean(), "b": b.mean(), "difference": interval.mean}
            row |= {"low": interval.low, "high": interval.high, "same_weights": int(group["same_weights"].sum())}
            rows.append(dict(zip(comparison.axes, values, strict=True)) | row)
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------ what is shown


def side_by_side(comparison: Comparison, numbers: pd.DataFrame) -> Table:
    """A row an experiment: of each metric A, B and the difference, with its interval where there are several pairs.

    Args:
        numbers: of `comparison_table`, or some of its rows.
    """
    metrics = [METRICS[key] for key in COMPARED if key in set(numbers["metric"])]
    heads = [Head(comparison.a.heading(axis), "axis", key=axis) for axis in comparison.axes] + [
        Head("pairs", "seeds", key="n")
    ]
    for metric in metrics:
        heads += [Head("A", short=f"{metric.name}\nA", group=metric.name, key=metric.key)]
        heads += [Head(text, short=f"\n{text}", group=metric.name, key=metric.key) for text in ("B", "B − A")]
    rows = []
    for values, group in numbers.groupby([*comparison.axes], dropna=False, sort=False):
        by_metric = {row["metric"]: row for row in group.to_dict("records")}
        leads = words([*(axis_value(value, comparison.a.titles) for value in values), str(group["n"].max())])
        rows.append(
            Row((*leads, *(place for metric in metrics for place in _places(by_metric.get(metric.key), metric))))
        )
    return Table("comparison", "A and B side by side", tuple(heads), (tuple(rows),), leads=len(comparison.axes) + 1)


def _places(row: Mapping[Any, Any] | None, metric: Metric) -> list[Place]:
    if row is None:
        return [NOTHING] * 3
    a, b, difference, low, high = (row[key] * metric.scale for key in ("a", "b", "difference", "low", "high"))
    interval = "" if pd.isna(low) else f" [{low:+.2g}, {high:+.2g}]"
    return [Place(f"{a:.4g}", a), Place(f"{b:.4g}", b), Place(minus(f"{difference:+.2g}{interval}"))]


def settings_that_differ(comparison: Comparison) -> Table:
    """A row a setting or circumstance and its two values."""
    heads = [Head(text, "text" if text != "pairs" else "number", key=text) for text in comparison.differences]
    rows = comparison.differences.itertuples(index=False, name=None)
    return Table("differences", "What differs", tuple(heads), (tuple(Row(words(list(map(str, row)))) for row in rows),))


def heading(comparison: Comparison) -> list[str]:
    """What is compared, in lines."""
    same = int(comparison.pairs["same_weights"].sum())
    return [
        f"A: {comparison.a.root}",
        f"B: {comparison.b.root}",
        f"{len(comparison.pairs)} pairs of finished cells, {same} of them with the same weights bit for bit; "
        f"{len(comparison.only_a)} only in A, {len(comparison.only_b)} only in B",
    ]


def show(comparison: Comparison, console: Console) -> None:
    """Print what is compared, what differs, and the metrics side by side."""
    lines = heading(comparison)
    for row in comparison.differences.head(SHOWN).itertuples(index=False):
        lines.append(f"differs in {row.pairs} pair{'' if row.pairs == 1 else 's'}: {row.name}: A {row.a}, B {row.b}")
    if (left := len(comparison.differences) - SHOWN) > 0:
        lines.append(f"and {left} more that differ: --out writes them all")
    numbers = comparison_table(comparison)
    compared = [key for key in COMPARED if key in set(numbers["metric"])]
    equal = [key for key in compared if comparison.pairs[f"{key}_a"].equals(comparison.pairs[f"{key}_b"])]
    if equal:
        lines.append(f"the same to the last digit in all pairs: {', '.join(METRICS[key].name for key in equal)}")
    for line in lines:
        console.print(terminal_text(line), soft_wrap=True)
    if len(equal) < len(compared):
        print_whole(console, rich_table(side_by_side(comparison, numbers[~numbers["metric"].isin(equal)])))


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write pairs.csv, comparison.csv, differences.csv, comparison.md and the picture; returns their paths."""
    numbers = comparison_table(comparison)
    tables = [
        markdown(side_by_side(comparison, numbers), ". ".join(heading(comparison))),
        markdown(settings_that_differ(comparison), "Values as JSON; pairs: how many pairs of cells have them."),
    ]
    frames = {"pairs": comparison.pairs, "comparison": numbers, "differences": comparison.differences}
    texts = {f"{name}.csv": frame.to_csv(index=False) for name, frame in frames.items()}
    texts |= {"comparison.md": "\n".join(tables)}
    for name, text in texts.items():
        write_bytes(folder / name, text.encode())
    pictures = agreement(comparison.pairs, COMPARED, folder / "comparison")
    return [*(folder / name for name in texts), *pictures]
