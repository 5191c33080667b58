"""From noise to images: ancestral sampling (DDPM), DDIM and DPM-Solver++(2M), over any number of steps from 1 to T.

All walk down a list of kept timesteps on the "respaced" process (Nichol & Dhariwal 2021, section 4): new betas from the
kept A_t, the original t shown to the network. Image i's noise comes from a stream of its own, so an image does not
depend on the batch it was drawn in.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from bench.diffusion.config import SamplerConfig
from bench.diffusion.gaussian import posterior_mean
from bench.diffusion.guidance import Network
from bench.diffusion.process import Estimate, Process
from bench.diffusion.schedule import Schedule, timesteps
from bench.seeds import torch_stream


class ImageNoise:
    """Standard normal noise for the images of these numbers, each from its own stream.

    Args:
        root: seed of the repetition.
        shape: (C, H, W) of an image.
    """

    def __init__(self, root: int, numbers: Iterable[int], shape: tuple[int, ...]) -> None:
        self._streams = [torch_stream(root, "sample", number) for number in numbers]
        self._shape = shape

    def draw(self) -> Tensor:
        """The next noise, (B, C, H, W), on the CPU."""
        return torch.stack([torch.randn(self._shape, generator=stream) for stream in self._streams])


Draw = Callable[[], Tensor]


@torch.no_grad()
def sample(
    network: Network,
    process: Process,
    sampler: SamplerConfig,
    draw: Draw,
    device: torch.device | str = "cpu",
    clip_range: tuple[float, float] = (-1.0, 1.0),
) -> Tensor:
    """Images (B, C, H, W) from noise: `draw` gives x_T first, then the noise of each step that needs it.

    Args:
        clip_range: of what is drawn, (-1, 1) or (0, 1) for images; the sampler's `clip` clamps predictions to it.
    Raises:
        ValueError: for steps outside 1 .. T, or that the spacing cannot give.
    """
    last = torch.empty(0)
    for x in trajectory(network, process, sampler, draw, device, clip_range):
        last = x  # the steps before are let go
    return last


@torch.no_grad()
def trajectory(
    network: Network,
    process: Process,
    sampler: SamplerConfig,
    draw: Draw,
    device: torch.device | str = "cpu",
    clip_range: tuple[float, float] = (-1.0, 1.0),
) -> Iterator[Tensor]:
    """x_T and then x after each step, (B, C, H, W) each; arguments and errors as `sample`."""
    kept = timesteps(process.schedule.T, sampler.steps, sampler.spacing)
    short, clip = process.respaced(kept), clip_range if sampler.clip else None
    x, later = draw().to(device), None
    yield x
    for i in range(len(kept) - 1, -1, -1):
        output = network(x, torch.full((len(x),), int(kept[i]), device=device)).to(x.dtype)
        now = short.estimate(output, x, torch.full((len(x),), i), clip)
        if sampler.name == "ancestral":
            x = ancestral_step(now, short.schedule, x, i, draw)
        elif sampler.name == "ddim":
            x = ddim_step(now, short.schedule, x, i, sampler.eta, draw)
        else:
            x = dpm_solver_step(now, later, short.schedule, x, i)
        later = now
        yield x


def ancestral_step(now: Estimate, schedule: Schedule, x: Tensor, i: int, draw: Draw) -> Tensor:
    """x_{i-1} ~ N(posterior mean of the predicted image, sigma_i^2), at i = 0 the mean (Ho et al. 2020, alg. 2)."""
    mean = posterior_mean(schedule, now.x0, x, torch.full((len(x),), i))
    return mean if i == 0 else mean + (0.5 * now.log_variance).exp() * draw().to(x)


def ddim_step(now: Estimate, schedule: Schedule, x: Tensor, i: int, eta: float, draw: Draw) -> Tensor:
    """x_{i-1} = sqrt(A') x_0 + sqrt(1 - A' - sigma^2) eps + sigma z (Song et al. 2021, eq. 12 and 16).

    A' is A_{i-1}, 1 at the end.
    """
    before, sigma = schedule.alpha_bar_before[i], ddim_sigma(schedule, i, eta)
    mean = np.sqrt(before) * now.x0 + np.sqrt(max(1.0 - before - sigma**2, 0.0)) * now.eps
    return mean + sigma * draw().to(x) if sigma > 0 else mean


def ddim_sigma(schedule: Schedule, i: int, eta: float) -> float:
    """eta sqrt((1 - A')/(1 - A)) sqrt(1 - A/A') (Song et al. 2021, eq. 16); 0 at the last step, where A' = 1."""
    a, before = schedule.alpha_bar[i], schedule.alpha_bar_before[i]
    return float(eta * np.sqrt((1.0 - before) / (1.0 - a)) * np.sqrt(1.0 - a / before))


def dpm_solver_step(now: Estimate, later: Estimate | None, schedule: Schedule, x: Tensor, i: int) -> Tensor:
    """x_{i-1} by DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2), with lambda_i = log(alpha_i / sigma_i), h its step:

        x_{i-1} = (sigma' / sigma) x - alpha' (e^{-h} - 1) D,    D = x_0 + (x_0 - x_0 at i+1) h / (2 h_before)

    alpha = sqrt(A), sigma = sqrt(1 - A), a dash for i - 1. The first step has no earlier estimate and the last goes to
    lambda = infinity: both are of first order, D = x_0.

    Args:
        later: the estimate of the step before, at i + 1.
    """
    if i == 0:
        return now.x0
    lam = 0.5 * np.log(schedule.snr)
    h, a, before = lam[i - 1] - lam[i], schedule.alpha_bar[i], schedule.alpha_bar[i - 1]
    d = now.x0
    if later is not None:
        d = now.x0 + (0.5 * h / (lam[i] - lam[i + 1])) * (now.x0 - later.x0)
    return np.sqrt((1.0 - before) / (1.0 - a)) * x - np.sqrt(before) * np.expm1(-h) * d
