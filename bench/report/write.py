"""A grid's report: tables, figures and page written into its folder, and what of them stands on the terminal.

Only the results are read, so what is written can be deleted and made again.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.console import Console

from bench.command import print_whole, terminal_text
from bench.config.errors import ConfigError
from bench.config.names import CENTRALIZED, value_text
from bench.plugins import allowed
from bench.report.contrasts import baselines
from bench.report.figures import USUAL_FORMATS
from bench.report.figures.every import draw_all
from bench.report.figures.layout import read_style
from bench.report.page.write import write_page
from bench.report.results import Results
from bench.report.tables.caption import row_warnings
from bench.report.tables.contents import Contents, contents
from bench.report.tables.terminal import claim_lines, contrast_lines, terminal_table
from bench.report.tables.write import write_tables
from bench.store.files import Damaged, read_json, remove, write_json

TABLES, FIGURES, PAGE = "tables", "figures", "report.html"  # in the grid's folder
WRITTEN = ".report.json"  # names the files of the last report


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        root: the grid's folder.
        files: all that was, the page last.
        left_out: figures that do not apply, with the reason.
        warnings: records that are damaged, rows that do not compare.
        contents: what the tables say.
    """

    root: Path
    files: tuple[Path, ...]
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]
    contents: Contents


def writing(root: Path) -> FileLock:
    """A lock to hold while grid.json or the report is written: two processes take turns."""
    return FileLock(root / ".tables")


@dataclass(frozen=True)
class Wishes:
    """What a report is to be like.

    Attributes:
        baseline: label of the strategy that the others' differences are to.
        references: texts of the values that contrasts are to, by axis; the usual ones for other axes.
        metrics: keys of those that tables show, in this order; () for all that there are.
        width: a key of `bench.report.tables.latex.WIDTHS`.
        siunitx: whether LaTeX tables have that package's columns.
        claims: whether the paper's claims are answered, whether or not the grid asks for them.
        titles: see `bench.report.results.Results`; they stand before those of the last run.
        pictures: whether figures and the page are written, too.
        figures: names of `bench.report.figures.every.FIGURES`, () for none; None for all.
        formats: of these, as `bench.report.figures.FORMATS` names them.
        style: a matplotlib style sheet for them.
    """

    baseline: str = CENTRALIZED
    references: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    width: str = "text"
    siunitx: bool = False
    claims: bool = False
    titles: Mapping[str, str] = field(default_factory=dict)
    pictures: bool = True
    figures: tuple[str, ...] | None = None
    formats: tuple[str, ...] = USUAL_FORMATS
    style: Path | None = None


def write_report(root: Path, wishes: Wishes = Wishes(), tell: Callable[[str], None] = lambda _: None) -> Report:
    """Write tables/, figures/ and report.html into the grid's folder, and remove other files of the last report there.

    Args:
        tell: called with each figure before it is drawn.
    Raises:
        ConfigError: if no cell uses the baseline or a reference, or the style sheet is none; nothing is written then.
        Damaged: if grid.json is.
        OSError: if the folder cannot be written.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        results = Results.read(root, wishes.titles)
        baseline = find_baseline(results, wishes.baseline)
        style = read_style(wishes.style) if wishes.style else {}
        references = find_references(results, wishes.references)
        tables = contents(results, baseline, wishes.metrics, wishes.claims or results.claims, references)
        files = write_tables(tables, root / TABLES, wishes.width, wishes.siunitx)
        left_out: list[str] = []
        if wishes.pictures:
            figures, captions, left_out = draw_all(
                results, root / FIGURES, wishes.figures, wishes.formats, style, lambda name: tell(f"figure {name}")
            )
            files += [*figures, write_page(tables, root / PAGE, root / TABLES, root / FIGURES, captions)]
        _forget_others(root, files)
    messages = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    return Report(root, tuple(files), tuple(left_out), (*dict.fromkeys(messages), *row_warnings(results)), tables)


def find_baseline(results: Results, name: str) -> str:
    """The label of a baseline by its label or its title.

    Raises:
        ConfigError: if no cell uses it, naming the nearest that one does.
    """
    labels = baselines(results)
    by_name = {results.title(label): label for label in labels} | {label: label for label in labels}
    if name not in by_name:
        raise ConfigError(f"--baseline {name}: no cell is of it{allowed(name, labels)}")
    return by_name[name]


def find_references(results: Results, asked: Mapping[str, str]) -> dict[str, Any]:
    """Values of axes by their texts or titles.

    Raises:
        ConfigError: for an axis that the grid does not have, or a value that no cell has there, naming the nearest.
    """
    found = {}
    for axis, text in asked.items():
        if axis not in results.axes:
            raise ConfigError(f"--reference {axis}={text}: there is no axis {axis}{allowed(axis, results.axes)}")
        cells = [cell for cell in results.cells if not (axis == "strategy" and cell.central)]
        values = {value_text(cell.labels[axis]): cell.labels[axis] for cell in cells if cell.labels[axis] is not None}
        by_name = {results.title(name): value for name, value in values.items()} | values
        if text not in by_name:
            raise ConfigError(f"--reference {axis}={text}: no cell is of it{allowed(text, values)}")
        found[axis] = by_name[text]
    return found


def _forget_others(root: Path, files: Iterable[Path]) -> None:
    """Remove files of the last report that this one does not write: what they show may not be so any more."""
    names = [str(path.relative_to(root)) for path in files]
    try:
        record = read_json(root / WRITTEN)
        last = record["files"] if record else []
    except Damaged as error:
        warnings.warn(f"{root / WRITTEN} is damaged ({error}); files of the last report may be left", stacklevel=2)
        last = []
    for name in set(last) - set(names):
        remove(root / name)
    write_json(root / WRITTEN, {"files": names})


def show(report: Report, console: Console, warn: Callable[[str], None]) -> None:
    """Print the summary, contrasts, the verdicts on claims, what differences are against, and where everything lies."""
    print_whole(console, terminal_table(report.contents))
    for line in [*contrast_lines(report.contents), *claim_lines(report.contents)]:
        console.print(terminal_text(line))
    for warning in report.warnings:
        warn(warning)
    for line in report.left_out:
        console.print(f"not drawn: {line}", style="dim")
    if (baseline := report.contents.baseline) != CENTRALIZED:
        title = report.contents.results.title(baseline)
        line = f"{TABLES}/differences.* are against {title}; columns with Δ are against centralized training"
        console.print(terminal_text(line))
    console.print(where(report))


def where(report: Report) -> str:
    """One line that says what was written where."""
    counts = {name: sum(path.parent.name == name for path in report.files) for name in (TABLES, FIGURES)}
    folders = [f"{count} files in {report.root / name}" for name, count in counts.items() if count]
    page = [str(path) for path in report.files if path.name == PAGE]
    return "report: " + ", ".join([*page, *folders])
