"""One grid's experiment: connecting to it, finding the runs that are there, and bringing all of them up to date."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.report.tracking import databases
from bench.report.tracking.cells import CellRuns, remember
from bench.report.tracking.grid import GridRun, escape
from bench.report.tracking.means import SummaryRuns, remember_all
from bench.report.tracking.send import NOTE, PARENT, Sender
from bench.store.grid_folder import PlannedCell, Store

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient


@dataclass
class Mirror:
    """What is known to be in MLflow; `database` is the file that it was found in."""

    cells: CellRuns
    summaries: SummaryRuns
    grid: GridRun
    database: tuple[int, int] | None

    def update(self, plan: Mapping[str, Any], running: bool) -> None:
        """Send all that is new in the store; means over seeds at the end."""
        states = self.cells.update([PlannedCell(**cell) for cell in plan["cells"]], plan.get("titles", {}))
        if not running:
            self.summaries.update((plan, dict(self.cells.seen)))
        self.grid.update(list(states.values()), running)


def connect(store: Store, uri: str, plan: Mapping[str, Any]) -> Mirror:
    """The grid's experiment and parent run, made where they are missing, and the other runs that are there."""
    from mlflow.tracking import MlflowClient

    databases.create_database(uri)
    databases.check_database(uri)
    client = MlflowClient(tracking_uri=uri)
    sender = Sender(client, _experiment(client, store, uri, plan["name"]), str(store.root.absolute()))
    runs = [run for run in _all_runs(sender) if run.data.tags.get("results") == sender.results]
    active = [run for run in runs if run.info.lifecycle_stage == "active"]
    cells, means = _one_each(client, runs, "attempt"), _one_each(client, active, "summary")
    parent = _one_each(client, active, "grid").get(plan["name"]) or _create_parent(sender, plan)
    own = replace(sender, parent=parent.info.run_id)
    for run in (*cells.values(), *means.values()):
        if run.info.lifecycle_stage == "active" and run.data.tags.get(PARENT) != own.parent:
            own.log(run.info.run_id, tags={PARENT: own.parent})
    if "kind" not in parent.data.tags:
        own.log(own.parent, tags={"kind": "grid"})
    said = parent.info.status, parent.data.tags.get("cells_done")
    return Mirror(
        CellRuns(own, store, {attempt: remember(run) for attempt, run in cells.items()}),
        SummaryRuns(own, store, remember_all(means.items())),
        GridRun(own, store, said, parent.data.tags.get(NOTE, "")),
        databases.file_id(databases.database_file(uri)),
    )


def _experiment(client: "MlflowClient", store: Store, uri: str, name: str) -> str:
    """The id of the grid's experiment."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = None if databases.is_remote(uri) else (store.root.parent.absolute() / "mlartifacts" / name).as_uri()
        return str(client.create_experiment(name, artifact_location=location))
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _one_each(client: "MlflowClient", runs: Iterable["Run"], tag: str) -> dict[str, "Run"]:
    """One run for each value of the tag: the active one, the ended one, the oldest.

    A request is repeated when its answer is lost, so there may be several: the others go to MLflow's bin.
    """

    def rank(run: "Run") -> tuple[bool, bool]:
        return run.info.lifecycle_stage != "active", run.info.status == "RUNNING"

    best: dict[str, Run] = {}
    for run in sorted((run for run in runs if tag in run.data.tags), key=rank):
        if run is not best.setdefault(run.data.tags[tag], run) and run.info.lifecycle_stage == "active":
            client.delete_run(run.info.run_id)
    return best


def _create_parent(sender: Sender, plan: Mapping[str, Any]) -> "Run":
    tags = {"kind": "grid", "grid": plan["name"], NOTE: escape(plan.get("description") or "")}
    return sender.client.get_run(sender.create(f"grid {plan['name']}", tags))


def _all_runs(sender: Sender) -> Iterator["Run"]:
    """All runs of the experiment, deleted ones too, oldest first."""
    from mlflow.entities import ViewType

    token = None
    while True:
        page = sender.client.search_runs(
            [sender.experiment], "", ViewType.ALL, order_by=["attributes.start_time ASC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return
