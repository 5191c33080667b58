"""Names, tags and numbers of MLflow's runs, from the records of cells; MLflow itself is not asked for anything."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.config.names import exact_text
from bench.report.lines import round_line
from bench.report.metrics import OF_IMAGES
from bench.report.results import Group
from bench.store.grid_folder import PlannedCell
from bench.store.records import Result, Validation

if TYPE_CHECKING:
    from mlflow.entities import Metric

COMPARED = ("validation_loss", "curve_fid")  # metrics that are also shown by images seen and by bytes


def filter_tags(cell: PlannedCell) -> dict[str, str]:
    """Tags to filter runs by: the labels of the cell, its partition, data set and number of rounds."""
    config, partition = cell.config, cell.config["partition"]
    tags = {
        "partition": partition["name"] if partition else None,
        "rounds": config["training"]["rounds"],
        "dataset": config["data"]["name"],
    } | cell.labels
    return {key: exact_text(value) for key, value in tags.items() if value is not None}


def final_values(result: Result) -> dict[str, float | None]:
    """All numbers of result.json by metric name.

    The metrics, floor_* of real images, class_share_<k>, and of the diagnostics test_loss_t_<k> by bin of timesteps,
    test_loss_class_<k> and test_loss_client_<i>, without groups that have no test image.
    """
    values = dict(result.metrics) | {f"floor_{key}": value for key, value in result.floor.items()}
    groups = result.diagnostics
    for name, losses in (("t", groups.t_loss), ("class", groups.class_loss), ("client", groups.client_loss)):
        values |= {f"test_loss_{name}_{k}": loss for k, loss in enumerate(losses) if loss is not None}
    return values | {f"class_share_{k}": share for k, share in enumerate(result.class_histogram)}


def by_group(line: Validation) -> dict[str, float]:
    """A round's validation loss by class, round_class_<k>, and the spread over clients, round_client_sd and _max."""
    values = {f"round_class_{k}": loss for k, loss in enumerate(line.class_loss) if loss is not None}
    clients = [loss for loss in line.client_loss if loss is not None]
    if clients:
        values |= {"round_client_sd": statistics.pstdev(clients), "round_client_max": max(clients)}
    return values


# ---------------------------------------------------------------------------------------------- curves


Course = dict[int, dict[str, float]]  # numbers by round


def course(group: Group) -> Course:
    """Means over all finished seeds, of rounds that all of them have: losses, samples, megabytes, curve_*."""
    names = {name: name for name in ("train_loss", "validation_loss", "samples", "megabytes")}
    names |= {f"curve_{key}": f"drawn {key}" for key in OF_IMAGES}
    means: Course = {}
    for name, y in names.items():
        line = round_line(group, y)
        if line is not None and len(line.values) == len(group.done):
            for number, values in zip(line.x.tolist(), line.values.T.tolist(), strict=True):
                means.setdefault(round(number), {})[name] = statistics.fmean(values)
    return means


def course_metrics(group: Group, means: Course, keys: Sequence[str]) -> list["Metric"]:
    """These values of every round with the round as the step, and `COMPARED` with the images seen, and with the
    kilobytes travelled, as the step.
    """
    ended = max(cell.result.finished for cell in group.done if cell.result)
    times: dict[int, float] = {}
    for line in (line for cell in group.done for line in cell.rounds):
        times[line.round] = max(line.time, times.get(line.round, line.time))
    points: list[Metric] = []
    for number, values in sorted(means.items()):
        time, sent = times.get(number, ended), round(1e6 * values.get("megabytes", 0.0), 3)
        kilobytes = round(sent / 1e3)  # first to whole bytes, so that the last bit of a sum decides no rounding
        compared = {key: values[key] for key in COMPARED if key in values}
        points += metrics({key: values[key] for key in keys if key in values}, time, number)
        if "samples" in values:
            points += metrics({f"vs_samples/{key}": v for key, v in compared.items()}, time, round(values["samples"]))
        if kilobytes > 0:  # centralized training has no such axis
            points += metrics({f"vs_kilobytes/{key}": v for key, v in compared.items()}, time, kilobytes)
    return points


# ---------------------------------------------------------------------------------------------- MLflow's forms


def metrics(values: Mapping[str, float | None], seconds: float, step: int) -> list["Metric"]:
    """Metrics at one step and time; what is not a finite number becomes NaN."""
    from mlflow.entities import Metric

    when = milliseconds(seconds)
    numbers = {
        key: math.nan if value is None or not is_finite(value) else float(value) for key, value in values.items()
    }
    return [Metric(key, value, when, step) for key, value in numbers.items()]


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
