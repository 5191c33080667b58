"""Noise schedules: what is added to an image at each timestep, as float64 tables.

Timesteps in code are 0 .. T-1 (a paper's t is code t + 1). With alpha_t = 1 - beta_t the tables hold
beta_t and A_t = prod_{s <= t} alpha_s, with A_{-1} = 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.diffusion.config import SCHEDULES, SPACINGS

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


def timesteps(T: int, steps: int, spacing: str = "fractional") -> np.ndarray:
    """The kept timesteps (steps,), rising, by the rules of Nichol & Dhariwal 2021's code but for ties at .5.

    Args:
        spacing: "fractional" (their "N"): from 0 to T - 1 by the stride (T - 1) / (steps - 1), rounded; one step keeps
            T - 1, the noisiest, from which sampling starts. "integer" (their "ddimN"): from 0 by the smallest whole
            stride below T that gives just `steps` values; the last of them may be less than T - 1.
    Raises:
        ValueError: unless 1 <= steps <= T, for an unknown spacing, or where no whole stride gives that many steps.
    """
    if not 1 <= steps <= T:
        raise ValueError(f"steps must be between 1 and T={T}, got {steps}")
    if spacing == "integer":
        return _whole_stride(T, steps)
    if spacing != "fractional":
        raise ValueError(f"unknown spacing {spacing!r}; there are {', '.join(SPACINGS)}")
    return np.array([T - 1]) if steps == 1 else np.round(np.linspace(0, T - 1, steps)).astype(np.int64)


def _whole_stride(T: int, steps: int) -> np.ndarray:
    stride = -(-T // steps)  # the smallest that gives at most `steps` values
    if steps == 1 and T > 1:
        raise ValueError("one step of spacing 'integer' keeps t = 0 alone, which is no noise; use spacing 'fractional'")
    if -(-T // stride) == steps:
        return np.arange(0, T, stride)
    near = sorted({-(-T // s) for s in range(1, T)}, key=lambda n: abs(n - steps))[:2]
    raise ValueError(
        f"no whole stride keeps just {steps} of T={T} timesteps; the nearest numbers are "
        f"{' and '.join(map(str, sorted(near)))}, or use spacing 'fractional'"
    )


def make(name: str, T: int) -> Schedule:
    """The schedule called `name`, one of `SCHEDULES`.

    Raises:
        ValueError: for another name, or a T that the schedule does not allow.
    """
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}; there are {', '.join(SCHEDULES)}")
    return linear(T) if name == "linear" else cosine(T)
