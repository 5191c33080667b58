"""What runs are told: names, tags and numbers, from the records of cells. MLflow is not asked for anything here."""

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config.names import exact_text
from bench.report.metrics import OF_IMAGES
from bench.store.cell_folder import CellFolder
from bench.store.files import Damaged, read_json
from bench.store.grid_folder import PlannedCell

if TYPE_CHECKING:
    from mlflow.entities import Metric

COMPARED = ("heldout_loss", "curve_fid")  # what is held against images seen and bytes, too


def filter_tags(cell: PlannedCell) -> dict[str, str]:
    """What runs are filtered by: the labels of the cell, its partition, data set and number of rounds."""
    config = cell.config
    tags = {
        "partition": (config.get("partition") or {}).get("name"),
        "rounds": (config.get("training") or {}).get("rounds"),
        "dataset": (config.get("data") or {}).get("name"),
    } | cell.labels
    return {key: exact_text(value) for key, value in tags.items() if value is not None}


def final_values(result: Mapping[str, Any]) -> dict[str, float | None]:
    """All that result.json measured by metric name.

    The metrics, floor_* of real images, class_share_<k>, and of the diagnostics heldout_t_<k> by bin of timesteps,
    heldout_class_<k> and heldout_client_<i>; what no image was held out for is left out.
    """
    values = dict(result["metrics"])
    values |= {f"floor_{key}": value for key, value in (result.get("floor") or {}).items()}
    for key, name in (("t_loss", "heldout_t"), ("class_loss", "heldout_class"), ("client_loss", "heldout_client")):
        losses = (result.get("diagnostics") or {}).get(key) or []
        values |= {f"{name}_{k}": loss for k, loss in enumerate(losses) if loss is not None}
    shares = result.get("class_histogram") or []
    return values | {f"class_share_{k}": share for k, share in enumerate(shares)}


def groups(line: Mapping[str, Any]) -> dict[str, float]:
    """A round's held-out loss by class, round_class_<k>, and the spread over clients, round_client_sd and _max."""
    values = {f"round_class_{k}": loss for k, loss in enumerate(line.get("class_loss", [])) if loss is not None}
    clients = [loss for loss in line.get("client_loss", []) if loss is not None]
    if clients:
        values |= {"round_client_sd": statistics.pstdev(clients), "round_client_max": max(clients)}
    return values


# ---------------------------------------------------------------------------------------------- curves

Curves = dict[int, dict[str, float]]  # what is drawn, by round: the time it ended and whatever is known of it


def curves(
    rounds: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]], result: Mapping[str, Any]
) -> Curves:
    """A cell's course by round: time, samples, kilobytes, megabytes, train_loss, heldout_loss, curve_*; what is known.

    Bytes are those that travelled so far, up and down, an autoencoder's among them: it is trained first.
    """
    before = sum(result["metrics"].get(f"autoencoder_bytes_{way}") or 0.0 for way in ("up", "down"))
    found: Curves = {}
    for line in rounds:
        kept = {key: line.get(key) for key in ("time", "samples", "train_loss", "heldout_loss")}
        if line.get("bytes_up") is not None and line.get("bytes_down") is not None:
            travelled = before + line["bytes_up"] + line["bytes_down"]
            kept |= {"kilobytes": travelled / 1e3, "megabytes": travelled / 1e6}
        found[line["round"]] = {key: float(value) for key, value in kept.items() if value is not None}
    for line in scores:
        told = {f"curve_{key}": float(line[key]) for key in OF_IMAGES if key in line and is_finite(line[key])}
        found.setdefault(line["round"], {"time": result["finished"]}).update(told)
    return found


def mean_curves(several: Sequence[Curves]) -> Curves:
    """Means over seeds of what all of them have, the time being that of the last; {} without any."""
    if not several:
        return {}
    made: Curves = {}
    for number in sorted(set.intersection(*(set(one) for one in several))):
        lines = [one[number] for one in several]
        keys = [key for key in lines[0] if all(key in line for line in lines)]
        made[number] = {key: statistics.fmean(line[key] for line in lines) for key in keys}
        made[number]["time"] = max(line["time"] for line in lines)
    return made


def comparable(found: Curves) -> list["Metric"]:
    """`COMPARED` with the images seen, and with the kilobytes travelled, as the step."""
    made: list[Metric] = []
    for line in found.values():
        told = {key: line[key] for key in COMPARED if key in line}
        if "samples" in line:
            named = {f"vs_samples/{key}": value for key, value in told.items()}
            made += metrics(named, line["time"], round(line["samples"]))
        if line.get("kilobytes", 0.0) > 0:  # centralized training has no such axis
            named = {f"vs_kilobytes/{key}": value for key, value in told.items()}
            made += metrics(named, line["time"], round(line["kilobytes"]))
    return made


def by_round(found: Curves, keys: Sequence[str]) -> list["Metric"]:
    """These values of every round, with the round as the step."""
    made: list[Metric] = []
    for number, line in found.items():
        made += metrics({key: line[key] for key in keys if key in line}, line["time"], number)
    return made


# ---------------------------------------------------------------------------------------------- records


def lines_of(folder: CellFolder, name: str, *keys: str) -> list[dict[str, Any]]:
    """The lines of a log, which have these keys; none, with a warning, if it is damaged."""
    try:
        lines = folder.lines(name)
        if not all(line.keys() >= set(keys) for line in lines):
            raise Damaged(f"a line lacks {' or '.join(keys)}")
    except Damaged as error:
        warnings.warn(f"{folder.path / name} is broken ({error}) and is not sent to MLflow", stacklevel=2)
        return []
    return lines


def first_of_each(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a round, in order: the first one counts, so that sending again is sending the same."""
    rounds: dict[int, dict[str, Any]] = {}
    for line in lines:
        rounds.setdefault(line["round"], line)
    return [rounds[number] for number in sorted(rounds)]


def scores_of(folder: CellFolder) -> list[dict[str, Any]]:
    """The scores of images drawn after some rounds; none, with a warning, if their file is damaged."""
    try:
        return list((read_json(folder.path / "curve.json") or {}).get("curve", []))
    except Damaged as error:
        warnings.warn(f"{folder.path / 'curve.json'} is broken ({error}) and is not sent to MLflow", stacklevel=2)
        return []


# ---------------------------------------------------------------------------------------------- MLflow's forms


def metrics(values: Mapping[str, float | None], seconds: float, step: int) -> list["Metric"]:
    """Metrics at one step and time; what is not a finite number becomes NaN."""
    from mlflow.entities import Metric

    bad = not_finite(values)
    when = milliseconds(seconds)
    return [Metric(key, math.nan if key in bad else float(value or 0), when, step) for key, value in values.items()]


def not_finite(values: Mapping[str, float | None]) -> set[str]:
    """Names of values that are no finite number (the store writes them as null)."""
    return {key for key, value in values.items() if not is_finite(value)}


def is_finite(value: float | None) -> bool:
    """Whether it is a number."""
    return value is not None and math.isfinite(value)


def milliseconds(seconds: float) -> int:
    """MLflow's times."""
    return round(seconds * 1000)


def signature(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file does; None while there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
