"""Tensors in one safetensors file with a checksum: a damaged number would otherwise be read as another number."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from bench.files import write_bytes

_CHECKSUM = "checksum"


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
