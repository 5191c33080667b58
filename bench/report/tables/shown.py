"""What a grid's tables show: which metrics, with how many digits, and which rows are best or tie with the best."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from bench.config.names import AXES, MISSING, value_text
from bench.report.metrics import METRICS, SHOWN, Metric
from bench.report.summary import Rows, best_and_ties, summarise
from bench.store.records import FAILURES


@dataclass(frozen=True)
class Entry:
    """What stands in a place of a table.

    Attributes:
        mean, sd: numbers as texts; "" where there is none.
        why: what stands there instead of a number, e.g. "failed".
        seeds: "1/3" where not all planned seeds have the number, else "".
        mark: whether it is the best of its split, or ties with the best.
    """

    mean: str = ""
    sd: str = ""
    why: str = ""
    seeds: str = ""
    mark: Literal["", "best", "tied"] = ""


@dataclass(frozen=True)
class Shown:
    """A summary made ready to be shown: which columns, with how many digits, and which rows are marked in which.

    Attributes:
        table, rows: of `bench.report.summary.summarise`, as it is and row by row.
        digits, counts, best, tied: by column; how many seeds each row has, and the indices of marked rows.
        untested: by column, indices of rows that share fewer than two seeds with the best of their block.
        reach_known: of how many seeds of each row it is known whether they reach centralized training.
    """

    table: pd.DataFrame
    rows: list[dict[str, Any]]
    extra_axes: tuple[str, ...]
    columns: tuple[Metric, ...]
    digits: dict[str, int]
    counts: dict[str, list[int]]
    best: dict[str, set[int]]
    tied: dict[str, set[int]]
    untested: dict[str, set[int]]
    reach_known: list[int]

    @property
    def axes(self) -> tuple[str, ...]:
        """All axes but the seed."""
        return (*AXES, *self.extra_axes)

    @property
    def together(self) -> tuple[Metric, ...]:
        """The columns of the summary of all metrics."""
        return tuple(column for column in self.columns if not column.alone)

    @property
    def apart(self) -> tuple[Metric, ...]:
        """The metrics that have a table of their own; differences share another one."""
        return tuple(column for column in self.columns if not column.signed)

    def entry(self, index: int, column: Metric) -> Entry:
        """A row's place in a metric's column."""
        row, key, digits = self.rows[index], column.key, self.digits[column.key]
        if row["n"] == 0:
            return Entry(why=state_of(row["unfinished"]))
        if math.isnan(row[key]):
            return Entry(why=_reached(row, self.reach_known[index]) if column.goal else MISSING)
        sd, count = row[f"{key}_sd"], self.counts[key][index]
        return Entry(
            mean=number(row[key] * column.scale, digits, column.signed),
            sd="" if math.isnan(sd) else number(sd * column.scale, digits),
            seeds="" if count == row["planned"] else f"{count}/{row['planned']}",
            mark="best" if index in self.best[key] else "tied" if index in self.tied[key] else "",
        )

    def entries(self, index: int) -> list[Entry]:
        """A row of the summary of all metrics; one without a finished cell says in the first place alone why."""
        found = [self.entry(index, column) for column in self.together]
        if self.rows[index]["n"] == 0:
            return [found[0], *[Entry(why=MISSING)] * (len(found) - 1)]
        return found

    def axis_texts(self, index: int) -> list[str]:
        """Strategy, n_clients, beta and further axes of a row."""
        return [value_text(self.rows[index][axis]) for axis in self.axes]


def prepare(rows: Rows) -> Shown:
    """The summary of a grid's rows with the columns that have any number (FID always)."""
    table = summarise(rows)
    columns = tuple(c for c in SHOWN if c.key == "fid" or (c.key in table and table[c.key].notna().any()))
    digits = {column.key: _digits(table, column) for column in columns}
    best = {column.key: best_rows(table, column, digits[column.key], rows.extra_axes) for column in columns}
    tied = {column.key: _tied_rows(rows, table, column) - best[column.key] for column in columns}
    seeds = {column.key: _seeds(rows, table, column.key) for column in columns if column.key in rows.frame}
    counts = {key: [len(known) for known in of_rows] for key, of_rows in seeds.items()}
    own = {c.key: list(table["n"]) for c in columns if c.key not in rows.frame}  # differences, made of what rows have
    untested = {c.key: _untested(table, c, best[c.key], seeds.get(c.key, []), rows.extra_axes) for c in columns}
    reach_known = [len(known) for known in _seeds(rows, table, "reached_centralized")]
    records = table.to_dict("records")
    return Shown(table, records, rows.extra_axes, columns, digits, counts | own, best, tied, untested, reach_known)


def _digits(table: pd.DataFrame, column: Metric) -> int:
    """Digits after the point: given, or three significant ones of the smallest, at most four of the largest."""
    if column.digits is not None:
        return column.digits
    source = METRICS[column.like or column.key]
    sizes = (table[source.key] * source.scale).abs()
    sizes = sizes[sizes > 0]
    if sizes.empty:
        return 2
    smallest, largest = (math.floor(math.log10(size)) for size in (sizes.min(), sizes.max()))
    return min(6, max(1, min(2 - smallest, 3 - largest)))


def best_rows(table: pd.DataFrame, column: Metric, digits: int, extra_axes: Sequence[str]) -> set[int]:
    """Index of the best federated row of each (n_clients, beta, further axes) with two rows or more, ties together.

    Rows tie that show the same number.
    """
    best: set[int] = set()
    for block in _rivals(table, column, extra_axes):
        values = (block[column.key] * column.scale).round(digits)
        top = values.max() if column.better > 0 else values.min()
        best |= set(block.index[values == top])
    return best


def _rivals(table: pd.DataFrame, column: Metric, extra_axes: Sequence[str]) -> list[pd.DataFrame]:
    """Federated rows with a mean, of each (n_clients, beta, further axes) that has two or more of them."""
    if not column.better:
        return []
    federated = table[table["n_clients"].notna() & table[column.key].notna()]
    blocks = federated.groupby(["n_clients", "beta", *extra_axes], dropna=False)
    return [block for _, block in blocks if len(block) > 1]


def _tied_rows(rows: Rows, table: pd.DataFrame, column: Metric) -> set[int]:
    """Index of the rows whose differences by seed to the best one leave open which is better."""
    if not column.better:
        return set()
    found = best_and_ties(rows, column.key, column.better)
    tied = set(keys(found[found["tied"].astype(bool)], rows.axes))
    return {index for index, key in zip(table.index, keys(table, rows.axes), strict=True) if key in tied}


def _seeds(rows: Rows, table: pd.DataFrame, key: str) -> list[set[int]]:
    """The finished seeds that have the number, row by row of the table."""
    frame = rows.frame
    known = frame[(frame["state"] == "done") & frame[key].notna()]
    found: dict[tuple[str, ...], set[int]] = {}
    for row, seed in zip(keys(known, rows.axes), known["seed"], strict=True):
        found.setdefault(row, set()).add(seed)
    return [found.get(row, set()) for row in keys(table, rows.axes)]


def _untested(
    table: pd.DataFrame, column: Metric, best: set[int], seeds: Sequence[set[int]], extra_axes: Sequence[str]
) -> set[int]:
    """Index of the rows that share fewer than two seeds with the best: no interval tells whether that is better."""
    found: set[int] = set()
    for block in _rivals(table, column, extra_axes):
        top = best & set(block.index)
        found |= {i for i in block.index if i not in top and max(len(seeds[i] & seeds[j]) for j in top) < 2}
    return found


def _reached(row: Mapping[str, Any], known: int) -> str:
    """Of a row that has no mean cost of reaching centralized training: how many of its seeds did.

    Args:
        known: number of the row's seeds of which that is known, as centralized training of the same seed is finished.
    """
    if known == 0:
        return MISSING
    reached = round(row["reached_centralized"] * known)
    if known < row["n"]:
        return f"{reached} of {known} known"
    return f"{reached} of {known}" if reached else "never"


def keys(frame: pd.DataFrame, axes: Sequence[str]) -> list[tuple[str, ...]]:
    """What tells a frame's rows apart: their axes as texts, so that missing values and lists compare, too."""
    return [tuple(map(value_text, values)) for values in frame[list(axes)].itertuples(index=False, name=None)]


def number(value: float, digits: int, signed: bool = False) -> str:
    """A number with `digits` after the point; what rounds to zero has no sign."""
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    return text[1:] if float(text) == 0 and text[0] in "+-" else text


def state_of(unfinished: str) -> str:
    """What became of a row of whose seeds none is finished: the worst of it."""
    return next(state for state in (*FAILURES, "missing") if state in unfinished)


def seeds_text(row: Mapping[str, Any]) -> str:
    """How many seeds stand behind a row: "3", or "1/3" where some are missing or failed."""
    return str(row["n"]) if row["n"] == row["planned"] else f"{row['n']}/{row['planned']}"


def unique(values: Iterable[str]) -> list[str]:
    """The values once each, in the order of their first place."""
    return list(dict.fromkeys(values))
