"""Where a model's held-out loss comes from, a panel a group: timesteps, classes, clients; and its bits/dim."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from bench.figures.style import COLOURS, MARKERS, save


def diagnostics(
    diagnostics: Mapping[str, Any], path: Path, title: str, likelihood: Mapping[str, Any] | None = None
) -> None:
    """Where a model's held-out loss comes from: by timestep, by class and by client, and bits/dim by timestep.

    Args:
        diagnostics: the content of diagnostics.json; without clients their panel is left out.
        likelihood: the content of likelihood.json, None for no panel of it.
    """
    panels: list[Callable[[Axes], None]] = [
        partial(_draw_loss_by_time, told=diagnostics),
        partial(_draw_loss_by_class, told=diagnostics),
    ]
    if diagnostics["client_loss"]:
        panels.append(partial(_draw_loss_by_client, losses=_floats(diagnostics["client_loss"])))
    if likelihood:
        panels.append(partial(_draw_bits_by_time, told=likelihood, edges=diagnostics["t_edges"]))
    figure = Figure(figsize=(0.2 + 2.35 * len(panels), 2.5), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        draw(axes)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3, lw=0.5)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def _floats(values: Sequence[float | None]) -> NDArray[np.float64]:
    """NaN for what is not known."""
    return np.array(values, dtype=float)


def _draw_loss_by_time(axes: Axes, told: Mapping[str, Any]) -> None:
    losses = _floats(told["t_loss"])
    axes.stairs(losses, told["t_edges"], baseline=None, color=COLOURS[0], lw=1.6)
    axes.set_title("held-out loss by timestep", fontsize=8)
    axes.set_xlabel("t", fontsize=8, labelpad=1)
    _log_ticks(axes)


def _draw_loss_by_class(axes: Axes, told: Mapping[str, Any]) -> None:
    losses, names = _floats(told["class_loss"]), told["class_names"]
    axes.bar(range(len(losses)), losses, color=COLOURS[5], width=0.8)
    slanted: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, **(slanted if max(map(len, names), default=0) > 2 else {}))
    axes.set_title("by class", fontsize=8)


def _draw_loss_by_client(axes: Axes, losses: NDArray[np.float64]) -> None:
    """A dot a client, their mean and one standard deviation to both sides."""
    mean, sd = float(np.nanmean(losses)), float(np.nanstd(losses))
    axes.axhspan(mean - sd, mean + sd, color="#999999", alpha=0.25, lw=0)
    axes.axhline(mean, color="#444444", lw=1, ls="--")
    axes.plot(range(len(losses)), losses, MARKERS[0], color=COLOURS[1], markersize=5 if len(losses) <= 50 else 2)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_title(f"by client: {mean:.3g} ± {sd:.2g}", fontsize=8)
    axes.set_xlabel("client", fontsize=8, labelpad=1)
    axes.margins(y=0.15)


def _draw_bits_by_time(axes: Axes, told: Mapping[str, Any], edges: Sequence[int]) -> None:
    """The bound's terms, summed over each bin of timesteps; a bin without a term has no line."""
    held, _ = np.histogram(told["kept"], bins=edges)
    bits, _ = np.histogram(told["kept"], bins=edges, weights=_floats(told["terms"]))
    axes.stairs(np.where(held > 0, bits, np.nan), edges, baseline=None, color=COLOURS[2], lw=1.6)
    axes.set_title(f"{told['bits_per_dim']:.3f} bits/dim by timestep", fontsize=8)
    axes.set_xlabel(f"t (and {told['prior']:.1g} of the prior)", fontsize=8, labelpad=1)
    _log_ticks(axes)


def _log_ticks(axes: Axes) -> None:
    """A log axis with ticks at 1, 2, 5 of each decade, or at whole decades where there are many."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 50 else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
