"""What goes on beside the running cells: progress, syncs to MLflow, interrupts."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from bench.cell.job import CellJob
from bench.report.tracking.tracker import Tracker, TrackingError
from bench.run.plan import Plan
from bench.run.progress import Monitor, View
from bench.store.files import Damaged

LOOK_EVERY = 0.5  # seconds between two looks at the store while cells run
SYNC_EVERY = 2.0  # seconds between two syncs to MLflow
RETRY_EVERY = 30.0  # seconds to the next sync after one that failed
INSIST_EVERY = 15.0  # seconds to the next interrupt where one was not met
JOIN_WITHIN = 10.0  # seconds that the end of a run waits for a sync under way


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C, and a batch system's SIGTERM like it, interrupt what is inside.

    An interrupt that falls into a destructor or a callback is lost there, so it is repeated until it is met.
    """
    asked, left = threading.Event(), threading.Event()
    main_thread = threading.get_ident()

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        asked.set()
        raise KeyboardInterrupt

    def insist() -> None:
        asked.wait()
        while not left.wait(INSIST_EVERY):
            signal.pthread_kill(main_thread, signal.SIGINT)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    threading.Thread(target=insist, name="insist", daemon=True).start()
    try:
        yield
    finally:
        left.set()
        for number, handler in before.items():
            signal.signal(number, handler)


class Watch:
    """While it is entered, one thread shows progress and another syncs MLflow; neither can end the run.

    They are two because the first sync may take ten seconds, in which MLflow makes its database.
    """

    def __init__(self, plan: Plan, jobs: Sequence[CellJob], tracker: Tracker | None, view: View) -> None:
        self._monitor, self._tracker, self._view = Monitor(plan, jobs), tracker, view
        self._stop = threading.Event()
        loops = (self._show_progress, self._sync_mlflow)
        self._threads = [threading.Thread(target=loop, name=loop.__name__, daemon=True) for loop in loops]

    def __enter__(self) -> "Watch":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(JOIN_WITHIN)
        self._view.show(self._monitor.look(), self._monitor)
        self._view.close()

    @property
    def syncing(self) -> bool:
        """Whether a sync hangs on a server that does not answer."""
        return self._threads[1].is_alive()

    def _show_progress(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            self._view.show(self._monitor.look(), self._monitor)

    def _sync_mlflow(self) -> None:
        wait, warned = SYNC_EVERY, False
        while self._tracker is not None and not self._stop.wait(wait):
            error = sync(self._tracker, running=True)
            wait = SYNC_EVERY if error is None else RETRY_EVERY
            if error is not None and not warned:
                self._view.warn(f"{error}; it is tried again every {RETRY_EVERY:.0f} seconds")
                warned = True


def sync(tracker: Tracker, running: bool) -> str | None:
    """Sync to MLflow; what went wrong, or None."""
    try:
        tracker.sync(running=running)
    except (TrackingError, Damaged) as error:
        return f"MLflow is not up to date: {error}; results are safe on disk"
    return None
