"""Two results folders against each other: a point a pair of cells, on the diagonal where they agree."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.pictures.style import COLOURS, REFERENCE, save

_COLUMNS = 4  # panels in a row


def agreement(pairs: pd.DataFrame, metrics: Sequence[str], path: Path) -> list[Path]:
    """Draw `path`.pdf and .png: a panel a metric, B over A; returns their paths.

    Args:
        pairs: as `bench.compare.Comparison.pairs`, with METRIC_a, METRIC_b and same_weights; a metric that no pair has
            on both sides gets no panel.
    """
    known = {metric: pairs[[f"{metric}_a", f"{metric}_b"]].astype(float).dropna() for metric in metrics}
    shown = [metric for metric, values in known.items() if len(values)]
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(1.9 * columns, 1.9 * rows + 0.35), layout="constrained")
    for axes, metric in zip(figure.subplots(rows, columns, squeeze=False).flat, shown, strict=False):
        values = known[metric].set_axis(["a", "b"], axis=1)
        _panel(axes, values, pairs.loc[values.index, "same_weights"], metric)
    for axes in figure.axes[len(shown) :]:
        axes.set_axis_off()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    paths = [path.with_suffix(suffix) for suffix in (".png", ".pdf")]
    save(figure, *paths)
    return paths


def _panel(axes: Axes, values: pd.DataFrame, same: pd.Series, metric: str) -> None:
    """One metric: filled points for pairs with the same weights, open ones for others."""
    low, high = values.to_numpy().min(), values.to_numpy().max()
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    ends = (low - room, high + room)
    axes.plot(ends, ends, color=REFERENCE, linewidth=0.7, label="A = B")
    for equal, face, label in ((True, COLOURS[0], "same weights"), (False, "none", "other weights")):
        chosen = values[same == equal]
        axes.scatter(
            chosen["a"], chosen["b"], s=14, facecolors=face, edgecolors=COLOURS[0], linewidths=0.8, label=label
        )
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.set_title(metric, fontsize=8, parse_math=False)
    axes.set_xlabel("A", fontsize=7, labelpad=1)
    axes.set_ylabel("B", fontsize=7, labelpad=1)
    axes.tick_params(labelsize=6)
    axes.locator_params(nbins=3)
