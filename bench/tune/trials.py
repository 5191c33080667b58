"""Trials as cells: trained so far as is asked, in the pool that runs every grid, and scored by their logs.

A trial has a cell for each tuning seed and split. Its score is the mean of their validation losses after the same
round. Cells are found by their ids, so a tuning that was killed goes on where it was.
"""

import argparse
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from bench.cell.job import CellJob
from bench.cell.run import ended
from bench.config.cell import field
from bench.config.grid_file import Grid
from bench.config.ids import digest, identity
from bench.config.names import cell_name
from bench.config.tuning import Tune
from bench.run import pool
from bench.run.execute import prepared
from bench.run.plan import Plan, make_plan
from bench.run.progress import make_view
from bench.run.watch import Watch, interruptible
from bench.seeds import derive
from bench.store.records import FAILURES, Failure, Round
from bench.tune.contenders import Contender, fields_of, trial_cells, tune_of
from bench.tune.search import DIVERGED, Search, Trial, Unfinished

METRIC = "validation_loss"  # of a round, on validation images; less is better
SUFFIX = "-tune"  # of the folder's name


class Cost(NamedTuple):
    """What trainings cost so far: optimizer steps of all clients, seconds; autoencoders' trainings are not in it."""

    gradient_steps: int
    seconds: float


@dataclass(frozen=True)
class Tuning:
    """A grid's searches, and the cells of all their trials.

    Attributes:
        plan: the cells, as those of a grid.
        jobs: of each trial.
    """

    grid: Grid
    searches: Sequence[Search]
    plan: Plan
    jobs: Mapping[Trial, tuple[CellJob, ...]]

    @property
    def tune(self) -> Tune:
        return tune_of(self.grid)

    @property
    def every(self) -> list[Trial]:
        return [trial for one in self.searches for trial in one.trials]

    @property
    def root(self) -> Path:
        """The tuning's folder."""
        return self.plan.store.root

    @property
    def rounds(self) -> int:
        """Of a whole training; of the longest where they differ."""
        return max(job.config.training.rounds for job in self.plan.jobs)

    def losses(self, trial: Trial, rounds: int) -> list[float]:
        """The validation loss of each of the trial's cells after so many rounds; infinite where training diverged.

        Raises:
            Unfinished: if a cell failed otherwise, or was not trained so far.
        """
        return [self._loss(job, rounds) for job in self.jobs[trial]]

    def _loss(self, job: CellJob, rounds: int) -> float:
        """What its log says, whatever became of the cell in later rounds: the same at every reading."""
        folder, name = self.plan.store.cell(job.cell_id), cell_name(job.labels)
        last = min(rounds, job.config.training.rounds)
        log = self._log(job, last)
        if log and log[-1].round == last:
            return log[-1].value(METRIC)
        failure = folder.read(Failure)
        if failure is None:
            raise Unfinished(f"{name}: it was not trained to round {last}; the same command goes on")
        if failure.status == "diverged":
            return math.inf
        raise Unfinished(
            f"{failure.status}: {name}: {failure.error}; traceback in {folder.path / Failure.FILE}; "
            "run again with --retry-failed"
        )

    def trained(self, trial: Trial) -> int:
        """For how many rounds it was trained: of one that diverged, those after which all its losses were finite."""
        if trial.outcome != DIVERGED:
            return trial.rounds
        logs = [self._log(job, trial.rounds) for job in self.jobs[trial]]
        return min(log[-1].round if log else 0 for log in logs)

    def cost(self, trials: Iterable[Trial]) -> Cost:
        """What it cost to train them so far; a cell that several of them have counts once."""
        asked = sorted(((trial.rounds, job) for trial in trials for job in self.jobs[trial]), key=itemgetter(0))
        logs = {job.cell_id: self._log(job, rounds) for rounds, job in asked}  # as far as any of them asks
        last = [log[-1] for log in logs.values() if log]
        steps = sum(int(line.value("gradient_steps")) for line in last)
        return Cost(steps, sum(line.value("seconds") for line in last))

    def _log(self, job: CellJob, rounds: int) -> list[Round]:
        return [line for line in self.plan.store.cell(job.cell_id).read_log(Round) if line.round <= rounds]


def searches_of(tune: Tune, found: Sequence[Contender]) -> list[Search]:
    """A search a contender, their proposals from one sequence: values of what all tune are the same for all."""
    seed = derive(tune.seeds[0], "tune") % 2**32
    return [Search(each, tune.trials, seed) for each in found]


def make_tuning(grid: Grid, found: Sequence[Contender], options: argparse.Namespace, results: Path) -> Tuning:
    """The searches, and the cells of their trials, planned in the folder of the tuning.

    Raises:
        ConfigError: as `bench.run.plan.make_plan`.
    """
    searches = searches_of(tune_of(grid), found)
    cells = {trial: trial_cells(grid, one.contender, trial.values) for one in searches for trial in one.trials}
    every = [cell for of_trial in cells.values() for cell in of_trial]
    varied = dict.fromkeys([*grid.axes, *(key for each in found for key in fields_of(each.spaces))])
    axes: dict[str, list[Any]] = {
        axis: list({str(field(cell, axis)): field(cell, axis) for cell in every}.values()) for axis in varied
    }
    axes["strategy"] = list(dict.fromkeys(cell.strategy_label for cell in every))
    about = f"Trials of the tuning of {grid.name}."
    trials = replace(grid, name=f"{grid.name}{SUFFIX}", description=about, axes=axes, cells=tuple(every), labels={})
    plan = make_plan(replace(trials, claims=False, tuned=None), results, options.data_root, options.download)
    by_cell = {digest(identity(job.config)): job for job in plan.jobs}
    jobs = {trial: tuple(by_cell[digest(identity(cell))] for cell in of_trial) for trial, of_trial in cells.items()}
    return Tuning(grid, searches, plan, jobs)


def measure(
    tuning: Tuning, options: argparse.Namespace, console: Any, asked: Sequence[Trial], rounds: int
) -> list[float]:
    """Train trials to so many rounds; the mean losses of their cells.

    Raises:
        Unfinished: if a cell failed for another reason than a loss that is not finite.
    """
    wanted = {job.cell_id: job for trial in asked for job in tuning.jobs[trial]}
    _train(tuning, list(wanted.values()), rounds, options, console)
    return [statistics.fmean(tuning.losses(trial, rounds)) for trial in asked]


def _train(tuning: Tuning, jobs: Sequence[CellJob], rounds: int, options: argparse.Namespace, console: Any) -> None:
    states = {job.cell_id: tuning.plan.store.cell(job.cell_id).state() for job in jobs}
    again = {
        cell_id
        for cell_id, state in states.items()
        if options.retry_failed and state in FAILURES and state != "diverged"
    }
    jobs = [job for job in jobs if states[job.cell_id] not in FAILURES or job.cell_id in again]
    ready = [job for job in prepared(jobs, again, options, rounds) if not ended(job)]
    n_jobs = options.n_jobs or pool.default_n_jobs(ready)
    console.print(
        f"to round {rounds} of {tuning.rounds}: {len(jobs)} cells, {len(jobs) - len(ready)} trained before, "
        f"{len(ready)} to train, {n_jobs} at a time"
    )
    if not ready:
        return
    view = make_view(console, options.quiet)
    with Watch(tuning.plan, ready, None, view), interruptible():
        pool.run(ready, n_jobs, options.backend, options.scheduler, view.warn)
