"""Who works at a cell: a file that names a process, so that several runs can share one results folder.

The lock of a process that is gone is broken; that of a living one is respected; of a process on another host (or in
another container) nothing can be known, so it is respected unless it is said that all of them are gone.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from bench.store.files import Damaged, read_json, write_json

LOCK = "lock.json"
_GUARD = ".locks"  # held for the instant in which locks are looked at and changed


@dataclass(frozen=True)
class Owner:
    """A process that works at a cell.

    Attributes:
        host: where it runs; process numbers mean nothing elsewhere.
        pid, born: its number, and when it began, see `born`: numbers are given again.
        run: of which run of the command line it is a part.
        time: when it took the lock.
    """

    host: str
    pid: int
    born: float
    run: str
    time: float

    @property
    def here(self) -> bool:
        """Whether it is of this host."""
        return self.host == this_host()

    def lives(self) -> bool:
        """Whether it is running; True for another host's, of which nothing is known."""
        if not self.here:
            return True
        try:
            status = psutil.Process(self.pid).status()
            return abs(born(self.pid) - self.born) < 1 and status != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


def born(pid: int) -> float:
    """Seconds from the machine's start to the process's: the clock may be set meanwhile."""
    return psutil.Process(pid).create_time() - psutil.boot_time()


def this_host() -> str:
    """This machine's name, with the number of the process namespace, since containers may share the name."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return socket.gethostname()


def owner(folder: Path) -> Owner | None:
    """Who has the lock of a cell's folder, living or not; None if nobody has.

    Raises:
        Damaged: if the lock cannot be read.
    """
    found = read_json(folder / LOCK)
    try:
        return None if found is None else Owner(**found)
    except TypeError as error:
        raise Damaged(str(error)) from error


def is_locked(folder: Path) -> bool:
    """Whether a living process, or one on another host, works at the cell."""
    try:
        found = owner(folder)
    except Damaged:
        return False
    return found is not None and found.lives()


def is_free(folder: Path, run: str, break_locks: bool = False) -> bool:
    """Whether `hold` would get the lock."""
    if not is_locked(folder):
        return True
    found = owner(folder)
    return found is not None and not found.here and (break_locks or found.run == run)


def left_behind(folder: Path) -> Owner | None:
    """Who had the lock and is gone without having let go; processes of other hosts are taken for gone."""
    try:
        found = owner(folder)
    except Damaged:
        return None
    return None if found is None or (found.here and found.lives()) else found


@contextmanager
def hold(folder: Path, run: str, break_locks: bool = False) -> Iterator[bool]:
    """Hold the lock of a cell's folder, which need not exist yet; yields False where another process has it.

    A lock of the same run on another host is of an earlier try at the cell, which was lost.

    Args:
        break_locks: whether locks of other hosts are broken.
    """
    me = Owner(this_host(), os.getpid(), born(os.getpid()), run, time.time())
    folder.mkdir(parents=True, exist_ok=True)
    with _guard(folder):
        free = is_free(folder, run, break_locks)
        if free:  # whatever stands there, a file of a process that is gone or something broken
            write_json(folder / LOCK, asdict(me), sync=False)
    try:
        yield free
    finally:
        if free:
            with _guard(folder), suppress(Damaged):  # a damaged one binds nobody
                if owner(folder) == me:
                    (folder / LOCK).unlink()


def _guard(folder: Path) -> FileLock:
    return FileLock(folder.parent / _GUARD, timeout=60)
