"""FedAvgM: FedAvg with momentum on the server.

Hsu, Qi, Brown: Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification, 2019,
section 4 (arXiv 1909.06335). The server's learning rate is that of Reddi et al.: Adaptive Federated Optimization,
ICLR 2021, algorithm 1 (arXiv 2003.00295).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.plugins import torch
from strategies.base import State, Upload
from strategies.fedavg import FedAvg
from strategies.fedopt import pseudo_gradient, require_decay, require_positive


@dataclass(frozen=True)
class FedAvgM(FedAvg):
    """Delta = sum_i p_i w_i - w;  v <- momentum v + Delta;  w <- w + server_lr v.

    v is not damped by 1 - momentum: steady updates end in steps of server_lr / (1 - momentum) times FedAvg's, and have
    (1 - momentum^t) of that in round t. The rule is exact whatever the clients' optimizer; that v averages gradients is
    true of local SGD and a heuristic under Adam. Equal uploads leave the model where it is as long as v is 0; later the
    momentum carries it on, and it does so while a decaying local learning rate brings Delta to 0.

    Attributes:
        momentum: decay of v, in [0, 1). Sensible grid: 0.3, 0.5, 0.7, 0.9; at 0.9 v takes longer than ten rounds to
            build up and to fade.
        server_lr: the server's learning rate, > 0; 1 is the paper's. Sensible grid: 0.1, 0.3, 1. With momentum 0 and
            server_lr 1 it is FedAvg, bit for bit.

    Raises:
        ValueError: if a value is outside its range.
    """

    title: ClassVar[str] = "FedAvgM"
    convex: ClassVar[bool] = False
    zero: ClassVar[Mapping[str, Any]] = {"momentum": 0.0, "server_lr": 1.0}

    momentum: float = 0.5
    server_lr: float = 1.0

    def __post_init__(self) -> None:
        require_decay("momentum", self.momentum)
        require_positive("server_lr", self.server_lr)

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        mean, delta = pseudo_gradient(server["params"], uploads)
        if "momentum" not in server:
            server["momentum"] = {name: torch.zeros_like(d) for name, d in delta.items()}
        v = [server["momentum"][name] for name in delta]
        torch._foreach_mul_(v, self.momentum)
        torch._foreach_add_(v, list(delta.values()))
        # w + server_lr v as the mean and what goes beyond it: 0 where v is Delta, so that FedAvg's mean stays as it is.
        beyond = torch._foreach_sub(torch._foreach_mul(v, self.server_lr), list(delta.values()))
        moved = torch._foreach_add([mean[name] for name in delta], beyond)
        server["params"] = mean | dict(zip(delta, moved, strict=True))
