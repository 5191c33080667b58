"""What rounds.png shows: tables of rounds and clients or classes, from the lines of clients.jsonl and heldout.jsonl."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.figures.split_data import Array
from bench.mixture import spread

CLIENTS_SHOWN = 100  # where each has a row or a bar
OUTCOMES = ("arrived", "part of its steps", "dropped", "failed")


def by_client(visits: Sequence[Mapping[str, Any]], n: int, name: str) -> Array:
    """A value of the updates that arrived (rounds, n), NaN where none did; round 1 stands first."""
    table = np.full((_last_round(visits), n), np.nan)
    for visit in visits:
        if visit["outcome"] == "arrived" and visit[name] is not None:
            table[visit["round"] - 1, visit["client"]] = visit[name]
    return table


def by_member(groups: Sequence[Mapping[str, Any]], name: str) -> Array:
    """Losses of classes or clients (rounds, members), NaN where one is not known; without members where none are."""
    known = [line for line in groups if line.get(name)]
    rows = max((line["round"] for line in known), default=0)
    table = np.full((rows, max((len(line[name]) for line in known), default=0)), np.nan)
    for line in known:
        table[line["round"] - 1, : len(line[name])] = np.array(line[name], dtype=float)
    return table


def outcomes(visits: Sequence[Mapping[str, Any]], n: int) -> Array:
    """What became of visits (rounds, n): 0 for a client that was not drawn, else 1 + the place in `OUTCOMES`."""
    table = np.zeros((_last_round(visits), n))
    for visit in visits:
        partly = visit["outcome"] == "arrived" and visit["work"] < 1
        outcome = OUTCOMES[1] if partly else visit["outcome"]
        table[visit["round"] - 1, visit["client"]] = 1 + OUTCOMES.index(outcome)
    return table


def megabytes(visits: Sequence[Mapping[str, Any]], n: int) -> Array:
    """What travelled to and from each client (2, n): down, up."""
    table = np.zeros((2, n))
    for visit in visits:
        table[:, visit["client"]] += visit["bytes_down"], visit["bytes_up"]
    return table / 1e6


def _last_round(visits: Sequence[Mapping[str, Any]]) -> int:
    return max(visit["round"] for visit in visits)


def some_clients(n: int) -> list[int]:
    """All, or `CLIENTS_SHOWN` of them spread evenly over the numbers."""
    return spread(n, CLIENTS_SHOWN)
