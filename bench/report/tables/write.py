"""Write a grid's tables as CSV, LaTeX and Markdown."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from bench.report.tables import compared, latex, markdown, means
from bench.report.tables.caption import caption, setup
from bench.report.tables.contents import Contents
from bench.report.tables.csvs import columns, curves
from bench.report.tables.table import Table
from bench.store.files import write_bytes

Appendix = list[tuple[str, str]]  # paragraphs, each a title and a text


def write_tables(contents: Contents, folder: Path, width: str = "text", siunitx: bool = False) -> list[Path]:
    """Write a grid's tables into a folder; returns the files' paths.

    cells.csv has a row a cell, curves.csv a row a cell, round and metric, summary.csv means over seeds, and there are
    differences.csv, contrasts.csv, ranks.csv and claims.csv; columns.md says what each of their columns is. For papers
    each table is a body, ``fid.tex``, and its caption, ``fid_caption.tex``; longer ones go on in ``fid_2.tex``. The
    whole setting stands in setup.tex and setup.md, for an appendix.

    Args:
        width: a key of `bench.report.tables.latex.WIDTHS`.
        siunitx: whether LaTeX's numbers stand in columns of that package.
    """
    parts = tables(contents), setup(contents)
    texts = _csv(contents) | _latex(contents, *parts, width, siunitx) | _markdown(contents, *parts)
    for name, text in texts.items():
        write_bytes(folder / name, text.encode(errors="replace"), sync=False)  # what is lost can be made again
    return [folder / name for name in texts]


def tables(contents: Contents) -> list[Table]:
    """All tables of a paper: of all metrics, of each, and those that compare."""
    apart = [means.metric_table(contents, metric) for metric in contents.apart]
    claims = compared.claims(contents)
    pairs = [compared.differences(contents), compared.contrasts(contents)]
    together = [*pairs, compared.ranks(contents), *([claims] if claims else [])]
    return [means.summary(contents), *apart, *together]


def _csv(contents: Contents) -> dict[str, str]:
    frames: dict[str, pd.DataFrame] = {
        "cells": contents.rows.frame,
        "curves": curves(contents.results),
        "summary": contents.means,
        "differences": contents.differences,
        "contrasts": contents.contrasts,
        "ranks": contents.ranks,
    }
    if contents.answers is not None:
        frames["claims"] = contents.answers
    files = {f"{name}.csv": frame.to_csv(index=False) for name, frame in frames.items()}
    return files | {"columns.md": columns({name: list(map(str, frame.columns)) for name, frame in frames.items()})}


def _latex(
    contents: Contents, tables: Iterable[Table], appendix: Appendix, width: str, siunitx: bool
) -> dict[str, str]:
    files = {"setup.tex": latex.paragraphs(appendix)}
    for table in tables:
        text = caption(contents, table)
        files |= latex.files(table, text, contents.results.name, latex.WIDTHS[width], siunitx)
    return files


def _markdown(contents: Contents, tables: Iterable[Table], appendix: Appendix) -> dict[str, str]:
    chosen = [table for table in tables if table.name in ("summary", "contrasts", "claims")]
    files = {f"{table.name}.md": markdown.markdown(table, caption(contents, table)) for table in chosen}
    return files | {"setup.md": markdown.paragraphs(appendix)}
