"""The first stage of latent diffusion: an autoencoder, trained in one place or by the cell's own strategy."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.cell.setting import CLIENTS, FirstStage, Setting
from bench.config.cell import ClientConfig, TrainingConfig
from bench.config.ids import TRAINING_VERSION, digest, identity
from bench.data.pixels import to_model_range
from bench.diffusion.autoencoder import Autoencoder, fit_latent_space, latent_side
from bench.federation.drive import Checkpoint, Watcher, drive
from bench.federation.ledger import RoundRecord
from bench.federation.rounds import FederatedTraining
from bench.federation.tasks import AutoencoderTask, Diverged
from bench.federation.tensors import copy_into
from bench.seeds import derive
from bench.store.files import Damaged
from bench.store.states import State, read_tensors, write_tensors
from strategies.base import Strategy
from strategies.centralized import Centralized

CACHE = Path(".cache") / "autoencoders"  # under the results: those trained in one place
_ENCODED_AT_ONCE = 250


def first_stage(setting: Setting, tick: Callable[[int], None], point: Checkpoint) -> FirstStage:
    """The cell's autoencoder, trained, and written to its folder; a centrally trained one is cached for other cells.

    Its own root seed is derived from the cell's, so its draws have nothing to do with those of the diffusion. With
    `latent.mode` "federated" the cell's strategy and clients train it. The channels' means and deviations, a few
    numbers, are taken over all images in both modes.

    Args:
        point: the checkpoint of this training, from which it goes on; it stays for a later attempt at the cell.
    Raises:
        ValueError: if a latent channel collapsed.
    """
    if setting.config.latent.mode == "federated" and not setting.config.centralized:
        stage = _train(setting, True, tick, point)
    else:
        path = setting.results / CACHE / f"{_central_id(setting)}.safetensors"
        cached = _cached(path)
        stage = cached or _train(setting, False, tick, point)
        if cached is None:
            write_tensors(path, stage.state())
    write_tensors(setting.folder.path / FirstStage.FILE, stage.state())
    return stage


def _cached(path: Path) -> FirstStage | None:
    """The stage that another cell wrote; None if none did or, with a warning, if it is damaged."""
    try:
        tensors = read_tensors(path)
        return None if tensors is None else FirstStage.from_state(tensors)
    except ValueError as error:  # Damaged, or a whole file that is no first stage
        warnings.warn(f"{path} is damaged ({error}); the autoencoder is trained anew", stacklevel=2)
        return None


def _central_id(setting: Setting) -> str:
    """Equal if and only if central training of the autoencoder would be equal."""
    cell, fields = setting.config, identity(setting.config)
    parts = {key: fields[key] for key in ("seed", "threads", "dtype")}
    parts |= {"range": cell.data.range, "training_version": TRAINING_VERSION}
    where = torch.device(setting.device).type
    return digest(
        parts | {"latent": fields["latent"] | {"mode": "central"}, "data": setting.data.digest, "device": where}
    )


def _train(setting: Setting, federated: bool, tick: Callable[[int], None], point: Checkpoint) -> FirstStage:
    """Train it by the cell's strategy and clients, or in one place, from the checkpoint on if there is one."""
    run = _training(setting, federated, tick)
    try:
        metrics = _drive(run, point, point.load(setting.device))
    except Damaged as error:  # the checkpoint, or a client's state
        if not point.path.exists():
            raise
        setting.folder.quarantine(point.path.name, str(error))
        run = _training(setting, federated, tick)
        metrics = _drive(run, point, None)
    copy_into(dict(run.net.state_dict()), run.evaluated())
    assert isinstance(run.task, AutoencoderTask)
    assert isinstance(run.net, Autoencoder)
    images = to_model_range(run.task.images, setting.config.data.range)
    return FirstStage(fit_latent_space(run.net, images, _ENCODED_AT_ONCE).to("cpu"), metrics)


def _training(setting: Setting, federated: bool, tick: Callable[[int], None]) -> FederatedTraining:
    """The training, ready to yield its rounds: a local epoch each."""
    cell, s, side = setting.config, setting.config.latent, latent_side(setting.config.data.size)
    strategy: Strategy = Centralized()
    data, training = setting.data, TrainingConfig()
    parts = [np.arange(len(data.train_images))]
    if federated:
        data, strategy, training, parts = setting.noisy, setting.strategy, cell.training, setting.parts
    seed, device = derive(cell.seed, "autoencoder"), setting.device
    with torch.random.fork_rng(devices=[]):  # layers draw from torch's global generator: seed it, then put it back
        torch.manual_seed(derive(seed, "init"))
        net = Autoencoder(data.channels, s.width, s.channels).to(device)
    budget = {"rounds": s.epochs, "local_epochs": 1, "local_steps": None, "batch_size": s.batch_size}
    images, heldout = data.train_images.to(device), data.validation_images.to(device)
    return FederatedTraining(
        strategy,
        net,
        AutoencoderTask(images, heldout, (s.channels, side, side), s.kl_weight, cell.data.range),
        [torch.from_numpy(part) for part in parts],
        training.model_copy(update=budget),
        ClientConfig(lr=s.lr, optimizer_state="keep" if strategy.centralized else cell.client.optimizer_state),
        seed,
        setting.folder.path / CLIENTS / "autoencoder",
        tick,
    )


def _drive(run: FederatedTraining, point: Checkpoint, start: State | None) -> dict[str, float]:
    """Train to the end from the checkpoint `start`; the last round's metrics."""
    last = _Last()
    try:
        drive(run, point, [last], start)
    except Diverged as error:
        raise Diverged(f"the autoencoder diverged: {error}") from error
    return last.metrics


class _Last(Watcher):
    """The last round as the first stage's metrics."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def restore(self, kept: State) -> None:
        self.metrics = kept["last"]

    def after_round(self, run: FederatedTraining, record: RoundRecord) -> None:
        self.metrics = {
            "autoencoder_loss": record.validation_loss,
            "autoencoder_seconds": record.seconds,
            "autoencoder_bytes_down": float(record.bytes_down),
            "autoencoder_bytes_up": float(record.bytes_up),
        }

    def kept(self) -> State:
        return {"last": self.metrics}
