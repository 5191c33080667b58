"""A trained model's samples: drawn in batches, decoded where they are latents.

Where clients keep models of their own, the samples are a mixture (`bench.federation.mixture`), and some clients'
models draw every image, too, to be judged by themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.cell.setting import Model, Setting
from bench.diffusion import samplers
from bench.diffusion.guidance import Network, asked_labels, guided
from bench.federation import mixture
from bench.store.cell_folder import SAMPLES
from bench.store.states import write_tensors

FILM_IMAGES, FILM_FRAMES = 16, 50
ROW = 10  # images of each client on their sheet


@dataclass(frozen=True)
class Generated:
    """Samples of a model.

    Attributes:
        images: uint8 (N, C, H, W) on the CPU.
        labels: the classes (N,) asked for, None without any.
        by_client: for personal models the images (N, C, H, W) of each judged client's own model; {} otherwise.
        film: the first images along the reverse chain, uint8 (at most `FILM_IMAGES`, C, H, W) each.
    """

    images: Tensor
    labels: Tensor | None
    by_client: dict[int, Tensor] = field(default_factory=dict)
    film: list[Tensor] = field(default_factory=list)


def generate(setting: Setting, model: Model, tick: Callable[[int], None]) -> Generated:
    """The cell's samples, written to its folder with the pictures that no file holds the data of: a film of the first
    ones along the reverse chain, and a sheet of those of clients' own models.
    """
    from bench.pictures.film import save_film  # matplotlib: half a second
    from bench.pictures.sheets import rows_sheet

    folder = setting.folder.path
    samples = draw(setting, model, setting.config.evaluation.n_samples, tick, final=True)
    tensors = {"images": samples.images} | ({} if samples.labels is None else {"labels": samples.labels})
    write_tensors(folder / SAMPLES, tensors)
    save_film(samples.film, folder / "film.gif")
    if samples.by_client:
        rows = {f"client {number}": images[:ROW] for number, images in samples.by_client.items()}
        rows_sheet(rows, folder / "samples_clients.png")
    return samples


def draw(
    setting: Setting, model: Model, count: int, tick: Callable[[int], None] = lambda _: None, final: bool = False
) -> Generated:
    """`count` samples, those of the same number from the same noise whatever the strategy.

    Args:
        final: whether the first images are filmed, and personal models draw all images for each of the judged clients,
            too.
    """
    asked = asked_labels(setting.data.class_shares, 0, count)
    labels = asked if setting.config.model.class_conditional else None
    if model.personal is None:
        images, film = _draw_all(setting, model, torch.arange(count), asked, tick, final)
        return Generated(images, labels, film=film)
    whose = mixture.assigned(model.personal.sizes, count)
    judged = mixture.judged(len(model.personal.sizes)) if final else []
    images, film = torch.empty(0), []
    by_client: dict[int, Tensor] = {}
    for number, weights in enumerate(model.personal.models()):
        own = (whose == number).nonzero().flatten()
        numbers = torch.arange(count) if number in judged else own
        if not len(numbers):
            continue
        model.net.load_state_dict(weights)
        drawn, frames = _draw_all(setting, model, numbers, asked, tick, final and 0 in own)
        film = film or frames
        images = images if len(images) else drawn.new_empty(count, *drawn.shape[1:])
        images[own] = drawn[own] if number in judged else drawn
        if number in judged:
            by_client[number] = drawn
    return Generated(images, labels, by_client, film)


def _draw_all(
    setting: Setting, model: Model, numbers: Tensor, asked: Tensor, tick: Callable[[int], None], filmed: bool
) -> tuple[Tensor, list[Tensor]]:
    """Images of these numbers in batches, and the film of the first batch; [] unless it is filmed."""
    parts: list[Tensor] = []
    film: list[Tensor] = []
    for chosen in numbers.split(setting.config.sampler.batch_size):
        images, frames = _draw_batch(setting, model, chosen, asked[chosen], filmed and not parts)
        parts.append(images)
        film += frames
        tick(len(chosen))
    return torch.cat(parts), film


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
