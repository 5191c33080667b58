"""A cell's folder: results/<grid>/<cell_id>/, written atomically, `result.json` last.

Everything that is shown (tables, figures, MLflow) is a function of these files alone. A cell's folder holds

    cell.json            its configuration, ids, digests and environment; written when it starts
    partition.json       sizes, label histogram and skew;  partition.png  its heat map
    metrics.jsonl        a line a round
    clients.jsonl        a line a round and participant: its update, its bytes, whether it arrived
    steps.jsonl          a line a round and client whose update arrived: the local loss of each optimizer step
    validation.jsonl     a line a round: validation loss by class and by client;  rounds.png  a picture of both
    progress.json        how far it is, while it runs
    autoencoder.safetensors  the first stage of latent diffusion
    diagnostics.json     test losses by timestep, class and client;  diagnostics.png  a picture of them
    curve.safetensors    images drawn after some rounds;  curve.json  their scores
    personal/            parts of the model that clients keep to themselves, a file each
    weights.safetensors  the model to be evaluated;  train.json  its hash and what training cost: training is done
    samples.safetensors  the generated images;  samples.png, samples_viridis.png  sheets of them
    samples_clients.png  those of clients' own models, a row each
    film.gif             the reverse chain of the first ones;  reconstructions.png  what the autoencoder keeps
    likelihood.json      bits/dim of test images with their terms
    result.json          all that was measured: its presence means that the cell is done
    error.json           why it failed, with the traceback
    checkpoint.safetensors, checkpoint_autoencoder.safetensors, clients/  where a training that has not ended stands
    lock.json            the process that works at it;  hang.txt  where that stood when its time was over

Records are sealed, train.json and result.json list the files that they rely on with their hashes, and what is damaged
is moved to results/<grid>/.quarantine.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from bench.store import locks
from bench.store.files import QUARANTINE, Damaged, file_hash, plain, quarantine, read_json, remove, write_json
from bench.store.records import LOGS, RECORDS, Failure, Manifest, Progress, R, Record, Result, Status, Trained

WEIGHTS, SAMPLES, CURVE = "weights.safetensors", "samples.safetensors", "curve.safetensors"
HANG = "hang.txt"  # where the process stood when its time was over; see `bench.cell.run`
HEARTBEAT = 0.5  # seconds between two writes of progress.json
CellState = Status | Literal["done", "running", "partial", "todo"]
_UNLISTED = (Result.FILE, Failure.FILE, Progress.FILE, HANG, locks.LOCK)  # by result.json


class CellFolder:
    """The files of one cell."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def cell_id(self) -> str:
        return self.path.name

    def state(self) -> CellState:
        """By the files."""
        result = self.read(Result)
        return self.state_of(result, None if result else self.read(Failure))

    def state_of(self, result: Result | None, failure: Failure | None) -> CellState:
        """By these records: done, how it failed, running, partial (begun, but no process works at it) or todo."""
        if result is not None:
            return "done"
        if failure is not None:
            return failure.status
        if locks.is_locked(self.path):
            return "running"
        return "partial" if (self.path / Manifest.FILE).exists() else "todo"

    def ended(self) -> bool:
        """Whether it is done or failed."""
        return self.read(Result) is not None or self.read(Failure) is not None

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Start an attempt at the cell."""
        self.path.mkdir(parents=True, exist_ok=True)
        remove(self.path / Progress.FILE)
        for path in [path for path in self.path.rglob(".*") if path.is_file()]:  # of writes that were killed
            path.unlink()
        write_json(self.path / Manifest.FILE, manifest)

    def fail(self, status: Status, error: str, traceback: str = "") -> None:
        """Write error.json: the cell has ended."""
        failure = Failure(status=status, error=error, traceback=traceback, time=time.time())
        write_json(self.path / Failure.FILE, failure.known())

    def forget_failure(self) -> None:
        """Remove the records of a failed attempt, so that the cell is run again; its checkpoint stays."""
        for name in (Failure.FILE, HANG):
            remove(self.path / name)

    def files(self) -> dict[str, str | None]:
        """SHA-256 of every file that is not written again after the cell is done, by its path in the folder."""
        paths = sorted(path.relative_to(self.path) for path in self.path.rglob("*") if path.is_file())
        names = [str(path) for path in paths if not any(part.startswith(".") for part in path.parts)]
        return {name: file_hash(self.path / name) for name in names if name not in _UNLISTED}

    def changed(self, files: Mapping[str, str]) -> dict[str, str]:
        """Which of the present files are not as listed, with the reason."""
        reasons = {}
        for name, expected in files.items():
            try:
                if file_hash(self.path / name) not in (None, expected):
                    reasons[name] = "its content is not what was written"
            except Damaged as error:
                reasons[name] = str(error)
        return reasons

    def mend(self) -> None:
        """Move away, with a warning, every file that is damaged and every record that relied on it.

        The remaining files can be trusted; the others are made anew when the cell is run.
        """
        broken: dict[str, str] = {}
        lists: dict[str, dict[str, str]] = {}
        for name in RECORDS:
            try:
                lists[name] = (read_json(self.path / name) or {}).get("files", {})
            except Damaged as error:
                broken[name] = str(error)
        for files in lists.values():
            broken |= self.changed(files)
        for record, files in lists.items():
            if record not in broken and (lost := [name for name in broken if name in files]):
                broken[record] = f"it relies on {', '.join(lost)}"
        # Records first: one that is killed here leaves nothing that relies on what is gone.
        for name in sorted(broken, key=lambda name: RECORDS.index(name) if name in RECORDS else len(RECORDS)):
            self.quarantine(name, broken[name])

    def quarantine(self, name: str, why: str) -> None:
        """Move a file or folder of the cell out of the way, with a warning."""
        quarantine(self.path / name, self.path.parent / QUARANTINE / self.cell_id, why)

    def append(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Add a line for each record to one of `LOGS`. NaN and infinity become null."""
        text = "".join(json.dumps(plain(record), allow_nan=False) + "\n" for record in records)
        with open(self.path / name, "a", encoding="utf-8") as file:
            file.write(text)

    def log_marks(self) -> dict[str, Any]:
        """Length and SHA-256 of each of `LOGS`, for `cut_logs`."""
        texts = {name: (self.path / name).read_bytes() for name in LOGS if (self.path / name).exists()}
        return {name: {"bytes": len(t), "hash": hashlib.sha256(t).hexdigest()} for name, t in texts.items()}

    def cut_logs(self, marks: Mapping[str, Any]) -> None:
        """Cut each of `LOGS` back to its mark; without a mark it is removed.

        Raises:
            Damaged: if the log before the mark has changed since.
        """
        for name in LOGS:
            path = self.path / name
            if name not in marks:
                remove(path)
                continue
            try:
                text = path.read_bytes()[: marks[name]["bytes"]]
            except OSError as error:
                raise Damaged(f"{name}: {error}") from error
            if hashlib.sha256(text).hexdigest() != marks[name]["hash"]:
                raise Damaged(f"{name} is not what it was when the checkpoint was made")
            with open(path, "r+b") as file:
                file.truncate(len(text))

    def progress(self, phase: str, done: float) -> None:
        """Write how far the cell is: `done` in [0, 1] of the phase "prepare", "evaluate" or a phase of training."""
        write_json(self.path / Progress.FILE, {"phase": phase, "done": done}, sync=False)

    def read_progress(self) -> Progress:
        """How far the cell is; the beginning where no record can be read."""
        try:
            return Progress.read(self.path) or Progress()
        except Damaged:  # it is written again within a second
            return Progress()

    def trained(self) -> Trained | None:
        """train.json where training is done and the weights exist, else None."""
        return self.read(Trained) if (self.path / WEIGHTS).exists() else None

    def read(self, kind: type[R]) -> R | None:
        """A record; None, with a warning, for a damaged one or one of another cell."""
        try:
            record = kind.read(self.path)
            if isinstance(record, Manifest | Result) and record.cell_id != self.cell_id:
                raise Damaged(f"it is of cell {record.cell_id}")
        except Damaged as error:
            self.warn(kind, error)
            return None
        return record

    def read_log(self, kind: type[R]) -> list[R]:
        """The lines of a log; of a damaged one none, with a warning."""
        try:
            return kind.read_log(self.path)
        except Damaged as error:
            self.warn(kind, error)
            return []

    def warn(self, kind: type[Record], error: Damaged) -> None:
        """Warn that a record is damaged and not used."""
        warnings.warn(f"{self.path / kind.FILE} is damaged ({error}) and is not used", stacklevel=3)


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
