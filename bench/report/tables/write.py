"""Tables of a grid as CSV, LaTeX, Markdown and on the terminal. Pure functions of the results' files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from bench.config.names import CENTRALIZED
from bench.report.claims import ALL, MEASURES, STATEMENTS, claims_by_block
from bench.report.metrics import Metric
from bench.report.summary import cell_rows, differences, fid_replicates, ranks
from bench.report.tables import latex_compared, latex_summary, markdown
from bench.report.tables.caption import caption, floor_of, notes
from bench.report.tables.latex import Frame
from bench.report.tables.markdown import markdown_table as markdown_table
from bench.report.tables.shown import Shown, prepare
from bench.store.files import write_bytes
from bench.store.grid_folder import Store


@dataclass(frozen=True)
class Contents:
    """All that the tables of a grid are made of.

    Attributes:
        name: the grid's.
        rows: a row a cell.
        shown: means over seeds, ready to be shown.
        differences, ranks, answers: see `bench.report.summary` and `bench.report.claims`.
        caption: how the numbers came about.
        notes: sentences by metric's key on what stands in its table; "" for the summary's.
    """

    name: str
    rows: pd.DataFrame
    shown: Shown
    differences: pd.DataFrame
    ranks: pd.DataFrame
    answers: pd.DataFrame
    caption: str
    notes: dict[str, list[str]]


def write_tables(
    store: Store, folder: Path | None = None, siunitx: bool = False, baseline: str = CENTRALIZED
) -> list[Path]:
    """Write a grid's tables; returns the files' paths.

    cells.csv has a row a cell, summary.csv means over seeds, and there are differences.csv, ranks.csv and claims.csv.
    All but the first are told as LaTeX, too (all metrics in summary.tex, each in one of its own, as fid.tex), and
    summary and claims as Markdown.

    Args:
        folder: where to; by default tables/ in the grid's folder.
        siunitx: whether LaTeX's numbers stand in columns of that package.
        baseline: the strategy's label that differences are to.
    Raises:
        ValueError: for a baseline that the grid does not have.
    """
    told = _contents(store, baseline)
    into = store.root / "tables" if folder is None else folder
    texts = _csv(told) | _latex(told, siunitx, baseline) | _markdown(told)
    for name, text in texts.items():
        write_bytes(into / name, text.encode(errors="replace"), sync=False)  # what is lost can be made again
    return [into / name for name in texts]


def _contents(store: Store, baseline: str) -> Contents:
    plan, rows, floor = store.plan(), cell_rows(store), floor_of(store)
    shown = prepare(rows, plan["extra_axes"])
    compared = [column for column in shown.columns if column.better]
    return Contents(
        name=plan["name"],
        rows=rows,
        shown=shown,
        differences=differences(rows, shown.extra_axes, [c.key for c in compared], baseline, fid_replicates(store)),
        ranks=_ranks(rows, shown, compared),
        answers=claims_by_block(store),
        caption=caption(store),
        notes={"": notes(shown, shown.together, floor)}
        | {c.key: notes(shown, [replace(c, about="")], floor) for c in shown.apart},
    )


def _ranks(rows: pd.DataFrame, shown: Shown, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Ranks by every metric of which some block has the numbers of all strategies, two or more."""
    columns = ["metric", "strategy", "blocks", "mean_rank", "wins"]
    found = [
        ranks(rows, shown.extra_axes, metric.key, metric.better).assign(metric=metric.key)[columns]
        for metric in metrics
    ]
    ranked = [table for table in found if len(table) > 1 and table["blocks"].iloc[0]]
    return pd.concat(ranked, ignore_index=True) if ranked else pd.DataFrame(columns=columns)


def _csv(told: Contents) -> dict[str, str]:
    frames = {
        "cells": told.rows,
        "summary": told.shown.table,
        "differences": told.differences,
        "ranks": told.ranks,
        "claims": told.answers,
    }
    return {f"{name}.csv": frame.to_csv(index=False) for name, frame in frames.items()}


def _latex(told: Contents, siunitx: bool, baseline: str) -> dict[str, str]:
    frame, shown = Frame(told.name, siunitx), told.shown

    def text(what: str, notes: Sequence[str]) -> str:
        return " ".join([f"{what}. Grid {told.name}: {told.caption}.", *notes])

    made = {"summary": latex_summary.summary_table(frame, shown, text("All metrics", told.notes[""]))}
    for column in shown.apart:
        what = text(_what(column), told.notes[column.key])
        made[column.file] = latex_summary.metric_table(frame, shown, column, what)
    what = f"Differences to {baseline}, paired by seed"
    made["differences"] = latex_compared.differences_table(
        frame, shown, told.differences, text(what, latex_compared.difference_notes(told.differences))
    )
    made["ranks"] = latex_compared.ranks_table(
        frame, shown, told.ranks, text("Mean ranks of federated strategies", RANKS if len(told.ranks) else NO_RANKS)
    )
    made["claims"] = latex_compared.claims_table(frame, _pooled(told.answers), text("Claims on FedAvg", CLAIMS))
    return {f"{name}.tex": content for name, content in made.items()}


def _what(column: Metric) -> str:
    """What a metric's table shows."""
    about = f" ({column.about})" if column.about else ""
    way = {-1: ", lower is better", 1: ", higher is better", 0: ""}[column.better]
    return f"{column.name[0].upper()}{column.name[1:]}{about}{way}"


RANKS = ("In parentheses: how many blocks of one (n, β) and further axes a strategy wins, of those that count.",)
NO_RANKS = ("Nothing to rank: no block has the numbers of two strategies or more.",)
CLAIMS = (
    "Measure: paper is the running training loss, fair the global model's loss on held-out images.",
    f"Values with t intervals over seeds: {len(STATEMENTS) * len(MEASURES)} answers, each at 95 % by itself and not "
    "adjusted for their number.",
)


def _markdown(told: Contents) -> dict[str, str]:
    below = " ".join([f"{told.caption}.", *CLAIMS])
    return {
        "summary.md": markdown.summary(told.name, told.shown, told.caption, told.notes[""]),
        "claims.md": markdown.claims(told.name, _pooled(told.answers), below),
    }


def _pooled(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers over all blocks."""
    return answers[answers["block"] == ALL]
