"""What a cell costs, in passes of its network over an image, and how long a pass takes on this machine."""

import time
from collections.abc import Iterable

import torch

from bench.config import CellConfig
from bench.store import Store

TRAINING_PASSES = 3.0  # forward and backward of one image, in forward passes
_PROBE_BATCH = 8
_PROBE_SECONDS = 1.0


def training_passes(cell: CellConfig, n_train: int, n_heldout: int) -> float:
    """Forward passes of training, held-out losses included."""
    images = n_train * cell.training.participation * cell.training.local_epochs
    return cell.training.rounds * (TRAINING_PASSES * images + n_heldout)


def sampling_passes(cell: CellConfig) -> float:
    """Forward passes of drawing the samples."""
    return float(cell.evaluation.n_samples * cell.sampler.steps)


def model_key(cell: CellConfig, device: str) -> tuple[object, ...]:
    """Cells with the same key take the same time a pass."""
    return (cell.model, cell.data.size, cell.data.name == "cifar10", cell.threads, cell.dtype, device)


def measured(store: Store, cells: Iterable[tuple[str, CellConfig]], n_train: int, n_heldout: int) -> float | None:
    """Seconds a pass, from the finished cells among `cells` (id, configuration); None if none is finished."""
    seconds = passes = 0.0
    for cell_id, cell in cells:
        trained = store.cell(cell_id).trained()
        if trained is not None:
            seconds += trained["metrics"]["train_seconds"]
            passes += training_passes(cell, n_train, n_heldout)
    return seconds / passes if passes else None


def probe(cell: CellConfig, channels: int, device: str) -> float:
    """Seconds a pass, from about a second of training steps on random images. Nothing is kept."""
    threads = torch.get_num_threads()
    torch.set_num_threads(cell.threads)
    try:
        return _probe(cell, channels, device)
    finally:
        torch.set_num_threads(threads)


def _probe(cell: CellConfig, channels: int, device: str) -> float:
    net = cell.unet(channels).to(device)
    x = torch.zeros(_PROBE_BATCH, channels, cell.data.size, cell.data.size, device=device)
    t = torch.zeros(_PROBE_BATCH, dtype=torch.long, device=device)
    net(x, t).sum().backward()
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < _PROBE_SECONDS:
        net(x, t).sum().backward()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        steps += 1
    return (time.perf_counter() - started) / (steps * _PROBE_BATCH * TRAINING_PASSES)
