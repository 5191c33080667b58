"""The training of a cell: split, autoencoder, rounds, diagnostics, weights; everything is written to its folder."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors

import partitions
from bench import environment, figures
from bench.assemble import make_network, make_strategy, make_task, make_training, split
from bench.config import CellConfig
from bench.data import Dataset
from bench.diagnostics import Diagnostics, diagnose
from bench.diffusion.unet import UNet
from bench.latents import FirstStage, first_stage
from bench.rounds import RoundRecord, weight_hash
from bench.store import CellFolder, Heartbeat, read_json, write_bytes, write_json
from bench.tasks import DiffusionTask

# What training leaves, beside train.json, which is written last.
TRAINED_FILES = (
    "partition.json",
    "partition.png",
    "metrics.jsonl",
    "autoencoder.safetensors",
    "diagnostics.json",
    "weights.safetensors",
)


def train(
    cell: CellConfig, train_id: str, folder: CellFolder, data: Dataset, cache: Path, device: str
) -> dict[str, Any]:
    """Train, writing a line a round and `TRAINED_FILES`, then train.json; returns the latter's content.

    Args:
        cache: where centrally trained autoencoders are kept for other cells.
    Raises:
        Diverged: if a loss stops being finite.
    """
    (folder.path / "metrics.jsonl").unlink(missing_ok=True)
    parts = split(cell, data.train_labels)
    skew = _report_partition(cell, folder, data, parts)
    shutil.rmtree(folder.path / "clients", ignore_errors=True)  # states of an attempt that did not end
    first = _first_stage(cell, folder, data, parts, cache, device)
    task = make_task(cell, data, first.space if first else None, device)
    run = _run_rounds(cell, folder, data, task, parts, device)
    last = run.last
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in run.net.state_dict().items()}
    diagnostics = _diagnose(cell, folder, data, task, run.net, parts)
    write_bytes(folder.path / "weights.safetensors", to_safetensors(weights))
    metrics = {key: value for key, value in asdict(last).items() if key not in ("round", "seconds", "time")}
    trained = {
        "train_id": train_id,
        "weight_hash": weight_hash(weights),
        "autoencoder_hash": weight_hash(first.state()) if first else None,
        "metrics": metrics
        | skew
        | diagnostics.metrics()
        | (first.metrics if first else {})
        | {"rounds": last.round, "train_seconds": last.seconds},
        "environment": environment.describe(device),
    }
    write_json(folder.path / "train.json", trained)
    shutil.rmtree(folder.path / "clients", ignore_errors=True)
    return trained


def find_damage(folder: CellFolder) -> str | None:
    """What of a trained cell's files is missing or not what its train.json says; None if nothing is."""
    trained = read_json(folder.path / "train.json") or {}
    hashes = {
        "weights.safetensors": trained.get("weight_hash"),
        "autoencoder.safetensors": trained.get("autoencoder_hash"),
    }
    for name, expected in hashes.items():
        try:
            if expected is not None and weight_hash(load_file(folder.path / name)) != expected:
                return f"{folder.path / name} is broken (it has another hash than train.json says)"
        except (OSError, SafetensorError) as error:
            return f"{folder.path / name} is broken ({error})"
    try:
        if not folder.rounds() or read_json(folder.path / "diagnostics.json") is None:
            return f"{folder.path / 'metrics.jsonl'} or {folder.path / 'diagnostics.json'} is missing"
    except ValueError as error:
        return f"{folder.path / 'metrics.jsonl'} or {folder.path / 'diagnostics.json'} is broken ({error})"
    return None


def _first_stage(
    cell: CellConfig, folder: CellFolder, data: Dataset, parts: list[np.ndarray], cache: Path, device: str
) -> FirstStage | None:
    """For latent diffusion, the trained autoencoder, also written to autoencoder.safetensors."""
    if not cell.is_latent:
        return None
    share = 1.0 if cell.centralized or cell.latent.mode == "central" else cell.training.participation
    heartbeat = Heartbeat(folder, "autoencoder", max(1, int(cell.latent.epochs * len(data.train_labels) * share)))
    clients = [torch.from_numpy(part) for part in parts]
    states = folder.path / "clients" / "autoencoder"
    made = first_stage(cell, data, make_strategy(cell), clients, states, cache, device, heartbeat.tick)
    write_bytes(folder.path / "autoencoder.safetensors", to_safetensors(made.state()))
    return made


def _run_rounds(
    cell: CellConfig, folder: CellFolder, data: Dataset, task: DiffusionTask, parts: list[np.ndarray], device: str
) -> "_Trained":
    """All rounds, a line of metrics.jsonl each."""
    total = cell.training.rounds * cell.training.local_epochs * len(data.train_labels)
    heartbeat = Heartbeat(folder, "train", max(1, int(total * cell.training.participation)))
    net = make_network(cell, data, device)
    last: RoundRecord | None = None
    for last in make_training(cell, task, net, parts, folder.path / "clients", heartbeat.tick).rounds():
        folder.append_round(asdict(last))
    assert last is not None
    return _Trained(net, last)


@dataclass(frozen=True)
class _Trained:
    """The network that is to be evaluated, and the last round's record."""

    net: UNet
    last: RoundRecord


def _diagnose(
    cell: CellConfig, folder: CellFolder, data: Dataset, task: DiffusionTask, net: UNet, parts: list[np.ndarray]
) -> Diagnostics:
    """Held-out losses by timestep, class and client, also written as diagnostics.json."""
    labels, K = data.train_labels.numpy(), data.n_classes
    mixes = [] if cell.centralized else [np.bincount(labels[part], minlength=K) for part in parts]
    made = diagnose(task, net, data.heldout_labels, data.class_names, np.array(mixes).reshape(-1, K))
    write_json(folder.path / "diagnostics.json", made.as_dict())
    return made


def _report_partition(cell: CellConfig, folder: CellFolder, data: Dataset, parts: list[np.ndarray]) -> dict[str, float]:
    """Write partition.json and its heat map; the scalar skew for the table. Nothing for centralized training."""
    if cell.centralized:
        return {}
    report = partitions.skew_report(data.train_labels.numpy(), parts, data.n_classes)
    write_json(folder.path / "partition.json", report.as_dict())
    beta = "" if cell.beta is None else f", beta = {cell.beta:g}"
    assert cell.partition is not None
    figures.partition_heatmap(
        np.asarray(report.histogram),
        data.class_names,
        folder.path / "partition.png",
        f"{cell.partition.name}, {cell.n_clients} clients{beta}, seed {cell.seed}",
    )
    return {"skew_tv": report.total_variation_mean}
