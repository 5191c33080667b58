"""How strategies and partitions are found: by a shipped name, an installed package's entry point, or a dotted path.

It knows neither of the rooms that use it.
"""

import difflib
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

T = TypeVar("T")


class Later(ModuleType):
    """A module by its name, imported when it is first asked for something.

    For modules that take seconds to import and that a command may not need: a mistake in a grid, say, is reported by
    the hyper-parameters of its strategies alone.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:  # a grid is read, and its mistakes reported, without the seconds that torch takes to import
    torch, Tensor = Later("torch"), Any


class UnknownPlugin(ValueError):
    """Nothing goes by this name, or what goes by it is not of the right kind; the message names what there is."""


class Registry(Generic[T]):
    """The classes of one kind.

    Args:
        kind: what messages call it, e.g. "strategy".
        group: the entry-point group under which installed packages offer more of them.
        base: what every class must derive from.
        shipped: classes by name; a plugin cannot take one of these names.
    """

    def __init__(self, kind: str, group: str, base: type[T], shipped: Mapping[str, type[T]]) -> None:
        self._kind, self._group, self._base, self._shipped = kind, group, base, dict(shipped)

    def names(self) -> list[str]:
        """Every name, shipped ones first; plugins are not imported."""
        return [*self._shipped, *self._plugins()]

    def load(self, name: str) -> type[T]:
        """The class called `name`: a shipped name, a plugin's, or "package.module:Class" on the import path.

        Raises:
            UnknownPlugin: if there is none, naming what there is and the nearest right name.
        """
        if name in self._shipped:
            return self._shipped[name]
        plugins = self._plugins()
        if name in plugins:
            return self._load_plugin(plugins[name])
        if ":" in name:
            return self._load_path(name)
        raise UnknownPlugin(
            f"no {self._kind} {name!r}{hint(name, self.names())}; allowed: {', '.join(self.names())}, "
            'or your own as "package.module:Class"'
        )

    def _plugins(self) -> dict[str, EntryPoint]:
        found = entry_points(group=self._group)
        return {plugin.name: plugin for plugin in found if plugin.name not in self._shipped}

    def _load_plugin(self, plugin: EntryPoint) -> type[T]:
        try:
            found = plugin.load()
        except (ImportError, AttributeError) as error:
            raise UnknownPlugin(f"plugin {plugin.name!r} ({plugin.value}) does not load: {error}") from error
        return self._checked(plugin.value, found)

    def _load_path(self, path: str) -> type[T]:
        module_name, _, class_name = path.partition(":")
        if not all(part.isidentifier() for part in [*module_name.split("."), class_name]):
            raise UnknownPlugin(f'{path!r} is not of the form "package.module:Class"')
        try:
            module = import_module(module_name)
        except (Exception, SystemExit) as error:
            if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
                raise UnknownPlugin(f"{path!r}: no module {error.name!r} on the import path") from error
            raise UnknownPlugin(f"{path!r}: importing it failed: {type(error).__name__}: {error}") from error
        if class_name not in vars(module):
            near = hint(class_name, vars(module))
            raise UnknownPlugin(f"{path!r}: module {module_name!r} has no {class_name!r}{near}")
        return self._checked(path, vars(module)[class_name])

    def _checked(self, path: str, found: object) -> type[T]:
        if isinstance(found, type) and issubclass(found, self._base) and not isabstract(found):
            return found
        base = f"{self._base.__module__}.{self._base.__name__}"
        raise UnknownPlugin(f"{path!r} is not a subclass of {base} with all its methods")


def nearest(given: str, names: Iterable[str]) -> str | None:
    """The name that is nearest to what was given; None where none is near."""
    return next(iter(difflib.get_close_matches(given, list(names), n=1, cutoff=0.5)), None)


def hint(name: str, names: Iterable[str]) -> str:
    """The nearest name, for the end of a message; "" where none is near."""
    close = nearest(name, names)
    return f"; did you mean {close!r}?" if close else ""
