"""What a grid's tables say, worked out once for all that shows it: files, the terminal, the page."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import pandas as pd

from bench.config.errors import ConfigError
from bench.config.names import CENTRALIZED, MISSING, axis_value, value_text
from bench.report.claims import claims
from bench.report.contrasts import contrasts, differences, fid_replicates
from bench.report.metrics import METRICS, SHOWN, Metric
from bench.report.results import Results
from bench.report.summary import Rows, cell_rows, marks, ranks, summarise
from bench.report.tables.table import NOTHING, Place
from bench.store.records import FAILURES


@dataclass(frozen=True)
class Contents:
    """All that the tables of a grid are made of.

    Attributes:
        baseline: label of the strategy that differences are to.
        rows: a row a cell.
        means: of `summarise`, a row a strategy, n_clients, beta and further axes.
        metrics: what is shown, in this order.
        chosen: whether somebody chose them.
        digits: after the point, by metric.
        marks: of `bench.report.summary.marks` by metric, a mark a row of `means`.
        differences, contrasts: see `bench.report.contrasts`.
        ranks: see `bench.report.summary`.
        answers: of `bench.report.claims.claims`; None where nobody asks for them.
    """

    results: Results
    baseline: str
    rows: Rows
    means: pd.DataFrame
    metrics: tuple[Metric, ...]
    chosen: bool
    digits: dict[str, int]
    marks: dict[str, list[str]]
    differences: pd.DataFrame
    contrasts: pd.DataFrame
    ranks: pd.DataFrame
    answers: pd.DataFrame | None

    @property
    def axes(self) -> tuple[str, ...]:
        """All axes but the seed."""
        return self.results.axes

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """`means` row by row."""
        return [{str(key): value for key, value in row.items()} for row in self.means.to_dict("records")]

    @property
    def together(self) -> tuple[Metric, ...]:
        """The metrics of the table of all: those that were chosen, or that stand there if none was."""
        return tuple(metric for metric in self.metrics if self.chosen or metric.table == "summary")

    @property
    def first(self) -> tuple[Metric, ...]:
        """The metrics that the page shows before all are asked for."""
        return tuple(metric for metric in self.metrics if self.chosen or metric.first)

    @property
    def apart(self) -> tuple[Metric, ...]:
        """The metrics that have a table of their own; differences to centralized training share another one."""
        return tuple(metric for metric in self.metrics if not metric.minus)

    @cached_property
    def seeds(self) -> dict[str, list[int]]:
        """How many seeds have the number, by what was summarised and row of `means`."""
        done = [row for row in self.rows.frame.to_dict("records") if row["state"] == "done"]
        found = {}
        for key in (str(column).removesuffix("_sd") for column in self.means if str(column).endswith("_sd")):
            counts = Counter(self.axis_texts(row) for row in done if pd.notna(row.get(key)))
            found[key] = [counts[self.axis_texts(row)] for row in self.records]
        return found

    def axis_texts(self, row: Mapping[Any, Any]) -> tuple[str, ...]:
        """The texts of a row's axes."""
        return tuple(value_text(row[axis]) for axis in self.axes)

    def text(self, axis: str, value: Any) -> str:
        """An axis's value as tables write it, by its title if it has one."""
        return axis_value(value, self.results.titles)

    def heading(self, axis: str) -> str:
        """An axis's name as papers write it, or its title."""
        return self.results.heading(axis)

    def place(self, index: int, metric: Metric) -> Place:
        """What stands in a row of `means` for a metric."""
        row, key = self.records[index], metric.key
        if row["n"] == 0:
            return Place(state_of(row["unfinished"]), mark="state", note=row["unfinished"])
        if math.isnan(row[key]):
            return Place(self._reached(index)) if metric.goal else NOTHING
        count = row["n"] if metric.minus else self.seeds[key][index]
        sd = self.number(metric, row[f"{key}_sd"], signed=False)
        low, high = (self.number(metric, row[f"{key}_{end}"]) for end in ("low", "high"))
        mark = self.marks[key][index] if key in self.marks else ""
        return Place(
            self.number(metric, row[key]),
            float(f"{row[key] * metric.scale:.6g}"),
            f"± {sd}" if sd else "",
            "" if count == row["planned"] else f"{count}/{row['planned']}",
            mark if mark in ("best", "tied") else "",  # type: ignore[arg-type]
            f"95 % interval of the mean: {low} to {high}" if low else "",
        )

    def number(self, metric: Metric, value: float | None, signed: bool | None = None) -> str:
        """A metric's number as text; "" where there is none."""
        if value is None or pd.isna(value):
            return ""
        scaled = float(value) * metric.scale
        digits = self.digits.get(metric.key)
        return (
            f"{scaled:.4g}" if digits is None else number(scaled, digits, metric.signed if signed is None else signed)
        )

    def _reached(self, index: int) -> str:
        """Of a row that has no mean cost of reaching centralized training: how many of its seeds did.

        A seed is known to once its centralized training is finished.
        """
        row, known = self.records[index], self.seeds["reached_centralized"][index]
        if known == 0:
            return MISSING
        reached = round(row["reached_centralized"] * known)
        if known < row["n"]:
            return f"{reached} of {known} known"
        return f"{reached} of {known}" if reached else "never"


def contents(
    results: Results,
    baseline: str = CENTRALIZED,
    chosen: Sequence[str] = (),
    with_claims: bool = True,
    references: Mapping[str, Any] = MappingProxyType({}),
) -> Contents:
    """What the tables of these results say.

    Args:
        chosen: keys of the metrics that are shown, in this order; () for all that any row has, and FID always.
        with_claims: whether the paper's claims are answered.
        references: values that contrasts are to, by axis; the strategies' is the baseline where nothing else is said.
    Raises:
        ValueError: for a baseline that the grid does not have.
        ConfigError: for a chosen metric that no finished cell has.
    """
    rows = cell_rows(results)
    means = summarise(rows)
    wanted = tuple(METRICS[key] for key in chosen) or SHOWN
    metrics = tuple(m for m in wanted if m.key == "fid" or (m.key in means and means[m.key].notna().any()))
    if chosen and results.done and (missing := [m.key for m in wanted if m not in metrics]):
        raise ConfigError(f"--metrics: no finished cell has {' or '.join(missing)}")
    digits = {metric.key: digits_of(means, metric) for metric in metrics}
    compared = [metric for metric in metrics if metric.better]
    keys, replicates = [metric.key for metric in compared], fid_replicates(results)
    federated = any(cell.strategy == baseline for cell in results.cells if not cell.central)
    references = ({"strategy": baseline} if federated else {}) | dict(references)
    return Contents(
        results,
        baseline,
        rows,
        means,
        metrics,
        bool(chosen),
        digits,
        {metric.key: marks(rows, means, metric, digits[metric.key]) for metric in metrics},
        differences(rows, keys, baseline, replicates),
        contrasts(rows, keys, references, replicates),
        _ranks(rows, compared),
        claims(results) if with_claims else None,
    )


def _ranks(rows: Rows, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Ranks by every metric of which some block has the numbers of all strategies, two or more."""
    columns = ["metric", "strategy", "blocks", "seeds", "mean_rank", "wins"]
    found = [ranks(rows, metric.key, metric.better).assign(metric=metric.key)[columns] for metric in metrics]
    ranked = [table for table in found if len(table) > 1 and table["blocks"].iloc[0]]
    return pd.concat(ranked, ignore_index=True) if ranked else pd.DataFrame(columns=columns)


def digits_of(means: pd.DataFrame, metric: Metric) -> int:
    """Digits after the point: given, or three significant ones of the smallest, at most four of the largest."""
    if metric.digits is not None:
        return metric.digits
    source = METRICS[metric.like or metric.key]
    sizes = (means[source.key] * source.scale).abs()
    sizes = sizes[sizes > 0]
    if sizes.empty:
        return 2
    smallest, largest = (math.floor(math.log10(size)) for size in (sizes.min(), sizes.max()))
    return min(6, max(1, min(2 - smallest, 3 - largest)))


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
