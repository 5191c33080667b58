"""Variational bound on the likelihood of 8-bit images, in bits per dimension (lower is better).

-log2 p(x_0) <= prior + L_{T-1} + ... + L_1 + L_0 (Ho et al. 2020, eq. 5; Nichol & Dhariwal 2021, eq. 4 to 7): the prior
compares x_T with pure noise, L_t for t >= 1 the true reverse step with the model's, and L_0 is the cost of the
pixels' levels themselves. A "dimension" is one channel of one pixel: every term is a mean over them.

The bound is one of a likelihood only if the pixels are the 256 levels low + k (high - low) / 255, k = 0 .. 255, of
the pixel range (low, high): resized images no longer are.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from bench.diffusion.gaussian import at, noised, posterior_mean
from bench.diffusion.process import Process
from bench.diffusion.schedule import Schedule
from bench.seeds import torch_stream

LEVELS = 256
LEAST_MASS = 1e-12  # of a bin, so that no pixel costs more than 39.9 bits (Nichol & Dhariwal 2021's code)
LEAST_LOG_VARIANCE = -60.0  # of the decoder: 1 / sd stays finite in float32, and so do the gradients


def gaussian_kl(mean1: Tensor, log_var1: Tensor, mean2: Tensor, log_var2: Tensor) -> Tensor:
    """KL(N(mean1, exp(log_var1)) || N(mean2, exp(log_var2))) in nats, elementwise; the shapes broadcast."""
    ratio = torch.exp(log_var1 - log_var2)
    return 0.5 * (ratio - 1.0 + log_var2 - log_var1 + (mean1 - mean2).square() * torch.exp(-log_var2))


def decoder_bits(
    x0: Tensor, mean: Tensor, log_variance: Tensor, pixel_range: tuple[float, float] = (-1.0, 1.0)
) -> Tensor:
    """-log2 of the mass that N(mean, exp(log_variance)) has in the bin of each pixel's level (Ho et al. 2020, eq. 13).

    Bins are (high - low) / 255 wide around the levels; the darkest reaches down to -inf, the brightest up to +inf.

    Args:
        x0: pixels at their levels, of any shape; mean and log_variance broadcast to it.
        pixel_range: (low, high), the darkest and the brightest level.
    Returns:
        Bits from 0 to 39.9, elementwise. The gradients are finite, and 0 where a bin's mass is below `LEAST_MASS`.
    """
    low, high = pixel_range
    half = (high - low) / (LEVELS - 1) / 2
    darkest, brightest = x0 < low + half, x0 > high - half
    # Mirrored, if need be, to have the pixel below the mean: there small masses are differences of small numbers.
    mirrored = x0 > mean
    offset = torch.where(mirrored, mean - x0, x0 - mean)
    open_below, open_above = torch.where(mirrored, brightest, darkest), torch.where(mirrored, darkest, brightest)
    precision = torch.exp(-0.5 * log_variance.clamp(min=LEAST_LOG_VARIANCE))
    upper = torch.where(open_above, 1.0, _normal_cdf((offset + half) * precision))
    lower = torch.where(open_below, 0.0, _normal_cdf((offset - half) * precision))
    return -torch.log2((upper - lower).clamp(min=LEAST_MASS))


def _normal_cdf(z: Tensor) -> Tensor:
    """By erfc, which keeps its digits far below the mean; torch.special.ndtr is 0 there."""
    return 0.5 * torch.erfc(-z * math.sqrt(0.5))


def vlb_term(
    process: Process,
    output: Tensor,
    x0: Tensor,
    x_t: Tensor,
    t: Tensor,
    pixel_range: tuple[float, float] = (-1.0, 1.0),
    clip: tuple[float, float] | None = None,
) -> Tensor:
    """L_t of the bound in bits per dimension, (B,) (Nichol & Dhariwal 2021, eq. 5 and 6).

    KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) for t >= 1, `decoder_bits` for t = 0. Differentiable.

    Args:
        output: of the network at x_t, (B, C or 2C, H, W).
        x0, x_t: the images and `noised` of them, (B, C, H, W) each.
        t: (B,) timesteps of the process's own schedule, respaced or not.
        clip: clamp the estimated image to this range; None in training.
    """
    schedule = process.schedule
    estimate = process.estimate(output, x_t, t, clip)
    mean = posterior_mean(schedule, estimate.x0, x_t, t)
    true_mean = posterior_mean(schedule, x0, x_t, t)
    true_log_variance = at(schedule.posterior_log_variance, t, x0)
    kl = gaussian_kl(true_mean, true_log_variance, mean, estimate.log_variance) / math.log(2.0)
    terms, last = kl.flatten(1).mean(dim=1), (t == 0).to(x0.device)
    if (t == 0).any():  # few images are at t = 0, and the decoder costs ten times the KL
        log_variance = estimate.log_variance.expand_as(x0)[last]
        decoder = decoder_bits(x0[last], mean[last], log_variance, pixel_range)
        terms = terms.masked_scatter(last, decoder.flatten(1).mean(dim=1))
    return terms


def prior_bits(schedule: Schedule, x0: Tensor) -> Tensor:
    """KL(q(x_T | x_0) || N(0, 1)) in bits per dimension, (B,) (Nichol & Dhariwal 2021, eq. 7).

    With A the last of A_t it is (A x_0^2 - A - log(1 - A)) / 2 nats: in this form its digits survive a small A.
    """
    a = float(schedule.alpha_bar[-1])
    return (a * x0.square().flatten(1).mean(dim=1) - a - math.log1p(-a)) / (2.0 * math.log(2.0))


@dataclass(frozen=True)
class Bound:
    """The bound of N images in bits per dimension, term by term.

    Attributes:
        prior: (N,).
        terms: (N, S); column i is the term of timestep kept[i].
        kept: S timesteps, rising.
    """

    prior: Tensor
    terms: Tensor
    kept: tuple[int, ...]

    @property
    def total(self) -> Tensor:
        """Bits per dimension of each image, (N,)."""
        return self.prior + self.terms.sum(dim=1)


@torch.no_grad()
def bits_per_dim(
    network: Callable[..., Tensor],
    process: Process,
    images: Tensor,
    labels: Tensor | None = None,
    kept: Sequence[int] | None = None,
    pixel_range: tuple[float, float] = (-1.0, 1.0),
    batch_size: int = 100,
    clip: bool = True,
    tick: Callable[[int], None] = lambda _: None,
) -> Bound:
    """The bound of each image, from one noise draw for each of its terms.

    Image i's noise comes from a stream of its own, a draw a column, whatever the run's seed, N or the batch: models are
    compared on the same noise. The network sees float32; the arithmetic on its output is in float64.

    Args:
        network: called with x_t (B, C, H, W), original timesteps (B,) and, where labels are given, classes (B,), on the
            images' device; in evaluation mode.
        images: (N, C, H, W), levels of the pixel range.
        labels: classes (N,) shown to a class-conditional network: the bound is that of an image given its class.
        kept: rising timesteps of a shorter, respaced chain; None is all of them. Its bound is as valid,
            and as a rule looser.
        batch_size: (image, timestep) pairs to a pass of the network.
        clip: clamp the estimated image to the pixel range, as Nichol & Dhariwal 2021's evaluation does.
        tick: called with the number of pairs of each pass, for progress.
    Returns:
        Float64 on the images' device.
    Raises:
        ValueError: unless kept holds rising timesteps from 0 .. T - 1, at least one.
    """
    chain, steps = _chain(process, kept)
    n, columns = len(images), len(steps)
    noises, terms = _noises(n, columns, images.shape[1:]), []
    for first in range(0, n * columns, batch_size):
        pairs = torch.arange(first, min(first + batch_size, n * columns))
        image, t = pairs // columns, pairs % columns  # image by image, so that few streams are open at a time
        x0 = images[image.to(images.device)].double()
        x_t = noised(chain.schedule, x0, t, torch.stack(list(islice(noises, len(pairs)))).to(x0))
        classes = [] if labels is None else [labels[image].to(x0.device)]
        output = network(x_t.float(), steps[t].to(x0.device), *classes).double()
        terms.append(vlb_term(chain, output, x0, x_t, t, pixel_range, pixel_range if clip else None))
        tick(len(pairs))
    prior = prior_bits(chain.schedule, images.double())
    return Bound(prior, torch.cat([prior.new_empty(0), *terms]).reshape(n, columns), tuple(steps.tolist()))


def _chain(process: Process, kept: Sequence[int] | None) -> tuple[Process, Tensor]:
    """The process over the kept timesteps, and these, (S,)."""
    T = process.schedule.T
    if kept is None:
        return process, torch.arange(T)
    steps = torch.tensor([int(step) for step in kept], dtype=torch.int64)
    if len(steps) == 0 or steps[0] < 0 or steps[-1] >= T or (steps.diff() <= 0).any():
        raise ValueError(f"kept must be rising timesteps from 0 .. {T - 1}, at least one, got {steps.tolist()}")
    return process.respaced(steps.numpy()), steps


def _noises(n: int, columns: int, shape: Sequence[int]) -> Iterator[Tensor]:
    """Standard normal noise of `shape` for n images' columns, image by image."""
    for i in range(n):
        stream = torch_stream(0, "likelihood", i)
        for _ in range(columns):
            yield torch.randn(tuple(shape), generator=stream)
