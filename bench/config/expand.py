"""From axes, recipes and strategies to cells: every combination checked, those that mean the same made equal."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

import partitions
import strategies
from bench.config.cell import CellConfig, field, short_strategy
from bench.config.errors import ConfigError
from bench.config.ids import digest, identity
from bench.config.messages import Origins, explain
from bench.config.plugin import Plugin, read_plugin
from bench.plugins import Registry, allowed
from strategies.base import Strategy

# What centralized training fixes: it has no clients, and one party keeps its optimizer.
_CENTRALIZED = {
    "n_clients": None,
    "beta": None,
    "partition": None,
    "training.local_steps": None,
    "training.participation": 1.0,
    "training.sampling": "fixed",
    "training.stragglers": 0.0,
    "training.failures": 0.0,
    "client.optimizer_state": "keep",
}
FEDERATED_ONLY = tuple(_CENTRALIZED)  # fields that mean nothing to centralized training
MOST_CELLS = 100_000  # of a grid, before exclusions
_REGISTRIES: dict[str, Registry[Any]] = {"strategy": strategies.registry, "partition": partitions.registry}

Fields = Mapping[str, Any]  # by dotted name


@dataclass(frozen=True)
class Draft:
    """What the cells of a grid are made of.

    Attributes:
        base: fields that all cells have, sections as tables.
        axes: the values of each.
        recipes: fields that vary together, by the recipe's name.
        strategies: fields that the cells of a strategy have, by its label with all hyper-parameters.
        origins: who gave the values.
    """

    base: Fields
    axes: Mapping[str, list[Any]]
    recipes: Mapping[str, Fields]
    strategies: Mapping[str, Fields]
    origins: Origins


def expand(draft: Draft) -> Iterator[CellConfig]:
    """The product of the axes, in their order, the last axis fastest; fields of recipes and strategies are set first.

    Raises:
        ConfigError: for more than `MOST_CELLS`, a value given twice on an axis, or a mistake in a cell.
    """
    axes, origins = draft.axes, draft.origins
    if (count := math.prod(map(len, axes.values()))) > MOST_CELLS:
        product = " x ".join(f"{len(values)} {axis}" for axis, values in axes.items() if len(values) > 1)
        raise ConfigError(origins.across(f"axes: {product} make {count:,} cells; at most {MOST_CELLS:,} are allowed"))
    for axis, values in axes.items():
        _check_distinct(axis, values, origins.of(axis))
    for point in itertools.product(*axes.values()):
        chosen = dict(zip(axes, point, strict=True))
        yield _cell(draft, chosen)


def _check_distinct(axis: str, values: Sequence[Any], where: str) -> None:
    read = [read_plugin(v, where, _REGISTRIES[axis]) for v in values] if axis in _REGISTRIES else values
    for i, value in enumerate(read):
        if value in read[:i]:
            raise ConfigError(f"{where}: got {json.dumps(values[i], default=str)} twice; take one out")


def _cell(draft: Draft, chosen: Fields) -> CellConfig:
    """A validated cell, its plugins resolved, meaningless fields set to None so that equal cells are equal."""
    tree, tables = dict(draft.base), _tables(draft, chosen)
    origins = replace(draft.origins, tables={name: fields.keys() for name, fields in tables.items()})
    for fields in tables.values():
        for key in fields.keys() - origins.sets.keys():  # a --set has the last word
            assign(tree, key, fields[key])
    for key, value in chosen.items():
        assign(tree, key, value)
    for kind in _REGISTRIES.keys() & tree.keys():
        tree[kind] = read_plugin(tree[kind], origins.of(kind), _REGISTRIES[kind]).model_dump()
    try:
        cell = CellConfig.model_validate_json(json.dumps(tree))
    except TypeError as error:
        raise ConfigError(
            f"{origins.source}: a value is of a type that no field takes (a date or time): {error}"
        ) from error
    except ValidationError as error:
        raise ConfigError(explain(error, origins, CellConfig)) from error
    if cell.centralized:
        if strategies.load(cell.strategy.name).matched and cell.training.local_steps is None:
            name = cell.strategy.name
            raise ConfigError(origins.across(f"training.local_steps: missing; strategy {name!r} makes as many steps"))
        return _centralized(cell)
    for mistake in _mistakes(cell):
        raise ConfigError(origins.across(mistake))
    assert cell.partition is not None  # it would be a mistake
    return cell if partitions.load(cell.partition.name).uses_beta else cell.model_copy(update={"beta": None})


def _tables(draft: Draft, chosen: Fields) -> dict[str, Fields]:
    """The tables of fields that belong to the cell's recipe and strategy, by their names in the file."""
    tables: dict[str, Fields] = {}
    given, origins = {**draft.base, **chosen}, draft.origins
    if (name := given.get("recipe")) is not None:
        if not isinstance(name, str) or name not in draft.recipes:
            options = allowed(str(name), draft.recipes) if draft.recipes else "; the grid has no [recipes.NAME] tables"
            raise ConfigError(f"{origins.of('recipe').replace('axes.', '')}: got {name!r}{options}")
        tables[f"recipes.{name}"] = draft.recipes[name]
    if draft.strategies and "strategy" in given:
        plugin = read_plugin(given["strategy"], origins.of("strategy"), strategies.registry)
        if plugin.label in draft.strategies:
            tables[f'strategies."{short_strategy(plugin).label}"'] = draft.strategies[plugin.label]
    return tables


def assign(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a field by its dotted name; tables on the way to it are copied."""
    *path, last = key.split(".")
    for part in path:
        nested = tree.get(part)
        tree[part] = dict(nested) if isinstance(nested, dict) else {}
        tree = tree[part]
    tree[last] = value


def _centralized(cell: CellConfig) -> CellConfig:
    tree = cell.model_dump(mode="json")
    fixed = _CENTRALIZED | ({"latent.mode": "central"} if cell.is_latent else {})
    if strategies.load(cell.strategy.name).matched:
        del fixed["training.local_steps"]
    for key, value in fixed.items():
        assign(tree, key, value)
    return CellConfig.model_validate_json(json.dumps(tree))


def _mistakes(cell: CellConfig) -> Iterator[str]:
    """What makes no sense with the cell's strategy or partition."""
    strategy, name = cell.make_strategy(), cell.strategy_label
    kind = type(strategy)
    if cell.ema.mode == "client" and kind.aggregate is not Strategy.aggregate:
        yield (
            "ema.mode: 'client' takes the mean of the clients' averages weighted by images, and strategy "
            f"{name} aggregates otherwise; use 'server'"
        )
    if cell.ema.mode != "off" and kind.model is not Strategy.model:
        yield (f"ema.mode: got {cell.ema.mode!r}, but strategy {name} says itself which model is evaluated; use 'off'")
    if cell.latent.mode == "federated" and (
        strategy.personal or not strategy.any_network or kind.report is not Strategy.report
    ):
        why = "keeps parts of a model at its clients" if strategy.personal else "accounts for one training alone"
        why = why if strategy.any_network else "is for U-Nets alone"
        yield (
            f"latent.mode: 'federated' trains the autoencoder by the cell's strategy, and {name} {why}; use 'central'"
        )
    if cell.n_clients is None:
        yield f"n_clients: missing; strategy {cell.strategy.name!r} needs it"
    if cell.partition is None:
        yield f"partition: missing; strategy {cell.strategy.name!r} needs it"
    elif cell.beta is None and partitions.load(cell.partition.name).uses_beta:
        yield f"beta: missing; partition {cell.partition.name!r} needs it"


def matches(cell: CellConfig, rule: Fields) -> bool:
    """Whether all of a rule's fields equal the cell's; a strategy or partition by its name or its label."""
    return all(
        _equals(field(cell, key), wanted) or (key == "strategy" and wanted == cell.strategy_label)
        for key, wanted in rule.items()
    )


def _equals(value: Any, wanted: Any) -> bool:
    if isinstance(value, Plugin):
        return wanted in (value.name, value.label)
    return list(value) == wanted if isinstance(value, tuple) else bool(value == wanted)


def unique(cells: Sequence[CellConfig], origins: Origins) -> tuple[CellConfig, ...]:
    """The cells without repetitions.

    Raises:
        ConfigError: if recipes by different names have become one and the same, so that a row could have either name.
    """
    by_digest: dict[str, CellConfig] = {}
    for cell in cells:
        first = by_digest.setdefault(digest(identity(cell) | {"device": cell.device}), cell)
        if first.recipe != cell.recipe and not cell.centralized:
            mistake = f"recipe: {first.recipe!r} and {cell.recipe!r} are one and the same as other fields stand"
            raise ConfigError(f"{origins.across(mistake)}; choose among them with --set recipe=NAME,NAME")
    return tuple(by_digest.values())
