"""Names of cells, splits and axis values, as tables, figures, the page and MLflow write them."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

import partitions
from bench.config.cell import CellConfig, Plugin, field
from bench.config.grid_file import FEDERATED_ONLY, Grid
from bench.plugins import Later

pandas = Later("pandas")  # which a cell's process does without
AXES = ("strategy", "n_clients", "beta")
CENTRALIZED = "centralized"
LOCAL_STEPS = "training.local_steps"  # centralized training has it where it is matched in its steps to a client
MISSING = "--"
SYMBOLS = {"n_clients": "n", "beta": "β"}  # of axes, as papers write them
NO_TITLES: Mapping[str, str] = MappingProxyType({})


def labels(grid: Grid, cell: CellConfig) -> dict[str, Any]:
    """What tells the cell from the grid's others."""
    values = {"strategy": cell.strategy_label, "n_clients": cell.n_clients, "beta": cell.beta, "seed": cell.seed}
    return values | {axis: _label(field(cell, axis)) for axis in grid.extra_axes}


def _label(value: Any) -> Any:
    """A value as JSON has it; a partition by its name and what differs from its defaults."""
    if isinstance(value, Plugin):
        return value.short(partitions.load(value.name)).label
    return list(value) if isinstance(value, tuple) else value


def hashable(value: Any) -> Any:
    """Lists (widths, say) as texts, to group by."""
    return json.dumps(value) if isinstance(value, list) else value


def axis_key(axis: str, value: Any, central: bool = True) -> Any:
    """An axis's value to find a partner by; of a federated autoencoder that is one trained centrally."""
    value = hashable(value)
    if axis == "latent.mode" and central and value == "federated":
        return "central"
    return None if pandas.isna(value) else value


def shared_key(
    labels: Mapping[str, Any], extra_axes: Iterable[str], central: bool = True, matched: bool = False
) -> tuple[Any, ...]:
    """What a cell and the one that it is compared with have in common: the seed, n_clients, beta and further axes.

    With centralized training the seed and the further axes that are not `FEDERATED_ONLY`; where that is `matched` in
    its steps, also their number.
    """
    own = [axis for axis in extra_axes if axis not in FEDERATED_ONLY or (matched and axis == LOCAL_STEPS)]
    axes = ["seed", *own] if central else ["seed", "n_clients", "beta", *extra_axes]
    return tuple(axis_key(axis, labels[axis], central) for axis in axes)


def value_text(value: Any) -> str:
    """An axis's value as people read it: whole numbers without a point, lists and flags as in TOML, `MISSING` for none.

    All digits that a number was given with, so that other values have other texts.
    """
    if isinstance(value, np.bool_ | np.integer):
        value = value.item()
    if isinstance(value, list | bool):
        return json.dumps(value)
    missing = value is None or type(value).__name__ == "NAType"  # pandas', which is not imported for it
    if missing or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if not isinstance(value, float):
        return str(value)
    short = str(int(value)) if value.is_integer() else f"{value:g}"
    return short if float(short) == value else str(value)


def exact_text(value: Any) -> str:
    """Texts as they are, anything else as JSON, so that tags and parameters read as in the grid's file."""
    return value if isinstance(value, str) else json.dumps(value)


def titles(grid: Grid) -> dict[str, str]:
    """What people read for the labels of strategies, and for whatever the grid's [labels] name: also axes and values.

    Strategies of the same title keep their labels.
    """
    by_label = {cell.strategy_label: cell.strategy_title for cell in grid.cells}
    count = Counter(by_label.values())
    return {label: title for label, title in by_label.items() if count[title] == 1} | grid.labels


def axis_value(value: Any, titles: Mapping[str, str] = NO_TITLES) -> str:
    """An axis's value as people read it, by its title if it has one."""
    text = value_text(value)
    return titles.get(text, text) if isinstance(value, str) else text


def cell_name(
    labels: Mapping[str, Any], style: Literal["short", "page"] = "short", titles: Mapping[str, str] = NO_TITLES
) -> str:
    """A cell from its labels: ``fedavg n=5 beta=0.1 seed=0``, or in the page ``fedavg, n 5, beta 0.1, seed 0``."""
    equals, comma = {"short": ("=", " "), "page": (" ", ", ")}[style]
    values = _values(labels, ("strategy",), {"n_clients": "n"}, equals, titles)
    return comma.join([axis_value(labels["strategy"], titles), *values])


def split_name(labels: Mapping[str, Any], titles: Mapping[str, str] = NO_TITLES) -> str:
    """The labels but for strategy and seed, ``n = 5, β = 0.1``, with spaces at which no line is broken."""
    return ", ".join(_values(labels, ("strategy", "seed"), SYMBOLS, "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}", titles))


def _values(
    labels: Mapping[str, Any], without: Iterable[str], names: Mapping[str, str], equals: str, titles: Mapping[str, str]
) -> list[str]:
    """Names of the axes with the cell's values, where it has any."""
    names = dict(names) | dict(titles)
    values = {axis: value for axis, value in labels.items() if axis not in without and value is not None}
    return [f"{names.get(axis, axis)}{equals}{axis_value(value, titles)}" for axis, value in values.items()]
