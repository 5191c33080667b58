"""Strategies and partitions to try, found by name; no law is known here."""

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import partitions
import strategies
from bench.check.law import BETA
from bench.config.errors import ConfigError
from bench.config.plugin import Plugin, plugin_parts, read_plugin, takes_beta
from bench.plugins import Registry, UnknownPlugin, hint

REGISTRIES: dict[str, Registry[Any]] = {"strategy": strategies.registry, "partition": partitions.registry}
# Of shipped plugins that need to be told something, and packages without which one cannot be tried.
EXAMPLES = {("partition", "flower"): 'flower(partitioner="DirichletPartitioner", options={alpha=0.5})'}
PACKAGES = {("strategy", "flower"): "flwr", ("partition", "flower"): "flwr_datasets"}
PLURAL = {"strategy": "strategies", "partition": "partitions"}


@dataclass(frozen=True)
class Candidate:
    """A strategy or a partition that was asked for.

    Attributes:
        kind: "strategy" or "partition".  text: how it was asked for.
    """

    kind: str
    text: str
    plugin: Plugin

    def make(self, beta: float) -> Any:
        """An instance, of that beta if it takes one."""
        return self.plugin.make(REGISTRIES[self.kind], beta)


def everything(kind: str | None = None) -> Iterator[Candidate]:
    """All that has a name, with its defaults or as in `EXAMPLES`; a line says what cannot be tried here.

    Raises:
        ConfigError: as `find`.
    """
    for each in [kind] if kind else REGISTRIES:
        for name in REGISTRIES[each].names():
            needed = PACKAGES.get((each, name))
            if needed is not None and find_spec(needed) is None:
                print(f"left out: {each} {name}: the package {needed} is not installed", file=sys.stderr)
            else:
                yield from find(EXAMPLES.get((each, name), name), each)


def find(text: str, kind: str | None = None) -> list[Candidate]:
    """What goes by "name" or "name(parameter=value)": one mostly; two where a strategy and a partition both do.

    Raises:
        ConfigError: if nothing does, or its hyper-parameters are wrong.
    """
    name, _ = plugin_parts(text, "name")
    found, wrong = [], []
    for each in [kind] if kind else _kinds_of(name):
        try:
            found.append(_load(text, each))
        except ConfigError as error:
            wrong.append(str(error))
    if not found:
        raise ConfigError("; ".join(wrong))
    return found


def _kinds_of(name: str) -> list[str]:
    """Whether the name, or the class at a dotted path, is a strategy's, a partition's or both."""
    known = {kind: registry.names() for kind, registry in REGISTRIES.items()}
    if any(name in names for names in known.values()):
        return [kind for kind, names in known.items() if name in names]
    if ":" not in name:
        listed = "; ".join(f"{PLURAL[kind]}: {', '.join(names)}" for kind, names in known.items())
        near = hint(name, itertools.chain(*known.values()))
        raise ConfigError(f'no strategy or partition {name!r}{near}; {listed}; or your own as "package.module:Class"')
    wrong = {}
    for kind, registry in REGISTRIES.items():
        try:
            registry.load(name)
        except UnknownPlugin as error:
            wrong[kind] = str(error)
    if len(wrong) == len(REGISTRIES):
        raise ConfigError("; ".join(dict.fromkeys(wrong.values())))
    return [kind for kind in REGISTRIES if kind not in wrong]


def _load(text: str, kind: str) -> Candidate:
    name, given = plugin_parts(text, kind)
    try:
        cls = REGISTRIES[kind].load(name)
        if takes_beta(cls) and "beta" in given:
            raise ConfigError(f"{kind}: {text}: leave beta out; the laws try several")
        if takes_beta(cls) and "beta" not in cls.__dataclass_fields__:
            raise ConfigError(f"{kind}: {name}: uses_beta = True, but it has no field beta")
        candidate = Candidate(kind, text, read_plugin(text, kind, REGISTRIES[kind]))
        candidate.make(BETA)
    except (ConfigError, UnknownPlugin) as error:
        raise ConfigError(str(error)) from error
    except Exception as error:  # foreign code may raise anything while it is imported or made
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{kind}: {text}: it cannot be made: {what}") from error
    return candidate
