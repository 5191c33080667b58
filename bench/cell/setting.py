"""From a cell's configuration to the objects that run it: data, split, network, strategy, task, training, model."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import partitions
from bench.cell.autoencoder import FirstStage, encoded
from bench.config.cell import CellConfig
from bench.data.pixels import to_model_range, to_uint8
from bench.data.sets import Dataset, load_dataset
from bench.diffusion import schedule
from bench.diffusion.autoencoder import LatentSpace, latent_side
from bench.diffusion.losses import LossSettings
from bench.diffusion.process import Process
from bench.diffusion.unet import UNet
from bench.federation.mixture import Personal
from bench.federation.rounds import FederatedTraining
from bench.federation.tasks import DiffusionTask
from bench.fidelity.extractors import Extractor, load_extractor
from bench.seeds import derive, numpy_stream
from bench.store.states import read_tensors

PERSONAL = "personal"  # a cell's folder of what clients keep to themselves


@dataclass(frozen=True)
class Model:
    """What was trained, ready to be evaluated.

    Attributes:
        net: in evaluation mode.
        space: of latent diffusion, on the network's device; None for diffusion of the images themselves.
        personal: None for one global model. Else `net` is where clients' models are put in turn.
    """

    net: UNet
    space: LatentSpace | None = None
    personal: Personal | None = None

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


def load_data(cell: CellConfig, data_root: Path | None, download: bool = False) -> Dataset:
    """The cell's data set; arguments and errors as `bench.data.load_dataset`."""
    d = cell.data
    return load_dataset(d.name, d.size, d.fit, d.heldout, d.limit, data_root, download)


def load_cell_extractor(cell: CellConfig, download: bool = False) -> Extractor:
    """The extractor the cell names; errors as `bench.fidelity.extractors.load_extractor`."""
    weights = cell.evaluation.extractor_weights
    return load_extractor(cell.evaluation.extractor, Path(weights) if weights else None, download)


def split(cell: CellConfig, labels: Tensor) -> list[np.ndarray]:
    """Per client the indices of its training images; all of them for the one party of centralized training.

    Raises:
        partitions.PartitionError: if the data cannot be split so.
    """
    if cell.centralized:
        return [np.arange(len(labels))]
    assert cell.n_clients is not None
    stream = numpy_stream(cell.seed, "partition", cell.n_clients, cell.beta if cell.beta is not None else "none")
    return partitions.checked_split(cell.make_partition(), labels.numpy(), cell.n_clients, stream)


def client_mixes(cell: CellConfig, data: Dataset, parts: list[np.ndarray]) -> np.ndarray:
    """Label histograms (n, K) of the clients; (0, K) for centralized training."""
    labels, K = data.train_labels.numpy(), data.n_classes
    mixes = [] if cell.centralized else [np.bincount(labels[part], minlength=K) for part in parts]
    return np.array(mixes, dtype=np.int64).reshape(-1, K)


def with_training_noise(cell: CellConfig, data: Dataset, parts: list[np.ndarray]) -> Dataset:
    """The data with each client's noise on its training images."""
    if not any(cell.noise_levels()):
        return data
    stream = numpy_stream(cell.seed, "feature-noise")
    noisy = partitions.add_noise(data.train_images, parts, cell.noise_levels(), stream)
    return dataclasses.replace(data, train_images=noisy)


def with_heldout_noise(cell: CellConfig, data: Dataset, client: int) -> Dataset:
    """The data with one client's noise on all held-out images, and without training images but one."""
    everyone, level = [np.arange(len(data.heldout_images))], cell.noise_levels()[client]
    noisy = partitions.add_noise(data.heldout_images, everyone, [level], numpy_stream(0, "heldout-noise", client))
    return dataclasses.replace(data, heldout_images=noisy, train_images=data.train_images[:1])


def process(cell: CellConfig) -> Process:
    """The cell's diffusion process: schedule, prediction and variance."""
    d = cell.diffusion
    return Process(schedule.make(d.schedule, d.T), d.prediction, d.variance)


def diffused_shape(cell: CellConfig, channels: int) -> tuple[int, int, int]:
    """(C, H, W) of the network's input, for images of that many channels: the images' shape, or their latents'."""
    if not cell.is_latent:
        return channels, cell.data.size, cell.data.size
    side = latent_side(cell.data.size)
    return cell.latent.channels, side, side


def unet(cell: CellConfig, channels: int, n_classes: int) -> UNet:
    """The cell's network for images of that many channels, its weights drawn from torch's global generator."""
    shape, model = diffused_shape(cell, channels), dict(cell.model)
    classes = n_classes if model.pop("class_conditional") else None
    return UNet(shape[0], **model, learned_variance=cell.diffusion.variance == "learned", classes=classes)


def make_network(cell: CellConfig, data: Dataset, device: str) -> UNet:
    """The cell's U-Net, its initial weights drawn from the stream "init" whatever the strategy."""
    with torch.random.fork_rng(devices=[]):  # layers draw from torch's global generator: seed it, then put it back
        torch.manual_seed(derive(cell.seed, "init"))
        net = unet(cell, data.channels, data.n_classes)
    return net.to(device)


def make_task(cell: CellConfig, data: Dataset, space: LatentSpace | None, device: str) -> DiffusionTask:
    """What the cell's clients learn: diffusion of the images, or of their latents in `space`."""
    d = cell.diffusion
    if space is None:
        train, heldout = data.train_images.to(device), data.heldout_images.to(device)
    else:
        train, heldout = encoded(data, space, cell.data.range, device)
    return DiffusionTask(
        process(cell),
        train,
        heldout,
        data.train_labels,
        data.heldout_labels,
        null=data.n_classes if cell.model.class_conditional else None,
        label_dropout=d.label_dropout,
        loss=d.loss,
        loss_settings=LossSettings(d.min_snr_gamma, cell.pixel_range),
        loss_aware=d.timesteps == "loss-aware",
        pixel_range=cell.data.range,
        dtype=cell.dtype,
    )


def make_training(
    cell: CellConfig,
    task: DiffusionTask,
    net: UNet,
    parts: list[np.ndarray],
    folder: Path,
    tick: Callable[[int], None],
) -> FederatedTraining:
    """The cell's training, ready to yield its rounds."""
    clients = [torch.from_numpy(part) for part in parts]
    strategy = cell.make_strategy()
    return FederatedTraining(
        strategy, net, task, clients, cell.training, cell.client, cell.seed, folder, tick, cell.ema
    )


def load_model(cell: CellConfig, data: Dataset, folder: Path, device: str) -> Model:
    """The trained network in evaluation mode, with its latent space and its clients' own models where it has them."""
    net = make_network(cell, data, device)
    shared = _trained(folder / "weights.safetensors", device)
    net.load_state_dict(shared)
    space = None
    if cell.is_latent:
        space = FirstStage.from_state(_trained(folder / "autoencoder.safetensors", "cpu")).space.to(device)
    if not cell.make_strategy().personal:
        return Model(net.eval(), space)
    sizes = [len(part) for part in split(cell, data.train_labels)]

    def models() -> Iterator[dict[str, Tensor]]:
        for number in range(len(sizes)):
            yield shared | _trained(folder / PERSONAL / f"{number}.safetensors", device)

    return Model(net.eval(), space, Personal(sizes, models))


def _trained(path: Path, device: str) -> dict[str, Tensor]:
    """Tensors that training left in a cell's folder.

    Raises:
        FileNotFoundError: if the file was removed.
        Damaged: if it is not what was written.
    """
    tensors = read_tensors(path, device, sealed=False)
    if tensors is None:
        raise FileNotFoundError(f"{path} is not there any more")
    return tensors
