"""Losses along training, by split, by number of clients and of the longest run: the paper's figures 2, 3 and 4."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.config.names import split_name
from bench.pictures.axes import OTHER, distinct
from bench.pictures.style import REFERENCE, NotApplicable, Style
from bench.report.curves import STRETCHES
from bench.report.figures.layout import compared, grey
from bench.report.figures.panels import Block, Panel, draw_blocks, known
from bench.report.figures.split_parts import TOLD_APART, finished_splits, leaders, left_out
from bench.report.lines import round_line, training_line
from bench.report.metrics import COSTS
from bench.report.results import Cell, Group, Results, Split

ROWS_SHOWN = 4
_CENTRAL = Style(REFERENCE, "-", "")


def schemes(results: Results, *paths: Path) -> None:
    """Centralized training against the strategies, a row a split: held-out loss and running training loss.

    Raises:
        NotApplicable: if no cell is finished, or no round tells of its loss.
    """
    shown = compared(results, ROWS_SHOWN)
    blocks = [
        _block(split.name, {group.strategy: group for group in split.groups}, "samples") for split in shown.splits
    ]
    _draw(blocks, shown.styles, [*shown.notes, grey(shown)], "samples", *paths)


def clients(results: Results, *paths: Path) -> None:
    """The same strategy at each number of clients, a row each.

    Raises:
        NotApplicable: if no strategy has finished at two numbers of clients.
    """
    splits = finished_splits(results)
    groups = _by_clients(splits)
    if not groups:
        raise NotApplicable("no strategy has finished cells at two numbers of clients")
    first = {name: number for number, name in enumerate(["fedavg", *leaders(splits, ROWS_SHOWN)])}
    rows = sorted(groups, key=lambda group: first.get(group[0].strategy, len(first)))
    numbers = sorted({n for group in groups for n in group[1]})
    styles = {"centralized": _CENTRAL} | {f"{n} clients": OTHER for n in numbers}
    styles |= {f"{n} clients": distinct(k) for k, n in enumerate(numbers[:TOLD_APART])}
    blocks = []
    for key, found, central in rows[:ROWS_SHOWN]:
        drawn = {"centralized": central} if central is not None else {}
        drawn |= {f"{n} clients": found[n] for n in sorted(found)}
        name = ", ".join(part for part in (key.strategy, key.point) if part)
        blocks.append(_block(name, drawn, "samples"))
    notes = [*results.unfinished(), left_out(len(rows) - ROWS_SHOWN, "strategy and split", "strategies and splits")]
    _draw(blocks, styles, notes, "samples", *paths)


@dataclass(frozen=True)
class _Key:
    """What stays the same over numbers of clients."""

    strategy: str
    point: str


_Numbers = tuple[_Key, dict[int, Group], Group | None]


def _by_clients(splits: Sequence[Split]) -> list[_Numbers]:
    """Strategies with two numbers of clients at least, and the centralized training beside them."""
    found: dict[_Key, dict[int, Group]] = {}
    central: dict[_Key, Group] = {}
    for split in splits:
        beside = next((group for group in split.groups if group.central), None)
        for group in split.federated:
            key = _Key(group.strategy, split_name(group.labels | {"n_clients": None}))
            found.setdefault(key, {})[group.labels["n_clients"]] = group
            if beside is not None:
                central[key] = beside
    return [(key, numbers, central.get(key)) for key, numbers in found.items() if len(numbers) > 1]


def long_run(results: Results, *paths: Path) -> None:
    """The longest training of most clients, all its rounds, beside centralized training.

    Of several of the same length, that of the strategy which stands first in the plan.

    Raises:
        NotApplicable: if no cell with clients is finished.
    """
    runs = [(split, group) for split in finished_splits(results) for group in split.federated]
    if not runs:
        raise NotApplicable("no cell with clients is finished")
    split, run = max(runs, key=lambda found: _length(found[1].cells[0]))
    beside = {group.strategy: group for group in split.groups if group.central}
    label = ", ".join(part for part in (run.strategy, split.name) if part)
    block = _block(label, beside | {run.strategy: run}, "round")
    styles = dict.fromkeys(beside, _CENTRAL) | {run.strategy: distinct(0)}
    _draw([block], styles, results.unfinished(), "round", *paths)


def _length(cell: Cell) -> tuple[int, int]:
    return cell.config["training"]["rounds"], cell.labels["n_clients"]


def _block(name: str, groups: Mapping[str, Group], x: str) -> Block:
    return Block(
        name or "centralized training",
        known((label, round_line(group, "heldout_loss", x)) for label, group in groups.items()),
        known((label, training_line(group, x)) for label, group in groups.items()),
    )


def _draw(blocks: Sequence[Block], styles: Mapping[str, Style], notes: Sequence[str], x: str, *paths: Path) -> None:
    panels = [Panel("held-out loss", log=True), Panel("running training loss", log=True)]
    if not any(block.left or block.right for block in blocks):
        raise NotApplicable("no round of a finished cell tells of its loss")
    running = f"running training loss: mean local loss in each 1/{STRETCHES} of the run, one client after another"
    if not any(block.right for block in blocks):
        running = "no running training loss: steps.jsonl is not there"
        del panels[1]
    draw_blocks(blocks, panels, styles, [running, *notes], COSTS[x], *paths)
