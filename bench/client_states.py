"""What clients remember between their visits, on disk: memory does not grow with the number of clients."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

State = dict[str, Any]


class ClientStates:
    """Per client a nested dict (keys are texts) of tensors, numbers and texts, kept as one safetensors file each.

    The client visited last stays in memory until another one is asked for, so a single client never touches
    the disk. Clients with nothing to remember leave no file.

    Args:
        folder: made when first needed; it must be the run's own.
        device: where tensors are put when they come back from disk.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._folder, self._device = folder, device
        self._resident: tuple[int, State] | None = None

    def take(self, client: int) -> State:
        """The client's state, with the keys "strategy", "optimizer" and "task", all empty at its first visit."""
        if self._resident is not None and self._resident[0] == client:
            return self._resident[1]
        self.flush()
        path = self._path(client)
        return _load(path, self._device) if path.exists() else {"strategy": {}, "optimizer": {}, "task": {}}

    def put(self, client: int, state: State) -> None:
        """Remember the state; it is written when another client is taken, or by `flush`."""
        self._resident = (client, state)

    def flush(self) -> None:
        """Write the state in memory to its file."""
        if self._resident is None:
            return
        client, state = self._resident
        self._resident = None
        if any(state.values()):
            self._folder.mkdir(parents=True, exist_ok=True)
            _save(self._path(client), state)

    def _path(self, client: int) -> Path:
        return self._folder / f"{client}.safetensors"


def _leaves(tree: State, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*prefix, str(key)))
        else:
            yield (*prefix, str(key)), value


def _save(path: Path, state: State) -> None:
    """Tensors by their JSON-encoded path, everything else in the file's metadata."""
    leaves = dict(_leaves(state))
    tensors = {json.dumps(key): value.contiguous() for key, value in leaves.items() if isinstance(value, Tensor)}
    rest = [[key, value] for key, value in leaves.items() if not isinstance(value, Tensor)]
    save_file(tensors, path, metadata={"rest": json.dumps(rest)})


def _load(path: Path, device: torch.device) -> State:
    state: State = {"strategy": {}, "optimizer": {}, "task": {}}
    with safe_open(path, framework="pt", device=str(device)) as file:
        found = [(json.loads(name), file.get_tensor(name)) for name in file.keys()]  # noqa: SIM118 - the file itself cannot be iterated
        found += [(key, value) for key, value in json.loads(file.metadata()["rest"])]
    for key, value in found:
        *path_parts, last = key
        node = state
        for part in path_parts:
            node = node.setdefault(part, {})
        node[last] = value
    return state
