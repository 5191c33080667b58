"""Messages of mistakes in a grid: who gave a value, what was given, what is allowed, and the nearest right name."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bench.plugins import allowed, hint

_NOUNS = {
    "dict_type": "a table",
    "model_type": "a table",
    "list_type": "a list",
    "too_short": "a list of at least one value",
    "string_type": "a text",
}


@dataclass(frozen=True)
class Origins:
    """Who gave the values of a grid: its file, a table of the file for some of its cells, or --set.

    Attributes:
        source: the file.
        axes: fields that are axes.
        sets: by field, the --set that gave it.
        tables: those in use, e.g. ``recipes.slow``, each with the fields that it gives.
    """

    source: str
    axes: Collection[str] = ()
    sets: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Collection[str]] = field(default_factory=dict)

    def of(self, key: str) -> str:
        """What a message on one field begins with, e.g. ``my.toml: axes.beta``."""
        if key in self.sets:
            return f"{self.sets[key]}: {key}"
        for table in (table for table, keys in self.tables.items() if key in keys):
            return f"{self.source}: {table}: {key}"
        return f"{self.source}: axes.{key}" if key in self.axes else f"{self.source}: {key}"

    def across(self, mistake: str) -> str:
        """A mistake of several fields, with the --set of those that it names, else with the file and every --set."""
        named = [given for key, given in self.sets.items() if re.search(rf"\b{re.escape(key)}\b", mistake)]
        givens = ", ".join(dict.fromkeys(named or self.sets.values()))
        start = givens if named else f"{self.source} with {givens}" if givens else self.source
        return ": ".join([start, *self.tables, mistake])


def explain(error: ValidationError, origins: Origins, model: type[BaseModel]) -> str:
    """One line for each mistake that pydantic found in what should have been a `model`."""
    return "\n".join(_explain(item, origins, model) for item in error.errors())


def _explain(error: ErrorDetails, origins: Origins, model: type[BaseModel]) -> str:
    path = [part for part in error["loc"] if isinstance(part, str) and part != "[key]"]
    prefix = origins.of(".".join(path)) if path else origins.source
    if error["type"] == "extra_forbidden":
        return f"{prefix}: unknown key{allowed(path[-1], _siblings(path, model))}"
    if error["type"] == "missing":
        return f"{prefix}: missing; a grid must give it, as a field or an axis"
    if error["type"] == "value_error":
        mistake = str(error["ctx"]["error"])
        return f"{prefix}: {mistake}" if path else origins.across(mistake)
    given = json.dumps(error["input"], ensure_ascii=False, default=str)
    line = f"{prefix}: got {given}; it must be {requirement(error)}"
    expected = error["ctx"]["expected"] if error["type"] == "literal_error" else ""
    return line + hint(str(error["input"]), re.findall(r"'([^']*)'", expected))


def requirement(error: ErrorDetails) -> str:
    """What a value must be, e.g. "greater than 0"."""
    if error["type"] == "too_short" and isinstance(error["input"], dict):
        return "a table with at least one field"
    return _NOUNS.get(error["type"], error["msg"].removeprefix("Input should be "))


def _siblings(path: list[str], model: type[BaseModel]) -> list[str]:
    """Keys allowed beside the last one of the path."""
    for part in path[:-1]:
        field = model.model_fields.get(part)  # a name that the file chose is none
        model = next(_models(field.annotation), model) if field else model
    return list(model.model_fields)


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    """The models in a type: itself, or what a dict or union of it holds."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for part in get_args(kind):
        yield from _models(part)
