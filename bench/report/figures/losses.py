"""Curves by split: losses of strategies, of numbers of clients and of the longest run (the paper's figures 2, 3 and 4),
and how far clients drift.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.figure import Figure

from bench.pictures.axes import OTHER, distinct
from bench.pictures.style import REFERENCE, NotApplicable, Style
from bench.report.curves import STRETCHES
from bench.report.figures import panels
from bench.report.figures.captions import Caption, Picture, paged
from bench.report.figures.compared import Compared, compared, known, leaders
from bench.report.figures.layout import COLUMN, TEXT, fitting, head, page, pages, wrapped
from bench.report.lines import Line, round_line, seeds_note, training_line
from bench.report.metrics import COSTS
from bench.report.results import Cell, Group, Results, Split

CLIENT_NUMBERS = 12  # that have a style each
_ROW = 1.42  # inches
_CENTRAL = Style(REFERENCE, "-", "")
_RUNNING = f"running training loss: mean local loss in each 1/{STRETCHES} of the run, clients one after another"


@dataclass(frozen=True)
class Block:
    """A row: the lines of each of its panels, by label."""

    name: str
    lines: tuple[dict[str, Line], ...]

    @property
    def every(self) -> list[Line]:
        return [line for lines in self.lines for line in lines.values()]


@dataclass(frozen=True)
class Column:
    """What stands in a column."""

    name: str
    log: bool = True


def schemes(results: Results) -> list[Picture]:
    """Centralized training against the strategies, a row a split: validation loss and running training loss.

    Raises:
        NotApplicable: if no cell is finished, or no round tells of its loss.
    """
    shown = compared(results)
    blocks = [_block(split.name, {g.strategy: g for g in split.groups}, "samples") for split in shown.splits]
    return _losses(shown, "Losses of the strategies along training", blocks, "samples", [shown.grey()])


def clients(results: Results) -> list[Picture]:
    """The same strategy at each number of clients, a row each.

    Raises:
        NotApplicable: if no strategy has finished at two numbers of clients.
    """
    shown = compared(results)
    found = _by_clients(shown)
    if not found:
        raise NotApplicable("no strategy has finished cells at two numbers of clients")
    first = ["fedavg", *leaders(shown.splits, len(shown.styles))]
    order = {name: number for number, name in enumerate(dict.fromkeys(first))}
    rows = sorted(found.items(), key=lambda row: order.get(row[0][0], len(order)))
    numbers = sorted({n for by_number in found.values() for n in by_number if n})
    styles = {"centralized": _CENTRAL} | {f"{n} clients": OTHER for n in numbers}
    styles |= {f"{n} clients": distinct(k) for k, n in enumerate(numbers[:CLIENT_NUMBERS])}
    blocks = []
    for (strategy, point), by_number in rows:
        drawn = {f"{n} clients" if n else "centralized": by_number[n] for n in sorted(by_number)}
        blocks.append(_block(", ".join(filter(None, [shown.name(strategy), point])), drawn, "samples"))
    title = "Losses of each strategy at several numbers of clients"
    return _losses(replace(shown, styles=styles), title, blocks, "samples")


def _by_clients(shown: Compared) -> dict[tuple[str, str], dict[int, Group]]:
    """By strategy, and what else stays the same, groups by number of clients (two at least), 0 for centralized."""
    found: dict[tuple[str, str], dict[int, Group]] = {}
    for split in shown.splits:
        central = [group for group in split.groups if group.central]
        for group in split.federated:
            groups = found.setdefault((group.strategy, shown.place(group, ["n_clients"])), {})
            groups |= {group.labels["n_clients"]: group} | dict(zip([0], central, strict=False))
    return {key: groups for key, groups in found.items() if len(groups.keys() - {0}) > 1}


def long_run(results: Results) -> list[Picture]:
    """The longest training of most clients, all its rounds, beside centralized training.

    Of several of the same length, that of the strategy which stands first in the plan.

    Raises:
        NotApplicable: if no cell with clients is finished.
    """
    shown = compared(results)
    runs = [(split, group) for split in shown.splits for group in split.federated]
    if not runs:
        raise NotApplicable("no cell with clients is finished")
    split, run = max(runs, key=lambda found: _length(found[1].cells[0]))
    drawn = {group.strategy: group for group in split.groups if group.central} | {run.strategy: run}
    name = ", ".join(filter(None, [shown.name(run.strategy), split.name]))
    return _losses(shown, "Losses of the longest run with the most clients", [_block(name, drawn, "round")], "round")


def _length(cell: Cell) -> tuple[int, int]:
    return cell.config["training"]["rounds"], cell.labels["n_clients"]


def _block(name: str, groups: Mapping[str, Group], x: str) -> Block:
    validation = known((label, round_line(group, "validation_loss", x)) for label, group in groups.items())
    return Block(name, (validation, known((label, training_line(group, x)) for label, group in groups.items())))


def _losses(shown: Compared, title: str, blocks: Sequence[Block], x: str, notes: Sequence[str] = ()) -> list[Picture]:
    columns = [Column("validation loss (log)"), Column("running training\nloss (log)")]
    if not any(block.every for block in blocks):
        raise NotApplicable("no round of a finished cell tells of its loss")
    running = _RUNNING
    if not any(block.lines[1] for block in blocks):
        running = "no running training loss: the cells have no steps.jsonl"
        blocks, columns = [Block(block.name, block.lines[:1]) for block in blocks], columns[:1]
    return draw_blocks(shown, title, blocks, columns, COSTS[x], [running, *notes])


def drift(results: Results) -> list[Picture]:
    """The distance of clients' models to the global one and the cosine between their updates, by round and split.

    Raises:
        NotApplicable: if no round tells of a drift.
    """
    shown = compared(results)
    splits = [split for split in shown.splits if split.federated]
    blocks = [Block(split.name, (by_round(split, "drift"), by_round(split, "update_cosine"))) for split in splits]
    if not any(block.every for block in blocks):
        raise NotApplicable("no round of a finished cell tells how far its clients went")
    columns = [Column("drift of clients'\nmodels (log)"), Column("cosine of updates", log=False)]
    title = "Distance of the clients' models to the global one, and cosine between their updates"
    return draw_blocks(shown, title, blocks, columns, "round", [shown.grey()])


def by_round(split: Split, metric: str) -> dict[str, Line]:
    """Lines of the strategies, of all rounds that any seed has."""
    return known((group.strategy, round_line(group, metric, shared=False)) for group in split.federated)


# ------------------------------------------------------------------------------------------------ drawing


def draw_blocks(
    shown: Compared, title: str, blocks: Sequence[Block], columns: Sequence[Column], x: str, notes: Sequence[str]
) -> list[Picture]:
    """Rows of panels in the same scales; the panels of a single row stand below one another, in a column's width."""
    alone = len(blocks) == 1
    width, letters = (COLUMN, 44) if alone else (TEXT, 90)
    legend = shown.legend(label for block in blocks for lines in block.lines for label in lines)
    scales = [[line for block in blocks for line in block.lines[k].values()] for k in range(len(columns))]
    ends = [panels.log_ends(scale) if column.log else None for scale, column in zip(scales, columns, strict=True)]

    def draw(part: Sequence[Block]) -> Figure:
        figure, grid = (
            page(len(columns), 1, _ROW, legend, width) if alone else page(len(part), len(columns), _ROW, legend)
        )
        for block, row in zip(part, grid.T if alone else grid, strict=True):
            head(row[0], wrapped(block.name, letters))
            for k, (axes, lines, column) in enumerate(zip(row, block.lines, columns, strict=True)):
                panels.lines(axes, lines, shown.styles)
                panels.log_heights(axes, ends[k]) if column.log else panels.heights(axes, scales[k])
                axes.set_ylabel(column.name)
                if lines:
                    panels.count_axis(axes, max(line.x[-1] for line in block.every))
            panels.label_ends(row[-1], block.lines[-1], shown.styles, shown.name)
        for axes in grid[-1]:
            axes.set_xlabel(x)
        return figure

    caption = Caption(title, [seeds_note([line for scale in scales for line in scale]), *notes], samples=False)
    return paged(shown.results, caption, blocks, pages(blocks, fitting(_ROW, legend, width)), draw)
