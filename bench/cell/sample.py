"""A trained model's samples: drawn in batches, decoded where they are latents, written with their pictures.

Where clients keep models of their own, the samples are a mixture (`bench.federation.mixture`), and some clients'
models draw every image, too, to be judged by themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.cell.setting import Model, Setting
from bench.diffusion import samplers
from bench.diffusion.guidance import Network, asked_labels, guided
from bench.federation import mixture
from bench.pictures.film import save_film
from bench.pictures.sheets import class_sheet, rows_sheet, sample_sheet
from bench.store.states import write_tensors

SHEET = 64  # images on the sample sheet
FILM_IMAGES, FILM_FRAMES = 16, 50
ROW = 10  # images of each client on their sheet


@dataclass(frozen=True)
class Generated:
    """Samples of a model.

    Attributes:
        images: uint8 (N, C, H, W) on the CPU.
        labels: the classes (N,) asked for, None without any.
        by_client: for personal models the images (N, C, H, W) of each judged client's own model; {} otherwise.
    """

    images: Tensor
    labels: Tensor | None
    by_client: dict[int, Tensor]


def generate(setting: Setting, model: Model, tick: Callable[[int], None]) -> Generated:
    """The cell's samples, also written with sheets of the first ones and a film of how they came to be."""
    folder = setting.folder.path
    made = draw(setting, model, setting.config.evaluation.n_samples, tick, folder / "film.gif", each=True)
    kept = {"images": made.images} | ({} if made.labels is None else {"labels": made.labels})
    write_tensors(folder / "samples.safetensors", kept)
    if made.labels is None:
        sample_sheet(made.images[:SHEET], folder / "samples.png")
    else:
        class_sheet(made.images, made.labels, setting.data.class_names, folder / "samples.png")
    sample_sheet(made.images[:SHEET], folder / "samples_viridis.png", colours="viridis")
    if made.by_client:
        rows = {f"client {number}": images[:ROW] for number, images in made.by_client.items()}
        rows_sheet(rows, folder / "samples_clients.png")
    return made


def draw(
    setting: Setting,
    model: Model,
    count: int,
    tick: Callable[[int], None] = lambda _: None,
    film: Path | None = None,
    each: bool = False,
) -> Generated:
    """`count` samples, those of the same number from the same noise whatever the strategy.

    Args:
        film: where a film of the first images is written, None for none.
        each: whether personal models draw all images for each of the judged clients, too.
    """
    asked = asked_labels(setting.data.class_shares, 0, count)
    labels = asked if setting.config.model.class_conditional else None
    if model.personal is None:
        return Generated(_draw_all(setting, model, torch.arange(count), asked, tick, film), labels, {})
    whose = mixture.assigned(model.personal.sizes, count)
    judged = mixture.judged(len(model.personal.sizes)) if each else []
    images = torch.empty(0)
    by_client: dict[int, Tensor] = {}
    for number, weights in enumerate(model.personal.models()):
        own = (whose == number).nonzero().flatten()
        numbers = torch.arange(count) if number in judged else own
        if not len(numbers):
            continue
        model.net.load_state_dict(weights)
        made = _draw_all(setting, model, numbers, asked, tick, film if 0 in own else None)
        images = images if len(images) else made.new_empty(count, *made.shape[1:])
        images[own] = made[own] if number in judged else made
        if number in judged:
            by_client[number] = made
    return Generated(images, labels, by_client)


def _draw_all(
    setting: Setting, model: Model, numbers: Tensor, asked: Tensor, tick: Callable[[int], None], film: Path | None
) -> Tensor:
    """Images of these numbers in batches."""
    parts: list[Tensor] = []
    for chosen in numbers.split(setting.config.sampler.batch_size):
        filmed = film is not None and not parts
        images, frames = _draw_batch(setting, model, chosen, asked[chosen], filmed)
        parts.append(images)
        if film is not None and frames:
            save_film(frames, film)
        tick(len(chosen))
    return torch.cat(parts)


def _draw_batch(
    setting: Setting, model: Model, numbers: Tensor, asked: Tensor, filmed: bool
) -> tuple[Tensor, list[Tensor]]:
    """One batch as uint8 images, and if it is filmed the film of its first images, uint8 likewise."""
    cell, device = setting.config, setting.device
    clip_range = cell.pixel_range if model.space is None else (-model.space.bound, model.space.bound)
    noise = samplers.ImageNoise(cell.seed, numbers.tolist(), setting.shape)
    stride, frames, x = -(-cell.sampler.steps // FILM_FRAMES), [], torch.empty(0)
    network = _network(setting, model, asked.to(device))
    trajectory = samplers.trajectory(network, setting.process, cell.sampler, noise.draw, device, clip_range)
    for step, x in enumerate(trajectory):
        if filmed and (step % stride == 0 or step == cell.sampler.steps):
            frames.append(model.to_images(x[:FILM_IMAGES], cell.data.range))
    return model.to_images(x, cell.data.range), frames


def _network(setting: Setting, model: Model, asked: Tensor) -> Network:
    """The network for images of the classes asked for, guided; without classes, the network itself. float32 out."""
    cell = setting.config

    def network(*inputs: Tensor) -> Tensor:
        with torch.autocast(asked.device.type, torch.bfloat16, enabled=cell.dtype == "bfloat16"):
            output = model.net(*inputs)
        return output.float()

    if not cell.model.class_conditional:
        return network
    return guided(network, asked, setting.data.n_classes, cell.sampler.guidance_scale, setting.shape[0])
