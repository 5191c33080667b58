"""The command line: tables, figures and a page of a grid's results. ``python -m bench.report --help`` tells all.

Nothing else is read, and no cell is run: what it writes can be deleted and made again. A grid writes it at its end.

Exit codes: 0 written; 2 a mistake, or nothing to report on; 130 interrupted.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from rich.console import Console

from bench import figures, tables
from bench.config import ConfigError
from bench.files import Damaged, read_json, remove, write_json
from bench.grid_file import load_grid
from bench.page import write_page
from bench.store import ReadOnce, Store
from bench.summary import CENTRALIZED, baselines

TABLES, FIGURES, PAGE = "tables", "figures", "report.html"  # in the grid's folder
WRITTEN = ".report.json"  # names the files of the last report
ODD = (Damaged, KeyError, IndexError, TypeError, ValueError, ArithmeticError)  # of records that are not as they should
DONE, WRONG, INTERRUPTED = 0, 2, 130


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        root: the grid's folder.
        files: all that was, the page last.
        left_out: figures that do not apply, with the reason.
        told: warnings: records that are broken, rows that do not compare.
    """

    root: Path
    files: tuple[Path, ...]
    left_out: tuple[str, ...]
    told: tuple[str, ...]


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


def odd_record(where: str, error: BaseException) -> str:
    """What to say of one of `ODD`."""
    told = f"{type(error).__name__}: {error}"
    return f"a record {where} is not as it should be: {told}: were they written by another version?"


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


def writing(store: Store) -> FileLock:
    """Held while what is made of all cells is written: two processes take turns."""
    return FileLock(store.root / ".tables")


def write_report(store: ReadOnce, baseline: str = CENTRALIZED, siunitx: bool = False, pictures: bool = True) -> Report:
    """Write tables/, figures/ and report.html into the grid's folder, and remove other files of the last report there.

    Args:
        baseline: label of the strategy that the others' differences are to.
        siunitx: whether LaTeX tables have that package's columns.
        pictures: whether figures and the page are written, too.
    Raises:
        ConfigError: if no cell uses the baseline.
        Damaged: if grid.json is.
        OSError: if the folder cannot be written.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        if baseline not in baselines(store):
            raise ConfigError(f"--baseline {baseline}: no cell is of it; there are {', '.join(baselines(store))}")
        written = tables.write_tables(store, store.root / TABLES, siunitx, baseline)
        drawn, left_out = _draw(store) if pictures else ([], [])
        _forget_others(store.root, [*written, *drawn])
    told = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    return Report(store.root, (*written, *drawn), tuple(left_out), tuple(dict.fromkeys(told)))


def _draw(store: ReadOnce) -> tuple[list[Path], list[str]]:
    """Figures and page; what does not apply, with the reason."""
    drawn, left_out = figures.draw_all(store, store.root / FIGURES)
    page = write_page(store, store.root / PAGE, store.root / TABLES, store.root / FIGURES)
    return [*drawn, page], left_out


def _forget_others(root: Path, made: Iterable[Path]) -> None:
    """Remove files of the last report that this one does not write: what they show may not be so any more."""
    names = [str(path.relative_to(root)) for path in made]
    try:
        last = (read_json(root / WRITTEN) or {}).get("files", [])
    except Damaged as error:
        warnings.warn(f"{root / WRITTEN} is broken ({error}); files of the last report may be left", stacklevel=2)
        last = []
    for name in set(last) - set(names):
        remove(root / name)
    write_json(root / WRITTEN, {"files": names})


def show(report: Report, store: ReadOnce, console: Console, warn: Callable[[str], None]) -> None:
    """Print the summary, what the claims came to, and where everything lies."""
    tables.print_whole(console, tables.terminal_table(store))
    tables.print_whole(console, tables.claims_table(store))
    console.print(tables.caption(store), style="dim", highlight=False, markup=False)
    for warning in (*report.told, *tables.warnings(store)):
        warn(warning)
    for line in report.left_out:
        console.print(f"not drawn: {line}", style="dim", markup=False, soft_wrap=True)
    console.print(where(report), markup=False, soft_wrap=True)


def where(report: Report) -> str:
    """One line that says what was written where."""
    counts = {name: sum(path.parent.name == name for path in report.files) for name in (TABLES, FIGURES)}
    told = [f"{count} files in {report.root / name}" for name, count in counts.items() if count]
    page = [str(path) for path in report.files if path.name == PAGE]
    return "report: " + ", ".join([*page, *told])


if __name__ == "__main__":
    sys.exit(main())
