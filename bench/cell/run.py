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
from bench.cell.judge import judge, judge_likelihood
from bench.cell.sample import generate
from bench.cell.setting import Setting, load_cell_extractor, load_data
from bench.cell.train import find_checkpoint, reuse, train
from bench.config.ids import RESULT_VERSION
from bench.federation.tasks import Diverged
from bench.federation.tensors import weight_hash
from bench.fidelity.extractors import Extractor
from bench.store import locks
from bench.store.cell_folder import HANG, CellFolder, Heartbeat
from bench.store.files import NO_FILE, STORAGE_FULL, Damaged, plain, remove, write_json
from bench.store.grid_folder import Store
from bench.store.records import Progress, Result, Round, Status, Trained


def ended(job: CellJob) -> bool:
    """Whether nothing is left to do: the cell is done, failed, or trained as far as the job asks for."""
    folder, until = Store(job.root).cell(job.cell_id), job.how.until
    if until is None or folder.ended():
        return folder.ended()
    if until >= job.config.training.rounds:
        return folder.trained() is not None
    return trained_rounds(folder) >= until


def trained_rounds(folder: CellFolder) -> int:
    """How many rounds the cell has been trained for."""
    return max((line.round for line in rounds_so_far(folder)), default=0)


def rounds_so_far(folder: CellFolder) -> list[Round]:
    """The rounds so far; none while what is there cannot be read: whoever runs the cell mends it."""
    try:
        return Round.read_log(folder.path)
    except Damaged:
        return []


def run_cell(job: CellJob) -> None:
    """Run one cell to its result.json, or to an error.json if it raises; not at all if another process is at it.

    A job that has `How.until` is trained alone, so far.

    No exception leaves it but an interrupt, and an OSError where the disk is full: no other cell could do better then.
    """
    torch.set_num_threads(job.config.threads)
    folder = Store(job.root).cell(job.cell_id)
    with locks.hold(folder.path, job.how.run, job.how.break_locks) as held:
        if not held:
            return
        try:
            folder.mend()
            if ended(job) or find_timeout(folder):
                return
            with _limited(folder, job.how.timeout):
                _run(job, folder)
        except (Exception, SystemExit) as error:  # whatever a strategy or library raises must cost no other cell
            if isinstance(error, OSError) and error.errno in STORAGE_FULL:
                raise
            status, message = _reason(error)
            record_failure(folder, status, message, traceback.format_exc())


def _run(job: CellJob, folder: CellFolder) -> None:
    """The cell from its data to result.json."""
    from bench.pictures.of_a_cell import draw  # matplotlib: half a second

    started = time.perf_counter()
    cell, store, extractor = job.config, Store(job.root), load_cell_extractor(job.config)
    setting = Setting(cell, load_data(cell, job.data_root), job.device, folder, job.root.parent)
    about = _about(job, setting, extractor)

    trained = _trained(job, setting, about)
    if trained is None or job.how.until is not None:
        remove(folder.path / Progress.FILE)
        return
    model = setting.model()

    sampling = time.perf_counter()
    samples = generate(setting, model, Heartbeat(folder, "sample", cell.evaluation.n_samples).tick)
    sampled = time.perf_counter()

    likelihood = judge_likelihood(setting, model, store)
    folder.progress("evaluate", 0.0)
    evaluating = time.perf_counter()
    judged = judge(setting, model, samples, extractor)
    draw(folder)
    ended = time.perf_counter()

    bits = likelihood.model_dump(include={"bits_per_dim", "likelihood_seconds"}) if likelihood else {}
    seconds = {
        "sample_seconds": sampled - sampling,
        "evaluate_seconds": ended - evaluating,
        "cell_seconds": ended - started,
    }
    provenance = {
        "metrics": trained.metrics | judged.pop("metrics") | bits | seconds,
        "weight_hash": _whole_hash(trained),
        "sample_hash": weight_hash({"images": samples.images}),
        "environment": environment.describe(job.device),
        "training_environment": trained.environment.known(),
        "finished": time.time(),
        "files": folder.files(),
    }
    result = about | judged | provenance
    Result.checked(plain(result))  # what could not be read again is no result
    write_json(folder.path / Result.FILE, result)
    remove(folder.path / Progress.FILE)


def _about(job: CellJob, setting: Setting, extractor: Extractor) -> dict[str, Any]:
    """What the manifest and the result say of the cell: ids, configuration, data and extractor."""
    data = setting.data
    return {
        "cell_id": job.cell_id,
        "train_id": job.train_id,
        "result_version": RESULT_VERSION,
        "config": job.config.model_dump(mode="json"),
        "data": {
            "name": data.name,
            "digest": data.digest,
            "size": data.image_size,
            "fit": job.config.data.fit,
            "n_train": len(data.train_images),
            "n_validation": len(data.validation_images),
            "n_test": len(data.test_images),
            "class_names": list(data.class_names),
        },
        "extractor": {
            "name": extractor.name,
            "digest": extractor.digest,
            "feature_width": extractor.feature_width,
            "test_accuracy": extractor.test_accuracy,
        },
    }


def _trained(job: CellJob, setting: Setting, about: dict[str, Any]) -> Trained | None:
    """Begin the attempt, and train from an earlier one's checkpoint on if no cell was trained by the same settings.

    None if the training is left before its last round.
    """
    folder = setting.folder
    trained = reuse(Store(job.root), job.train_id, folder)
    checkpoint = None if trained else find_checkpoint(folder, job.device)
    begun = {"attempt": uuid.uuid4().hex, "started": time.time(), "environment": environment.describe(job.device)}
    folder.begin(about | begun | {"resumed": len(folder.read_log(Round)), "labels": job.labels})
    folder.progress("prepare", 0.0)
    return trained or train(setting, job.train_id, job.how.checkpoint_every, checkpoint, job.how.until)


def _whole_hash(trained: Trained) -> str:
    """The weights' hash; where clients keep their own parts, a SHA-256 over it and theirs, in order."""
    personal = trained.personal_hashes
    if not personal:
        return trained.weight_hash
    parts = [personal[f"{number}.safetensors"] for number in range(len(personal))]
    return hashlib.sha256("".join([trained.weight_hash, *parts]).encode()).hexdigest()


def _reason(error: BaseException) -> tuple[Status, str]:
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, Diverged):
        return "diverged", message
    no_memory = isinstance(error, RuntimeError) and re.search("can't allocate memory|out of memory", str(error))
    if no_memory or isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "killed", f"out of memory: {message}"
    return "failed", message


def record_failure(folder: CellFolder, status: Status, message: str, trace: str = "") -> None:
    """Write error.json, after a picture of the split on which the cell failed.

    A picture that cannot be drawn costs a warning, and neither the record nor another cell.
    """
    try:
        from bench.pictures.of_a_cell import draw_partition  # matplotlib: half a second

        draw_partition(folder)
    except Exception as error:  # noqa: BLE001 - whatever a drawing raises must cost no other cell
        why = f"{type(error).__name__}: {error}"
        warnings.warn(f"{folder.path / 'partition.png'} is not drawn ({why})", stacklevel=2)
    finally:
        folder.fail(status, message, trace)


@contextmanager
def _limited(folder: CellFolder, seconds: float | None) -> Iterator[None]:
    """End this process after some seconds, and write the stacks of its threads to the file `HANG`: no thread of
    Python's own could end one that hangs in a library.
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
    """Whether the last attempt's process ended because its time was over; if so, record that."""
    try:
        stacks = (folder.path / HANG).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, *NO_FILE):
        return False
    limit = re.match(r"Timeout \(([\d:.]+)\)", stacks)
    if limit is None:  # it is open, or of a process that was killed before
        return False
    record_failure(folder, "timeout", f"not done within --timeout, {limit[1]} (hours:minutes:seconds)", stacks)
    (folder.path / HANG).unlink()
    return True
