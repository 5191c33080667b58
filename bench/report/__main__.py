"""The command line: tables, figures and a page of a grid's results. ``python -m bench.report --help`` tells all.

Nothing else is read, and no cell is run: what it writes can be deleted and made again. A grid writes it at its end.
With ``--cells`` the pictures in the cells' own folders are drawn again, too.

Exit codes: 0 written; 2 a mistake, or nothing to report on; 130 interrupted.
"""

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench import command
from bench.command import odd_records
from bench.config.errors import ConfigError
from bench.plugins import allowed
from bench.report.figures import FORMATS, NAMES, USUAL_FORMATS

if TYPE_CHECKING:
    from bench.config.grid_file import Grid


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    options = parser().parse_args(arguments)
    return command.run(
        lambda: work(options),
        interrupted="interrupted: the same command writes the report anew",
        known=odd_records(f"in {options.results}") | {OSError: lambda e: f"the report cannot be written: {e}"},
    )


def work(options: argparse.Namespace) -> int:
    """Write the report and show it; returns the exit code."""
    grid = find_grid(options.grid)
    root = find_root(options.results, grid.name if grid else options.grid, options.grid)
    console = command.console()
    with command.working("writing the report") as tell:
        from bench.config.names import titles
        from bench.report.write import Wishes, show, write_report, writing  # pandas and matplotlib, seconds

        wishes = Wishes(
            baseline=options.baseline,
            references=dict(options.reference),
            metrics=options.metrics,
            width=options.width,
            siunitx=options.siunitx,
            claims=options.claims or bool(grid and grid.claims),
            titles=titles(grid) if grid else {},
            figures=options.figures,
            formats=options.formats,
            style=options.style,
        )
        with writing(root):
            report = write_report(root, wishes, tell)
            drawn = draw_cells(root, tell) if options.cells else []
    for line in drawn:
        console.print(line)
    show(report, console, lambda text: console.print(f"warning: {text}"))
    return command.DONE


def draw_cells(root: Path, tell: Callable[[str], None]) -> list[str]:
    """Draw the pictures of all finished cells again, from the files in their folders.

    Args:
        tell: called with each cell that is drawn.
    Returns:
        A warning for each that is not, and how many are.
    """
    from bench.pictures.of_a_cell import draw_again
    from bench.store.grid_folder import Store

    store = Store(root)
    finished = [folder for cell in store.planned() if (folder := store.cell(cell.cell_id)).state() == "done"]
    warnings = []
    for folder in finished:
        tell(f"pictures of cell {folder.cell_id}")
        if (reason := draw_again(folder)) is not None:
            warnings.append(f"warning: {folder.path}: {reason}; its pictures are left as they are")
    return [*warnings, f"pictures of {len(finished) - len(warnings)} of {len(finished)} finished cells drawn again"]


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command.parser("bench.report")
    p.add_argument("--grid", required=True, metavar="NAME", help="a grid that was run, by its name or its TOML file")
    p.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="where results lie (results)")
    p.add_argument(
        "--baseline", default="centralized", metavar="STRATEGY",
        help='what the others\' differences are to, e.g. fedavg or "fedprox(mu=0.1)" (default: centralized)',
    )  # fmt: skip
    p.add_argument(
        "--reference", type=axis_and_value, action="append", default=[], metavar="AXIS=VALUE",
        help="what contrasts along an axis are to, e.g. beta=0.1 (fedavg, the least n_clients, the largest beta)",
    )  # fmt: skip
    p.add_argument(
        "--metrics", type=metric_keys, default=(), metavar="KEY,KEY", help="columns of tables, e.g. fid,test_loss"
    )
    p.add_argument(
        "--width", choices=("column", "text"), default="text", help="of LaTeX tables: a column or a page's text (text)"
    )
    p.add_argument(
        "--figures", type=figure_names, metavar="NAME,NAME", help="e.g. overview,costs; none for none (default: all)"
    )
    p.add_argument(
        "--formats",
        type=several("format", FORMATS), default=USUAL_FORMATS, metavar="FORMAT,FORMAT",
        help=f"of the figures: {', '.join(FORMATS)} (pdf,png)",
    )  # fmt: skip
    p.add_argument("--style", type=Path, metavar="FILE", help="a matplotlib style sheet for the figures")
    p.add_argument("--claims", action="store_true", help="answer the paper's claims, even if the grid does not ask")
    p.add_argument("--cells", action="store_true", help="draw the pictures in finished cells' folders again, too")
    p.add_argument("--siunitx", action="store_true", help="LaTeX tables with columns of the package siunitx")
    return p


def metric_keys(text: str) -> tuple[str, ...]:
    """For argparse, keys of metrics."""
    from bench.report.metrics import METRICS

    keys = {name: key for key, metric in METRICS.items() for name in (metric.file, key)}
    return tuple(dict.fromkeys(keys[name] for name in several("metric", keys)(text)))


def axis_and_value(text: str) -> tuple[str, str]:
    """For argparse, an axis and a value of it."""
    axis, sign, value = text.partition("=")
    if not (axis and sign and value):
        raise argparse.ArgumentTypeError(f"got {text!r}; it is an axis and one of its values, e.g. beta=0.1")
    return axis, value


def figure_names(text: str) -> tuple[str, ...]:
    """For argparse, names of figures, or "none" alone for no figure."""
    names = several("figure", ("none", *NAMES))(text)
    if "none" in names and len(names) > 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; none stands alone, for no figure: take it or the others out")
    return () if names == ("none",) else names


def several(what: str, known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """For argparse, a list of known names; repetitions are dropped."""

    def names(text: str) -> tuple[str, ...]:
        given = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
        for name in given:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no {what} {name!r}{allowed(name, known)}")
        return given

    return names


def find_grid(name_or_path: str) -> "Grid | None":
    """The grid of a TOML file or of a shipped grid's name, whose labels and claims the report has; None for others."""
    from bench.config.grid_file import load_grid
    from bench.config.grids import shipped_grids

    return load_grid(name_or_path) if name_or_path.endswith(".toml") or name_or_path in shipped_grids() else None


def find_root(results: Path, name: str, grid: str) -> Path:
    """The grid's folder.

    Args:
        grid: as it was asked for.
    Raises:
        ConfigError: if no grid of that name was run into the folder.
    """
    try:
        grids = sorted(path.parent.name for path in results.glob("*/grid.json"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--results {results}: cannot be read: {error}") from error
    if name not in grids:
        options = allowed(name, grids) if grids else "; no grid has been run into it"
        if (results / "grid.json").is_file():
            options = f"; it is a grid's own folder, so give --results {results.parent}"
        raise ConfigError(f"--grid {grid}: {results} holds no results of a grid {name}{options}")
    return results / name


if __name__ == "__main__":
    sys.exit(main())
