"""What a cell costs, in passes of its network over an image, and how long a pass takes on this machine."""

import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from bench.cell.diagnostics import DRAWS
from bench.cell.job import CellJob
from bench.cell.setting import diffused_shape, unet
from bench.config.cell import CellConfig
from bench.diffusion.autoencoder import Autoencoder
from bench.federation.mixture import judged
from bench.store.grid_folder import Store
from strategies.base import Strategy

TRAINING_PASSES = 3.0  # forward and backward of one image, in forward passes
_PROBE_BATCH = 8
_PROBE_SECONDS = 1.0


def passes(cell: CellConfig, n_train: int) -> dict[str, float]:
    """Forward passes of the cell's network by phase, in the phases' order; of its autoencoder in "autoencoder"."""
    images, data = n_train * cell.training.participation, cell.data
    guided = cell.sampler.guidance_scale != 1
    strategy, n = cell.make_strategy(), cell.n_clients or 0
    averaged = cell.ema.mode != "off" or (type(strategy).model is not Strategy.model and not strategy.personal)
    seen = images if cell.latent.mode == "federated" else n_train
    first = cell.latent.epochs * (TRAINING_PASSES * seen + data.validation) if cell.is_latent else 0.0
    a_round = TRAINING_PASSES * cell.training.images_a_round(n_train, n or 1) + data.validation * (1 + averaged)
    drawing = cell.sampler.steps * (1 + guided)
    seen_apart = strategy.personal or any(cell.noise_levels())
    own, others = (len(judged(n)), n > len(judged(n))) if strategy.personal else (0, False)
    e, rounds = cell.evaluation, cell.training.rounds
    curve = e.curve_samples * -(-rounds // e.curve_every) * drawing if e.curve_every else 0
    return {
        "autoencoder": first,
        "train": float(rounds * a_round + curve),
        "sample": float(e.n_samples * drawing * max(1, own + others)),
        "likelihood": float(cell.evaluation.nll * (cell.evaluation.nll_steps or cell.diffusion.T)),
        "evaluate": float(DRAWS * data.test * (1 + len(judged(n)) * seen_apart)),
    }


def share(job: CellJob) -> float:
    """The part of the training that a job asks for, see `bench.cell.job.How.until`."""
    rounds = job.config.training.rounds
    return 1.0 if job.how.until is None else min(job.how.until, rounds) / rounds


def model_key(cell: CellConfig, device: str) -> tuple[object, ...]:
    """Cells with the same key take the same time a pass."""
    data, latent = cell.data, cell.latent
    image = data.size, data.name == "cifar10", cell.is_latent, latent.width, latent.channels
    return cell.model, *image, cell.threads, cell.dtype, device


def measured(store: Store, cells: Iterable[tuple[str, CellConfig]], n_train: int) -> float | None:
    """Seconds a pass, from the finished cells among `cells` (id, configuration); None if none is finished."""
    seconds = total = 0.0
    for cell_id, cell in cells:
        trained = store.cell(cell_id).trained()
        spent = trained.metrics.get("train_seconds") if trained else None
        if spent is not None:
            seconds += spent
            total += passes(cell, n_train)["train"]
    return seconds / total if total else None


def probe(cell: CellConfig, channels: int, n_classes: int, device: str) -> float:
    """Seconds a pass of the cell's network, from about a second of training steps on blank images. Nothing is kept."""
    shape = diffused_shape(cell, channels)
    net = unet(cell, channels, n_classes).to(device)
    x = torch.zeros(_PROBE_BATCH, *shape, device=device)
    t = torch.zeros(_PROBE_BATCH, dtype=torch.long, device=device)
    classes = [t] if cell.model.class_conditional else []
    return _probe(lambda: net(x, t, *classes), cell.threads, device)


def probe_autoencoder(cell: CellConfig, channels: int, device: str) -> float:
    """Seconds a pass of the cell's autoencoder, likewise."""
    net = Autoencoder(channels, cell.latent.width, cell.latent.channels).to(device)
    x = torch.zeros(_PROBE_BATCH, channels, cell.data.size, cell.data.size, device=device)
    return _probe(lambda: net.decode(net.encode(x)[0]), cell.threads, device)


def _probe(forward: Callable[[], Tensor], threads: int, device: str) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        forward().sum().backward()
        steps, started = 0, time.perf_counter()
        while time.perf_counter() - started < _PROBE_SECONDS:
            forward().sum().backward()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            steps += 1
        return (time.perf_counter() - started) / (steps * _PROBE_BATCH * TRAINING_PASSES)
    finally:
        torch.set_num_threads(before)
