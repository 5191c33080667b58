"""A planned grid run to its end: cells, progress, MLflow, report, exit code."""

import argparse
import errno
import sys
import uuid
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import command
from bench.cell.job import CellJob, How
from bench.command import DONE, FAILED, INTERRUPTED, ODD, print_whole, working
from bench.config.errors import ConfigError
from bench.config.ids import RESULT_VERSION
from bench.config.names import cell_name
from bench.report.tracking.tracker import Tracker
from bench.report.write import Wishes, show, write_report, writing
from bench.run import pool
from bench.run.plan import Plan
from bench.run.progress import Monitor, View, clock, make_view
from bench.run.watch import Watch, interruptible, sync
from bench.seeds import numpy_stream
from bench.store import locks
from bench.store.grid_folder import Store
from bench.store.records import FAILURES, Failure


def sync_only(root: Path, quiet: bool) -> int:
    """Bring MLflow up to date with what lies in a grid's folder; returns the exit code.

    Raises:
        ConfigError: if no grid was run into it.
    """
    store, console = Store(root), command.console(quiet=quiet)
    if not (store.root / "grid.json").exists():
        raise ConfigError(f"--sync-only: {store.root} holds no grid.json: no grid has been run into it")
    tracker = Tracker(store)
    error = sync(tracker, running=False)
    if error is not None:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    console.print(f"MLflow: {tracker.hint()}")
    return DONE


def claim_folder(plan: Plan) -> None:
    """Write the plan into the grid's folder.

    Raises:
        ConfigError: if the folder cannot be written.
    """
    try:
        plan.store.root.mkdir(parents=True, exist_ok=True)
        with writing(plan.store.root):
            plan.store.write_plan(plan.describe())
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise ConfigError(f"--results {plan.store.root.parent}: cannot be written: {error}") from error


def show_plan(plan: Plan, options: argparse.Namespace) -> int:
    """Print every cell with its state and estimated time; returns the exit code."""
    console = command.console(quiet=options.quiet)
    states, pending = plan.states(), plan.pending(options.retry_failed)
    times = plan.estimate(pending)
    for view in Monitor(plan, pending).first:
        if view.state == "running":
            times[view.job.cell_id] *= 1 - view.fraction
    table = Table(title=f"grid {plan.grid.name}: {len(plan.jobs)} cells", title_justify="left")
    for name in ("cell", "state", "experiment", "estimate"):
        table.add_column(name, justify="right" if name == "estimate" else "left", no_wrap=True)
    for job in sorted(plan.jobs, key=lambda job: states[job.cell_id]):
        estimate = clock(times[job.cell_id]) if job.cell_id in times else ""
        table.add_row(job.cell_id, states[job.cell_id], Text(cell_name(job.labels)), estimate)
    print_whole(console, table)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(Counter(states.values()).items()))
    n_jobs = options.n_jobs or pool.default_n_jobs(pending)
    left = f"about {clock(sum(times.values()) / n_jobs)} to run on {n_jobs} at a time"
    if not pending:
        failed = any(state in FAILURES for state in states.values())
        left = "nothing is left to run" + (" without --retry-failed" if failed else "")
    console.print(f"{counts}; {left}; nothing was run")
    return DONE


def execute(plan: Plan, options: argparse.Namespace) -> int:
    """Run what is missing, then write and print the tables; returns the exit code."""
    console = command.console(quiet=options.quiet)
    claim_folder(plan)
    notes = mend(plan, options.break_locks)
    states = plan.states()
    failed = {cell_id for cell_id, state in states.items() if state in FAILURES}
    running = sum(state == "running" for state in states.values())
    pending = plan.pending(options.retry_failed)
    tracker = None if options.no_mlflow else Tracker(plan.store)
    n_jobs = options.n_jobs or pool.default_n_jobs(pending)
    elsewhere = f" ({running} of them at work in another run)" if running else ""
    console.print(
        f"grid {plan.grid.name}: {len(plan.jobs)} cells, {len(plan.jobs) - len(pending)} ended before, "
        f"{len(pending)} to run{elsewhere}, {n_jobs} at a time; results in {plan.store.root}"
    )
    view = make_view(console, options.quiet)
    for note in notes:
        view.warn(note)
    jobs = prepared(pending, failed, options)  # before they are watched: a failure that is to be forgotten is none
    watch = Watch(plan, pending, tracker, view)
    interrupted = False
    try:
        with watch, interruptible():
            pool.run(jobs, n_jobs, options.backend, options.scheduler, view.warn)
    except KeyboardInterrupt:
        interrupted = True
    except pool.WorkersDie as error:
        view.warn(str(error))
    if watch.syncing:
        view.warn("MLflow does not answer; --sync-only sends it the rest later")
    pictures = not (options.tables_only or interrupted)
    finish(plan, None if watch.syncing else tracker, view, console, pictures)
    return outcome(plan, interrupted)


def mend(plan: Plan, break_locks: bool) -> list[str]:
    """Move damaged files away; returns a note on each, and one on cells of other versions."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        for job in plan.jobs:
            folder = plan.store.cell(job.cell_id)
            if folder.path.is_dir():
                with locks.hold(folder.path, "mend", break_locks) as held:
                    if held:
                        folder.mend()
    notes = list(dict.fromkeys(str(warning.message) for warning in caught))
    versions = {version: n for version, n in plan.store.versions().items() if version != str(RESULT_VERSION)}
    if versions:
        which = ", ".join(f"{n} by {version}" for version, n in versions.items())
        notes.append(
            f"cells in {plan.store.root} were made by another RESULT_VERSION than {RESULT_VERSION} ({which}): they are "
            "kept, and not used"
        )
    return notes


def prepared(
    jobs: Sequence[CellJob], failed: set[str], options: argparse.Namespace, until: int | None = None
) -> list[CellJob]:
    """The jobs as the options say that they are run, in that order; records of the failures in `failed` are removed.

    Args:
        until: see `bench.cell.job.How`.
    """
    how = How(
        uuid.uuid4().hex, options.timeout, options.checkpoint_every, options.isolate,
        break_locks=options.break_locks, until=until,
    )  # fmt: skip
    order: Iterable[int] = range(len(jobs))
    if options.shuffle is not None:
        order = numpy_stream(options.shuffle, "order of cells").permutation(len(jobs))
    for job in jobs:
        folder = Store(job.root).cell(job.cell_id)
        if job.cell_id in failed and locks.is_free(folder.path, how.run, how.break_locks):
            folder.forget_failure()
    return [replace(jobs[k], how=how) for k in order]


def finish(plan: Plan, tracker: Tracker | None, view: View, console: Console, pictures: bool) -> None:
    """Write and show the report, if any cell has ended, with `pictures` or without; sync MLflow for the last time."""
    if any(state in ("done", *FAILURES) for state in plan.states().values()):
        with writing(plan.store.root):
            plan.store.write_plan(plan.describe())  # another run may have put its own there meanwhile
            try:
                with working("writing the report", quiet=console.quiet) as tell:
                    report = write_report(plan.store.root, Wishes(pictures=pictures), tell)
                show(report, console, view.warn)
            except ODD as odd:
                view.warn(
                    f"the report cannot be written: {type(odd).__name__}: {odd}; results are kept, and bench.report "
                    "makes it later"
                )
        if strangers := plan.store.strangers():
            console.print(f"{strangers} other cells in {plan.store.root} are kept, but not part of this plan")
    if tracker is not None:
        if (error := sync(tracker, running=False)) is not None:
            view.warn(f"{error}; the next run of this grid syncs them")
        console.print(f"MLflow: {tracker.hint()}")


def outcome(plan: Plan, interrupted: bool) -> int:
    """Tell which cells failed and why; returns the exit code."""
    states = plan.states()
    done = sum(state == "done" for state in states.values())
    for job in plan.jobs:
        folder = plan.store.cell(job.cell_id)
        if states[job.cell_id] in FAILURES and (failure := folder.read(Failure)) is not None:
            print(
                f"{failure.status}: {cell_name(job.labels)}: {failure.error}\n"
                f"  traceback in {folder.path / Failure.FILE}; run again with --retry-failed",
                file=sys.stderr,
            )
    if interrupted:
        print(
            f"interrupted: {done} of {len(plan.jobs)} cells are done and kept; "
            "the same command goes on with the others",
            file=sys.stderr,
        )
        return INTERRUPTED
    return DONE if done == len(plan.jobs) else FAILED
