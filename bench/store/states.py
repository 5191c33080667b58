"""Tensors on disk, in one format: safetensors with a checksum in the metadata. Nothing in such a file is code.

`write_tensors` keeps tensors by name; `save_state` nested dicts of tensors, numbers and texts, which is what strategies
and clients remember.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bench.store.files import SEAL, Damaged, write_bytes

State = dict[str, Any]
PLAIN = (bool, int, float, str, type(None))
_ORDER = "order"  # of a state: its keys' paths and whatever is no tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], sync: bool = True) -> None:
    """Write tensors by name, atomically: two processes at once both leave a whole file.

    Args:
        sync: whether it must outlast a loss of power.
    """
    _write(path, tensors, {}, sync)


def read_tensors(path: Path, device: torch.device | str = "cpu", sealed: bool = True) -> dict[str, Tensor] | None:
    """The tensors of `write_tensors` on `device`; None if there is no such file.

    Args:
        sealed: refuse a file without a checksum. Files of cells that are older than checksums have none; their hashes
            stand in the cell's records.
    Raises:
        Damaged: if it was damaged since; the message says how, without the file's name.
    """
    try:
        return _read(path, device, sealed)[0]
    except FileNotFoundError:
        return None


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
        if isinstance(value, Tensor):
            tensors[json.dumps(key)] = value
    _write(path, tensors, {_ORDER: json.dumps(order)}, sync)


def load_state(path: Path, device: torch.device | str) -> State:
    """What `save_state` wrote, its tensors on `device`.

    Raises:
        Damaged: if it is not there or was damaged since.
    """
    try:
        tensors, metadata = _read(path, device, sealed=True)
        order = json.loads(metadata[_ORDER])
    except (FileNotFoundError, KeyError) as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error
    state: State = {}
    for key, value in order:
        *parts, last = key
        node = state
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = tensors.get(json.dumps(key), value)
    return state


def leaves(tree: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value with its path of keys, in the dicts' order; an empty dict is a value."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def _check(key: tuple[Any, ...], value: Any) -> None:
    where = ".".join(map(str, key))
    odd = [part for part in key if not isinstance(part, str)]
    if odd:
        raise TypeError(f"state {where}: a key must be a text, got {odd[0]!r}")
    if not isinstance(value, (Tensor, *PLAIN)) and value != {}:
        raise TypeError(
            f"state {where}: got {type(value).__name__}; it must be a tensor, a number, a text or a dict of them"
        )


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], sync: bool) -> None:
    # Copies, since two tensors that share memory cannot lie in one file.
    whole = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    seal = _seal(metadata.get(_ORDER, ""), whole)
    write_bytes(path, save(whole, metadata={**metadata, SEAL: seal}), sync)


def _read(path: Path, device: torch.device | str, sealed: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata.

    Raises:
        FileNotFoundError: if there is no such file.
        Damaged: if its content is not what was written.
    """
    if path.is_dir():
        raise Damaged("a folder stands in its place")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except FileNotFoundError:
        raise
    except (OSError, SafetensorError) as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error
    if SEAL not in metadata and sealed:
        raise Damaged("it has no checksum")
    if metadata.get(SEAL) not in (None, _seal(metadata.get(_ORDER, ""), tensors)):
        raise Damaged("its checksum is that of other content")
    return {name: tensor.to(device) for name, tensor in tensors.items()}, metadata


def _seal(order: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the order and of the tensors' names, types, shapes and bytes."""
    total = hashlib.sha256(order.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        total.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return total.hexdigest()
