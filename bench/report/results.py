"""A grid's results as a value: its cells, groups of seeds and splits. What is shown is a function of it.

Each record is read once, when something of it is first asked for; what is written later is not seen.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from bench.config.names import (
    AXES,
    CENTRALIZED,
    LOCAL_STEPS,
    NO_TITLES,
    SYMBOLS,
    cell_name,
    hashable,
    shared_key,
    split_name,
)
from bench.config.tuning import Tuned
from bench.plugins import Tensor
from bench.report.curves import Array, column
from bench.report.metrics import METRICS
from bench.store.cell_folder import CellFolder, CellState
from bench.store.files import Damaged
from bench.store.grid_folder import PlannedCell, Store
from bench.store.records import Curve, Failure, Manifest, Partition, Result, Round, Scores, Steps, Validation

UNFINISHED = {"partial": "not finished", "todo": "not finished"}  # states as figures call them; others by their name


@dataclass(frozen=True, eq=False)
class Cell:
    """A planned cell with what its files say.

    A damaged record is as if it were not there, with a warning; damaged images are an error to who asks for them.

    Attributes:
        titles: of its grid, see `Results`.
    """

    planned: PlannedCell
    folder: CellFolder
    titles: Mapping[str, str] = field(default_factory=dict)

    @property
    def cell_id(self) -> str:
        return self.planned.cell_id

    @property
    def labels(self) -> dict[str, Any]:
        """Strategy, n_clients, beta, seed and further axes."""
        return self.planned.labels

    @property
    def strategy(self) -> str:
        return str(self.labels["strategy"])

    @property
    def name(self) -> str:
        """For people, with its labels but for those that it lacks."""
        return cell_name(self.labels, titles=self.titles)

    @property
    def central(self) -> bool:
        """Whether it is trained in one place."""
        return self.labels["n_clients"] is None

    @property
    def config(self) -> dict[str, Any]:
        """The whole configuration as JSON."""
        return self.planned.config

    @cached_property
    def result(self) -> Result | None:
        return self.folder.read(Result)

    @cached_property
    def failure(self) -> Failure | None:
        return self.folder.read(Failure)

    @cached_property
    def manifest(self) -> Manifest | None:
        return self.folder.read(Manifest)

    @property
    def done(self) -> bool:
        return self.result is not None

    @cached_property
    def state(self) -> CellState:
        return self.folder.state_of(self.result, None if self.done else self.failure)

    @property
    def metrics(self) -> dict[str, int | float | None]:
        """Of the result; empty before the cell is done."""
        return self.result.metrics if self.result else {}

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.result.data.class_names if self.result and self.result.data else ()

    @cached_property
    def rounds(self) -> list[Round]:
        """In order; of several lines of one number the first."""
        found = {line.round: line for line in reversed(self.folder.read_log(Round))}
        return [found[number] for number in sorted(found)]

    @cached_property
    def steps(self) -> list[Steps]:
        return self.folder.read_log(Steps)

    @cached_property
    def validation(self) -> list[Validation]:
        return self.folder.read_log(Validation)

    @cached_property
    def drawn(self) -> tuple[Scores, ...]:
        """Scores of the images drawn after some rounds."""
        curve = self.folder.read(Curve)
        return curve.curve if curve else ()

    @cached_property
    def partition(self) -> Partition | None:
        return self.folder.read(Partition)

    @property
    def class_shares(self) -> Array | None:
        """Shares of the classes in the training images (K,), as the partition counts them; None where there is none."""
        return None if self.partition is None else np.array(self.partition.class_shares)

    def images(self, count: int) -> Tensor | None:
        """The first of the generated images, uint8 (up to count, C, H, W); None if samples.safetensors was removed.

        Raises:
            Damaged: if it cannot be read.
        """
        from bench.store.states import read_tensors  # torch, which tables do without

        file = self.folder.path / "samples.safetensors"
        try:
            tensors = read_tensors(file, sealed=False)
            return None if tensors is None else tensors["images"][:count]
        except (Damaged, KeyError) as error:
            raise Damaged(f"{file} is damaged ({error})") from error

    @cached_property
    def costs(self) -> dict[str, Array]:
        """The totals after each round (R,) by the names in `bench.report.metrics.COSTS`; NaN where a round lacks one.

        An autoencoder is trained before the first round, so its bytes and seconds are in all of them.
        """
        sent = METRICS["megabytes"]
        before = sum(self.metrics.get(key) or 0 for key in sent.optional_parts)
        return {
            "megabytes": (column(self.rounds, "bytes_up") + column(self.rounds, "bytes_down") + before) / sent.unit,
            "round": column(self.rounds, "round"),
            "samples": column(self.rounds, "samples"),
            "sequential_steps": column(self.rounds, "sequential_steps"),
            "seconds": column(self.rounds, "seconds") + (self.metrics.get("autoencoder_seconds") or 0),
        }


@dataclass(frozen=True, eq=False)
class Group:
    """The planned cells that differ in their seed alone. Without any it has neither labels nor a strategy."""

    cells: tuple[Cell, ...]

    @cached_property
    def labels(self) -> dict[str, Any]:
        """What they have in common."""
        return {axis: value for axis, value in self.cells[0].labels.items() if axis != "seed"}

    @property
    def strategy(self) -> str:
        return self.cells[0].strategy

    @property
    def titles(self) -> Mapping[str, str]:
        return self.cells[0].titles

    @property
    def central(self) -> bool:
        return any(cell.central for cell in self.cells)

    @cached_property
    def split(self) -> str:
        """The text of n_clients, beta and further axes, "" where there is none."""
        return split_name(self.labels, self.titles)

    @cached_property
    def done(self) -> tuple[Cell, ...]:
        """The finished ones."""
        return tuple(cell for cell in self.cells if cell.done)

    def scores(self, metric: str) -> Array:
        """The metric of those finished seeds that have it."""
        values = np.array([cell.metrics.get(metric) for cell in self.done], dtype=float)
        return values[np.isfinite(values)]


@dataclass(frozen=True, eq=False)
class Split:
    """What is compared in one place of a picture: groups of one n_clients, beta and further axes.

    Attributes:
        groups: with finished cells; centralized training first, then the strategies in the plan's order.
    """

    name: str
    groups: tuple[Group, ...]

    @property
    def federated(self) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if not group.central)


@dataclass(frozen=True, eq=False)
class Results:
    """The results of one grid.

    Attributes:
        root: the grid's folder.
        extra_axes: dotted names of the axes beside strategy, n_clients, beta and seed.
        cells: in the plan's order.
        titles: what people read for labels of strategies, names of axes and texts of their values; what has none is
            written as it is.
        claims: whether the grid asks for the paper's claims.
        tuned: how the grid's values were chosen; None if nothing says so.
    """

    root: Path
    name: str
    description: str
    extra_axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    titles: Mapping[str, str] = field(default_factory=dict)
    claims: bool = False
    tuned: Tuned | None = None

    @classmethod
    def read(cls, root: Path, titles: Mapping[str, str] = NO_TITLES) -> Self:
        """The results in a grid's folder.

        Args:
            titles: that stand before those of its last run.
        Raises:
            FileNotFoundError: if no grid was run into it.
            Damaged: if its plan cannot be read.
        """
        store = Store(root)
        plan = store.plan()
        planned = [PlannedCell(**cell) for cell in plan["cells"]]
        titles = plan.get("titles", {}) | dict(titles)
        cells = tuple(Cell(cell, store.cell(cell.cell_id), titles) for cell in planned)
        axes = tuple(plan["extra_axes"])
        claims, tuned = plan.get("claims", False), plan.get("tuned")
        tuned = Tuned.model_validate(tuned) if tuned else None
        return cls(root, plan["name"], plan["description"], axes, cells, titles, claims, tuned)

    @property
    def axes(self) -> tuple[str, ...]:
        """All axes but the seed."""
        return (*AXES, *self.extra_axes)

    @property
    def repeated(self) -> bool:
        """Whether anything is of several finished seeds."""
        return any(len(group.done) > 1 for group in self.groups)

    def title(self, name: str) -> str:
        """What people read for a strategy's label, or for an axis's name or value."""
        return self.titles.get(name, name)

    def heading(self, axis: str) -> str:
        """An axis's name as papers write it, or its title."""
        return self.titles.get(axis, SYMBOLS.get(axis, axis))

    @property
    def done(self) -> list[Result]:
        """What the finished cells measured."""
        return [cell.result for cell in self.cells if cell.result]

    @cached_property
    def groups(self) -> list[Group]:
        """In the plan's order."""
        found: dict[tuple[Any, ...], list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(tuple(hashable(cell.labels[axis]) for axis in self.axes), []).append(cell)
        return [Group(tuple(cells)) for cells in found.values()]

    @cached_property
    def finished(self) -> list[Group]:
        """Groups with finished cells: centralized training first, then split by split."""
        splits = {name: place for place, name in enumerate(dict.fromkeys(group.split for group in self.groups))}
        order = sorted(self.groups, key=lambda group: (not group.central, splits[group.split]))
        return [group for group in order if group.done]

    @cached_property
    def splits(self) -> list[Split]:
        """In the plan's order, with centralized training in every one that it is compared with.

        Centralized training that no strategy can be held against stands alone.
        """
        central = [group for group in self.finished if group.central]
        federated = (group for group in self.finished if not group.central)
        places = [(name, list(found)) for name, found in itertools.groupby(federated, lambda group: group.split)]
        beside = {name: [group for group in central if self._compares(group, found[0])] for name, found in places}
        alone = [group for group in central if not any(group in matched for matched in beside.values())]
        return [Split(group.split, (group,)) for group in alone] + [
            Split(name, (*beside[name], *found)) for name, found in places
        ]

    def _compares(self, one: Group, other: Group) -> bool:
        matched = one.labels.get(LOCAL_STEPS) is not None
        keys = [shared_key(group.labels | {"seed": 0}, self.extra_axes, matched=matched) for group in (one, other)]
        return keys[0] == keys[1]

    @cached_property
    def _central(self) -> dict[tuple[Any, ...], Cell]:
        found = [cell for cell in self.cells if cell.strategy == CENTRALIZED and cell.done]
        return {shared_key(cell.labels, self.extra_axes): cell for cell in found}

    def partner(self, cell: Cell) -> Cell | None:
        """The finished centralized training that a cell is compared with, see `bench.config.names.shared_key`."""
        return self._central.get(shared_key(cell.labels, self.extra_axes))

    def unfinished(self) -> list[str]:
        """How many cells are not done, e.g. ``2 cells not finished``: a text for each state."""
        states = [UNFINISHED.get(cell.state, cell.state) for cell in self.cells if not cell.done]
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        return [f"{count} cell{'' if count == 1 else 's'} {state}" for state, count in counts.items()]
