"""What a grid's tables say, worked out once for all that shows them: files, the terminal, the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.config.names import CENTRALIZED
from bench.report.claims import claims, pooled
from bench.report.metrics import Metric
from bench.report.results import Results
from bench.report.summary import Rows, cell_rows, differences, fid_replicates, ranks
from bench.report.tables.caption import caption, floor_of, row_warnings
from bench.report.tables.shown import Shown, prepare


@dataclass(frozen=True)
class Contents:
    """All that the tables of a grid are made of.

    Attributes:
        name: the grid's.
        baseline: label of the strategy that differences are to.
        rows: a row a cell.
        shown: means over seeds, ready to be shown.
        differences, ranks, answers: see `bench.report.summary` and `bench.report.claims`.
        caption: how the numbers came about.
        floor: what real images score, where all cells were judged by the same ones.
        warnings: what makes rows doubtful to compare.
    """

    name: str
    baseline: str
    rows: Rows
    shown: Shown
    differences: pd.DataFrame
    ranks: pd.DataFrame
    answers: pd.DataFrame
    caption: str
    floor: dict[str, Any] | None
    warnings: list[str]

    @property
    def claims(self) -> pd.DataFrame:
        """The answers over all blocks."""
        return pooled(self.answers)


def contents(results: Results, baseline: str = CENTRALIZED) -> Contents:
    """What the tables of these results say.

    Raises:
        ValueError: for a baseline that the grid does not have.
    """
    rows = cell_rows(results)
    shown = prepare(rows)
    compared = [column for column in shown.columns if column.better]
    return Contents(
        results.name,
        baseline,
        rows,
        shown,
        differences(rows, [column.key for column in compared], baseline, fid_replicates(results)),
        _ranks(rows, compared),
        claims(results),
        caption(results),
        floor_of(results),
        row_warnings(results),
    )


def _ranks(rows: Rows, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Ranks by every metric of which some block has the numbers of all strategies, two or more."""
    columns = ["metric", "strategy", "blocks", "mean_rank", "wins"]
    found = [ranks(rows, metric.key, metric.better).assign(metric=metric.key)[columns] for metric in metrics]
    ranked = [table for table in found if len(table) > 1 and table["blocks"].iloc[0]]
    return pd.concat(ranked, ignore_index=True) if ranked else pd.DataFrame(columns=columns)
