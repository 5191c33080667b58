"""A run for the present attempt at each cell, kept up with the cell's files while it runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.config.cell import flatten
from bench.report.metrics import OF_IMAGES
from bench.report.results import Cell, Group
from bench.report.tracking.images import send_sheets
from bench.report.tracking.send import LONGEST_DIGEST, Sender
from bench.report.tracking.values import (
    by_group,
    course,
    course_metrics,
    filter_tags,
    final_values,
    metrics,
    not_finite,
    signature,
)
from bench.store import records
from bench.store.grid_folder import PlannedCell, Store
from bench.store.records import FAILURES, DataSet, Manifest, Result

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

CELL_ARTIFACTS = (
    *("samples.png", "samples_viridis.png", "samples_clients.png", "film.gif", "reconstructions.png"),
    *("partition.png", "diagnostics.png", "rounds.png"),
    *(
        kind.FILE
        for kind in (records.Visit, records.Validation, records.Curve, records.Diagnostics, records.Likelihood)
    ),
    *(kind.FILE for kind in (Result, records.Failure)),
)
STATUS: dict[str, str] = {"done": "FINISHED", "running": "RUNNING", "stopped": "KILLED"}
STATUS |= dict.fromkeys(FAILURES, "FAILED")

_WATCHED = tuple(kind.FILE for kind in (Manifest, records.Round, records.Trained, Result, records.Failure))
_ENDED = ("done", *FAILURES)  # states that follow from a cell's files alone
Fingerprint = tuple[tuple[Any, ...], str]  # a cell's files and its state; the cell is read again when they change


@dataclass
class CellRun:
    """A run as MLflow has it: `state` is that of an ended run, None while it is RUNNING."""

    run_id: str
    cell_id: str
    attempt: str
    state: str | None = None
    deleted: bool = False
    in_plan: str | None = None
    params_sent: set[str] = field(default_factory=set)
    has_data: bool = False
    rounds_sent: set[int] = field(default_factory=set)
    bad_rounds: set[str] = field(default_factory=set)


@dataclass
class CellRuns:
    """The runs of a grid's cells, by attempt; `seen` is each cell at the last sync."""

    sender: Sender
    store: Store
    runs: dict[str, CellRun]
    seen: dict[str, Fingerprint] = field(default_factory=dict)

    def update(self, cells: Sequence[PlannedCell], titles: Mapping[str, str]) -> dict[str, str]:
        """Send all that is new; returns the state of each cell. For `titles` see `bench.report.results.Results`."""
        for cell in cells:
            files, state = self._fingerprint(cell.cell_id)
            if self.seen.get(cell.cell_id) != (files, state):
                self._update_cell(Cell(cell, self.store.cell(cell.cell_id), titles), state)
                self.seen[cell.cell_id] = files, state
        states = {cell.cell_id: self.seen[cell.cell_id][1] for cell in cells}
        self._end_left(states)
        self._mark_planned(states)
        return states

    def _fingerprint(self, cell_id: str) -> Fingerprint:
        folder, last = self.store.cell(cell_id), self.seen.get(cell_id)
        files = tuple(signature(folder.path / name) for name in _WATCHED)
        return last if last and last[0] == files and last[1] in _ENDED else (files, folder.state())

    def _update_cell(self, cell: Cell, on_disk: str) -> None:
        manifest = cell.manifest
        if manifest is None:
            return
        run = self.runs.get(manifest.attempt) or self._create(cell, manifest)
        self._supersede(run)
        state = on_disk if on_disk in STATUS else "stopped"
        if run.deleted or run.state == state:
            return
        missing = {key: value for key, value in flatten(cell.config) if key not in run.params_sent}
        self.sender.log(run.run_id, params=missing)
        run.params_sent |= missing.keys()
        self._send_rounds(run, cell)
        self._send_data(run, (cell.result or manifest).data)
        if state != "running":
            self._send_end(run, cell)
        last_round = cell.rounds[-1].time if cell.rounds else manifest.started
        failed = cell.failure.time if cell.failure else None
        self._set_state(run, state, cell.result.finished if cell.result else failed or last_round)

    def _create(self, cell: Cell, manifest: Manifest) -> CellRun:
        """A new run for an attempt at a cell."""
        tags = {
            "kind": "cell",
            "in_plan": "true",
            "mlflow.source.git.commit": manifest.environment.commit,
            "cell_id": cell.cell_id,
            "train_id": cell.planned.train_id,
            "attempt": manifest.attempt,
            "state": "running",
            "device": manifest.environment.device,
        }
        run_id = self.sender.create(cell.name, tags | filter_tags(cell.planned), manifest.started)
        run = CellRun(run_id, cell.cell_id, manifest.attempt, in_plan="true")
        self.runs[run.attempt] = run
        return run

    def _supersede(self, current: CellRun) -> None:
        """Runs of earlier attempts at the cell go to MLflow's bin, from where they can be restored."""
        for run in self.runs.values():
            if run.cell_id == current.cell_id and run.attempt != current.attempt and not run.deleted:
                if run.state is None:
                    self._set_state(run, "stopped", None)
                self.sender.log(run.run_id, tags={"superseded_by": current.attempt})
                self.sender.client.delete_run(run.run_id)
                run.deleted = True

    def _send_rounds(self, run: CellRun, cell: Cell) -> None:
        """Log the rounds that are new; a new attempt has removed those that it does not go on from."""
        new: list[Metric] = []
        groups = {line.round: line for line in cell.validation}
        bad = set(run.bad_rounds)
        for line in (line for line in cell.rounds if line.round not in run.rounds_sent):
            values = line.model_dump(exclude={"round", "time"})
            values |= by_group(groups[line.round]) if line.round in groups else {}
            bad |= not_finite(values)
            new += metrics(values, line.time, line.round)
        tags = {"not_finite_rounds": " ".join(sorted(bad))} if bad != run.bad_rounds else {}
        self.sender.log(run.run_id, metrics=new, tags=tags)
        run.rounds_sent, run.bad_rounds = {line.round for line in cell.rounds}, bad

    def _send_data(self, run: CellRun, data: DataSet | None) -> None:
        """The data set as the run's input, from what the cell recorded of it: no image is loaded."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if run.has_data or data is None or data.digest is None:
            return
        profile = data.model_dump(exclude={"name", "digest"}, exclude_unset=True)
        dataset = Dataset(
            name=data.name,
            digest=data.digest[:LONGEST_DIGEST],
            source_type="name",
            source=json.dumps({"name": data.name, "digest": data.digest}),
            profile=json.dumps(profile | {"num_rows": data.n_train}),
        )
        self.sender.client.log_inputs(
            run.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
        )
        run.has_data = True

    def _send_end(self, run: CellRun, cell: Cell) -> None:
        """Scores, pictures and artifacts of a cell that ended, or why it failed."""
        if cell.result:
            self._send_result(run, cell, cell.result)
        elif cell.failure:
            self.sender.log(run.run_id, tags={"error": cell.failure.error})
        for name in CELL_ARTIFACTS:
            self.sender.file(run.run_id, cell.folder.path / name)

    def _send_result(self, run: CellRun, cell: Cell, result: Result) -> None:
        """Scores, the course of the cell on comparable axes, and sheets of its samples."""
        last = cell.rounds[-1] if cell.rounds else None
        number, logged = (last.round, last.known()) if last else (0, {})
        values = {key: value for key, value in final_values(result).items() if key not in logged}
        sent = metrics(values, result.finished, number)
        group, keys = Group((cell,)), ["megabytes", *(f"curve_{key}" for key in OF_IMAGES)]
        sent += course_metrics(group, course(group), keys)
        bad = not_finite(values)
        self.sender.log(run.run_id, metrics=sent, tags={"not_finite": " ".join(sorted(bad))} if bad else {})
        times = {line.round: line.time for line in cell.rounds}
        send_sheets(self.sender, run.run_id, cell.folder, number, result.finished, times)

    def _set_state(self, run: CellRun, state: str, ended: float | None) -> None:
        """Tag first, status last: a run that has ended is complete."""
        self.sender.log(run.run_id, tags={"state": state})
        if state != "running" or run.state is not None:
            self.sender.status(run.run_id, STATUS[state], ended)
        run.state = None if state == "running" else state

    def _end_left(self, states: Mapping[str, str]) -> None:
        """End the runs of cells at which no process works, also of cells that left the plan or the disk."""
        for run in self.runs.values():
            if run.state is None and not run.deleted:
                on_disk = states.get(run.cell_id) or self.store.cell(run.cell_id).state()
                if on_disk != "running":
                    self._set_state(run, "stopped", None)

    def _mark_planned(self, states: Mapping[str, str]) -> None:
        """Tag each run by whether the present plan names its cell."""
        for run in self.runs.values():
            wanted = "true" if run.cell_id in states else "false"
            if run.in_plan != wanted and not run.deleted:
                self.sender.log(run.run_id, tags={"kind": "cell", "in_plan": wanted})
                run.in_plan = wanted


def remember(run: "Run") -> CellRun:
    """A run as it is found in MLflow."""
    tags = run.data.tags
    return CellRun(
        run_id=run.info.run_id,
        cell_id=tags["cell_id"],
        attempt=tags["attempt"],
        state=None if run.info.status == "RUNNING" else tags["state"],
        deleted=run.info.lifecycle_stage != "active",
        in_plan=tags.get("in_plan"),
        params_sent=set(run.data.params),
        has_data=bool(run.inputs and run.inputs.dataset_inputs),
    )
