"""From noise to images: ancestral sampling (DDPM) and DDIM, over any number of steps from 1 to T.

Both walk down a list of kept timesteps. Ancestral sampling over fewer than T steps is the "respaced" process
of Nichol & Dhariwal 2021 (section 4): new betas from the kept A_t, the original t shown to the network.
Image i's noise comes from a stream of its own, so an image does not depend on the batch it was drawn in.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.diffusion.gaussian import Network
from bench.diffusion.schedule import Schedule
from bench.seeds import torch_stream

SAMPLERS = ("ancestral", "ddim")
VARIANCES = ("small", "large")


@dataclass(frozen=True)
class SamplerSettings:
    """How images are drawn.

    Attributes:
        name: one of `SAMPLERS`.
        steps: 1 .. T network evaluations an image.
        eta: DDIM's noise, 0 (deterministic) to 1; ancestral sampling ignores it.
        variance: of ancestral sampling, one of `VARIANCES`; DDIM ignores it.
        clip: clamp the predicted image to `clip_range` at each step.
        clip_range: the range of the model's images, (-1, 1) or (0, 1).
    """

    name: str = "ddim"
    steps: int = 50
    eta: float = 0.0
    variance: str = "small"
    clip: bool = True
    clip_range: tuple[float, float] = (-1.0, 1.0)


def timesteps(T: int, steps: int) -> np.ndarray:
    """The kept timesteps, rising: `steps` values from 0 to T - 1, spread by the stride (T - 1) / (steps - 1).

    Nichol & Dhariwal 2021's rule for a number of steps; correct where `steps` does not divide T. One step keeps
    T - 1, the noisiest, from which sampling starts.

    Raises:
        ValueError: unless 1 <= steps <= T.
    """
    if not 1 <= steps <= T:
        raise ValueError(f"steps must be between 1 and T={T}, got {steps}")
    return np.array([T - 1]) if steps == 1 else np.round(np.linspace(0, T - 1, steps)).astype(np.int64)


def respaced(schedule: Schedule, kept: Sequence[int] | np.ndarray) -> Schedule:
    """The schedule over the kept steps: beta'_i = 1 - A_{tau_i} / A_{tau_{i-1}} (Nichol & Dhariwal 2021, eq. 19)."""
    a = schedule.alpha_bar[np.asarray(kept)]
    return Schedule(1.0 - a / np.append(1.0, a[:-1]))


class ImageNoise:
    """Standard normal noise for images `first` .. `first + count - 1`, each from its own stream.

    Args:
        root: seed of the repetition.
        shape: (C, H, W) of an image.
    """

    def __init__(self, root: int, first: int, count: int, shape: tuple[int, ...]) -> None:
        self._streams = [torch_stream(root, "sample", i) for i in range(first, first + count)]
        self._shape = shape

    def draw(self) -> Tensor:
        """The next noise, (count, C, H, W), on the CPU."""
        return torch.stack([torch.randn(self._shape, generator=stream) for stream in self._streams])


Draw = Callable[[], Tensor]


@torch.no_grad()
def sample(
    network: Network, schedule: Schedule, settings: SamplerSettings, draw: Draw, device: torch.device | str = "cpu"
) -> Tensor:
    """Images (B, C, H, W) from noise: `draw` gives x_T first, then the noise of each step that needs it.

    Raises:
        ValueError: for an unknown sampler or variance, or steps outside 1 .. T.
    """
    *_, last = trajectory(network, schedule, settings, draw, device)
    return last


@torch.no_grad()
def trajectory(
    network: Network, schedule: Schedule, settings: SamplerSettings, draw: Draw, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """x_T and then x after each step, (B, C, H, W) each; arguments and errors as `sample`."""
    if settings.name not in SAMPLERS or settings.variance not in VARIANCES:
        raise ValueError(
            f"unknown sampler {settings.name!r} or variance {settings.variance!r}; there are {SAMPLERS} and {VARIANCES}"
        )
    kept = timesteps(schedule.T, settings.steps)
    short = respaced(schedule, kept)
    step = ddim_step if settings.name == "ddim" else ancestral_step
    x = draw().to(device)
    yield x
    for i in range(len(kept) - 1, -1, -1):
        original = torch.full((len(x),), int(kept[i]), device=device)
        x = step(network(x, original).to(x.dtype), short, x, i, settings, draw)
        yield x


def _predict_x0(eps: Tensor, schedule: Schedule, x: Tensor, i: int, settings: SamplerSettings) -> Tensor:
    a = schedule.alpha_bar[i]
    x0 = (x - np.sqrt(1.0 - a) * eps) / np.sqrt(a)
    return x0.clamp(*settings.clip_range) if settings.clip else x0


def ancestral_step(eps: Tensor, schedule: Schedule, x: Tensor, i: int, settings: SamplerSettings, draw: Draw) -> Tensor:
    """x_{i-1} ~ N(posterior mean of the predicted image, sigma_i^2), at i = 0 the mean (Ho et al. 2020, alg. 2)."""
    x0 = _predict_x0(eps, schedule, x, i, settings)
    mean = schedule.posterior_mean_x0[i] * x0 + schedule.posterior_mean_xt[i] * x
    if i == 0:
        return mean
    variance = schedule.posterior_variance if settings.variance == "small" else schedule.large_variance
    return mean + np.sqrt(variance[i]) * draw().to(x)


def ddim_step(eps: Tensor, schedule: Schedule, x: Tensor, i: int, settings: SamplerSettings, draw: Draw) -> Tensor:
    """x_{i-1} = sqrt(A') x_0 + sqrt(1 - A' - sigma^2) eps + sigma z (Song et al. 2021, eq. 12 and 16).

    A' is A_{i-1}, 1 at the end. Where the predicted image was clipped, eps is computed anew from it.
    """
    a, before = schedule.alpha_bar[i], schedule.alpha_bar_before[i]
    x0 = _predict_x0(eps, schedule, x, i, settings)
    if settings.clip:
        eps = (x - np.sqrt(a) * x0) / np.sqrt(1.0 - a)
    sigma = ddim_sigma(schedule, i, settings.eta)
    mean = np.sqrt(before) * x0 + np.sqrt(max(1.0 - before - sigma**2, 0.0)) * eps
    return mean + sigma * draw().to(x) if sigma > 0 else mean


def ddim_sigma(schedule: Schedule, i: int, eta: float) -> float:
    """eta sqrt((1 - A')/(1 - A)) sqrt(1 - A/A') (Song et al. 2021, eq. 16); 0 at the last step, where A' = 1."""
    a, before = schedule.alpha_bar[i], schedule.alpha_bar_before[i]
    return float(eta * np.sqrt((1.0 - before) / (1.0 - a)) * np.sqrt(1.0 - a / before))
