"""Nested dicts of tensors, numbers and texts as one sealed safetensors file: what strategies and clients remember.

A leaf: it knows neither of the rooms that use it. Nothing in such a file is code.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as from_safetensors
from safetensors.torch import save
from safetensors.torch import save as to_safetensors
from torch import Tensor

from bench.store.files import SEAL, Damaged, write_bytes

State = dict[str, Any]
PLAIN = (bool, int, float, str, type(None))
_CHECKSUM = "checksum"


def leaves(tree: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value with its path of keys, in the dicts' order; an empty dict is a value."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def save_state(path: Path, state: State, sync: bool = True) -> None:
    """Write the state: tensors by their JSON-encoded path, everything else and the order in the file's metadata.

    Args:
        sync: whether it must outlast a loss of power.
    Raises:
        TypeError: for what would not come back as it is: keys that are no texts, values that are no tensors, numbers,
            texts, None or dicts of them.
    """
    order, tensors = [], {}
    for key, value in leaves(state):
        _check(key, value)
        order.append([key, None if isinstance(value, Tensor) else value])
        if isinstance(value, Tensor):  # a copy: two that share memory cannot lie in one file
            tensors[json.dumps(key)] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    told = json.dumps(order)
    write_bytes(path, save(tensors, metadata={"order": told, SEAL: _seal(told, tensors)}), sync)


def load_state(path: Path, device: torch.device) -> State:
    """What `save_state` wrote, its tensors on `device`.

    Raises:
        Damaged: if it is not there or was damaged since.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (OSError, SafetensorError) as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error
    if metadata.keys() != {"order", SEAL} or metadata[SEAL] != _seal(metadata["order"], tensors):
        raise Damaged("its checksum is that of other content")
    state: State = {}
    for key, value in json.loads(metadata["order"]):
        *parts, last = key
        node = state
        for part in parts:
            node = node.setdefault(part, {})
        name = json.dumps(key)
        node[last] = tensors[name].to(device) if name in tensors else value
    return state


def _seal(order: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the order and of the tensors' names, types, shapes and bytes."""
    total = hashlib.sha256(order.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        total.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return total.hexdigest()


def _check(key: tuple[Any, ...], value: Any) -> None:
    where = ".".join(map(str, key))
    odd = [part for part in key if not isinstance(part, str)]
    if odd:
        raise TypeError(f"state {where}: a key must be a text, got {odd[0]!r}")
    if not isinstance(value, (Tensor, *PLAIN)) and value != {}:
        raise TypeError(
            f"state {where}: got {type(value).__name__}; it must be a tensor, a number, a text or a dict of them"
        )


class BrokenFile(ValueError):
    """The file is not what `write_tensors` wrote."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors (on the CPU, contiguous) atomically: two processes at once both leave a whole file."""
    write_bytes(path, to_safetensors({**tensors, _CHECKSUM: _checksum(tensors)}))


def read_tensors(path: Path) -> dict[str, Tensor] | None:
    """What `write_tensors` wrote, None if there is no such file.

    Raises:
        BrokenFile: if it was damaged since; the message says how.
    """
    try:
        tensors = from_safetensors(path.read_bytes())
        if not tensors.pop(_CHECKSUM).equal(_checksum(tensors)):
            raise BrokenFile("its checksum is another")
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError) as error:
        raise BrokenFile(f"{type(error).__name__}: {error}") from error
    return tensors


def _checksum(tensors: Mapping[str, Tensor]) -> Tensor:
    """SHA-256 (32,) uint8 of names and values."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].contiguous().numpy().tobytes())
    return torch.tensor(list(total.digest()), dtype=torch.uint8)
