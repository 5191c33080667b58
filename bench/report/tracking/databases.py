"""Where MLflow keeps its runs: SQLite files are made whole, and looked at before MLflow tries for minutes."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from bench.store.files import write_bytes

# Set only where the user did not: a server that is away must not hold up training for minutes, and what is run
# here is nobody else's business.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# MLflow's stores are cached by their address: a pooled connection would go on writing to a file that was deleted.
SQLITE_SETTINGS = {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}
LAST_WAIT = 120.0  # seconds that the last sync waits for another process's, or for it to make a new database


def set_defaults(uri: str) -> None:
    """MLflow's settings, where the user made none."""
    for name, value in (SETTINGS | ({} if is_remote(uri) else SQLITE_SETTINGS)).items():
        os.environ.setdefault(name, value)


def is_remote(uri: str) -> bool:
    """Whether a server chooses where artifacts lie."""
    return not uri.startswith("sqlite:")


def without_password(text: str) -> str:
    """A text in which no address has its password."""
    return re.sub(r"//[^/@\s]+@", "//***@", text)


def database_file(uri: str) -> Path | None:
    """Where a SQLite store lies; None for other stores."""
    from sqlalchemy.engine import make_url

    path = make_url(uri).database if uri.startswith("sqlite:///") else None
    return None if not path or path == ":memory:" or path.startswith("file:") else Path(path)


def file_id(path: Path | None) -> tuple[int, int] | None:
    """Changes when another file takes the place of this one."""
    try:
        stat = path.stat() if path is not None else None
    except FileNotFoundError:
        return None
    return None if stat is None else (stat.st_dev, stat.st_ino)


def create_database(uri: str) -> None:
    """Make a new SQLite store elsewhere and put it in place whole: one that is killed halfway is broken for good."""
    path = database_file(uri)
    if path is None or _has_content(path):
        return
    from mlflow.tracking import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock"), timeout=LAST_WAIT), tempfile.TemporaryDirectory() as folder:
        if not _has_content(path):  # another grid's process may have made it meanwhile
            draft = Path(folder) / "mlflow.db"
            MlflowClient(tracking_uri=f"sqlite:///{draft}").search_experiments()
            write_bytes(path, draft.read_bytes())


def _has_content(path: Path) -> bool:
    """Whether there is a database, whole or broken; an empty file is what opening a missing one leaves."""
    return path.is_dir() or (path.exists() and path.stat().st_size > 0)


def check_database(uri: str) -> None:
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
def quiet() -> Iterator[None]:
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
