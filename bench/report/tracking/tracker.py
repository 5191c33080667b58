"""The tracker of a process that runs a grid: it takes turns with others, and raises MLflow's failures in one line."""

import os
import shlex
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from bench.report.tracking import databases
from bench.report.tracking.mirror import Mirror, connect
from bench.store.files import write_bytes
from bench.store.grid_folder import Store


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
        self._mirror: Mirror | None = None

    def hint(self) -> str:
        """How to look at the runs: a command for a local store, the address of a server."""
        uri = databases.without_password(self.uri)
        if uri.startswith(("http://", "https://")):
            return uri
        return f"mlflow ui --host 127.0.0.1 --backend-store-uri {shlex.quote(uri)}"

    def sync(self, running: bool) -> None:
        """Send what MLflow lacks; cheap where nothing is new.

        Args:
            running: whether this process goes on to run cells. If so, nothing is done while another process syncs.
                If not, this is its last sync, which waits for others: means over seeds, tables and figures are sent,
                and the grid's run is ended unless another process works at one of its cells.
        Raises:
            TrackingError: if MLflow or its store fails.
            FileNotFoundError: if no grid was run into the store.
        """
        self._store.plan()
        databases.set_defaults(self.uri)
        from alembic.util import CommandError
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with self._turn(0.0 if running else databases.LAST_WAIT), databases.quiet():
                self._update(running)
        except Timeout as error:
            self._mirror = None
            if not running:
                message = f"another process has been syncing for {databases.LAST_WAIT:.0f} seconds"
                raise TrackingError(message) from error
        except (MlflowException, SQLAlchemyError, CommandError, OSError, ImportError) as error:
            self._mirror = None  # what it remembers as sent may not have arrived
            first_line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise TrackingError(databases.without_password(f"{self.uri}: {first_line.strip()}")) from error

    def _update(self, running: bool) -> None:
        plan, database = self._store.plan(), databases.file_id(databases.database_file(self.uri))
        if self._mirror is None or self._mirror.database != database:
            self._mirror = connect(self._store, self.uri, plan)
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
