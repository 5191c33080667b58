"""The command line: two results folders side by side. ``python -m bench.compare --help`` tells all.

For two versions of the code, or two machines: cells are matched by what they are (strategy, clients, beta, seed and
further axes), not by their ids, which other versions and devices change.

Exit codes: 0 compared; 2 a mistake, or folders with nothing in common; 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench import command
from bench.command import odd_records
from bench.config.errors import ConfigError
from bench.plugins import hint
from bench.store.files import Damaged

if TYPE_CHECKING:
    from bench.report.results import Results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    options = parser().parse_args(arguments)
    return command.run(
        lambda: work(options),
        known=odd_records("of the two folders")
        | {OSError: lambda error: f"{error.filename or options.out}: {error.strerror or error}"},
    )


def work(options: argparse.Namespace) -> int:
    """Compare, show and write; returns the exit code."""
    a, b = open_results(options.a), open_results(options.b)
    from bench.report.comparison import compare, show, write  # pandas, seconds

    console, comparison = command.console(), compare(a, b)
    show(comparison, console)
    if options.out is not None:
        paths = write(comparison, options.out)
        console.print(f"written: {', '.join(map(str, paths))}")
    return command.DONE


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command.parser("bench.compare")
    p.add_argument("a", type=Path, metavar="results/A", help="a grid's folder")
    p.add_argument("b", type=Path, metavar="results/B", help="another one, of the same cells")
    p.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write pairs.csv, comparison.csv, differences.csv and comparison.{md,png,pdf}",
    )
    return p


def open_results(folder: Path) -> "Results":
    """The results in a grid's folder.

    Raises:
        ConfigError: if it is none.
    """
    try:
        if (folder / "grid.json").is_file():
            from bench.report.results import Results

            return Results.read(folder)
        inside = sorted(str(path.parent) for path in folder.glob("*/grid.json"))
    except Damaged as error:
        raise ConfigError(str(error)) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: cannot be read: {error}") from error
    close = hint(str(folder), inside, inside)
    raise ConfigError(f"{folder} holds no grid.json: no grid has been run into it{close}")


if __name__ == "__main__":
    sys.exit(main())
