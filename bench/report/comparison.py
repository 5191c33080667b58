"""Two grids' results side by side: finished cells matched by what they are, and what differs in each pair."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from bench.command import print_whole, terminal_text
from bench.config.cell import flatten
from bench.config.errors import ConfigError
from bench.config.names import AXES, hashable, value_text
from bench.report.figures.agreement import agreement
from bench.report.metrics import COMPARED
from bench.report.results import Cell, Results
from bench.report.stats import paired_interval
from bench.report.summary import cell_rows
from bench.report.tables.markdown import markdown_table
from bench.store.files import write_bytes

SEED = "seed"
SHOWN = 12  # settings, or values of one, that are printed


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


def comparison_table(made: Comparison) -> pd.DataFrame:
    """One row an experiment and metric.

    Columns: the axes, metric, `n` (pairs of seeds that both have it), `a` and `b` (means over those), `difference`
    (mean of b - a by seed), `low` and `high` (its 95 % t interval, NaN below two), `same_weights` (how many have).
    """
    rows = []
    for values, group in made.pairs.groupby([*made.axes], dropna=False, sort=False):
        for metric in COMPARED:
            known = group[[f"{metric}_a", f"{metric}_b"]].astype(float).dropna()
            if known.empty:
                continue
            a, b = (known[f"{metric}_{side}"].to_numpy() for side in "ab")
            found = paired_interval(b, a)
            told = {"metric": metric, "n": found.n, "a": a.mean(), "b": b.mean(), "difference": found.mean}
            told |= {"low": found.low, "high": found.high, "same_weights": int(group["same_weights"].sum())}
            rows.append(dict(zip(made.axes, values, strict=True)) | told)
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------ what is shown


def show(made: Comparison, console: Console) -> None:
    """Print what is compared, what differs, and the metrics side by side."""
    same = int(made.pairs["same_weights"].sum())
    lines = [
        f"A: {made.a.root}",
        f"B: {made.b.root}",
        f"{len(made.pairs)} pairs of finished cells, {same} of them with the same weights bit for bit; "
        f"{len(made.only_a)} only in A, {len(made.only_b)} only in B",
        *(
            f"differs in {row.pairs} pair{'' if row.pairs == 1 else 's'}: {row.name}: A {row.a}, B {row.b}"
            for row in made.differences.head(SHOWN).itertuples(index=False)
        ),
    ]
    if (left := len(made.differences) - SHOWN) > 0:
        lines.append(f"and {left} more that differ: --out writes them all")
    table = comparison_table(made)
    compared = [metric for metric in COMPARED if metric in set(table["metric"])]
    equal = [metric for metric in compared if made.pairs[f"{metric}_a"].equals(made.pairs[f"{metric}_b"])]
    if equal:
        lines.append(f"the same to the last digit in all pairs: {', '.join(equal)}")
    for line in lines:
        console.print(terminal_text(line), soft_wrap=True)
    if set(equal) < set(table["metric"]):
        print_whole(console, terminal_table(made.axes, table[~table["metric"].isin(equal)]))


def terminal_table(axes: Sequence[str], table: pd.DataFrame) -> Table:
    """A row an experiment: of each metric A, B and the difference with its interval."""
    shown = [metric for metric in COMPARED if metric in set(table["metric"])]
    out = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for axis in (*axes, "pairs"):
        out.add_column(terminal_text(axis), justify="left" if axis == "strategy" else "right", no_wrap=True)
    for metric in shown:
        for head in (f"{metric}\nA", "\nB", "\nB - A"):
            out.add_column(head, justify="right", no_wrap=True)
    for values, group in table.groupby([*axes], dropna=False, sort=False):
        by_metric = group.set_index("metric")
        texts = [text for metric in shown for text in _texts(by_metric, metric)]
        names = [terminal_text(value_text(value)) for value in values]
        out.add_row(*names, str(group["n"].max()), *texts)
    return out


def _texts(table: pd.DataFrame, metric: str) -> tuple[str, str, str]:
    """A, B and their difference with its interval, where there are several pairs."""
    if metric not in table.index:
        return "--", "--", "--"
    row = table.loc[metric]
    interval = "" if pd.isna(row["low"]) else f" [{row['low']:+.2g}, {row['high']:+.2g}]"
    return f"{row['a']:.4g}", f"{row['b']:.4g}", f"{row['difference']:+.2g}{interval}"


def write(made: Comparison, folder: Path) -> list[Path]:
    """Write pairs.csv, comparison.csv, differences.csv, comparison.md and the picture; returns their paths."""
    table = comparison_table(made)
    texts = {
        "pairs.csv": made.pairs.to_csv(index=False),
        "comparison.csv": table.to_csv(index=False),
        "differences.csv": made.differences.to_csv(index=False),
        "comparison.md": _markdown(made, table),
    }
    for name, text in texts.items():
        write_bytes(folder / name, text.encode())
    pictures = agreement(made.pairs, COMPARED, folder / "comparison")
    return [*(folder / name for name in texts), *pictures]


def _markdown(made: Comparison, table: pd.DataFrame) -> str:
    head = f"A: {made.a.root}\n\nB: {made.b.root}\n\n{len(made.pairs)} pairs\n\n"
    return head + markdown_table(table) + "\n\n" + markdown_table(made.differences) + "\n"
