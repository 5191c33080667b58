"""A cell to run, as plain data that can go to another process."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.config.cell import CellConfig


@dataclass(frozen=True)
class How:
    """How cells are run; nothing of it changes a number.

    Attributes:
        run: names the run of the command line that they belong to.
        timeout: seconds that one attempt at a cell may take, None for any.
        checkpoint_every: rounds between two checkpoints, 0 for none.
        isolate: whether each cell has a process of its own.
        tries: how often a cell is begun whose own process dies.
        break_locks: whether locks of other hosts are broken.
        until: rounds after which a cell is left as it is, to be gone on with later; None to run it to its result. Of
            all its rounds, or more, there is the training alone.
    """

    run: str = ""
    timeout: float | None = None
    checkpoint_every: int = 1
    isolate: bool = False
    tries: int = 2
    break_locks: bool = False
    until: int | None = None


@dataclass(frozen=True)
class CellJob:
    """A cell to run, with what it needs beside its configuration; plain data, so it can go to another process.

    Attributes:
        root: the grid's folder in the results.
        data_root: where torchvision's files lie, None for data that needs none.
        device: "cpu", "cuda" or "cuda:1", resolved.
        labels: as in `PlannedCell`.
        how: how it is run.
    """

    config: CellConfig
    cell_id: str
    train_id: str
    labels: dict[str, Any]
    root: Path
    data_root: Path | None
    device: str
    how: How = How()


def to_json(job: CellJob) -> str:
    """The job as a text, for `from_json`."""
    places = {"root": str(job.root), "data_root": None if job.data_root is None else str(job.data_root)}
    ids = {"cell_id": job.cell_id, "train_id": job.train_id, "labels": job.labels, "device": job.device}
    return json.dumps({"config": job.config.model_dump(mode="json"), "how": asdict(job.how)} | places | ids)


def from_json(text: str) -> CellJob:
    """What `to_json` wrote."""
    fields = json.loads(text)
    config = CellConfig.model_validate_json(json.dumps(fields.pop("config")))
    root, data_root, how = (fields.pop(name) for name in ("root", "data_root", "how"))
    data_root = None if data_root is None else Path(data_root)
    return CellJob(config=config, root=Path(root), data_root=data_root, how=How(**how), **fields)
