"""What a Flower object remembers, as plain numbers and texts: nothing that is read back can run code.

`written` gives nested dicts with texts as keys, whose leaves are tensors, numbers, texts and None: what
`bench.store.states` keeps. `restore` gives it back to an object that was made anew from the same hyper-parameters. What
the constructor makes and no round can change (functions, classes, loggers) is taken from the new object; what is
neither that nor plain is refused, never left out.

A number, text, None or tensor stands for itself, everything else is a dict with a "kind".
"""

import copyreg
import json
import logging
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

Place = tuple[str, ...]
State = dict[str, Any]

_PLAIN = (bool, int, float, str, type(None))
_MANY: dict[str, type] = {kind.__name__: kind for kind in (list, tuple, set, frozenset)}
_UNCHANGING = (type, ModuleType, Enum, logging.Logger, np.dtype, np.ufunc, PurePath, re.Pattern)
_CODE = (FunctionType, MethodType, BuiltinFunctionType, partial, *_UNCHANGING)
_STREAMS: dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], None]]] = {
    np.random.Generator: (lambda g: g.bit_generator.state, lambda g, s: setattr(g.bit_generator, "state", s)),
    np.random.RandomState: (lambda g: g.get_state(legacy=False), lambda g, s: g.set_state(s)),
    random.Random: (lambda g: g.getstate(), lambda g, s: g.setstate(s)),
    torch.Generator: (lambda g: g.get_state(), lambda g, s: g.set_state(s)),
}


def places(made: Any) -> dict[Place, Any]:
    """Everything in a newly made object that is not plain, by its path of attributes, keys and numbers."""
    return {(): made} | dict(_places(made, (), set()))


def _places(value: Any, at: Place, seen: set[int]) -> Iterator[tuple[Place, Any]]:
    if id(value) in seen or type(value) in _PLAIN:
        return
    if not isinstance(value, _CODE):  # which may stand in many places; of the rest there is one, that is given its own
        seen.add(id(value))
    yield at, value
    for name, part in _parts(value):
        yield from _places(part, (*at, name), seen)


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    if type(value) is dict:
        return ((str(i), item) for i, item in enumerate(value.values()))
    if type(value) in _MANY.values():
        return ((str(i), item) for i, item in enumerate(value))
    return vars(value).items() if _is_open(value) else ()


def written(strategy: Any, made: Mapping[Place, Any]) -> State:
    """All that the object holds.

    Args:
        made: `places` of it as it was when newly made, before anything was restored.
    Raises:
        TypeError: if an attribute would not come back as it is; the message names it.
    """
    state: State = _Writer(made).write(strategy, ())
    return state


def restore(strategy: Any, state: State, made: Mapping[Place, Any]) -> None:
    """Give what `written` wrote to a newly made object, of which `made` are the `places`.

    Raises:
        ValueError: if another one was written.
    """
    try:
        _Reader(made).read(state, ())
    except KeyError as error:
        raise ValueError(f"what is kept is not the state of a {_name(strategy)}: {error} is missing") from error


class _Writer:
    """Remembers where each value was written, so that one that stands in two places stays one."""

    def __init__(self, made: Mapping[Place, Any]) -> None:
        self._made = made
        self._at: dict[int, tuple[Place, Any]] = {}  # with the value, so that no other one gets its id meanwhile

    def write(self, value: Any, at: Place) -> Any:
        if type(value) in _PLAIN:
            return value
        if self._made.get(at) is value and self._is_code(value):
            return {"kind": "made"}
        if id(value) in self._at:
            return {"kind": "again", "place": json.dumps(self._at[id(value)][0])}
        self._at[id(value)] = (at, value)
        if type(value) is torch.Tensor and value.device.type == "cpu" and not value.requires_grad:
            return value.clone(memory_format=torch.contiguous_format)
        if type(value) in (bytes, bytearray):
            return {"kind": type(value).__name__, "data": _as_tensor(bytes(value))}
        if _is_numpy(value):
            return _array(value)
        return self._compound(value, at)

    def _compound(self, value: Any, at: Place) -> State:
        kind = type(value)
        if kind is dict:
            keys, values = self._numbered(value, (*at, "keys")), self._numbered(value.values(), at)
            return {"kind": "dict", "keys": keys, "values": values}
        if kind in _MANY.values():
            return {"kind": kind.__name__, "values": self._numbered(value, at)}
        if kind in _STREAMS and type(self._made.get(at)) is kind:
            return {"kind": "stream", "state": self.write(_STREAMS[kind][0](value), (*at, "state"))}
        known = kind.__name__ if _values().get(kind.__name__) is kind else None
        if not _is_open(value) or not (known or type(self._made.get(at)) is kind):
            raise TypeError(f"its attribute {'.'.join(at)} cannot be kept between rounds: {_name(value)}")
        attributes = {name: self.write(part, (*at, name)) for name, part in self._attributes(value, known)}
        return {"kind": "object", "class": known, "attributes": attributes}

    def _numbered(self, values: Iterable[Any], at: Place) -> State:
        return {str(i): self.write(value, (*at, str(i))) for i, value in enumerate(values)}

    @staticmethod
    def _attributes(value: Any, known: str | None) -> list[tuple[str, Any]]:
        """Of a Flower record all but its functions, which a new one has, too."""
        checks = _CHECKS if known else ()
        return [(name, part) for name, part in vars(value).items() if name not in checks]

    def _is_code(self, value: Any) -> bool:
        """Whether no round can have changed it, so that a newly made object has the same."""
        if isinstance(value, FunctionType):
            held = [*(cell.cell_contents for cell in value.__closure__ or ()), *(value.__defaults__ or ())]
            held += (value.__kwdefaults__ or {}).values()
            return not vars(value) and all(map(self._is_constant, held))
        if isinstance(value, MethodType | BuiltinFunctionType):
            return self._is_constant(value.__self__)
        if type(value) is partial:
            return all(map(self._is_constant, [value.func, *value.args, *value.keywords.values()]))
        return isinstance(value, _UNCHANGING)

    def _is_constant(self, value: Any) -> bool:
        """Of what a function holds: the strategy itself, which is kept, or what cannot change."""
        if isinstance(value, FunctionType):
            return not (vars(value) or value.__closure__ or value.__defaults__ or value.__kwdefaults__)
        return value is self._made[()] or type(value) in _PLAIN or isinstance(value, _UNCHANGING)


class _Reader:
    """Remembers what was made at each place, for what refers to it."""

    def __init__(self, made: Mapping[Place, Any]) -> None:
        self._made = made
        self._at: dict[Place, Any] = {}

    def read(self, state: Any, at: Place) -> Any:
        if not isinstance(state, dict):
            self._at[at] = state.cpu().clone() if isinstance(state, torch.Tensor) else state
            return self._at[at]
        if state["kind"] == "made":
            return self._made[at]
        if state["kind"] == "again":
            return self._at[tuple(json.loads(state["place"]))]
        value = self._at[at] = self._empty(state, at)
        if state["kind"] in ("tuple", "frozenset"):
            value = self._at[at] = type(value)(self._numbered(state["values"], at))
        elif state["kind"] == "object":
            vars(value).update({name: self.read(part, (*at, name)) for name, part in state["attributes"].items()})
        elif state["kind"] == "stream":
            _STREAMS[type(value)][1](value, self.read(state["state"], (*at, "state")))
        elif state["kind"] == "dict":
            keys = self._numbered(state["keys"], (*at, "keys"))
            value.update(zip(keys, self._numbered(state["values"], at), strict=True))
        elif state["kind"] in _MANY:
            (value.extend if state["kind"] == "list" else value.update)(self._numbered(state["values"], at))
        return value

    def _empty(self, state: State, at: Place) -> Any:
        """What is filled then; it may refer to itself."""
        kind = state["kind"]
        if kind in ("bytes", "bytearray"):
            return (bytes if kind == "bytes" else bytearray)(_as_bytes(state["data"]))
        if kind in ("array", "scalar"):
            return _from_array(state)
        if kind == "stream":
            return self._made[at]
        if kind != "object":
            return {} if kind == "dict" else _MANY[kind]()
        if state["class"]:
            return _new_record(state["class"])
        value = self._made[at]
        for name in vars(value).keys() - state["attributes"].keys():
            del vars(value)[name]
        return value

    def _numbered(self, states: State, at: Place) -> list[Any]:
        return [self.read(part, (*at, number)) for number, part in states.items()]


def _is_open(value: Any) -> bool:
    """Whether an object's attributes are all there is to it: nothing in slots, in C or behind code of its own."""
    kind = type(value)
    if isinstance(value, type | ModuleType | FunctionType) or kind.__reduce_ex__ is not object.__reduce_ex__:
        return False
    plain = kind.__reduce__ is object.__reduce__ and kind.__getstate__ is object.__getstate__
    if not plain or not hasattr(value, "__dict__"):
        return False
    try:
        made, given, attributes, *items = value.__reduce_ex__(2)
    except TypeError:  # part of it is in C
        return False
    whole = attributes is None or type(attributes) is dict
    return whole and made is copyreg.__newobj__ and given == (kind,) and items == [None, None]  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------- Flower's own values

_CHECKS = ("_check_key_fn", "_check_value_fn")  # functions in every record


def _values() -> dict[str, type]:
    """Classes of Flower that only hold values, by name: a round may make new ones."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
    from flwr.common import Parameters

    return {kind.__name__: kind for kind in (Array, ArrayRecord, ConfigRecord, MetricRecord, Parameters)}


def _new_record(name: str) -> Any:
    kind = _values()[name]
    return kind() if name.endswith("Record") else object.__new__(kind)


# ---------------------------------------------------------------------------------------------- arrays


def _is_numpy(value: Any) -> bool:
    known = type(value) is np.ndarray or isinstance(value, np.generic)
    return known and value.dtype.names is None and not value.dtype.hasobject


def _array(value: Any) -> State:
    """An array, or one of NumPy's own numbers, which is not the same as Python's."""
    kind, order = ("array", "F" if value.flags.fnc else "C") if isinstance(value, np.ndarray) else ("scalar", "C")
    data, shape = _as_tensor(value.tobytes(order)), json.dumps(value.shape)
    return {"kind": kind, "dtype": value.dtype.str, "shape": shape, "order": order, "data": data}


def _from_array(state: State) -> Any:
    flat = np.frombuffer(bytearray(_as_bytes(state["data"])), np.dtype(state["dtype"]))
    array = flat.reshape(json.loads(state["shape"]), order=state["order"])
    return array if state["kind"] == "array" else array[()]


def _as_tensor(data: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())


def _as_bytes(data: torch.Tensor) -> bytes:
    return data.cpu().numpy().tobytes()


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
