"""The tasks that clients learn: diffusion on images or latents, or the autoencoder that makes the latents.

The training loop asks a `Task` for batches with all their random numbers and for the loss of each image, and knows
nothing else of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from bench.data.pixels import to_model_range
from bench.diffusion import config
from bench.diffusion.autoencoder import Autoencoder, autoencoder_losses
from bench.diffusion.gaussian import noised
from bench.diffusion.guidance import drop_labels
from bench.diffusion.losses import LOSSES, LossSettings
from bench.diffusion.process import Process
from bench.diffusion.timesteps import LossAware, Timesteps, Uniform
from bench.seeds import torch_stream

T = TypeVar("T")
HELDOUT_BATCH = 250
Streams = Callable[..., torch.Generator]  # of one visit: the main one without a label, others by theirs


class Diverged(ArithmeticError):
    """A loss became NaN or infinite; the message says where."""


@dataclass(frozen=True)
class Batch:
    """Images of one step with the random numbers that go with them, B images in all.

    Attributes:
        x0: what is learned from, (B, C, H, W): uint8 images or float32 latents, on the task's device.
        t: timesteps (B,), on the CPU.  eps: noise like x0, on the CPU.
        labels: classes (B,), None for tasks that do not see them.
        weights: of the losses (B,), None for all 1.
        timesteps: who drew t and learns from the losses.
        indices: which held-out images these are, (B,); None in training.
    """

    x0: Tensor
    t: Tensor
    eps: Tensor
    labels: Tensor | None = None
    weights: Tensor | None = None
    timesteps: Timesteps | None = None
    indices: Tensor | None = None


class Task(Protocol):
    """A task as the training loop sees it."""

    @property
    def device(self) -> torch.device: ...

    def batches(
        self, indices: Tensor, streams: Streams, epochs: int | None, batch_size: int, memory: dict[str, Any]
    ) -> Iterator[Batch]:
        """A client's local epochs over its images `indices` (N_i,); all draws come from `streams`.

        Without a number of epochs there are full batches without end. `memory` is what the client remembers from its
        last visit, {} at first.
        """
        ...

    def losses(self, net: nn.Module, batch: Batch) -> Tensor:
        """The loss of each image (B,); their mean is what is minimised."""
        ...

    @property
    def n_heldout(self) -> int:
        """How many held-out images there are."""
        ...

    def heldout_errors(self, net: nn.Module, only: Tensor | None = None) -> Tensor:
        """The loss of each held-out image (M,), or of those `only` (M',), float64 on the CPU.

        The random numbers of an image are the same in every round, cell and seed.
        """
        ...


def mean_error(errors: Tensor) -> float:
    """The held-out loss from `Task.heldout_errors` of all images."""
    return sum(part.sum().item() for part in errors.split(HELDOUT_BATCH)) / len(errors)


@torch.no_grad()
def in_evaluation(net: nn.Module, measure: Callable[[], T]) -> T:
    """`measure()` with the network in evaluation mode, back in its own mode afterwards."""
    was_training = net.training
    net.eval()
    value = measure()
    net.train(was_training)
    return value


def chosen_images(indices: Tensor, stream: torch.Generator, epochs: int | None, batch_size: int) -> Iterator[Tensor]:
    """Indices (B,) of each batch: every epoch in a new order, its last batch maybe smaller, none dropped.

    Without a number of epochs they follow one another without end, and a batch may reach into the next: all are full,
    however few images there are.
    """
    if epochs is not None:
        for _ in range(epochs):
            yield from indices[torch.randperm(len(indices), generator=stream)].split(batch_size)
        return
    left = indices[:0]
    while True:
        while len(left) < batch_size:
            left = torch.cat([left, indices[torch.randperm(len(indices), generator=stream)]])
        yield left[:batch_size]
        left = left[batch_size:]


@dataclass(frozen=True, eq=False)
class DiffusionTask:
    """Diffusion on images of one range, or on latents.

    Attributes:
        process: schedule, prediction and variance.
        images: all training images, uint8 (N, C, H, W), or latents, float32, on the task's device.
        heldout: held-out ones, likewise.
        labels: classes of the training images (N,), for a class-conditional network with `null` as "no class".
        heldout_labels: of the held-out images.
        loss: a name in `LOSSES`.
        loss_aware: importance sampling of t.
        pixel_range: "symmetric" or "unit".
        dtype: "float32", or "bfloat16" for autocast of the network.
    """

    process: Process
    images: Tensor
    heldout: Tensor
    labels: Tensor | None = None
    heldout_labels: Tensor | None = None
    null: int | None = None
    label_dropout: float = 0.0
    loss: config.Loss = "simple"
    loss_settings: LossSettings = field(default_factory=LossSettings)
    loss_aware: bool = False
    pixel_range: str = "symmetric"
    dtype: str = "float32"

    @property
    def device(self) -> torch.device:
        return self.images.device

    @property
    def conditional(self) -> bool:
        """Whether the network is shown classes."""
        return self.null is not None

    def batches(
        self, indices: Tensor, streams: Streams, epochs: int | None, batch_size: int, memory: dict[str, Any]
    ) -> Iterator[Batch]:
        """See `Task`. Hidden labels have a stream of their own: conditional or not, t and eps are the same."""
        stream, hiding = streams(), streams("labels")
        T = self.process.schedule.T
        timesteps = LossAware(T, memory) if self.loss_aware else Uniform(T)
        for chosen in chosen_images(indices, stream, epochs, batch_size):
            t, weights = timesteps.draw(len(chosen), stream)
            eps = torch.randn(len(chosen), *self.images.shape[1:], generator=stream)
            labels = None
            if self.conditional and self.labels is not None and self.null is not None:
                labels = drop_labels(self.labels[chosen], self.null, self.label_dropout, hiding)
            yield Batch(self.images[chosen.to(self.device)], t, eps, labels, weights, timesteps)

    def losses(self, net: nn.Module, batch: Batch) -> Tensor:
        """See `Task`; weighted where t was drawn by importance."""
        x0, eps, x_t, output = self._pass(net, batch)
        losses = LOSSES[self.loss](self.process, output, x0, x_t, eps, batch.t, self.loss_settings)
        if batch.timesteps is not None:
            batch.timesteps.observe(batch.t, losses.detach())
        return losses if batch.weights is None else losses * batch.weights.to(losses)

    def noise_errors(self, net: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error of eps (B,), whatever is predicted and minimised; comparable within one schedule."""
        _, eps, x_t, output = self._pass(net, batch)
        return (self.process.estimate(output, x_t, batch.t).eps - eps).square().flatten(1).mean(dim=1)

    def _pass(self, net: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x0, eps, x_t and the network's output in float32."""
        x0 = to_model_range(batch.x0, self.pixel_range) if batch.x0.dtype == torch.uint8 else batch.x0
        eps = batch.eps.to(self.device, non_blocking=True)
        x_t, t = noised(self.process.schedule, x0, batch.t, eps), batch.t.to(self.device)
        labels = [] if batch.labels is None else [batch.labels.to(self.device)]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            output = net(x_t, t, *labels)
        return x0, eps, x_t, output.float()

    @property
    def n_heldout(self) -> int:
        return len(self.heldout)

    def heldout_batches(
        self, draws: int, batch_size: int = HELDOUT_BATCH, only: Tensor | None = None
    ) -> Iterator[Batch]:
        """The held-out images, or those `only`, `draws` times over, at fixed timesteps and noise.

        Each draw takes its timesteps from an equal part of 0 .. T-1, spread evenly over the images in an order that has
        nothing to do with their classes. Neither they nor the noise depend on the repetition's seed.
        """
        count, T = len(self.heldout), self.process.schedule.T
        for draw in range(draws):
            stream = torch_stream(0, "heldout") if draws == 1 else torch_stream(0, "heldout", draws, draw)
            spread = (draw + (torch.arange(count) + 0.5) / count) * T / draws
            t = spread.long()[torch.randperm(count, generator=stream)]
            eps = torch.randn(self.heldout.shape, generator=stream)
            for part in (torch.arange(count) if only is None else only).split(batch_size):
                labels = self.heldout_labels[part] if self.conditional and self.heldout_labels is not None else None
                yield Batch(self.heldout[part.to(self.device)], t[part], eps[part], labels, indices=part)

    def heldout_errors(self, net: nn.Module, only: Tensor | None = None) -> Tensor:
        """`noise_errors` of held-out images, which are shown with their classes if the network takes them."""

        def measure() -> Tensor:
            batches = self.heldout_batches(1, only=only)
            return torch.cat([self.noise_errors(net, batch).double().cpu() for batch in batches])

        return in_evaluation(net, measure)


@dataclass(frozen=True, eq=False)
class AutoencoderTask:
    """Reconstruction, for the latents of latent diffusion.

    Attributes:
        images: all training images, uint8 (N, C, H, W), on the task's device.  heldout: held-out ones, likewise.
        latent_shape: (c, h, w).
        kl_weight: see `bench.diffusion.autoencoder.autoencoder_losses`.
    """

    images: Tensor
    heldout: Tensor
    latent_shape: tuple[int, int, int]
    kl_weight: float
    pixel_range: str = "symmetric"

    @property
    def device(self) -> torch.device:
        return self.images.device

    def batches(
        self, indices: Tensor, streams: Streams, epochs: int | None, batch_size: int, memory: dict[str, Any]
    ) -> Iterator[Batch]:
        """See `Task`; eps is the latents' noise."""
        stream = streams()
        for chosen in chosen_images(indices, stream, epochs, batch_size):
            eps = torch.randn(len(chosen), *self.latent_shape, generator=stream)
            yield Batch(self.images[chosen.to(self.device)], torch.zeros(len(chosen), dtype=torch.long), eps)

    def losses(self, net: nn.Module, batch: Batch) -> Tensor:
        """See `Task`."""
        assert isinstance(net, Autoencoder)
        x0 = to_model_range(batch.x0, self.pixel_range)
        return autoencoder_losses(net, x0, batch.eps.to(self.device), self.kl_weight)

    @property
    def n_heldout(self) -> int:
        return len(self.heldout)

    def heldout_errors(self, net: nn.Module, only: Tensor | None = None) -> Tensor:
        """Losses of held-out images without noise in their latents."""
        images = self.heldout if only is None else self.heldout[only.to(self.device)]

        def measure() -> Tensor:
            parts = [
                Batch(x, torch.zeros(len(x), dtype=torch.long), torch.zeros(len(x), *self.latent_shape))
                for x in images.split(HELDOUT_BATCH)
            ]
            return torch.cat([self.losses(net, part).double().cpu() for part in parts])

        return in_evaluation(net, measure)
