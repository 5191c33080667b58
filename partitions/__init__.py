"""Ways to split a labelled data set among clients, found by name.

A name is one of the built-in ones, one that an installed package offers under the entry-point group
"bench.partitions", or "module:Class" for a class on the import path.
"""

import difflib
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract

from partitions.base import Partition, PartitionError, checked_split, partition_digest
from partitions.dirichlet import Dirichlet
from partitions.dirichlet_plain import DirichletPlain
from partitions.iid import IID
from partitions.report import SkewReport, skew_report

__all__ = [
    "IID",
    "Dirichlet",
    "DirichletPlain",
    "Partition",
    "PartitionError",
    "SkewReport",
    "UnknownPartition",
    "available",
    "checked_split",
    "load",
    "partition_digest",
    "skew_report",
]

ENTRY_POINT_GROUP = "bench.partitions"

_BUILT_IN: dict[str, type[Partition]] = {
    "iid": IID,
    "dirichlet": Dirichlet,
    "dirichlet-plain": DirichletPlain,
}


class UnknownPartition(ValueError):
    """No partition goes by this name, or what goes by it is not a `Partition`."""


def available() -> dict[str, type[Partition]]:
    """Every named partition, built-in ones first. A plugin cannot take a built-in name.

    Raises:
        UnknownPartition: if an installed plugin does not load.
    """
    return _BUILT_IN | {name: _load_plugin(plugin) for name, plugin in _plugins().items()}


def load(name: str) -> type[Partition]:
    """The partition class called `name`: a built-in name, a plugin's name or "module:Class".

    Raises:
        UnknownPartition: names what is allowed and the nearest right name.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    plugins = _plugins()
    if name in plugins:
        return _load_plugin(plugins[name])
    if ":" in name:
        return _load_path(name)
    names = [*_BUILT_IN, *plugins]
    raise UnknownPartition(
        f"no partition {name!r}{_nearest(name, names)}; known: {', '.join(names)}, or 'module:Class'"
    )


def _plugins() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group=ENTRY_POINT_GROUP) if found.name not in _BUILT_IN}


def _load_plugin(plugin: EntryPoint) -> type[Partition]:
    try:
        found = plugin.load()
    except (ImportError, AttributeError) as error:
        raise UnknownPartition(f"plugin {plugin.name!r} ({plugin.value}) does not load: {error}") from error
    return _checked_class(plugin.value, found)


def _load_path(path: str) -> type[Partition]:
    """The class at "module:Class". Errors raised inside a module that exists are left as they are."""
    module_name, _, class_name = path.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), class_name]):
        raise UnknownPartition(f"{path!r} is not of the form 'module:Class'")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise UnknownPartition(f"{path!r}: no module {error.name!r} on the import path") from error
    if class_name not in vars(module):
        hint = _nearest(class_name, vars(module))
        raise UnknownPartition(f"{path!r}: module {module_name!r} has no {class_name!r}{hint}")
    return _checked_class(path, vars(module)[class_name])


def _checked_class(path: str, found: object) -> type[Partition]:
    if isinstance(found, type) and issubclass(found, Partition) and not isabstract(found):
        return found
    raise UnknownPartition(f"{path!r} is not a subclass of partitions.Partition with a split method")


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
