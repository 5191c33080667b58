"""Which classes strategies generate, against the data's: label skew loses classes, and this sees it directly."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.pictures.axes import say
from bench.pictures.style import Array, NotApplicable, Style, literal, save
from bench.report.figures.layout import DPI, SMALL
from bench.report.figures.table import frame, read_table
from bench.report.results import Group, Results
from bench.report.stats import half_width

COLUMNS_SHOWN = 4


def class_histograms(results: Results, *paths: Path) -> None:
    """Shares of the classes among the generated images, a row a strategy, a column a split; a line for the data's.

    Raises:
        NotApplicable: if no finished cell tells of its classes.
    """
    table = read_table(results, COLUMNS_SHOWN)
    found = {place: shares for place, group in table.groups.items() if len(shares := generated(group))}
    if not found:
        raise NotApplicable("no finished cell tells which classes it generated")
    real = {name: _real(group for (_, at), group in table.groups.items() if at == name) for name in table.columns}
    several = any(len(shares) > 1 for shares in found.values())
    bars = (
        "bars: shares of generated images, means over seeds with their 95 % t interval, within 0 and 1"
        if several
        else ""
    )
    line = "line: shares of the training images" if any(map(len, real.values())) else ""
    figure, panels = frame(table, 0.36, 0.12, [bars, line, *table.notes], below=0.14, ticks=0.14)
    ends = [shares.mean(axis=0) + _half(shares) for shares in found.values()]
    highest = np.concatenate([*ends, *real.values()]).max()
    for (strategy, name), axes in panels.items():
        if (strategy, name) in found:
            _draw(axes, found[strategy, name], real[name], table.shown.styles[strategy])
        else:
            say(axes, "not known" if (strategy, name) in table.groups else "not finished")
        _finish(axes, 1.05 * min(highest, 1.0), first=name == table.columns[0])
    _name_classes(
        next(iter(table.groups.values())).done[0].class_names, [panels[table.rows[-1], name] for name in table.columns]
    )
    save(figure, *paths, dpi=DPI)


def generated(group: Group) -> Array:
    """Shares of the classes (seeds, K) of those seeds that tell."""
    shares = [cell.result.class_histogram for cell in group.done if cell.result and cell.result.class_histogram]
    return np.array(shares, dtype=float)


def _real(groups: Iterable[Group]) -> Array:
    """Shares of the classes in the training data (K,); (0,) where no client tells."""
    shares = (cell.class_shares for group in groups for cell in group.done)
    return next((known for known in shares if known is not None), np.empty(0))


def _half(shares: Array) -> Array:
    """Of the 95 % t interval of the means over seeds (K,); 0 for one seed."""
    seeds, K = shares.shape
    return half_width(shares.std(axis=0, ddof=1), np.full(K, seeds)) if seeds > 1 else np.zeros(K)


def _draw(axes: Axes, shares: Array, real: Array, style: Style) -> None:
    seeds, K = shares.shape
    axes.bar(range(K), shares.mean(axis=0), color=style.colour, alpha=0.7, width=0.8)
    if seeds > 1:
        axes.errorbar(range(K), shares.mean(axis=0), _half(shares), fmt="none", ecolor="#444444", elinewidth=0.6)
    if len(real) == K:
        axes.step(np.arange(-0.5, K + 0.5), [*real, real[-1]], where="post", color="black", lw=0.8)


def _finish(axes: Axes, top: float, first: bool) -> None:
    axes.set_ylim(0, top)
    axes.yaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=5, length=1.5, pad=1, labelleft=first)
    axes.set_xticks([])
    axes.spines[["top", "right"]].set_visible(False)


def _name_classes(names: Sequence[str], bottom: Sequence[Axes]) -> None:
    """Below the last row, if they are short enough to stand there."""
    if names and max(map(len, names)) <= 2 and len(names) <= 20:
        for axes in bottom:
            axes.set_xticks(range(len(names)), [*map(literal, names)], fontsize=SMALL)
