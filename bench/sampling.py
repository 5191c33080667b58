"""A trained model's samples: drawn in batches, decoded where they are latents, written with their pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from bench import figures
from bench.config import CellConfig
from bench.data import Dataset, to_model_range, to_uint8
from bench.diffusion import samplers
from bench.diffusion.autoencoder import LatentSpace
from bench.diffusion.guidance import Network, asked_labels, guided
from bench.diffusion.unet import UNet
from bench.store import write_bytes

SHEET = 64  # images on the sample sheet
FILM_IMAGES, FILM_FRAMES = 16, 50


@dataclass(frozen=True)
class Model:
    """What was trained, ready to be evaluated.

    Attributes:
        net: in evaluation mode.
        space: of latent diffusion, on the network's device; None for diffusion of the images themselves.
    """

    net: UNet
    space: LatentSpace | None = None

    def to_images(self, x: Tensor, pixel_range: str) -> Tensor:
        """uint8 images on the CPU from what was drawn, (B, C, H, W) or latents."""
        x = x.float()
        return to_uint8(x if self.space is None else self.space.decode(x), pixel_range).cpu()

    def reconstruct(self, images: Tensor, pixel_range: str, device: str) -> Tensor:
        """uint8 images through the autoencoder and back, on the CPU.

        Raises:
            ValueError: if there is none.
        """
        if self.space is None:
            raise ValueError("only latent diffusion has an autoencoder to reconstruct images with")
        return self.to_images(self.space.encode(to_model_range(images.to(device), pixel_range)), pixel_range)


@dataclass(frozen=True)
class Generated:
    """Samples, uint8 (N, C, H, W) on the CPU, and the classes (N,) asked for, None without any."""

    images: Tensor
    labels: Tensor | None


def generate(
    cell: CellConfig, model: Model, data: Dataset, folder: Path, device: str, tick: Callable[[int], None]
) -> Generated:
    """The cell's samples, also written with sheets of the first ones and a film of how they came to be."""
    wanted, parts, labels = cell.evaluation.n_samples, [], []
    for first in range(0, wanted, cell.sampler.batch_size):
        count = min(cell.sampler.batch_size, wanted - first)
        asked = asked_labels(data.class_shares, first, count)
        images, frames = _draw(cell, model, data, first, asked, device)
        parts.append(images)
        labels.append(asked)
        if frames:
            figures.film(frames, folder / "film.gif")
        tick(count)
    made = Generated(torch.cat(parts), torch.cat(labels) if cell.model.class_conditional else None)
    kept = {"images": made.images} | ({} if made.labels is None else {"labels": made.labels})
    write_bytes(folder / "samples.safetensors", to_safetensors(kept))
    if made.labels is None:
        figures.sample_sheet(made.images[:SHEET], folder / "samples.png")
    else:
        figures.class_sheet(made.images, made.labels, data.class_names, folder / "samples.png")
    figures.sample_sheet(made.images[:SHEET], folder / "samples_viridis.png", colours="viridis")
    return made


def _draw(
    cell: CellConfig, model: Model, data: Dataset, first: int, asked: Tensor, device: str
) -> tuple[Tensor, list[Tensor]]:
    """One batch as uint8 images, and for the first batch the film of its first images, uint8 likewise."""
    bound = None if model.space is None else (-model.space.bound, model.space.bound)
    settings, shape = cell.sampler_settings(bound), cell.diffused_shape(data.channels)
    noise = samplers.ImageNoise(cell.seed, first, len(asked), shape)
    stride, frames, x = -(-settings.steps // FILM_FRAMES), [], torch.empty(0)
    network = _network(cell, model, data, shape[0], asked.to(device))
    for step, x in enumerate(samplers.trajectory(network, cell.process(), settings, noise.draw, device)):
        if first == 0 and (step % stride == 0 or step == settings.steps):
            frames.append(model.to_images(x[:FILM_IMAGES], cell.data.range))
    return model.to_images(x, cell.data.range), frames


def _network(cell: CellConfig, model: Model, data: Dataset, channels: int, asked: Tensor) -> Network:
    """The network for images of the classes asked for, guided; without classes, the network itself. float32 out."""

    def network(*inputs: Tensor) -> Tensor:
        with torch.autocast(asked.device.type, torch.bfloat16, enabled=cell.dtype == "bfloat16"):
            output = model.net(*inputs)
        return output.float()

    if not cell.model.class_conditional:
        return network
    return guided(network, asked, data.n_classes, cell.sampler.guidance_scale, channels)
