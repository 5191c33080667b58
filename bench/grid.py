"""The command line: plan a grid, run what is missing, write the tables. ``python -m bench.grid --help`` tells all.

Exit codes: 0 all cells done; 1 some failed; 2 a mistake in the grid, an option or the data; 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence

from bench import command
from bench.config.errors import ConfigError
from bench.run.command_line import MEANWHILE, add_options, check_scheduler, results_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    options = parser().parse_args(arguments)
    return command.run(
        lambda: work(options),
        interrupted="interrupted: what is done is kept; the same command goes on",
        known=MEANWHILE,
        code=command.FAILED,
    )


def work(options: argparse.Namespace) -> int:
    """What the options ask for; returns the exit code.

    Raises:
        ConfigError: for a mistake in an option, the grid or the data.
    """
    check_scheduler(options)
    if options.sync_only and options.no_mlflow:
        raise ConfigError("--sync-only: it writes to MLflow, which --no-mlflow forbids; give one of them")
    from bench.config.grid_file import load_grid

    grid, results = load_grid(options.grid, options.set), results_folder(options.results)
    from bench.run import execute, plan  # torch and more: seconds, which a mistake is reported without

    if options.sync_only:
        return execute.sync_only(results / grid.name, options.quiet)
    planned = plan.make_plan(grid, results, options.data_root, options.download)
    return execute.show_plan(planned, options) if options.plan else execute.execute(planned, options)


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command.parser("bench.grid")
    add_options(p)
    p.add_argument("--sync-only", action="store_true", help="bring MLflow up to date with the results; run nothing")
    p.add_argument(
        "--tables-only", action="store_true", help="the report at the end has tables, but no figures and page"
    )
    p.add_argument("--no-mlflow", action="store_true", help="do not write to MLflow")
    return p


if __name__ == "__main__":
    sys.exit(main())
