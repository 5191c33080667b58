"""The clients' states between their visits, on disk: memory does not grow with the number of clients."""

from pathlib import Path

import torch

from bench.store.states import State, load_state, save_state


class ClientStates:
    """Per client a nested dict (keys are texts) of tensors, numbers and texts, kept as one safetensors file each.

    The client visited last stays in memory until another one is asked for, so a single client never touches
    the disk but for checkpoints. Clients with nothing to remember leave no file. Files are named by client and
    generation, which ends at a checkpoint: what a checkpoint names is never written to again.

    Args:
        folder: created when first needed; no other run may use it. Files that `restore` does not name are not read.
        device: where tensors are put when they come back from disk.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._folder, self._device = folder, device
        self._resident: tuple[int, State] | None = None
        self._unwritten = False
        self._generation = 0
        self._files: dict[int, str] = {}

    def take(self, client: int) -> State:
        """The client's state, with the keys "strategy", "optimizer" and "task", all empty at its first visit.

        Raises:
            Damaged: if its file was damaged.
        """
        if self._resident is not None and self._resident[0] == client:
            return self._resident[1]
        self.flush()
        empty: State = {"strategy": {}, "optimizer": {}, "task": {}}
        if client not in self._files:
            return empty
        return empty | load_state(self._folder / self._files[client], self._device)

    def put(self, client: int, state: State) -> None:
        """Remember the state; it is written when another client is taken, or by `flush`."""
        self._resident, self._unwritten = (client, state), True

    def flush(self) -> None:
        """Write the state in memory to its file."""
        if self._resident is None or not self._unwritten:
            return
        client, state = self._resident
        self._unwritten = False
        if any(state.values()):
            self._files[client] = f"{client}-{self._generation}.safetensors"
            save_state(self._folder / self._files[client], state, sync=False)
        else:  # what it once remembered and has put away must not come back
            self._files.pop(client, None)

    def commit(self) -> dict[str, str]:
        """End the generation; the name of each client's file, for `restore`."""
        self.flush()
        self._generation += 1
        return {str(client): name for client, name in self._files.items()}

    def restore(self, files: dict[str, str]) -> None:
        """Go on from a checkpoint with what `commit` gave.

        Raises:
            Damaged: if a file was damaged since.
        """
        for name in files.values():
            load_state(self._folder / name, torch.device("cpu"))
        self._resident, self._unwritten = None, False
        self._files = {int(client): name for client, name in files.items()}
        self._generation = 1 + max((int(name.split("-")[1].split(".")[0]) for name in files.values()), default=0)

    def prune(self) -> None:
        """Remove files of earlier generations that have no state of today."""
        for path in self._folder.glob("*.safetensors"):
            if path.name not in self._files.values():
                path.unlink()
