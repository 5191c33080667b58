"""Grids: TOML in, cells out.

A grid file holds a cell's fields (top-level keys and sections), `[axes]` whose product makes the cells,
`[recipes.NAME]` tables of fields that vary together (values of the axis `recipe`, all of them unless it lists some),
and `[[exclude]]` entries that take cells out again. Every mistake ends in one `ConfigError` that names the file, the
key, what was given, what is allowed and the nearest right name.
"""

import dataclasses
import difflib
import itertools
import json
import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

import partitions
import strategies
from bench.config.cell import CellConfig, Plugin, field, field_names, flatten
from bench.config.errors import ConfigError
from bench.config.grids import FOLDER, shipped_grids
from bench.config.ids import digest, identity
from strategies.base import Strategy

AXIS_ORDER = ("strategy", "n_clients", "beta")  # the axes that every table has; others follow in the file's order
# What centralized training fixes: it has no clients, and one party keeps its optimizer.
_CENTRALIZED = {
    "n_clients": None,
    "beta": None,
    "partition": None,
    "training.participation": 1.0,
    "training.sampling": "fixed",
    "training.stragglers": 0.0,
    "training.failures": 0.0,
    "client.optimizer_state": "keep",
}
FEDERATED_ONLY = tuple(_CENTRALIZED)  # fields that mean nothing to centralized training
_PARTNERS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'"}
_GRID_KEYS = ("name", "description", "axes", "recipes", "exclude")
_RESERVED = ("mlflow.db", "mlartifacts")  # what lies beside the grids' folders
MOST_CELLS = 100_000  # of a grid, before exclusions
_DEEPEST = 20  # tables and lists inside each other
_LONGEST_TEXT = 10_000
_NOT_TOML = (ValueError, RecursionError)  # tomllib's own is a ValueError; it lets pass those of int() and of nesting
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"

Recipes = Mapping[str, Mapping[str, Any]]  # by name: values by dotted field name


@dataclass(frozen=True)
class Grid:
    """A grid as it will be run: its name, its axes and its cells, each once."""

    name: str
    description: str
    axes: dict[str, list[Any]]
    cells: tuple[CellConfig, ...]

    @property
    def extra_axes(self) -> list[str]:
        """Axes beyond strategy, n_clients, beta and seed, as dotted field names."""
        return [axis for axis in self.axes if axis not in (*AXIS_ORDER, "seed")]


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
    except _NOT_TOML as error:
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
            f"--grid {name_or_path}: unknown grid; {_allowed(name_or_path, known)}; or give the path of a .toml file"
        )
    return FOLDER / f"{name_or_path}.toml"


def parse_grid(raw: Mapping[str, Any], source: str, default_name: str, overrides: Sequence[str] = ()) -> Grid:
    """A grid from the parsed TOML `raw`; `source` is the file that messages name.

    Raises:
        ConfigError: for anything in it that is wrong.
    """
    _check_values(raw, source)
    head = {key: raw[key] for key in _GRID_KEYS if key in raw}
    base = {key: value for key, value in raw.items() if key not in _GRID_KEYS}
    name, description = head.get("name", default_name), head.get("description", "")
    if not isinstance(name, str) or not re.fullmatch(_NAME, name):
        raise ConfigError(
            f"{source}: name: got {name!r}; allowed are 1 to 64 letters, digits, '.', '_', '+' and '-', "
            "beginning with a letter or digit (it names a folder)"
        )
    if name.lower().startswith(_RESERVED):
        raise ConfigError(f"{source}: name: got {name!r}; results keep other things under {' and '.join(_RESERVED)}")
    if not isinstance(description, str):
        raise ConfigError(f"{source}: description: got {description!r}; it must be a text")
    for section in {name.partition(".")[0] for name in field_names() if "." in name} & base.keys():
        if not isinstance(base[section], dict):
            raise ConfigError(f"{source}: {section}: got {base[section]!r}; it must be a table [{section}] of fields")
    axes = _check_axes(head.get("axes", {}), source)
    recipes = _check_recipes(head.get("recipes", {}), axes, source)
    if recipes and "recipe" not in axes and "recipe" not in base:
        axes["recipe"] = list(recipes)
    for key in dict(flatten(base)).keys() & axes.keys():
        raise ConfigError(f"{source}: {key}: given both as a field and as axes.{key}; take one out")
    origins = dict.fromkeys(axes, source)
    for override in overrides:
        _override(override, base, axes, origins)
    cells = _expand(base, axes, recipes, origins, source)
    rules = _check_rules(head.get("exclude", []), cells if not overrides else (), source)
    kept = [cell for cell in cells if not any(_matches_all(cell, rule) for rule in rules)]
    if not kept:
        raise ConfigError(f"{source}: exclude: no cell is left of {len(cells)}")
    return Grid(name, description, axes, _unique(kept, source))


def _check_values(tree: Mapping[str, Any], source: str, finite: bool = False) -> None:
    """Raises ConfigError for what no field takes and nothing here could show: numbers without end, deep nesting.

    Args:
        finite: refuse infinity and NaN, too, which fields do themselves.
    """
    stack: list[tuple[str, Any, int]] = [("", tree, 0)]
    while stack:
        key, value, depth = stack.pop()
        where = f"{source}: {key}" if key else source
        if depth > _DEEPEST:
            raise ConfigError(f"{where}: tables or lists are nested more than {_DEEPEST} deep")
        if isinstance(value, dict):
            stack += [(f"{key}.{name}" if key else name, item, depth + 1) for name, item in value.items()]
        elif isinstance(value, list):
            stack += [(key, item, depth + 1) for item in value]
        elif finite and isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where}: got {value}; it must be a finite number")
        elif isinstance(value, int) and value.bit_length() > 64:
            raise ConfigError(f"{where}: got a whole number of {value.bit_length()} bits; at most 64 are allowed")
        elif isinstance(value, str) and len(value) > _LONGEST_TEXT:
            raise ConfigError(f"{where}: got a text of {len(value)} letters; at most {_LONGEST_TEXT} are allowed")


def _unique(cells: Sequence[CellConfig], source: str) -> tuple[CellConfig, ...]:
    """The cells without repetitions.

    Raises:
        ConfigError: if recipes by different names have become one and the same, so that a row could have either name.
    """
    unique: dict[str, CellConfig] = {}
    for cell in cells:
        first = unique.setdefault(digest(identity(cell) | {"device": cell.device}), cell)
        if first.recipe != cell.recipe and not cell.centralized:
            raise ConfigError(
                f"{source}: recipe: {first.recipe!r} and {cell.recipe!r} are one and the same as other fields stand; "
                "choose among them with --set recipe=NAME,NAME"
            )
    return tuple(unique.values())


def _check_axes(axes: Any, source: str) -> dict[str, list[Any]]:
    if not isinstance(axes, dict):
        raise ConfigError(f"{source}: axes: got {axes!r}; it must be a table of lists")
    flat: dict[str, list[Any]] = {}
    for key, values in flatten(axes):
        if key not in field_names():
            raise ConfigError(f"{source}: axes.{key}: unknown field; {_allowed(key, field_names())}")
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{source}: axes.{key}: got {values!r}; an axis must be a list of at least one value")
        flat[key] = values
    return flat


def _check_recipes(recipes: Any, axes: Mapping[str, Any], source: str) -> Recipes:
    """The recipes, flat.

    Raises:
        ConfigError: for a name or field that is not allowed, or a field that is an axis, too.
    """
    if not isinstance(recipes, dict) or not all(isinstance(recipe, dict) for recipe in recipes.values()):
        raise ConfigError(f"{source}: recipes: must be tables [recipes.NAME] of fields")
    flat = {name: dict(flatten(recipe)) for name, recipe in recipes.items()}
    allowed = [name for name in field_names() if name != "recipe"]
    for name, recipe in flat.items():
        if not re.fullmatch(_NAME, name):
            raise ConfigError(f"{source}: recipes: got the name {name!r}; allowed are letters, digits and . _ + -")
        for key in recipe:
            if key not in allowed:
                raise ConfigError(f"{source}: recipes.{name}.{key}: unknown field; {_allowed(key, allowed)}")
            if key in axes:
                raise ConfigError(f"{source}: {key}: given both in recipes.{name} and as axes.{key}; take one out")
    return flat


def _override(text: str, base: dict[str, Any], axes: dict[str, list[Any]], origins: dict[str, str]) -> None:
    """Apply ``field=value`` or ``field=value,value``: the latter, or an axis's name, sets an axis."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not value.strip():
        raise ConfigError(f"--set {text}: write --set FIELD=VALUE, or FIELD=VALUE,VALUE for an axis")
    if key not in field_names():
        raise ConfigError(f"--set {text}: unknown field {key!r}; {_allowed(key, field_names())}")
    values = [_toml_value(part) for part in _split(value, f"--set {text}")]
    _check_values({key: values}, f"--set {text}")
    if key in axes or len(values) > 1:
        axes[key], origins[key] = values, f"--set {text}"
        return
    origins[key] = f"--set {text}"
    _assign(base, key, values[0])


def _split(text: str, where: str) -> list[str]:
    """The parts between commas that stand outside brackets and quotes.

    Raises:
        ConfigError: if a part is empty, or a bracket or quote has no partner.
    """
    parts = [""]
    open_marks: list[str] = []
    for mark in text:
        quoted = bool(open_marks) and open_marks[-1] in "\"'"
        if open_marks and mark == open_marks[-1]:
            open_marks.pop()
        elif not quoted and mark in _PARTNERS:
            open_marks.append(_PARTNERS[mark])
        elif not quoted and mark in ")]}":
            raise ConfigError(f"{where}: {mark!r} has no partner")
        if mark == "," and not open_marks:
            parts.append("")
        else:
            parts[-1] += mark
    if open_marks:
        raise ConfigError(f"{where}: a closing {open_marks[-1]!r} is missing")
    if not all(part.strip() for part in parts):
        raise ConfigError(f"{where}: a value is missing beside a comma")
    return [part.strip() for part in parts]


def _toml_value(text: str) -> Any:
    """The value TOML reads in `text`; where it reads none, the text itself, so that names need no quotes."""
    try:
        return _one_value(text)
    except _NOT_TOML:
        return text


def _one_value(text: str) -> Any:
    """The value that TOML reads in `text`.

    Raises:
        ValueError, RecursionError: if it reads none, or more beside it.
    """
    read = tomllib.loads(f"x = {text}")
    if len(read) != 1:
        raise ValueError("more than one value")
    return read["x"]


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        nested = tree.get(part)
        tree[part] = dict(nested) if isinstance(nested, dict) else {}
        tree = tree[part]
    tree[last] = value


def _expand(
    base: dict[str, Any], axes: dict[str, list[Any]], recipes: Recipes, origins: dict[str, str], source: str
) -> list[CellConfig]:
    """The product of the axes, in their order, the last axis fastest; a recipe's fields are set first."""
    if (count := math.prod(map(len, axes.values()))) > MOST_CELLS:
        product = " x ".join(f"{len(values)} {axis}" for axis, values in axes.items() if len(values) > 1)
        raise ConfigError(f"{source}: axes: {product} make {count:,} cells; at most {MOST_CELLS:,} are allowed")
    cells = []
    for point in itertools.product(*axes.values()):
        chosen = dict(zip(axes, point, strict=True))
        tree = dict(base)
        name, told = chosen.get("recipe", base.get("recipe")), origins
        if name is not None:
            _apply_recipe(tree, name, recipes, origins, source)
            where = f"{source}: recipes.{name}"
            told = dict.fromkeys(recipes[name], where) | {"": where} | origins
        for key, value in chosen.items():
            _assign(tree, key, value)
        cells.append(_cell(tree, told, source, set(axes)))
    return cells


def _apply_recipe(tree: dict[str, Any], name: Any, recipes: Recipes, origins: dict[str, str], source: str) -> None:
    """Set the recipe's fields, but for those that a `--set` gave: it has the last word."""
    if not isinstance(name, str) or name not in recipes:
        known = _allowed(str(name), list(recipes)) if recipes else "the grid has no [recipes.NAME] tables"
        raise ConfigError(f"{origins.get('recipe', source)}: recipe: got {name!r}; {known}")
    for key, value in recipes[name].items():
        if not origins.get(key, source).startswith("--set"):
            _assign(tree, key, value)


def _cell(tree: dict[str, Any], origins: dict[str, str], source: str, axes: set[str]) -> CellConfig:
    """A validated cell, its plugins resolved, meaningless fields set to None so that equal cells are equal."""
    tree = dict(tree)
    for kind, room in (("strategy", strategies), ("partition", partitions)):
        if kind in tree:
            tree[kind] = _plugin(tree[kind], kind, room, origins.get(kind, source), kind in axes)
    try:
        cell = CellConfig.model_validate_json(json.dumps(tree))
    except TypeError as error:
        raise ConfigError(f"{source}: a value is of a type that no field takes (a date or time): {error}") from error
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(item, origins, source, axes) for item in error.errors())) from error
    return _normalise(cell, source)


def _normalise(cell: CellConfig, source: str) -> CellConfig:
    if cell.centralized:
        tree = cell.model_dump(mode="json")
        for key, value in _CENTRALIZED.items():
            _assign(tree, key, value)
        if cell.is_latent:
            _assign(tree, "latent.mode", "central")
        return CellConfig.model_validate_json(json.dumps(tree))
    _check_strategy(cell, source)
    if cell.partition is None or cell.n_clients is None:
        missing = "n_clients" if cell.n_clients is None else "partition"
        raise ConfigError(f"{source}: {missing}: missing; strategy {cell.strategy.name!r} needs it")
    if not partitions.load(cell.partition.name).uses_beta:
        return cell.model_copy(update={"beta": None})
    if cell.beta is None:
        raise ConfigError(f"{source}: beta: missing; partition {cell.partition.name!r} needs it")
    return cell


def _check_strategy(cell: CellConfig, source: str) -> None:
    """Raises ConfigError for fields that make no sense with the cell's strategy."""
    strategy, name = cell.make_strategy(), cell.strategy_label
    kind = type(strategy)
    if cell.ema.mode == "client" and kind.aggregate is not Strategy.aggregate:
        raise ConfigError(
            f"{source}: ema.mode: 'client' takes the mean of the clients' averages weighted by images, and strategy "
            f"{name} aggregates otherwise; use 'server'"
        )
    if cell.ema.mode != "off" and kind.model is not Strategy.model:
        raise ConfigError(
            f"{source}: ema.mode: got {cell.ema.mode!r}, but strategy {name} says itself which model is evaluated; "
            "use 'off'"
        )
    if cell.latent.mode == "federated" and (
        strategy.personal or not strategy.any_network or kind.report is not Strategy.report
    ):
        told = "keeps parts of a model at its clients" if strategy.personal else "accounts for one training alone"
        told = told if strategy.any_network else "is for U-Nets alone"
        raise ConfigError(
            f"{source}: latent.mode: 'federated' trains the autoencoder by the cell's strategy, and {name} {told}; "
            "use 'central'"
        )


def _plugin(value: Any, kind: str, room: Any, source: str, axis: bool) -> dict[str, Any]:
    return read_plugin(value, f"{source}: {'axes.' if axis and not source.startswith('--set') else ''}{kind}", room)


def read_plugin(value: Any, where: str, room: Any) -> dict[str, Any]:
    """{"name", "params"} with all hyper-parameters, from ``"name"``, ``"name(key=value)"`` or a table.

    Args:
        where: what messages begin with.
        room: `strategies` or `partitions`.
    Raises:
        ConfigError: for an unknown name, an unknown hyper-parameter or a value that it refuses.
    """
    name, params = plugin_parts(value, where)
    _check_values(params, f"{where}: {name}", finite=True)
    try:
        cls = room.load(name)
    except ValueError as error:
        raise ConfigError(f"{where}: got {name!r}; {error}") from error
    if "beta" in params and getattr(cls, "uses_beta", False):
        raise ConfigError(
            f"{where}: {name}(beta): beta is a field and an axis of the grid, not a hyper-parameter; "
            "write beta = 0.1 or axes.beta = [0.1]"
        )
    stand_in = {"beta": 1.0} if getattr(cls, "uses_beta", False) else {}
    known = [item.name for item in dataclasses.fields(cls) if item.name not in stand_in]
    for key in params.keys() - set(known):
        options = _allowed(key, known) if known else "it has no hyper-parameters"
        raise ConfigError(f"{where}: {name}: unknown hyper-parameter {key!r}; {options}")
    try:
        built = TypeAdapter(cls).validate_python(params | stand_in)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain_params(item, where, name) for item in error.errors())) from error
    return {"name": name, "params": {k: v for k, v in dataclasses.asdict(built).items() if k not in stand_in}}


def plugin_parts(value: Any, where: str) -> tuple[str, dict[str, Any]]:
    """The name and the hyper-parameters that are given, neither of them looked up; arguments as `read_plugin`.

    Raises:
        ConfigError: if it reads as neither.
    """
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        nested = value.get("params", {})
        if not isinstance(nested, dict):
            raise ConfigError(f"{where}: params: got {nested!r}; it must be a table of hyper-parameters")
        return value["name"], {key: item for key, item in value.items() if key not in ("name", "params")} | nested
    match = re.fullmatch(r"\s*([^()\s]+)\s*(?:\((.*)\))?\s*", value, re.DOTALL) if isinstance(value, str) else None
    if match is None:
        raise ConfigError(f'{where}: got {value!r}; write "name", "name(key=value)" or {{name = "name", key = value}}')
    try:
        return match[1], _one_value(f"{{{match[2] or ''}}}")
    except _NOT_TOML as error:
        raise ConfigError(f"{where}: got {value!r}; the part in brackets must read key=value, key=value") from error


def _check_rules(rules: Any, cells: Sequence[CellConfig], source: str) -> list[dict[str, Any]]:
    """The exclusions as flat tables, each of which takes out one of `cells` at least, where any are given."""
    if not isinstance(rules, list) or not all(isinstance(rule, dict) and rule for rule in rules):
        raise ConfigError(f"{source}: exclude: must be tables [[exclude]] with at least one field each")
    flat = [dict(flatten(rule)) for rule in rules]
    for rule in flat:
        for key in rule:
            if key not in field_names():
                raise ConfigError(f"{source}: exclude.{key}: unknown field; {_allowed(key, field_names())}")
        if cells and not any(_matches_all(cell, rule) for cell in cells):
            told = ", ".join(f"{key} = {value!r}" for key, value in rule.items())
            raise ConfigError(f"{source}: exclude: no cell has {told}; take the rule out, or mend its values")
    return flat


def _matches_all(cell: CellConfig, rule: Mapping[str, Any]) -> bool:
    """Whether all of a rule's fields equal the cell's; a strategy or partition by its name or its label."""
    return all(
        _matches(field(cell, key), wanted) or (key == "strategy" and wanted == cell.strategy_label)
        for key, wanted in rule.items()
    )


def _matches(value: Any, wanted: Any) -> bool:
    if isinstance(value, Plugin):
        return wanted in (value.name, value.label)
    return list(value) == wanted if isinstance(value, tuple) else bool(value == wanted)


# ---------------------------------------------------------------------------------------------- messages


def _allowed(given: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    if not near:  # a bare name of a field that lives in a section
        near = [name for name in known if name.rsplit(".", 1)[-1] == given][:1]
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(known)}"


def _explain(error: ErrorDetails, origins: dict[str, str], source: str, axes: set[str]) -> str:
    """One line for one pydantic error: file, key, what was given, what is allowed, the nearest name."""
    key = ".".join(str(part) for part in error["loc"] if not isinstance(part, int))
    origin = origins.get(key, source)
    shown = f"axes.{key}" if key in axes and not origin.startswith("--set") else key
    prefix = f"{origin}: {shown}" if shown else origin
    if error["type"] == "extra_forbidden":
        return f"{prefix}: unknown key; {_allowed(str(error['loc'][-1]), _siblings(error['loc']))}"
    if error["type"] == "missing":
        return f"{prefix}: missing; a grid must give it, as a field or an axis"
    if error["type"] == "value_error":
        return f"{prefix}: {error['ctx']['error']}"
    given = json.dumps(error["input"], ensure_ascii=False, default=str)
    message = error["msg"].removeprefix("Input should be ")
    line = f"{prefix}: got {given}; it must be {message}"
    options = (
        re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", "")) if error["type"] == "literal_error" else []
    )
    near = difflib.get_close_matches(str(error["input"]), options, n=1, cutoff=0.5)
    return f"{line}; did you mean {near[0]!r}?" if near else line


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    """Keys allowed beside the one at `location`."""
    model: type[BaseModel] = CellConfig
    for part in location[:-1]:
        kind = model.model_fields[str(part)].annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            model = kind
    return [*model.model_fields, *(_GRID_KEYS if len(location) == 1 else ())]


def _explain_params(error: ErrorDetails, where: str, name: str) -> str:
    if error["type"] == "value_error":
        return f"{where}: {name}: {error['ctx']['error']}"
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{where}: {name}: its hyper-parameter {key!r} is missing; write {name}({key}=...)"
    return f"{where}: {name}({key}): got {error['input']!r}; it must be {error['msg'].removeprefix('Input should be ')}"
