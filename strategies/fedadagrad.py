"""FedAdagrad: Adagrad on the server, with the clients' mean update as its gradient.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan: Adaptive Federated Optimization, ICLR 2021,
algorithm 2 (arXiv 2003.00295).
"""

from dataclasses import dataclass
from typing import ClassVar

from bench.plugins import Tensor, torch
from strategies.fedopt import FedOpt


@dataclass(frozen=True)
class FedAdagrad(FedOpt):
    """`FedOpt` with v <- v + Delta^2, and no momentum unless asked for, as in the paper's experiments.

    Steady updates far above tau move a coordinate by server_lr / sqrt(t) in round t. Flower's FedAdagrad has
    initial_v = 0.

    Attributes and errors: as `FedOpt`.
    """

    title: ClassVar[str] = "FedAdagrad"

    beta1: float = 0.0

    def accumulate(self, v: list[Tensor], squares: list[Tensor]) -> None:
        torch._foreach_add_(v, squares)
