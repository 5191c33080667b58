"""Centralized training with as many gradient steps as each client of a federation makes.

Clients train side by side, so a federation makes no more steps one after another than one of them does, however many
images all of them see. What this line has beyond a federation is not due to steps: it is what averaging costs.
"""

from dataclasses import dataclass
from typing import ClassVar

from strategies.centralized import Centralized


@dataclass(frozen=True)
class CentralizedMatched(Centralized):
    """All images in one place, and `training.local_steps` steps in every round."""

    title: ClassVar[str] = "Centralized, matched steps"
    matched: ClassVar[bool] = True
