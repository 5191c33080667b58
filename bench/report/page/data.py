"""What the page shows, as JSON. Nothing in it is escaped."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bench.config.cell import flatten
from bench.config.names import axis_value, cell_name
from bench.pictures.style import COLOURS, DASHES, central_styles, strategy_styles
from bench.report.claims import COLUMNS, pooled
from bench.report.curves import column, running_loss
from bench.report.page.sheets import sheet
from bench.report.results import Cell, Results
from bench.report.tables.caption import floor_note, row_warnings, setup
from bench.report.tables.compared import contrasts
from bench.report.tables.contents import Contents
from bench.report.tables.means import page_cells, page_means

REASON = 1000  # letters that are shown of an error
POINTS = 400  # at most so many rounds of a curve
DIGITS = 5

_DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}  # plotly's names
_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "x")


def page_data(results: Results, contents: Contents) -> dict[str, Any]:
    """Everything that the page shows of a grid, see the keys."""
    environments, partitions = Distinct(), Distinct()
    compared = contrasts(contents)
    cells = [cell_data(cell, len(results.cells), environments, partitions) for cell in results.cells]
    return {
        "name": results.name,
        "description": results.description,
        "states": dict(Counter(cell["state"] for cell in cells)),
        "latest": max((cell["time"] for cell in cells if cell["time"]), default=None),
        "setup": setup(contents),
        "warnings": row_warnings(results),
        "floor": floor_note(contents),
        "axes": {axis: results.heading(axis) for axis in (*results.axes, "seed")},
        "looks": looks(results.cells),
        "cells": cells,
        "results": main_table(contents),
        "contrasts": compared.as_json() | {"notes": compared.notes},
        "claims": [] if contents.answers is None else pooled(contents.answers)[list(COLUMNS)].to_dict("records"),
        "environments": environments.values,
        "partitions": partitions.values,
    }


def main_table(contents: Contents) -> dict[str, Any]:
    """`columns`, and `means` and `seeds`, rows of [value, text, note, mark]; `first`: keys of the columns that are
    shown until all are asked for.
    """
    means, cells = page_means(contents).as_json(), page_cells(contents).as_json()
    first = [*contents.axes, "seeds", *(metric.key for metric in contents.first)]
    return {"columns": means["columns"], "means": means["rows"], "seeds": cells["rows"], "first": first}


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


def cell_data(cell: Cell, cells: int, environments: Distinct, partitions: Distinct) -> dict[str, Any]:
    """What the page knows of a cell. Of a grid of many `cells` each has fewer samples."""
    last = cell.rounds[-1] if cell.rounds else None
    made = cell.result or cell.manifest
    data, extractor = (made.data, made.extractor) if made else (None, None)
    of_the_run = {"data": data.known() if data else {}, "extractor": extractor.known() if extractor else {}}
    return {
        "id": cell.cell_id,
        "label": cell_name(cell.labels, "page", cell.titles),
        "labels": {name: axis_value(value, cell.titles) for name, value in cell.labels.items()},
        "state": cell.state,
        "reason": "" if cell.done or cell.failure is None else cell.failure.error[:REASON],
        "round": last.round if last else 0,
        "rounds": cell.config["training"]["rounds"],
        "seconds": rounded(cell.costs["seconds"][-1:])[0] if last else None,
        "time": _time(cell),
        "config": dict(flatten(cell.config | {"of the run": of_the_run})),
        "environment": environments.place(made.environment.known() if made else None),
        "partition": partitions.place(partition(cell, data.class_names if data else ())),
        "curves": curves(cell),
        "sheet": sheet(cell, cells) if cell.done else {"missing": f"the cell is {cell.state}"},
    }


def _time(cell: Cell) -> str | None:
    """When it ended, or its last round did."""
    failed = cell.failure.time if cell.failure else None
    last = cell.rounds[-1].time if cell.rounds else None
    ended = cell.result.finished if cell.result else failed or last
    return None if ended is None else f"{datetime.fromtimestamp(ended, UTC):%Y-%m-%d %H:%M:%S}"


def looks(cells: Sequence[Cell]) -> dict[str, dict[str, str]]:
    """Colour, dash and symbol of each cell's curves, by its id.

    The colour is that of the strategy's family, as in figures, and "" for centralized training; in a grid of one
    strategy each of its settings has a colour. The dash is the split's, of centralized training the strategy's;
    the symbol is that of strategy and further axes.
    """
    kinds, splits = Distinct(), Distinct()
    central = central_styles(list(dict.fromkeys(cell.strategy for cell in cells if cell.central)))
    strategies = dict.fromkeys(cell.strategy for cell in cells if not cell.central)
    colours = {label: style.colour for label, style in strategy_styles(list(strategies)).items()}
    styles = {}
    for cell in cells:
        labels = {name: value for name, value in cell.labels.items() if name != "seed"}
        split = [labels.pop("n_clients"), labels.pop("beta")]
        dash = DASHES[(splits.place(split) or 0) % len(DASHES)]
        kind = 0 if cell.central else kinds.place(labels) or 0
        own = "" if cell.central else COLOURS[kind % len(COLOURS)]
        styles[cell.cell_id] = {
            "colour": colours.get(cell.strategy, "") if len(colours) > 1 else own,
            "dash": _DASHES[central[cell.strategy].dash if cell.central else dash],
            "symbol": _SYMBOLS[kind % len(_SYMBOLS)],
        }
    return styles


def partition(cell: Cell, class_names: Sequence[str]) -> dict[str, Any] | None:
    """A split of the data: its name and counts (clients, classes), and how skewed it is; None where none is known."""
    found = cell.partition
    if found is None:
        return None
    names = {name: cell.labels.get(name) for name in ("n_clients", "beta", "seed")}
    kind = cell.config["partition"]
    return {
        "label": cell_name({"strategy": kind["name"] if kind else "", **names}, "page", cell.titles),
        "seed": cell.labels.get("seed"),
        "histogram": found.histogram,
        "classes": class_names or list(map(str, range(len(found.histogram[0])))),
        "skew": found.total_variation_mean,
    }


def curves(cell: Cell) -> dict[str, Any]:
    """What the page draws of a cell, each a list or a pair of lists x, y; empty where nothing was logged.

    Keys: `axes`, for each x axis its value after each of `rounds`; `validation` and `local` (the mean local loss), a
    value for each of `rounds`; `steps`, the running training loss over fractions of rounds; `fid` over rounds.
    """
    kept = thinned(range(len(cell.rounds)), POINTS)
    rounds = [cell.rounds[number] for number in kept]
    axes = {"images": "samples", "megabytes": "megabytes", "seconds": "seconds"}
    x, y = running_loss(cell.steps, cell.rounds[-1].round if cell.rounds else 0)
    return {
        "rounds": [line.round for line in rounds],
        "axes": {name: rounded(cell.costs[cost][kept]) for name, cost in axes.items()},
        "validation": rounded(column(rounds, "validation_loss")),
        "local": rounded(column(rounds, "train_loss")),
        "steps": [rounded(x), rounded(y)],
        "fid": [rounded(column(cell.drawn, "round")), rounded(column(cell.drawn, "fid"))],
    }


def thinned(values: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the values, evenly spread, the first and the last among them."""
    if len(values) <= count:
        return list(values)
    return [values[k] for k in np.linspace(0, len(values) - 1, count).round().astype(int)]


def rounded(values: ArrayLike) -> list[float | None]:
    """Numbers with `DIGITS` significant digits, None for what is not finite."""
    numbers = np.asarray(values, dtype=float).tolist()
    return [float(f"{number:.{DIGITS}g}") if np.isfinite(number) else None for number in numbers]
