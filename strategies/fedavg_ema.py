"""FedAvg whose server averages its models over the rounds, exponentially.

Averaging iterates: Polyak, Juditsky: Acceleration of Stochastic Approximation by Averaging, SIAM J. Control and
Optimization 30(4), 1992. Over federated rounds: Zhou, Lin, Zhang, Tsang: Understanding and Improving Model Averaging in
Federated Learning on Heterogeneous Data, 2023 (arXiv 2305.07845), who train on from a moving average late in training.
Here training goes on from FedAvg's mean throughout, and the average is what is evaluated.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.plugins import torch
from strategies.base import State, Tensors, Upload
from strategies.fedavg import FedAvg


@dataclass(frozen=True)
class FedAvgEMA(FedAvg):
    """e <- d_k e + (1 - d_k) w after FedAvg's k-th update of w, k = 0, 1, ..., with d_k = min(d, (1 + k) / (10 + k)).

    The warm-up is TensorFlow's: without it the initial weights would stay in a run of few rounds. It is what counts
    until k = (10 d - 1) / (1 - d): 8 updates for d = 0.5, 35 for 0.8, 80 for 0.9. Time is counted in rounds from which
    something arrived; the harness's own moving average, which any strategy can have, counts gradient steps.

    Attributes:
        decay: d of a round, in [0, 1); 0 is FedAvg bit for bit. Sensible grid: 0.3, 0.5, 0.8, 0.9.

    Raises:
        ValueError: if decay is not in [0, 1).
    """

    title: ClassVar[str] = "FedAvg + EMA"
    zero: ClassVar[Mapping[str, Any]] = {"decay": 0.0}

    decay: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}")

    def decay_at(self, k: int) -> float:
        """d_k."""
        return min(self.decay, (1 + k) / (10 + k))

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        average, k = self.model(server, {}), server.get("updates", 0)
        super().aggregate(server, uploads)
        server["average"] = _between(average, server["params"], 1 - self.decay_at(k))
        server["updates"] = k + 1

    def model(self, server: State, local: State) -> Tensors:
        return dict(server["average"] if "average" in server else server["params"])


def _between(old: Tensors, new: Tensors, share: float) -> Tensors:
    """old + share (new - old) as new tensors; of what is not floating-point, the new."""
    names = [name for name, tensor in new.items() if tensor.is_floating_point()]
    moved = torch._foreach_lerp([old[name] for name in names], [new[name] for name in names], share)
    return {**new, **dict(zip(names, moved, strict=True))}
