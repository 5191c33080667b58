"""An exponential moving average of the weights, whose time constant is counted in gradient steps.

    e <- d_k e + (1 - d_k) w        after gradient step k = 0, 1, ...

with a warm-up of the decay, without which the initial weights would stay for 1 / (1 - d) steps. On the server w is
known at the end of a round only: after a round of s steps it counts as the weights of each of them, so
e <- D e + (1 - D) w with D the product of the round's s decays. The time constant is then that of a
single machine's average.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

MODES = ("off", "server", "client")
WARMUPS = ("ratio", "inverse-gamma", "none")


@dataclass(frozen=True)
class EmaSettings:
    """How weights are averaged over time.

    Attributes:
        mode: one of `MODES`: no average; of the global model, by the server; at every local step, and then the mean of
            the clients' averages weighted by their numbers of images, whatever the strategy.
        decay: d of a gradient step, in [0, 1).
        warmup: one of `WARMUPS`: d_k = min(d, (1 + k) / (10 + k)) (TensorFlow's), min(d, 1 - (1 + k)^(-2/3)) (Crowson's
            inverse gamma with power 2/3), or d.
    Raises:
        ValueError: for another mode, warm-up or decay.
    """

    mode: str = "off"
    decay: float = 0.999
    warmup: str = "ratio"

    def __post_init__(self) -> None:
        if self.mode not in MODES or self.warmup not in WARMUPS:
            raise ValueError(f"unknown mode {self.mode!r} or warmup {self.warmup!r}; there are {MODES} and {WARMUPS}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}")

    def decay_at(self, step: int) -> float:
        """d_k of gradient step k = `step`, counted from 0."""
        warm = {"ratio": (1 + step) / (10 + step), "inverse-gamma": 1 - (1 + step) ** (-2 / 3), "none": 1.0}
        return min(self.decay, warm[self.warmup])

    def decay_over(self, first: int, steps: int) -> float:
        """The product of d_k over k = first .. first + steps - 1."""
        return math.prod(self.decay_at(k) for k in range(first, first + steps))


@torch.no_grad()
def update(average: Mapping[str, Tensor], weights: Mapping[str, Tensor], decay: float) -> None:
    """e <- d e + (1 - d) w in place, over the tensors of `average`; what is not floating-point is copied."""
    floats = [name for name, tensor in average.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([average[n] for n in floats], [weights[n].detach() for n in floats], 1.0 - decay)
    for name in average.keys() - set(floats):
        average[name].copy_(weights[name])
