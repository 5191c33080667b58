"""What is compared: one strategy a file, found by name, by dotted path or by entry point."""

import difflib
import importlib
from importlib.metadata import entry_points

from strategies.base import State, Strategy, Tensors, Upload, WeightedMean
from strategies.centralized import Centralized
from strategies.fedavg import FedAvg
from strategies.fedprox import FedProx

__all__ = ["State", "Strategy", "Tensors", "UnknownStrategy", "Upload", "WeightedMean", "available", "load"]

ENTRY_POINTS = "bench.strategies"
_SHIPPED: dict[str, type[Strategy]] = {"centralized": Centralized, "fedavg": FedAvg, "fedprox": FedProx}


class UnknownStrategy(ValueError):
    """There is no such strategy; the message names those that there are."""


def available() -> list[str]:
    """Names of the shipped strategies and of those that installed packages offer as entry points."""
    return sorted({*_SHIPPED, *entry_points(group=ENTRY_POINTS).names})


def load(name: str) -> type[Strategy]:
    """The class of a strategy's name, or of a dotted path ``package.module:Class`` that can be imported.

    Raises:
        UnknownStrategy: if there is none, or it is not a `Strategy`.
    """
    if name in _SHIPPED:
        return _SHIPPED[name]
    if ":" in name:
        return _checked(name, _imported(name))
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        return _checked(name, entry.load())
    near = difflib.get_close_matches(name, available(), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownStrategy(
        f'unknown strategy {name!r}; {hint}allowed: {", ".join(available())}, or your own as "package.module:Class"'
    )


def _imported(path: str) -> object:
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownStrategy(f"{path!r} cannot be imported: {error}") from error


def _checked(name: str, found: object) -> type[Strategy]:
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise UnknownStrategy(f"{name!r} is {found!r}, not a subclass of strategies.base.Strategy")
    return found
