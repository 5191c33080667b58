"""The training of a cell: split, autoencoder, rounds, diagnostics, weights; everything is written to its folder."""

from functools import partial
from typing import Any

import numpy as np
import torch

import partitions
from bench.cell import environment
from bench.cell.autoencoder import CLIENTS, FirstStage, first_stage
from bench.cell.diagnostics import Diagnostics, diagnose, heldout_by_group
from bench.cell.sample import draw
from bench.cell.setting import PERSONAL, Model, Setting
from bench.diffusion.autoencoder import LatentSpace
from bench.federation.checkpoint import Checkpoint
from bench.federation.ledger import Visit
from bench.federation.mixture import Personal
from bench.federation.rounds import FederatedTraining
from bench.federation.tasks import DiffusionTask
from bench.federation.tensors import copy_into, weight_hash
from bench.pictures.of_a_cell import partition_heatmap
from bench.store.cell_folder import LOGS, CellFolder, Heartbeat
from bench.store.files import Damaged, file_hash, remove, write_json
from bench.store.records import Trained
from bench.store.states import State, write_tensors

# What training leaves, beside train.json, which is written last.
TRAINED_FILES = (
    "partition.json",
    "partition.png",
    *LOGS,
    "autoencoder.safetensors",
    "diagnostics.json",
    "curve.safetensors",
    "weights.safetensors",
)


CHECKPOINT = "checkpoint.safetensors"  # of a training that has not ended
AUTOENCODER = "checkpoint_autoencoder.safetensors"


def find_checkpoint(folder: CellFolder, device: str) -> State | None:
    """Where an earlier attempt at the training stands, with the logs cut back to it; None if it is to begin anew.

    A checkpoint that is damaged, or whose logs are, is moved away with a warning. Without one nothing of an earlier
    attempt is left, but for the autoencoder's checkpoint.
    """
    point = Checkpoint(folder.path / CHECKPOINT, 0)
    try:
        found = point.load(device)
        if found is not None:
            folder.cut_logs(found["kept"]["logs"])
            return found
    except Damaged as error:
        folder.quarantine(CHECKPOINT, str(error))
    _forget_rounds(folder)
    return None


def _forget_rounds(folder: CellFolder) -> None:
    if not (folder.path / CLIENTS).is_dir():
        remove(folder.path / CLIENTS)
    for path in folder.path.glob(f"{CLIENTS}/*.safetensors"):
        path.unlink()
    for name in (CHECKPOINT, PERSONAL, "curve.safetensors"):
        remove(folder.path / name)
    folder.cut_logs({})


def forget_checkpoints(folder: CellFolder) -> None:
    """Remove what only an interrupted training needs."""
    for name in (CHECKPOINT, AUTOENCODER, CLIENTS):
        remove(folder.path / name)


def train(setting: Setting, train_id: str, every: int = 0, stand: State | None = None) -> Trained:
    """Train, writing a line a round and `TRAINED_FILES`, then train.json; returns the latter.

    Args:
        every: rounds between two checkpoints; 0 for none.
        stand: what `find_checkpoint` found.
    Raises:
        Diverged: if a loss stops being finite.
    """
    folder = setting.folder
    try:
        trained = _train(setting, every, stand)
    except Damaged as error:  # a client's state, of the checkpoint or of this very run
        if (folder.path / CLIENTS).exists():
            folder.quarantine(CLIENTS, str(error))
        _forget_rounds(folder)
        trained = _train(setting, every, None)
    files = [*TRAINED_FILES, *(f"{PERSONAL}/{name}" for name in trained["personal_hashes"])]
    there = {name: digest for name in files if (digest := file_hash(folder.path / name)) is not None}
    made = {"train_id": train_id, **trained, "environment": environment.describe(setting.device), "files": there}
    record = Trained.model_validate(made)
    write_json(folder.path / Trained.FILE, record.known())
    forget_checkpoints(folder)
    return record


def _train(setting: Setting, every: int, stand: State | None) -> dict[str, Any]:
    """Train to the weights' file; what train.json tells of it."""
    skew = _report_partition(setting)
    first = _first_stage(setting, every)
    space = first.space if first else None
    run, known = _run_rounds(setting, space, every, stand)
    personal = _keep_personal(run, setting.folder)
    copy_into(dict(run.net.state_dict()), run.evaluated())
    live = run.net.state_dict()  # where clients' own models are put in turn when they are diagnosed
    weights = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in live.items()
    }
    diagnostics = _diagnose(setting, space, run)
    write_tensors(setting.folder.path / "weights.safetensors", weights)
    metrics = {key: value for key, value in known.items() if key not in ("round", "seconds", "time")}
    return {
        "weight_hash": weight_hash(weights),
        "personal_hashes": personal,
        "metrics": metrics
        | skew
        | diagnostics.metrics()
        | run.report()
        | (first.metrics if first else {})
        | {"rounds": int(known["round"]), "train_seconds": known["seconds"]},
    }


def find_damage(folder: CellFolder) -> str | None:
    """What of a trained cell's files is missing or not what its train.json says; None if nothing is."""
    trained = folder.trained()
    if trained is None:
        return f"{folder.path / 'weights.safetensors'} is missing"
    for name in trained.files:
        if not (folder.path / name).exists():
            return f"{folder.path / name} is missing"
    for name, why in folder.changed(trained.files).items():
        return f"{folder.path / name} is damaged ({why})"
    return None


def _first_stage(setting: Setting, every: int) -> FirstStage | None:
    """For latent diffusion, the trained autoencoder, also written to autoencoder.safetensors."""
    cell, folder = setting.config, setting.folder
    if not cell.is_latent:
        return None
    share = 1.0 if cell.centralized or cell.latent.mode == "central" else cell.training.participation
    images = int(cell.latent.epochs * len(setting.data.train_labels) * share)
    heartbeat = Heartbeat(folder, "autoencoder", max(1, images))
    made = first_stage(setting, heartbeat.tick, Checkpoint(folder.path / AUTOENCODER, every))
    write_tensors(folder.path / "autoencoder.safetensors", made.state())
    return made


def _run_rounds(
    setting: Setting, space: LatentSpace | None, every: int, stand: State | None
) -> tuple[FederatedTraining, dict[str, float]]:
    """All rounds from where the training stands, written to the logs, with the images that are drawn between them.

    Returns:
        The run, and the last round's record with the last known value of what is undefined in it.
    """
    cell, folder, data = setting.config, setting.folder, setting.data
    total = cell.training.rounds * cell.training.local_epochs * len(data.train_labels)
    heartbeat = Heartbeat(folder, "train", max(1, int(total * cell.training.participation)))
    net = setting.network()
    run = setting.training(setting.task(space), net, heartbeat.tick)
    kept: State = {"told": {}, "curve": {}}
    if stand is not None:
        run.restore(stand["run"])
        kept |= stand["kept"]
        heartbeat.tick(kept["told"]["samples"])
    model = Model(net, space.to(setting.device) if space else None, personal_models(run))
    known = not (run.strategy.personal or setting.noisy)  # else clients' losses need passes of their own
    mixes = setting.mixes if known else setting.mixes[:0]
    point, drawn_every = Checkpoint(folder.path / CHECKPOINT, every), cell.evaluation.curve_every
    curve, told = kept["curve"], kept["told"]
    for last in run.rounds():
        told.update(last.as_dict())
        folder.append("clients.jsonl", [{"round": last.round} | visit.as_dict() for visit in run.visits])
        folder.append("steps.jsonl", [_steps(last.round, visit) for visit in run.visits if visit.steps])
        groups = heldout_by_group(run.heldout_errors, data.heldout_labels, mixes)
        folder.append("heldout.jsonl", [{"round": last.round} | groups])
        folder.append("metrics.jsonl", [last.as_dict()])  # last: who sees it finds the others
        if drawn_every and (last.round % drawn_every == 0 or last.round == cell.training.rounds):
            net.eval()
            curve[str(last.round)] = draw(setting, model, cell.evaluation.curve_samples).images
        if point.due(last.round, cell.training.rounds):
            point.save(run, kept | {"logs": folder.log_marks()})
    if curve:
        write_tensors(folder.path / "curve.safetensors", curve)
    return run, told


def _steps(number: int, visit: Visit) -> dict[str, Any]:
    """A line of steps.jsonl; six digits are more than a picture or a smoothed curve can show."""
    return {"round": number, "client": visit.client, "loss": [float(f"{loss:.6g}") for loss in visit.step_losses]}


def personal_models(run: FederatedTraining) -> Personal | None:
    """The clients' own models, None where there is one global model."""
    return Personal([len(indices) for indices in run.clients], run.models) if run.strategy.personal else None


def _keep_personal(run: FederatedTraining, folder: CellFolder) -> dict[str, str]:
    """Write what each client keeps to itself; hashes by file name."""
    hashes = {}
    for number, own in enumerate(run.models() if run.strategy.personal else ()):
        shared = run.server["params"]
        kept = {name: tensor for name, tensor in own.items() if tensor is not shared[name]}
        name = f"{number}.safetensors"
        write_tensors(folder.path / PERSONAL / name, kept)
        hashes[name] = weight_hash(kept)
    return hashes


def _diagnose(setting: Setting, space: LatentSpace | None, run: FederatedTraining) -> Diagnostics:
    """Held-out losses by timestep, class and client, also written as diagnostics.json."""
    data, task = setting.data, run.task
    assert isinstance(task, DiffusionTask)
    views = partial(setting.task, space) if setting.noisy else None
    personal = personal_models(run)
    made = diagnose(task, run.net, data.heldout_labels, data.class_names, setting.mixes, personal, views)
    write_json(setting.folder.path / "diagnostics.json", made.as_dict())
    return made


def _report_partition(setting: Setting) -> dict[str, float]:
    """Write partition.json and its heat map; the scalar skew for the table. Nothing for centralized training."""
    cell, data, folder = setting.config, setting.data, setting.folder
    if cell.centralized:
        return {}
    noise = cell.noise_levels()
    report = partitions.skew_report(data.train_labels.numpy(), setting.parts, data.n_classes, noise)
    write_json(folder.path / "partition.json", report.as_dict())
    beta = "" if cell.beta is None else f", beta = {cell.beta:g}"
    assert cell.partition is not None
    partition_heatmap(
        np.asarray(report.histogram),
        data.class_names,
        folder.path / "partition.png",
        f"{cell.partition.name}, {cell.n_clients} clients{beta}, seed {cell.seed}",
        noise,
    )
    return {"skew_tv": report.total_variation_mean}
