"""Runs jobs on joblib's backends, and lets nothing that happens to one worker cost the others' work."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from bench.cell import CellJob, run_jobs
from bench.config import ConfigError
from bench.store import Store, write_json

BACKENDS = ("loky", "threading", "dask", "ray")


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
    for job in jobs:  # an error of an earlier run must not read as one of this run
        (job.root / job.cell_id / "error.json").unlink(missing_ok=True)
    with _configured(backend, scheduler, n_jobs):
        while groups:
            try:
                _dispatch(groups)
                return
            except TerminatedWorkerError:
                suspects, groups = _after_death(groups)
            for group in suspects:
                _run_alone(group)


def _dispatch(groups: Sequence[list[CellJob]], **settings: Any) -> None:
    joblib.Parallel(batch_size=1, pre_dispatch="n_jobs", **settings)(
        joblib.delayed(_work)(group, os.getpid()) for group in groups
    )


def _after_death(groups: Sequence[list[CellJob]]) -> tuple[list[list[CellJob]], list[list[CellJob]]]:
    """What is left when a pool died: groups in which a cell was running, one of which killed it, and the others."""
    suspects: list[list[CellJob]] = []
    others: list[list[CellJob]] = []
    for group in groups:
        states = {job.cell_id: Store(job.root).cell(job.cell_id).state() for job in group}
        left = [job for job in group if states[job.cell_id] in ("partial", "todo")]
        if left:
            (suspects if "partial" in states.values() else others).append(left)
    return suspects, others


def _run_alone(group: list[CellJob]) -> None:
    """Run a group with no other beside it, so that if its worker dies again it is known which cell does that."""
    while group:
        try:
            _dispatch([group], backend="loky", n_jobs=2)  # two, since joblib runs one in this very process
            return
        except TerminatedWorkerError:
            for job in group:
                folder = Store(job.root).cell(job.cell_id)
                if folder.state() == "partial":
                    told = "its worker process died twice, the second time alone (killed, or out of memory)"
                    error = {"status": "failed", "error": told, "traceback": "", "time": time.time()}
                    write_json(folder.path / "error.json", error)
            group = [job for job in group if Store(job.root).cell(job.cell_id).state() == "todo"]


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


def _local_dask(n_jobs: int) -> dict[str, Any]:
    return {"n_workers": n_jobs, "threads_per_worker": 1, "dashboard_address": None}


@contextmanager
def _configured(backend: str, scheduler: str | None, n_jobs: int) -> Iterator[None]:
    """joblib set to the backend; a local Dask or Ray is started where no address is given, and ended again."""
    try:
        if backend == "dask":
            from distributed import Client

            client = Client(scheduler or None, **({} if scheduler else _local_dask(n_jobs)))
            with client, joblib.parallel_config("dask"):
                yield
        elif backend == "ray":
            import ray
            from ray.util.joblib import register_ray

            register_ray()
            cpus = None if scheduler else n_jobs
            with (
                ray.init(address=scheduler, num_cpus=cpus, include_dashboard=False),
                joblib.parallel_config("ray", n_jobs=n_jobs),
            ):
                yield
        else:
            with joblib.parallel_config(backend, n_jobs=n_jobs):
                yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--backend {backend}: {error.name} is not installed; pip install -c constraints.txt -e '.[{backend}]'"
        ) from error


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
