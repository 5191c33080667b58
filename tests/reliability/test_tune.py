"""``python -m bench.tune`` on cells that train in a second: halving, kills, failures, what is written, what is refused."""

import csv
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.cell.job import CellJob, How
from bench.cell.run import ended, run_cell, trained_rounds
from bench.config.grid_file import load_grid
from bench.config.tuning import Tuned
from bench.report.results import Results
from bench.run import pool
from bench.store.records import Failure, Result, Round, Trained
from bench.tune.__main__ import main
from strategies.fedavg import FedAvg
from tests.reliability.tiny import folder_of, jobs_of, numbers
from tests.shortcuts import no_workers

GRID = """
name = "tiny"
partition = "iid"
n_clients = 2
[axes]
strategy = ["fedavg", "fedprox(mu=0.01)"]
seed = [0]
[data]
name = "mnist5k"
size = 16
fit = "pad-pool"
limit = 48
validation = 20
test = 20
[training]
rounds = 3
batch_size = 8
[model]
widths = [8, 8]
attention = [false, false]
[diffusion]
T = 20
[sampler]
steps = 5
[evaluation]
n_samples = 20
[tune]
trials = 4
seeds = [100]
rungs = [1, 2]
fields.client.lr = {low = 5e-4, high = 2e-2, log = true}
strategies.fedprox.mu = {low = 1e-3, high = 1.0, log = true}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("grid") / "tiny.toml"
    path.write_text(GRID, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def here() -> Iterator[None]:
    with no_workers():
        yield


def tune(file: Path, results: Path, *options: str) -> int:
    return main(["--grid", str(file), "--results", str(results), *options])


@pytest.fixture(scope="module")
def whole(file, here, tmp_path_factory) -> SimpleNamespace:
    """A tuning that nothing disturbed, and every round that was trained for it."""
    results = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        trained = count_trainings(patch)
        code = tune(file, results)
    return SimpleNamespace(results=results, root=results / "tiny-tune", code=code, trained=trained)


def count_trainings(patch: pytest.MonkeyPatch) -> "Counter[tuple[str, int]]":
    """How often each round of each cell is trained from now on."""
    found: Counter[tuple[str, int]] = Counter()

    def run(job: CellJob) -> None:
        before = trained_rounds(folder_of(job))
        try:
            run_cell(job)
        finally:
            found.update((job.cell_id, number) for number in range(before + 1, trained_rounds(folder_of(job)) + 1))

    patch.setattr(pool, "run_cell", run)
    return found


def rows(root: Path) -> list[dict[str, str]]:
    with open(root / "tables" / "trials.csv", encoding="utf-8") as sheet:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(sheet)]


# ---------------------------------------------------------------------------------------------- until a round


def test_a_cell_that_is_left_at_rungs_ends_as_one_that_never_stopped(tmp_path):
    """Bit for bit: weights, logs and results; the learning rate falls over all rounds whatever the rungs."""
    (straight,) = jobs_of(tmp_path / "a", "training.participation=0.5", "strategy=scaffold")
    (halting,) = jobs_of(tmp_path / "b", "training.participation=0.5", "strategy=scaffold")
    run_cell(straight)
    folder = folder_of(halting)
    for until in (1, 3, 4):
        job = CellJob(**{**vars(halting), "how": How(until=until, checkpoint_every=0)})
        assert not ended(job)
        run_cell(job)
        assert ended(job)
        assert (trained_rounds(folder), folder.state()) == (until, "partial")
        assert folder.read(Failure) is None
    assert folder.read(Trained).weight_hash == folder_of(straight).read(Trained).weight_hash
    assert not (folder.path / "samples.safetensors").exists()
    run_cell(halting)
    assert numbers(folder) == numbers(folder_of(straight))


# ----------------------------------------------------------------------------------------------------- halving


def test_the_better_trials_are_trained_to_the_end_and_every_strategy_pays_the_same(whole):
    assert whole.code == 0
    found = rows(whole.root)
    for strategy in ("fedavg", "fedprox(mu=0.01)"):
        tried = [row for row in found if row["strategy"] == strategy]
        assert Counter(row["rounds"] for row in tried) == {"1": 2, "2": 1, "3": 1}
        assert [row["outcome"] for row in tried if row["rounds"] == "3"] == ["chosen"]
        assert sum(int(row["gradient_steps"]) for row in tried) == sum(int(row["gradient_steps"]) for row in found) / 2
    assert max(whole.trained.values()) == 1


def test_a_rung_keeps_those_with_the_least_validation_loss(whole):
    for folder in {path.parent for path in whole.root.glob("*/metrics.jsonl")}:
        assert not (folder / Result.FILE).exists()  # nothing was sampled or scored
    tried = [row for row in rows(whole.root) if row["strategy"] == "fedavg"]
    losses = {}
    for path in whole.root.glob("*/metrics.jsonl"):
        label = load_label(whole.root, path.parent.name)
        if label["strategy"] == "fedavg":
            losses[f"{label['client.lr']}"] = Round.read_log(path.parent)[0].value("validation_loss")
    best = sorted(losses, key=losses.__getitem__)[:2]
    assert {row["client.lr"] for row in tried if row["rounds"] != "1"} == set(best)


def load_label(root: Path, cell_id: str) -> dict:
    return next(cell.labels for cell in Results.read(root).cells if cell.cell_id == cell_id)


def test_the_promoted_trial_has_the_weights_of_a_whole_run(whole, tmp_path):
    (chosen,) = (row for row in rows(whole.root) if row["outcome"] == "chosen" and row["strategy"] != "fedavg")
    cell = next(
        cell for cell in Results.read(whole.root).cells
        if (cell.strategy, str(cell.labels["client.lr"])) == (chosen["tried"], chosen["client.lr"])
    )  # fmt: skip
    path = tmp_path / "whole.toml"
    path.write_text(GRID.partition("[tune]")[0], encoding="utf-8")
    sets = [f"strategy={chosen['tried']}", f"client.lr={chosen['client.lr']}", "seed=100"]
    from bench.run.plan import make_plan

    (job,) = make_plan(load_grid(str(path), sets), tmp_path).jobs
    assert job.cell_id == cell.cell_id
    run_cell(job)
    assert folder_of(job).read(Result) is not None
    assert folder_of(job).read(Trained).weight_hash == cell.folder.read(Trained).weight_hash


# ------------------------------------------------------------------------------------------------ what is written


def test_the_tuned_grid_is_written_and_planned(whole):
    path = whole.root / "tiny-tuned.toml"
    grid = load_grid(str(path))
    chosen = {row["strategy"]: row for row in rows(whole.root) if row["outcome"] == "chosen"}
    assert {cell.strategy_label: cell.client.lr for cell in grid.cells} == {
        row["tried"]: float(row["client.lr"]) for row in chosen.values()
    }
    assert {cell.seed for cell in grid.cells} == {0}
    assert isinstance(grid.tuned, Tuned)
    assert (grid.tuned.trials, grid.tuned.metric, grid.tuned.cells) == (4, "validation_loss", 8)
    assert tomllib.loads(path.read_text(encoding="utf-8"))["name"] == "tiny-tuned"


def test_tables_figure_and_studies_are_written(whole):
    written = {
        str(path.relative_to(whole.root)) for path in whole.root.rglob("*") if path.parent.name in ("tables", "figures")
    }
    tables = {
        f"tables/{name}"
        for table in ("trials", "tuned")
        for name in (f"{table}.md", f"{table}.tex", f"{table}_caption.tex")
    }
    figures = {f"figures/sensitivity.{kind}" for kind in ("pdf", "png")} | {
        "figures/captions.tex",
        "figures/captions.md",
    }
    assert written == tables | figures | {"tables/trials.csv"}
    told = (whole.root / "tables" / "tuned.md").read_text(encoding="utf-8")
    assert "| FedProx | " in told
    assert "only fresh seeds compare strategies" in told
    assert (whole.root / "studies.db").stat().st_size > 0


def test_the_same_command_trains_nothing_and_writes_the_same(whole, file, here, monkeypatch, capsys):
    kept = {
        name: (whole.root / name).read_bytes()
        for name in ("tiny-tuned.toml", "tables/trials.csv", "figures/sensitivity.png")
    }
    trained = count_trainings(monkeypatch)
    assert tune(file, whole.results) == 0
    assert not trained
    assert {name: (whole.root / name).read_bytes() for name in kept} == kept
    assert "8 cells, 8 trained before, 0 to train" in capsys.readouterr().out


# -------------------------------------------------------------------------------------------------- what goes wrong


def test_a_tuning_that_was_killed_goes_on_without_training_anything_twice(
    whole, file, here, monkeypatch, tmp_path, capsys
):
    trained = count_trainings(monkeypatch)
    aggregate, calls = FedAvg.aggregate, iter(range(99))

    def killed(*args) -> None:
        if next(calls) in (3, 11, 15):  # within a round before the first rung, the second and the end
            raise KeyboardInterrupt
        aggregate(*args)

    monkeypatch.setattr(FedAvg, "aggregate", killed)
    assert [tune(file, tmp_path) for _ in range(3)] == [130, 130, 130]
    assert "the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "tiny-tune" / "tiny-tuned.toml").exists()
    assert tune(file, tmp_path) == 0
    assert trained == whole.trained
    assert rows(tmp_path / "tiny-tune") == rows(whole.root)


def test_a_trial_that_diverges_is_not_chosen(file, here, monkeypatch, tmp_path, capsys):
    def run(job: CellJob) -> None:
        if job.config.client.lr > 0.01:
            diverge(job)
        else:
            run_cell(job)

    monkeypatch.setattr(pool, "run_cell", run)
    wide = ("--set", "strategy=fedavg", "--set", "training.rounds=2", "--quiet")
    path = tmp_path / "wide.toml"
    path.write_text(
        GRID.replace("[1, 2]", "[1]")
        .replace("strategies.fedprox.mu", "#")
        .replace("high = 2e-2", "high = 1.0")
        .replace("5e-4", "5.5e-4"),
        encoding="utf-8",
    )
    assert tune(path, tmp_path, *wide) == 0
    found = rows(tmp_path / "tiny-tune")
    assert "diverged" in {row["outcome"] for row in found}
    assert [row["validation_loss"] for row in found if row["outcome"] == "diverged"].count("") > 0
    assert float(next(row for row in found if row["outcome"] == "chosen")["client.lr"]) <= 0.01
    every = tmp_path / "every.toml"
    every.write_text(
        path.read_text(encoding="utf-8")
        .replace("low = 5.5e-4", "low = 0.011")
        .replace("[training]", "[client]\nlr = 0.02\n[training]"),
        encoding="utf-8",
    )
    assert tune(every, tmp_path / "every", *wide) == 1
    assert "fedavg: every trial diverged" in capsys.readouterr().err


def test_a_trial_that_diverges_after_a_rung_has_passed_it_whenever_the_command_runs(file, here, monkeypatch, tmp_path):
    """Else the same command would let another one go on, and choose it."""
    victims: list[str] = []

    def run(job: CellJob) -> None:
        if job.how.until == 2 and victims in ([], [job.cell_id]):
            victims[:] = [job.cell_id]
            diverge(job)
        else:
            run_cell(job)

    monkeypatch.setattr(pool, "run_cell", run)
    path = tmp_path / "late.toml"
    path.write_text(GRID.replace("strategies.fedprox.mu", "#"), encoding="utf-8")
    options = ("--set", "strategy=fedavg", "--quiet")
    assert tune(path, tmp_path, *options) == 0
    found = rows(tmp_path / "tiny-tune")
    assert Counter(row["outcome"] for row in found) == {"chosen": 1, "diverged": 1, "stopped": 2}
    trained = count_trainings(monkeypatch)
    assert tune(path, tmp_path, *options) == 0
    assert not trained
    assert rows(tmp_path / "tiny-tune") == found


def diverge(job: CellJob) -> None:
    """As a training whose loss stops being finite in the last round that is asked for."""
    if (before := job.how.until - 1) > trained_rounds(folder_of(job)):
        run_cell(replace(job, how=replace(job.how, until=before)))
    folder_of(job).fail("diverged", "Diverged: no luck")


def test_a_failed_trial_is_told_and_tried_again_when_asked(file, here, monkeypatch, tmp_path, capsys):
    fails = True

    def run(job: CellJob) -> None:
        if fails:
            folder_of(job).fail("failed", "ValueError: no luck")
        else:
            run_cell(job)

    monkeypatch.setattr(pool, "run_cell", run)
    small = ("--set", "strategy=fedavg", "--quiet")
    path = tmp_path / "two.toml"
    path.write_text(
        GRID.replace("trials = 4", "trials = 2").replace("[1, 2]", "[1]").replace("strategies.fedprox.mu", "#"),
        encoding="utf-8",
    )
    assert tune(path, tmp_path, *small) == 1
    assert "ValueError: no luck" in (told := capsys.readouterr().err)
    assert "run again with --retry-failed" in told
    fails = False
    assert tune(path, tmp_path, *small) == 1
    assert tune(path, tmp_path, *small, "--retry-failed") == 0


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["seed=100"], "error: --set seed=100: seed: 100 is of tune.seeds, too"),
        (["training.rounds=2"], "tune.rungs: got [1, 2]; each must be fewer than training.rounds = 2"),
        (["strategy=fedavg"], "tune.strategies.fedprox: no strategy of this grid"),
        (["client.lr=1e-3,2e-3"], "tune.fields.client.lr: it is an axis of the grid, too"),
        (["client.lr=1.0"], "the grid's own value 1.0 is the first trial, and must be of it"),
    ],
)  # fmt: skip
def test_bad_input_ends_with_code_2_and_writes_nothing(sets, told, file, tmp_path, capsys):
    assert tune(file, tmp_path / "results", *(word for text in sets for word in ("--set", text))) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_a_plan_tells_what_would_be_trained_and_writes_nothing(file, tmp_path, capsys):
    assert tune(file, tmp_path / "results", "--plan", "--n-jobs", "2") == 0
    told = capsys.readouterr().out
    assert "tuning of tiny: 2 strategies, 4 trials each, 8 cells" in told
    assert "to round 2 of 3: 2 of 4 trials of each strategy" in told
    assert "in all, 2 cells at a time; nothing was run" in told
    assert not (tmp_path / "results").exists()
