"""Runs jobs on joblib's backends, and lets nothing that happens to one worker cost the others' work."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from bench.cell import CellJob, run_jobs
from bench.config import ConfigError
from bench.store import Store, write_json

BACKENDS = ("loky", "dask", "ray")  # not threads: cells seed torch's global generator for weights and dropout


def default_n_jobs(jobs: Sequence[CellJob]) -> int:
    """As many cells at once as there are GPUs, or cores for their threads."""
    if any(job.device == "cuda" for job in jobs):
        return torch.cuda.device_count()
    return max(1, joblib.cpu_count() // max(job.config.threads for job in jobs))


def run(jobs: Sequence[CellJob], n_jobs: int, backend: str = "loky", scheduler: str | None = None) -> None:
    """Run all jobs, `n_jobs` at a time; those that share their training run one after another on one worker.

    A worker that dies takes the pool with it: the cells that were running then are run again, each alone, and one
    whose worker dies once more is recorded as failed; a new pool takes up the others.

    Args:
        backend: one of `BACKENDS`; "dask" and "ray" reach past this machine, on a file system that all share.
        scheduler: address of a Dask scheduler or Ray cluster; None starts a local one.
    Raises:
        ConfigError: if the backend is not installed.
    """
    groups = grouped(jobs)
    for job in jobs:
        Store(job.root).cell(job.cell_id).forget_attempt()
    with _configured(backend, scheduler, n_jobs):
        while groups:
            before = _attempts(groups)
            try:
                _dispatch(groups, n_jobs)
                return
            except TerminatedWorkerError:
                suspects, groups = _after_death(groups, before)
            for group in suspects:
                _run_alone(group)


def _dispatch(groups: Sequence[list[CellJob]], at_once: int) -> None:
    """Run groups on the configured backend, `at_once` at a time."""
    joblib.Parallel(batch_size=1, pre_dispatch=at_once)(joblib.delayed(_work)(group, os.getpid()) for group in groups)


def _attempts(groups: Sequence[list[CellJob]]) -> dict[str, str | None]:
    """The attempt that each cell's folder tells of, by cell id."""
    folders = [Store(job.root).cell(job.cell_id) for group in groups for job in group]
    return {folder.cell_id: (folder.manifest() or {}).get("attempt") for folder in folders}


def _after_death(
    groups: Sequence[list[CellJob]], before: dict[str, str | None]
) -> tuple[list[list[CellJob]], list[list[CellJob]]]:
    """What is left when a pool died: groups in which a cell was running, one of which killed it, and the others."""
    suspects: list[list[CellJob]] = []
    others: list[list[CellJob]] = []
    for group in groups:
        left = [job for job in group if Store(job.root).cell(job.cell_id).state() in ("partial", "todo")]
        if left:
            (suspects if _running(left, before) else others).append(left)
    return suspects, others


def _running(jobs: list[CellJob], before: dict[str, str | None]) -> list[CellJob]:
    """The jobs that were begun since `before` and did not end."""
    now = _attempts([jobs])
    partial = [job for job in jobs if Store(job.root).cell(job.cell_id).state() == "partial"]
    return [job for job in partial if now[job.cell_id] != before[job.cell_id]]


def _run_alone(group: list[CellJob]) -> None:
    """Run a group with no other beside it, so that if its worker dies again it is known which cell does that."""
    while group:
        before = _attempts([group])
        try:
            _dispatch([group], 1)
            return
        except TerminatedWorkerError:
            told = "its worker process died twice, the second time alone (killed, or out of memory)"
            guilty = _running(group, before)
            for job in guilty:
                error = {"status": "failed", "error": told, "traceback": "", "time": time.time()}
                write_json(Store(job.root).cell(job.cell_id).path / "error.json", error)
            ended = {job.cell_id for job in guilty}
            states = {job.cell_id: Store(job.root).cell(job.cell_id).state() for job in group}
            group = [j for j in group if j.cell_id not in ended and states[j.cell_id] in ("partial", "todo")]


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
    if backend == "loky":  # at least two workers: joblib would run a single one in this very process
        with joblib.parallel_config("loky", n_jobs=max(2, n_jobs)):
            yield
        return
    try:
        cluster = _dask(scheduler, n_jobs) if backend == "dask" else _ray(scheduler, n_jobs)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--backend {backend}: {error.name} is not installed; pip install -c constraints.txt -e '.[{backend}]'"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"--backend {backend} --scheduler {scheduler}: cannot be reached: {error}") from error
    with cluster, joblib.parallel_config(backend, n_jobs=n_jobs):
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
    import ray
    from ray.util.joblib import register_ray

    register_ray()
    return ray.init(address=scheduler, num_cpus=None if scheduler else n_jobs, include_dashboard=False)


def _work(jobs: list[CellJob], parent: int) -> None:
    """In a worker process, leave Ctrl-C to the parent, which ends the pool, and end with the parent; then run."""
    if os.getpid() != parent and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() == parent:
        threading.Thread(target=_end_with, args=(parent,), name="end with parent", daemon=True).start()
    run_jobs(jobs)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a killed grid must not go on writing beside its successor."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
