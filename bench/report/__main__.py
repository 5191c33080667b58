import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.command import ODD, odd_record
from bench.config.errors import ConfigError
from bench.config.grid_file import load_grid
from bench.config.names import CENTRALIZED
from bench.report.results import ReadOnce
from bench.report.write import show, write_report, writing

DONE, WRONG, INTERRUPTED = 0, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    options = parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        store = find_store(options.results, options.grid)
        with writing(store):
            made = write_report(store, options.baseline, options.siunitx)
        show(made, store, console, lambda text: console.print(f"warning: {text}", markup=False, soft_wrap=True))
        return DONE
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    except ODD as error:
        print(f"error: {odd_record(f'in {options.results}', error)}", file=sys.stderr)
        return WRONG
    except OSError as error:
        print(f"error: the report cannot be written: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("interrupted: the same command writes the report anew", file=sys.stderr)
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(
        "python -m bench.report", description="Write tables, figures and a page of a grid's results; nothing is run."
    )
    p.add_argument("--grid", required=True, metavar="NAME", help="a grid that was run, by its name or its TOML file")
    p.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="where results lie (results)")
    p.add_argument(
        "--baseline", default=CENTRALIZED, metavar="STRATEGY",
        help='what the others\' differences are to, e.g. fedavg or "fedprox(mu=0.1)" (default: centralized)',
    )  # fmt: skip
    p.add_argument("--siunitx", action="store_true", help="LaTeX tables with columns of the package siunitx")
    return p


def find_store(results: Path, grid: str) -> ReadOnce:
    """The grid's results, each record of which is then read once.

    Raises:
        ConfigError: if no grid of that name was run into the folder.
    """
    name = load_grid(grid, []).name if grid.endswith(".toml") else grid
    try:
        there = sorted(path.parent.name for path in results.glob("*/grid.json"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--results {results}: cannot be read: {error}") from error
    if name not in there:
        known = f"there are {', '.join(there)}" if there else "no grid has been run into it"
        raise ConfigError(f"--grid {grid}: {results} holds no results of a grid {name}; {known}")
    return ReadOnce(results / name)


if __name__ == "__main__":
    sys.exit(main())
