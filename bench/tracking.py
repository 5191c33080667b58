"""MLflow as a mirror of the store: what a grid's files say, as an experiment with a run per cell.

Only the processes that run the grid sync, one at a time; workers never speak to MLflow. A sync reads the files and
sends what MLflow lacks, so it may be repeated, interrupted and taken up by another process, and MLflow's store may
be deleted and rebuilt without training. A grid is an experiment; in it stands one parent run for the grid and,
nested below it, one run for the present attempt at each cell.
"""

import json
import logging
import math
import os
import re
import shlex
import statistics
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from bench.config import flatten
from bench.files import Damaged, read_json, write_bytes
from bench.store import FAILURES, CellFolder, PlannedCell, Store

if TYPE_CHECKING:  # MLflow takes seconds to import, so it is imported when the first sync needs it
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

CELL_ARTIFACTS = (
    "samples.png",
    "samples_viridis.png",
    "samples_clients.png",
    "clients.jsonl",
    "heldout.jsonl",
    "curve.json",
    "film.gif",
    "reconstructions.png",
    "partition.png",
    "diagnostics.json",
    "diagnostics.png",
    "rounds.png",
    "likelihood.json",
    "result.json",
    "error.json",
)
GRID_ARTIFACTS = (
    "grid.json",
    "summary.csv",
    "summary_table.csv",
    "summary_table.tex",
    "overview.png",
    "costs.png",
    "why.png",
)
STATUS: dict[str, str] = {"done": "FINISHED", "running": "RUNNING", "stopped": "KILLED"}
STATUS |= dict.fromkeys(FAILURES, "FAILED")

_WATCHED = ("cell.json", "metrics.jsonl", "train.json", "result.json", "error.json")
_ENDED = ("done", *FAILURES)  # states that follow from a cell's files alone
_CURVE = ("fid", "kid_mean", "is_mean", "class_tv")  # of the images drawn after some rounds
_BATCH = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits for one request
_LONGEST_PARAM, _LONGEST_TAG, _LONGEST_DIGEST = 6000, 5000, 36
# Set only where the user did not: a server that is away must not hold up training for minutes, and what is run
# here is nobody else's business.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


# MLflow's stores are cached by their address: a pooled connection would go on writing to a file that was deleted.
_SQLITE_SETTINGS = {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}
_LAST_WAIT = 120.0  # seconds that the last sync waits for another process's, or for it to make a new database


class TrackingError(Exception):
    """MLflow could not be brought up to date. Nothing is lost: a later sync sends what this one did not."""


class Tracker:
    """Brings MLflow up to date with the store of one grid.

    Several processes may work in the grid's folder, each with a tracker: they take turns. A cell that a living
    process works at is RUNNING; one that was begun, not ended, and left alone is KILLED until a new attempt begins.

    Args:
        store: the grid's results.
        tracking_uri: MLflow's address; None takes MLFLOW_TRACKING_URI, else mlflow.db beside the grid's folder.
    """

    def __init__(self, store: Store, tracking_uri: str | None = None) -> None:
        self._store = store
        database = store.root.parent.absolute() / "mlflow.db"
        self.uri: str = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}"
        self._lock = FileLock(store.root / ".mlflow.lock")
        self._name = uuid.uuid4().hex
        self._mirror: _Mirror | None = None

    def hint(self) -> str:
        """How to look at the runs: a command for a local store, the address of a server."""
        if self.uri.startswith(("http://", "https://")):
            return _without_password(self.uri)
        return f"mlflow ui --host 127.0.0.1 --backend-store-uri {shlex.quote(_without_password(self.uri))}"

    def sync(self, running: bool) -> None:
        """Send what MLflow lacks; cheap where nothing is new.

        Args:
            running: whether this process goes on to run cells. If so, nothing is done while another process syncs.
                If not, this is its last sync, which waits for others: tables and figures are attached, and the
                grid's run is ended unless another process works at one of its cells.
        Raises:
            TrackingError: if MLflow or its store fails.
            FileNotFoundError: if no grid was run into the store.
        """
        self._store.plan()
        for name, value in (_SETTINGS | ({} if _is_remote(self.uri) else _SQLITE_SETTINGS)).items():
            os.environ.setdefault(name, value)
        from alembic.util import CommandError
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with self._turn(0.0 if running else _LAST_WAIT), _quiet():
                self._update(running)
        except Timeout as error:
            self._mirror = None
            if not running:
                raise TrackingError(f"another process has been syncing for {_LAST_WAIT:.0f} seconds") from error
        except (MlflowException, SQLAlchemyError, CommandError, OSError, ImportError) as error:
            self._mirror = None  # what it remembers as sent may not have arrived
            first_line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise TrackingError(f"{_without_password(self.uri)}: {_without_password(first_line.strip())}") from error

    def _update(self, running: bool) -> None:
        plan, database = self._store.plan(), _file_id(_database_file(self.uri))
        if self._mirror is None or self._mirror.database != database:
            self._mirror = _connect(self._store, self.uri, plan)
        self._mirror.update(plan, running)

    @contextmanager
    def _turn(self, wait: float) -> Iterator[None]:
        """Hold the grid's folder for a sync; what is remembered of MLflow is void if another process had it between."""
        last = self._store.root / ".mlflow.last"
        with self._lock.acquire(timeout=wait):
            if not last.is_file() or last.read_bytes() != self._name.encode():
                self._mirror = None
                write_bytes(last, self._name.encode(), sync=False)
            yield


@dataclass
class _CellRun:
    """A run as MLflow has it: `state` is that of an ended run, None while it is RUNNING."""

    run_id: str
    cell_id: str
    attempt: str
    state: str | None = None
    deleted: bool = False
    params_sent: set[str] = field(default_factory=set)
    has_data: bool = False
    rounds_sent: set[int] = field(default_factory=set)
    bad_rounds: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Look:
    """What a sync saw of a cell: it is read again when this changes."""

    files: tuple[Any, ...]
    state: str


@dataclass
class _Mirror:
    """One grid's experiment and what is known to be in it."""

    client: "MlflowClient"
    store: Store
    experiment: str
    parent: str
    runs: dict[str, _CellRun]
    grid_said: tuple[str, str | None]
    database: tuple[int, int] | None
    seen: dict[str, _Look] = field(default_factory=dict)

    def update(self, plan: Mapping[str, Any], running: bool) -> None:
        """Send all that is new in the store."""
        cells = [PlannedCell(**cell) for cell in plan["cells"]]
        for cell in cells:
            look = self._look(cell.cell_id)
            if self.seen.get(cell.cell_id) != look:
                self._update_cell(cell, look.state)
                self.seen[cell.cell_id] = look
        states = {cell.cell_id: self.seen[cell.cell_id].state for cell in cells}
        self._end_left(states)
        self._update_grid(list(states.values()), running)

    def _look(self, cell_id: str) -> _Look:
        folder, known = self.store.cell(cell_id), self.seen.get(cell_id)
        files = tuple(_signature(folder.path / name) for name in _WATCHED)
        if known is not None and known.files == files and known.state in _ENDED:
            return known
        return _Look(files, folder.state())

    def _update_cell(self, cell: PlannedCell, on_disk: str) -> None:
        folder = self.store.cell(cell.cell_id)
        manifest = folder.manifest()
        if manifest is None:
            return
        run = self.runs.get(manifest["attempt"]) or self._create(cell, manifest)
        self._supersede(run)
        state = on_disk if on_disk in STATUS else "stopped"
        if run.deleted or run.state == state:
            return
        self._send_params(run, cell)
        result, error = folder.result() or {}, folder.error() or {}
        rounds = self._send_rounds(run, folder, manifest)
        self._send_data(run, result or manifest)
        if state != "running":
            self._send_end(run, folder, state, result, error, rounds)
        last_seen = rounds[-1]["time"] if rounds else manifest["started"]
        self._set_state(run, state, result.get("finished") or error.get("time") or last_seen)

    def _create(self, cell: PlannedCell, manifest: Mapping[str, Any]) -> _CellRun:
        """A new run for an attempt at a cell."""
        environment = manifest.get("environment") or {}
        tags = {
            "mlflow.parentRunId": self.parent,
            "mlflow.source.name": "bench.grid",
            "mlflow.source.git.commit": environment.get("commit"),
            "results": str(self.store.root.absolute()),
            "cell_id": cell.cell_id,
            "train_id": cell.train_id,
            "attempt": manifest["attempt"],
            "state": "running",
            "device": environment.get("device"),
        } | cell.labels
        run = self.client.create_run(
            self.experiment,
            start_time=_milliseconds(manifest["started"]),
            tags={key: _text(value)[:_LONGEST_TAG] for key, value in tags.items() if value is not None},
            run_name=run_name(cell.labels),
        )
        made = _CellRun(run.info.run_id, cell.cell_id, manifest["attempt"])
        self.runs[made.attempt] = made
        return made

    def _supersede(self, current: _CellRun) -> None:
        """Runs of earlier attempts at the cell go to MLflow's bin, from where they can be restored."""
        for run in self.runs.values():
            if run.cell_id == current.cell_id and run.attempt != current.attempt and not run.deleted:
                if run.state is None:
                    self._set_state(run, "stopped", None)
                self.client.set_tag(run.run_id, "superseded_by", current.attempt)
                self.client.delete_run(run.run_id)
                run.deleted = True

    def _send_params(self, run: _CellRun, cell: PlannedCell) -> None:
        from mlflow.entities import Param

        missing = {key: value for key, value in flatten(cell.config) if key not in run.params_sent}
        self._log(run.run_id, params=[Param(key, _text(value)[:_LONGEST_PARAM]) for key, value in missing.items()])
        run.params_sent |= missing.keys()

    def _send_rounds(self, run: _CellRun, folder: CellFolder, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Log the rounds that are new; returns all of the attempt, one line each.

        Lines from before the attempt count only if it goes on from them or reuses their training: else they are
        about to be replaced.
        """
        lines = _lines(folder, "metrics.jsonl", "round", "time")
        earlier = bool(lines) and lines[0]["time"] < manifest["started"]
        if earlier and "resumed" not in manifest and folder.trained() is None:
            return []
        rounds: dict[int, dict[str, Any]] = {}
        for line in lines:  # the first of a round counts, so that sending again is sending the same
            rounds.setdefault(line["round"], line)
        metrics: list[Metric] = []
        groups = {line["round"]: line for line in _lines(folder, "heldout.jsonl", "round")}
        bad = set(run.bad_rounds)
        for number in sorted(rounds.keys() - run.rounds_sent):
            values = {key: value for key, value in rounds[number].items() if key not in ("round", "time")}
            values |= _groups(groups.get(number, {}))
            bad |= _not_finite(values)
            metrics += _metrics(values, rounds[number]["time"], number)
        self._log(run.run_id, metrics=metrics)
        if bad != run.bad_rounds:
            self.client.set_tag(run.run_id, "not_finite_rounds", " ".join(sorted(bad)))
        run.rounds_sent, run.bad_rounds = set(rounds), bad
        return [rounds[number] for number in sorted(rounds)]

    def _send_data(self, run: _CellRun, source: Mapping[str, Any]) -> None:
        """The data set as the run's input, from what the cell recorded of it: no image is loaded."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = source.get("data")
        if run.has_data or not data:
            return
        profile = {key: value for key, value in data.items() if key not in ("name", "digest")}
        dataset = Dataset(
            name=data["name"],
            digest=str(data["digest"])[:_LONGEST_DIGEST],
            source_type="name",
            source=json.dumps({"name": data["name"], "digest": data["digest"]}),
            profile=json.dumps(profile | {"num_rows": data.get("n_train")}),
        )
        self.client.log_inputs(run.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
        run.has_data = True

    def _send_end(
        self,
        run: _CellRun,
        folder: CellFolder,
        state: str,
        result: Mapping[str, Any],
        error: Mapping[str, Any],
        rounds: Sequence[Mapping[str, Any]],
    ) -> None:
        """Scores and artifacts of a cell that ended, or why it failed."""
        if result:
            last = dict(rounds[-1]) if rounds else {}
            values = {key: value for key, value in final_values(result).items() if key not in last}
            self._log(run.run_id, metrics=_metrics(values, result["finished"], last.get("round", 0)))
            curve: list[Metric] = []
            times = {line["round"]: line["time"] for line in rounds}
            for scores in _curve(folder):
                told = {f"curve_{key}": scores[key] for key in _CURVE if scores.get(key) is not None}
                when = times.get(scores["round"], result["finished"])
                curve += _metrics(told, when, scores["round"])
            self._log(run.run_id, metrics=curve)
            if bad := _not_finite(values):
                self.client.set_tag(run.run_id, "not_finite", " ".join(sorted(bad)))
        if error and state != "done":
            self.client.set_tag(run.run_id, "error", str(error.get("error"))[:_LONGEST_TAG])
        self._send_files(run.run_id, folder.path, CELL_ARTIFACTS)

    def _set_state(self, run: _CellRun, state: str, ended: float | None) -> None:
        """Tag first, status last: a run that has ended is complete."""
        status = STATUS[state]
        self.client.set_tag(run.run_id, "state", state)
        if status != "RUNNING":
            self.client.set_terminated(run.run_id, status, _milliseconds(ended or time.time()))
        elif run.state is not None:
            self.client.update_run(run.run_id, status)
        run.state = None if state == "running" else state

    def _end_left(self, states: Mapping[str, str]) -> None:
        """End the runs of cells that nobody works at, those that the plan or the disk no longer knows among them."""
        for run in self.runs.values():
            if run.state is None and not run.deleted:
                on_disk = states.get(run.cell_id) or self.store.cell(run.cell_id).state()
                if on_disk != "running":
                    self._set_state(run, "stopped", None)

    def _update_grid(self, states: Sequence[str], running: bool) -> None:
        """The parent run: how many cells are done, and at the end its tables and figures."""
        status = "RUNNING" if running or "running" in states else _grid_status(states)
        told = (status, f"{states.count('done')} of {len(states)}")
        if not running:
            self._send_files(self.parent, self.store.root, GRID_ARTIFACTS)
        if told == self.grid_said:
            return
        self.client.set_tag(self.parent, "cells_done", told[1])
        if status == "RUNNING":
            self.client.update_run(self.parent, status)
        else:
            self.client.set_terminated(self.parent, status)
        self.grid_said = told

    def _send_files(self, run_id: str, folder: Path, names: Iterable[str]) -> None:
        for name in names:
            if (folder / name).exists():
                self.client.log_artifact(run_id, str(folder / name))

    def _log(self, run_id: str, **entities: Sequence[Any]) -> None:
        """One `log_batch`, or as many as MLflow's limits ask for."""
        for kind, items in entities.items():
            for first in range(0, len(items), _BATCH[kind]):
                self.client.log_batch(run_id, **{kind: items[first : first + _BATCH[kind]]})  # type: ignore[arg-type]


def run_name(labels: Mapping[str, Any]) -> str:
    """A cell's name from its labels, e.g. ``fedavg n=5 beta=0.1 seed=0``."""
    short = {"n_clients": "n"}
    rest = [
        f"{short.get(key, key)}={value:g}" if isinstance(value, float) else f"{short.get(key, key)}={_text(value)}"
        for key, value in labels.items()
        if key != "strategy" and value is not None
    ]
    return " ".join([str(labels["strategy"]), *rest])


def final_values(result: Mapping[str, Any]) -> dict[str, float | None]:
    """All that result.json measured by metric name.

    The metrics, floor_* of real images, class_share_<k>, and of the diagnostics heldout_t_<k> by bin of timesteps,
    heldout_class_<k> and heldout_client_<i>; what no image was held out for is left out.
    """
    values = dict(result["metrics"])
    values |= {f"floor_{key}": value for key, value in (result.get("floor") or {}).items()}
    for key, name in (("t_loss", "heldout_t"), ("class_loss", "heldout_class"), ("client_loss", "heldout_client")):
        losses = (result.get("diagnostics") or {}).get(key) or []
        values |= {f"{name}_{k}": loss for k, loss in enumerate(losses) if loss is not None}
    shares = result.get("class_histogram") or []
    return values | {f"class_share_{k}": share for k, share in enumerate(shares)}


# ---------------------------------------------------------------------------------------------- connecting


def _connect(store: Store, uri: str, plan: Mapping[str, Any]) -> _Mirror:
    """The grid's experiment and parent run, made where they are missing, and the cells' runs that are there."""
    from mlflow.entities import RunTag
    from mlflow.tracking import MlflowClient

    _create_database(uri)
    _check_database(uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = _experiment(client, store, uri, plan["name"])
    results = str(store.root.absolute())
    known = [run for run in _all_runs(client, experiment) if run.data.tags.get("results") == results]
    cells = _one_each(client, known, "attempt")
    parents = _one_each(client, [run for run in known if run.info.lifecycle_stage == "active"], "grid")
    parent = parents.get(plan["name"]) or _create_parent(client, experiment, plan, results)
    nested = RunTag("mlflow.parentRunId", parent.info.run_id)
    for run in cells.values():
        if run.info.lifecycle_stage == "active" and run.data.tags.get(nested.key) != nested.value:
            client.set_tag(run.info.run_id, nested.key, nested.value)
    return _Mirror(
        client,
        store,
        experiment,
        parent.info.run_id,
        {attempt: _remember(run) for attempt, run in cells.items()},
        grid_said=(parent.info.status, parent.data.tags.get("cells_done")),
        database=_file_id(_database_file(uri)),
    )


def _experiment(client: "MlflowClient", store: Store, uri: str, name: str) -> str:
    """The id of the grid's experiment."""
    found = client.get_experiment_by_name(name)
    if found is None:
        location = None if _is_remote(uri) else (store.root.parent.absolute() / "mlartifacts" / name).as_uri()
        return str(client.create_experiment(name, artifact_location=location))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _one_each(client: "MlflowClient", runs: Iterable["Run"], tag: str) -> dict[str, "Run"]:
    """One run for each value of the tag: the active one, the ended one, the oldest.

    A request is repeated when its answer is lost, so there may be several: the others go to MLflow's bin.
    """

    def rank(run: "Run") -> tuple[bool, bool]:
        return run.info.lifecycle_stage != "active", run.info.status == "RUNNING"

    found: dict[str, Run] = {}
    for run in sorted((run for run in runs if tag in run.data.tags), key=rank):
        kept = found.setdefault(run.data.tags[tag], run)
        if run is not kept and run.info.lifecycle_stage == "active":
            client.delete_run(run.info.run_id)
    return found


def _create_parent(client: "MlflowClient", experiment: str, plan: Mapping[str, Any], results: str) -> "Run":
    tags = {
        "grid": plan["name"],
        "results": results,
        "mlflow.source.name": "bench.grid",
        "mlflow.note.content": plan.get("description") or "",
    }
    return client.create_run(experiment, tags=tags, run_name=f"grid {plan['name']}")


def _all_runs(client: "MlflowClient", experiment: str) -> Iterator["Run"]:
    """All runs of the experiment, deleted ones too, oldest first."""
    from mlflow.entities import ViewType

    token = None
    while True:
        page = client.search_runs(
            [experiment], run_view_type=ViewType.ALL, order_by=["attributes.start_time ASC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _remember(run: "Run") -> _CellRun:
    tags = run.data.tags
    return _CellRun(
        run_id=run.info.run_id,
        cell_id=tags["cell_id"],
        attempt=tags["attempt"],
        state=None if run.info.status == "RUNNING" else tags["state"],
        deleted=run.info.lifecycle_stage != "active",
        params_sent=set(run.data.params),
        has_data=bool(run.inputs and run.inputs.dataset_inputs),
    )


def _database_file(uri: str) -> Path | None:
    """Where a SQLite store lies; None for other stores."""
    from sqlalchemy.engine import make_url

    path = make_url(uri).database if uri.startswith("sqlite:///") else None
    return None if not path or path == ":memory:" or path.startswith("file:") else Path(path)


def _create_database(uri: str) -> None:
    """Make a new SQLite store elsewhere and put it in place whole: one that is killed halfway is broken for good."""
    path = _database_file(uri)
    if path is None or _has_content(path):
        return
    from mlflow.tracking import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock"), timeout=_LAST_WAIT), tempfile.TemporaryDirectory() as folder:
        if not _has_content(path):  # another grid's process may have made it meanwhile
            draft = Path(folder) / "mlflow.db"
            MlflowClient(tracking_uri=f"sqlite:///{draft}").search_experiments()
            write_bytes(path, draft.read_bytes())


def _has_content(path: Path) -> bool:
    """Whether there is a database, whole or broken; an empty file is what opening a missing one leaves."""
    return path.is_dir() or (path.exists() and path.stat().st_size > 0)


def _check_database(uri: str) -> None:
    """Open a database once, and take a SQLite one's lock: MLflow tries for minutes to open what cannot be opened.

    Raises:
        SQLAlchemyError: if that fails.
    """
    from mlflow.store.db.db_types import DATABASE_ENGINES
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    dialect = re.split(r"[+:]", uri, maxsplit=1)[0]
    if dialect in DATABASE_ENGINES and "://" in uri:
        with create_engine(uri, poolclass=NullPool).connect() as connection:
            if dialect == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what others tell about new stores, retries and failures: a failure is raised as one line."""
    loggers = [logging.getLogger(name) for name in ("mlflow.store.db.utils", "alembic", "urllib3.connectionpool")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


# ---------------------------------------------------------------------------------------------- values


def _lines(folder: CellFolder, name: str, *keys: str) -> list[dict[str, Any]]:
    """The lines of a log, which have these keys; none, with a warning, if it is damaged."""
    try:
        lines = folder.lines(name)
        if not all(line.keys() >= set(keys) for line in lines):
            raise Damaged(f"a line lacks {' or '.join(keys)}")
    except Damaged as error:
        warnings.warn(f"{folder.path / name} is broken ({error}) and is not sent to MLflow", stacklevel=2)
        return []
    return lines


def _curve(folder: CellFolder) -> list[dict[str, Any]]:
    """The scores of images drawn after some rounds; none, with a warning, if their file is damaged."""
    try:
        return list((read_json(folder.path / "curve.json") or {}).get("curve", []))
    except Damaged as error:
        warnings.warn(f"{folder.path / 'curve.json'} is broken ({error}) and is not sent to MLflow", stacklevel=2)
        return []


def _groups(line: Mapping[str, Any]) -> dict[str, float]:
    """A round's held-out loss by class, round_class_<k>, and the spread over clients, round_client_sd and _max."""
    values = {f"round_class_{k}": loss for k, loss in enumerate(line.get("class_loss", [])) if loss is not None}
    clients = [loss for loss in line.get("client_loss", []) if loss is not None]
    if clients:
        values |= {"round_client_sd": statistics.pstdev(clients), "round_client_max": max(clients)}
    return values


def _metrics(values: Mapping[str, float | None], seconds: float, step: int) -> list["Metric"]:
    """Metrics at one step and time; what is not a finite number becomes NaN."""
    from mlflow.entities import Metric

    bad = _not_finite(values)
    when = _milliseconds(seconds)
    return [Metric(key, math.nan if key in bad else float(value or 0), when, step) for key, value in values.items()]


def _not_finite(values: Mapping[str, float | None]) -> set[str]:
    """Names of values that are no finite number (the store writes them as null)."""
    return {key for key, value in values.items() if value is None or not math.isfinite(value)}


def _text(value: Any) -> str:
    """Texts as they are, anything else as JSON, so that tags and parameters read as in the grid's file."""
    return value if isinstance(value, str) else json.dumps(value)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _signature(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file does; None while there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _file_id(path: Path | None) -> tuple[int, int] | None:
    """Changes when another file takes the place of this one."""
    try:
        stat = path.stat() if path is not None else None
    except FileNotFoundError:
        return None
    return None if stat is None else (stat.st_dev, stat.st_ino)


def _grid_status(states: Sequence[str]) -> str:
    if any(STATUS.get(state) == "FAILED" for state in states):
        return "FAILED"
    return "FINISHED" if set(states) <= {"done"} else "KILLED"


def _is_remote(uri: str) -> bool:
    """Whether a server chooses where artifacts lie."""
    return not uri.startswith("sqlite:")


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]+@", "//***@", text)
