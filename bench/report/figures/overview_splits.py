"""The overview by split: held-out loss by round in a panel each, then samples, FID and classes of each experiment."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from bench.pictures.sheets import filled, tile
from bench.pictures.style import COLOURS, DASHES, MARKERS, REFERENCE, Style, literal, save
from bench.report.curves import Array
from bench.report.figures.layout import heights
from bench.report.figures.overview_parts import ROWS_SHOWN, draw_curve, finish_axes, loss_line, three_digits
from bench.report.lines import seeds_note
from bench.report.results import Group, Results

SAMPLES_SHOWN = 10  # of each experiment
PANELS_SHOWN = 24
PANELS_A_ROW = 4
_WIDTH = 9.6  # inches, of the picture


def draw_splits(results: Results, *paths: Path) -> None:
    """Curves of each split above, a row a group below; a note says what is left out."""
    groups = results.finished
    panels = _panels(groups)[:PANELS_SHOWN]
    shown = groups[:ROWS_SHOWN]
    styles = _styles(groups)
    inches = [_panels_height(panels, styles), 0.45 + _row_height(shown) * len(shown)]
    figure = Figure(figsize=(_WIDTH, sum(inches)))
    grid = figure.add_gridspec(2, 1, height_ratios=inches)
    top, bottom = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    _draw_panels(top, panels, styles, inches[0])
    _draw_rows(bottom, shown, styles, inches[1], _label_mix(results))
    if note := _note(results):
        bottom.text(0.2, 0.05 / inches[1], note, va="bottom", fontsize=7, color="#555555")
    save(figure, *paths)


def _note(results: Results) -> str:
    """What the bands are, and what the picture leaves out."""
    groups = results.finished
    lines = [line for group in groups if (line := loss_line(group)) is not None]
    more = f"{len(groups) - ROWS_SHOWN} more experiments are not shown" if len(groups) > ROWS_SHOWN else ""
    return "; ".join(part for part in (*results.unfinished(), seeds_note(lines), more) if part)


def _panels(groups: Sequence[Group]) -> list[list[Group]]:
    """What is drawn together: each split's groups, and centralized training with every one."""
    central = [group for group in groups if group.central]
    splits = dict.fromkeys(group.split for group in groups if not group.central)
    panels = [[*central, *(g for g in groups if g.split == split and not g.central)] for split in splits]
    return panels or [central]


def _styles(groups: Sequence[Group]) -> dict[str, Style]:
    """By label: black for centralized training, a colour, dash and marker for each strategy."""
    central = list(dict.fromkeys(_line_label(group) for group in groups if group.central))
    others = list(dict.fromkeys(group.strategy for group in groups if not group.central))
    marks = ("", *MARKERS)
    styles = {
        label: Style(REFERENCE, DASHES[i % len(DASHES)], marks[i // len(DASHES) % len(marks)])
        for i, label in enumerate(central)
    }
    for i, label in enumerate(others):
        dash = DASHES[(i + i // len(COLOURS)) % len(DASHES)]
        styles[label] = Style(COLOURS[i % len(COLOURS)], dash, MARKERS[i % len(MARKERS)])
    return styles


def _line_label(group: Group) -> str:
    """Centralized training on a further axis has no panel of its own, so its line says where it stands."""
    parts = [group.strategy, group.split if group.central else ""]
    return ", ".join(part for part in parts if part)


def _legend_columns(styles: dict[str, Style]) -> int:
    return max(1, min(len(styles), 120 // (8 + max(map(len, styles), default=0))))


def _panels_height(panels: Sequence[Sequence[Group]], styles: dict[str, Style]) -> float:
    """Inches: the legend's lines and the panels'."""
    return 0.35 + 0.2 * -(-len(styles) // _legend_columns(styles)) + 2.0 * -(-len(panels) // PANELS_A_ROW)


def _draw_panels(figure: SubFigure, panels: Sequence[Sequence[Group]], styles: dict[str, Style], height: float) -> None:
    lines = -(-len(panels) // PANELS_A_ROW)
    columns = -(-len(panels) // lines)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    legend_lines = -(-len(styles) // _legend_columns(styles))
    top = 1 - (0.35 + 0.2 * legend_lines) / height
    figure.subplots_adjust(0.075, 0.5 / height, 0.99, top, wspace=0.06, hspace=0.3)
    handles: dict[str, Any] = {}
    for number, axes in enumerate(grid.flat):
        if number >= len(panels):
            axes.set_visible(False)
            continue
        for group in panels[number]:
            label = _line_label(group)
            if (drawn := draw_curve(axes, group, styles[label])) is not None:
                handles[label] = drawn
        split = next((group.split for group in panels[number] if not group.central), "")
        axes.set_title(literal(textwrap.fill(split, 120 // columns)), fontsize=9, pad=3)
        finish_axes(axes, below=number + columns >= len(panels))
    if ends := heights([line for panel in panels for group in panel if (line := loss_line(group)) is not None]):
        grid[0, 0].set_ylim(ends[0] / 1.05, ends[1] * 1.05)
    figure.supylabel("held-out loss", x=0.005, y=(0.5 / height + top) / 2, fontsize=9)
    figure.legend(
        handles.values(),
        map(literal, handles),
        loc="upper center",
        ncols=_legend_columns(styles),
        frameon=False,
        fontsize=9,
        borderaxespad=0.2,
    )


def _row_height(shown: Sequence[Group]) -> float:
    """Inches: enough for the pictures and for the names beside them."""
    return max([0.68, *(0.13 + 0.145 * (len(_name_lines(e)) + len(_split_lines(e)) + 1) for e in shown)])


def _name_lines(group: Group) -> list[str]:
    """The strategy's name, then its hyper-parameters."""
    name, bracket, values = group.strategy.partition("(")
    return [*textwrap.wrap(name, 20), *textwrap.wrap(bracket + values, 20)]


def _split_lines(group: Group) -> list[str]:
    return textwrap.wrap(group.split, 30)


def _draw_rows(
    figure: SubFigure, shown: Sequence[Group], styles: dict[str, Style], height: float, mix: Array | None
) -> None:
    """A row a group: its name and FID, its first samples, the classes of all its samples; `mix` of the data's."""
    grid = figure.subplots(len(shown), 2, squeeze=False, width_ratios=[5.2, 1.6])
    figure.subplots_adjust(0.2, 0.22 / height, 0.99, 1 - 0.23 / height, wspace=0.06, hspace=0.1)
    shares = [result.class_histogram if (result := group.done[0].result) else () for group in shown]
    top = max((max(known, default=0.0) for known in shares), default=0.0)
    for (pictures, classes), group, known in zip(grid, shown, shares, strict=True):
        style = styles[_line_label(group)]
        _draw_samples(pictures, group, style)
        _draw_classes(classes, known, style, 1.08 * top, mix)
    names = shown[0].done[0].class_names
    if len(names) and max(map(len, names)) <= 2:
        grid[-1, 1].set_xticks(range(len(names)), map(literal, names), fontsize=7)
    grid[0, 0].set_title(f"first {SAMPLES_SHOWN} samples", fontsize=9, pad=3)
    grid[0, 1].set_title("classes" + (" (line: data)" if mix is not None else ""), fontsize=9, pad=3)


def _draw_samples(axes: Axes, group: Group, style: Style) -> None:
    axes.set_axis_off()
    axes.set_anchor("W")
    images = group.done[0].images(SAMPLES_SHOWN)
    if images is not None:
        images = filled(images, SAMPLES_SHOWN)
        axes.imshow(tile(images, SAMPLES_SHOWN, scale=4, line=4, colour=255), interpolation="nearest", aspect="equal")
    else:
        axes.text(0.5, 0.5, "samples.safetensors was removed", transform=axes.transAxes, ha="center", fontsize=8)
    name = _name_lines(group)
    below = [*_split_lines(group), _fid_text(group)]
    place: dict[str, Any] = {"ha": "right", "va": "top", "linespacing": 1.15, "xycoords": "axes fraction"}
    place |= {"textcoords": "offset points", "annotation_clip": False}
    axes.annotate(literal("\n".join(name)), (0, 1), (-8, 0), fontsize=9, color=style.colour, weight="bold", **place)
    axes.annotate(literal("\n".join(below)), (0, 1), (-8, -13 * len(name)), fontsize=8, **place)


def _fid_text(group: Group) -> str:
    """Mean and standard deviation over the seeds."""
    known = group.scores("fid")
    if not len(known):
        return "FID unknown"
    spread = f" ± {known.std(ddof=1):.2g}" if len(known) > 1 else ""
    return f"FID {three_digits(known.mean())}{spread}"


def _draw_classes(axes: Axes, shares: Sequence[float], style: Style, top: float, mix: Array | None) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False, labelleft=False, bottom=False, labelbottom=True, pad=1)
    axes.set_xticks([])
    if not shares:
        axes.set_axis_off()
        return
    axes.bar(range(len(shares)), shares, color=style.colour, alpha=0.75, width=0.8)
    axes.set_ylim(0, top)
    if mix is not None and len(mix) == len(shares):
        axes.step(np.arange(-0.5, len(mix) + 0.5), [*mix, mix[-1]], where="post", color="#444444", lw=0.8)


def _label_mix(results: Results) -> Array | None:
    """Shares of the classes in the training data, if every split is of the same."""
    found = [shares for cell in results.cells if (shares := cell.class_shares) is not None]
    same = bool(found) and all(len(mix) == len(found[0]) and np.allclose(mix, found[0]) for mix in found)
    return found[0] if same else None
