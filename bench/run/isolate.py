"""A cell in a process of its own, so that nothing it does to its process can touch another one.

``python -m bench.run.isolate PARENT`` is that process: it reads a job as JSON from its input and ends with the process
that started it, whose number is PARENT.
"""

import os
import signal
import subprocess
import sys
import threading
import time

from bench.cell.job import CellJob, from_json, to_json
from bench.cell.run import ended, find_timeout, record_failure, run_cell
from bench.store import locks
from bench.store.files import STORAGE_FULL
from bench.store.grid_folder import Store

GRACE = 60.0  # seconds beyond its time that a process has to start and to end itself
_STORAGE = 100  # exit codes from here are errors of the storage


def run_isolated(job: CellJob) -> None:
    """Run the cell in a process of its own, `job.how.tries` times at most if that dies; then it is recorded as killed.

    Raises:
        OSError: if the disk is full.
    """
    folder = Store(job.root).cell(job.cell_id)
    for _ in range(job.how.tries):
        code = _run_process(job)
        if code - _STORAGE in STORAGE_FULL:
            raise OSError(code - _STORAGE, os.strerror(code - _STORAGE), str(folder.path))
        died = locks.left_behind(folder.path) is not None or code != 0
        if ended(job) or find_timeout(folder) or not died:  # the last: another run had the cell
            return
    tries = f"; that was try {job.how.tries}" if job.how.tries > 1 else ""
    with locks.hold(folder.path, job.how.run) as held:
        if held and not ended(job):
            record_failure(folder, "killed", f"its process {ending(code)}{tries}")


def ending(code: int) -> str:
    """What an exit code says."""
    if code >= 0:
        return f"ended with exit code {code} before the cell did"
    name = signal.Signals(-code).name
    hint = " (by someone, or by the system when memory ran out)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


def _run_process(job: CellJob) -> int:
    """Start the process and wait for it; its exit code."""
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)
    command = [sys.executable, "-m", "bench.run.isolate", str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}) as process:
        limit = None if job.how.timeout is None else job.how.timeout + GRACE
        try:
            process.communicate(to_json(job).encode(), timeout=limit)
        except subprocess.TimeoutExpired:  # stopped, or deep in the system: its own timer did not end it
            process.kill()
            reason = f"not done within --timeout, {job.how.timeout:g} s, and it did not end itself"
            record_failure(Store(job.root).cell(job.cell_id), "timeout", reason)
        finally:
            process.kill()  # where this one is interrupted; nothing if it has ended
    return process.returncode


def end_with(parent: int) -> None:
    """From now on end this process when `parent`, which started it, is gone: a killed grid must not go on writing."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


def main() -> int:
    """Run the job on the input; returns the exit code."""
    end_with(int(sys.argv[1]))  # not os.getppid(): the parent may have died meanwhile
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's: it ends this process
    try:
        run_cell(from_json(sys.stdin.read()))
    except OSError as error:
        if error.errno not in STORAGE_FULL:
            raise
        return _STORAGE + int(error.errno)
    return 0


if __name__ == "__main__":
    sys.exit(main())
