"""Messages of mistakes in a grid: who gave a value, what was given, what is allowed, and the nearest right name."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

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
    """Who gave the values of a grid: its file, one of the file's recipes, or --set.

    Attributes:
        source: the file.
        axes: fields that are axes.
        sets: by field, the --set that gave it.
        recipe: the recipe in use, by name, and the fields that it gives.
    """

    source: str
    axes: Collection[str] = ()
    sets: Mapping[str, str] = field(default_factory=dict)
    recipe: tuple[str, Collection[str]] | None = None

    def of(self, key: str) -> str:
        """What a message on one field begins with, e.g. ``my.toml: axes.beta``."""
        if key in self.sets:
            return f"{self.sets[key]}: {key}"
        if self.recipe is not None and key in self.recipe[1]:
            return f"{self.source}: recipes.{self.recipe[0]}: {key}"
        return f"{self.source}: axes.{key}" if key in self.axes else f"{self.source}: {key}"

    def across(self, mistake: str) -> str:
        """A mistake of several fields, with the --set of those that it names, else with the file and every --set."""
        named = [given for key, given in self.sets.items() if re.search(rf"\b{re.escape(key)}\b", mistake)]
        givens = ", ".join(dict.fromkeys(named or self.sets.values()))
        start = givens if named else f"{self.source} with {givens}" if givens else self.source
        return f"{start}: recipes.{self.recipe[0]}: {mistake}" if self.recipe is not None else f"{start}: {mistake}"


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
        kind = model.model_fields[part].annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            model = kind
    return list(model.model_fields)
