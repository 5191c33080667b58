"""MLflow may be away, locked, broken or killed: a sync says so in one line, and a later one sends the same runs."""

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient
from sqlalchemy import Engine, event

from bench.report.tracking import databases
from bench.report.tracking import send as requests
from bench.report.tracking.tracker import Tracker, TrackingError
from bench.store import locks
from bench.store.files import read_json, read_lines, write_bytes
from bench.store.grid_folder import PlannedCell, Store
from tests import fake_store

pytestmark = pytest.mark.xdist_group("mlflow")  # one worker makes the empty store once

Snapshot = dict[str, dict[str, Any]]
STEPS = 3


class Play:
    """A grid of three cells as its files tell it, step by step: one is done, one times out, one is left alone.

    Cells that are under way are locked by this process, as by the worker that runs them.
    """

    def __init__(self, results: Path) -> None:
        self.store = fake_store.planned_store(results, {"n_clients": [3], "seed": [0]})
        self._held = contextlib.ExitStack()

    def step(self, number: int) -> None:
        first, second, third = self.store.planned()
        if number == 0:
            self._begin(first, 2)
        elif number == 1:
            fake_store.add_rounds(self.store.cell(first.cell_id), first, 3, 3)
            fake_store.finish(self.store.cell(first.cell_id), first)
            self._begin(second, 1)
        else:
            fake_store.fail(self.store.cell(second.cell_id), "timeout", "it took more than 5 seconds")
            self._begin(third, 2)
            self._held.close()
            write_bytes(self.store.root / "tables" / "summary.csv", b"a table")

    def _begin(self, cell: PlannedCell, rounds: int) -> None:
        self._held.close()
        folder = self.store.cell(cell.cell_id)
        self._held.enter_context(locks.hold(folder.path, "a run"))
        fake_store.begin(self.store, cell)
        fake_store.add_rounds(folder, cell, 1, rounds)


def play(results: Path, tracker: Tracker | None = None) -> Store:
    """All steps, with a sync after each if there is a tracker, and a last one."""
    grid = Play(results)
    for number in range(STEPS):
        grid.step(number)
        if tracker is not None:
            tracker.sync(running=True)
    if tracker is not None:
        tracker.sync(running=False)
    return grid.store


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new MLflow store, made once: that takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with databases.quiet():
        databases.create_database(f"sqlite:///{path}")
    return path


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of the user's; one that does not answer is left after a second."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")


@pytest.fixture
def results(tmp_path: Path, empty_database: Path) -> Path:
    """A results folder with an empty MLflow store in it."""
    folder = tmp_path / "results"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def quick_stores(empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New MLflow stores are copies of the empty one."""

    def create(uri: str) -> None:
        path = databases.database_file(uri)
        if path is not None and not path.exists():
            shutil.copy(empty_database, path)

    monkeypatch.setattr(databases, "create_database", create)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Snapshot:
    """The runs of a grid that was synced after every step."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(empty_database, folder / "mlflow.db")
    uri = address(folder)
    store = fake_store.planned_store(folder, {"n_clients": [3], "seed": [0]})
    return snapshot(play(folder, Tracker(store, uri)), uri)


def address(results: Path) -> str:
    """The SQLite store in a results folder, which waits for locks no longer than a tenth of a second."""
    return f"sqlite:///{results / 'mlflow.db'}?timeout=0.1"


def runs_of(uri: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = client.search_experiments(filter_string="name = 'fake'")
    return list(client.search_runs([experiment.experiment_id], run_view_type=view))


def snapshot(store: Store, uri: str) -> Snapshot:
    """All that MLflow shows of the grid's runs by name, but for MLflow's own ids, paths, and when the grid was synced."""
    client, runs = MlflowClient(tracking_uri=uri), runs_of(uri)
    names = {run.info.run_id: run.info.run_name for run in runs}
    assert len(set(names.values())) == len(names)
    return {run.info.run_name: told(client, run, names, str(store.root.absolute())) for run in runs}


def told(client: MlflowClient, run: Run, names: dict[str, str], results: str) -> dict[str, Any]:
    tags = dict(run.data.tags)
    assert tags.pop("results") == results
    parent = tags.pop("mlflow.parentRunId", None)
    history = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return {
        "status": run.info.status,
        "times": (run.info.start_time, run.info.end_time) if parent else None,
        "parent": names[parent] if parent else None,
        "tags": tags,
        "params": run.data.params,
        "metrics": {key: sorted((p.step, p.timestamp, p.value) for p in found) for key, found in history.items()},
        "inputs": [(item.dataset.name, item.dataset.digest) for item in inputs],
        "artifacts": {item.path: item.file_size for item in client.list_artifacts(run.info.run_id)},
        "images": {item.path.split("+timestamp+")[0] for item in client.list_artifacts(run.info.run_id, "images")},
    }


def failing(tracker: Tracker, running: bool = True) -> str:
    """The one line in which a sync tells why it failed."""
    with pytest.raises(TrackingError) as error:
        tracker.sync(running)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


# ------------------------------------------------------------------------------------------ whenever it is synced


def test_the_undisturbed_grid_is_what_its_files_tell(undisturbed):
    """What the other tests compare with."""
    first, second, third, parent = (
        undisturbed[name]
        for name in (
            "centralized seed=0",
            "fedavg n=3 beta=0.1 seed=0",
            "fedprox(mu=0.1) n=3 beta=0.1 seed=0",
            "grid fake",
        )
    )
    assert [run["status"] for run in (first, second, third, parent)] == ["FINISHED", "FAILED", "KILLED", "FAILED"]
    assert [run["tags"]["state"] for run in (first, second, third)] == ["done", "timeout", "stopped"]
    assert second["tags"]["error"] == "it took more than 5 seconds"
    assert [len(run["metrics"]["train_loss"]) for run in (first, second, third)] == [3, 1, 2]
    assert {run["parent"] for run in (first, second, third)} == {"grid fake"}
    assert set(parent["artifacts"]) == {"grid.json", "tables"}
    assert all(run["inputs"] for run in (first, second, third))


def test_a_sync_after_all_is_over_gives_the_same_runs(results, undisturbed):
    store = play(results)
    Tracker(store, address(results)).sync(running=False)
    assert snapshot(store, address(results)) == undisturbed
    Tracker(store, address(results)).sync(running=False)
    assert snapshot(store, address(results)) == undisturbed
    assert len(runs_of(address(results), ViewType.ALL)) == len(undisturbed)


@pytest.mark.usefixtures("quick_stores")
def test_a_store_that_was_deleted_is_rebuilt(results, undisturbed):
    store = play(results)
    tracker = Tracker(store, address(results))
    tracker.sync(running=False)
    for again in (tracker, Tracker(store, address(results))):
        (results / "mlflow.db").unlink()
        shutil.rmtree(results / "mlartifacts")
        again.sync(running=False)
        assert snapshot(store, address(results)) == undisturbed


def test_an_interrupted_sync_is_completed_by_the_next(results, undisturbed, empty_database, monkeypatch):
    """After every ninth request: it was answered, and the process died."""
    store = play(results)
    monkeypatch.setitem(requests.BATCH, "params", 40)
    names = ["create_experiment", "create_run", "log_batch", "set_tag", "log_inputs"]
    names += ["log_artifact", "log_image", "set_terminated"]
    left = [0]

    def interrupted(request: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*arguments: Any, **options: Any) -> Any:
            answer = request(*arguments, **options)
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return answer

        return ask

    for name in names:
        monkeypatch.setattr(MlflowClient, name, interrupted(getattr(MlflowClient, name)))
    Tracker(store, address(results)).sync(running=False)
    count = -left[0]
    assert count > 40
    for last in range(1, count + 1, 9):
        shutil.copy(empty_database, results / "mlflow.db")
        left[0] = last
        with pytest.raises(KeyboardInterrupt):
            Tracker(store, address(results)).sync(running=False)
        Tracker(store, address(results)).sync(running=False)
        assert snapshot(store, address(results)) == undisturbed, f"interrupted after request {last}"


def test_a_request_that_was_sent_twice_makes_no_second_run(results, undisturbed, monkeypatch):
    store = play(results)
    create = MlflowClient.create_run

    def twice(*arguments: Any, **options: Any) -> Run:
        create(*arguments, **options)
        return create(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", twice)
        Tracker(store, address(results)).sync(running=False)
    assert len(runs_of(address(results))) == 2 * len(undisturbed)
    Tracker(store, address(results)).sync(running=False)
    assert snapshot(store, address(results)) == undisturbed


# ------------------------------------------------------------------------------------------ out of order


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another process writes and does not end; sessions wait for it no longer than they are told by `address`."""

    def soon(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 100"), parameters

    connection = sqlite3.connect(database, isolation_level=None)
    event.listen(Engine, "before_cursor_execute", soon, retval=True)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", soon)
        connection.close()


@contextlib.contextmanager
def garbage(database: Path) -> Iterator[None]:
    with set_aside(database):
        database.write_bytes(b"not a database, though it is long enough to be taken for one" * 100)
        yield


@contextlib.contextmanager
def folder_in_its_place(database: Path) -> Iterator[None]:
    with set_aside(database):
        database.mkdir()
        yield


@contextlib.contextmanager
def cut_short(database: Path) -> Iterator[None]:
    with set_aside(database):
        whole = database.with_name("whole.db").read_bytes()
        database.write_bytes(whole[: len(whole) // 2])
        yield


@contextlib.contextmanager
def set_aside(database: Path) -> Iterator[None]:
    database.rename(database.with_name("whole.db"))
    try:
        yield
    finally:
        database.rmdir() if database.is_dir() else database.unlink(missing_ok=True)
        database.with_name("whole.db").rename(database)


TROUBLES = {
    locked: "database is locked",
    garbage: "not a database",
    folder_in_its_place: "unable to open database file",
    cut_short: "malformed",
}


@pytest.mark.parametrize("when", range(STEPS))
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_a_database_out_of_order_is_one_line_and_made_up_for_later(results, undisturbed, trouble, when, capfd):
    """At the first, second or third step of the grid."""
    grid = Play(results)
    tracker = Tracker(grid.store, address(results))
    for number in range(STEPS):
        grid.step(number)
        disorder: AbstractContextManager[None] = (
            trouble(results / "mlflow.db") if number == when else contextlib.nullcontext()
        )
        with disorder:
            if number == when:
                assert TROUBLES[trouble] in failing(tracker)
                assert TROUBLES[trouble] in failing(Tracker(grid.store, address(results)), running=False)
            else:
                tracker.sync(running=True)
    tracker.sync(running=False)
    assert snapshot(grid.store, address(results)) == undisturbed
    assert "Traceback" not in capfd.readouterr().err


def test_a_database_that_cannot_be_written_is_one_line(results, undisturbed, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    store = play(results)
    readonly = f"sqlite:///file:{results / 'mlflow.db'}?mode=ro&uri=true"
    assert "readonly database" in failing(Tracker(store, readonly), running=False)
    assert "Traceback" not in capfd.readouterr().err
    assert [path.parent for path in tmp_path.rglob("*.db")] == [results]  # none beside it
    Tracker(store, address(results)).sync(running=False)
    assert snapshot(store, address(results)) == undisturbed


def test_a_store_that_cannot_be_made_is_one_line(results):
    store = play(results)
    assert "/proc/nothing" in failing(Tracker(store, "sqlite:////proc/nothing/mlflow.db"))


def test_a_store_of_another_mlflow_is_one_line(results):
    store = play(results)
    with contextlib.closing(sqlite3.connect(results / "mlflow.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        connection.execute("DROP TABLE params")
        connection.commit()
    assert "ffffffffffff" in failing(Tracker(store, address(results)))


@pytest.mark.usefixtures("quick_stores")
def test_runs_are_followed_into_a_new_store_when_theirs_is_deleted(results, undisturbed):
    grid = Play(results)
    tracker = Tracker(grid.store, address(results))
    for number in range(STEPS):
        grid.step(number)
        tracker.sync(running=True)
        if number == 1:
            (results / "mlflow.db").unlink()
    tracker.sync(running=False)
    assert snapshot(grid.store, address(results)) == undisturbed


# ------------------------------------------------------------------------------------------ servers


def test_a_port_where_nobody_listens_is_one_line(results, undisturbed, capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = play(results)
    tracker = Tracker(store, f"http://127.0.0.1:{port}")
    assert str(port) in failing(tracker)
    assert str(port) in failing(tracker, running=False)
    assert capfd.readouterr().err == ""
    Tracker(store, address(results)).sync(running=False)
    assert snapshot(store, address(results)) == undisturbed


def test_a_server_that_never_answers_is_left_after_one_request(results, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    store = play(results)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0)
        address_of_it = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert "timed out" in failing(Tracker(store, address_of_it), running=False).lower()
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):  # nothing else was asked
            silent.accept()


def test_waiting_for_a_server_is_limited_where_the_user_sets_nothing(results, monkeypatch):
    for name in databases.SETTINGS:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    Tracker(play(results), address(results)).sync(running=False)
    assert (
        int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) * (1 + int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])) <= 60
    )


class Server:
    """A real `mlflow server` with one worker, which can be killed and started again at the same port."""

    def __init__(self, folder: Path, database: Path) -> None:
        self._folder = folder
        shutil.copy(database, folder / "mlflow.db")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path, empty_database: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    made = Server(folder, empty_database)
    made.start()
    try:
        yield made
    finally:
        made.kill()


def test_a_server_that_is_killed_and_comes_back_shows_the_same_runs(results, undisturbed, server):
    grid = Play(results)
    tracker = Tracker(grid.store, server.uri)
    grid.step(0)
    tracker.sync(running=True)
    server.kill()
    grid.step(1)
    assert str(server.port) in failing(tracker)
    server.start()
    tracker.sync(running=True)
    grid.step(2)
    tracker.sync(running=False)
    assert snapshot(grid.store, server.uri) == undisturbed
    Tracker(grid.store, server.uri).sync(running=False)
    assert snapshot(grid.store, server.uri) == undisturbed


# ------------------------------------------------------------------------------------------ several processes


def gone() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_killed_grid_leaves_no_run_running(results):
    """Its cells are begun, not ended, and locked by a process that is gone."""
    store = fake_store.planned_store(results, {"n_clients": [3], "seed": [0]})
    tracker = Tracker(store, address(results))
    with contextlib.ExitStack() as held:
        for cell in store.planned():
            held.enter_context(locks.hold(store.cell(cell.cell_id).path, "killed"))
            fake_store.begin(store, cell)
        tracker.sync(running=True)
        assert {run.info.status for run in runs_of(address(results))} == {"RUNNING"}
        kept = {cell.cell_id: locks.owner(store.cell(cell.cell_id).path) for cell in store.planned()}
    dead = gone()
    for cell_id, owner in kept.items():
        locks.write_json(store.cell(cell_id).path / locks.LOCK, vars(replace(owner, pid=dead)))
    Tracker(store, address(results)).sync(running=True)
    cells = [run for run in runs_of(address(results)) if "cell_id" in run.data.tags]
    assert {(run.info.status, run.data.tags["state"]) for run in cells} == {("KILLED", "stopped")}
    Tracker(store, address(results)).sync(running=False)
    assert {run.info.status for run in runs_of(address(results))} == {"KILLED"}


def test_a_cell_whose_manifest_was_lost_is_not_running(results):
    store = fake_store.planned_store(results, {"n_clients": [3], "seed": [0]})
    folder = store.cell(store.planned()[0].cell_id)
    with locks.hold(folder.path, "killed"):
        fake_store.begin(store, store.planned()[0])
        Tracker(store, address(results)).sync(running=True)
    (folder.path / "cell.json").unlink()
    Tracker(store, address(results)).sync(running=False)
    assert {run.info.status for run in runs_of(address(results))} == {"KILLED"}


def test_a_cell_that_another_process_works_at_stays_running(results):
    store = fake_store.planned_store(results, {"n_clients": [3], "seed": [0]})
    first, second = store.planned()[:2]
    fake_store.run_cell(store, first)
    with locks.hold(store.cell(second.cell_id).path, "another"):
        fake_store.begin(store, second)
        Tracker(store, address(results)).sync(running=False)
        states = {run.info.run_name: run.info.status for run in runs_of(address(results))}
        assert states == {
            "centralized seed=0": "FINISHED",
            "centralized (1 seed)": "FINISHED",
            "fedavg n=3 beta=0.1 seed=0": "RUNNING",
            "grid fake": "RUNNING",
        }
        fake_store.planned_store(results, {"n_clients": [5], "seed": [0]})  # and plans may differ
        Tracker(store, address(results)).sync(running=True)
        assert "RUNNING" in {run.info.status for run in runs_of(address(results)) if "cell_id" in run.data.tags}


def test_trackers_that_take_turns_make_no_run_twice(results, undisturbed):
    grid = Play(results)
    trackers = [Tracker(grid.store, address(results)) for _ in range(2)]
    for number in range(STEPS):
        for tracker in trackers:
            tracker.sync(running=True)
        grid.step(number)
        for tracker in trackers if number % 2 else reversed(trackers):
            tracker.sync(running=True)
    for tracker in trackers:
        tracker.sync(running=False)
    assert snapshot(grid.store, address(results)) == undisturbed
    assert len(runs_of(address(results), ViewType.ALL)) == len(undisturbed)


def test_trackers_that_sync_at_once_make_no_run_twice(results, undisturbed):
    store = play(results)
    together, failed = threading.Barrier(3), []

    def last_sync() -> None:
        tracker = Tracker(store, address(results))
        together.wait()
        try:
            tracker.sync(running=False)
        except TrackingError as error:
            failed.append(error)

    threads = [threading.Thread(target=last_sync) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert snapshot(store, address(results)) == undisturbed
    assert len(runs_of(address(results), ViewType.ALL)) == len(undisturbed)


def test_a_sync_does_not_wait_while_cells_run_but_the_last_one_does(results, undisturbed, monkeypatch):
    store = play(results)
    tracker = Tracker(store, address(results))
    monkeypatch.setattr(databases, "LAST_WAIT", 0.2)
    with FileLock(store.root / ".mlflow.lock"):
        tracker.sync(running=True)
        assert MlflowClient(tracking_uri=address(results)).get_experiment_by_name("fake") is None
        assert "another process" in failing(tracker, running=False)
    monkeypatch.setattr(databases, "LAST_WAIT", 60.0)
    tracker.sync(running=False)
    assert snapshot(store, address(results)) == undisturbed


def test_grids_that_start_at_once_make_one_store(results, empty_database, monkeypatch):
    """The second finds the store that the first made while it waited."""
    (results / "mlflow.db").unlink()
    made: list[str] = []

    class Maker:
        def __init__(self, tracking_uri: str) -> None:
            self._path = Path(tracking_uri.removeprefix("sqlite:///"))

        def search_experiments(self) -> None:
            made.append(str(self._path))
            shutil.copy(empty_database, self._path)

    monkeypatch.setattr("mlflow.tracking.MlflowClient", Maker)
    threads = [threading.Thread(target=databases.create_database, args=(address(results),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


# ------------------------------------------------------------------------------------------ cells that go on


def resume(store: Store, cell: PlannedCell, kept: int, attempt: str) -> None:
    """Begin a new attempt that keeps some rounds of the last one."""
    folder = store.cell(cell.cell_id)
    lines = (folder.path / "metrics.jsonl").read_text().splitlines(keepends=True)[:kept]
    fake_store.begin(store, cell, attempt, started=fake_store.STARTED + 1000)
    write_bytes(folder.path / "metrics.jsonl", "".join(lines).encode())
    manifest = read_json(folder.path / "cell.json")
    assert manifest is not None
    folder.begin(manifest | {"resumed": kept})


@pytest.mark.usefixtures("quick_stores")
def test_a_resumed_attempt_has_all_rounds_once_at_the_times_they_ended(results):
    store = fake_store.planned_store(results, {"n_clients": [3], "seed": [0]})
    cell = store.planned()[1]
    folder = store.cell(cell.cell_id)
    tracker = Tracker(store, address(results))
    with locks.hold(folder.path, "killed"):
        fake_store.begin(store, cell, "first")
        fake_store.add_rounds(folder, cell, 1, 3)
        tracker.sync(running=True)
    with locks.hold(folder.path, "next"):
        resume(store, cell, 2, "second")
        for last in (3, 4):
            fake_store.add_rounds(folder, cell, last, last, later=1000)
            tracker.sync(running=True)
        fake_store.finish(folder, cell)
    tracker.sync(running=False)
    live = snapshot(store, address(results))
    (name,) = (name for name, run in live.items() if run["tags"]["kind"] == "cell")
    times = [round(line["time"] * 1000) for line in read_lines(folder.path / "metrics.jsonl")]
    assert [point[:2] for point in live[name]["metrics"]["train_loss"]] == list(zip((1, 2, 3, 4), times, strict=True))
    assert live[name]["tags"]["attempt"] == "second"
    (results / "mlflow.db").unlink()
    Tracker(store, address(results)).sync(running=False)
    assert snapshot(store, address(results)) == live


@pytest.mark.parametrize("name", ["metrics.jsonl", "validation.jsonl", "curve.json", "curve.safetensors"])
def test_a_damaged_file_of_a_cell_keeps_no_other_from_being_sent(results, name):
    store = fake_store.finished_store(results, {"n_clients": [3], "seed": [0]})
    broken = store.cell(store.planned()[0].cell_id).path / name
    broken.write_bytes(b'{"damaged": 1}\n\x00\xff\n')
    with pytest.warns(UserWarning, match=f"{name} is damaged"):
        Tracker(store, address(results)).sync(running=False)
    finished = [run.data.tags["kind"] for run in runs_of(address(results)) if run.info.status == "FINISHED"]
    assert sorted(finished) == ["cell"] * 3 + ["grid"] + ["summary"] * 3
