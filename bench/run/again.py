"""A finished cell run once more, in a temporary folder, and every number compared with what was recorded."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cell import environment
from bench.cell.job import CellJob, How
from bench.cell.run import run_cell
from bench.cell.setting import load_cell_extractor, load_data
from bench.command import print_whole
from bench.config.cell import CellConfig, flatten
from bench.config.errors import ConfigError
from bench.config.ids import RESULT_VERSION, cell_id
from bench.config.names import cell_name
from bench.store.cell_folder import LOGS, CellFolder
from bench.store.files import Damaged, read_json, read_lines
from bench.store.grid_folder import PlannedCell, Store
from bench.store.records import Failure, Result

RECORDS = ("result.json", "partition.json", "likelihood.json", "curve.json")
# Left out at any depth: of when, where and how fast; hashes of files that hold such; what the cell's id says already.
PASSING = ("time", "seconds", "started", "finished", "environment", "training_environment", "attempt", "files")
GIVEN = ("cell_id", "train_id", "likelihood_id", "result_version", "config", "data", "extractor")
SAME, DIFFERENT = 0, 1
SHOWN = 20  # differences of a cell that are printed


@dataclass(frozen=True)
class Verdict:
    """What became of one cell.

    Attributes:
        lines: damaged files, why it does not run any more, what differs and likely causes; none if it is the same.
        weights: first digits of the weight hash, recorded and now; "-" where there is none.
        compared: how many values were.
    """

    cell: PlannedCell
    lines: Sequence[str]
    weights: tuple[str, str] = ("-", "-")
    compared: int = 0


# ----------------------------------------------------------------------------------------------------- one cell


def verify(store: Store, cell: PlannedCell, data_root: Path | None, console: Console) -> Verdict:
    """Run the cell once more and compare.

    Raises:
        ConfigError: if it cannot be run here: other data, another extractor, device or version.
    """
    folder = store.cell(cell.cell_id)
    try:
        before, recorded = measured(folder), Result.read(folder.path)
    except Damaged as error:
        return Verdict(cell, [f"{folder.path} holds a damaged file: {error}"])
    assert recorded is not None  # the cell was chosen for it
    try:
        job = make_job(cell, recorded, data_root)
    except ValueError as error:
        raise ConfigError(f"cell {cell.cell_id}: {error}") from error
    changed = [f"{folder.path / name}: {why}" for name, why in folder.changed(recorded.files).items()]
    with console.status(Text(cell_name(cell.labels))):
        result, now, failure = run_again(job)
    weights = short_hash(recorded), short_hash(result)
    if failure is not None:
        return Verdict(cell, [*changed, f"it does not run any more: {failure.error}"], weights)
    lines = difference_lines(differences(before, now), causes(recorded, job.device))
    return Verdict(cell, [*changed, *lines], weights, len(before.keys() | now.keys()))


def read_config(cell: PlannedCell) -> CellConfig:
    """The cell's configuration.

    Raises:
        ValueError: if this version of the harness does not take it.
    """
    try:
        return CellConfig.model_validate_json(json.dumps(cell.config))
    except ValueError as error:
        raise ValueError(f"its configuration is not one of this version: {' '.join(str(error).split())}") from error


def make_job(cell: PlannedCell, recorded: Result, data_root: Path | None) -> CellJob:
    """The job that made the cell, its folder aside.

    Raises:
        ValueError: if the data, the extractor, the device or the version is not that of the record.
    """
    config = read_config(cell)
    data = load_data(config, data_root.resolve() if data_root is not None else None)
    extractor = load_cell_extractor(config)
    for what, used, digest in (
        ("data", recorded.data, data.digest),
        ("extractor", recorded.extractor, extractor.digest),
    ):
        if used is None or used.digest != digest:
            name, before = (used.name, used.digest) if used else ("unknown", "unknown")
            raise ValueError(
                f"its {what} ({name}) had the digest {before}, those here have {digest}: its numbers cannot be the same"
            )
    ids = {cell_id(config, data.digest, extractor.digest, device): device for device in ("cpu", "cuda")}
    if cell.cell_id not in ids:
        version = "another one" if recorded.result_version is None else recorded.result_version
        raise ValueError(
            f"it was made by another version: its RESULT_VERSION is {version}, here it is {RESULT_VERSION}; or its "
            "configuration in grid.json was changed since"
        )
    device = ids[cell.cell_id]
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"it was made on {recorded.environment.device}, and this torch sees no CUDA device; verify it where there "
            "is one"
        )
    return CellJob(config, cell.cell_id, cell.train_id, cell.labels, Path(), data_root, device, How(checkpoint_every=0))


def run_again(job: CellJob) -> tuple[Result | None, dict[str, Any], Failure | None]:
    """Run the job in a temporary folder: its result, all that it measured, and why it failed if it did.

    Raises:
        ConfigError: if there is no room for temporary files.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="bench-verify-") as scratch:
            root = Path(scratch) / "again"  # caches go beside it
            run_cell(replace(job, root=root))
            folder = Store(root).cell(job.cell_id)
            return folder.read(Result), measured(folder), folder.read(Failure)
    except OSError as error:
        raise ConfigError(f"the temporary folder {tempfile.gettempdir()} cannot be used: {error}") from error


# ------------------------------------------------------------------------------------------------------ comparing


def measured(folder: CellFolder) -> dict[str, Any]:
    """Every number, text and hash that a cell's records and logs tell, by file and dotted key.

    Left out is what may differ from run to run (`PASSING`), and what is known before (`GIVEN`).

    Raises:
        Damaged: if one of the files cannot be read; the message names it.
    """
    values: dict[str, Any] = {}
    for name in (*RECORDS, *LOGS):
        try:
            content = read_lines(folder.path / name) if name in LOGS else read_json(folder.path / name)
        except Damaged as error:
            raise Damaged(f"{name}: {error}") from error
        values |= leaves(content, name) if content else {}
    return values


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """What nested JSON holds, by name; an item of a list is known by its number, from 0."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in (*PASSING, *GIVEN) and not key.endswith("_seconds"):
                yield from leaves(item, f"{name} {key}" if name.endswith(".json") else f"{name}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, f"{name}[{number}]")
    else:
        yield name, value


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Key, recorded and now, of what is not the same to the last bit; "missing" for what only one has."""
    keys = dict.fromkeys([*recorded, *now])
    pairs = [(key, recorded.get(key, "missing"), now.get(key, "missing")) for key in keys]
    return [(key, before, after) for key, before, after in pairs if before != after]


def causes(recorded: Result, device: str) -> list[str]:
    """What is not here as it was when the cell was trained and judged, e.g. ``torch 2.12.0, now 2.13.0``."""
    now = dict(flatten(environment.describe(device)))
    then = [pair for e in (recorded.training_environment, recorded.environment) for pair in flatten(e.known())]
    changed = [(name.removeprefix("packages."), old, now.get(name)) for name, old in then if old != now.get(name)]
    return list(dict.fromkeys(f"{name} {old}, now {new}" for name, old, new in changed))


def short_hash(result: Result | None) -> str:
    """The first digits of the weight hash."""
    return "-" if result is None or result.weight_hash is None else result.weight_hash[:12]


# ------------------------------------------------------------------------------------------------- what is printed


def difference_lines(changed: Sequence[tuple[str, Any, Any]], reasons: Sequence[str]) -> Iterator[str]:
    """A line for each difference up to `SHOWN`, and one for their likely causes."""
    for key, before, after in changed[:SHOWN]:
        yield f"{key}: recorded {before}, now {after}"
    if len(changed) > SHOWN:
        yield f"and {len(changed) - SHOWN} more"
    if changed and reasons:
        yield f"a likely cause: {'; '.join(reasons)}"


def report(verdicts: Sequence[Verdict], console: Console) -> int:
    """Print what differs and a table of all cells; returns the exit code."""
    table = Table(title="cells run again", title_justify="left")
    for name in ("cell", "experiment", "weights recorded", "weights now", "compared", "verdict"):
        table.add_column(name, justify="right" if name == "compared" else "left", no_wrap=True)
    for v in verdicts:
        experiment = cell_name(v.cell.labels)
        if v.lines:
            console.print(f"{v.cell.cell_id} {experiment}:", *v.lines, sep="\n  ")
        outcome = Text("different", "bold red") if v.lines else Text("same", "green")
        table.add_row(v.cell.cell_id, Text(experiment), *v.weights, str(v.compared), outcome)
    print_whole(console, table)
    return DIFFERENT if any(v.lines for v in verdicts) else SAME
