"""The heat map of a split: how many images of each class each client holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bench.figures.style import save

COUNTED_CLIENTS = 25  # up to so many clients, each count is written into its field


def partition_heatmap(histogram: NDArray[Any], class_names: Sequence[str], path: Path, title: str) -> None:
    """How many images of each class each client holds, with the clients' sizes at the side: the paper's figure 1.

    Args:
        histogram: (n_clients, K) counts.
        class_names: K names.
    """
    n, k = histogram.shape
    counted = n <= COUNTED_CLIENTS
    height = 0.34 * max(n, 2) if counted else min(0.34 * COUNTED_CLIENTS, 0.12 * n)
    figure = Figure(figsize=(2.3 + 0.52 * k, 1.0 + height), layout="constrained")
    fields, sizes = figure.subplots(1, 2, sharey=True, width_ratios=[k, 3])
    image = fields.imshow(histogram, cmap="Blues", aspect="auto", vmin=0)
    long = max(map(len, class_names)) > 3
    fields.set_xticks(
        range(k), class_names, **({"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if long else {})
    )
    fields.yaxis.set_major_locator(MaxNLocator(min(n, COUNTED_CLIENTS), integer=True))
    fields.set(xlabel="class", ylabel="client")
    fields.tick_params(length=0)
    fields.set_title(title, fontsize=10, loc="left")
    fields.spines[:].set_visible(False)
    if counted:
        _write_counts(fields, histogram)
    else:
        figure.colorbar(image, ax=sizes, label="images of a class", fraction=0.2, aspect=40)
    _draw_sizes(sizes, histogram.sum(axis=1), counted)
    save(figure, path)


def _write_counts(axes: Axes, histogram: NDArray[Any]) -> None:
    dark = histogram.max() * 0.55
    for (row, column), count in np.ndenumerate(histogram):
        colour = "white" if count > dark else "black" if count else "#999999"
        axes.text(column, row, f"{count}", ha="center", va="center", fontsize=8, color=colour)


def _draw_sizes(axes: Axes, sizes: NDArray[Any], counted: bool) -> None:
    bars = axes.barh(range(len(sizes)), sizes, height=0.7 if counted else 0.9, color="#9AA5B1")
    axes.tick_params(left=False, labelleft=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("images")
    if counted:
        axes.bar_label(bars, [f"{size:,}" for size in sizes], fontsize=8, padding=3)
        axes.set_xlim(0, 1.55 * sizes.max())
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
