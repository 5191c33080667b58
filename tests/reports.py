"""What a report makes of a store, in one call each."""

from pathlib import Path

import pandas as pd
from rich.table import Table

from bench.config.names import CENTRALIZED
from bench.report import claims, summary
from bench.report.figures.every import draw_all
from bench.report.page import data, write
from bench.report.results import Results
from bench.report.summary import Rows
from bench.report.tables import caption, setting, terminal
from bench.report.tables import write as tables
from bench.report.tables.contents import Contents, contents
from bench.store.grid_folder import Store


def read(store: Store) -> Results:
    return Results.read(store.root)


def rows_of(store: Store) -> Rows:
    return summary.cell_rows(read(store))


def contents_of(store: Store, baseline: str = CENTRALIZED) -> Contents:
    return contents(read(store), baseline)


def write_tables(
    store: Store, folder: Path | None = None, siunitx: bool = False, baseline: str = CENTRALIZED, width: str = "text"
) -> list[Path]:
    return tables.write_tables(contents_of(store, baseline), folder or store.root / "tables", width, siunitx)


def draw_figures(store: Store, folder: Path) -> tuple[list[Path], list[str]]:
    files, _, left_out = draw_all(read(store), folder)
    return files, left_out


def write_page(store: Store, path: Path, tables_folder: Path, figures_folder: Path, **captions: str) -> Path:
    return write.write_page(contents_of(store), path, tables_folder, figures_folder, captions)


def page_data(store: Store) -> dict:
    results = read(store)
    return data.page_data(results, contents(results))


def terminal_table(store: Store) -> Table:
    return terminal.terminal_table(contents_of(store))


def claim_lines(store: Store) -> list[str]:
    return terminal.claim_lines(contents_of(store))


def contrast_lines(store: Store) -> list[str]:
    return terminal.contrast_lines(contents_of(store))


def answers(store: Store) -> pd.DataFrame:
    return claims.pooled(claims.claims(read(store)))[list(claims.COLUMNS)].reset_index(drop=True)


def setting_of(store: Store) -> dict[str, str]:
    return dict(setting.setting(read(store)))


def warnings_of(store: Store) -> list[str]:
    return caption.row_warnings(read(store))


def table_of_cells(numbers: dict[tuple, list[float | None]], metric: str = "fid", **more: str) -> pd.DataFrame:
    """Rows of cells by (strategy, n_clients, beta), a value a seed; None: that cell has failed."""
    made = [
        {
            "cell_id": f"{strategy}-{n}-{beta}-{seed}", "state": "failed" if value is None else "done",
            "strategy": strategy, "n_clients": n, "beta": beta, "seed": seed, metric: value, **more,
        }
        for (strategy, n, beta), values in numbers.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(made).astype({"n_clients": "Int64", metric: float})
