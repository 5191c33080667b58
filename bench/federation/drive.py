"""Drive a training through its rounds: watchers look on after each, and a checkpoint lets one that is killed go on.

A checkpoint is one sealed file, written whole in the place of the one before. It names the files of the clients'
states, which are never written to again, and holds all that the next round depends on: the draws of every round are
named by its number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.federation.ledger import RoundRecord
from bench.federation.rounds import FederatedTraining
from bench.store.states import State, load_state, save_state


class Watcher:
    """Looks on at a training; by default it does nothing.

    The states of all watchers are part of each checkpoint, in one dict.
    """

    def restore(self, kept: State) -> None:
        """Go on from a checkpoint that holds `kept`."""

    def after_round(self, run: FederatedTraining, record: RoundRecord) -> None:
        """A round has ended; the model to be evaluated now is in `run.net`."""

    def kept(self) -> State:
        """The watcher's state for a checkpoint."""
        return {}


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint of one training.

    Attributes:
        path: its file.
        every: rounds between two; 0 for none.
        until: the round after which the training is left, with a checkpoint; None for its last.
    """

    path: Path
    every: int
    until: int | None = None

    def load(self, device: str) -> State | None:
        """{"run": for `FederatedTraining.restore`, "kept": of the watchers}; None if there is none.

        Raises:
            Damaged: if it was damaged since.
        """
        return load_state(self.path, torch.device(device)) if self.path.exists() else None

    def save(self, run: FederatedTraining, kept: State) -> None:
        """Write a checkpoint, and remove clients' states that only an older one needs."""
        save_state(self.path, {"run": run.snapshot(), "kept": kept})
        run.forget_older()

    def due(self, round_number: int, rounds: int) -> bool:
        """Whether one is to be written after that round."""
        if round_number == self.until:
            return True
        return self.every > 0 and (round_number % self.every == 0 or round_number == rounds)


def drive(run: FederatedTraining, point: Checkpoint, watchers: Sequence[Watcher], start: State | None = None) -> None:
    """Train the rounds that are left, up to `point.until`; after each come the watchers in their order, then the
    checkpoint.

    Args:
        start: a checkpoint to go on from, as `Checkpoint.load` gives it; None to begin anew.
    Raises:
        Diverged: if a loss stops being finite.
        Damaged: if a client's state is not what was written.
    """
    if start is not None:
        run.restore(start["run"])
        for watcher in watchers:
            watcher.restore(start["kept"])
    for record in run.rounds():
        for watcher in watchers:
            watcher.after_round(run, record)
        if point.due(record.round, run.training.rounds):
            point.save(run, {key: value for watcher in watchers for key, value in watcher.kept().items()})
        if record.round == point.until:
            return
