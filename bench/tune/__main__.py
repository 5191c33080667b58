"""The command line: tune the strategies of a grid. ``python -m bench.tune --help`` tells all.

Exit codes: 0 tuned; 1 trials failed; 2 a mistake in the grid, an option or the data; 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench import command
from bench.run.command_line import MEANWHILE, add_options, check_scheduler, results_folder

if TYPE_CHECKING:
    from rich.console import Console

    from bench.tune.trials import Tuning


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    options = parser().parse_args(arguments)
    return command.run(
        lambda: work(options),
        interrupted="interrupted: what is trained is kept; the same command goes on",
        known=MEANWHILE,
        code=command.FAILED,
    )


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command.parser("bench.tune")
    add_options(p)
    return p


def work(options: argparse.Namespace) -> int:
    """Tune; returns the exit code.

    Raises:
        ConfigError: for a mistake in an option, the grid or the data.
    """
    check_scheduler(options)
    from bench.config.grid_file import load_grid
    from bench.tune.contenders import contenders  # strategies and partitions

    grid, results = load_grid(options.grid, options.set), results_folder(options.results)
    found = contenders(grid)
    from bench.tune.trials import make_tuning  # torch and Optuna, seconds

    console = command.console(quiet=options.quiet)
    tuning = make_tuning(grid, found, options, results)
    console.print(
        f"tuning of {grid.name}: {len(found)} strateg{'y' if len(found) == 1 else 'ies'}, {tuning.tune.trials} trials "
        f"each, {len(tuning.plan.jobs)} cells; results in {tuning.root}"
    )
    return show_plan(tuning, options, console) if options.plan else run(tuning, options, console)


def show_plan(tuning: "Tuning", options: argparse.Namespace, console: "Console") -> int:
    """Print what is trained and about how long it takes, without what was trained to its end; returns the exit code."""
    from bench.cell.job import CellJob, How
    from bench.run import pool
    from bench.run.progress import clock

    stages = tuning.tune.stages(tuning.rounds)
    for until, count in stages:
        console.print(f"to round {until} of {tuning.rounds}: {count} of {tuning.tune.trials} trials of each strategy")
    planned: dict[str, CellJob] = {}
    for trial, jobs in tuning.jobs.items():  # as if those went on that come first
        until = max(until for until, count in stages if trial.number <= count)
        for job in jobs:
            planned.setdefault(job.cell_id, replace(job, how=How(until=until)))
    seconds = sum(tuning.plan.estimate(list(planned.values())).values())
    n_jobs = options.n_jobs or pool.default_n_jobs(list(planned.values()))
    console.print(f"about {clock(seconds / n_jobs)} in all, {n_jobs} cells at a time; nothing was run")
    return command.DONE


def run(tuning: "Tuning", options: argparse.Namespace, console: "Console") -> int:
    """Train what is missing, and write what was found; returns the exit code."""
    from bench.run.execute import claim_folder, mend
    from bench.tune.search import Unfinished, search
    from bench.tune.trials import measure

    claim_folder(tuning.plan)
    for note in mend(tuning.plan, options.break_locks):
        console.print(f"warning: {note}")
    try:
        search(tuning.searches, tuning.tune.stages(tuning.rounds), partial(measure, tuning, options, console))
    except Unfinished as error:
        print(error, file=sys.stderr)
        return command.FAILED
    with command.working("writing what was found", quiet=options.quiet):
        written = write(tuning, options.grid)
    show(tuning, written, console)
    return command.DONE


def write(found: "Tuning", grid: str) -> Path:
    """Write tables, figure, Optuna's studies and the grid file, last; returns its path."""
    from bench.report.write import FIGURES, TABLES, writing
    from bench.store.files import write_bytes
    from bench.tune import figure, tables
    from bench.tune.search import write_studies
    from bench.tune.tuned_grid import TUNED, tuned_grid, write_grid

    with writing(found.root):
        tables.write(found, found.root / TABLES)
        figure.write(found, found.root / FIGURES)
        write_studies(found.searches, found.root / "studies.db")
        path = found.root / f"{found.grid.name}{TUNED}.toml"
        head = f"Written by feddiff-bench tune --grid {' '.join(grid.split())}: its values were chosen on other seeds."
        write_bytes(path, write_grid(tuned_grid(found), head).encode())
    return path


def show(found: "Tuning", written: Path, console: "Console") -> None:
    """Print what was chosen, what it cost and where everything lies."""
    from bench.command import print_whole, terminal_text
    from bench.report.tables.terminal import rich_table
    from bench.tune.tables import caption, summary

    table = summary(found)
    print_whole(console, rich_table(table, terminal_text(caption(table, found))))
    for note in table.notes:
        console.print(terminal_text(note.replace("\N{NO-BREAK SPACE}", " ")))
    console.print(f"tables and figures in {found.root}; the tuned grid: {written}")


if __name__ == "__main__":
    sys.exit(main())
