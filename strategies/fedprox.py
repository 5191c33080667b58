"""FedProx: FedAvg with a pull towards the round's global model in every local loss.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: Federated Optimization in Heterogeneous Networks, MLSys 2020,
equation 2 and algorithm 2 (arXiv 1812.06127).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.plugins import torch
from strategies.base import State, Tensors
from strategies.fedavg import FedAvg


@dataclass(frozen=True)
class FedProx(FedAvg):
    """Local loss L_i(w) + (mu / 2) ||w - w_round||^2; stragglers' partial work is kept (algorithm 2).

    Attributes:
        mu: strength of the pull, >= 0; 0 is FedAvg bit for bit. Sensible grid: 0.001, 0.01, 0.1, 1. Values do not
            transfer between optimizers: under Adam the term passes through the moments.

    Raises:
        ValueError: if mu is negative or not finite.
    """

    title: ClassVar[str] = "FedProx"
    partial_work: ClassVar[bool] = True
    zero: ClassVar[Mapping[str, Any]] = {"mu": 0.0}

    mu: float = 0.1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mu) and self.mu >= 0):
            raise ValueError(f"mu must be a finite number >= 0, got {self.mu}")

    def correct_grads(self, params: Tensors, down: Tensors, local: State) -> None:
        """Add the term's exact gradient, mu (w - w_round): the same as its `penalty`, without building its graph."""
        grads = {name: p.grad for name, p in params.items() if p.grad is not None}
        pulls = torch._foreach_sub([params[name].detach() for name in grads], [down[name] for name in grads])
        torch._foreach_add_(list(grads.values()), pulls, alpha=self.mu)
