"""Who is tuned: the strategies of a grid, what is tuned of each and where its values are looked for."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from bench.config.cell import CellConfig, field, short_strategy
from bench.config.errors import ConfigError
from bench.config.expand import expand, matches
from bench.config.grid_file import Grid
from bench.config.plugin import Plugin
from bench.config.tuning import Space, Tune, Value
from bench.plugins import allowed

T = TypeVar("T")
HYPER = "strategy."  # what the names of hyper-parameters begin with, beside those of fields


@dataclass(frozen=True)
class Contender:
    """A strategy of the grid.

    Attributes:
        plugin: as the grid has it.
        spaces: what is tuned, by a field's name or ``strategy.mu``.
        own: the values that the grid has.
    """

    plugin: Plugin
    spaces: dict[str, Space]
    own: dict[str, Value]

    @property
    def label(self) -> str:
        return short_strategy(self.plugin).label

    def with_values(self, values: Mapping[str, Value]) -> Plugin:
        """The strategy with some hyper-parameters among the values."""
        params = {key.removeprefix(HYPER): value for key, value in values.items() if key.startswith(HYPER)}
        return self.plugin.model_copy(update={"params": self.plugin.params | params})


def fields_of(values: Mapping[str, T]) -> dict[str, T]:
    """Those of the values, or spaces, that are of fields."""
    return {key: value for key, value in values.items() if not key.startswith(HYPER)}


def tune_of(grid: Grid) -> Tune:
    """The grid's table [tune].

    Raises:
        ConfigError: if it has none.
    """
    if grid.file.tune is None:
        raise ConfigError(
            f"{grid.draft.origins.source}: it has no table [tune] of what is tuned; docs/tuning.md has an example"
        )
    return grid.file.tune


def contenders(grid: Grid) -> list[Contender]:
    """The grid's strategies, in its order.

    Raises:
        ConfigError: for a mistake in [tune]: a name that is none of the grid's, a value that its field does not take, a
            space without the grid's own value, a strategy of which nothing is tuned, or less than there are trials, or
            two that would be one.
    """
    tune, where = tune_of(grid), f"{grid.draft.origins.source}: tune"
    for mistake in _mistakes(grid, tune):
        raise ConfigError(f"{where}.{mistake}")
    plugins = list({cell.strategy.label: cell.strategy for cell in grid.cells}.values())
    names = {name for plugin in plugins for name in (plugin.name, short_strategy(plugin).label)}
    for name in tune.strategies:
        if name not in names:
            raise ConfigError(f"{where}.strategies.{name}: no strategy of this grid{allowed(name, sorted(names))}")
    found = [_contender(grid, tune, plugin) for plugin in plugins]
    left: dict[str, str] = {}
    for contender in found:
        rest = contender.with_values({key: 0 for key in contender.spaces if key.startswith(HYPER)}).label
        if rest in left:
            both = f"{left[rest]} and {contender.label}"
            raise ConfigError(f"{where}: {both} differ in what is tuned alone; take one out")
        left[rest] = contender.label
    return found


def _mistakes(grid: Grid, tune: Tune) -> Iterator[str]:
    for key in tune.fields:
        if key in grid.draft.axes:
            yield f"fields.{key}: it is an axis of the grid, too; take one out, or tune where it has one value"
        for name in (name for name, recipe in grid.draft.recipes.items() if key in recipe):
            yield f"fields.{key}: the grid's recipes.{name} gives it, too; take one out"
    if "training.batch_size" in tune.fields and any(cell.training.local_steps for cell in grid.cells):
        yield "fields.training.batch_size: trials would not cost the same, as training.local_steps is given"
    rounds = min(cell.training.rounds for cell in grid.cells)
    rounds = min(rounds, tune.where.get("training.rounds", rounds))
    if tune.rungs and tune.rungs[-1] >= rounds:
        yield f"rungs: got {tune.rungs}; each must be fewer than training.rounds = {rounds}"


def _contender(grid: Grid, tune: Tune, plugin: Plugin) -> Contender:
    """A strategy with its spaces, each of which has been tried at its ends."""
    label, where = short_strategy(plugin).label, f"{grid.draft.origins.source}: tune"
    hyper = tune.strategies.get(plugin.name, {}) | tune.strategies.get(label, {})
    for key in hyper:
        if key not in plugin.params:
            options = allowed(key, plugin.params) if plugin.params else "; it has no hyper-parameters"
            raise ConfigError(f"{where}.strategies.{plugin.name}.{key}: unknown hyper-parameter{options}")
    given = tune.fields | {f"{HYPER}{key}": space for key, space in hyper.items()}
    if not given:
        raise ConfigError(f"{where}: nothing is tuned of {label}; give tune.fields, or tune.strategies.{plugin.name}")
    first = trial_cells(grid, Contender(plugin, given, {}), {})
    own = {key: _own(key, plugin, first, where) for key in sorted(given)}
    contender = Contender(plugin, {key: _space(key, given[key], own[key], where) for key in own}, own)
    for key, space in contender.spaces.items():
        for end in space.ends:
            trial_cells(grid, contender, own | {key: end})
    if (points := math.prod(space.points for space in contender.spaces.values())) < tune.trials:
        raise ConfigError(f"{where}.trials: got {tune.trials}; what is tuned of {label} has {points} settings only")
    return contender


def _own(key: str, plugin: Plugin, cells: Sequence[CellConfig], where: str) -> Any:
    """What the grid has for something tuned.

    Raises:
        ConfigError: if that is nothing, or not the same in all cells.
    """
    if key.startswith(HYPER):
        return plugin.params[key.removeprefix(HYPER)]
    values = {str(field(cell, key)): field(cell, key) for cell in cells}
    if len(values) > 1:
        raise ConfigError(
            f"{where}.fields.{key}: cells of the grid differ in it ({', '.join(values)}); choose some by tune.where"
        )
    return next(iter(values.values()))


def _space(key: str, space: Space, own: Any, where: str) -> Space:
    """The space with numbers of the kind that the grid's own value is.

    Raises:
        ConfigError: if it does not fit that value, or does not hold it.
    """
    table = f"{where}.{'strategies' if key.startswith(HYPER) else 'fields'}: {key.removeprefix(HYPER)}"
    space = space.of_kind(own)
    alike = own is not None and all(type(end) is type(own) for end in space.ends)
    if not alike or (space.choices is None and type(own) not in (int, float)):
        raise ConfigError(f"{table}: got {space}; the grid's own value is {own!r}, and they must be of its kind")
    if not space.holds(own):
        raise ConfigError(f"{table}: got {space}; the grid's own value {own!r} is the first trial, and must be of it")
    return space


def trial_cells(grid: Grid, contender: Contender, values: Mapping[str, Value]) -> list[CellConfig]:
    """The cells of a trial: the grid's cells of the strategy with these values, tuning's seeds and `where`.

    Raises:
        ConfigError: for a value that a cell does not take.
    """
    tune, draft, label = tune_of(grid), grid.draft, contender.plugin.label
    source, sets = draft.origins.source, draft.origins.sets
    own = {key: value for key, value in draft.strategies.get(label, {}).items() if key not in sets}
    fields = own | tune.where | fields_of(values)
    alone: dict[str, list[Any]] = {key: [value] for key, value in fields.items()}
    alone |= {"strategy": [contender.with_values(values).model_dump()], "seed": list(tune.seeds)}
    axes = {axis: points for axis, points in draft.axes.items() if axis not in alone} | alone
    givers = {"strategy": f"{source}: tune.strategies", **dict.fromkeys(tune.where, f"{source}: tune.where")}
    givers |= dict.fromkeys(fields_of(values), f"{source}: tune.fields")
    origins = replace(draft.origins, axes=axes.keys(), sets={**sets, **givers})
    cells = expand(replace(draft, axes=axes, strategies={}, origins=origins))
    kept = [cell for cell in cells if not _excluded(grid, contender, cell)]
    if not kept:
        raise ConfigError(f"{source}: tune: no cell of {contender.label} is left by [[exclude]]")
    return kept


def _excluded(grid: Grid, contender: Contender, cell: CellConfig) -> bool:
    """Whether the grid excludes the cell, with the strategy as the grid has it."""
    as_given = cell.model_copy(update={"strategy": contender.plugin})
    return any(matches(as_given, rule) for rule in grid.file.exclude)
