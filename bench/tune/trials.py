"""Trials as cells: trained so far as is asked, in the pool that runs every grid, and scored by their logs.

A trial has a cell for each tuning seed and split. Its score is the mean of their validation losses after the same
round. Cells are found by their ids, so a tuning that was killed goes on where it was.
"""

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from bench.tune.contenders import Contender, fields_of, trial_cells
from bench.tune.search import Asked, Search

METRIC = "validation_loss"  # of a round, on validation images; less is better
SUFFIX = "-tune"  # of the folder's name


class Unfinished(Exception):
    """Trials that have no score, for another reason than a loss that is not finite."""


@dataclass(frozen=True)
class Cost:
    """What trainings cost so far: rounds, optimizer steps of all clients, seconds."""

    rounds: int
    gradient_steps: int
    seconds: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.rounds + other.rounds,
            self.gradient_steps + other.gradient_steps,
            self.seconds + other.seconds,
        )


NO_COST = Cost(0, 0, 0.0)


@dataclass(frozen=True)
class Trials:
    """All trials of a tuning.

    Attributes:
        plan: their cells, as those of a grid.
        jobs: of each trial, by its strategy's label and its number.
    """

    plan: Plan
    jobs: Mapping[tuple[str, int], tuple[CellJob, ...]]

    @property
    def root(self) -> Path:
        """The tuning's folder."""
        return self.plan.store.root

    @property
    def rounds(self) -> int:
        """Of a whole training; of the longest where they differ."""
        return max(job.config.training.rounds for job in self.plan.jobs)

    def losses(self, trial: tuple[str, int], rounds: int) -> list[float]:
        """The validation loss of each of the trial's cells after so many rounds; infinite where training diverged.

        Raises:
            Unfinished: if a cell failed otherwise, or was not trained so far.
        """
        return [self._loss(job, rounds) for job in self.jobs[trial]]

    def _loss(self, job: CellJob, rounds: int) -> float:
        """What its log says, whatever became of the cell in later rounds: the same at every reading."""
        folder, name = self.plan.store.cell(job.cell_id), cell_name(job.labels)
        last = min(rounds, job.config.training.rounds)
        for line in folder.read_log(Round):
            if line.round == last:
                return line.value(METRIC)
        failure = folder.read(Failure)
        if failure is None:
            raise Unfinished(f"{name}: it was not trained to round {last}; the same command goes on")
        if failure.status == "diverged":
            return math.inf
        raise Unfinished(
            f"{failure.status}: {name}: {failure.error}; traceback in {folder.path / Failure.FILE}; "
            "run again with --retry-failed"
        )

    def cost(self, trial: tuple[str, int], rounds: int) -> Cost:
        """What so many rounds of the trial cost, all its cells together; an autoencoder's training is not in it."""
        total = NO_COST
        for job in self.jobs[trial]:
            log = [line for line in self.plan.store.cell(job.cell_id).read_log(Round) if line.round <= rounds]
            if log:
                total += Cost(log[-1].round, int(log[-1].value("gradient_steps")), log[-1].value("seconds"))
        return total


def searches_of(tune: Tune, found: Sequence[Contender]) -> list[Search]:
    """A search a contender, their proposals from one sequence: values of what all tune are the same for all."""
    seed = derive(tune.seeds[0], "tune") % 2**32
    return [Search(each.label, each.spaces, each.own, tune.trials, seed) for each in found]


def make_trials(
    grid: Grid, found: Sequence[Contender], searches: Sequence[Search], options: argparse.Namespace, results: Path
) -> Trials:
    """The cells of all trials, planned in the folder of the tuning.

    Raises:
        ConfigError: as `bench.run.plan.make_plan`.
    """
    by_label = {contender.label: contender for contender in found}
    cells = {
        (each.who, each.number): trial_cells(grid, by_label[each.who], each.values)
        for one in searches
        for each in one.asked()
    }
    every = [cell for of_trial in cells.values() for cell in of_trial]
    varied = dict.fromkeys([*grid.axes, *(key for each in found for key in fields_of(each.spaces))])
    axes: dict[str, list[Any]] = {
        axis: list({str(field(cell, axis)): field(cell, axis) for cell in every}.values()) for axis in varied
    }
    axes["strategy"] = list(dict.fromkeys(cell.strategy_label for cell in every))
    about = f"Trials of the tuning of {grid.name}."
    tuning = replace(
        grid, name=f"{grid.name}{SUFFIX}", description=about, axes=axes, cells=tuple(every), labels={}, tuned=None
    )
    plan = make_plan(replace(tuning, claims=False), results, options.data_root, options.download)
    by_cell = {digest(identity(job.config)): job for job in plan.jobs}
    jobs = {trial: tuple(by_cell[digest(identity(cell))] for cell in of_trial) for trial, of_trial in cells.items()}
    return Trials(plan, jobs)


class Runner:
    """Measures trials by training their cells.

    Attributes:
        trials: all of them.
    """

    def __init__(self, trials: Trials, options: argparse.Namespace, console: Any) -> None:
        self.trials = trials
        self._options, self._console = options, console

    def measure(self, asked: Sequence[Asked], rounds: int) -> list[float]:
        """Train the trials to so many rounds; the mean losses of their cells.

        Raises:
            Unfinished: if a cell failed for another reason than a loss that is not finite.
        """
        wanted = {job.cell_id: job for each in asked for job in self.trials.jobs[each.who, each.number]}
        self._train(list(wanted.values()), rounds)
        return [statistics.fmean(self.trials.losses((each.who, each.number), rounds)) for each in asked]

    def _train(self, jobs: Sequence[CellJob], rounds: int) -> None:
        options, store = self._options, self.trials.plan.store
        states = {job.cell_id: store.cell(job.cell_id).state() for job in jobs}
        again = {
            cell_id
            for cell_id, state in states.items()
            if options.retry_failed and state in FAILURES and state != "diverged"
        }
        jobs = [job for job in jobs if states[job.cell_id] not in FAILURES or job.cell_id in again]
        ready = [job for job in prepared(jobs, again, options, rounds) if not ended(job)]
        n_jobs = options.n_jobs or pool.default_n_jobs(ready)
        self._console.print(
            f"to round {rounds} of {self.trials.rounds}: {len(jobs)} cells, {len(jobs) - len(ready)} trained before, "
            f"{len(ready)} to train, {n_jobs} at a time"
        )
        if not ready:
            return
        view = make_view(self._console, options.quiet)
        with Watch(self.trials.plan, ready, None, view), interruptible():
            pool.run(ready, n_jobs, options.backend, options.scheduler, view.warn)
