"""FedAdam: Adam on the server, with the clients' mean update as its gradient.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan: Adaptive Federated Optimization, ICLR 2021,
algorithm 2 (arXiv 2003.00295); the bias correction is that of Kingma, Ba: Adam: A Method for Stochastic
Optimization, ICLR 2015, end of section 2 (arXiv 1412.6980).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from bench.plugins import Tensor, torch
from strategies.fedopt import FedOpt, require_decay


@dataclass(frozen=True)
class FedAdam(FedOpt):
    """`FedOpt` with v <- beta2 v + (1 - beta2) Delta^2.

    Algorithm 2 as printed is beta1 0.9, initial_v 1 and no bias correction. Of steady updates of 1e-2 with tau 1e-3, a
    coordinate then moves 0.4 server_lr in round 1 and 1.5 server_lr in round 10: small steps at first, and a momentum
    that outlasts a run of ten rounds. The defaults here correct the bias from v = 0, as the authors' experiments do,
    with beta1 0.5: 0.5 and 0.8 server_lr. Flower's FedAdam is that with the rounds counted from 2.

    Attributes:
        beta2: decay of v, in [0, 1). Sensible grid: 0.9, 0.99, 0.999.
        bias_correction: whether step t has the rate server_lr sqrt(1 - beta2^t) / (1 - beta1^t), t from 1; meant for
            initial_v = 0. Sensible grid: False, True.
        beta1, initial_v: as in `FedOpt`, with other defaults; server_lr and tau: see there.

    Raises:
        ValueError: if a value is outside its range.
    """

    title: ClassVar[str] = "FedAdam"

    beta1: float = 0.5
    initial_v: float = 0.0
    beta2: float = 0.99
    bias_correction: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_decay("beta2", self.beta2)

    def accumulate(self, v: list[Tensor], squares: list[Tensor]) -> None:
        torch._foreach_mul_(v, self.beta2)
        torch._foreach_add_(v, squares, alpha=1 - self.beta2)

    def rate(self, steps: int) -> float:
        if not self.bias_correction:
            return self.server_lr
        return self.server_lr * math.sqrt(1 - self.beta2**steps) / (1 - self.beta1**steps)
