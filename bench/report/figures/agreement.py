"""Two results folders against each other: a point a pair of cells, on the diagonal where they agree."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bench.pictures.style import COLOURS, REFERENCE, save
from bench.report.figures.layout import FIXED, LOOK, Legend, page

_COLUMNS = 4  # panels in a row
_ROW = 1.75  # inches
_POINTS = {True: COLOURS[0], False: "none"}  # face of a pair's point, by whether the weights are the same


def agreement(pairs: pd.DataFrame, metrics: Sequence[str], path: Path) -> list[Path]:
    """Draw `path`.pdf and .png: a panel a metric, B over A; returns their paths.

    Args:
        pairs: as `bench.compare.Comparison.pairs`, with METRIC_a, METRIC_b and same_weights; a metric that no pair has
            on both sides gets no panel.
    """
    known = {metric: pairs[[f"{metric}_a", f"{metric}_b"]].astype(float).dropna() for metric in metrics}
    shown = [metric for metric, values in known.items() if len(values)]
    columns = min(_COLUMNS, len(shown))
    paths = [path.with_suffix(suffix) for suffix in (".png", ".pdf")]
    with rc_context(LOOK | FIXED):
        figure, grid = page(-(-len(shown) // columns), columns, _ROW, _legend())
        for axes, metric in zip(grid.flat, shown, strict=False):
            values = known[metric].set_axis(["a", "b"], axis=1)
            _panel(axes, values, pairs.loc[values.index, "same_weights"], metric)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        save(figure, *paths, dpi=None)
    return paths


def _legend() -> Legend:
    points: dict[str, Any] = {
        "ls": "",
        "marker": "o",
        "markersize": 4,
        "markeredgecolor": COLOURS[0],
        "markeredgewidth": 0.8,
    }
    return [
        ("A = B", Line2D([], [], color=REFERENCE, lw=0.7)),
        *(
            (f"{'same' if same else 'other'} weights", Line2D([], [], mfc=face, **points))
            for same, face in _POINTS.items()
        ),
    ]


def _panel(axes: Axes, values: pd.DataFrame, same: pd.Series, metric: str) -> None:
    """One metric: filled points for pairs with the same weights, open ones for others."""
    low, high = values.to_numpy().min(), values.to_numpy().max()
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    ends = (low - room, high + room)
    axes.plot(ends, ends, color=REFERENCE, linewidth=0.7)
    for equal, face in _POINTS.items():
        chosen = values[same == equal]
        axes.scatter(chosen["a"], chosen["b"], s=14, facecolors=face, edgecolors=COLOURS[0], linewidths=0.8)
    axes.set(xlim=ends, ylim=ends, aspect="equal", title=metric, xlabel="A", ylabel="B")
    axes.locator_params(nbins=3)
