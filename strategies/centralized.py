"""Centralized training: the reference that federated training is measured against.

One party holds all images and keeps its optimizer; nothing travels. It runs through the same loop as every
other strategy, as FedAvg over a single client.
"""

from dataclasses import dataclass
from typing import ClassVar

from strategies.base import Strategy


@dataclass(frozen=True)
class Centralized(Strategy):
    """All images in one place."""

    title: ClassVar[str] = "Centralized"
    centralized: ClassVar[bool] = True
