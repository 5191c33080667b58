"""What the overview shows, read from the store: finished experiments, and what is compared under which recipe."""

import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.config.grid_file import FEDERATED_ONLY
from bench.config.names import split_name, value_text
from bench.pictures.style import NotApplicable
from bench.store.grid_folder import PlannedCell, Store

_TOLD = {"partial": "not finished", "todo": "not finished"}  # of states; the others are told by their name


@dataclass(frozen=True)
class Experiment:
    """Finished cells that differ in the seed alone.

    Attributes:
        strategy: its label.
        split: the text of n_clients, beta and further axes, "" where there is none.
        cells: ids.
    """

    strategy: str
    split: str
    central: bool
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What is compared under one recipe, or at one point of further axes.

    Attributes:
        name: e.g. ``cosine-guided``.
        experiments: those compared, in the columns' order; without cells where none is finished.
        states: what became of the columns' unfinished cells.
        weights: ids of the trainings; rows that differ in their sampling alone share them.
        scale: what must be equal for held-out losses to compare.
    """

    name: str
    experiments: tuple[Experiment, ...]
    states: tuple[str, ...]
    weights: tuple[str, ...]
    scale: str


def finished_experiments(store: Store) -> list[Experiment]:
    """Centralized ones first, then split by split, strategies in the plan's order.

    Raises:
        NotApplicable: if no cell is finished.
    """
    groups: dict[tuple[bool, str, str], list[str]] = {}
    for cell in store.planned():
        key = (cell.labels["n_clients"] is not None, split_name(cell.labels), cell.labels["strategy"])
        done = store.cell(cell.cell_id).state() == "done"
        groups.setdefault(key, []).extend([cell.cell_id] if done else [])
    splits = list(dict.fromkeys(split for _, split, _ in groups))
    order = sorted(groups, key=lambda key: (key[0], splits.index(key[1])))
    found = [Experiment(key[2], key[1], not key[0], tuple(groups[key])) for key in order if groups[key]]
    if not found:
        raise NotApplicable("no cell is finished, so there is nothing to draw")
    return found


def comparison(store: Store) -> tuple[list[str], list[Row]]:
    """Columns (what is compared: strategy, n_clients, beta) and rows (further axes), in the plan's order.

    Centralized training stands in all rows that differ only in what means nothing to it. Rows of which nothing is
    finished are left out.
    """
    axes, planned = store.plan()["extra_axes"], store.planned()
    own = [axis for axis in axes if axis not in FEDERATED_ONLY]
    federated = {_point(cell, own) for cell in planned if not _is_central(cell)}
    points = [_point(cell, axes) for cell in planned if not _is_central(cell) or _point(cell, own) not in federated]
    compared = list(dict.fromkeys(_compared(cell) for cell in sorted(planned, key=lambda cell: not _is_central(cell))))
    rows = []
    for point in dict.fromkeys(points):
        cells = [c for c in planned if set(_point(c, own if _is_central(c) else axes)) <= set(point)]
        row = _make_row(store, point, cells, compared)
        if row.weights:
            rows.append(row)
    return compared, rows


def _is_central(cell: PlannedCell) -> bool:
    return cell.labels["n_clients"] is None


def _point(cell: PlannedCell, axes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Where the cell stands on the axes, with values as texts."""
    return tuple((axis, value_text(cell.labels[axis])) for axis in axes)


def _compared(cell: PlannedCell) -> str:
    """The column of a cell, e.g. ``fedavg`` and, on a second line, ``n = 5, β = 0.1``."""
    split = split_name({key: cell.labels[key] for key in ("n_clients", "beta")})
    return "\n".join(part for part in (cell.labels["strategy"], split) if part)


def _make_row(
    store: Store, point: Sequence[tuple[str, str]], cells: Sequence[PlannedCell], compared: Sequence[str]
) -> Row:
    experiments, states, weights = [], [], []
    by_column: dict[str, list[PlannedCell]] = {}
    for cell in cells:
        by_column.setdefault(_compared(cell), []).append(cell)
    for column in compared:
        here = [(cell, store.cell(cell.cell_id).state()) for cell in by_column.get(column, [])]
        done = [cell for cell, state in here if state == "done"]
        weights += [cell.train_id for cell in done]
        states.append(next((_TOLD.get(state, state) for _, state in here if state != "done"), ""))
        central = any(_is_central(cell) for cell, _ in here)
        experiments.append(Experiment(column, "", central, tuple(cell.cell_id for cell in done)))
    config = cells[0].config
    noise = [config["diffusion"]["schedule"], config["diffusion"]["T"], config["latent"]["mode"], config["data"]]
    lines = [value if axis == "recipe" else f"{axis} = {value}" for axis, value in point]
    name = "\n".join(part for line in lines for part in textwrap.wrap(line, 28))
    return Row(name, tuple(experiments), tuple(states), tuple(weights), json.dumps(noise))


def scores(store: Store, experiment: Experiment, metric: str) -> NDArray[np.float64]:
    """The metric of those seeds that have it."""
    found = [((store.cell(cell).result() or {}).get("metrics") or {}).get(metric) for cell in experiment.cells]
    return np.array([score for score in found if score is not None], dtype=float)


def unfinished(store: Store) -> list[str]:
    """How many cells are not done, e.g. ``2 cells not finished``: a text for each state."""
    states = (store.cell(cell.cell_id).state() for cell in store.planned())
    counts = Counter(_TOLD.get(state, state) for state in states if state != "done")
    return [f"{count} cell{'' if count == 1 else 's'} {state}" for state, count in counts.items()]
