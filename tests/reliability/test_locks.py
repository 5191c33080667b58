"""Several runs in one results folder: each cell is run once, and locks of the dead bind nobody."""

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bench.cell.job import How
from bench.cell.run import run_cell
from bench.run import pool
from bench.store import locks
from bench.store.files import Damaged, read_lines, write_json
from bench.store.grid_folder import Store
from bench.store.locks import LOCK, Owner, hold, is_locked, owner, this_host
from tests import reports
from tests.guard import ROOT
from tests.reliability.tiny import SETTINGS, folder_of, jobs_of
from tests.shortcuts import in_process


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def owned(folder: Path, **changes: object) -> Owner:
    """Write a lock as this process would have it, but for some changes."""
    with hold(folder, "run"):
        me = owner(folder)
    other = replace(me, **changes)
    write_json(folder / LOCK, asdict(other))
    return other


def test_a_lock_is_there_while_it_is_held(tmp_path):
    folder = tmp_path / "cell"
    with hold(folder, "run") as held:
        assert held
        assert is_locked(folder)
        assert owner(folder).pid == os.getpid()
    assert not is_locked(folder)
    assert owner(folder) is None


def test_a_lock_of_a_living_process_is_respected(tmp_path):
    with hold(tmp_path / "cell", "run"), hold(tmp_path / "cell", "other") as held:
        assert not held
    with hold(tmp_path / "cell", "other") as held:
        assert held


def test_a_lock_of_a_dead_process_is_broken(tmp_path, gone):
    owned(tmp_path / "cell", pid=gone)
    assert not is_locked(tmp_path / "cell")
    with hold(tmp_path / "cell", "run") as held:
        assert held


def test_a_lock_of_a_process_whose_number_was_given_again_is_broken(tmp_path):
    owned(tmp_path / "cell", born=1.0)
    with hold(tmp_path / "cell", "run") as held:
        assert held


def test_a_zombie_is_dead(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    import psutil

    born = locks.born(process.pid)
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    owned(tmp_path / "cell", pid=process.pid, born=born)
    assert not is_locked(tmp_path / "cell")
    process.wait()


def test_a_lock_of_another_host_is_broken_by_a_flag_or_by_its_own_run_only(tmp_path, gone):
    owned(tmp_path / "cell", host="elsewhere", pid=gone, run="theirs")
    assert is_locked(tmp_path / "cell")
    with hold(tmp_path / "cell", "ours") as held:
        assert not held
    assert owner(tmp_path / "cell").host == "elsewhere"
    with hold(tmp_path / "cell", "theirs") as held:
        assert held
    owned(tmp_path / "cell", host="elsewhere", pid=gone, run="theirs")
    with hold(tmp_path / "cell", "ours", break_locks=True) as held:
        assert held


def test_the_flag_breaks_no_lock_of_a_living_process_of_this_host(tmp_path):
    with hold(tmp_path / "cell", "run"), hold(tmp_path / "cell", "other", break_locks=True) as held:
        assert not held


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}'])
def test_a_lock_that_cannot_be_read_binds_nobody(tmp_path, content):
    (tmp_path / "cell").mkdir()
    (tmp_path / "cell" / LOCK).write_bytes(content)
    with hold(tmp_path / "cell", "run") as held:
        assert held


def test_a_folder_in_the_place_of_a_lock_is_moved_away(tmp_path):
    (tmp_path / "cell" / LOCK / "x").mkdir(parents=True)
    with pytest.warns(UserWarning, match="a folder stands in its place"), hold(tmp_path / "cell", "run") as held:
        assert held


def take_turns(folder: Path, run: str, queue, tried) -> None:
    """Whoever gets the lock keeps it until all others have tried."""
    with hold(folder, run) as held:
        if held:
            queue.put(run)
        tried.wait(timeout=60)


def test_of_many_that_break_a_dead_lock_at_once_one_gets_it(tmp_path, gone):
    owned(tmp_path / "cell", pid=gone)
    context = multiprocessing.get_context("fork")
    queue, tried = context.Queue(), context.Barrier(8)
    each = [context.Process(target=take_turns, args=(tmp_path / "cell", str(k), queue, tried)) for k in range(8)]
    for process in each:
        process.start()
    for process in each:
        process.join()
    assert queue.get(timeout=5)
    assert queue.empty()


def test_a_cell_that_another_process_works_at_is_left_to_it(tmp_path):
    (job,) = jobs_of(tmp_path)
    with hold(folder_of(job).path, "another run"):
        run_cell(job)
        assert folder_of(job).state() == "running" or not folder_of(job).ended()
        assert read_lines(folder_of(job).path / "metrics.jsonl") == []


def test_a_cell_that_has_ended_is_not_run_again(tmp_path):
    (job,) = jobs_of(tmp_path)
    folder_of(job).path.mkdir(parents=True)
    folder_of(job).fail("failed", "x")
    run_cell(replace(job, how=How("run")))
    assert not (folder_of(job).path / "cell.json").exists()


def look(root: Path, attempts: dict[str, set[str]], owners: set[str], ended: threading.Event) -> None:
    """Note the attempts at each cell and the runs that held one."""
    while not ended.wait(0.05):
        for path in root.glob("*/cell.json"):
            attempts.setdefault(path.parent.name, set()).add(json.loads(path.read_text())["attempt"])
            with contextlib.suppress(Damaged):  # it was unlocked at this instant
                if (held := owner(path.parent)) is not None:
                    owners.add(held.run)


def test_two_grids_at_once_run_each_cell_once(tmp_path):
    """Each attempt at a cell writes its own name into cell.json: the names seen on the way are counted.

    The run in this process begins when the other one has begun a cell.
    """
    settings = [*SETTINGS, "strategy=fedavg,fedprox(mu=0.1),fedavgm", "seed=0,1"]
    line = ["--grid", "smoke", "--results", str(tmp_path), "--no-mlflow", "--tables-only", "--n-jobs", "1"]
    line += [part for setting in settings for part in ("--set", setting)]
    attempts: dict[str, set[str]] = {}
    owners: set[str] = set()
    ended = threading.Event()
    looking = threading.Thread(target=look, args=(tmp_path / "smoke", attempts, owners, ended))
    looking.start()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "bench.grid", *line],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as other:  # fmt: skip
            while not owners and other.poll() is None:
                time.sleep(0.05)
            mine = in_process(*line, "--shuffle", "1")
            out, err = other.communicate()
    finally:
        ended.set()
        looking.join()
    assert [other.returncode, mine.returncode] == [0, 0], (err, mine.stderr)
    assert len(attempts) == 6
    assert {len(names) for names in attempts.values()} == {1}
    assert len(owners) == 2, "one of the runs did nothing"
    assert set(reports.rows_of(Store(tmp_path / "smoke")).frame["state"]) == {"done"}
    assert all("6 cells" in said and "Traceback" not in told for said, told in ((out, err), (mine.stdout, mine.stderr)))


def test_the_host_is_named_with_its_process_namespace():
    assert this_host() == locks.this_host()
    assert "pid:" in this_host() or not Path("/proc/self/ns/pid").exists()


def foreign(folder: Path, run: str) -> None:
    """A lock of a process of another host."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / LOCK, asdict(Owner("elsewhere", 1, 1.0, run, 1.0)))


@pytest.mark.parametrize(("run", "flag"), [("theirs", True), ("ours", False)])
def test_cells_of_another_host_are_taken_up_by_the_flag_or_by_their_own_run(tmp_path, run, flag, monkeypatch):
    jobs = [replace(job, how=How("ours", break_locks=flag)) for job in jobs_of(tmp_path)]
    foreign(folder_of(jobs[0]).path, run)
    begun = []
    monkeypatch.setattr(pool, "_dispatch", lambda groups, _: [end(job, begun) for group in groups for job in group])
    pool.run(jobs, 1, tell=pytest.fail)
    assert begun == [jobs[0].cell_id]


def end(job, begun: list[str]) -> None:
    begun.append(job.cell_id)
    folder_of(job).fail("failed", "as a stand-in")


def test_without_the_flag_they_are_waited_for_and_that_is_told_once(tmp_path, monkeypatch):
    (job,) = jobs_of(tmp_path)
    foreign(folder_of(job).path, "theirs")
    told, looks = [], iter([None, None])

    def sleep(_):
        if next(looks, 1):
            folder_of(job).fail("failed", "by the other run")

    monkeypatch.setattr(pool.time, "sleep", sleep)
    pool.run([job], 1, tell=told.append)
    assert len(told) == 1
    assert "1 cells are at work in another run" in told[0]
    assert "elsewhere, process 1" in told[0]
    assert "--break-locks takes over" in told[0]


def test_a_run_takes_no_cell_whose_training_is_under_way_elsewhere(tmp_path, monkeypatch):
    """Cells that share their training are run one after another, also by several runs."""
    first, second = jobs_of(tmp_path, "sampler.steps=2,3")
    assert first.train_id == second.train_id
    begun, done = [], []
    monkeypatch.setattr(pool, "_dispatch", lambda groups, _: [end(job, begun) for group in groups for job in group])
    monkeypatch.setattr(pool.time, "sleep", lambda _: (end(first, done), (folder_of(first).path / LOCK).unlink()))
    foreign(folder_of(first).path, "theirs")
    pool.run([first, second], 1)
    assert (done, begun) == ([first.cell_id], [second.cell_id])
