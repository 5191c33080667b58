"""The main job as a user runs it: what it leaves behind, what a second run does, and how it fails."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import bench.cell.setting
from bench.fidelity.extractors import load_extractor
from bench.grid import main
from bench.store.files import plain, read_json, read_lines
from bench.store.grid_folder import Store
from bench.store.records import (
    Diagnostics,
    Manifest,
    Result,
    Round,
    Steps,
    Trained,
    Validation,
    Visit,
)
from tests import reports
from tests.acceptance.conftest import command
from tests.guard import ROOT, run_python
from tests.shortcuts import in_process

pytestmark = pytest.mark.xdist_group("grid")
TINY = [
    "--set",
    "training.rounds=1",
    "--set",
    "evaluation.n_samples=20",
    "--set",
    "strategy=fedavg",
    "--no-mlflow",
    "--n-jobs",
    "1",
]


def files(root: Path) -> dict[str, float]:
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}


def of_cells(root: Path) -> dict[str, float]:
    """The files of its cells, without tables and figures."""
    return {name: when for cell in Store(root).planned() for name, when in files(root / cell.cell_id).items()}


def hashes(root: Path) -> dict[str, tuple[str, str, str]]:
    store = Store(root)
    results = [read_json(store.cell(cell.cell_id).path / "result.json") for cell in store.planned()]
    return {r["cell_id"]: (r["weight_hash"], r["sample_hash"], numbers(r)) for r in results}


def numbers(result: dict) -> str:
    """All that was measured but seconds."""
    kept = {key: value for key, value in result["metrics"].items() if not key.endswith("seconds")}
    return json.dumps([kept, result["class_histogram"], result["floor"]])


def test_the_smoke_grid_runs_to_the_end(smoke):
    _results, done = smoke
    assert done.returncode == 0, done.stderr
    assert "grid smoke: 3 cells, 0 ended before, 3 to run" in done.stdout
    assert "done, FID" in done.stdout
    assert "mlflow ui --host 127.0.0.1" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_smoke_grid_runs_without_the_network(smoke):
    """From the command line to tables and MLflow's database, in the parent and in its workers."""
    results, done = smoke
    assert "MLflow is not up to date" not in done.stdout + done.stderr
    assert (results / "mlflow.db").exists()
    assert (results / "smoke" / "tables" / "summary.tex").exists()
    notes = results.parent
    assert len(set((notes / "guarded").read_text().split())) >= 2, "the workers were not guarded"
    assert not (notes / "tried").exists(), (notes / "tried").read_text()


def test_every_cell_leaves_its_files(smoke):
    store = Store(smoke[0] / "smoke")
    for cell in store.planned():
        names = {path.name for path in store.cell(cell.cell_id).path.iterdir()}
        expected = {
            "cell.json",
            "metrics.jsonl",
            "clients.jsonl",
            "steps.jsonl",
            "validation.jsonl",
            "weights.safetensors",
            "train.json",
            "samples.safetensors",
            "samples.png",
            "samples_viridis.png",
            "closest.png",
            "film.gif",
            "diagnostics.json",
            "diagnostics.png",
            "result.json",
        }
        if cell.labels["n_clients"] is not None:
            expected |= {"partition.json", "partition.png", "rounds.png"}
        assert names == expected
        images = load_file(store.cell(cell.cell_id).path / "samples.safetensors")["images"]
        assert images.shape == (100, 1, 16, 16)


@pytest.mark.parametrize("kind", [Manifest, Trained, Result, Diagnostics])
def test_records_have_a_field_for_all_that_is_written(smoke, kind):
    """What writes a file and what reads it are two places, and what has no field would be passed over."""
    store = Store(smoke[0] / "smoke")
    for cell in store.planned():
        path = store.cell(cell.cell_id).path
        record, content = kind.read(path), read_json(path / kind.FILE)
        assert plain(record.known()) == content


@pytest.mark.parametrize("kind", [Round, Visit, Steps, Validation])
def test_logs_have_a_field_for_all_that_is_written(smoke, kind):
    store = Store(smoke[0] / "smoke")
    for cell in store.planned():
        path = store.cell(cell.cell_id).path
        assert [plain(line.known()) for line in kind.read_log(path)] == read_lines(path / kind.FILE)


def test_results_hold_what_a_paper_needs(smoke):
    store = Store(smoke[0] / "smoke")
    for cell in store.planned():
        result = read_json(store.cell(cell.cell_id).path / "result.json")
        metrics = result["metrics"]
        assert metrics["fid"] > 0
        assert 1 <= metrics["is_mean"] <= 10
        assert 0 <= metrics["recognised"] < 0.65
        assert metrics["class_tv"] is None  # too few digits are recognised to say which classes are missing
        assert sum(result["class_histogram"]) == pytest.approx(1)
        assert metrics["samples"] == 400
        assert metrics["n_reference"] == 200
        assert result["floor"]["fid"] > 0
        assert result["extractor"]["name"] == "mnist-cnn"
        assert (metrics["bytes_up"] == 0) == (cell.labels["n_clients"] is None)
        assert len(read_lines(store.cell(cell.cell_id).path / "metrics.jsonl")) == 2


def test_the_tables_stand_beside_the_cells(smoke):
    root = smoke[0] / "smoke"
    rows = pd.read_csv(root / "tables" / "cells.csv")
    assert rows["state"].tolist() == ["done"] * 3
    assert rows["strategy"].tolist() == ["centralized", "fedavg", "fedprox(mu=0.1)"]
    table = pd.read_csv(root / "tables" / "summary.csv")
    assert table["n"].tolist() == [1, 1, 1]
    assert table["fid_minus_centralized"].tolist()[1] == pytest.approx(table["fid"][1] - table["fid"][0])
    assert r"\toprule" in (root / "tables" / "summary.tex").read_text()
    assert (root / "figures" / "overview.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_trains_nothing(smoke, capsys):
    results, _ = smoke
    cells = Store(results / "smoke").planned()
    before = of_cells(results / "smoke")
    assert main(["--grid", "smoke", "--results", str(results), "--no-mlflow", "--tables-only"]) == 0
    assert of_cells(results / "smoke") == before
    assert f"{len(cells)} ended before, 0 to run" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_a_new_beta_runs_only_the_new_cells(smoke, tmp_path, capsys):
    results = tmp_path / "results"
    shutil.copytree(smoke[0], results)
    before = hashes(results / "smoke")
    arguments = ["--grid", "smoke", "--results", str(results), "--no-mlflow", "--tables-only", "--set", "beta=1,5"]
    assert main(arguments) == 0
    assert "5 cells, 3 ended before, 2 to run" in capsys.readouterr().out
    after = hashes(results / "smoke")
    assert len(after) == 5
    assert before.items() <= after.items()


@pytest.mark.usefixtures("here")
def test_other_samples_are_drawn_without_training_again(smoke, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(smoke[0], results)
    before = hashes(results / "smoke")
    arguments = ["--set", "evaluation.n_samples=30", "--set", "strategy=fedavg", "--no-mlflow", "--n-jobs", "1"]
    assert main(["--grid", "smoke", "--results", str(results), "--tables-only", *arguments]) == 0
    (cell,) = Store(results / "smoke").planned()
    result = read_json(Store(results / "smoke").cell(cell.cell_id).path / "result.json")
    assert result["metrics"]["n_generated"] == 30
    assert result["weight_hash"] in {weights for weights, *_ in before.values()}
    rounds = read_lines(Store(results / "smoke").cell(cell.cell_id).path / "metrics.jsonl")
    assert [line["time"] < result["finished"] - result["metrics"]["cell_seconds"] for line in rounds] == [True, True]


@pytest.mark.usefixtures("here")
def test_the_number_of_workers_changes_no_bit(smoke, tmp_path):
    """One process here, several there."""
    assert main(["--grid", "smoke", "--results", str(tmp_path), "--no-mlflow", "--quiet", "--tables-only"]) == 0
    assert hashes(tmp_path / "smoke") == hashes(smoke[0] / "smoke")


def test_the_plan_runs_nothing_and_tells_states_and_times(smoke, capsys):
    before = files(smoke[0])
    assert main(["--grid", "smoke", "--results", str(smoke[0]), "--plan", "--set", "beta=1,5"]) == 0
    told = capsys.readouterr().out
    assert files(smoke[0]) == before
    assert told.count("done") == 4  # three cells and the count
    assert told.count("todo") == 3
    assert "nothing was run" in told


def test_a_plan_of_a_new_folder_writes_nothing(tmp_path, capsys):
    assert main(["--grid", "default", "--results", str(tmp_path / "new"), "--plan"]) == 0
    assert not (tmp_path / "new").exists()
    assert "10 todo; about" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ plugins, failures

PLUGIN = """
from dataclasses import dataclass
from strategies.fedavg import FedAvg

@dataclass(frozen=True)
class Mine(FedAvg):
    pull: float = 0.5
"""


@pytest.fixture
def plugin(tmp_path) -> dict[str, str]:
    """A folder on the path with a module of strategies, and a package that offers one as an entry point."""
    (tmp_path / "my_strategies.py").write_text(PLUGIN)
    package = tmp_path / "mine-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[bench.strategies]\nmine = my_strategies:Mine\n")
    return {"PYTHONPATH": str(tmp_path)}


def test_a_users_strategy_runs_by_path_and_by_entry_point(plugin, tmp_path):
    both = "strategy=my_strategies:Mine(pull=0.25),mine"
    done = command("--grid", "smoke", "--results", tmp_path / "r", "--tables-only", *TINY, "--set", both, **plugin)
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(tmp_path / "r" / "smoke" / "tables" / "cells.csv")
    assert rows["strategy"].tolist() == ["my_strategies:Mine(pull=0.25)", "mine(pull=0.5)"]
    assert rows["weight_hash"].nunique() == 1  # both are FedAvg in all but name


RAISES, LEAVES = (f'tests.reliability.odd:Odd(way="{way}")' for way in ("raises", "leaves"))


@pytest.mark.usefixtures("here")
def test_a_cell_that_raises_or_diverges_costs_no_other(tmp_path):
    arguments = ["--grid", "smoke", "--results", tmp_path / "r", "--tables-only", *TINY, "--set", "client.optimizer=sgd",
                 "--set", f"strategy={RAISES},fedavg", "--set", "client.lr=0.001,1e30"]  # fmt: skip
    done = in_process(*arguments)
    assert done.returncode == 1
    rows = pd.read_csv(tmp_path / "r" / "smoke" / "tables" / "cells.csv")
    states = {(row.strategy.partition("(")[0], row["client.lr"]): row.state for _, row in rows.iterrows()}
    assert states == {("tests.reliability.odd:Odd", 0.001): "failed", ("tests.reliability.odd:Odd", 1e30): "diverged",
                      ("fedavg", 0.001): "done", ("fedavg", 1e30): "diverged"}  # fmt: skip
    assert "ZeroDivisionError: on purpose" in done.stderr
    assert "--retry-failed" in done.stderr
    store = Store(tmp_path / "r" / "smoke")
    errors = [read_json(store.cell(cell.cell_id).path / "error.json") for cell in store.planned()]
    assert any(error and 'raise ZeroDivisionError("on purpose")' in error["traceback"] for error in errors)


def test_a_worker_that_dies_costs_no_other_cell(tmp_path):
    """With several cells at once: `tests/reliability/test_isolation.py`."""
    done = in_process("--grid", "smoke", "--results", tmp_path / "r", "--tables-only", *TINY,
                      "--set", f"strategy={LEAVES},fedavg,centralized")  # fmt: skip
    assert done.returncode == 1, done.stderr
    rows = pd.read_csv(tmp_path / "r" / "smoke" / "tables" / "cells.csv")
    assert rows["state"].tolist() == ["killed", "done", "done"]
    assert rows["strategy"].str.partition("(")[0].tolist() == ["tests.reliability.odd:Odd", "fedavg", "centralized"]
    assert "its process ended with exit code 7 before the cell did" in done.stderr


def gone(group: int) -> bool:
    """Whether all processes of the group end within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.2)
    return False


# MLflow's first sync takes seconds; one of both is enough.
@pytest.mark.parametrize(("number", "more"), [(signal.SIGINT, []), (signal.SIGTERM, ["--no-mlflow", "--isolate"])])
def test_an_interrupt_ends_within_seconds_and_keeps_what_is_done(tmp_path, number, more):
    arguments = ["--grid", "smoke", "--results", str(tmp_path), "--n-jobs", "2", *more,
                 "--set", "strategy=fedavg", "--set", "evaluation.n_samples=20", "--set", "training.rounds=1,100000"]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "bench.grid", *arguments], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("smoke/*/result.json")) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT) if number == signal.SIGINT else process.terminate()
    started = time.monotonic()
    _, told = process.communicate(timeout=60)
    assert time.monotonic() - started < 20
    assert process.returncode == 130
    assert "interrupted: 1 of 2 cells are done and kept; the same command goes on with the others" in told
    assert "Traceback" not in told
    assert gone(process.pid), "a worker is left"
    states = sorted(reports.rows_of(Store(tmp_path / "smoke")).frame["state"])
    assert states == ["done", "partial"]


def test_workers_end_with_a_parent_that_is_killed_and_the_next_run_goes_on(tmp_path):
    arguments = ["--grid", "smoke", "--results", str(tmp_path), *TINY]
    long = ["--set", "training.rounds=100000,100001"]
    process = subprocess.Popen([sys.executable, "-m", "bench.grid", *arguments, *long, "--n-jobs", "2"], cwd=ROOT, start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("smoke/*/metrics.jsonl"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    process.kill()
    process.wait()
    assert gone(process.pid), "a worker is left"
    assert set(reports.rows_of(Store(tmp_path / "smoke")).frame["state"]) == {"partial"}
    assert main([*arguments, "--quiet", "--tables-only"]) == 0


# ------------------------------------------------------------------------------------------------ mistakes

MISTAKES = [
    (["--grid", "defalt"], "did you mean 'default'?"),
    (["--grid", "smoke", "--scheduler", "tcp://127.0.0.1:1"], "--scheduler: it belongs to --backend dask"),
    (["--grid", "smoke", "--set", "beta=-1"], "--set beta=-1: beta: got -1"),
    (["--grid", "smoke", "--set", "data.name=mnist"], "mnist needs --data-root DIR"),
    (["--grid", "smoke", "--set", "data.name=mnist", "--data-root", "/nowhere"], "python -m bench.data mnist --data-root /nowhere --download"),
    (["--grid", "smoke", "--set", "data.test=5000"], "data.test of mnist5k must be between 1 and 4999, got 5000"),
    (["--grid", "smoke", "--set", "n_clients=21"], "fedavg n=21 beta=1 seed=0: 21 clients of at least 10 samples need 210"),
    (["--grid", "smoke", "--set", "beta=0.001", "--set", "n_clients=15", "--set", "partition=dirichlet(max_retries=3)"],
     "none of 4 draws at beta=0.001, n_clients=15"),
    (["--grid", "smoke", "--set", "data.size=8", "--set", "model.widths=[8]", "--set", "model.attention=[true]"],
     "extractor mnist-cnn takes grey images of side 16, 28, 32"),
    (["--grid", "smoke", "--set", "evaluation.extractor=inception-v3-compat", "--set", "evaluation.extractor_weights=/nowhere.pth"],
     "the weights of inception-v3-compat are not at /nowhere.pth"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "part"), MISTAKES, ids=[part[:50] for _, part in MISTAKES])
def test_mistakes_end_with_code_2_one_message_and_nothing_written(arguments, part, tmp_path, capsys):
    assert main([*arguments, "--results", str(tmp_path / "r")]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert part in told.err
    assert "Traceback" not in told.err + told.out
    assert not (tmp_path / "r").exists()


@pytest.mark.skipif(os.environ.get("CUDA_VISIBLE_DEVICES") is not None, reason="the machine may have a GPU")
def test_a_missing_gpu_is_told(tmp_path, capsys):
    if torch.cuda.is_available():
        assert main(["--grid", "smoke", "--results", str(tmp_path), "--set", "device=cuda", "--plan"]) == 0
    else:
        assert main(["--grid", "smoke", "--results", str(tmp_path), "--set", "device=cuda"]) == 2
        assert "this torch sees no CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--n-jobs", "0"], ["--backend", "slurm"], ["--nonsense"]])
def test_wrong_options_end_with_code_2(arguments):
    with pytest.raises(SystemExit) as ended:
        main(["--grid", "smoke", *arguments])
    assert ended.value.code == 2


def test_results_that_cannot_be_written_are_told(tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert main(["--grid", "smoke", "--results", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_other_data_than_the_extractor_knows_are_refused(tmp_path, capsys, monkeypatch):
    knows_less = dataclasses.replace(load_extractor("mnist-cnn"), datasets=("mnist",))
    monkeypatch.setattr(bench.cell.setting, "load_extractor", lambda *_: knows_less)
    assert main(["--grid", "smoke", "--results", str(tmp_path), "--plan"]) == 2
    assert "extractor mnist-cnn knows mnist, not mnist5k" in capsys.readouterr().err


def test_quiet_says_nothing(smoke, capsys):
    assert main(["--grid", "smoke", "--results", str(smoke[0]), "--no-mlflow", "--quiet", "--tables-only"]) == 0
    told = capsys.readouterr()
    assert told.out == told.err == ""


LISTENING = """
import sys
import psutil
from bench import grid
from bench.run import pool

def listening():
    found = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return [c.laddr.ip for p in found for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]

def dispatch(groups, at_once, run=pool._dispatch):
    run(groups, at_once)
    print(*listening())

if __name__ == "__main__":
    pool._dispatch = dispatch
    sys.exit(grid.main(sys.argv[1:]))
"""
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_every_backend_gives_the_same_bits_and_listens_to_this_machine_alone(backend, smoke, tmp_path):
    """Where it listens is printed once the cells have run on it."""
    (tmp_path / "listen.py").write_text(LISTENING, encoding="utf-8")
    arguments = ["--set", "strategy=fedavg", "--no-mlflow", "--tables-only", "--quiet", "--n-jobs", "2"]
    done = run_python(
        tmp_path / "listen.py", "--grid", "smoke", "--results", tmp_path, *arguments, "--backend", backend
    )
    assert done.returncode == 0, done.stderr
    assert hashes(tmp_path / "smoke").items() <= hashes(smoke[0] / "smoke").items()
    addresses = set(done.stdout.splitlines()[-1].split())
    assert addresses, "a cluster that listens nowhere was not looked at"
    assert addresses <= LOOPBACK


def refuse(name: str):
    raise ValueError(f"{name} is no JSON")


def test_results_are_plain_json(smoke):
    found = [json.loads(path.read_text(), parse_constant=refuse) for path in (smoke[0] / "smoke").rglob("*.json")]
    assert len(found) == 1 + 3 * 4 + 2 + 1  # the plan, cells, partitions of two, what the report wrote
