"""Requests to MLflow that all kinds of runs make, in as few as its limits allow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config.names import exact_text

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

BATCH = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits for one request
LONGEST_PARAM, LONGEST_TAG, LONGEST_NOTE, LONGEST_DIGEST = 6000, 5000, 8000, 36
NOTE = "mlflow.note.content"  # what MLflow shows as a run's description


def log(client: "MlflowClient", run_id: str, **entities: Sequence[Any]) -> None:
    """One `log_batch`, or as many as MLflow's limits ask for."""
    for kind, items in entities.items():
        for first in range(0, len(items), BATCH[kind]):
            client.log_batch(run_id, **{kind: items[first : first + BATCH[kind]]})  # type: ignore[arg-type]


def send_tags(client: "MlflowClient", run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags, all in one request."""
    from mlflow.entities import RunTag

    log(client, run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def send_params(client: "MlflowClient", run_id: str, params: Mapping[str, Any]) -> None:
    """Log parameters, cut to the length that MLflow takes."""
    from mlflow.entities import Param

    log(client, run_id, params=[Param(key, exact_text(value)[:LONGEST_PARAM]) for key, value in params.items()])


def send_file(client: "MlflowClient", run_id: str, path: Path, folder: str | None = None) -> None:
    """Attach a file, if it is there, in that folder of the run's artifacts."""
    if path.is_file():
        client.log_artifact(run_id, str(path), folder)


def cut(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags as texts of the length that MLflow takes; those that are None are left out."""
    return {key: exact_text(value)[:LONGEST_TAG] for key, value in tags.items() if value is not None}
