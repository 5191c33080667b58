"""Pictures, drawn without any global state of matplotlib and written atomically.

Colours are Okabe and Ito's, safe for colour-blind readers; lines also differ in dash and marker, so that grey prints
read.
"""

import io
import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from bench.store import Store, write_bytes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":")
MARKERS = "osv^Dx"
REFERENCE = "black"  # centralized training
SAMPLES_SHOWN = 10
ROWS_SHOWN = 24  # experiments whose samples the overview shows
PANELS_SHOWN = 24
PANELS_A_ROW = 4
COUNTED_CLIENTS = 25  # up to so many clients, each count is written into its field
_WIDTH = 9.6  # inches, of the overview


# ---------------------------------------------------------------------------------------------- partition


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
    _save(figure, path)


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


# ---------------------------------------------------------------------------------------------- samples


def sample_sheet(images: Tensor, path: Path, columns: int = 8, scale: int = 3) -> None:
    """A PNG of uint8 images (N, C, H, W) in a grid, each pixel `scale` pixels wide, a grey line between images."""
    Image.fromarray(tile(images, columns, scale)).save(buffer := io.BytesIO(), "PNG")
    write_bytes(path, buffer.getvalue())


def tile(images: Tensor, columns: int, scale: int = 1, line: int = 1, colour: int = 110) -> NDArray[np.uint8]:
    """Images, uint8 (N, 1 or 3, H, W), as one picture, uint8 (rows, columns, 3), from left to right, then down.

    Args:
        scale: pixels of the picture for one of an image.
        line: width of the line between images, in pixels of the picture.
        colour: grey level of the lines and of empty places.
    """
    n, _, h, w = images.shape
    rows, high, wide = -(-n // columns), h * scale + line, w * scale + line
    canvas = np.full((rows * high + line, columns * wide + line, 3), colour, dtype=np.uint8)
    large = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    for number, picture in enumerate(large.numpy()):
        top, left = (number // columns) * high + line, (number % columns) * wide + line
        canvas[top : top + h * scale, left : left + w * scale] = picture
    return canvas


# ---------------------------------------------------------------------------------------------- overview


@dataclass(frozen=True)
class _Experiment:
    """Finished cells that differ in the seed alone.

    Attributes:
        strategy: its label.
        split: the text of n_clients, beta and further axes, "" where there is none.
        cells: ids.
    """

    strategy: str
    split: str
    central: bool
    cells: tuple[str, ...]


@dataclass(frozen=True)
class _Style:
    colour: str
    dash: str
    marker: str


def overview(store: Store, path: Path) -> None:
    """One picture of a grid: held-out loss by round for each split, then samples, FID and generated classes.

    Curves are means over seeds, with the range in which all seeds lie; samples are those of the first seed.
    A note says what is left out.

    Raises:
        ValueError: if no cell is finished.
    """
    experiments = _experiments(store)
    if not experiments:
        raise ValueError(f"{store.root}: no cell is finished, so there is nothing to draw")
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
    _save(figure, path)


def _experiments(store: Store) -> list[_Experiment]:
    """Centralized ones first, then split by split, strategies in the plan's order."""
    groups: dict[tuple[bool, str, str], list[str]] = {}
    for cell in store.planned():
        key = (cell.labels["n_clients"] is not None, split_label(cell.labels), cell.labels["strategy"])
        done = store.cell(cell.cell_id).state() == "done"
        groups.setdefault(key, []).extend([cell.cell_id] if done else [])
    splits = list(dict.fromkeys(split for _, split, _ in groups))
    order = sorted(groups, key=lambda key: (key[0], splits.index(key[1])))
    return [_Experiment(key[2], key[1], not key[0], tuple(groups[key])) for key in order if groups[key]]


def split_label(labels: dict[str, Any]) -> str:
    """Labels but for strategy and seed, e.g. ``n = 5, β = 0.1``, with spaces at which no line is broken."""
    names = {"n_clients": "n", "beta": "β"}
    shown = {key: value for key, value in labels.items() if key not in ("strategy", "seed") and value is not None}
    return ", ".join(
        f"{names.get(key, key)}\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{_text(value)}" for key, value in shown.items()
    )


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _panels(experiments: Sequence[_Experiment]) -> list[list[_Experiment]]:
    """What is drawn together: each split's experiments, and centralized training with every one."""
    central = [e for e in experiments if e.central]
    splits = dict.fromkeys(e.split for e in experiments if not e.central)
    return [[*central, *(e for e in experiments if e.split == split and not e.central)] for split in splits] or [
        central
    ]


def _styles(experiments: Sequence[_Experiment]) -> dict[str, _Style]:
    """By label: black for centralized training, a colour, dash and marker for each strategy."""
    central = list(dict.fromkeys(_line_label(e) for e in experiments if e.central))
    others = list(dict.fromkeys(e.strategy for e in experiments if not e.central))
    styles = {label: _Style(REFERENCE, DASHES[i % len(DASHES)], "") for i, label in enumerate(central)}
    for i, label in enumerate(others):
        dash = DASHES[(i + i // len(COLOURS)) % len(DASHES)]
        styles[label] = _Style(COLOURS[i % len(COLOURS)], dash, MARKERS[i % len(MARKERS)])
    return styles


def _line_label(experiment: _Experiment) -> str:
    """Centralized training on a further axis has no panel of its own, so its line says where it stands."""
    parts = [experiment.strategy, experiment.split if experiment.central else ""]
    return ", ".join(part for part in parts if part)


def _legend_columns(styles: dict[str, _Style]) -> int:
    return max(1, min(len(styles), 120 // (8 + max(map(len, styles), default=0))))


def _panels_height(panels: Sequence[Sequence[_Experiment]], styles: dict[str, _Style]) -> float:
    """Inches: the legend's lines and the panels'."""
    return 0.35 + 0.2 * -(-len(styles) // _legend_columns(styles)) + 2.0 * -(-len(panels) // PANELS_A_ROW)


def _draw_panels(
    figure: SubFigure, store: Store, panels: Sequence[Sequence[_Experiment]], styles: dict[str, _Style], height: float
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
            handles[label] = _draw_curve(axes, store, experiment, styles[label])
        split = next((e.split for e in panels[number] if not e.central), "")
        axes.set_title(textwrap.fill(split, 120 // columns), fontsize=9, pad=3)
        _finish_axes(axes, below=number + columns >= len(panels))
    figure.supylabel("held-out loss", x=0.005, fontsize=9)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="upper center",
        ncols=_legend_columns(styles),
        frameon=False,
        fontsize=9,
        borderaxespad=0.2,
    )


def _draw_curve(axes: Axes, store: Store, experiment: _Experiment, style: _Style) -> Any:
    """The mean of the seeds' curves and the range in which they lie; returns the line."""
    losses = [{line["round"]: line["heldout_loss"] for line in store.cell(cell).rounds()} for cell in experiment.cells]
    rounds = sorted(set.intersection(*(set(known) for known in losses)))
    curves = np.array([[known[number] for number in rounds] for known in losses])
    if len(curves) > 1:
        axes.fill_between(rounds, curves.min(axis=0), curves.max(axis=0), color=style.colour, alpha=0.18, lw=0)
    (line,) = axes.plot(
        rounds,
        curves.mean(axis=0),
        style.dash,
        color=style.colour,
        marker=style.marker,
        markersize=3.5,
        markevery=max(1, len(rounds) // 6),
        lw=2.4 if experiment.central else 1.3,
        zorder=2 if experiment.central else 3,
    )
    return line


def _finish_axes(axes: Axes, below: bool) -> None:
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


def _row_height(shown: Sequence[_Experiment]) -> float:
    """Inches: enough for the pictures and for the names beside them."""
    return max([0.68, *(0.13 + 0.145 * (len(_name_lines(e)) + len(_split_lines(e)) + 1) for e in shown)])


def _name_lines(experiment: _Experiment) -> list[str]:
    return textwrap.wrap(experiment.strategy, 20)


def _split_lines(experiment: _Experiment) -> list[str]:
    return textwrap.wrap(experiment.split, 30)


def _draw_rows(
    figure: SubFigure, store: Store, shown: Sequence[_Experiment], styles: dict[str, _Style], height: float
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
        grid[-1, 1].set_xticks(range(len(names)), names, fontsize=7)
    grid[0, 0].set_title(f"first {SAMPLES_SHOWN} samples", fontsize=9, pad=3)
    grid[0, 1].set_title("classes" + (" (line: data)" if mix is not None else ""), fontsize=9, pad=3)


def _draw_samples(axes: Axes, store: Store, experiment: _Experiment, style: _Style) -> None:
    axes.set_axis_off()
    axes.set_anchor("W")
    file = store.cell(experiment.cells[0]).path / "samples.safetensors"
    if file.exists():
        images = load_file(file)["images"][:SAMPLES_SHOWN]
        blank = images.new_full((SAMPLES_SHOWN - len(images), *images.shape[1:]), 255)
        picture = tile(torch.cat([images, blank]), SAMPLES_SHOWN, scale=4, line=4, colour=255)
        axes.imshow(picture, interpolation="nearest", aspect="equal")
    else:
        axes.text(0.5, 0.5, "samples.safetensors was removed", transform=axes.transAxes, ha="center", fontsize=8)
    name = _name_lines(experiment)
    below = [*_split_lines(experiment), _fid_text(store, experiment)]
    place: dict[str, Any] = {"ha": "right", "va": "top", "linespacing": 1.15, "xycoords": "axes fraction"}
    place |= {"textcoords": "offset points", "annotation_clip": False}
    axes.annotate("\n".join(name), (0, 1), (-8, 0), fontsize=9, color=style.colour, weight="bold", **place)
    axes.annotate("\n".join(below), (0, 1), (-8, -13 * len(name)), fontsize=8, **place)


def _fid_text(store: Store, experiment: _Experiment) -> str:
    """Mean and standard deviation over the seeds."""
    scores = [(store.cell(cell).result() or {})["metrics"].get("fid") for cell in experiment.cells]
    known = np.array([score for score in scores if score is not None])
    if not len(known):
        return "FID unknown"
    spread = f" ± {known.std(ddof=1):.2g}" if len(known) > 1 else ""
    return f"FID {known.mean():#.3g}".rstrip(".") + spread


def _draw_classes(
    axes: Axes, result: dict[str, Any], style: _Style, top: float, mix: NDArray[np.float64] | None
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
        file = store.cell(cell.cell_id).path / "partition.json"
        if file.exists():
            counts = np.sum(json.loads(file.read_text(encoding="utf-8"))["histogram"], axis=0)
            found.append(counts / counts.sum())
    same = bool(found) and all(len(mix) == len(found[0]) and np.allclose(mix, found[0]) for mix in found)
    return found[0] if same else None


def _note(store: Store, experiments: Sequence[_Experiment]) -> str:
    """What the picture leaves out."""
    told = {"partial": "not finished", "todo": "not finished"}
    states = (store.cell(cell.cell_id).state() for cell in store.planned())
    counts = Counter(told.get(state, state) for state in states if state != "done")
    parts = [f"{count} cell{'' if count == 1 else 's'} {state}" for state, count in counts.items()]
    if len(experiments) > ROWS_SHOWN:
        parts.append(f"{len(experiments) - ROWS_SHOWN} more experiments are not shown")
    return "; ".join(parts)


def _save(figure: Figure, path: Path, dpi: int = 150) -> None:
    figure.savefig(buffer := io.BytesIO(), format="png", dpi=dpi, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())
