"""Names of cells, splits and axis values, as tables, figures, the page and MLflow write them."""

import json
from collections.abc import Mapping
from typing import Any

import partitions
from bench.config.cell import CellConfig, Plugin, field
from bench.config.grid_file import Grid
from bench.plugins import Later

pandas = Later("pandas")  # which a cell's process does without
AXES = ("strategy", "n_clients", "beta")
CENTRALIZED = "centralized"
MISSING = "--"
_AXIS_NAMES = {"n_clients": "n", "beta": "beta", "seed": "seed"}


def describe(cell: CellConfig) -> str:
    """E.g. ``fedavg n=5 beta=0.1 seed=0``, with the recipe's name where there is one."""
    clients = f" n={cell.n_clients}" if cell.n_clients is not None else ""
    beta = f" beta={cell.beta:g}" if cell.beta is not None else ""
    recipe = f" {cell.recipe}" if cell.recipe is not None else ""
    return f"{cell.strategy_label}{clients}{beta}{recipe} seed={cell.seed}"


def labels(grid: Grid, cell: CellConfig) -> dict[str, Any]:
    """What tells the cell from the grid's others."""
    named: dict[str, Any] = {
        "strategy": cell.strategy_label,
        "n_clients": cell.n_clients,
        "beta": cell.beta,
        "seed": cell.seed,
    }
    for axis in grid.extra_axes:
        value = field(cell, axis)
        named[axis] = (
            _partition_label(value) if axis == "partition" else list(value) if isinstance(value, tuple) else value
        )
    return named


def _partition_label(partition: Plugin | None) -> str | None:
    """Its name and what differs from its defaults; None for centralized training."""
    if partition is None:
        return None
    return partition.short_label(partitions.load(partition.name))


def hashable(value: Any) -> Any:
    """Lists (widths, say) as texts, to group by."""
    return json.dumps(value) if isinstance(value, list) else value


def axis_key(axis: str, value: Any, baseline: str = CENTRALIZED) -> Any:
    """An axis's value to find a partner by; of a federated autoencoder that is one trained centrally."""
    value = hashable(value)
    if axis == "latent.mode" and baseline == CENTRALIZED and value == "federated":
        return "central"
    return None if pandas.isna(value) else value


def label(labels: Mapping[str, Any]) -> str:
    """E.g. "fedavg, n 3, beta 0.1, seed 0": what a cell is called everywhere in the page."""
    parts = [str(labels["strategy"])]
    for name, value in labels.items():
        if name != "strategy" and value is not None:
            parts.append(f"{_AXIS_NAMES.get(name, name)} {label_text(value)}")
    return ", ".join(parts)


def label_text(value: Any) -> str:
    return str(value) if isinstance(value, list) else axis_text(value)


def axis_text(value: Any) -> str:
    """An axis's value: whole numbers without a point, lists as JSON has them, nothing as `MISSING`."""
    if isinstance(value, list):
        return json.dumps(value)
    if pandas.isna(value):
        return MISSING
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def split_label(labels: dict[str, Any]) -> str:
    """Labels but for strategy and seed, e.g. ``n = 5, β = 0.1``, with spaces at which no line is broken."""
    names = {"n_clients": "n", "beta": "β"}
    shown = {key: value for key, value in labels.items() if key not in ("strategy", "seed") and value is not None}
    return ", ".join(
        f"{names.get(key, key)}\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{split_text(value)}" for key, value in shown.items()
    )


def split_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def run_name(labels: Mapping[str, Any]) -> str:
    """A cell's name from its labels, e.g. ``fedavg n=5 beta=0.1 seed=0``."""
    short = {"n_clients": "n"}
    rest = [
        f"{short.get(key, key)}={value:g}" if isinstance(value, float) else f"{short.get(key, key)}={text(value)}"
        for key, value in labels.items()
        if key != "strategy" and value is not None
    ]
    return " ".join([str(labels["strategy"]), *rest])


def text(value: Any) -> str:
    """Texts as they are, anything else as JSON, so that tags and parameters read as in the grid's file."""
    return value if isinstance(value, str) else json.dumps(value)
