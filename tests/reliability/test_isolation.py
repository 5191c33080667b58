"""Whatever a cell does to its process: it ends with its reason, and the others finish."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError

from bench.cell.job import CellJob, How, from_json, to_json
from bench.cell.run import find_timeout, run_cell
from bench.run import isolate, pool, watch
from bench.store import locks
from bench.store.cell_folder import HANG
from bench.store.files import read_json, read_lines
from bench.store.grid_folder import Store
from tests import reports
from tests.acceptance.conftest import command
from tests.guard import ROOT
from tests.reliability.tiny import SETTINGS, folder_of, jobs_of, numbers
from tests.shortcuts import blank_pictures, in_process, no_workers

pytestmark = pytest.mark.xdist_group("isolation")
ENDS = {
    "raises": ("failed", "ZeroDivisionError: on purpose"),
    "exits": ("failed", "SystemExit: 3"),
    "leaves": ("killed", "its process ended with exit code 7 before the cell did"),
    "is killed": ("killed", "its process was killed by SIGKILL (by someone, or by the system when memory ran out)"),
    "crashes": ("killed", "its process was killed by SIGSEGV"),
    "hangs": ("timeout", "not done within --timeout, {limit} (hours:minutes:seconds)"),
    "wants memory": ("killed", "out of memory: "),
    "diverges": ("diverged", "Diverged: "),
    "grows": ("diverged", "Diverged: "),
    "works": ("done", ""),
}
# What hangs begins early, so that others run while its time passes; in the pool after the cell that kills its worker.
POOL = ["is killed", "hangs", "raises", "exits", "wants memory", "diverges", "grows", "works"]
ISOLATED = ["hangs", "raises", "leaves", "crashes", "works"]  # one that dies is tried twice


def grid(results: Path, *strategies: str) -> list[str]:
    """Arguments of the tiny grid of these strategies."""
    settings = [setting for setting in SETTINGS if not setting.startswith("strategy")]
    sets = [part for setting in [*settings, "strategy=" + ",".join(strategies)] for part in ("--set", setting)]
    return ["--grid", "smoke", "--results", str(results), "--no-mlflow", "--tables-only", *sets]


def odd(way: str, **more: str) -> str:
    """The name of the strategy that ends in this way."""
    values = ", ".join(f'{name}="{value}"' for name, value in {"way": way, **more}.items())
    return f"tests.reliability.odd:Odd({values})"


@pytest.fixture(scope="module", params=["pool", "isolated"])
def ended(request, tmp_path_factory):
    """A grid of cells that end in these ways; its results, what was said, the ways, and the time limit."""
    results, pooled = tmp_path_factory.mktemp("odd") / "r", request.param == "pool"
    ways = POOL if pooled else ISOLATED
    limit = timedelta(seconds=30 if pooled else 60)
    arguments = [*grid(results, *map(odd, ways)), "--timeout", str(limit.seconds), "--n-jobs", "2"]
    return results, command(*arguments) if pooled else in_process(*arguments, "--isolate"), ways, limit


def test_all_ways_are_tried():
    assert {*POOL, *ISOLATED} == {*ENDS}


def test_every_cell_ends_in_its_way_and_the_others_finish(ended):
    results, done, names, limit = ended
    store = Store(results / "smoke")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for cell, way in zip(store.planned(), names, strict=True):
        (state, told), folder = ENDS[way], store.cell(cell.cell_id)
        told = told.format(limit=limit)
        assert folder.state() == state, (way, read_json(folder.path / "error.json"))
        if state != "done":
            assert read_json(folder.path / "error.json")["error"].startswith(told), way
            assert told in done.stderr
        assert (folder.path / "partition.png").exists(), way
        assert not locks.is_locked(folder.path)
    (error,) = [
        e
        for cell in store.planned()
        if (e := read_json(store.cell(cell.cell_id).path / "error.json")) and e["status"] == "timeout"
    ]
    assert "odd.py" in error["traceback"]
    assert "in upload" in error["traceback"]


def test_the_same_command_runs_none_of_them_again_and_retry_failed_just_those(tmp_path):
    """The cells change their minds when a file is there."""
    mended = tmp_path / "mended"
    strategies = [odd("raises", mended=str(mended)), odd("diverges", mended=str(mended)), "fedavg"]
    arguments = [*grid(tmp_path / "r", *strategies), "--n-jobs", "1"]
    with no_workers(), blank_pictures():
        first, again = in_process(*arguments), in_process(*arguments)
        mended.touch()
        retried = in_process(*arguments, "--retry-failed")
    assert [done.returncode for done in (first, again, retried)] == [1, 1, 0], retried.stderr
    assert "3 ended before, 0 to run" in again.stdout
    assert "1 ended before, 2 to run" in retried.stdout
    assert set(reports.rows_of(Store(tmp_path / "r" / "smoke")).frame["state"]) == {"done"}


# ------------------------------------------------------------------------------------------ one process a cell


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[CellJob, dict]:
    (job,) = jobs_of(tmp_path_factory.mktemp("finished"))
    with blank_pictures():
        run_cell(job)
    return job, numbers(folder_of(job))


def test_a_job_goes_to_another_process_as_it_is(finished):
    job = replace(finished[0], data_root=Path("/some/where"), how=How("r", 2.5, 3, True, 1, True))
    assert from_json(to_json(job)) == job
    json.loads(to_json(job))


def test_a_cell_whose_process_is_killed_once_goes_on_in_another(finished, tmp_path, monkeypatch):
    (job,) = jobs_of(tmp_path)
    run, codes = isolate._run_process, []

    def kill_the_first(job):
        if codes:
            codes.append(run(job))
            return codes[-1]
        process = subprocess.Popen([sys.executable, "-m", "bench.run.isolate", str(os.getpid())], stdin=subprocess.PIPE)
        process.stdin.write(to_json(job).encode())
        process.stdin.close()
        deadline = time.monotonic() + 60
        while len(read_lines(folder_of(job).path / "metrics.jsonl")) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        codes.append(process.wait())
        return codes[-1]

    monkeypatch.setattr(isolate, "_run_process", kill_the_first)
    isolate.run_isolated(job)
    assert codes == [-signal.SIGKILL, 0]
    assert numbers(folder_of(job)) == finished[1]
    assert read_json(folder_of(job).path / "cell.json")["resumed"] > 0


def test_a_process_that_cannot_end_itself_is_ended(tmp_path, monkeypatch):
    """One that is stopped does not hear its own timer."""
    monkeypatch.setattr(isolate, "GRACE", 4.0)
    (job,) = jobs_of(tmp_path, f"strategy={odd('stops')}")
    isolate.run_isolated(replace(job, how=How(timeout=8)))
    assert folder_of(job).state() == "timeout"
    assert (
        read_json(folder_of(job).path / "error.json")["error"]
        == "not done within --timeout, 8 s, and it did not end itself"
    )
    assert not locks.is_locked(folder_of(job).path)


def test_two_deaths_are_the_end(tmp_path, monkeypatch):
    (job,) = jobs_of(tmp_path)
    codes = iter([-9, -11])
    monkeypatch.setattr(isolate, "_run_process", lambda job: next(codes))
    isolate.run_isolated(job)
    assert folder_of(job).state() == "killed"
    assert read_json(folder_of(job).path / "error.json")["error"] == "its process was killed by SIGSEGV; that was try 2"


def test_the_next_attempt_records_a_time_out_that_nobody_did(tmp_path):
    (job,) = jobs_of(tmp_path)
    folder = folder_of(job)
    folder.begin({"attempt": "1"})
    (folder.path / HANG).write_text('Timeout (0:00:05)!\nThread 0x1:\n  File "odd.py", line 3 in upload\n')
    run_cell(job)
    assert folder.state() == "timeout"
    assert "0:00:05" in read_json(folder.path / "error.json")["error"]
    folder.forget_failure()
    assert folder.state() == "partial"


def test_a_file_that_tells_of_no_time_out_is_none(tmp_path):
    (job,) = jobs_of(tmp_path)
    folder = folder_of(job)
    folder.begin({"attempt": "1"})
    assert not find_timeout(folder)
    (folder.path / HANG).write_text("")
    assert not find_timeout(folder)


def test_an_isolated_cell_ends_with_the_process_that_started_it(tmp_path):
    arguments = [*grid(tmp_path, "fedavg"), "--set", "training.rounds=100000", "--isolate"]
    parent = subprocess.Popen(
        [sys.executable, "-m", "bench.grid", *arguments],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("smoke/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    below = psutil.Process(parent.pid).children(recursive=True)
    assert any("bench.run.isolate" in " ".join(process.cmdline()) for process in below)
    parent.kill()
    parent.wait()
    assert psutil.wait_procs(below, timeout=15)[1] == []
    assert reports.rows_of(Store(tmp_path / "smoke")).frame["state"].tolist() == ["partial"]


# ------------------------------------------------------------------------------------------ the order of things


def test_an_interrupt_that_is_lost_is_repeated(monkeypatch):
    """As where Python drops it, in a destructor."""

    monkeypatch.setattr(watch, "INSIST_EVERY", 0.2)
    lost, before = [], signal.getsignal(signal.SIGINT)

    def lose_the_first() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except KeyboardInterrupt:
            lost.append(1)
        time.sleep(30)

    with pytest.raises(KeyboardInterrupt), watch.interruptible():
        lose_the_first()
    assert lost == [1]
    assert signal.getsignal(signal.SIGINT) is before


SHUFFLED = ["strategy=fedavg,fedprox(mu=0.1)", "n_clients=2,3", "training.rounds=2"]


@pytest.fixture(scope="module")
def in_order(tmp_path_factory) -> list[dict]:
    jobs = jobs_of(tmp_path_factory.mktemp("order"), *SHUFFLED)
    with blank_pictures():
        for job in jobs:
            run_cell(job)
    return [numbers(folder_of(job)) for job in jobs]


@pytest.mark.parametrize(("backend", "cells"), [("loky", 4), ("threading", 2)])  # the latter: one process a cell
def test_order_workers_and_backend_change_no_number(backend, cells, tmp_path, in_order):
    jobs = jobs_of(tmp_path, *SHUFFLED)[:cells]
    pool.run(jobs[::-1], 2, backend)
    assert [numbers(folder_of(job)) for job in jobs] == in_order[:cells]


def test_workers_that_die_before_they_begin_end_the_run(tmp_path, monkeypatch):
    def die(*_):
        raise TerminatedWorkerError("no memory to start in")

    monkeypatch.setattr(pool, "_dispatch", die)
    with pytest.raises(pool.WorkersDie, match="workers died 10 times before they began a cell: no memory to start in"):
        pool.run(jobs_of(tmp_path), 1)
