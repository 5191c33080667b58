"""The forward process and its posterior, for one batch at a time.

Every function takes float64 tables from a `Schedule` and casts late: `at` picks each image's own entry.
Timesteps t are (B,) integers on the CPU, where they are drawn; images may be on any device.
"""

import numpy as np
import torch
from torch import Tensor

from bench.diffusion.schedule import Schedule


def at(table: np.ndarray, t: Tensor, like: Tensor) -> Tensor:
    """Entries `table[t]` (B,), in the type and on the device of `like` (B, ...), shaped to multiply it."""
    values = torch.from_numpy(np.ascontiguousarray(table))[t.cpu()]
    return values.to(like, non_blocking=True).reshape(-1, *[1] * (like.dim() - 1))


def noised(schedule: Schedule, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """x_t = sqrt(A_t) x_0 + sqrt(1 - A_t) eps, (B, C, H, W) (Ho et al. 2020, eq. 4)."""
    a = schedule.alpha_bar
    return at(np.sqrt(a), t, x0) * x0 + at(np.sqrt(1.0 - a), t, x0) * eps


def x0_from_eps(schedule: Schedule, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """The image that `noised` would turn into x_t with this eps (Ho et al. 2020, eq. 15)."""
    a = schedule.alpha_bar
    return (x_t - at(np.sqrt(1.0 - a), t, x_t) * eps) / at(np.sqrt(a), t, x_t)


def eps_from_x0(schedule: Schedule, x_t: Tensor, t: Tensor, x0: Tensor) -> Tensor:
    """The noise that `noised` would have added to x0 to reach x_t."""
    a = schedule.alpha_bar
    return (x_t - at(np.sqrt(a), t, x_t) * x0) / at(np.sqrt(1.0 - a), t, x_t)


def posterior_mean(schedule: Schedule, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Mean of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, eq. 7)."""
    return at(schedule.posterior_mean_x0, t, x0) * x0 + at(schedule.posterior_mean_xt, t, x_t) * x_t
