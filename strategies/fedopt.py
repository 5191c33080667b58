"""Optimizers on the server: the clients' mean update is the gradient of one step that the server takes each round.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan: Adaptive Federated Optimization, ICLR 2021,
algorithm 2 (arXiv 2003.00295).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from bench.plugins import Tensor, torch
from strategies.base import State, Tensors, Upload, weighted_mean
from strategies.fedavg import FedAvg


@dataclass(frozen=True)
class FedOpt(FedAvg, ABC):
    """Delta = sum_i p_i w_i - w;  m <- beta1 m + (1 - beta1) Delta;  w <- w + server_lr m / (sqrt(v) + tau).

    How v follows from Delta^2 is the subclass's `accumulate`. p_i = N_i / sum_j N_j over the participants; the paper
    has 1 / |S|. At the start m = 0 and v = initial_v tau^2. The server keeps m and v, two models in size.

    The rules are exact whatever the clients' optimizer; the paper's analysis is for local SGD, whose Delta is about a
    gradient up to scale. Local Adam hands over updates that are normalised already, and to normalise them again is a
    heuristic. Where a decaying local learning rate brings Delta to 0, m brings the earlier rounds' updates on.

    Equal uploads leave the model where it is as long as m is 0; later the momentum carries it on.

    Attributes:
        server_lr: the server's learning rate eta, > 0: about how far a coordinate with steady updates moves in a round.
            Sensible grid: 0.001, 0.003, 0.01, 0.03, 0.1.
        beta1: decay of m, in [0, 1). Sensible grid: 0, 0.5, 0.9.
        tau: degree of adaptivity, > 0: updates far below it are not normalised. Sensible grid: 1e-4, 1e-3, 1e-2.
        initial_v: v before the first round in units of tau^2, >= 0. Algorithm 2 asks for at least 1; the authors'
            experiments and Flower start from 0, which makes the first steps larger. Sensible grid: 0, 1.

    Raises:
        ValueError: if a value is outside its range.
    """

    convex: ClassVar[bool] = False
    alone_is_centralized: ClassVar[bool] = False

    server_lr: float = 1e-2
    beta1: float = 0.9
    tau: float = 1e-3
    initial_v: float = 1.0

    def __post_init__(self) -> None:
        require_positive("server_lr", self.server_lr)
        require_decay("beta1", self.beta1)
        require_positive("tau", self.tau)
        if not (math.isfinite(self.initial_v) and self.initial_v >= 0):
            raise ValueError(f"initial_v must be a finite number >= 0, got {self.initial_v}")

    @abstractmethod
    def accumulate(self, v: list[Tensor], squares: list[Tensor]) -> None:
        """Take Delta^2 of one round into v, in place."""

    def rate(self, steps: int) -> float:
        """The learning rate of the server's step number `steps`, from 1."""
        return self.server_lr

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        mean, delta = pseudo_gradient(server["params"], uploads)
        changes = list(delta.values())
        if "server_steps" not in server:
            start = self.initial_v * self.tau**2
            server["momentum"] = {name: torch.zeros_like(d) for name, d in delta.items()}
            server["second_moment"] = {name: torch.full_like(d, start) for name, d in delta.items()}
            server["server_steps"] = 0
        server["server_steps"] += 1
        m = [server["momentum"][name] for name in delta]
        v = [server["second_moment"][name] for name in delta]
        torch._foreach_mul_(m, self.beta1)
        torch._foreach_add_(m, changes, alpha=1 - self.beta1)
        self.accumulate(v, list(torch._foreach_mul(changes, changes)))
        scales = torch._foreach_sqrt(v)
        torch._foreach_add_(scales, self.tau)
        old = [server["params"][name] for name in delta]
        moved = torch._foreach_add(old, torch._foreach_div(m, scales), alpha=self.rate(server["server_steps"]))
        server["params"] = mean | dict(zip(delta, moved, strict=True))


def pseudo_gradient(params: Mapping[str, Tensor], uploads: Iterator[Upload]) -> tuple[Tensors, Tensors]:
    """FedAvg's mean of the uploads, and Delta, how far it is from the global model, for tensors of floating point.

    Raises:
        ValueError: as `weighted_mean`.
    """
    mean = weighted_mean(params, uploads)
    moving = [name for name, tensor in mean.items() if tensor.is_floating_point()]
    deltas = torch._foreach_sub([mean[name] for name in moving], [params[name] for name in moving])
    return mean, dict(zip(moving, deltas, strict=True))


def require_positive(name: str, value: float) -> None:
    """Raise ValueError unless the hyper-parameter is finite and > 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number > 0, got {value}")


def require_decay(name: str, value: float) -> None:
    """Raise ValueError unless the hyper-parameter is in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}")
