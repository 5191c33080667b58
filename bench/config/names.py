"""Names of cells, splits and axis values, as tables, figures, the page and MLflow write them."""

import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

import partitions
from bench.config.cell import CellConfig, Plugin, field
from bench.config.grid_file import Grid
from bench.plugins import Later

pandas = Later("pandas")  # which a cell's process does without
AXES = ("strategy", "n_clients", "beta")
CENTRALIZED = "centralized"
MISSING = "--"


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


def value_text(value: Any) -> str:
    """An axis's value as people read it: whole numbers without a point, lists and flags as in TOML, `MISSING` for none.

    Of numbers with a point six digits; `exact_text` has all.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return json.dumps(value)
    if pandas.isna(value):
        return MISSING
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def exact_text(value: Any) -> str:
    """Texts as they are, anything else as JSON, so that tags and parameters read as in the grid's file."""
    return value if isinstance(value, str) else json.dumps(value)


def cell_name(labels: Mapping[str, Any], style: Literal["short", "page"] = "short") -> str:
    """A cell from its labels: ``fedavg n=5 beta=0.1 seed=0``, or in the page ``fedavg, n 5, beta 0.1, seed 0``."""
    equals, comma = {"short": ("=", " "), "page": (" ", ", ")}[style]
    values = [
        f"{'n' if axis == 'n_clients' else axis}{equals}{value_text(value)}"
        for axis, value in labels.items()
        if axis != "strategy" and value is not None
    ]
    return comma.join([str(labels["strategy"]), *values])


def split_name(labels: Mapping[str, Any]) -> str:
    """The labels but for strategy and seed, ``n = 5, β = 0.1``, with spaces at which no line is broken."""
    symbols, equals = {"n_clients": "n", "beta": "β"}, "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
    return ", ".join(
        f"{symbols.get(axis, axis)}{equals}{value_text(value)}"
        for axis, value in labels.items()
        if axis not in ("strategy", "seed") and value is not None
    )
