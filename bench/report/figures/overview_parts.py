"""What both layouts of the overview share: the curve of the held-out loss and its axes, how a score is written."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from bench.pictures.style import Style
from bench.report.figures.overview_data import Experiment
from bench.store.grid_folder import Store

ROWS_SHOWN = 24  # of experiments or of recipes, with their samples


def draw_curve(axes: Axes, store: Store, experiment: Experiment, style: Style) -> Any:
    """The mean of the seeds' curves and the range in which they lie; returns the line."""
    logs = [store.cell(cell).rounds() for cell in experiment.cells]
    losses = [{line["round"]: loss for line in log if (loss := line.get("heldout_loss")) is not None} for log in logs]
    rounds = sorted(set.intersection(*(set(known) for known in losses)))
    curves = np.array([[known[number] for number in rounds] for known in losses])
    if len(curves) > 1:
        axes.fill_between(rounds, curves.min(axis=0), curves.max(axis=0), color=style.colour, alpha=0.18, lw=0)
    (line,) = axes.plot(
        rounds,
        curves.mean(axis=0),
        style.dash,
        color=style.colour,
        marker=style.marker or ("o" if len(rounds) == 1 else ""),
        markersize=3.5,
        markevery=max(1, len(rounds) // 6),
        lw=2.4 if experiment.central else 1.3,
        zorder=2 if experiment.central else 3,
    )
    return line


def finish_axes(axes: Axes, below: bool) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.tick_params(labelsize=8, labelbottom=below)
    axes.grid(alpha=0.3, lw=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    if below:
        axes.set_xlabel("round", fontsize=9, labelpad=2)


def three_digits(value: float) -> str:
    return f"{value:#.3g}".rstrip(".")
