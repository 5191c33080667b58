"""The report's command: what it writes where, what it removes, and what it says of mistakes."""

from pathlib import Path

import pandas as pd
import pytest

from bench.report.__main__ import main
from bench.report.write import FIGURES, PAGE, TABLES, write_report
from bench.store.files import write_bytes
from bench.store.grid_folder import Store
from tests import fake_store

AXES = {"seed": [0, 1, 2], "n_clients": [3]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = fake_store.finished_store(tmp_path_factory.mktemp("report") / "results", AXES | {"n_clients": [3, 5]})
    fake_store.tell_more(made)
    return made


@pytest.fixture(scope="module")
def written(store: Store) -> set[Path]:
    """What a report by the grid's TOML file writes; the cells' own files are left as they are."""
    before = cells(store.root)
    mine = store.root.parent / "mine.toml"
    mine.write_text('name = "fake"\npartition = "iid"\n[axes]\nstrategy = ["fedavg"]\nn_clients = [2]\n')
    assert main(["--grid", str(mine), "--results", str(store.root.parent)]) == 0
    assert cells(store.root) == before
    return files(store.root)


def cells(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.glob("*/*") if path.parent.name.startswith("0")}


def files(root: Path) -> set[Path]:
    """Everything but the cells' own files and the grid's plan."""
    there = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
    return {path for path in there if not _of_cells(path)}


def _of_cells(path: Path) -> bool:
    return path.parts[0].startswith(("0", ".")) or path.name == "grid.json"


def test_tables_figures_and_page_lie_in_the_grids_folder(written):
    assert Path(PAGE) in written
    tables = {path.name for path in written if path.parts[0] == TABLES}
    assert {
        "cells.csv",
        "summary.csv",
        "differences.csv",
        "ranks.csv",
        "claims.csv",
        "summary.tex",
        "summary.md",
    } <= tables
    pictures = {path.name for path in written if path.parts[0] == FIGURES}
    assert {path for path in pictures if path.endswith(".pdf")} == {
        f"{path[:-4]}.pdf" for path in pictures if path.endswith(".png")
    }
    assert {"overview.png", "schemes.png", "clients.png", "quality_cost.png"} <= pictures
    assert {path.parts[0] for path in written} == {PAGE, TABLES, FIGURES}


def test_a_report_removes_what_only_the_last_one_wrote_and_nothing_else(tmp_path):
    store = fake_store.finished_store(tmp_path, AXES)
    write_report(store.root)
    write_bytes(store.root / TABLES / "mine.tex", b"by hand")
    made = write_report(store.root, pictures=False)  # an older page would contradict the new tables
    assert files(store.root) == {path.relative_to(store.root) for path in made.files} | {Path(TABLES) / "mine.tex"}
    assert {path.parent.name for path in made.files} == {TABLES}


def test_differences_are_to_the_baseline_asked_for(store):
    write_report(store.root, "fedavg", pictures=False)
    table = pd.read_csv(store.root / TABLES / "differences.csv")
    assert set(table["baseline"]) == {"fedavg"}
    assert "fedavg" not in set(table["strategy"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--grid", "other"], "holds no results of a grid other; there are fake"),
        (
            ["--grid", "fake", "--baseline", "fedsgd"],
            "--baseline fedsgd: no cell is of it; there are centralized, fedavg",
        ),
        (["--grid", "fake\0"], "holds no results"),
    ],
)
def test_a_mistake_is_one_message(store, capsys, arguments, told):
    assert main([*arguments, "--results", str(store.root.parent)]) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert said.out == ""


def test_an_empty_folder_is_told(tmp_path, capsys):
    assert main(["--grid", "default", "--results", str(tmp_path)]) == 2
    assert "no grid has been run into it" in capsys.readouterr().err


def test_a_damaged_result_is_told_and_counts_as_missing(tmp_path):
    store = fake_store.finished_store(tmp_path, AXES)
    path = store.cell(store.planned()[0].cell_id).path / "result.json"
    path.write_bytes(path.read_bytes()[:-100])
    (told,) = write_report(store.root, pictures=False).warnings
    assert f"{path} is damaged" in told
    rows = pd.read_csv(store.root / TABLES / "cells.csv")
    assert (rows["state"] != "done").sum() == 1


def test_a_place_that_cannot_be_written_is_one_message(tmp_path, capsys):
    store = fake_store.finished_store(tmp_path, AXES)
    (store.root / TABLES).write_text("a file")
    assert main(["--grid", "fake", "--results", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "the report cannot be written" in said.err
    assert said.err.count("\n") == 1


def test_a_grid_without_a_finished_cell_has_a_report_that_says_so(tmp_path):
    store = fake_store.planned_store(tmp_path, AXES | {"seed": [0]})
    write_report(store.root, pictures=False)
    assert "missing" in (store.root / TABLES / "summary.md").read_text()
    for cell in store.planned():
        fake_store.fail(fake_store.begin(store, cell))
    assert main(["--grid", "fake", "--results", str(tmp_path)]) == 0
    assert "failed" in (store.root / TABLES / "summary.md").read_text()
    assert (store.root / PAGE).exists()
