"""From a cell's configuration to the objects that run it: data, split, network, strategy, task, training, model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch import Tensor

import partitions
import strategies
from bench.config import CellConfig
from bench.data import Dataset, load_dataset
from bench.diffusion.autoencoder import LatentSpace
from bench.diffusion.losses import LossSettings
from bench.diffusion.unet import UNet
from bench.fidelity import Extractor, load_extractor
from bench.latents import FirstStage, encoded
from bench.rounds import FederatedTraining
from bench.sampling import Model
from bench.seeds import derive, numpy_stream
from bench.tasks import DiffusionTask
from strategies import Strategy


def load_data(cell: CellConfig, data_root: Path | None, download: bool = False) -> Dataset:
    """The cell's data set; arguments and errors as `bench.data.load_dataset`."""
    d = cell.data
    return load_dataset(d.name, d.size, d.fit, d.heldout, d.limit, data_root, download)


def load_cell_extractor(cell: CellConfig, download: bool = False) -> Extractor:
    """The extractor the cell names; errors as `bench.fidelity.load_extractor`."""
    weights = cell.evaluation.extractor_weights
    return load_extractor(cell.evaluation.extractor, Path(weights) if weights else None, download)


def make_partition(cell: CellConfig) -> partitions.Partition:
    """The cell's partition with its hyper-parameters and beta.

    Raises:
        ValueError: if it refuses a value.
    """
    assert cell.partition is not None
    cls = partitions.load(cell.partition.name)
    beta = {"beta": cell.beta} if cls.uses_beta else {}
    return TypeAdapter(cls).validate_python(cell.partition.params | beta)


def split(cell: CellConfig, labels: Tensor) -> list[np.ndarray]:
    """Per client the indices of its training images; all of them for the one party of centralized training.

    Raises:
        partitions.PartitionError: if the data cannot be split so.
    """
    if cell.centralized:
        return [np.arange(len(labels))]
    assert cell.n_clients is not None
    stream = numpy_stream(cell.seed, "partition", cell.n_clients, cell.beta if cell.beta is not None else "none")
    return partitions.checked_split(make_partition(cell), labels.numpy(), cell.n_clients, stream)


def make_network(cell: CellConfig, data: Dataset, device: str) -> UNet:
    """The cell's U-Net, its initial weights drawn from the stream "init" whatever the strategy."""
    with torch.random.fork_rng(devices=[]):  # layers draw from torch's global generator: seed it, then put it back
        torch.manual_seed(derive(cell.seed, "init"))
        net = cell.unet(data.channels, data.n_classes)
    return net.to(device)


def make_strategy(cell: CellConfig) -> Strategy:
    """The cell's strategy with its hyper-parameters."""
    return TypeAdapter(strategies.load(cell.strategy.name)).validate_python(cell.strategy.params)


def make_task(cell: CellConfig, data: Dataset, space: LatentSpace | None, device: str) -> DiffusionTask:
    """What the cell's clients learn: diffusion of the images, or of their latents in `space`."""
    d = cell.diffusion
    if space is None:
        train, heldout = data.train_images.to(device), data.heldout_images.to(device)
    else:
        train, heldout = encoded(data, space, cell.data.range, device)
    return DiffusionTask(
        cell.process(),
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
    strategy, ema = make_strategy(cell), cell.ema_settings()
    return FederatedTraining(strategy, net, task, clients, cell.training, cell.client, cell.seed, folder, tick, ema)


def load_model(cell: CellConfig, data: Dataset, folder: Path, device: str) -> Model:
    """The trained network in evaluation mode and, for latent diffusion, its latent space."""
    net = make_network(cell, data, device)
    net.load_state_dict(load_file(folder / "weights.safetensors"))
    space = None
    if cell.is_latent:
        space = FirstStage.from_state(load_file(folder / "autoencoder.safetensors")).space.to(device)
    return Model(net.eval(), space)
