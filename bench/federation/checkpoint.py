"""Where a run stands between two rounds, on disk, so that one that is killed goes on from there.

One sealed file, written whole in the place of the one before, names the files of the clients' states, which are never
written to again. It has no code in it, and holds all that the next round depends on: the draws of every round
are named by its number.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from bench.federation.rounds import FederatedTraining
from bench.store.states import State, load_state, save_state


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint of one run.

    Attributes:
        path: its file.
        every: rounds between two; 0 for none.
    """

    path: Path
    every: int

    def save(self, run: FederatedTraining, kept: State) -> None:
        """Write where the run stands.

        Args:
            kept: what else `load` is to give back.
        """
        save_state(self.path, {"run": run.snapshot(), "kept": kept})
        run.forget_older()

    def due(self, round_number: int, rounds: int) -> bool:
        """Whether one is to be written after that round."""
        return self.every > 0 and (round_number % self.every == 0 or round_number == rounds)

    def load(self, device: str) -> State | None:
        """{"run": for `FederatedTraining.restore`, "kept": as it was given}; None if there is none.

        Raises:
            Damaged: if it was damaged since.
        """
        return load_state(self.path, torch.device(device)) if self.path.exists() else None
