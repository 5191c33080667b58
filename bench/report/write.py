"""A grid's report: tables, figures and page written into its folder, and what of them stands on the terminal.

Only the results are read, so what is written can be deleted and made again.
"""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from rich.console import Console

from bench.command import print_whole
from bench.config.errors import ConfigError
from bench.config.names import CENTRALIZED
from bench.report.figures.every import draw_all
from bench.report.page.write import write_page
from bench.report.results import ReadOnce
from bench.report.summary import baselines
from bench.report.tables.caption import caption, row_warnings
from bench.report.tables.terminal import claims_table, terminal_table
from bench.report.tables.write import write_tables
from bench.store.files import Damaged, read_json, remove, write_json
from bench.store.grid_folder import Store

TABLES, FIGURES, PAGE = "tables", "figures", "report.html"  # in the grid's folder
WRITTEN = ".report.json"  # names the files of the last report


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
        written = write_tables(store, store.root / TABLES, siunitx, baseline)
        drawn, left_out = _draw(store) if pictures else ([], [])
        _forget_others(store.root, [*written, *drawn])
    told = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    return Report(store.root, (*written, *drawn), tuple(left_out), tuple(dict.fromkeys(told)))


def _draw(store: ReadOnce) -> tuple[list[Path], list[str]]:
    """Figures and page; what does not apply, with the reason."""
    drawn, left_out = draw_all(store, store.root / FIGURES)
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
    print_whole(console, terminal_table(store))
    print_whole(console, claims_table(store))
    console.print(caption(store), style="dim", highlight=False, markup=False)
    for warning in (*report.told, *row_warnings(store)):
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
