"""The training of a cell: split, autoencoder, rounds, weights; everything is written to its folder."""

import warnings
from typing import Any

import partitions
from bench.cell import environment
from bench.cell.autoencoder import first_stage
from bench.cell.diagnostics import validation_by_group
from bench.cell.sample import draw
from bench.cell.setting import CLIENTS, PERSONAL, FirstStage, Model, Setting
from bench.federation.drive import Checkpoint, Watcher, drive
from bench.federation.ledger import RoundRecord
from bench.federation.mixture import Personal
from bench.federation.rounds import FederatedTraining
from bench.federation.tensors import weight_hash
from bench.store.cell_folder import CURVE, WEIGHTS, CellFolder, Heartbeat
from bench.store.files import Damaged, file_hash, remove, write_bytes, write_json
from bench.store.grid_folder import Store
from bench.store.records import LOGS, Partition, Round, Steps, Trained, Validation, Visit
from bench.store.states import State, write_tensors

# The files of a finished training, beside clients' own parts and train.json, which is written last.
TRAINED_FILES = (Partition.FILE, *LOGS, FirstStage.FILE, CURVE, WEIGHTS)
CHECKPOINT = "checkpoint.safetensors"  # of a training that has not ended
AUTOENCODER = "checkpoint_autoencoder.safetensors"


def find_checkpoint(folder: CellFolder, device: str) -> State | None:
    """The checkpoint of an earlier attempt at the training, with the logs cut back to it; None to begin anew.

    A checkpoint that is damaged, or whose logs are, is moved away with a warning. Without one the earlier attempt is
    removed but for the autoencoder's checkpoint.
    """
    point = Checkpoint(folder.path / CHECKPOINT, 0)
    try:
        state = point.load(device)
        if state is not None:
            folder.cut_logs(state["kept"]["logs"])
            return state
    except Damaged as error:
        folder.quarantine(CHECKPOINT, str(error))
    _forget_rounds(folder)
    return None


def _forget_rounds(folder: CellFolder) -> None:
    if not (folder.path / CLIENTS).is_dir():
        remove(folder.path / CLIENTS)
    for path in folder.path.glob(f"{CLIENTS}/*.safetensors"):
        path.unlink()
    for name in (CHECKPOINT, PERSONAL, CURVE):
        remove(folder.path / name)
    folder.cut_logs({})


def forget_checkpoints(folder: CellFolder) -> None:
    """Remove the files that only an interrupted training needs."""
    for name in (CHECKPOINT, AUTOENCODER, CLIENTS):
        remove(folder.path / name)


def find_damage(folder: CellFolder) -> str | None:
    """Which file of a trained cell is missing or not as its train.json says; None if all are sound."""
    trained = folder.trained()
    if trained is None:
        return f"{folder.path / WEIGHTS} is missing"
    for name in trained.files:
        if not (folder.path / name).exists():
            return f"{folder.path / name} is missing"
    for name, why in folder.changed(trained.files).items():
        return f"{folder.path / name} is damaged ({why})"
    return None


def reuse(store: Store, train_id: str, folder: CellFolder) -> Trained | None:
    """The record of a cell of this grid that was trained by the same settings, whose files are copied; else None."""
    for source in store.find_trained(train_id):
        if (damage := find_damage(source)) is not None:
            warnings.warn(f"{damage}; its training is not used again", stacklevel=2)
            continue
        record = source.trained()
        assert record is not None  # it was found
        names = [name for name in record.files if not name.endswith(".png")]  # older records list a picture, too
        if source.path != folder.path:
            for name in names:
                write_bytes(folder.path / name, (source.path / name).read_bytes())
        record = record.model_copy(update={"files": {name: record.files[name] for name in names}})
        write_json(folder.path / Trained.FILE, record.known())
        forget_checkpoints(folder)
        return record
    return None


def train(
    setting: Setting, train_id: str, every: int = 0, start: State | None = None, until: int | None = None
) -> Trained | None:
    """Train, writing a line a round and `TRAINED_FILES`, then train.json; returns the latter.

    Args:
        every: rounds between two checkpoints; 0 for none.
        start: the checkpoint that `find_checkpoint` found; None to begin anew.
        until: the round after which the training is left with its logs and a checkpoint, and None is returned, unless
            it is the last.
    Raises:
        Diverged: if a loss stops being finite.
    """
    folder = setting.folder
    try:
        trained = _train(setting, every, start, until)
    except Damaged as error:  # a client's state, of the checkpoint or of this very run
        if (folder.path / CLIENTS).exists():
            folder.quarantine(CLIENTS, str(error))
        _forget_rounds(folder)
        trained = _train(setting, every, None, until)
    if trained is None:
        return None
    names = [*TRAINED_FILES, *(f"{PERSONAL}/{name}" for name in trained["personal_hashes"])]
    files = {name: digest for name in names if (digest := file_hash(folder.path / name)) is not None}
    described = {"train_id": train_id, "environment": environment.describe(setting.device), "files": files}
    record = Trained.model_validate(trained | described)
    write_json(folder.path / Trained.FILE, record.known())
    forget_checkpoints(folder)
    return record


def _train(setting: Setting, every: int, start: State | None, until: int | None) -> dict[str, Any] | None:
    """Train to the weights' file; hashes and metrics for train.json. None if it is left before its last round."""
    folder = setting.folder
    metrics = _describe_split(setting)
    autoencoder = _train_autoencoder(setting, every)
    run, last = _train_rounds(setting, Checkpoint(folder.path / CHECKPOINT, every, until), start)
    if last["round"] < setting.config.training.rounds:
        return None
    personal = _keep_personal(run, folder)
    evaluated = run.evaluated()
    weights = {name: evaluated[name] for name in run.net.state_dict()}
    metrics |= run.report() | autoencoder
    write_tensors(folder.path / WEIGHTS, weights)
    measured = {key: value for key, value in last.items() if key not in ("round", "seconds", "time")}
    return {
        "weight_hash": weight_hash(weights),
        "personal_hashes": personal,
        "metrics": measured | metrics | {"rounds": int(last["round"]), "train_seconds": last["seconds"]},
    }


def _describe_split(setting: Setting) -> dict[str, float]:
    """Write partition.json; the skew as a metric. Nothing for centralized training."""
    if setting.config.centralized:
        return {}
    data = setting.data
    report = partitions.skew_report(data.train_labels.numpy(), setting.parts, data.n_classes, setting.noise)
    write_json(setting.folder.path / Partition.FILE, report.as_dict())
    return {"skew_tv": report.total_variation_mean}


def _train_autoencoder(setting: Setting, every: int) -> dict[str, float]:
    """For latent diffusion, train the autoencoder; its metrics."""
    cell, folder = setting.config, setting.folder
    if not cell.is_latent:
        return {}
    share = 1.0 if cell.centralized or cell.latent.mode == "central" else cell.training.participation
    images = int(cell.latent.epochs * len(setting.data.train_labels) * share)
    heartbeat = Heartbeat(folder, "autoencoder", max(1, images))
    return first_stage(setting, heartbeat.tick, Checkpoint(folder.path / AUTOENCODER, every)).metrics


def _train_rounds(
    setting: Setting, point: Checkpoint, start: State | None
) -> tuple[FederatedTraining, dict[str, float]]:
    """The rounds from the checkpoint on, with their logs and the images that are drawn between them.

    Returns:
        The run, and the last round's record; a number that is undefined in it has its last known value.
    """
    cell, folder = setting.config, setting.folder
    total = cell.training.rounds * cell.training.images_a_round(len(setting.data.train_labels), len(setting.parts))
    heartbeat = Heartbeat(folder, "train", max(1, int(total)))
    run, logs, curve = setting.training(heartbeat.tick), _Logs(setting), _Curve(setting)
    drive(run, point, [logs, curve], start)
    if curve.images:
        write_tensors(folder.path / CURVE, curve.images)
    return run, logs.last


class _Logs(Watcher):
    """Appends each round to the cell's logs.

    Attributes:
        last: the last known value of each of a round's numbers.
    """

    def __init__(self, setting: Setting) -> None:
        self.last: dict[str, float] = {}
        self._folder, self._labels = setting.folder, setting.data.validation_labels
        apart = setting.strategy.personal or any(setting.noise)  # then clients' losses need passes of their own
        self._mixes = setting.mixes[:0] if apart else setting.mixes

    def restore(self, kept: State) -> None:
        self.last = kept["told"]

    def after_round(self, run: FederatedTraining, record: RoundRecord) -> None:
        number, folder = {"round": record.round}, self._folder
        folder.append(Visit.FILE, [number | visit.as_dict() for visit in run.visits])
        steps = [visit for visit in run.visits if visit.steps]
        # Six digits are more than a picture or a smoothed curve can show.
        losses = [[float(f"{loss:.6g}") for loss in visit.step_losses] for visit in steps]
        folder.append(
            Steps.FILE,
            [number | {"client": v.client, "loss": loss} for v, loss in zip(steps, losses, strict=True)],
        )
        folder.append(Validation.FILE, [number | validation_by_group(run.validation_errors, self._labels, self._mixes)])
        folder.append(Round.FILE, [record.as_dict()])  # last: who sees it finds the others
        self.last |= record.as_dict()

    def kept(self) -> State:
        return {"told": self.last, "logs": self._folder.log_marks()}


class _Curve(Watcher):
    """Draws images every `evaluation.curve_every` rounds, and after the last.

    Attributes:
        images: uint8 (N, C, H, W) by the round's number as text.
    """

    def __init__(self, setting: Setting) -> None:
        self.images: State = {}
        self._setting = setting

    def restore(self, kept: State) -> None:
        self.images = kept["curve"]

    def after_round(self, run: FederatedTraining, record: RoundRecord) -> None:
        evaluation, rounds = self._setting.config.evaluation, run.training.rounds
        if evaluation.curve_every and (record.round % evaluation.curve_every == 0 or record.round == rounds):
            model = Model(run.net.eval(), self._setting.space, personal_models(run))
            self.images[str(record.round)] = draw(self._setting, model, evaluation.curve_samples).images

    def kept(self) -> State:
        return {"curve": self.images}


def personal_models(run: FederatedTraining) -> Personal | None:
    """The clients' own models, None where there is one global model."""
    return Personal([len(indices) for indices in run.clients], run.models) if run.strategy.personal else None


def _keep_personal(run: FederatedTraining, folder: CellFolder) -> dict[str, str]:
    """Write the part of the model that each client keeps to itself; hashes by file name."""
    hashes = {}
    for number, own in enumerate(run.models() if run.strategy.personal else ()):
        shared = run.server["params"]
        part = {name: tensor for name, tensor in own.items() if tensor is not shared[name]}
        name = f"{number}.safetensors"
        write_tensors(folder.path / PERSONAL / name, part)
        hashes[name] = weight_hash(part)
    return hashes
