"""What a tuning found: every trial with its score and cost, and the grid file that has the chosen values."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.config.cell import field_names, short_strategy
from bench.config.expand import expand, matches
from bench.config.grid_file import AXIS_ORDER, Grid
from bench.config.toml import write_value
from bench.config.tuning import Tune, Tuned, Value
from bench.tune.contenders import HYPER, Contender, fields_of, tune_of
from bench.tune.search import CHOSEN, DIVERGED, FINISHED, Search, Trial
from bench.tune.trials import METRIC, Cost, Trials, Unfinished

TUNED = "-tuned"  # of the name of the grid with the chosen values


@dataclass(frozen=True)
class Tried:
    """A trial.

    Attributes:
        number: from 1; the first has the grid's own values.
        rounds: after which it was measured last; of one that diverged, those whose losses were finite.
        losses: of its cells when it was measured last.
        outcome: `CHOSEN`, `FINISHED`, `STOPPED` or `DIVERGED`.
    """

    contender: Contender
    number: int
    values: dict[str, Value]
    rounds: int
    losses: tuple[float, ...]
    outcome: str
    cost: Cost

    @property
    def label(self) -> str:
        """The strategy with these values, as a grid has it."""
        return short_strategy(self.contender.with_values(self.values)).label

    @property
    def score(self) -> float:
        """The mean loss."""
        return sum(self.losses) / len(self.losses)

    @property
    def whole(self) -> bool:
        """Whether it was trained to the end."""
        return self.outcome in (CHOSEN, FINISHED)


@dataclass(frozen=True)
class Outcome:
    """A tuning that has ended.

    Attributes:
        tried: of each strategy, in the grid's order, its trials in theirs.
        costs: of each strategy.
    """

    grid: Grid
    trials: Trials
    tried: tuple[tuple[Tried, ...], ...]
    costs: tuple[Cost, ...]

    @property
    def tune(self) -> Tune:
        return tune_of(self.grid)

    @property
    def every(self) -> list[Tried]:
        return [each for of_one in self.tried for each in of_one]

    @property
    def cost(self) -> Cost:
        """Of all trials."""
        return Cost(*map(sum, zip(*self.costs, strict=True)))

    @property
    def cells(self) -> int:
        """How many trainings there were."""
        return len(self.trials.plan.jobs)


def chosen(tried: Iterable[Tried]) -> Tried:
    """The trial that was chosen."""
    return next(each for each in tried if each.outcome == CHOSEN)


def outcome(grid: Grid, trials: Trials, found: Sequence[Contender], searches: Sequence[Search]) -> Outcome:
    """What the searches found.

    Raises:
        Unfinished: if no trial of a strategy was trained to its end, as all diverged that went on.
    """
    for one in searches:
        if one.best is None:
            every = all(trial.outcome == DIVERGED for trial in one.trials)
            what = "every trial diverged" if every else "every trial that went on diverged before its last round"
            also = "" if every else ", or let more go on by tune.keep"
            raise Unfinished(f"{one.name}: {what}; give tune.fields or tune.strategies smaller values{also}")
    tried = tuple(
        tuple(_tried(trials, contender, trial) for trial in one.trials)
        for contender, one in zip(found, searches, strict=True)
    )
    return Outcome(grid, trials, tried, tuple(trials.cost(one.trials) for one in searches))


def _tried(trials: Trials, contender: Contender, trial: Trial) -> Tried:
    rounds = trials.finite_rounds(trial) if trial.outcome == DIVERGED else trial.rounds
    losses = tuple(trials.losses(trial, trial.rounds))
    return Tried(contender, trial.number, trial.values, rounds, losses, trial.outcome, trials.cost([trial]))


# ------------------------------------------------------------------------------------------------- the tuned grid


def tuned_grid(found: Outcome) -> dict[str, Any]:
    """The grid with the chosen values, as a tree of tables: its own axes and seeds, and a table [tuned].

    A chosen hyper-parameter stands in the strategy, a chosen field in the strategy's table. What --set gave is in it.
    """
    grid, draft = found.grid, found.grid.draft
    best = [chosen(tried) for tried in found.tried]
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


def tuned(found: Outcome) -> Tuned:
    """The table [tuned]."""
    tune = found.tune
    spaces: dict[str, str] = {}
    for contender in (first.contender for first, *_ in found.tried):
        for key, space in contender.spaces.items():
            param = key.removeprefix(HYPER)
            name = f"{contender.plugin.name} {param}" if key.startswith(HYPER) else key
            if spaces.get(name, str(space)) != str(space):  # two of the grid's strategies have that name
                name = f"{contender.label} {param}"
            spaces[name] = str(space)
    where = {key: value if isinstance(value, Value) else str(value) for key, value in tune.where.items()}
    return Tuned(
        trials=tune.trials, seeds=tune.seeds, metric=METRIC, rungs=tune.rungs, kept=tune.counts(), where=where,
        space=spaces, cells=found.cells, gradient_steps=found.cost.gradient_steps,
        seconds=round(found.cost.seconds, 1),
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
