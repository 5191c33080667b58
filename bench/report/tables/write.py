"""Write a grid's tables as CSV, LaTeX and Markdown."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.report.claims import MEASURES, STATEMENTS
from bench.report.metrics import Metric
from bench.report.tables import latex_compared, latex_summary, markdown
from bench.report.tables.caption import notes
from bench.report.tables.contents import Contents
from bench.report.tables.latex import Frame
from bench.store.files import write_bytes


def write_tables(contents: Contents, folder: Path, siunitx: bool = False) -> list[Path]:
    """Write a grid's tables into a folder; returns the files' paths.

    cells.csv has a row a cell, summary.csv means over seeds, and there are differences.csv, ranks.csv and claims.csv.
    All but the first are written as LaTeX, too (all metrics in summary.tex, each in one of its own, as fid.tex), and
    summary and claims as Markdown.

    Args:
        siunitx: whether LaTeX's numbers stand in columns of that package.
    """
    texts = _csv(contents) | _latex(contents, siunitx) | _markdown(contents)
    for name, text in texts.items():
        write_bytes(folder / name, text.encode(errors="replace"), sync=False)  # what is lost can be made again
    return [folder / name for name in texts]


def _csv(contents: Contents) -> dict[str, str]:
    frames = {
        "cells": contents.rows.frame,
        "summary": contents.shown.table,
        "differences": contents.differences,
        "ranks": contents.ranks,
        "claims": contents.answers,
    }
    return {f"{name}.csv": frame.to_csv(index=False) for name, frame in frames.items()}


def _latex(contents: Contents, siunitx: bool) -> dict[str, str]:
    frame, shown = Frame(contents.name, siunitx), contents.shown

    def text(what: str, sentences: Sequence[str]) -> str:
        return " ".join([f"{what}. Grid {contents.name}: {contents.caption}.", *sentences])

    all_metrics = text("All metrics", notes(shown, shown.together, contents.floor))
    made = {"summary": latex_summary.summary_table(frame, shown, all_metrics)}
    for column in shown.apart:
        what = text(_what(column), notes(shown, [replace(column, about="")], contents.floor))
        made[column.file] = latex_summary.metric_table(frame, shown, column, what)
    found, ranks = contents.differences, contents.ranks
    what = text(f"Differences to {contents.baseline}, paired by seed", latex_compared.difference_notes(found))
    made["differences"] = latex_compared.differences_table(frame, shown, found, what)
    what = text("Mean ranks of federated strategies", RANKS if len(ranks) else NO_RANKS)
    made["ranks"] = latex_compared.ranks_table(frame, shown, ranks, what)
    made["claims"] = latex_compared.claims_table(frame, contents.claims, text("Claims on FedAvg", CLAIMS))
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


def _markdown(contents: Contents) -> dict[str, str]:
    shown = contents.shown
    sentences = notes(shown, shown.together, contents.floor)
    below = " ".join([f"{contents.caption}.", *CLAIMS])
    return {
        "summary.md": markdown.summary(contents.name, shown, contents.caption, sentences),
        "claims.md": markdown.claims(contents.name, contents.claims, below),
    }
