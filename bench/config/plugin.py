"""Strategies and partitions as a person writes them: by name, with hyper-parameters."""

import dataclasses
import re
from collections.abc import Collection
from typing import Any, Self

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from bench.config.errors import ConfigError
from bench.config.messages import requirement
from bench.config.toml import NOT_TOML, check_values, read_value, write_value
from bench.plugins import Registry, allowed
from bench.store.fields import Section

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "eps": "ε", "epsilon": "ε", "eta": "η", "lam": "λ",
    "mu": "μ", "rho": "ρ", "sigma": "σ", "tau": "τ",
}  # fmt: skip


class Plugin(Section):
    """A strategy or partition by name, with its hyper-parameters, defaults filled in."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """E.g. ``fedprox(mu=0.1)``; a grid accepts it back."""
        inner = ", ".join(f"{key}={write_value(value)}" for key, value in self.params.items())
        return f"{self.name}({inner})" if inner else self.name

    def short(self, cls: type, always: Collection[str] = ()) -> Self:
        """With the hyper-parameters in `always` and those that are not the defaults of dataclass `cls` alone."""
        fields = dataclasses.fields(cls)
        defaults: dict[str, Any] = {item.name: {} if item.default_factory is dict else item.default for item in fields}
        shown = {key: value for key, value in self.params.items() if key in always or value != defaults[key]}
        return self.model_copy(update={"params": shown})

    def title(self, own: str) -> str:
        """As papers write it: ``FedProx, μ = 0.1`` where `own` is "FedProx"."""
        return ", ".join([own, *(f"{symbol(key)} = {write_value(value)}" for key, value in self.params.items())])

    def make(self, registry: Registry[Any], beta: float | None = None) -> Any:
        """An instance of the class of that name, of that beta if it takes one.

        Raises:
            ValueError: if there is no such class, or it refuses a value.
        """
        cls = registry.load(self.name)
        return TypeAdapter(cls).validate_python(self.params | ({"beta": beta} if takes_beta(cls) else {}))


def symbol(name: str) -> str:
    """A hyper-parameter's name for people: Greek where it is a Greek letter, ``beta1`` with its digit."""
    letter = name.rstrip("0123456789")
    return GREEK[letter] + name[len(letter) :] if letter in GREEK else name.replace("_", " ")


def takes_beta(cls: type) -> bool:
    """Whether it is a partition of a beta, which is a field of the cell and no hyper-parameter."""
    return getattr(cls, "uses_beta", False)


def read_plugin(value: Any, where: str, registry: Registry[Any]) -> Plugin:
    """What ``"name"``, ``"name(key=value)"`` or a table says, with all hyper-parameters but beta.

    Args:
        where: what messages begin with.
    Raises:
        ConfigError: for an unknown name, an unknown hyper-parameter or a value that it refuses.
    """
    name, params = plugin_parts(value, where)
    check_values(params, f"{where}: {name}", finite=True)
    try:
        cls = registry.load(name)
    except ValueError as error:
        raise ConfigError(f"{where}: got {name!r}; {error}") from error
    stand_in = {"beta": 1.0} if takes_beta(cls) else {}
    if stand_in.keys() & params.keys():
        raise ConfigError(
            f"{where}: {name}(beta): beta is a field and an axis of the grid, not a hyper-parameter; "
            "write beta = 0.1 or axes.beta = [0.1]"
        )
    known = [item.name for item in dataclasses.fields(cls) if item.name not in stand_in]
    for key in params.keys() - set(known):
        options = allowed(key, known) if known else "; it has no hyper-parameters"
        raise ConfigError(f"{where}: {name}: unknown hyper-parameter {key!r}{options}")
    try:
        instance = TypeAdapter(cls).validate_python(params | stand_in)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(item, where, name) for item in error.errors())) from error
    return Plugin(name=name, params={key: v for key, v in dataclasses.asdict(instance).items() if key not in stand_in})


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
        return match[1], read_value(f"{{{match[2] or ''}}}")
    except NOT_TOML as error:
        raise ConfigError(f"{where}: got {value!r}; the part in brackets must read key=value, key=value") from error


def _explain(error: ErrorDetails, where: str, name: str) -> str:
    if error["type"] == "value_error":
        return f"{where}: {name}: {error['ctx']['error']}"
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{where}: {name}: its hyper-parameter {key!r} is missing; write {name}({key}=...)"
    return f"{where}: {name}({key}): got {error['input']!r}; it must be {requirement(error)}"
