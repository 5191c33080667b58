"""Cells that train in a second, for tests that end them in every way."""

import json
from pathlib import Path
from typing import Any

from bench.cell.job import CellJob
from bench.config.grid_file import load_grid
from bench.run.plan import make_plan
from bench.store.cell_folder import CellFolder
from bench.store.files import read_json, read_lines
from bench.store.grid_folder import Store
from bench.store.records import LOGS

SETTINGS = [
    "training.rounds=4",
    "data.limit=48",
    "training.batch_size=8",
    "n_clients=2",
    "partition=iid",
    "strategy=fedavg",
    "diffusion.T=20",
    "evaluation.n_samples=20",
    "model.widths=[8,8]",
    "model.attention=[false,false]",
]


def jobs_of(results: Path, *settings: str) -> list[CellJob]:
    """The jobs of the smoke grid made tiny; their plan is written into `results`."""
    plan = make_plan(load_grid("smoke", [*SETTINGS, *settings]), results)
    plan.store.write_plan(plan.describe())
    return list(plan.jobs)


def folder_of(job: CellJob) -> CellFolder:
    return Store(job.root).cell(job.cell_id)


def numbers(folder: CellFolder) -> dict[str, Any]:
    """All that a cell's records tell but times, seconds, attempts and what files hold pictures of those."""
    result = read_json(folder.path / "result.json")
    assert result is not None
    left_out = ("environment", "training_environment", "finished", "files")
    kept: dict[str, Any] = {key: value for key, value in result.items() if key not in left_out}
    kept["metrics"] = {key: value for key, value in kept["metrics"].items() if not key.endswith("seconds")}
    kept |= {name: untimed(read_lines(folder.path / name)) for name in LOGS}
    return json.loads(json.dumps(kept))


def untimed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of a log without what tells of time."""
    return [{key: value for key, value in line.items() if key not in ("time", "seconds")} for line in lines]
