"""What a network's output means: predictions of eps, x_0 or v, and fixed or learned reverse variances.

A `Process` joins a schedule with the two choices that a diffusion model makes about its output. Losses, samplers and
the likelihood read every output through `Process.estimate`, so that each choice is made in one place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from bench.diffusion.config import PREDICTIONS, VARIANCES
from bench.diffusion.gaussian import at, eps_from_x0, x0_from_eps
from bench.diffusion.schedule import Schedule, respaced


@dataclass(frozen=True)
class Estimate:
    """What an output says of x_t.

    Attributes:
        x0, eps: the image and the noise, (B, C, H, W) each; `noised` of both is x_t.
        log_variance: of the reverse step in nats, (B, 1, 1, 1) if fixed, (B, C, H, W) if learned.
    """

    x0: Tensor
    eps: Tensor
    log_variance: Tensor


@dataclass(frozen=True, eq=False)
class Process:
    """A forward process and how a network's output runs it backwards.

    Attributes:
        prediction: what the output's mean part predicts, one of `PREDICTIONS`.
        variance: of the reverse step, one of `VARIANCES`: btilde_t, beta_t, or in between, learned.
    Raises:
        ValueError: for an unknown prediction or variance.
    """

    schedule: Schedule
    prediction: str = "eps"
    variance: str = "small"

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS or self.variance not in VARIANCES:
            raise ValueError(
                f"unknown prediction {self.prediction!r} or variance {self.variance!r}; "
                f"there are {PREDICTIONS} and {VARIANCES}"
            )

    @property
    def learned(self) -> bool:
        """Whether the output has as many channels again, for the variance."""
        return self.variance == "learned"

    def respaced(self, kept: Sequence[int] | np.ndarray) -> "Process":
        """The same over the kept timesteps alone; see `bench.diffusion.schedule.respaced`."""
        return Process(respaced(self.schedule, kept), self.prediction, self.variance)

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What the mean part should be, (B, C, H, W); v = sqrt(A_t) eps - sqrt(1 - A_t) x_0.

        v: Salimans & Ho 2022, appendix D.
        """
        if self.prediction == "v":
            a = self.schedule.alpha_bar
            return at(np.sqrt(a), t, x0) * eps - at(np.sqrt(1.0 - a), t, x0) * x0
        return eps if self.prediction == "eps" else x0

    def parts(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The output's mean part and, where the variance is learned, its variance part u, (B, C, H, W) each."""
        if not self.learned:
            return output, None
        mean, u = output.chunk(2, dim=1)
        return mean, u

    def estimate(self, output: Tensor, x_t: Tensor, t: Tensor, clip: tuple[float, float] | None = None) -> Estimate:
        """Read the output (B, C or 2C, H, W) of the network at x_t (B, C, H, W) and t (B,).

        Args:
            clip: clamp the image to this range; eps is then computed anew from it.
        """
        mean, u = self.parts(output)
        x0, eps = self._x0_and_eps(mean, x_t, t)
        if clip is not None:
            x0 = x0.clamp(*clip)
            eps = eps_from_x0(self.schedule, x_t, t, x0)
        return Estimate(x0, eps, self.log_variance(u, t, x_t))

    def _x0_and_eps(self, mean: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        if self.prediction == "eps":
            return x0_from_eps(self.schedule, x_t, t, mean), mean
        if self.prediction == "x0":
            return mean, eps_from_x0(self.schedule, x_t, t, mean)
        a, b = (at(np.sqrt(s), t, x_t) for s in (self.schedule.alpha_bar, 1.0 - self.schedule.alpha_bar))
        return a * x_t - b * mean, a * mean + b * x_t  # Salimans & Ho 2022, appendix D

    def log_variance(self, u: Tensor | None, t: Tensor, like: Tensor) -> Tensor:
        """log sigma_t^2: fixed, or f log beta_t + (1 - f) log btilde_t with f = (u + 1) / 2.

        Learned: Nichol & Dhariwal 2021, eq. 15, their v being f; u = -1 is "small" and u = 1 is "large", but for t = 0,
        where their code has beta_0 and Ho et al.'s "large" has btilde_1.
        """
        small = at(self.schedule.posterior_log_variance, t, like)
        if self.variance == "small":
            return small
        if u is None:
            return at(np.log(self.schedule.large_variance), t, like)
        large, f = at(np.log(self.schedule.beta), t, like), (u + 1) / 2
        return f * large + (1 - f) * small
