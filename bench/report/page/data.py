"""What the page tells, as JSON: a function of the store's files alone. Nothing in it is escaped."""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from bench.config.cell import flatten
from bench.config.names import cell_name, value_text
from bench.pictures.style import COLOURS, DASHES
from bench.report.claims import claims
from bench.report.figures.records import record
from bench.report.lines import costs
from bench.report.page.lines import curves, log, rounded
from bench.report.page.results import results
from bench.report.page.sheets import sheet
from bench.report.tables.caption import caption, floor_of, row_warnings
from bench.store.cell_folder import CellFolder
from bench.store.grid_folder import PlannedCell, Store

REASON = 1000  # letters that are shown of an error

_DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}  # plotly's names


def page_data(store: Store) -> dict[str, Any]:
    """Everything that the page shows of a grid, see the keys."""
    plan = store.plan()
    cells = store.planned()
    environments, partitions = Distinct(), Distinct()
    told = [cell_data(store.cell(cell.cell_id), cell, len(cells), environments, partitions) for cell in cells]
    return {
        "name": plan["name"],
        "description": plan["description"],
        "states": dict(Counter(cell["state"] for cell in told)),
        "latest": max((cell["time"] for cell in told if cell["time"]), default=None),
        "caption": caption(store),
        "warnings": row_warnings(store),
        "floor": floor_of(store),
        "axes": ["strategy", "n_clients", "beta", *plan["extra_axes"], "seed"],
        "looks": looks(cells),
        "cells": told,
        "results": results(store),
        "claims": claims(store).to_dict("records"),
        "environments": environments.values,
        "partitions": partitions.values,
    }


class Distinct:
    """Values without their repetitions; what holds one knows its place.

    Attributes:
        values: in the order in which they came.
    """

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int | None:
        """Where the value stands in `values`; None for nothing."""
        if not value:
            return None
        key = json.dumps(value, sort_keys=True)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]


def cell_data(
    folder: CellFolder, cell: PlannedCell, cells: int, environments: Distinct, partitions: Distinct
) -> dict[str, Any]:
    """What the page knows of one cell."""
    result, error = folder.result() or {}, folder.error() or {}
    known = result or folder.manifest() or {}
    lines = log(folder, "metrics.jsonl")
    last = lines[-1] if lines else {}
    finished = result.get("finished") or error.get("time") or last.get("time")
    made = {key: known.get(key) or {} for key in ("data", "extractor", "environment")}
    metrics = result.get("metrics") or {}
    return {
        "id": cell.cell_id,
        "label": cell_name(cell.labels, "page"),
        "labels": {name: value_text(value) for name, value in cell.labels.items()},
        "state": folder.state(),
        "reason": "" if result else str(error.get("error", ""))[:REASON],
        "round": last.get("round", 0),
        "rounds": cell.config["training"]["rounds"],
        "seconds": rounded(costs(lines[-1:], metrics)["seconds"])[0] if lines else None,
        "time": None if finished is None else f"{datetime.fromtimestamp(finished, UTC):%Y-%m-%d %H:%M:%S}",
        "config": dict(flatten(cell.config | {"of the run": {key: made[key] for key in ("data", "extractor")}})),
        "environment": environments.place(made["environment"]),
        "partition": partitions.place(partition(folder, cell, made["data"].get("class_names"))),
        "curves": curves(folder, metrics),
        "sheet": sheet(folder, cells) if result else {"missing": f"the cell is {folder.state()}"},
    }


def looks(cells: list[PlannedCell]) -> dict[str, dict[str, str]]:
    """Each cell's curves by its id: colour by strategy and further axes, none for centralized, and dash by split."""
    kinds, splits = Distinct(), Distinct()
    made = {}
    for cell in cells:
        labels = {name: value for name, value in cell.labels.items() if name != "seed"}
        split = splits.place([labels.pop("n_clients"), labels.pop("beta")]) if labels["n_clients"] is not None else 0
        central = cell.labels["n_clients"] is None
        kind = None if central else kinds.place(labels)
        made[cell.cell_id] = {
            "colour": "" if kind is None else COLOURS[kind % len(COLOURS)],
            "dash": "solid" if central else _DASHES[DASHES[(split or 0) % len(DASHES)]],
        }
    return made


def partition(folder: CellFolder, cell: PlannedCell, class_names: list[str] | None) -> dict[str, Any] | None:
    """A split of the data: its name and counts (clients, classes), and how skewed it is; None where none is known."""
    found = record(folder, "partition.json") or {}
    if not found.get("histogram"):
        return None
    names = {name: cell.labels.get(name) for name in ("n_clients", "beta", "seed")}
    kind = (cell.config.get("partition") or {}).get("name", "")
    return {
        "label": cell_name({"strategy": kind, **names}, "page"),
        "seed": cell.labels.get("seed"),
        "histogram": found["histogram"],
        "classes": class_names or list(map(str, range(len(found["histogram"][0])))),
        "skew": found.get("total_variation_mean"),
    }
