"""Which timesteps are trained on: uniform draws, or importance sampling by the loss.

A `Timesteps` draws t with a weight for each loss, so that the weighted mean is an unbiased estimate of the mean over
uniform t, and is told the losses afterwards.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

HISTORY = 10  # losses kept a timestep
UNIFORM_SHARE = 1e-3  # of the draws


class Timesteps(Protocol):
    """How t is drawn in training."""

    def draw(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """t (count,) in 0 .. T-1 on the CPU, and the losses' weights (count,) in float32, None for all 1."""
        ...

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Learn from the unweighted losses (B,) at t (B,)."""
        ...


class Uniform:
    """Every timestep as likely as any other."""

    def __init__(self, T: int) -> None:
        self._T = T

    def draw(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor | None]:
        return torch.randint(0, self._T, (count,), generator=stream), None

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Nothing: the draws are always the same."""


class LossAware:
    """p_t proportional to sqrt(E[L_t^2]) over the last 10 losses at t (Nichol & Dhariwal 2021, eq. 18).

    Draws are uniform until every t has 10 losses, that is for at least 10 T images and in expectation for about 25 T at
    T = 1000. Then p is mixed with 0.1 % of the uniform law, so that no weight is unbounded.

    Args:
        memory: a dict where the losses are kept, {} at first; it may be saved between visits and given again. In
            federated training each client keeps its own: nothing travels.
    """

    def __init__(self, T: int, memory: dict[str, Any]) -> None:
        self._memory = memory
        if "losses" not in memory:
            memory["losses"] = torch.zeros(T, HISTORY, dtype=torch.float64)
            memory["counts"] = torch.zeros(T, dtype=torch.long)
        memory |= {key: value.cpu() for key, value in memory.items()}  # where t is drawn

    def probabilities(self) -> Tensor:
        """p (T,) in float64, summing to 1."""
        losses, counts = self._memory["losses"], self._memory["counts"]
        uniform = torch.full((len(counts),), 1.0 / len(counts), dtype=torch.float64)
        if int(counts.min()) < HISTORY:
            return uniform
        size = losses.square().mean(dim=1).sqrt()
        total = size.sum()
        return uniform if total == 0 else (1 - UNIFORM_SHARE) * size / total + UNIFORM_SHARE * uniform

    def draw(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """By inverting the distribution function, so that equal streams give like draws while p changes slowly."""
        p = self.probabilities()
        u = torch.rand(count, generator=stream, dtype=torch.float64)
        t = torch.searchsorted(p.cumsum(0), u, right=True).clamp(max=len(p) - 1)
        return t, (1.0 / (len(p) * p[t])).float()

    def observe(self, t: Tensor, losses: Tensor) -> None:
        kept, counts = self._memory["losses"], self._memory["counts"]
        for step, loss in zip(t.tolist(), losses.double().tolist(), strict=True):
            kept[step, int(counts[step]) % HISTORY] = loss
            counts[step] += 1
