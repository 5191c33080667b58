"""One grid's experiment: connecting to it, finding the runs that are there, and bringing all of them up to date."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.report.tracking import databases
from bench.report.tracking.cells import CellRuns, remember
from bench.report.tracking.grid import GridRun, escape
from bench.report.tracking.means import SummaryRuns, remember_all
from bench.report.tracking.send import NOTE
from bench.store.grid_folder import PlannedCell, Store

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_PARENT = "mlflow.parentRunId"


@dataclass
class Mirror:
    """What is known to be in MLflow; `database` is the file that it was found in."""

    cells: CellRuns
    summaries: SummaryRuns
    grid: GridRun
    database: tuple[int, int] | None

    def update(self, plan: Mapping[str, Any], running: bool) -> None:
        """Send all that is new in the store; means over seeds at the end."""
        states = self.cells.update([PlannedCell(**cell) for cell in plan["cells"]])
        if not running:
            self.summaries.update((plan, dict(self.cells.seen)))
        self.grid.update(list(states.values()), running)


def connect(store: Store, uri: str, plan: Mapping[str, Any]) -> Mirror:
    """The grid's experiment and parent run, made where they are missing, and the other runs that are there."""
    from mlflow.tracking import MlflowClient

    databases.create_database(uri)
    databases.check_database(uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = _experiment(client, store, uri, plan["name"])
    results = str(store.root.absolute())
    known = [run for run in _all_runs(client, experiment) if run.data.tags.get("results") == results]
    active = [run for run in known if run.info.lifecycle_stage == "active"]
    cells = _one_each(client, known, "attempt")
    means = _one_each(client, active, "summary")
    parent = _one_each(client, active, "grid").get(plan["name"]) or _create_parent(client, experiment, plan, results)
    for run in (*cells.values(), *means.values()):
        if run.info.lifecycle_stage == "active" and run.data.tags.get(_PARENT) != parent.info.run_id:
            client.set_tag(run.info.run_id, _PARENT, parent.info.run_id)
    if "kind" not in parent.data.tags:
        client.set_tag(parent.info.run_id, "kind", "grid")
    place = (client, store, experiment, parent.info.run_id)
    return Mirror(
        CellRuns(*place, {attempt: remember(run) for attempt, run in cells.items()}),
        SummaryRuns(*place, remember_all(means.items())),
        GridRun(
            client,
            store,
            parent.info.run_id,
            said=(parent.info.status, parent.data.tags.get("cells_done")),
            note=parent.data.tags.get(NOTE, ""),
        ),
        database=databases.file_id(databases.database_file(uri)),
    )


def _experiment(client: "MlflowClient", store: Store, uri: str, name: str) -> str:
    """The id of the grid's experiment."""
    found = client.get_experiment_by_name(name)
    if found is None:
        location = None if databases.is_remote(uri) else (store.root.parent.absolute() / "mlartifacts" / name).as_uri()
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
        "kind": "grid",
        "grid": plan["name"],
        "results": results,
        "mlflow.source.name": "bench.grid",
        NOTE: escape(plan.get("description") or ""),
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
