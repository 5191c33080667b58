"""Two results folders side by side: which cells belong together, what differs, and what is told."""

import io
import json
import math
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from bench.compare import main, open_results
from bench.report import comparison
from bench.report.comparison import comparison_table
from bench.report.tables.markdown import markdown
from bench.report.tables.terminal import rich_table
from bench.store.files import read_json
from bench.store.grid_folder import Store
from tests import fake_store

SEEDS = {"seed": [0, 1, 2], "n_clients": [3]}


@pytest.fixture
def ours(tmp_path: Path) -> Store:
    return fake_store.finished_store(tmp_path / "ours", SEEDS)


def changed(results: Path, more: float = 0.0, axes: dict | None = None, **result) -> Store:
    """The same grid made elsewhere: every FID higher by `more` and 0.1 a seed, parts of its results replaced."""
    store = fake_store.finished_store(results, axes or SEEDS)
    for cell in store.planned():
        found = read_json(store.cell(cell.cell_id).path / "result.json")
        metrics = found["metrics"] | {"fid": found["metrics"]["fid"] + more + 0.1 * cell.labels["seed"] * bool(more)}
        fake_store.run_cell(store, cell, metrics=metrics, **result)
    return store


def compared(a: Store, b: Store) -> comparison.Comparison:
    return comparison.compare(open_results(a.root), open_results(b.root))


def test_a_store_is_the_same_as_itself(ours):
    made = compared(ours, ours)
    assert len(made.pairs) == 9
    assert made.pairs["same_weights"].all()
    assert made.differences.empty
    table = comparison_table(made)
    assert (table["difference"] == 0).all()
    assert (table["n"] == 3).all()
    assert table[["low", "high"]].eq(0).all().all()


def test_differences_are_paired_by_seed(ours, tmp_path):
    made = compared(ours, changed(tmp_path / "theirs", more=2.0))
    fid = comparison_table(made).query("metric == 'fid'")
    assert fid["difference"].tolist() == pytest.approx([2.1] * 3)
    assert fid["low"].tolist() == pytest.approx([2.1 - 4.302653 * 0.1 / math.sqrt(3)] * 3)
    assert fid["b"].tolist() == pytest.approx((fid["a"] + 2.1).tolist())


def test_cells_belong_together_by_what_they_are_not_by_their_ids(ours, tmp_path):
    theirs = fake_store.finished_store(tmp_path / "theirs", {"seed": [1, 5], "n_clients": [3]}, missing=[4])
    made = compared(ours, theirs)
    assert sorted(made.pairs["seed"]) == [1, 1]
    assert (made.pairs["cell_a"] != made.pairs["cell_b"]).all()
    assert (len(made.only_a), len(made.only_b)) == (7, 3)
    assert not made.pairs["same_weights"].any()


def test_an_axis_that_only_one_has_is_held_against_the_others_setting(ours, tmp_path):
    axes = SEEDS | {"training.rounds": [3, 9]}
    made = compared(ours, changed(tmp_path / "theirs", axes=axes))
    assert made.axes[-1] == "training.rounds"
    assert set(made.pairs["training.rounds"]) == {3}
    assert (len(made.pairs), len(made.only_b)) == (9, 9)


def test_axes_and_strategies_are_called_by_their_titles(ours):
    ours.write_plan(ours.plan() | {"titles": {"n_clients": "hospitals", "fedavg": "FedAvg"}})
    made = compared(ours, ours)
    console = Console(file=io.StringIO(), width=400)
    console.print(rich_table(comparison.side_by_side(made, comparison_table(made))))
    said = console.file.getvalue()
    assert all(word in said for word in ("hospitals", "β", "FedAvg", "KID·10³"))
    assert "n_clients" not in said
    numbers = comparison_table(made).query("metric == 'kid_mean'")
    (row, *_) = comparison.side_by_side(made, numbers).rows
    assert row.places[-3].value == pytest.approx(1e3 * numbers["a"].iloc[0])


def test_what_the_results_were_made_with_is_told_where_it_differs(ours, tmp_path):
    theirs = changed(tmp_path / "theirs", environment=fake_store.ENVIRONMENT | {"commit": "f" * 40, "cpu": "Another"})
    made = compared(ours, theirs)
    told = made.differences.set_index("name")
    assert '| environment.cpu | "A processor" | "Another" | 9 |' in markdown(comparison.settings_that_differ(made), "")
    assert set(told.index) == {"environment.commit", "environment.cpu"}
    assert json.loads(told.loc["environment.cpu", "b"]) == "Another"
    assert told["pairs"].tolist() == [9, 9]


def test_results_that_do_not_know_the_harness_version_are_compared(ours, tmp_path):
    packages = {"federated-diffusion-bench": "0.1.0"} | fake_store.ENVIRONMENT["packages"]
    theirs = changed(tmp_path / "theirs", environment=fake_store.ENVIRONMENT | {"packages": packages})
    told = compared(ours, theirs).differences.set_index("name")
    assert told.loc["environment.packages.federated-diffusion-bench", ["a", "b"]].tolist() == ["null", '"0.1.0"']
    assert len(told) == 1


def test_the_command_prints_and_writes(ours, tmp_path, capsys):
    theirs = changed(tmp_path / "theirs", more=2.0, weight_hash="other")
    assert main([str(ours.root), str(theirs.root), "--out", str(tmp_path / "out")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "9 pairs of finished cells, 0 of them with the same weights bit for bit; 0 only in A, 0 only in B" in out
    assert "the same to the last digit in all pairs: KID·10³, IS, TV, test loss, train, MB, s" in out
    assert "fedavg 3 0.1 3 18.71 20.81 +2.1 [+1.9, +2.3]" in out
    names = {"pairs.csv", "comparison.csv", "differences.csv", "comparison.md", "comparison.png", "comparison.pdf"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    pairs = pd.read_csv(tmp_path / "out" / "pairs.csv")
    assert (pairs["fid_b"] - pairs["fid_a"]).between(1.99, 2.21).all()
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "| strategy | n | β | pairs | FID, A | FID, B | FID, B − A | KID·10³, A |" in text
    assert "| fedavg | 3 | 0.1 | 3 | 18.71 | 20.81 | +2.1 \\[+1.9, +2.3\\] |" in text
    assert "9 pairs of finished cells, 0 of them with the same weights bit for bit" in text
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda ours, path: path, "holds no grid.json: no grid has been run into it"),
        (lambda ours, path: ours.root.parent, "did you mean"),
        (lambda ours, path: path / "no\0where", "no\\x00where holds no grid.json"),
        (lambda ours, path: fake_store.planned_store(path, SEEDS).root, "no finished cell in common; 9 and 0 are"),
    ],
)
def test_a_mistake_is_one_message(ours, tmp_path, capsys, make, told):
    assert main([str(ours.root), str(make(ours, tmp_path / "other"))]) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_message(ours, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([str(ours.root), str(ours.root), "--out", str(tmp_path / "file")]) == 2
    assert "File exists" in capsys.readouterr().err


def test_hostile_settings_are_printed_as_they_are(ours, tmp_path):
    theirs = changed(tmp_path / "theirs", environment=fake_store.ENVIRONMENT | {"cpu": "[red]\x1b]0;x[/red]"})
    console = Console(file=io.StringIO(), width=200)
    comparison.show(compared(ours, theirs), console)
    said = console.file.getvalue()
    assert "[red]" in said
    assert "\x1b" not in said


def test_values_that_are_lists_are_compared(tmp_path):
    axes = {"strategy": ["fedavg"], "seed": [0], "n_clients": [3], "model.widths": [[8, 16], [16, 32]]}
    store = fake_store.finished_store(tmp_path, axes)
    table = comparison_table(compared(store, store))
    assert sorted(table["model.widths"].unique()) == ["[16, 32]", "[8, 16]"]
    assert main([str(store.root), str(store.root)]) == 0


def test_a_plan_that_is_damaged_is_told_with_its_file(ours, capsys):
    (ours.root / "grid.json").write_text("{}")
    assert main([str(ours.root), str(ours.root)]) == 2
    assert capsys.readouterr().err == f"error: {ours.root}/grid.json is damaged (it has no checksum)\n"
