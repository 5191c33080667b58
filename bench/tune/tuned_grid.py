"""The grid with the values that a tuning chose, as a file."""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from bench.config.cell import field_names
from bench.config.expand import expand, matches
from bench.config.grid_file import AXIS_ORDER, Grid
from bench.config.toml import write_value
from bench.config.tuning import Tuned, Value
from bench.tune.contenders import HYPER, fields_of
from bench.tune.trials import METRIC, Tuning

TUNED = "-tuned"  # of the name of the grid with the chosen values


def tuned_grid(found: Tuning) -> dict[str, Any]:
    """The grid with the chosen values, as a tree of tables: its own axes and seeds, and a table [tuned].

    A chosen hyper-parameter stands in the strategy, a chosen field in the strategy's table. What --set gave is in it.
    """
    grid, draft = found.grid, found.grid.draft
    best = [one.best for one in found.searches]
    names = {each.contender.plugin.label: each.label for each in best}
    tables = {}
    for each in best:
        label = each.contender.plugin.label
        own = {key: value for key, value in draft.strategies.get(label, {}).items() if key not in draft.origins.sets}
        tables[names[label]] = own | fields_of(each.values)
    tree = {
        "name": f"{grid.name}{TUNED}",
        "description": grid.description,
        **{key: value for key, value in draft.base.items() if key != "strategy"},
        "axes": {"strategy": list(names.values())} | {k: v for k, v in draft.axes.items() if k != "strategy"},
        "recipes": draft.recipes,
        "strategies": {name: fields for name, fields in tables.items() if fields},
        "exclude": _rules(grid, names),
        "labels": _labels(grid, names),
        "report": grid.file.report.model_dump(),
        "tuned": tuned(found).model_dump(),
    }
    return {key: value for key, value in tree.items() if value not in ({}, [], "")}


def _rules(grid: Grid, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """[[exclude]] with the strategies' new labels; rules that --set left no cell for are gone."""
    cells = list(expand(grid.draft))
    rules = [dict(rule) for rule in grid.file.exclude if any(matches(cell, rule) for cell in cells)]
    for rule in rules:
        for cell in cells:
            if rule.get("strategy") in (cell.strategy.label, cell.strategy_label):
                rule["strategy"] = names[cell.strategy.label]
                break
    return rules


def _labels(grid: Grid, names: Mapping[str, str]) -> dict[str, str]:
    """[labels] with the strategies' new labels, of what is in the grid."""
    new = {cell.strategy_label: names[cell.strategy.label] for cell in grid.cells}
    known = new | {name: name for name in (*AXIS_ORDER, *grid.draft.axes, *grid.draft.recipes)}
    return {known[name]: text for name, text in grid.labels.items() if name in known}


def tuned(found: Tuning) -> Tuned:
    """The table [tuned]."""
    tune, cost = found.tune, found.cost(found.every)
    spaces: dict[str, str] = {}
    for contender in (one.contender for one in found.searches):
        for key, space in contender.spaces.items():
            param = key.removeprefix(HYPER)
            name = f"{contender.plugin.name} {param}" if key.startswith(HYPER) else key
            if spaces.get(name, str(space)) != str(space):  # two of the grid's strategies have that name
                name = f"{contender.label} {param}"
            spaces[name] = str(space)
    where = {key: value if isinstance(value, Value) else str(value) for key, value in tune.where.items()}
    return Tuned(
        trials=tune.trials, seeds=tune.seeds, metric=METRIC, rungs=tune.rungs, kept=tune.counts(), where=where,
        space=spaces, cells=len(found.plan.jobs), gradient_steps=cost.gradient_steps, seconds=round(cost.seconds, 1),
    )  # fmt: skip


def write_grid(tree: Mapping[str, Any], head: str) -> str:
    """A grid file of these tables; TOML reads the same tree from it.

    Args:
        head: a line that stands above them as a comment.
    """
    text = f"# {head}\n\n{_table(tree, '')}"
    assert _as_read(tomllib.loads(text)) == _as_read(tree)
    return text


def _table(tree: Mapping[str, Any], path: str) -> str:
    """Values first, then the tables below."""
    tables = {key: value for key, value in tree.items() if isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {write_value(value)}\n" for key, value in tree.items() if key not in tables]
    parts = ["".join([f"[{path}]\n" if path and lines else "", *lines])] if lines else []
    parts += [_table(value, f"{path}.{_key(key)}" if path else _key(key)) for key, value in tables.items()]
    return "\n".join(parts)


def _key(name: str) -> str:
    """A key as TOML reads it: bare, or the dotted name of a field, or in quotes."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in field_names() else json.dumps(name)


def _as_read(tree: Any) -> Any:
    """For comparison: dotted names of fields are nested tables to TOML."""
    if isinstance(tree, Mapping):
        flat: dict[str, Any] = {}
        for key, value in tree.items():
            inner = _as_read(value)
            flat |= {f"{key}.{k}": v for k, v in inner.items()} if isinstance(inner, dict) else {key: inner}
        return flat
    return [_as_read(item) for item in tree] if isinstance(tree, list | tuple) else tree
