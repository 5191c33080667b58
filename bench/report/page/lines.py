"""A cell's curves, thinned and rounded for the page."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bench.report.curves import column, running_loss
from bench.report.figures.records import record
from bench.report.lines import costs
from bench.store.cell_folder import CellFolder
from bench.store.files import Damaged

POINTS = 400  # at most so many rounds of a curve
DIGITS = 5


def curves(folder: CellFolder, metrics: Mapping[str, float | None]) -> dict[str, Any]:
    """What the page draws of a cell, each a list or a pair of lists x, y; empty where nothing was logged.

    Keys: `axes`, for each x axis its value after each of `rounds`; `heldout` and `local` (the mean local loss), a
    value for each of `rounds`; `steps`, the running training loss over fractions of rounds; `fid` over rounds.

    Args:
        metrics: of the cell's result; empty before it has one.
    """
    lines = log(folder, "metrics.jsonl")
    kept = thinned(lines, POINTS)
    spent = costs(kept, metrics)
    return {
        "rounds": [line["round"] for line in kept],
        "axes": {
            "images": rounded(spent["samples"]),
            "megabytes": rounded(spent["megabytes"]),
            "seconds": rounded(spent["seconds"]),
        },
        "heldout": _column(kept, "heldout_loss"),
        "local": _column(kept, "train_loss"),
        "steps": _running(folder, lines),
        "fid": _scores(folder),
    }


def _running(folder: CellFolder, lines: Sequence[Mapping[str, Any]]) -> list[list[float | None]]:
    x, y = running_loss(log(folder, "steps.jsonl"), lines[-1]["round"] if lines else 0)
    return [rounded(x), rounded(y)]


def _scores(folder: CellFolder) -> list[list[float | None]]:
    """Rounds and FIDs of the images drawn along training."""
    scores = (record(folder, "curve.json") or {}).get("curve") or []
    return [_column(scores, "round"), _column(scores, "fid")]


def log(folder: CellFolder, name: str) -> list[dict[str, Any]]:
    """The lines of a log; none, with a warning, of one that is broken."""
    try:
        return [line for line in folder.lines(name) if "round" in line]
    except Damaged as error:
        warnings.warn(f"{folder.path / name} is broken ({error}) and not shown", stacklevel=2)
        return []


def thinned(lines: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the lines, evenly spread, the first and the last among them."""
    if len(lines) <= count:
        return list(lines)
    return [lines[k] for k in np.linspace(0, len(lines) - 1, count).round().astype(int)]


def rounded(values: ArrayLike) -> list[float | None]:
    """Numbers with `DIGITS` significant digits, None for what is not finite."""
    numbers = np.asarray(values, dtype=float).tolist()
    return [float(f"{number:.{DIGITS}g}") if np.isfinite(number) else None for number in numbers]


def _column(lines: Sequence[Mapping[str, Any]], key: str) -> list[float | None]:
    return rounded(column(lines, key))
