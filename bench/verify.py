"""The command line: finished cells run once more and compared. ``python -m bench.verify --help`` tells all.

Nothing is written into the results that are verified: cells run in a temporary folder, without what is cached there.

Exit codes: 0 every number is the same; 1 some are not; 2 a mistake, or cells that cannot be run here; 130 interrupted.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench import command
from bench.command import whole
from bench.config.errors import ConfigError
from bench.plugins import allowed
from bench.store.files import Damaged

if TYPE_CHECKING:
    from bench.store.grid_folder import PlannedCell, Store


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    options = parser().parse_args(arguments)
    return command.run(lambda: work(options))


def work(options: argparse.Namespace) -> int:
    """Choose cells, run them again and compare; returns the exit code."""
    from bench.store.grid_folder import Store

    store = Store(options.results)
    chosen = choose(store, options.cell, options.cells, options.seed)
    from bench.run.again import report, verify  # torch, seconds

    console = command.console()
    how = "as named" if options.cell else f"drawn with --seed {options.seed}"
    console.print(f"{store.root}: {len(chosen)} finished cell(s) to run again, {how}")
    return report([verify(store, cell, options.data_root, console) for cell in chosen], console)


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command.parser("bench.verify")
    p.add_argument("results", type=Path, metavar="results/GRID", help="a grid's folder; nothing in it is changed")
    which = p.add_mutually_exclusive_group()
    which.add_argument("--cells", type=whole(1), default=1, metavar="N", help="how many to draw (default: 1)")
    which.add_argument("--cell", action="append", default=[], metavar="ID", help="this one; may be repeated")
    p.add_argument("--seed", type=int, default=0, metavar="S", help="which ones are drawn (default: 0)")
    p.add_argument("--data-root", type=Path, metavar="DIR", help="folder of torchvision's data sets")
    return p


# ---------------------------------------------------------------------------------------------------- which cells


def choose(store: "Store", named: Sequence[str], count: int, seed: int) -> "list[PlannedCell]":
    """The named cells, or `count` of the finished ones, at most all, in the plan's order.

    Raises:
        ConfigError: if no grid is there, none of its cells is finished, or a named one is not or is unknown.
    """
    finished = {
        cell.cell_id: cell for cell in planned(store) if (store.cell(cell.cell_id).path / "result.json").exists()
    }
    if not finished:
        raise ConfigError(f"{store.root}: none of the grid's cells is finished, so there is nothing to compare with")
    for name in named:
        if name not in finished:
            raise ConfigError(f"--cell {name}: no finished cell of {store.root}{allowed(name, finished)}")
    drawn = named or random.Random(seed).sample(sorted(finished), min(count, len(finished)))
    return [cell for name, cell in finished.items() if name in drawn]


def planned(store: "Store") -> "list[PlannedCell]":
    """The cells that grid.json names.

    Raises:
        ConfigError: if there is no grid.json that can be read.
    """
    try:
        return store.planned()
    except FileNotFoundError as error:
        raise ConfigError(f"{error}; give the folder of one grid, such as results/default") from error
    except Damaged as error:
        raise ConfigError(f"{error}; run the grid again") from error
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{store.root / 'grid.json'} is of another version ({error}); run the grid again") from error


if __name__ == "__main__":
    sys.exit(main())
