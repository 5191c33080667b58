"""The overview by split: held-out loss by round in a panel each, then samples, FID and classes of each experiment."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from bench.pictures.sheets import filled, tile
from bench.pictures.style import COLOURS, DASHES, MARKERS, REFERENCE, Style, literal, save
from bench.report.figures.overview_data import Experiment, scores, unfinished
from bench.report.figures.overview_parts import ROWS_SHOWN, draw_curve, finish_axes, three_digits
from bench.report.figures.records import first_images, record
from bench.store.grid_folder import Store

SAMPLES_SHOWN = 10  # of each experiment
PANELS_SHOWN = 24
PANELS_A_ROW = 4
_WIDTH = 9.6  # inches, of the picture


def draw_splits(store: Store, experiments: Sequence[Experiment], *paths: Path) -> None:
    """Curves of each split above, a row an experiment below; a note says what is left out."""
    panels = _panels(experiments)[:PANELS_SHOWN]
    shown = experiments[:ROWS_SHOWN]
    styles = _styles(experiments)
    heights = [_panels_height(panels, styles), 0.45 + _row_height(shown) * len(shown)]
    figure = Figure(figsize=(_WIDTH, sum(heights)))
    grid = figure.add_gridspec(2, 1, height_ratios=heights)
    top, bottom = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    _draw_panels(top, store, panels, styles, heights[0])
    _draw_rows(bottom, store, shown, styles, heights[1])
    if note := _note(store, experiments):
        bottom.text(0.2, 0.05 / heights[1], note, va="bottom", fontsize=7, color="#555555")
    save(figure, *paths)


def _note(store: Store, experiments: Sequence[Experiment]) -> str:
    """What the picture leaves out."""
    parts = unfinished(store)
    if any(len(experiment.cells) > 1 for experiment in experiments):
        parts.append("bands: from the lowest seed to the highest")
    if len(experiments) > ROWS_SHOWN:
        parts.append(f"{len(experiments) - ROWS_SHOWN} more experiments are not shown")
    return "; ".join(parts)


def _panels(experiments: Sequence[Experiment]) -> list[list[Experiment]]:
    """What is drawn together: each split's experiments, and centralized training with every one."""
    central = [e for e in experiments if e.central]
    splits = dict.fromkeys(e.split for e in experiments if not e.central)
    return [[*central, *(e for e in experiments if e.split == split and not e.central)] for split in splits] or [
        central
    ]


def _styles(experiments: Sequence[Experiment]) -> dict[str, Style]:
    """By label: black for centralized training, a colour, dash and marker for each strategy."""
    central = list(dict.fromkeys(_line_label(e) for e in experiments if e.central))
    others = list(dict.fromkeys(e.strategy for e in experiments if not e.central))
    marks = ("", *MARKERS)
    styles = {
        label: Style(REFERENCE, DASHES[i % len(DASHES)], marks[i // len(DASHES) % len(marks)])
        for i, label in enumerate(central)
    }
    for i, label in enumerate(others):
        dash = DASHES[(i + i // len(COLOURS)) % len(DASHES)]
        styles[label] = Style(COLOURS[i % len(COLOURS)], dash, MARKERS[i % len(MARKERS)])
    return styles


def _line_label(experiment: Experiment) -> str:
    """Centralized training on a further axis has no panel of its own, so its line says where it stands."""
    parts = [experiment.strategy, experiment.split if experiment.central else ""]
    return ", ".join(part for part in parts if part)


def _legend_columns(styles: dict[str, Style]) -> int:
    return max(1, min(len(styles), 120 // (8 + max(map(len, styles), default=0))))


def _panels_height(panels: Sequence[Sequence[Experiment]], styles: dict[str, Style]) -> float:
    """Inches: the legend's lines and the panels'."""
    return 0.35 + 0.2 * -(-len(styles) // _legend_columns(styles)) + 2.0 * -(-len(panels) // PANELS_A_ROW)


def _draw_panels(
    figure: SubFigure, store: Store, panels: Sequence[Sequence[Experiment]], styles: dict[str, Style], height: float
) -> None:
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
        for experiment in panels[number]:
            label = _line_label(experiment)
            handles[label] = draw_curve(axes, store, experiment, styles[label])
        split = next((e.split for e in panels[number] if not e.central), "")
        axes.set_title(literal(textwrap.fill(split, 120 // columns)), fontsize=9, pad=3)
        finish_axes(axes, below=number + columns >= len(panels))
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


def _row_height(shown: Sequence[Experiment]) -> float:
    """Inches: enough for the pictures and for the names beside them."""
    return max([0.68, *(0.13 + 0.145 * (len(_name_lines(e)) + len(_split_lines(e)) + 1) for e in shown)])


def _name_lines(experiment: Experiment) -> list[str]:
    """The strategy's name, then its hyper-parameters."""
    name, bracket, values = experiment.strategy.partition("(")
    return [*textwrap.wrap(name, 20), *textwrap.wrap(bracket + values, 20)]


def _split_lines(experiment: Experiment) -> list[str]:
    return textwrap.wrap(experiment.split, 30)


def _draw_rows(
    figure: SubFigure, store: Store, shown: Sequence[Experiment], styles: dict[str, Style], height: float
) -> None:
    """A row an experiment: its name and FID, its first samples, the classes of all its samples."""
    grid = figure.subplots(len(shown), 2, squeeze=False, width_ratios=[5.2, 1.6])
    figure.subplots_adjust(0.2, 0.22 / height, 0.99, 1 - 0.23 / height, wspace=0.06, hspace=0.1)
    results = [store.cell(e.cells[0]).result() or {} for e in shown]
    top = max((max(result.get("class_histogram") or [0.0]) for result in results), default=0.0)
    mix = _label_mix(store)
    for (pictures, classes), experiment, result in zip(grid, shown, results, strict=True):
        style = styles[_line_label(experiment)]
        _draw_samples(pictures, store, experiment, style)
        _draw_classes(classes, result, style, 1.08 * top, mix)
    names = (results[0].get("data") or {}).get("class_names", []) if results else []
    if len(names) and max(map(len, names)) <= 2:
        grid[-1, 1].set_xticks(range(len(names)), map(literal, names), fontsize=7)
    grid[0, 0].set_title(f"first {SAMPLES_SHOWN} samples", fontsize=9, pad=3)
    grid[0, 1].set_title("classes" + (" (line: data)" if mix is not None else ""), fontsize=9, pad=3)


def _draw_samples(axes: Axes, store: Store, experiment: Experiment, style: Style) -> None:
    axes.set_axis_off()
    axes.set_anchor("W")
    images = first_images(store.cell(experiment.cells[0]), SAMPLES_SHOWN)
    if images is not None:
        images = filled(images, SAMPLES_SHOWN)
        axes.imshow(tile(images, SAMPLES_SHOWN, scale=4, line=4, colour=255), interpolation="nearest", aspect="equal")
    else:
        axes.text(0.5, 0.5, "samples.safetensors was removed", transform=axes.transAxes, ha="center", fontsize=8)
    name = _name_lines(experiment)
    below = [*_split_lines(experiment), _fid_text(store, experiment)]
    place: dict[str, Any] = {"ha": "right", "va": "top", "linespacing": 1.15, "xycoords": "axes fraction"}
    place |= {"textcoords": "offset points", "annotation_clip": False}
    axes.annotate(literal("\n".join(name)), (0, 1), (-8, 0), fontsize=9, color=style.colour, weight="bold", **place)
    axes.annotate(literal("\n".join(below)), (0, 1), (-8, -13 * len(name)), fontsize=8, **place)


def _fid_text(store: Store, experiment: Experiment) -> str:
    """Mean and standard deviation over the seeds."""
    known = scores(store, experiment, "fid")
    if not len(known):
        return "FID unknown"
    spread = f" ± {known.std(ddof=1):.2g}" if len(known) > 1 else ""
    return f"FID {three_digits(known.mean())}{spread}"


def _draw_classes(
    axes: Axes, result: dict[str, Any], style: Style, top: float, mix: NDArray[np.float64] | None
) -> None:
    shares = result.get("class_histogram")
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


def _label_mix(store: Store) -> NDArray[np.float64] | None:
    """Shares of the classes in the training data, if every split is of the same."""
    found = []
    for cell in store.planned():
        part = record(store.cell(cell.cell_id), "partition.json")
        if part is not None:
            counts = np.sum(part["histogram"], axis=0)
            found.append(counts / counts.sum())
    same = bool(found) and all(len(mix) == len(found[0]) and np.allclose(mix, found[0]) for mix in found)
    return found[0] if same else None
