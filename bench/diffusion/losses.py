"""Four training losses with one call signature, on one page.

Each takes (process, output, x0, x_t, eps, t, settings): the network's `output` (B, C or 2C, H, W) at x_t (B, C, H, W)
and t (B,), with x_t = `noised(x0, eps)`, and gives the loss of each image, (B,).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.diffusion import config
from bench.diffusion.gaussian import at
from bench.diffusion.likelihood import vlb_term
from bench.diffusion.process import Process

HYBRID_WEIGHT = 1e-3  # of L_vlb over 1000 timesteps (Nichol & Dhariwal 2021, section 3.1)


@dataclass(frozen=True)
class LossSettings:
    """What losses need to know beside the process.

    Attributes:
        min_snr_gamma: > 0, of the loss "min-snr".
        pixel_range: what the darkest and the brightest of 256 grey levels are in x0, for L_0.
    """

    min_snr_gamma: float = 5.0
    pixel_range: tuple[float, float] = (-1.0, 1.0)


def simple(
    process: Process, output: Tensor, x0: Tensor, x_t: Tensor, eps: Tensor, t: Tensor, settings: LossSettings
) -> Tensor:
    """Mean squared error of what is predicted (for eps: Ho et al. 2020, eq. 14)."""
    mean, _ = process.parts(output)
    return (mean - process.target(x0, eps, t)).square().flatten(1).mean(dim=1)


def min_snr(
    process: Process, output: Tensor, x0: Tensor, x_t: Tensor, eps: Tensor, t: Tensor, settings: LossSettings
) -> Tensor:
    """`simple`, weighted so that in x_0 its weight is min(SNR_t, gamma) (Hang et al. 2023, section 3.4).

    With SNR_t = A_t / (1 - A_t), that is min(SNR, gamma) over SNR for eps, 1 for x_0, SNR + 1 for v.
    """
    snr = process.schedule.snr
    of_x0 = {"eps": snr, "x0": np.ones_like(snr), "v": snr + 1.0}[process.prediction]
    weight = np.minimum(snr, settings.min_snr_gamma) / of_x0
    return at(weight, t, x0).flatten() * simple(process, output, x0, x_t, eps, t, settings)


def vlb(
    process: Process, output: Tensor, x0: Tensor, x_t: Tensor, eps: Tensor, t: Tensor, settings: LossSettings
) -> Tensor:
    """T L_t in bits/dim: its mean over uniform t is the variational bound without the prior (Ho et al. 2020, eq. 5)."""
    return process.schedule.T * vlb_term(process, output, x0, x_t, t, settings.pixel_range)


def hybrid(
    process: Process, output: Tensor, x0: Tensor, x_t: Tensor, eps: Tensor, t: Tensor, settings: LossSettings
) -> Tensor:
    """L_simple + 0.001 L_vlb, the bound's gradient reaching the variance alone (Nichol & Dhariwal 2021, eq. 16)."""
    mean, u = process.parts(output)
    if u is None:
        raise ValueError("the hybrid loss trains the variance: the process must have variance 'learned'")
    held = torch.cat((mean.detach(), u), dim=1)
    bound = vlb(process, held, x0, x_t, eps, t, settings)
    return simple(process, output, x0, x_t, eps, t, settings) + HYBRID_WEIGHT * bound


Loss = Callable[[Process, Tensor, Tensor, Tensor, Tensor, Tensor, LossSettings], Tensor]
LOSSES: dict[config.Loss, Loss] = {"simple": simple, "hybrid": hybrid, "vlb": vlb, "min-snr": min_snr}
