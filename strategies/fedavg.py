"""FedAvg: local training, then the mean of the models weighted by their numbers of images.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks from
Decentralized Data, AISTATS 2017, algorithm 1 (arXiv 1602.05629).
"""

from dataclasses import dataclass
from typing import ClassVar

from strategies.base import Strategy


@dataclass(frozen=True)
class FedAvg(Strategy):
    """w <- sum_i (N_i / sum_j N_j) w_i over the participants of the round."""

    title: ClassVar[str] = "FedAvg"
