"""The report's command: what it writes where, what it removes, and what it says of mistakes."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bench.config.errors import ConfigError
from bench.config.grid_file import load_grid
from bench.report.__main__ import main
from bench.report.results import Results
from bench.report.write import FIGURES, PAGE, TABLES, Wishes, find_baseline, find_references, write_report
from bench.run.plan import make_plan
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
        "curves.csv",
        "columns.md",
        "summary.tex",
        "summary_caption.tex",
        "summary.md",
        "setup.tex",
        "setup.md",
    } <= tables
    pictures = {path.name for path in written if path.parts[0] == FIGURES}
    assert {path for path in pictures if path.endswith(".pdf")} == {
        f"{path[:-4]}.pdf" for path in pictures if path.endswith(".png")
    }
    assert {"overview.png", "schemes.png", "clients.png", "quality_cost.png"} <= pictures
    assert {path.parts[0] for path in written} == {PAGE, TABLES, FIGURES}


def test_a_report_removes_what_only_the_last_one_wrote_and_nothing_else(tmp_path):
    store = fake_store.finished_store(tmp_path, AXES)
    write_report(store.root, Wishes(figures=("overview", "schemes")))
    write_bytes(store.root / TABLES / "mine.tex", b"by hand")
    made = write_report(store.root, Wishes(pictures=False))  # an older page would contradict the new tables
    assert files(store.root) == {path.relative_to(store.root) for path in made.files} | {Path(TABLES) / "mine.tex"}
    assert {path.parent.name for path in made.files} == {TABLES}


def test_the_papers_claims_are_answered_where_the_grid_or_the_command_asks(tmp_path, capsys):
    store = fake_store.finished_store(tmp_path, AXES)
    tables = store.root / TABLES

    def report(*more: str) -> tuple[bool, str]:
        assert main(["--grid", "fake", "--results", str(tmp_path), "--figures", "none", *more]) == 0
        page = "Claims of" in (store.root / PAGE).read_text()
        assert page is (tables / "claims.csv").exists() is (tables / "claims.tex").exists()
        return page, capsys.readouterr().out

    shown, text = report()
    assert (shown, text.count("\nclaim ")) == (False, 0)
    shown, text = report("--claims")
    assert (shown, text.count("\nclaim ")) == (True, 5)
    store.write_plan(store.plan() | {"claims": True})
    shown, text = report()
    assert (shown, text.count("\nclaim ")) == (True, 5)


def test_metrics_are_chosen_and_stand_in_the_order_asked_for(tmp_path):
    store = fake_store.finished_store(tmp_path, AXES)
    write_report(store.root, Wishes(metrics=("test_loss", "fid"), pictures=False))
    head = (store.root / TABLES / "summary.md").read_text().splitlines()[2]
    assert head == "| strategy | n | β | seeds | test loss ↓ | FID ↓ |"
    assert not (store.root / TABLES / "kid.tex").exists()
    write_report(store.root, Wishes(metrics=("drift", "validation_area"), pictures=False))
    head = (store.root / TABLES / "summary.md").read_text().splitlines()[2]
    assert head == "| strategy | n | β | seeds | drift | validation area ↓ |"
    assert "Drift, validation area. mnist5k" in (store.root / TABLES / "summary_caption.tex").read_text()
    assert "kid_mean" in pd.read_csv(store.root / TABLES / "summary.csv")  # for people alone fewer are better


def test_strategies_are_called_by_their_titles_in_all_that_people_read(tmp_path):
    store = fake_store.finished_store(tmp_path, AXES)
    titles = {"fedprox(mu=0.1)": "FedProx, μ = 0.1", "fedavg": "FedAvg", "beta": "alpha"}
    store.write_plan(store.plan() | {"titles": titles, "claims": True})
    assert main(["--grid", "fake", "--results", str(tmp_path), "--figures", "none"]) == 0
    tables = store.root / TABLES
    for name in ("fid", "summary", "differences", "ranks"):
        text = (tables / f"{name}.tex").read_text()
        assert r"FedProx, $\mu$ = 0.1" in text
        assert "fedprox" not in text
    assert "| FedProx, μ = 0.1 | 3 |" in (tables / "summary.md").read_text()
    assert "| alpha |" in (tables / "summary.md").read_text()
    assert json.dumps("FedProx, μ = 0.1, n 3, alpha 0.1, seed 0") in (store.root / PAGE).read_text()
    assert set(pd.read_csv(tables / "cells.csv")["strategy"]) == {"centralized", "fedavg", "fedprox(mu=0.1)"}


LABELLED = """
partition = "iid"
data.limit = 200
data.validation = 100
data.test = 100
[axes]
strategy = ["centralized", "fedavg", "fedprox(mu=0.1)"]
n_clients = [2]
seed = [0]
[recipes.short]
training.rounds = 1
[recipes.long]
training.rounds = 2
[labels]
"fedprox(mu=0.1)" = "pulled"
short = "one round"
recipe = "budget"
"""


def test_a_grid_files_labels_reach_its_report_and_are_read_anew(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(LABELLED)
    plan = make_plan(load_grid(str(file)), tmp_path)
    plan.store.write_plan(plan.describe())
    for cell in plan.store.planned():
        fake_store.run_cell(plan.store, cell)
    report = ["--grid", "mine", "--results", str(tmp_path), "--figures", "overview"]
    summary, captions = plan.store.root / TABLES / "summary.md", plan.store.root / FIGURES / "captions.md"
    assert main(report) == 0
    assert "| strategy | n | β | budget | seeds |" in summary.read_text()
    assert "| pulled | 2 | -- | one round | 1 |" in summary.read_text()
    assert "| FedAvg | 2 | -- | long | 1 |" in summary.read_text()
    for name in ("fid", "differences"):
        text = (plan.store.root / TABLES / f"{name}.tex").read_text()
        assert "one round" in text
        assert "short" not in text
    assert captions.exists()
    file.write_text(LABELLED.replace("pulled", "held"))
    assert main([*report, "--grid", str(file)]) == 0
    assert "| held | 2 | -- | one round | 1 |" in summary.read_text()


def test_curves_have_a_row_a_cell_round_and_metric(tmp_path):
    store = fake_store.finished_store(tmp_path, AXES)
    fake_store.tell_more(store)
    write_report(store.root, Wishes(pictures=False))
    curves = pd.read_csv(store.root / TABLES / "curves.csv")
    keys = ["cell_id", "round", "metric"]
    assert list(curves) == ["cell_id", "strategy", "n_clients", "beta", "seed", "round", "metric", "value"]
    assert not curves.duplicated(keys).any()
    cells = pd.read_csv(store.root / TABLES / "cells.csv").set_index("cell_id")
    last = curves[curves["metric"] == "validation_loss"].groupby("cell_id").last()
    assert last["value"].to_dict() == cells["validation_loss"].to_dict()
    assert {"train_loss", "drawn_fid"} <= set(curves["metric"])


def test_every_column_of_the_csvs_is_explained(store):
    made = write_report(store.root, Wishes(claims=True, pictures=False))
    text = (store.root / TABLES / "columns.md").read_text()
    parts = dict(part.split(".csv\n", 1) for part in text.split("## ")[1:])
    files = [path for path in made.files if path.suffix == ".csv"]
    assert (
        {path.stem for path in files}
        == set(parts)
        == {"cells", "curves", "summary", "differences", "contrasts", "ranks", "claims"}
    )
    for path in files:
        lines = [line for line in parts[path.stem].splitlines() if line.startswith("- `")]
        told = {line.split("`")[1]: line.split("`: ")[1] for line in lines}
        names = list(pd.read_csv(path))
        for name in names:
            stem, _, end = name.rpartition("_")
            key = f"METRIC_{end}" if end in ("sd", "low", "high") and stem in names else name
            assert told[key].strip()
            assert told[key] != key.replace("_", " ")


def test_differences_are_to_the_baseline_asked_for(store):
    write_report(store.root, Wishes("fedavg", pictures=False))
    table = pd.read_csv(store.root / TABLES / "differences.csv")
    assert set(table["baseline"]) == {"fedavg"}
    assert find_baseline(replace(Results.read(store.root), titles={"fedavg": "FedAvg"}), "FedAvg") == "fedavg"
    assert "fedavg" not in set(table["strategy"])


def test_contrasts_are_to_the_references_and_the_baseline_asked_for(store):
    def references(wishes: Wishes) -> dict[str, str]:
        write_report(store.root, wishes)
        table = pd.read_csv(store.root / TABLES / "contrasts.csv", dtype=str)
        return dict(zip(table["axis"], table["reference"], strict=True))

    usual = {"strategy": "fedavg", "n_clients": "3"}
    assert references(Wishes(pictures=False)) == usual
    assert references(Wishes("fedprox(mu=0.1)", pictures=False)) == usual | {"strategy": "fedprox(mu=0.1)"}
    assert references(Wishes(references={"n_clients": "5"}, pictures=False)) == usual | {"n_clients": "5"}
    titled = replace(Results.read(store.root), titles={"fedavg": "FedAvg"})
    assert find_references(titled, {"strategy": "FedAvg"}) == {"strategy": "fedavg"}
    with pytest.raises(ConfigError, match="no cell is of it"):
        find_references(titled, {"strategy": "centralized"})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--grid", "other"], "holds no results of a grid other; allowed: fake"),
        (
            ["--grid", "fake", "--baseline", "fedsgd"],
            "--baseline fedsgd: no cell is of it (did you mean 'fedavg'?); allowed: centralized, fedavg",
        ),
        (
            ["--grid", "fake", "--reference", "betta=1"],
            "--reference betta=1: there is no axis betta (did you mean 'beta'?)",
        ),
        (["--grid", "fake", "--reference", "n_clients=4"], "--reference n_clients=4: no cell is of it; allowed: 3, 5"),
        (["--grid", "fake", "--reference", "beta"], "got 'beta'; it is an axis and one of its values, e.g. beta=0.1"),
        (["--grid", "fake", "--baseline", "fedprox"], "no cell is of it (did you mean 'fedprox(mu=0.1)'?); allowed: "),
        (["--grid", "fake", "--metrics", "FID"], "no metric 'FID' (did you mean 'fid'?); allowed: "),
        (["--grid", "fake\0"], "holds no results"),
        (["--grid", "fake", "--metrics", "fid,test_los"], "no metric 'test_los' (did you mean 'test_loss'?)"),
        (["--grid", "fake", "--metrics", "kid,bits_per_dim"], "--metrics: no finished cell has bits_per_dim"),
        (["--grid", "fake", "--width", "page"], "argument --width: got 'page'; allowed: column, text"),
        (["--grid", "fake", "--figures", "none,costs"], "argument --figures: got 'none,costs'; none stands alone"),
        (["--grid", "fake", "--style", "nowhere"], "error: --style nowhere: there is no such file"),
    ],
)
def test_a_mistake_is_one_message(store, capsys, arguments, told):
    try:
        code = main([*arguments, "--results", str(store.root.parent)])
    except SystemExit as error:  # of argparse
        code = error.code
    said = capsys.readouterr()
    assert code == 2
    assert told in said.err
    assert said.out == ""


def test_the_terminal_says_what_differences_are_against(store, capsys):
    arguments = ["--grid", "fake", "--results", str(store.root.parent), "--figures", "none"]
    for baseline, times in (("fedavg", 1), ("centralized", 0)):
        assert main([*arguments, "--baseline", baseline]) == 0
        said = capsys.readouterr()
        assert said.out.count(f"tables/differences.* are against {baseline}; ") == times
        assert said.err == "writing the report ...\n"


def test_what_a_results_folder_calls_itself_cannot_steer_the_terminal(tmp_path, capsys):
    store = fake_store.finished_store(tmp_path, AXES)
    store.write_plan(store.plan() | {"titles": {"fedavg": "\x1b[31mEVIL", "n_clients": "\x1b]0;title\x07"}})
    arguments = ["--grid", "fake", "--results", str(store.root.parent), "--figures", "none", "--claims"]
    assert main([*arguments, "--baseline", "fedavg"]) == 0
    said = capsys.readouterr().out
    assert "against ?[31mEVIL" in said
    assert "one value of ?]0;title?" in said
    assert said.replace("\n", "").isprintable()


def test_a_grids_own_folder_is_answered_with_the_one_above_it(store, capsys):
    assert main(["--grid", "fake", "--results", str(store.root)]) == 2
    assert f"it is a grid's own folder, so give --results {store.root.parent}" in capsys.readouterr().err


def test_each_figure_is_named_before_it_is_drawn(store):
    said: list[str] = []
    report = write_report(store.root, Wishes(figures=("overview", "skew"), formats=("png",)), said.append)
    assert said == ["figure overview", "figure skew"]
    assert {path.stem.partition("_")[0] for path in report.files if path.suffix == ".png"} <= {"overview", "skew"}


def test_an_empty_folder_is_told(tmp_path, capsys):
    assert main(["--grid", "default", "--results", str(tmp_path)]) == 2
    assert "no grid has been run into it" in capsys.readouterr().err


def test_a_damaged_result_is_told_and_counts_as_missing(tmp_path):
    store = fake_store.finished_store(tmp_path, AXES)
    path = store.cell(store.planned()[0].cell_id).path / "result.json"
    path.write_bytes(path.read_bytes()[:-100])
    (told,) = write_report(store.root, Wishes(pictures=False)).warnings
    assert f"{path} is damaged" in told
    rows = pd.read_csv(store.root / TABLES / "cells.csv")
    assert (rows["state"] != "done").sum() == 1


def test_a_place_that_cannot_be_written_is_one_message(tmp_path, capsys):
    store = fake_store.finished_store(tmp_path, AXES)
    (store.root / TABLES).write_text("a file")
    assert main(["--grid", "fake", "--results", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "the report cannot be written" in said.err
    assert said.err.splitlines()[0] == "writing the report ..."
    assert said.err.count("\n") == 2


def test_a_grid_without_a_finished_cell_has_a_report_that_says_so(tmp_path):
    store = fake_store.planned_store(tmp_path, AXES | {"seed": [0]})
    write_report(store.root, Wishes(pictures=False))
    assert "missing" in (store.root / TABLES / "summary.md").read_text()
    for cell in store.planned():
        fake_store.fail(fake_store.begin(store, cell))
    assert main(["--grid", "fake", "--results", str(tmp_path)]) == 0
    assert "failed" in (store.root / TABLES / "summary.md").read_text()
    assert (store.root / PAGE).exists()
