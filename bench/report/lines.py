"""What a cell's training had cost after each round: the x axes of every curve."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.report.curves import Array, column
from bench.report.metrics import METRICS


def costs(lines: Sequence[Mapping[str, Any]], metrics: Mapping[str, float | None]) -> dict[str, Array]:
    """The totals after each round, by the names in `bench.report.metrics.COSTS`, (R,) each; NaN where a line lacks one.

    An autoencoder is trained before the first round, so its bytes and seconds are in all of them.

    Args:
        lines: of metrics.jsonl.
        metrics: of the cell's result; empty before it has one.
    """
    before = sum(metrics.get(key) or 0 for key in METRICS["megabytes"].optional_parts)
    return {
        "megabytes": (column(lines, "bytes_up") + column(lines, "bytes_down") + before) / METRICS["megabytes"].unit,
        "round": column(lines, "round"),
        "samples": column(lines, "samples"),
        "sequential_steps": column(lines, "sequential_steps"),
        "seconds": column(lines, "seconds") + (metrics.get("autoencoder_seconds") or 0),
    }
