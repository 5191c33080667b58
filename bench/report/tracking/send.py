"""Requests to MLflow about the runs of one grid, in as few as its limits allow."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config.names import exact_text
from bench.report.tracking.values import milliseconds

if TYPE_CHECKING:  # MLflow takes seconds to import, so it is imported when the first sync needs it
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

BATCH = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits for one request
LONGEST_PARAM, LONGEST_TAG, LONGEST_NOTE, LONGEST_DIGEST = 6000, 5000, 8000, 36
NOTE = "mlflow.note.content"  # what MLflow shows as a run's description
PARENT = "mlflow.parentRunId"


@dataclass(frozen=True)
class Sender:
    """Makes a grid's runs and sends to them.

    Attributes:
        experiment: its id.
        results: the grid's folder, a tag of all its runs.
        parent: the grid's own run, below which new runs stand; "" for that run itself.
    """

    client: "MlflowClient"
    experiment: str
    results: str
    parent: str = ""

    def create(self, name: str, tags: Mapping[str, Any], started: float | None = None) -> str:
        """A new run's id; `started` in seconds since the epoch, now if None."""
        common = {"mlflow.source.name": "bench.grid", "results": self.results, PARENT: self.parent or None}
        when = milliseconds(started or time.time())
        return str(self.client.create_run(self.experiment, when, _cut(common | dict(tags)), name).info.run_id)

    def log(
        self,
        run_id: str,
        metrics: Sequence["Metric"] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """One `log_batch`, or as many as MLflow's limits ask for; texts are cut to the length that it takes."""
        from mlflow.entities import Param, RunTag

        entities: dict[str, Sequence[Any]] = {
            "metrics": metrics,
            "params": [Param(key, exact_text(value)[:LONGEST_PARAM]) for key, value in (params or {}).items()],
            "tags": [RunTag(key, text) for key, text in _cut(tags or {}).items()],
        }
        for kind, items in entities.items():
            for first in range(0, len(items), BATCH[kind]):
                self.client.log_batch(run_id, **{kind: items[first : first + BATCH[kind]]})

    def file(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """Attach a file, if it is there, in that folder of the run's artifacts."""
        if path.is_file():
            self.client.log_artifact(run_id, str(path), folder)

    def status(self, run_id: str, status: str, ended: float | None = None) -> None:
        """Set a run's status; `ended` in seconds since the epoch, now if None."""
        if status == "RUNNING":
            self.client.update_run(run_id, status)
        else:
            self.client.set_terminated(run_id, status, milliseconds(ended or time.time()))


def _cut(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags as texts of the length that MLflow takes; those that are None are left out."""
    longest = {NOTE: LONGEST_NOTE}
    return {k: exact_text(value)[: longest.get(k, LONGEST_TAG)] for k, value in tags.items() if value is not None}
