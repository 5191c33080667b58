"""One cell from data to result: partition, rounds, samples, fidelity; everything it writes goes through its folder."""

import shutil
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

import partitions
import strategies
from bench import environment, figures
from bench.config import CellConfig
from bench.data import Dataset, load_dataset, to_uint8
from bench.diffusion import samplers, schedule
from bench.diffusion.unet import UNet
from bench.fidelity import Extractor, evaluate, load_extractor, real_floor, reference
from bench.rounds import DiffusionTask, Diverged, FederatedTraining, RoundRecord, weight_hash
from bench.seeds import derive, numpy_stream
from bench.store import CellFolder, Store, write_bytes, write_json

HEARTBEAT = 0.5  # seconds between two writes of progress.json


@dataclass(frozen=True)
class CellJob:
    """A cell to run, with what it needs beside its configuration; plain data, so it can go to another process.

    Attributes:
        root: the grid's folder in the results.
        data_root: where torchvision's files lie, None for data that needs none.
        device: "cpu", "cuda" or "cuda:1", resolved.
        labels: as in `PlannedCell`.
    """

    config: CellConfig
    cell_id: str
    train_id: str
    labels: dict[str, Any]
    root: Path
    data_root: Path | None
    device: str


class Heartbeat:
    """Writes progress.json, at most every `HEARTBEAT` seconds.

    Args:
        total: units of the phase (images trained on, images sampled).
    """

    def __init__(self, folder: CellFolder, phase: str, total: int) -> None:
        self._folder, self._phase, self._total = folder, phase, total
        self._done, self._next = 0, 0.0

    def tick(self, units: int) -> None:
        """Count units done."""
        self._done += units
        now = time.monotonic()
        if now >= self._next:
            self._next = now + HEARTBEAT
            self._folder.progress(self._phase, min(self._done / self._total, 1.0))


def run_jobs(jobs: list[CellJob]) -> None:
    """Run cells that share their training, one after another: the first trains, the others reuse its weights."""
    for job in jobs:
        run_cell(job)


def run_cell(job: CellJob) -> None:
    """Run one cell to its result.json, or to an error.json if it raises: no exception but an interrupt leaves it."""
    torch.set_num_threads(job.config.threads)
    folder = Store(job.root).cell(job.cell_id)
    try:
        _run(job, folder)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a strategy, partition or library raises must cost no other cell
        status = "diverged" if isinstance(error, Diverged) else "failed"
        write_json(
            folder.path / "error.json",
            {
                "status": status,
                "error": f"{type(error).__name__}: {error}",
                "traceback": traceback.format_exc(),
                "time": time.time(),
            },
        )


def _run(job: CellJob, folder: CellFolder) -> None:
    started = time.perf_counter()
    cell = job.config
    data = load_data(cell, job.data_root)
    extractor = load_cell_extractor(cell)
    told = {"data": describe_data(data, cell), "extractor": describe_extractor(extractor)}
    ids = {"cell_id": job.cell_id, "train_id": job.train_id, "config": cell.model_dump(mode="json")}
    begun = {"attempt": uuid.uuid4().hex, "started": time.time(), "environment": environment.describe(job.device)}
    folder.begin(ids | told | begun | {"labels": job.labels})
    folder.progress("prepare", 0.0)
    trained = _reuse(job, folder) or _train(job, folder, data)
    net = make_network(cell, data, job.device)
    net.load_state_dict(load_file(folder.path / "weights.safetensors"))
    sampling = time.perf_counter()
    images = generate(cell, net, data, folder, job.device)
    evaluating = time.perf_counter()
    folder.progress("evaluate", 0.0)
    scores = judge(images, data, extractor, job.root.parent, job.device)
    ended = time.perf_counter()
    seconds = {
        "sample_seconds": evaluating - sampling,
        "evaluate_seconds": ended - evaluating,
        "cell_seconds": ended - started,
    }
    metrics = trained["metrics"] | scores.pop("metrics") | seconds
    hashes = {"weight_hash": trained["weight_hash"], "sample_hash": weight_hash({"images": images})}
    made = {
        "environment": environment.describe(job.device),
        "training_environment": trained["environment"],
        "finished": time.time(),
    }
    write_json(folder.path / "result.json", ids | told | {"metrics": metrics} | scores | hashes | made)
    (folder.path / "progress.json").unlink(missing_ok=True)


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
        net = cell.unet(data.channels)
    return net.to(device)


def make_training(
    cell: CellConfig, data: Dataset, parts: list[np.ndarray], folder: Path, device: str, tick: Callable[[int], None]
) -> FederatedTraining:
    """The cell's training, ready to yield its rounds."""
    strategy = TypeAdapter(strategies.load(cell.strategy.name)).validate_python(cell.strategy.params)
    task = DiffusionTask(
        schedule.make(cell.diffusion.schedule, cell.diffusion.T),
        data.train_images.to(device),
        data.heldout_images.to(device),
        cell.data.range,
        cell.dtype,
    )
    return FederatedTraining(
        strategy,
        make_network(cell, data, device),
        task,
        [torch.from_numpy(p) for p in parts],
        cell.training,
        cell.client,
        cell.seed,
        folder,
        tick,
    )


def _reuse(job: CellJob, folder: CellFolder) -> dict[str, Any] | None:
    """What training measured, if a cell of this grid was already trained by the same settings; its files are copied."""
    source = Store(job.root).find_trained(job.train_id)
    if source is None:
        return None
    if source.path != folder.path:
        for name in ("partition.json", "partition.png", "metrics.jsonl", "weights.safetensors", "train.json"):
            if (source.path / name).exists():
                write_bytes(folder.path / name, (source.path / name).read_bytes())
    return folder.trained()


def _train(job: CellJob, folder: CellFolder, data: Dataset) -> dict[str, Any]:
    """Train, writing a line a round, the weights and train.json; returns the latter's content."""
    cell = job.config
    (folder.path / "metrics.jsonl").unlink(missing_ok=True)
    parts = split(cell, data.train_labels)
    skew = _report_partition(cell, folder, data, parts)
    total = cell.training.rounds * cell.training.local_epochs * len(data.train_labels)
    heartbeat = Heartbeat(folder, "train", max(1, int(total * cell.training.participation)))
    shutil.rmtree(folder.path / "clients", ignore_errors=True)  # states of an attempt that did not end
    run = make_training(cell, data, parts, folder.path / "clients", job.device, heartbeat.tick)
    last: RoundRecord | None = None
    for last in run.rounds():
        folder.append_round(asdict(last))
    assert last is not None
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in run.net.state_dict().items()}
    write_bytes(folder.path / "weights.safetensors", to_safetensors(weights))
    metrics = {key: value for key, value in asdict(last).items() if key not in ("round", "seconds", "time")}
    trained = {
        "train_id": job.train_id,
        "weight_hash": weight_hash(weights),
        "metrics": metrics | skew | {"rounds": last.round, "train_seconds": last.seconds},
        "environment": environment.describe(job.device),
    }
    write_json(folder.path / "train.json", trained)
    shutil.rmtree(folder.path / "clients", ignore_errors=True)
    return trained


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


def generate(cell: CellConfig, net: UNet, data: Dataset, folder: CellFolder, device: str) -> Tensor:
    """The cell's samples, uint8 (n_samples, C, H, W) on the CPU, also written with a sheet of the first 64."""
    forward = schedule.make(cell.diffusion.schedule, cell.diffusion.T)
    shape, wanted = data.train_images.shape[1:], cell.evaluation.n_samples
    heartbeat, batches = Heartbeat(folder, "sample", wanted), []
    net.eval()
    for first in range(0, wanted, cell.sampler.batch_size):
        count = min(cell.sampler.batch_size, wanted - first)
        noise = samplers.ImageNoise(cell.seed, first, count, tuple(shape))
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=cell.dtype == "bfloat16"):
            images = samplers.sample(net, forward, cell.sampler_settings(), noise.draw, device)
        batches.append(to_uint8(images.float(), cell.data.range).cpu())
        heartbeat.tick(count)
    generated = torch.cat(batches)
    write_bytes(folder.path / "samples.safetensors", to_safetensors({"images": generated}))
    figures.sample_sheet(generated[:64], folder.path / "samples.png")
    return generated


def judge(images: Tensor, data: Dataset, extractor: Extractor, results: Path, device: str) -> dict[str, Any]:
    """Scores of the samples and the floor that real images reach, against the reference kept under `results`."""
    known = reference(data.train_images, data.digest, extractor, results / ".cache" / "references", device)
    counts = torch.bincount(data.train_labels, minlength=data.n_classes).double()
    shares, seed = (counts / counts.sum()).numpy(), derive(0, "fidelity")
    scores = evaluate(images, known, shares, extractor, seed, device)
    floor = real_floor(data.heldout_images, len(images), known, shares, extractor, seed, device)
    histogram = scores.pop("class_histogram")
    floor.pop("class_histogram")
    return {"metrics": scores, "floor": floor, "class_histogram": histogram}


def describe_data(data: Dataset, cell: CellConfig) -> dict[str, Any]:
    """The data set as results record it."""
    return {
        "name": data.name,
        "digest": data.digest,
        "size": data.image_size,
        "fit": cell.data.fit,
        "n_train": len(data.train_images),
        "n_heldout": len(data.heldout_images),
        "class_names": list(data.class_names),
    }


def describe_extractor(extractor: Extractor) -> dict[str, Any]:
    """The extractor as results record it."""
    return {
        "name": extractor.name,
        "digest": extractor.digest,
        "feature_width": extractor.feature_width,
        "test_accuracy": extractor.test_accuracy,
    }
