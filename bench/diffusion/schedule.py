"""Noise schedules: what is added to an image at each timestep, as float64 tables.

Timesteps in code are 0 .. T-1 (a paper's t is code t + 1). With alpha_t = 1 - beta_t the tables hold
beta_t and A_t = prod_{s <= t} alpha_s, with A_{-1} = 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

SCHEDULES = ("linear", "cosine")
COSINE_OFFSET = 0.008
BETA_CAP = 0.999


@dataclass(frozen=True, eq=False)
class Schedule:
    """The tables of one forward process, each of shape (T,) in float64."""

    beta: np.ndarray

    @property
    def T(self) -> int:
        """Number of timesteps."""
        return len(self.beta)

    @cached_property
    def alpha_bar(self) -> np.ndarray:
        """A_t: the share of the image's variance left at t (Ho et al. 2020, eq. 4)."""
        return np.cumprod(1.0 - self.beta)

    @cached_property
    def alpha_bar_before(self) -> np.ndarray:
        """A_{t-1}, 1 at t = 0."""
        return np.append(1.0, self.alpha_bar[:-1])

    @cached_property
    def snr(self) -> np.ndarray:
        """A_t / (1 - A_t), the signal-to-noise ratio (Kingma et al. 2021, eq. 2)."""
        return self.alpha_bar / (1.0 - self.alpha_bar)

    @cached_property
    def posterior_variance(self) -> np.ndarray:
        """btilde_t = beta_t (1 - A_{t-1}) / (1 - A_t), 0 at t = 0 (Ho et al. 2020, eq. 7)."""
        return self.beta * (1.0 - self.alpha_bar_before) / (1.0 - self.alpha_bar)

    @cached_property
    def posterior_mean_x0(self) -> np.ndarray:
        """Coefficient of x_0 in the mean of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, eq. 7)."""
        return self.beta * np.sqrt(self.alpha_bar_before) / (1.0 - self.alpha_bar)

    @cached_property
    def posterior_mean_xt(self) -> np.ndarray:
        """Coefficient of x_t in the mean of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, eq. 7)."""
        return (1.0 - self.alpha_bar_before) * np.sqrt(1.0 - self.beta) / (1.0 - self.alpha_bar)

    @cached_property
    def posterior_log_variance(self) -> np.ndarray:
        """log btilde_t with entry 0, which is log 0, replaced by entry 1 (Nichol & Dhariwal 2021's code)."""
        variance = self.posterior_variance
        return np.log(np.append(variance[1], variance[1:])) if self.T > 1 else np.log(self.beta)

    @cached_property
    def large_variance(self) -> np.ndarray:
        """beta_t, with btilde_1 at t = 0 (Ho et al. 2020, section 3.2, and their code)."""
        return np.append(self.posterior_variance[1], self.beta[1:]) if self.T > 1 else self.beta


def linear(T: int) -> Schedule:
    """beta from 1e-4 to 0.02 at T = 1000 (Ho et al. 2020, section 4); both ends scaled by 1000 / T elsewhere.

    Raises:
        ValueError: if T is below 21, where the last beta would reach 1.
    """
    scale = 1000.0 / T if T > 0 else np.inf
    if scale * 0.02 >= 1.0:
        raise ValueError(
            f"the linear schedule needs T >= 21, got T={T}: its last beta would be {scale * 0.02:.3g} >= 1"
        )
    return Schedule(np.linspace(scale * 1e-4, scale * 0.02, T))


def cosine(T: int) -> Schedule:
    """beta_t = min(1 - f((t+1)/T) / f(t/T), 0.999), f(u) = cos^2((u + s)/(1 + s) pi/2), s = 0.008.

    Nichol & Dhariwal 2021, eq. 17.

    Raises:
        ValueError: if T is below 1.
    """
    if T < 1:
        raise ValueError(f"the cosine schedule needs T >= 1, got T={T}")
    f = np.cos((np.arange(T + 1) / T + COSINE_OFFSET) / (1.0 + COSINE_OFFSET) * np.pi / 2) ** 2
    return Schedule(np.minimum(1.0 - f[1:] / f[:-1], BETA_CAP))


def respaced(schedule: Schedule, kept: Sequence[int] | np.ndarray) -> Schedule:
    """The schedule over the kept steps: beta'_i = 1 - A_{tau_i} / A_{tau_{i-1}} (Nichol & Dhariwal 2021, eq. 19)."""
    a = schedule.alpha_bar[np.asarray(kept)]
    return Schedule(1.0 - a / np.append(1.0, a[:-1]))


def make(name: str, T: int) -> Schedule:
    """The schedule called `name`, one of `SCHEDULES`.

    Raises:
        ValueError: for another name, or a T that the schedule does not allow.
    """
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}; there are {', '.join(SCHEDULES)}")
    return linear(T) if name == "linear" else cosine(T)
