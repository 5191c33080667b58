"""One cell from data to result; everything it writes goes through its folder."""

import faulthandler
import hashlib
import re
import time
import traceback
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from bench.cell import environment
from bench.cell.job import CellJob
from bench.cell.judge import bound, draw_reconstructions, judge, judge_clients, judge_curve
from bench.cell.sample import Generated, generate
from bench.cell.setting import PERSONAL, Model, Setting, load_cell_extractor, load_data
from bench.cell.train import TRAINED_FILES, find_checkpoint, find_damage, forget_checkpoints, train
from bench.config.cell import CellConfig
from bench.config.ids import RESULT_VERSION, likelihood_id
from bench.config.names import cell_name
from bench.data.sets import Dataset
from bench.federation.tasks import Diverged
from bench.federation.tensors import weight_hash
from bench.fidelity.extractors import Extractor
from bench.pictures.of_a_cell import draw_diagnostics, draw_rounds
from bench.store import locks
from bench.store.cell_folder import HANG, CellFolder, Heartbeat
from bench.store.files import NO_FILE, STORAGE_FULL, plain, remove, write_bytes, write_json
from bench.store.grid_folder import Store
from bench.store.records import Curve, Diagnostics, Likelihood, Progress, Result, Round, Status, Trained


def run_cell(job: CellJob) -> None:
    """Run one cell to its result.json, or to an error.json if it raises; not at all if another process is at it.

    No exception leaves it but an interrupt, and an OSError where the disk is full: no other cell could do better then.
    """
    torch.set_num_threads(job.config.threads)
    folder = Store(job.root).cell(job.cell_id)
    with locks.hold(folder.path, job.how.run, job.how.break_locks) as held:
        if not held:
            return
        try:
            folder.mend()
            if folder.ended() or find_timeout(folder):
                return
            with _limited(folder, job.how.timeout):
                _run(job, folder)
        except (Exception, SystemExit) as error:  # whatever a strategy or library raises must cost no other cell
            if isinstance(error, OSError) and error.errno in STORAGE_FULL:
                raise
            status, told = _reason(error)
            folder.fail(status, told, traceback.format_exc())


def _reason(error: BaseException) -> tuple[Status, str]:
    told = f"{type(error).__name__}: {error}"
    if isinstance(error, Diverged):
        return "diverged", told
    no_memory = isinstance(error, RuntimeError) and re.search("can't allocate memory|out of memory", str(error))
    if no_memory or isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "killed", f"out of memory: {told}"
    return "failed", told


@contextmanager
def _limited(folder: CellFolder, seconds: float | None) -> Iterator[None]:
    """End this process after some seconds, leaving in the file `HANG` where it stood: no thread of Python's own could
    end one that hangs in a library.
    """
    if seconds is None:
        yield
        return
    remove(folder.path / HANG)
    with open(folder.path / HANG, "w", encoding="utf-8") as file:
        faulthandler.dump_traceback_later(seconds, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
    (folder.path / HANG).unlink(missing_ok=True)


def find_timeout(folder: CellFolder) -> bool:
    """Whether the last attempt's process ended because its time was over; if so that is recorded."""
    try:
        stood = (folder.path / HANG).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, *NO_FILE):
        return False
    limit = re.match(r"Timeout \(([\d:.]+)\)", stood)
    if limit is None:  # it is open, or of a process that was killed before
        return False
    folder.fail("timeout", f"not done within --timeout, {limit[1]} (hours:minutes:seconds)", stood)
    (folder.path / HANG).unlink()
    return True


def _run(job: CellJob, folder: CellFolder) -> None:
    """The cell from its data to result.json."""
    started = time.perf_counter()
    cell, extractor = job.config, load_cell_extractor(job.config)
    setting = Setting(cell, load_data(cell, job.data_root), job.device, folder, job.root.parent)
    about = _about(job, setting.data, extractor)
    trained = _trained(job, setting, about)
    model = setting.model()
    sampling = time.perf_counter()
    made = generate(setting, model, Heartbeat(folder, "sample", cell.evaluation.n_samples).tick)
    sampled = time.perf_counter()
    likelihood = _likelihood(job, setting, model)
    folder.progress("evaluate", 0.0)
    evaluating = time.perf_counter()
    diagnostics = _diagnostics(folder)
    judged = _evaluate(setting, model, made, extractor, diagnostics)
    _draw(job, setting, model, likelihood, diagnostics)
    ended = time.perf_counter()
    shared = likelihood.model_dump(include={"bits_per_dim", "likelihood_seconds"}) if likelihood else {}
    seconds = {
        "sample_seconds": sampled - sampling,
        "evaluate_seconds": ended - evaluating,
        "cell_seconds": ended - started,
    }
    made_by = {
        "metrics": trained.metrics | judged.pop("metrics") | shared | seconds,
        "weight_hash": _whole_hash(trained),
        "sample_hash": weight_hash({"images": made.images}),
        "environment": environment.describe(job.device),
        "training_environment": trained.environment.known(),
        "finished": time.time(),
        "files": folder.files(),
    }
    result = about | judged | made_by
    Result.checked(plain(result))  # what could not be read again is no result
    write_json(folder.path / Result.FILE, result)
    remove(folder.path / Progress.FILE)


def _about(job: CellJob, data: Dataset, extractor: Extractor) -> dict[str, Any]:
    """What the manifest and the result say of the cell: ids, configuration, data and extractor."""
    return {
        "cell_id": job.cell_id,
        "train_id": job.train_id,
        "result_version": RESULT_VERSION,
        "config": job.config.model_dump(mode="json"),
        "data": describe_data(data, job.config),
        "extractor": describe_extractor(extractor),
    }


def _trained(job: CellJob, setting: Setting, about: dict[str, Any]) -> Trained:
    """Begin the attempt, and train from where an earlier one stands, if no cell was trained by the same settings."""
    folder, known = setting.folder, _reuse(job, setting.folder)
    stand = None if known else find_checkpoint(folder, job.device)
    begun = {"attempt": uuid.uuid4().hex, "started": time.time(), "environment": environment.describe(job.device)}
    folder.begin(about | begun | {"resumed": len(folder.read_log(Round)), "labels": job.labels})
    folder.progress("prepare", 0.0)
    return known or train(setting, job.train_id, job.how.checkpoint_every, stand)


def _diagnostics(folder: CellFolder) -> Diagnostics:
    """What training left of held-out losses.

    Raises:
        FileNotFoundError: if it was removed since.
        Damaged: if it is not what was written.
    """
    found = Diagnostics.read(folder.path)
    if found is None:
        raise FileNotFoundError(f"{folder.path / Diagnostics.FILE} is not there any more")
    return found


def _evaluate(
    setting: Setting, model: Model, made: Generated, extractor: Extractor, diagnostics: Diagnostics
) -> dict[str, Any]:
    """What the samples are worth, as the result has it; what those along training are worth in curve.json."""
    judged = judge(setting, model, made, extractor)
    by_client, clients = judge_clients(setting, made, extractor, diagnostics.client_loss)
    if curve := judge_curve(setting, extractor):
        write_json(setting.folder.path / Curve.FILE, {"curve": curve})
    metrics = judged["metrics"] | by_client
    return judged | {"metrics": metrics, "clients": clients, "diagnostics": diagnostics.known()}


def _draw(
    job: CellJob, setting: Setting, model: Model, likelihood: Likelihood | None, diagnostics: Diagnostics
) -> None:
    """The pictures of reconstructions, held-out losses and rounds."""
    folder, name = setting.folder, cell_name(job.labels)
    if model.space is not None:
        draw_reconstructions(setting, model)
    draw_diagnostics(diagnostics, folder.path / "diagnostics.png", name, likelihood)
    if not job.config.centralized:
        draw_rounds(folder, folder.path / "rounds.png", name)


def _whole_hash(trained: Trained) -> str:
    """The weights' hash; where clients keep their own parts, a SHA-256 over it and theirs, in order."""
    personal = trained.personal_hashes
    if not personal:
        return trained.weight_hash
    parts = [personal[f"{number}.safetensors"] for number in range(len(personal))]
    return hashlib.sha256("".join([trained.weight_hash, *parts]).encode()).hexdigest()


def _reuse(job: CellJob, folder: CellFolder) -> Trained | None:
    """What training measured, if a cell of this grid was already trained by the same settings; its files are copied."""
    for source in Store(job.root).find_trained(job.train_id):
        if (damage := find_damage(source)) is not None:
            warnings.warn(f"{damage}; its training is not used again", stacklevel=2)
            continue
        if source.path != folder.path:
            own = [str(path.relative_to(source.path)) for path in source.path.glob(f"{PERSONAL}/*.safetensors")]
            for name in (*TRAINED_FILES, *own, "train.json"):
                if (source.path / name).exists():
                    write_bytes(folder.path / name, (source.path / name).read_bytes())
        forget_checkpoints(folder)
        return folder.trained()
    return None


def _likelihood(job: CellJob, setting: Setting, model: Model) -> Likelihood | None:
    """Bits/dim of held-out images, where the cell asks for them, also written to likelihood.json.

    Cells that differ in the sampler alone have the same: the first writes the file and the others copy it.
    """
    if not job.config.evaluation.nll:
        return None
    wanted = likelihood_id(job.config, setting.data.digest, job.device)
    known = Store(job.root).find_likelihood(wanted)
    if known is None:
        known = Likelihood(likelihood_id=wanted, **bound(setting, model))
    write_json(setting.folder.path / Likelihood.FILE, known.known())
    return known


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
