"""Runs jobs on joblib's backends, and lets nothing that happens to one worker cost the others' work.

What is left to do is read from disk, over and over until nothing is: after a pool died, and beside other runs that work
in the same folder.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from bench.cell.job import CellJob
from bench.cell.run import ended, find_timeout, run_cell
from bench.config.errors import ConfigError
from bench.run.isolate import end_with, run_isolated
from bench.store import locks
from bench.store.cell_folder import CellFolder
from bench.store.grid_folder import Store

MOST_BARREN = 10  # deaths of pools, one after another, in which no cell was begun
LOOK_EVERY = 1.0  # seconds between two looks at cells that another run works at


def default_n_jobs(jobs: Sequence[CellJob]) -> int:
    """As many cells at once as there are GPUs, or cores for their threads."""
    if any(job.device == "cuda" for job in jobs):
        return torch.cuda.device_count()
    return max(1, joblib.cpu_count() // max((job.config.threads for job in jobs), default=1))


def run(
    jobs: Sequence[CellJob],
    n_jobs: int,
    backend: str = "loky",
    scheduler: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Run jobs, `n_jobs` at a time, until all have ended; those that share their training run one after another.

    A worker that dies takes the pool with it. The cells that were running then go on in a new one, each in a process
    of its own, and one whose process dies once more is recorded as killed. Cells at which another run works are waited
    for, and taken up if it goes away.

    Args:
        backend: one of `BACKENDS`; "dask" and "ray" reach past this machine, on a file system that all share. On
            "threading", where cells would mix their random draws, each has a process of its own.
        scheduler: address of a Dask scheduler or Ray cluster; None starts a local one.
        tell: called with what a person should know.
    Raises:
        ConfigError: if the backend is not installed.
        WorkersDie: if no cell could be begun.
        OSError: if the disk is full.
    """
    if backend == "loky" and all(job.how.isolate for job in jobs):
        backend = "threading"  # workers would do nothing but wait for the cells' processes
    if backend == "threading":
        jobs = [_alone(job, job.how.tries) for job in jobs]
    again: dict[str, CellJob] = {}  # as those are run whose process died
    barren, waiting = 0, False
    with _configured(backend, scheduler, n_jobs):
        while left := [job for job in jobs if not ended(job)]:
            held = {job.train_id for job in left if not _is_free(job)}
            free = [again.get(job.cell_id, job) for job in left if job.train_id not in held]
            if not free:
                if not waiting:
                    tell(_elsewhere(left))
                    waiting = True
                time.sleep(LOOK_EVERY)
                continue
            try:
                _dispatch(grouped(free), n_jobs)
            except _deaths(backend) as error:
                running = [job for job in left if _left_behind(job)]
                died = [job for job in running if not ended(job) and not find_timeout(_folder(job))]
                tries = 1 if len(running) == 1 else 2  # of several at most one has killed the pool
                again |= {job.cell_id: _alone(job, min(tries, job.how.tries)) for job in died}
                barren = 0 if running else barren + 1
                if barren == MOST_BARREN:
                    raise WorkersDie(f"workers died {barren} times before they began a cell: {error}") from error


class WorkersDie(Exception):
    """No worker lives long enough to begin a cell."""


def _elsewhere(jobs: Sequence[CellJob]) -> str:
    """What is waited for."""
    owners = {owner for job in jobs if (owner := locks.owner(_folder(job).path)) is not None}
    far = sorted({f"{owner.host}, process {owner.pid}" for owner in owners if not owner.here})
    remedy = f". Of other hosts: {'; '.join(far)}. If these are gone, --break-locks takes over" if far else ""
    return f"{len(jobs)} cells are at work in another run; they are waited for{remedy}"


def _folder(job: CellJob) -> CellFolder:
    return Store(job.root).cell(job.cell_id)


def _alone(job: CellJob, tries: int) -> CellJob:
    return replace(job, how=replace(job.how, isolate=True, tries=tries))


def _dispatch(groups: Sequence[list[CellJob]], at_once: int) -> None:
    """Run groups on the configured backend, `at_once` at a time."""
    joblib.Parallel(batch_size=1, pre_dispatch=at_once)(joblib.delayed(_work)(group) for group in groups)


def _is_free(job: CellJob) -> bool:
    return locks.is_free(_folder(job).path, job.how.run, job.how.break_locks)


def _left_behind(job: CellJob) -> bool:
    """Whether a process of this run worked at the cell, and is gone without having let go."""
    owner = locks.left_behind(_folder(job).path)
    return owner is not None and owner.run == job.how.run


def _deaths(backend: str) -> tuple[type[Exception], ...]:
    """What joblib raises on the backend when a worker died."""
    if backend == "dask":
        from distributed.scheduler import KilledWorker

        return (KilledWorker,)
    if backend == "ray":
        from ray.exceptions import RayError

        return (RayError,)
    return (TerminatedWorkerError,)


def grouped(jobs: Sequence[CellJob]) -> list[list[CellJob]]:
    """Jobs by what they train, GPUs dealt out in turn."""
    groups: dict[str, list[CellJob]] = {}
    for job in jobs:
        groups.setdefault(job.train_id, []).append(job)
    gpus = torch.cuda.device_count()
    if gpus < 2:
        return list(groups.values())
    return [
        [replace(job, device=f"cuda:{i % gpus}") if job.device == "cuda" else job for job in group]
        for i, group in enumerate(groups.values())
    ]


@contextmanager
def _configured(backend: str, scheduler: str | None, n_jobs: int) -> Iterator[None]:
    """joblib set to the backend; a local Dask or Ray is started where no address is given, and ended again."""
    settings: dict[str, Any] = {"n_jobs": n_jobs}
    cluster: AbstractContextManager[Any] = nullcontext()
    if backend == "loky":  # at least two workers: joblib would run a single one in this very process
        settings = {"n_jobs": max(2, n_jobs), "initializer": _begin_worker, "initargs": (os.getpid(),)}
    elif backend in ("dask", "ray"):
        try:
            cluster = _dask(scheduler, n_jobs) if backend == "dask" else _ray(scheduler, n_jobs)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"--backend {backend}: {error.name} is not installed; pip install -c constraints.txt -e '.[{backend}]'"
            ) from error
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(f"--backend {backend} --scheduler {scheduler}: cannot be reached: {error}") from error
    with cluster, joblib.parallel_config(backend, **settings):
        yield


def _dask(scheduler: str | None, n_jobs: int) -> AbstractContextManager[Any]:
    from distributed import Client

    if scheduler is None:
        return Client(n_workers=n_jobs, threads_per_worker=1, dashboard_address=None)
    client = Client(scheduler)
    if any(threads != 1 for threads in client.nthreads().values()):
        client.close()
        raise ConfigError(
            f"--scheduler {scheduler}: its workers run several tasks in one process, where cells would mix their "
            "random draws; start them with: dask worker ADDRESS --nworkers auto --nthreads 1"
        )
    return client


def _ray(scheduler: str | None, n_jobs: int) -> AbstractContextManager[Any]:
    if scheduler is None:  # read when ray is first imported; without it a local cluster listens to the whole network
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray
    from ray.util.joblib import register_ray

    register_ray()
    return ray.init(address=scheduler, num_cpus=None if scheduler else n_jobs, include_dashboard=False)


def _begin_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, which ends the pool, and end with it, also before there is work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)


def _work(jobs: list[CellJob]) -> None:
    for job in jobs:
        (run_isolated if job.how.isolate else run_cell)(job)
