"""Sizes in runs: columns or rows of a table, and rows of a figure, in as many parts as the room of each asks for."""

from collections.abc import Sequence
from itertools import combinations


def filled(sizes: Sequence[float], room: float) -> list[list[int]]:
    """Places of sizes in runs as long as the room allows; what does not fit at all stands alone. [[]] without any."""
    runs: list[list[int]] = [[]]
    used = 0.0
    for place, size in enumerate(sizes):
        if runs[-1] and used + size > room + 1e-9:
            runs.append([])
            used = 0.0
        runs[-1].append(place)
        used += size
    return runs


def evened(sizes: Sequence[float], room: float) -> list[list[int]]:
    """As `filled`, in as many runs, of which the longest is as short as can be."""
    fewest = filled(sizes, room)
    sums = sorted({sum(sizes[a:b]) for a, b in combinations(range(len(sizes) + 1), 2)})
    return next((even for size in sums if len(even := filled(sizes, size)) <= len(fewest)), fewest)
