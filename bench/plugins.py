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
        self.kind, self._group, self._base, self._shipped = kind, group, base, dict(shipped)

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
        options = allowed(name, self.names())
        raise UnknownPlugin(f'no {self.kind} {name!r}{options}, or your own as "package.module:Class"')

    def _plugins(self) -> dict[str, EntryPoint]:
        offered = entry_points(group=self._group)
        return {plugin.name: plugin for plugin in offered if plugin.name not in self._shipped}

    def _load_plugin(self, plugin: EntryPoint) -> type[T]:
        try:
            thing = plugin.load()
        except (ImportError, AttributeError) as error:
            raise UnknownPlugin(f"plugin {plugin.name!r} ({plugin.value}) does not load: {error}") from error
        return self._checked(plugin.value, thing)

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
            raise UnknownPlugin(
                f"{path!r}: module {module_name!r} has no {class_name!r}{hint(class_name, vars(module))}"
            )
        return self._checked(path, vars(module)[class_name])

    def _checked(self, path: str, thing: object) -> type[T]:
        if isinstance(thing, type) and issubclass(thing, self._base) and not isabstract(thing):
            return thing
        base = f"{self._base.__module__}.{self._base.__name__}"
        raise UnknownPlugin(f"{path!r} is not a subclass of {base} with all its methods")


# ------------------------------------------------------------------------------------------------- names in messages


def hint(name: str, names: Iterable[str], meant: Iterable[str] = ()) -> str:
    """The names that a wrong one may stand for, as `` (did you mean 'client.lr' or 'latent.lr'?)``; "" for none.

    Those that are `meant` for certain, those of which it is the last part, else the nearest one.
    """
    known = list(names)
    close = list(meant) or [each for each in known if each.endswith(f".{name}")]
    for spelling in (name, name.lower()):
        close = close or difflib.get_close_matches(spelling, known, n=1, cutoff=0.5)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def allowed(name: str, names: Iterable[str], meant: Iterable[str] = ()) -> str:
    """The end of a message on a wrong name: the `hint`, and all names that are right."""
    known = list(names)
    return f"{hint(name, known, meant)}; allowed: {', '.join(known)}"
