"""How much memory a computation needs at once: tensors by their storages, NumPy and Python by tracemalloc."""

import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that were made while it is entered and are still there.

    Attributes:
        peak: the most at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._known: dict[int, tuple[StorageWeakRef, int]] = {}
        self._at_most = 0  # bytes of all that is known, those that are gone by now included

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation and look at what it made."""
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                self._note(tensor)
        if self._at_most > self.peak:
            self._known = {key: known for key, known in self._known.items() if not known[0].expired()}
            self._at_most = sum(nbytes for _, nbytes in self._known.values())
            self.peak = max(self.peak, self._at_most)
        return made

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        reference = StorageWeakRef(storage)
        if reference.cdata not in self._known:
            self._known[reference.cdata] = reference, storage.nbytes()
            self._at_most += storage.nbytes()


def peak_bytes(compute: Callable[[], object]) -> int:
    """The most bytes at once in tensors, plus the most at once in NumPy arrays and Python objects."""
    tracemalloc.start()
    try:
        with LiveBytes() as live:
            compute()
        return live.peak + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
