"""A cell's configuration made ready: data, split, network, strategy, task, training, model."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import partitions
from bench.config.cell import CellConfig
from bench.data.pixels import to_model_range, to_uint8
from bench.data.sets import Dataset, Part, load_dataset
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
from bench.store.cell_folder import WEIGHTS, CellFolder
from bench.store.states import read_tensors
from strategies.base import Strategy

PERSONAL = "personal"  # a cell's folder of what clients keep to themselves
CLIENTS = "clients"  # a cell's folder of clients' states in a training that has not ended
_MEASURED = "measured."


@dataclass(frozen=True)
class FirstStage:
    """A latent space on the CPU and what training it measured.

    Attributes:
        metrics: autoencoder_loss (of validation images), autoencoder_seconds, autoencoder_bytes_down,
            autoencoder_bytes_up.
    """

    FILE: ClassVar[str] = "autoencoder.safetensors"  # in a cell's folder
    space: LatentSpace
    metrics: dict[str, float]

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors, for a file; `from_state` is its inverse."""
        values = {_MEASURED + key: torch.tensor(value, dtype=torch.float64) for key, value in self.metrics.items()}
        return self.space.state() | values

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "FirstStage":
        """Raises:
        ValueError: if it is not what `state` gave.
        """
        metrics = {k.removeprefix(_MEASURED): float(v) for k, v in state.items() if k.startswith(_MEASURED)}
        return cls(LatentSpace.from_state({k: v for k, v in state.items() if not k.startswith(_MEASURED)}), metrics)


@dataclass(frozen=True)
class Model:
    """What was trained, ready to be evaluated.

    Attributes:
        net: in evaluation mode.
        space: of latent diffusion, on the network's device; None for diffusion of the images themselves.
        personal: None for one global model. Else `net` is where clients' models are put in turn.
    """

    net: nn.Module
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
    """The cell's data set; errors as `bench.data.sets.load_dataset`."""
    return load_dataset(cell.data, data_root, download)


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


def check_reference(cell: CellConfig, data: Dataset) -> None:
    """That the images of `evaluation.reference` have all classes that clients may hold, to score them by.

    Raises:
        ValueError: if they lack one.
    """
    part = cell.evaluation.reference
    if cell.centralized or part == "train":
        return
    held, there = (np.unique(data.part(name)[1]) for name in ("train", part))
    if lacking := [data.class_names[k] for k in np.setdiff1d(held, there)]:
        raise ValueError(
            f"evaluation.reference: got {part!r}, but no {part} image is of class {', '.join(lacking)}; "
            f"use 'train', or a larger data.{part}"
        )


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


@dataclass(frozen=True, eq=False)
class Setting:
    """A cell with its data on this machine, and all that it trains, samples and judges with.

    Attributes:
        device: "cpu", "cuda" or "cuda:1".
        folder: the cell's.
        results: the folder of all grids, beneath which caches lie.
    """

    config: CellConfig
    data: Dataset
    device: str
    folder: CellFolder
    results: Path

    @cached_property
    def strategy(self) -> Strategy:
        return self.config.make_strategy()

    @cached_property
    def parts(self) -> list[np.ndarray]:
        """Per client the indices of its training images."""
        return split(self.config, self.data.train_labels)

    @cached_property
    def mixes(self) -> np.ndarray:
        """Label histograms (n, K) of the clients; (0, K) for centralized training."""
        labels, K = self.data.train_labels.numpy(), self.data.n_classes
        mixes = [] if self.config.centralized else [np.bincount(labels[part], minlength=K) for part in self.parts]
        return np.array(mixes, dtype=np.int64).reshape(-1, K)

    @cached_property
    def noise(self) -> list[float]:
        """Standard deviation of the noise on each client's images, 0 for none; [] for centralized training."""
        return self.config.noise_levels()

    @cached_property
    def noisy(self) -> Dataset:
        """The data with each client's noise on its training images, a copy of them where there is noise."""
        if not any(self.noise):
            return self.data
        stream = numpy_stream(self.config.seed, "feature-noise")
        noisy = partitions.add_noise(self.data.train_images, self.parts, self.noise, stream)
        return dataclasses.replace(self.data, train_images=noisy)

    @property
    def early_part(self) -> Part:
        """The part of the data that images drawn along training are compared with: never the test images."""
        return "validation" if self.config.evaluation.reference == "test" else "train"

    @property
    def floor_part(self) -> Part:
        """The part that is neither trained on nor the reference of final scores: its scores are the floor."""
        return "validation" if self.config.evaluation.reference == "test" else "test"

    def cached_as(self, part: Part) -> str:
        """What caches call the images of a part: several parts may have as many of them."""
        return f"{self.data.digest}-{part}"

    @cached_property
    def space(self) -> LatentSpace | None:
        """The latent space that was trained for the cell, on `device`; None for diffusion of the images themselves.

        Raises:
            FileNotFoundError: if its file is not there.
            Damaged: if that is not what was written.
        """
        if not self.config.is_latent:
            return None
        return FirstStage.from_state(_read(self.folder.path / FirstStage.FILE, "cpu")).space.to(self.device)

    @cached_property
    def process(self) -> Process:
        """Schedule, prediction and variance."""
        d = self.config.diffusion
        return Process(schedule.make(d.schedule, d.T), d.prediction, d.variance)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the network's input."""
        return diffused_shape(self.config, self.data.channels)

    def network(self) -> UNet:
        """The U-Net, its initial weights drawn from the stream "init" whatever the strategy."""
        with torch.random.fork_rng(devices=[]):  # layers draw from torch's global generator: seed it, then put it back
            torch.manual_seed(derive(self.config.seed, "init"))
            net = unet(self.config, self.data.channels, self.data.n_classes)
        return net.to(self.device)

    def task(self) -> DiffusionTask:
        """The task of the clients: diffusion of the images, or of their latents; validation images are held out."""
        data = self.noisy
        return self._task((data.train_images, data.train_labels), (data.validation_images, data.validation_labels))

    def test_task(self, client: int | None = None) -> DiffusionTask:
        """The same with the test images held out, and only one training image, for its shape.

        Args:
            client: whose noise the test images have; None for no noise.
        """
        data, images = self.data, self.data.test_images
        if client is not None:
            stream = numpy_stream(0, "heldout-noise", client)
            images = partitions.add_noise(images, [np.arange(len(images))], [self.noise[client]], stream)
        return self._task((data.train_images[:1], data.train_labels[:1]), (images, data.test_labels))

    def _task(self, trained: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]) -> DiffusionTask:
        """Diffusion of the images, with their labels."""
        cell, d = self.config, self.config.diffusion
        train, heldout = trained[0].to(self.device), held_out[0].to(self.device)
        if self.space is not None:
            train, heldout = (self.space.encode(to_model_range(x, cell.data.range)) for x in (train, heldout))
        return DiffusionTask(
            self.process,
            train,
            heldout,
            trained[1],
            held_out[1],
            null=self.data.n_classes if cell.model.class_conditional else None,
            label_dropout=d.label_dropout,
            loss=d.loss,
            loss_settings=LossSettings(d.min_snr_gamma, cell.pixel_range),
            loss_aware=d.timesteps == "loss-aware",
            pixel_range=cell.data.range,
            dtype=cell.dtype,
        )

    def training(self, tick: Callable[[int], None]) -> FederatedTraining:
        """The training, ready to yield its rounds; errors as `space`.

        Args:
            tick: called with numbers of images as they are trained on.
        """
        cell, clients = self.config, [torch.from_numpy(part) for part in self.parts]
        return FederatedTraining(
            self.strategy, self.network(), self.task(), clients, cell.training, cell.client, cell.seed,
            self.folder.path / CLIENTS, tick, cell.ema,
        )  # fmt: skip

    def model(self) -> Model:
        """The trained network in evaluation mode, with its latent space and its clients' own models where it has them.

        Raises:
            FileNotFoundError: if a file of it was removed.
            Damaged: if one is not what was written.
        """
        path, net = self.folder.path, self.network()
        shared = _read(path / WEIGHTS, self.device)
        net.load_state_dict(shared)
        if not self.strategy.personal:
            return Model(net.eval(), self.space)

        def models() -> Iterator[dict[str, Tensor]]:
            for number in range(len(self.parts)):
                yield shared | _read(path / PERSONAL / f"{number}.safetensors", self.device)

        return Model(net.eval(), self.space, Personal([len(part) for part in self.parts], models))


def _read(path: Path, device: str) -> dict[str, Tensor]:
    """Tensors of a trained cell.

    Raises:
        FileNotFoundError: if the file was removed.
        Damaged: if it is not what was written.
    """
    tensors = read_tensors(path, device, sealed=False)
    if tensors is None:
        raise FileNotFoundError(f"{path} is not there any more")
    return tensors
