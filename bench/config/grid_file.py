"""Grids: TOML in, cells out.

A grid file holds a cell's fields (top-level keys and sections), `[axes]` whose product makes the cells,
`[recipes.NAME]` tables of fields that vary together (values of the axis `recipe`, all of them unless it lists some),
`[strategies."LABEL"]` tables of fields that the cells of one strategy have, and `[[exclude]]` entries that take cells
out again. `[tune]` says how the strategies are tuned, `[tuned]` how they were. Every mistake ends in one `ConfigError`
that names the file, the key, what was given, what is allowed and the nearest right name.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

import strategies
from bench.config.cell import CellConfig, field_names, flatten, short_strategy
from bench.config.errors import ConfigError
from bench.config.expand import FEDERATED_ONLY, Draft, assign, expand, matches, unique
from bench.config.grids import FOLDER, shipped_grids
from bench.config.messages import Origins, explain
from bench.config.overrides import read_override
from bench.config.plugin import Plugin, read_plugin
from bench.config.tables import FieldName, Fields, flat
from bench.config.toml import NOT_TOML, check_values
from bench.config.tuning import AFTER, APART, SPLIT, Tune, Tuned, among, shared_seed
from bench.plugins import allowed
from bench.store.fields import Section

__all__ = ["FEDERATED_ONLY", "Grid", "find_grid", "load_grid", "parse_grid"]

AXIS_ORDER = ("strategy", "n_clients", "beta")  # the axes that every table has; others follow in the file's order
_RESERVED = ("mlflow.db", "mlartifacts")  # what lies beside the grids' folders
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"


@dataclass(frozen=True)
class Grid:
    """A grid as it will be run: its name, its axes and its cells, each once.

    Attributes:
        labels: what is shown instead of a text, by that text.
        claims: whether its report judges the paper's claims.
        tuned: how its values were chosen; None if nothing says so, or --set changed some.
        file, draft: what it was made of, --set put in.
    """

    name: str
    description: str
    axes: dict[str, list[Any]]
    cells: tuple[CellConfig, ...]
    labels: dict[str, str]
    claims: bool
    tuned: Tuned | None
    file: "GridFile"
    draft: Draft

    @property
    def extra_axes(self) -> list[str]:
        """Axes beyond strategy, n_clients, beta and seed, as dotted field names."""
        return [axis for axis in self.axes if axis not in (*AXIS_ORDER, "seed")]


# ------------------------------------------------------------------------------------------- what a file may hold


def _check_name(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(_NAME, name):
        raise ValueError(
            f"got {name!r}; allowed are 1 to 64 letters, digits, '.', '_', '+' and '-', "
            "beginning with a letter or digit (it names a folder)"
        )
    if name.lower().startswith(_RESERVED):
        raise ValueError(f"got {name!r}; results keep other things under {' and '.join(_RESERVED)}")
    return name


Axis = Annotated[list[Any], Field(min_length=1)]


class Report(Section):
    """What the grid's report shows beside the tables and figures of every report."""

    claims: bool = False


class GridFile(BaseModel):
    """The tables of a grid file; what stands beside them are fields of its cells."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: Annotated[str, BeforeValidator(_check_name)]
    description: str = ""
    axes: Annotated[dict[FieldName, Axis], BeforeValidator(flat)] = {}
    recipes: dict[str, Fields] = {}
    strategies: dict[str, Fields] = {}
    exclude: list[Annotated[Fields, Field(min_length=1)]] = []
    labels: Annotated[dict[str, str], BeforeValidator(flat)] = {}
    report: Report = Report()
    tune: Tune | None = None
    tuned: Tuned | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """Fields that all cells have, sections as tables."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _consistent(self) -> "GridFile":
        for key, given in self.fields.items():
            if key not in CellConfig.model_fields:
                known = [*CellConfig.model_fields, *GridFile.model_fields]
                raise ValueError(f"{key}: unknown key{allowed(key, known)}")
            if key not in field_names() and not isinstance(given, dict):
                raise ValueError(f"{key}: got {given!r}; it must be a table [{key}] of fields")
        for name, recipe in self.recipes.items():
            if not re.fullmatch(_NAME, name):
                raise ValueError(f"recipes: got the name {name!r}; allowed are letters, digits and . _ + -")
            if "recipe" in recipe:
                raise ValueError(f"recipes.{name}.recipe: a recipe names no other; take it out")
            for key in recipe.keys() & self.axes.keys():
                raise ValueError(f"{key}: given both in recipes.{name} and as axes.{key}; take one out")
        for mistake in self._of_strategies():
            raise ValueError(mistake)
        for key in dict(flatten(self.fields)).keys() & self.axes.keys():
            raise ValueError(f"{key}: given both as a field and as axes.{key}; take one out")
        return self

    def _of_strategies(self) -> Iterator[str]:
        """What is wrong in the tables of strategies, whatever those are called."""
        for name, fields in self.strategies.items():
            where = f'strategies."{name}"'
            for key in fields:
                if key in APART:
                    yield f"{where}.{key}: a strategy's cells share it with the others'; take it out"
                if key in self.axes:
                    yield f"{key}: given both in {where} and as axes.{key}; take one out"
                for recipe in (recipe for recipe, given in self.recipes.items() if key in given):
                    yield f"{key}: given both in {where} and in recipes.{recipe}; take one out"


# ------------------------------------------------------------------------------------------------ reading a file


def load_grid(name_or_path: str, overrides: Sequence[str] = ()) -> Grid:
    """The grid called `name_or_path` (shipped, or a TOML file's path), with `--set` overrides, expanded.

    Raises:
        ConfigError: for an unknown grid, broken TOML, or anything in it that is wrong.
    """
    path = find_grid(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        raw = tomllib.loads(text)
    except NOT_TOML as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    return parse_grid(raw, str(path), path.stem, overrides)


def find_grid(name_or_path: str) -> Path:
    """The file of a shipped grid's name or of a path.

    Raises:
        ConfigError: if there is neither.
    """
    if name_or_path.endswith(".toml") or "/" in name_or_path:
        path = Path(name_or_path)
        if not os.path.isfile(path):  # a name too long to be a path is no file, either
            raise ConfigError(f"--grid {name_or_path}: there is no such file")
        return path
    known = shipped_grids()
    if name_or_path not in known:
        raise ConfigError(
            f"--grid {name_or_path}: unknown grid{allowed(name_or_path, known)}, or the path of a .toml file"
        )
    return FOLDER / f"{name_or_path}.toml"


def parse_grid(raw: Mapping[str, Any], source: str, default_name: str, overrides: Sequence[str] = ()) -> Grid:
    """A grid from the parsed TOML `raw`; `source` is the file that messages name.

    Raises:
        ConfigError: for anything in it that is wrong.
    """
    check_values(raw, source)
    try:
        file = GridFile.model_validate({"name": default_name} | dict(raw))
    except ValidationError as error:
        raise ConfigError(explain(error, Origins(source), GridFile)) from error
    base, axes = file.fields, dict(file.axes)
    sets: dict[str, str] = {}
    if file.recipes and "recipe" not in axes and "recipe" not in base:
        axes["recipe"] = list(file.recipes)
    for text in overrides:
        key, values = read_override(text)
        sets[key] = f"--set {text}"
        if key in axes or len(values) > 1:
            axes[key] = values
        else:
            assign(base, key, values[0])
    origins = Origins(source, axes.keys(), sets)
    draft = Draft(base, axes, file.recipes, _strategy_fields(file, axes, base, origins), origins)
    cells = list(expand(draft))
    for rule in file.exclude if not overrides else ():
        if not any(matches(cell, rule) for cell in cells):
            shown = ", ".join(f"{key} = {value!r}" for key, value in rule.items())
            raise ConfigError(f"{source}: exclude: no cell has {shown}; take the rule out, or mend its values")
    kept = [cell for cell in cells if not any(matches(cell, rule) for rule in file.exclude)]
    if not kept:
        raise ConfigError(origins.across(f"exclude: no cell is left of {len(cells)}"))
    if mistake := shared_seed({cell.seed for cell in kept}, {"tune": file.tune, "tuned": file.tuned}):
        raise ConfigError(origins.across(mistake))
    labels = _labels(file, axes, kept, f"{source}: labels")
    once = unique(kept, origins)
    tuned = file.tuned if file.tuned and _as_tuned(file, kept, origins) else None
    return Grid(file.name, file.description, axes, once, labels, file.report.claims, tuned, file, draft)


def _as_tuned(file: GridFile, cells: Sequence[CellConfig], origins: Origins) -> bool:
    """Whether --set left what was tuned as it was.

    It may choose among the file's strategies and recipes, and change splits, seeds, and what comes after training.
    """
    given = file.axes.get("strategy", [file.fields.get("strategy")])
    own = {read_plugin(each, origins.source, strategies.registry).label for each in given if each is not None}
    free = (*APART, *SPLIT, *AFTER)
    return all(among(key, free) for key in origins.sets) and {cell.strategy.label for cell in cells} <= own


def _strategy_fields(
    file: GridFile, axes: Mapping[str, list[Any]], base: Mapping[str, Any], origins: Origins
) -> dict[str, dict[str, Any]]:
    """[strategies] by the labels with all hyper-parameters.

    A name of the file's that --set took out of the grid is no mistake.

    Raises:
        ConfigError: for a name that is no strategy of the grid's, or two of the same.
    """
    if not file.strategies:
        return {}
    asked = [*file.axes.get("strategy", []), *axes.get("strategy", [])]
    asked += [file.fields.get("strategy"), base.get("strategy")]
    names: dict[str, Plugin] = {}
    for given in (given for given in asked if given is not None):
        plugin = read_plugin(given, origins.of("strategy"), strategies.registry)
        names |= {short_strategy(plugin).label: plugin} | ({given: plugin} if isinstance(given, str) else {})
    found: dict[str, dict[str, Any]] = {}
    for name, fields in file.strategies.items():
        where = f'{origins.source}: strategies."{name}"'
        if name not in names:
            raise ConfigError(f"{where}: no strategy of this grid{allowed(name, names)}")
        if names[name].label in found:
            raise ConfigError(f"{where}: the strategy has a table by another name, too; take one out")
        found[names[name].label] = dict(fields)
    return found


def _labels(file: GridFile, axes: Mapping[str, list[Any]], cells: Sequence[CellConfig], where: str) -> dict[str, str]:
    """[labels] by the names that results have: a strategy's label, however the grid writes it; axes and recipes.

    A name of the file's that --set took out of the grid is no mistake.

    Raises:
        ConfigError: for a name that is nothing of the grid's, or one text for two things.
    """
    asked = [*file.axes.get("strategy", []), *axes.get("strategy", []), file.fields.get("strategy")]
    plugins = {text: read_plugin(text, where, strategies.registry) for text in asked if isinstance(text, str)}
    names = {text: short_strategy(plugin).label for text, plugin in plugins.items()}
    own = {cell.strategy_label: cell.strategy_title for cell in cells}
    names |= {name: name for name in (*names.values(), *own, *AXIS_ORDER, *file.axes, *axes, *file.recipes)}
    shown: dict[str, str] = {}
    for name, text in file.labels.items():
        if name not in names:
            raise ConfigError(f"{where}: {name!r} is no strategy, axis or recipe of this grid{allowed(name, names)}")
        label = names[name]
        others = {other for other in names if names[other] != label} | {own[other] for other in own if other != label}
        if not text.strip(" -") or text in {*shown.values(), *others}:
            raise ConfigError(f"{where}: {name}: got {text!r}; it must be a text that nothing else is called by")
        shown[label] = text
    return shown
