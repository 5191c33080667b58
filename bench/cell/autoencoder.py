"""The first stage of latent diffusion: an autoencoder, trained in one place or by the cell's own strategy."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bench.config.cell import ClientConfig, TrainingConfig
from bench.config.ids import TRAINING_VERSION, digest, identity
from bench.data.pixels import to_model_range
from bench.data.sets import Dataset
from bench.diffusion.autoencoder import Autoencoder, LatentSpace, fit_latent_space, latent_side
from bench.federation.checkpoint import Checkpoint
from bench.federation.ledger import RoundRecord
from bench.federation.rounds import FederatedTraining
from bench.federation.tasks import AutoencoderTask, Diverged
from bench.federation.tensors import copy_into
from bench.seeds import derive
from bench.store.cell_folder import CellFolder
from bench.store.files import Damaged
from bench.store.states import read_tensors, write_tensors
from strategies.base import Strategy
from strategies.centralized import Centralized

if TYPE_CHECKING:
    from bench.cell.setting import Setting

CACHE = Path(".cache") / "autoencoders"  # under the results: those trained in one place
CLIENTS = "clients"  # a cell's folder of clients' states in a training that has not ended
_MEASURED = "measured."
_ENCODED_AT_ONCE = 250


@dataclass(frozen=True)
class FirstStage:
    """A latent space on the CPU and what making it measured.

    Attributes:
        metrics: autoencoder_loss (held-out), autoencoder_seconds, autoencoder_bytes_down, autoencoder_bytes_up.
    """

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


def first_stage(setting: "Setting", tick: Callable[[int], None], point: Checkpoint) -> FirstStage:
    """The cell's autoencoder, trained; a centrally trained one is kept for the other cells that use it.

    Its own root seed is derived from the cell's, so its draws have nothing to do with those of the diffusion. With
    `latent.mode` "federated" the cell's strategy and clients train it. The channels' means and deviations, a few
    numbers, are taken over all images in both modes.

    Args:
        point: of this training; it goes on from there, and leaves it for an attempt that is made after it has ended.
    Raises:
        ValueError: if a latent channel collapsed.
    """
    if setting.config.latent.mode == "federated" and not setting.config.centralized:
        return _train(setting, True, tick, point)
    path = setting.results / CACHE / f"{_central_id(setting)}.safetensors"
    try:
        kept = read_tensors(path)
        if kept is not None:
            return FirstStage.from_state(kept)
    except ValueError as error:  # Damaged, or a whole file that is no first stage
        warnings.warn(f"{path} is damaged ({error}); the autoencoder is trained anew", stacklevel=2)
    made = _train(setting, False, tick, point)
    write_tensors(path, made.state())
    return made


def _central_id(setting: "Setting") -> str:
    """Equal if and only if central training of the autoencoder would be equal."""
    cell, fields = setting.config, identity(setting.config)
    parts = {key: fields[key] for key in ("seed", "threads", "dtype")}
    parts |= {"range": cell.data.range, "training_version": TRAINING_VERSION}
    where = torch.device(setting.device).type
    return digest(
        parts | {"latent": fields["latent"] | {"mode": "central"}, "data": setting.data.digest, "device": where}
    )


def _train(setting: "Setting", federated: bool, tick: Callable[[int], None], point: Checkpoint) -> FirstStage:
    """Train it by the cell's strategy and clients, or in one place."""
    cell, s, side = setting.config, setting.config.latent, latent_side(setting.config.data.size)
    strategy: Strategy = Centralized()
    data, training = setting.data, TrainingConfig()
    parts = [np.arange(len(data.train_images))]
    if federated:
        data, strategy, training, parts = setting.seen, cell.make_strategy(), cell.training, setting.parts
    seed, device = derive(cell.seed, "autoencoder"), setting.device
    with torch.random.fork_rng(devices=[]):  # layers draw from torch's global generator: seed it, then put it back
        torch.manual_seed(derive(seed, "init"))
        net = Autoencoder(data.channels, s.width, s.channels).to(device)
    images, heldout = data.train_images.to(device), data.heldout_images.to(device)
    run = FederatedTraining(
        strategy,
        net,
        AutoencoderTask(images, heldout, (s.channels, side, side), s.kl_weight, cell.data.range),
        [torch.from_numpy(part) for part in parts],
        training.model_copy(update={"rounds": s.epochs, "local_epochs": 1, "batch_size": s.batch_size}),
        ClientConfig(lr=s.lr, optimizer_state="keep" if strategy.centralized else cell.client.optimizer_state),
        seed,
        setting.folder.path / CLIENTS / "autoencoder",
        tick,
    )
    try:
        last = _run_rounds(run, point)
    except Diverged as error:
        raise Diverged(f"the autoencoder diverged: {error}") from error
    copy_into(dict(net.state_dict()), run.evaluated())
    space = fit_latent_space(net, to_model_range(images, cell.data.range), _ENCODED_AT_ONCE)
    return FirstStage(space.to("cpu"), last)


def _run_rounds(run: FederatedTraining, point: Checkpoint) -> dict[str, float]:
    """All rounds from where the training stands; what the last one measured."""
    last: dict[str, float] = {}
    try:
        stand = point.load(str(run.task.device))
        if stand is not None:
            run.restore(stand["run"])
            last = stand["kept"]["last"]
    except Damaged as error:
        CellFolder(point.path.parent).quarantine(point.path.name, str(error))
    for record in run.rounds():
        last = _metrics(record)
        if point.due(record.round, run.training.rounds):
            point.save(run, {"last": last})
    return last


def _metrics(last: RoundRecord) -> dict[str, float]:
    return {
        "autoencoder_loss": last.heldout_loss,
        "autoencoder_seconds": last.seconds,
        "autoencoder_bytes_down": float(last.bytes_down),
        "autoencoder_bytes_up": float(last.bytes_up),
    }


def encoded(data: Dataset, space: LatentSpace, pixel_range: str, device: str) -> tuple[Tensor, Tensor]:
    """Standardised latents (N, c, h, w) of the training and of the held-out images, float32 on `device`."""
    there = space.to(device)
    train, heldout = (
        there.encode(to_model_range(images.to(device), pixel_range))  # in batches
        for images in (data.train_images, data.heldout_images)
    )
    return train, heldout
