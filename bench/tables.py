"""Tables of a grid: tidy rows, a summary as CSV, LaTeX and on the terminal. Pure functions of the results' files."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from bench.store import Store, write_bytes

AXES = ("strategy", "n_clients", "beta")
MISSING = "--"


@dataclass(frozen=True)
class Column:
    """A column of the summary.

    Attributes:
        key: the metric's name in the results.
        head, latex: how it is headed on the terminal and in LaTeX.
        better: -1 if lower is better, 1 if higher is, 0 if neither (then no best is marked).
        scale: what values are multiplied by before they are shown.
        digits: after the point.
    """

    key: str
    head: str
    latex: str
    better: int = 0
    scale: float = 1.0
    digits: int = 2


COLUMNS = (
    Column("fid", "FID", "FID", -1),
    Column("fid_minus_centralized", "FID-centr.", r"$\Delta$FID", 0),
    Column("kid_mean", "KID x1e3", r"KID$\times 10^3$", -1, 1e3),
    Column("is_mean", "IS", "IS", 1),
    Column("class_tv", "class TV", "class TV", -1, digits=3),
    Column("heldout_loss", "held-out", "held-out loss", -1, digits=4),
    Column("train_loss", "train loss", "train loss", 0, digits=4),
    Column("bytes_total", "MB", "MB", 0, 1e-6, 1),
    Column("train_seconds", "train s", "s", 0, digits=0),
)
_DIFFERENCES = {"fid_minus_centralized": "fid", "heldout_minus_centralized": "heldout_loss"}
_SUMMARISED = (*(c.key for c in COLUMNS), "heldout_minus_centralized", "is_std", "kid_std", "drift", "samples", "skew_tv",
               "bytes_up", "bytes_down", "mean_confidence", "fid_bias")  # fmt: skip


def summary_rows(store: Store) -> pd.DataFrame:
    """Tidy results: one row a planned cell, that is a strategy, n_clients, beta, further axes and seed."""
    frame = store.frame()
    if "bytes_up" in frame:
        frame["bytes_total"] = frame["bytes_up"] + frame["bytes_down"]
    return frame


def summary_table(rows: pd.DataFrame, extra_axes: Sequence[str] = ()) -> pd.DataFrame:
    """Means over seeds: one row a (strategy, n_clients, beta, further axes).

    Centralized training stands first; then come blocks of one (n_clients, beta), strategies in the plan's order.

    Columns: the axes, `n` (finished seeds), `planned` (seeds), for each metric its mean over the finished seeds, with
    ``_sd`` their standard deviation (NaN below two), and the differences to centralized training of the same further
    axes, paired by seed. A row none of whose cells is finished has n = 0 and no numbers.
    """
    axes = [*AXES, *extra_axes]
    rows = _with_differences(rows, list(extra_axes))
    keys = [c for c in dict.fromkeys(_SUMMARISED) if c in rows]
    made = []
    for values, group in rows.groupby(_hashable(rows, axes), dropna=False, sort=False):
        done = group[group["state"] == "done"]
        numbers = done[keys].apply(pd.to_numeric)
        row = dict(zip(axes, values if isinstance(values, tuple) else (values,), strict=True))
        row |= {"n": len(done), "planned": len(group)} | {key: numbers[key].mean() for key in keys}
        made.append(row | {f"{key}_sd": numbers[key].std() for key in keys})
    table = pd.DataFrame(made)
    return table.sort_values(["n_clients", "beta"], kind="stable", na_position="first", ignore_index=True)


def _hashable(rows: pd.DataFrame, axes: Sequence[str]) -> list[pd.Series]:
    """The axes' columns with lists (widths, say) as texts, to group by."""
    return [rows[a].map(lambda v: json.dumps(v) if isinstance(v, list) else v).rename(a) for a in axes]


def _with_differences(rows: pd.DataFrame, extra_axes: list[str]) -> pd.DataFrame:
    """Adds each row's differences to the centralized row of the same seed and further axes; NaN where there is none."""
    rows = rows.copy()
    by = ["seed", *extra_axes]
    key = pd.Series(list(zip(*_hashable(rows, by), strict=True)), index=rows.index)
    for name, metric in _DIFFERENCES.items():
        if metric not in rows:
            continue
        central = rows["n_clients"].isna() & (rows["state"] == "done")
        known = dict(zip(key[central], rows.loc[central, metric], strict=True))
        base = key.map(known)
        rows[name] = (pd.to_numeric(rows[metric]) - pd.to_numeric(base)).where(rows["n_clients"].notna())
    return rows


def warnings(store: Store) -> list[str]:
    """What makes rows of one table doubtful to compare: other code, dirty code or other package versions."""
    made = [r["environment"] for cell in store.planned() if (r := store.cell(cell.cell_id).result()) is not None]
    found = []
    commits = {str(e["commit"])[:10] for e in made}
    if len(commits) > 1:
        found.append(f"these results come from {len(commits)} commits of the code: {', '.join(sorted(commits))}")
    if len({json.dumps(e["packages"], sort_keys=True) for e in made}) > 1:
        found.append("these results come from different package versions; see result.json of the cells")
    if len({(e["device"], e["cpu"]) for e in made}) > 1:
        found.append("these results come from different processors: their seconds cannot be compared")
    return found


def write_tables(store: Store) -> list[Path]:
    """Write summary.csv, summary_table.csv and summary_table.tex into the grid's folder; returns their paths."""
    rows = summary_rows(store)
    table = summary_table(rows, store.plan()["extra_axes"])
    texts = {
        "summary.csv": rows.to_csv(index=False),
        "summary_table.csv": table.to_csv(index=False),
        "summary_table.tex": latex_table(store, table),
    }
    for name, text in texts.items():
        write_bytes(store.root / name, text.encode())
    return [store.root / name for name in texts]


# ------------------------------------------------------------------------------------------------ cells' texts


def shown(table: pd.DataFrame) -> list[Column]:
    """The columns that have any number."""
    return [c for c in COLUMNS if c.key in table and table[c.key].notna().any()]


def cell_text(row: Any, column: Column, plus_minus: str) -> str:
    """A mean, with its standard deviation where there is one; `MISSING` where there is no number."""
    mean, sd = row[column.key], row[f"{column.key}_sd"]
    if mean is None or math.isnan(mean):
        return MISSING
    text = f"{mean * column.scale:.{column.digits}f}"
    return text if math.isnan(sd) else f"{text}{plus_minus}{sd * column.scale:.{column.digits}f}"


def best_rows(table: pd.DataFrame, column: Column, extra_axes: Sequence[str]) -> set[int]:
    """Index of the best federated row of each (n_clients, beta, further axes) with two rows or more, ties together."""
    if not column.better:
        return set()
    best = set()
    federated = table[table["n_clients"].notna() & table[column.key].notna()]
    for _, block in federated.groupby(["n_clients", "beta", *extra_axes], dropna=False):
        values = (block[column.key] * column.scale).round(column.digits)
        top = values.max() if column.better > 0 else values.min()
        if len(block) > 1:
            best |= set(block.index[values == top])
    return best


def axis_text(value: Any) -> str:
    """An axis's value: whole numbers without a point, nothing as `MISSING`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def seeds_text(row: Any) -> str:
    """How many seeds stand behind a row: "3", or "1/3" where some are missing or failed."""
    return str(row["n"]) if row["n"] == row["planned"] else f"{row['n']}/{row['planned']}"


# ------------------------------------------------------------------------------------------------ terminal


def terminal_table(store: Store) -> Table:
    """The summary for a terminal, the best of each (n_clients, beta) in bold, the real images' floor below."""
    extra_axes = store.plan()["extra_axes"]
    table = summary_table(summary_rows(store), extra_axes)
    columns = shown(table)
    best = {c.key: best_rows(table, c, extra_axes) for c in columns}
    made = Table(title=f"grid {store.plan()['name']}", title_justify="left", title_style="bold", pad_edge=False)
    for name in ("strategy", "n", "beta", *extra_axes, "seeds"):
        made.add_column(name, justify="left" if name == "strategy" else "right", no_wrap=True)
    for column in columns:
        arrow = {-1: " ↓", 1: " ↑", 0: ""}[column.better]
        made.add_column(column.head + arrow, justify="right", no_wrap=True)
    last = None
    for index, row in table.iterrows():
        block = (axis_text(row["n_clients"]), axis_text(row["beta"]))
        if last is not None and block != last:
            made.add_section()
        last = block
        texts = [cell_text(row, c, " ± ") for c in columns]
        marked = [f"[bold]{t}[/bold]" if index in best[c.key] else t for t, c in zip(texts, columns, strict=True)]
        made.add_row(
            _rich(row["strategy"]), *block, *(_rich(axis_text(row[a])) for a in extra_axes), seeds_text(row), *marked
        )
    _add_floor(made, store, columns, 3 + len(extra_axes))
    return made


def _rich(text: str) -> str:
    return text.replace("[", r"\[")


def _add_floor(made: Table, store: Store, columns: Sequence[Column], blanks: int) -> None:
    floor = floor_of(store)
    if floor:
        made.add_section()
        values = [floor.get(c.key) for c in columns]
        texts = ["" if v is None else f"{v * c.scale:.{c.digits}f}" for v, c in zip(values, columns, strict=True)]
        made.add_row(f"real held-out images ({floor['n_generated']})", *[""] * blanks, *texts, style="dim")


def floor_of(store: Store) -> dict[str, Any] | None:
    """The scores of real held-out images, where all finished cells were judged by the same ones; else None."""
    results = [store.cell(cell.cell_id).result() for cell in store.planned()]
    floors = {json.dumps(r["floor"], sort_keys=True): r["floor"] for r in results if r is not None}
    return dict(next(iter(floors.values()))) if len(floors) == 1 else None


# ------------------------------------------------------------------------------------------------ caption, LaTeX


def caption(store: Store) -> str:
    """What a reader must know of the numbers: data, budget, optimizer, sampler, extractor, number of samples, seeds.

    Settings in which the cells differ read "several".
    """
    results = [r for cell in store.planned() if (r := store.cell(cell.cell_id).result()) is not None]
    if not results:
        return "no cell is finished"

    def one(*path: str) -> Any:
        values = {json.dumps(_at(result, path)) for result in results}
        return json.loads(values.pop()) if len(values) == 1 else "several"

    federated = [r for r in results if r["config"]["n_clients"] is not None]
    states = {r["config"]["client"]["optimizer_state"] for r in federated}
    policy = f", clients' optimizer state: {' and '.join(sorted(states))}" if states else ""
    size, accuracy = one("data", "size"), one("extractor", "test_accuracy")
    known = f", test accuracy {accuracy:.2%}" if isinstance(accuracy, float) else ""
    seeds = sorted({r["config"]["seed"] for r in results})
    return (
        f"{one('data', 'name')} at {size}x{size} ({one('config', 'data', 'fit')}), {one('data', 'n_train')} training images; "
        f"{one('config', 'training', 'rounds')} rounds of {one('config', 'training', 'local_epochs')} local epochs, "
        f"batch {one('config', 'training', 'batch_size')}, {one('config', 'client', 'optimizer')}, "
        f"lr {one('config', 'client', 'lr')} ({one('config', 'client', 'lr_schedule')}){policy}; "
        f"{one('config', 'evaluation', 'n_samples')} samples by {one('config', 'sampler', 'name')} sampling in "
        f"{one('config', 'sampler', 'steps')} steps; features: {one('extractor', 'name')} "
        f"{str(one('extractor', 'digest'))[:8]}{known}; seeds {', '.join(map(str, seeds))}"
    )


def _at(tree: Any, path: Sequence[str]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
          "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}"}  # fmt: skip


def escape(text: str) -> str:
    """`text` with LaTeX's special characters escaped; what is not ASCII becomes a question mark."""
    return "".join(_LATEX.get(c, c if c.isascii() else "?") for c in text)


def latex_table(store: Store, table: pd.DataFrame) -> str:
    """The summary as a LaTeX table for booktabs: centralized training first, the best of each (n, beta) in bold."""
    extra_axes = store.plan()["extra_axes"]
    columns = shown(table)
    best = {c.key: best_rows(table, c, extra_axes) for c in columns}
    arrows = {-1: r" $\downarrow$", 1: r" $\uparrow$", 0: ""}
    heads = [
        "strategy",
        "$n$",
        r"$\beta$",
        *map(escape, extra_axes),
        "seeds",
        *(c.latex + arrows[c.better] for c in columns),
    ]
    lines = []
    previous = None
    for index, row in table.iterrows():
        block = (axis_text(row["n_clients"]), axis_text(row["beta"]))
        if previous is not None and block != previous:
            lines.append(r"\midrule")
        previous = block
        texts = [cell_text(row, c, r" $\pm$ ") for c in columns]
        marked = [rf"\textbf{{{t}}}" if index in best[c.key] else t for t, c in zip(texts, columns, strict=True)]
        axes = [escape(axis_text(row[axis])) for axis in (*AXES, *extra_axes)]
        lines.append(" & ".join([*axes, seeds_text(row), *marked]) + r" \\")
    floor = floor_of(store)
    told = f" Real held-out images ({floor['n_generated']}) score FID {floor['fid']:.2f}." if floor else ""
    name = store.plan()["name"]
    return "\n".join([
        "% needs \\usepackage{booktabs}", r"\begin{table}", r"\centering", r"\small",
        rf"\caption{{{escape(caption(store)[:1].upper() + caption(store)[1:])}.{escape(told)} Best of each $(n, \beta)$ in bold.}}",
        rf"\label{{tab:{''.join(c for c in name if c.isalnum() or c == '-')}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule", " & ".join(heads) + r" \\", r"\midrule",
        *lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip
