"""Pictures, drawn without any global state of matplotlib and written atomically.

Colours are Okabe and Ito's, safe for colour-blind readers; lines also differ in dash and marker, so that grey prints
read.
"""

import io
import itertools
import json
import math
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from bench.grid_file import FEDERATED_ONLY
from bench.store import PlannedCell, Store, write_bytes

Colours = Literal["grey", "viridis"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":")
MARKERS = "osv^Dx"
REFERENCE = "black"  # centralized training
FLOOR = "#999999"  # what real images, or their reconstructions, score
SAMPLES_SHOWN = 10
ROWS_SHOWN = 24  # experiments whose samples the overview shows
PANELS_SHOWN = 24
PANELS_A_ROW = 4
COUNTED_CLIENTS = 25  # up to so many clients, each count is written into its field
RECIPES_FROM = 5  # so many values of further axes have a row each in the overview, instead of a panel each,
STRIPS = {1: (1, 10), 2: (2, 9), 3: (2, 5), 4: (2, 4)}  # if so few stand side by side: lines and columns of samples
FILM_FRAMES = 24  # at most: the file grows with them, and viewers slow down what is shown for less than 20 ms
_FILM_SECONDS, _HELD_SECONDS = 2.0, 1.5  # of the chain, of its last frame
_FILM_GREYS = 32  # levels: the fewer, the smaller the file
_SHEET_DPI = 128  # a power of two, so that inches are whole pixels
_WIDTH = 9.6  # inches, of the overview
_WIDE = 10.6  # of that by recipe
_BESIDE: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
_NUMBER = 0.58  # inches, of a row's FID
_EVERY = 1.16  # of the height of a recipe's row, from one to the next


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


def sample_sheet(images: Tensor, path: Path, columns: int = 8, scale: int = 3, colours: Colours = "grey") -> None:
    """A PNG of uint8 images (N, C, H, W) in a grid, each pixel `scale` pixels wide, a grey line between images.

    Args:
        colours: see `coloured`.
    """
    Image.fromarray(tile(coloured(images, colours), columns, scale)).save(buffer := io.BytesIO(), "PNG")
    write_bytes(path, buffer.getvalue())


def coloured(images: Tensor, colours: Colours) -> Tensor:
    """Images, uint8 (N, C, H, W); "viridis" gives one-channel ones the colours of matplotlib's imshow, (N, 3, H, W).

    Levels 0 .. 255 take the whole range of colours; three-channel images are left as they are.

    Raises:
        ValueError: for another name of colours.
    """
    if colours not in ("grey", "viridis"):
        raise ValueError(f'colours must be "grey" or "viridis", got {colours!r}')
    if colours == "grey" or images.shape[1] != 1:
        return images
    table = torch.from_numpy(colormaps["viridis"](np.arange(256), bytes=True)[:, :3].copy())
    return table[images[:, 0].long()].permute(0, 3, 1, 2)


def class_sheet(
    images: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    path: Path,
    per_class: int = 8,
    scale: int = 3,
    colours: Colours = "grey",
) -> None:
    """A PNG with a row a class: its name and the first `per_class` images that were asked of it, blank where fewer.

    Args:
        images: uint8 (N, C, H, W).
        labels: (N,) classes asked for, 0 .. K-1.
        class_names: K names.
        colours: see `coloured`.
    Raises:
        ValueError: unless there is a label for each image.
    """
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images, but {len(labels)} labels")
    shown = coloured(images, colours)
    rows = [_filled(shown[labels == k][:per_class], per_class) for k in range(len(class_names))]
    _save_named_rows(tile(torch.cat(rows), per_class, scale, line=scale, colour=255), class_names, path)


def pairs_sheet(
    originals: Tensor,
    reconstructions: Tensor,
    path: Path,
    count: int = 16,
    columns: int = 8,
    scale: int = 3,
    colours: Colours = "grey",
) -> None:
    """A PNG of the first `count` images, each above what the autoencoder makes of it, `columns` pairs a line.

    Args:
        originals, reconstructions: uint8 (N, C, H, W), N of at least 1.
        colours: see `coloured`.
    Raises:
        ValueError: if their shapes differ.
    """
    if originals.shape != reconstructions.shape:
        raise ValueError(f"originals of shape {tuple(originals.shape)}, reconstructions {tuple(reconstructions.shape)}")
    columns = min(columns, count, len(originals))
    pairs = [coloured(images[:count], colours).split(columns) for images in (originals, reconstructions)]
    rows = [_filled(row, columns) for pair in zip(*pairs, strict=True) for row in pair]
    names = ["real", "decoded"] * len(pairs[0])
    _save_named_rows(tile(torch.cat(rows), columns, scale, line=scale, colour=255), names, path)


def _filled(images: Tensor, count: int) -> Tensor:
    """`count` images, white ones behind those that there are."""
    return torch.cat([images, images.new_full((count - len(images), *images.shape[1:]), 255)])


def _save_named_rows(picture: NDArray[np.uint8], names: Sequence[str], path: Path) -> None:
    """Write a picture (rows, columns, 3) pixel by pixel, with names at the left of its len(names) equal rows."""
    high, wide = picture.shape[:2]
    margin = 14 + 8 * max(map(len, names))
    figure = Figure(figsize=((wide + margin) / _SHEET_DPI, high / _SHEET_DPI))
    axes = figure.add_axes((margin / (wide + margin), 0, wide / (wide + margin), 1))
    axes.set_axis_off()
    axes.imshow(picture, interpolation="nearest", aspect="auto")
    size = min(7.0, 0.7 * high / len(names) * 72 / _SHEET_DPI)
    for row, name in enumerate(names):
        place: dict[str, Any] = {"ha": "right", "va": "center"}
        figure.text((margin - 6) / (wide + margin), 1 - (row + 0.5) / len(names), name, fontsize=size, **place)
    _save(figure, path, _SHEET_DPI)


def film(frames: Sequence[Tensor], path: Path, columns: int = 4, scale: int = 4) -> None:
    """An animated GIF of the reverse chain: 2 s from noise to images, which then stand for 1.5 s; it loops.

    Of more than `FILM_FRAMES` frames evenly spaced ones are taken, the first and the last among them.

    Args:
        frames: uint8 (N, C, H, W) each, in the order shown.
        columns, scale: see `tile`.
    Raises:
        ValueError: without a frame.
    """
    if not frames:
        raise ValueError("a film needs a frame at least")
    kept = np.linspace(0, len(frames) - 1, min(len(frames), FILM_FRAMES)).round().astype(int)
    first, *rest = [_paletted(frames[number], columns, scale) for number in kept]
    ends = np.linspace(0, 100 * _FILM_SECONDS, len(kept)).round().astype(int)  # a GIF counts in hundredths
    durations = [*(10 * np.diff(ends)).tolist(), round(1000 * _HELD_SECONDS)]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)
    write_bytes(path, buffer.getvalue())


def _paletted(images: Tensor, columns: int, scale: int) -> Image.Image:
    """Images as one tiled picture of at most 256 colours, `_FILM_GREYS` greys if they have one channel."""
    picture = tile(images, columns, scale)
    if images.shape[1] != 1:
        return Image.fromarray(picture).quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    levels = np.linspace(0, 255, _FILM_GREYS).round().astype(np.uint8)
    made = Image.fromarray((picture[..., 0].astype(int) * _FILM_GREYS // 256).astype(np.uint8)).convert("P")
    made.putpalette(np.repeat(levels, 3).tobytes())
    return made


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


# ---------------------------------------------------------------------------------------------- diagnostics


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
    _save(figure, path)


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

    Many values of further axes (recipes) have a row each instead, with loss, FID and samples of what is compared:
    centralized training beside the strategies. Curves are means over seeds, with the range in which all seeds
    lie; samples are those of the first seed. A note says what is left out.

    Raises:
        ValueError: if no cell is finished.
    """
    experiments = _experiments(store)
    if not experiments:
        raise ValueError(f"{store.root}: no cell is finished, so there is nothing to draw")
    compared, rows = _comparison(store)
    if len(rows) >= RECIPES_FROM and len(compared) in STRIPS:
        _draw_comparison(store, compared, rows, path)
        return
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
        images = _filled(load_file(file)["images"][:SAMPLES_SHOWN], SAMPLES_SHOWN)
        axes.imshow(tile(images, SAMPLES_SHOWN, scale=4, line=4, colour=255), interpolation="nearest", aspect="equal")
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
    known = _scores(store, experiment, "fid")
    if not len(known):
        return "FID unknown"
    spread = f" ± {known.std(ddof=1):.2g}" if len(known) > 1 else ""
    return f"FID {_three_digits(known.mean())}{spread}"


def _scores(store: Store, experiment: _Experiment, metric: str) -> NDArray[np.float64]:
    """The metric of those seeds that have it."""
    scores = [(store.cell(cell).result() or {})["metrics"].get(metric) for cell in experiment.cells]
    return np.array([score for score in scores if score is not None], dtype=float)


def _three_digits(value: float) -> str:
    return f"{value:#.3g}".rstrip(".")


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


# ---------------------------------------------------------------------------------------------- overview of recipes


@dataclass(frozen=True)
class _Row:
    """What is compared under one recipe, or at one point of further axes.

    Attributes:
        name: e.g. ``cosine-guided``.
        experiments: those compared, in the columns' order; without cells where none is finished.
        states: what became of the columns' unfinished cells.
        weights: ids of the trainings; rows that differ in their sampling alone share them.
        scale: what must be equal for held-out losses to compare.
    """

    name: str
    experiments: tuple[_Experiment, ...]
    states: tuple[str, ...]
    weights: tuple[str, ...]
    scale: str


def _comparison(store: Store) -> tuple[list[str], list[_Row]]:
    """Columns (what is compared: strategy, n_clients, beta) and rows (further axes), in the plan's order.

    Centralized training stands in all rows that differ only in what means nothing to it. Rows of which nothing is
    finished are left out.
    """
    axes, planned = store.plan()["extra_axes"], store.planned()
    own = [axis for axis in axes if axis not in FEDERATED_ONLY]
    federated = {_point(cell, own) for cell in planned if not _is_central(cell)}
    points = [_point(cell, axes) for cell in planned if not _is_central(cell) or _point(cell, own) not in federated]
    compared = list(dict.fromkeys(_compared(cell) for cell in sorted(planned, key=lambda cell: not _is_central(cell))))
    rows = []
    for point in dict.fromkeys(points):
        cells = [c for c in planned if set(_point(c, own if _is_central(c) else axes)) <= set(point)]
        row = _make_row(store, point, cells, compared)
        if row.weights:
            rows.append(row)
    return compared, rows


def _is_central(cell: PlannedCell) -> bool:
    return cell.labels["n_clients"] is None


def _point(cell: PlannedCell, axes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Where the cell stands on the axes, with values as texts."""
    return tuple((axis, _text(cell.labels[axis])) for axis in axes)


def _compared(cell: PlannedCell) -> str:
    """The column of a cell, e.g. ``fedavg`` and, on a second line, ``n = 5, β = 0.1``."""
    split = split_label({key: cell.labels[key] for key in ("n_clients", "beta")})
    return "\n".join(part for part in (cell.labels["strategy"], split) if part)


def _make_row(
    store: Store, point: Sequence[tuple[str, str]], cells: Sequence[PlannedCell], compared: Sequence[str]
) -> _Row:
    told = {"partial": "not finished", "todo": "not finished"}
    experiments, states, weights = [], [], []
    for column in compared:
        here = [(cell, store.cell(cell.cell_id).state()) for cell in cells if _compared(cell) == column]
        done = [cell for cell, state in here if state == "done"]
        weights += [cell.train_id for cell in done]
        states.append(next((told.get(state, state) for _, state in here if state != "done"), ""))
        central = any(_is_central(cell) for cell, _ in here)
        experiments.append(_Experiment(column, "", central, tuple(cell.cell_id for cell in done)))
    config = cells[0].config
    noise = [config["diffusion"]["schedule"], config["diffusion"]["T"], config["latent"]["mode"], config["data"]]
    lines = [value if axis == "recipe" else f"{axis} = {value}" for axis, value in point]
    name = "\n".join(part for line in lines for part in textwrap.wrap(line, 28))
    return _Row(name, tuple(experiments), tuple(states), tuple(weights), json.dumps(noise))


def _draw_comparison(store: Store, compared: Sequence[str], rows: Sequence[_Row], path: Path) -> None:
    """A row a recipe: its name, losses, FID of all that is compared on one axis, and samples with their FID."""
    shown, styles = rows[:ROWS_SHOWN], _comparison_styles(rows, compared)
    left = 0.5 + 0.068 * max(len(line) for row in shown for line in row.name.split("\n"))
    each = (_WIDE - left - 3.05) / len(compared)
    widths = [1.15, 0.2, 1.6, *[_NUMBER, each - _NUMBER] * len(compared)]
    titles = [
        [line for part in name.split("\n") for line in textwrap.wrap(part, int(each / 0.09))] for name in compared
    ]
    inches = {"above": 0.42 + 0.15 * max(map(len, titles)), "rows": 0.58 * len(shown), "below": 0.68}
    high = sum(inches.values())
    figure = Figure(figsize=(_WIDE, high))
    grid = figure.add_gridspec(
        len(shown),
        len(widths),
        width_ratios=widths,
        left=left / _WIDE,
        right=1 - 0.1 / _WIDE,
        bottom=inches["below"] / high,
        top=1 - inches["above"] / high,
        wspace=0,
        hspace=_EVERY - 1,
    )
    dots = figure.add_subplot(grid[:, 2])
    _draw_dots(dots, store, shown, styles)
    for row, place in zip(shown, dots.get_yticks(), strict=True):
        named: dict[str, Any] = {"xycoords": ("figure fraction", "data"), "ha": "right", "va": "center", "fontsize": 8}
        dots.annotate(row.name, ((left - 0.33) / _WIDE, place), annotation_clip=False, **named)
    _draw_row_curves(figure, grid, store, shown, styles)
    for place, title in enumerate(titles):
        strips = [figure.add_subplot(grid[number, 4 + 2 * place]) for number in range(len(shown))]
        _draw_strips(strips, store, shown, place, STRIPS[len(compared)])
        style: dict[str, Any] = {"fontsize": 9, "color": styles[place].colour, "weight": "bold"}
        strips[0].annotate("\n".join(title), (0, 1), (-60 * _NUMBER, 4), va="bottom", **style, **_BESIDE)
    _draw_legend(figure, compared, styles, any(len(_of(store, row, "reconstruction_fid")) for row in shown))
    note = "held-out losses compare within one noise schedule, and not between pixels and latents"
    texts = [note] * (len({row.scale for row in shown}) > 1)
    texts += [f"{len(rows) - ROWS_SHOWN} more rows are not shown"] * (len(rows) > ROWS_SHOWN) + [_note(store, ())]
    figure.text(0.01, 0.06 / high, "; ".join(filter(None, texts)), va="bottom", fontsize=7, color="#555555")
    _save(figure, path)


def _of(store: Store, row: _Row, metric: str) -> NDArray[np.float64]:
    """The metric of all of a row's cells that have it."""
    return np.concatenate([_scores(store, experiment, metric) for experiment in row.experiments])


def _comparison_styles(rows: Sequence[_Row], compared: Sequence[str]) -> list[_Style]:
    """Of the columns: black diamonds for centralized training."""
    styles: list[_Style] = []
    for place in range(len(compared)):
        number = sum(style.colour != REFERENCE for style in styles)
        if any(row.experiments[place].central for row in rows):
            styles.append(_Style(REFERENCE, DASHES[0], "D"))
        else:
            styles.append(_Style(COLOURS[number], DASHES[(number + 1) % len(DASHES)], MARKERS[number]))
    return styles


def _draw_row_curves(
    figure: Figure, grid: GridSpec, store: Store, rows: Sequence[_Row], styles: Sequence[_Style]
) -> None:
    """Held-out loss by round, once for neighbours of the same weights; a later row of the same names the first."""
    drawn: list[tuple[Axes, _Row]] = []
    first: dict[tuple[str, ...], str] = {}
    groups = [list(group) for _, group in itertools.groupby(enumerate(rows), key=lambda pair: pair[1].weights)]
    for group in groups:
        (top, row), bottom = group[0], group[-1][0]
        axes = figure.add_subplot(grid[top : bottom + 1, 0])
        if row.weights in first:
            axes.set_axis_off()
            told = f"as\n{first[row.weights]}"
            axes.text(0.5, 0.5, told, ha="center", va="center", fontsize=6.5, color="#555555")
            continue
        first[row.weights] = row.name
        last = bottom
        for experiment, style in zip(row.experiments, styles, strict=True):
            if experiment.cells:
                _draw_curve(axes, store, experiment, style).set(marker="", linewidth=1.5)
        drawn.append((axes, row))
    scales: dict[str, list[float]] = {}
    for axes, row in drawn:
        _finish_axes(axes, below=axes is drawn[-1][0])
        axes.tick_params(labelsize=6, pad=1.5)
        axes.set_xlabel("round" if axes is drawn[-1][0] and last == len(rows) - 1 else "", fontsize=8, labelpad=2)
        scales.setdefault(row.scale, []).extend(axes.get_ylim())
    for axes, row in drawn:
        axes.set_ylim(low := min(scales[row.scale]), high := max(scales[row.scale]))
        axes.yaxis.set_major_locator(FixedLocator(_few_ticks(low, high)))
        axes.yaxis.set_minor_locator(NullLocator())
    drawn[0][0].set_title("held-out loss", fontsize=9, pad=4)


def _few_ticks(low: float, high: float) -> list[float]:
    """From two to four values between `low` and `high`, 1, 2 and 5 of the decades if there are enough of them."""
    even = [10.0**k * sub for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high))) for sub in (1, 2, 5)]
    ticks = [tick for tick in even if low <= tick <= high]
    if len(ticks) < 2:
        ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    return ticks if len(ticks) <= 4 else [ticks[0], ticks[len(ticks) // 2], ticks[-1]]


def _draw_dots(axes: Axes, store: Store, rows: Sequence[_Row], styles: Sequence[_Style]) -> None:
    """FID of each row: a mark for each that is compared, a thin line over its seeds, and what floor there is."""
    places = 0.5 + _EVERY * np.arange(len(rows))
    for place, row in zip(places, rows, strict=True):
        found = [_scores(store, experiment, "fid") for experiment in row.experiments]
        means = [known.mean() for known in found if len(known)]
        if means:
            axes.plot([min(means), max(means)], [place, place], color="#CCCCCC", lw=2.5, zorder=1)
        for known, style in zip(found, styles, strict=True):
            if len(known):
                axes.plot([known.min(), known.max()], [place, place], color=style.colour, lw=0.9, zorder=2)
                axes.plot(known.mean(), place, style.marker, color=style.colour, markersize=5.5, zorder=3)
        floor = _of(store, row, "reconstruction_fid")
        axes.plot(floor, np.full(len(floor), place), "|", color=FLOOR, markersize=11, mew=1.6, zorder=2)
    if (real := _real_fid(store, rows)) is not None:
        axes.axvline(real, color=FLOOR, lw=1.2, ls=":", zorder=1)
    axes.set_ylim(places[-1] + 0.5, 0)
    axes.set_yticks(places, [])
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 100 else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=8, left=False)
    axes.grid(alpha=0.3, lw=0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("FID, lower is better", fontsize=8, labelpad=2)


def _real_fid(store: Store, rows: Sequence[_Row]) -> float | None:
    """What real images score, if all cells were judged by the same ones."""
    cells = [cell for row in rows for experiment in row.experiments for cell in experiment.cells]
    found = {((store.cell(cell).result() or {}).get("floor") or {}).get("fid") for cell in cells}
    return found.pop() if len(found) == 1 else None


def _draw_strips(
    strips: Sequence[Axes], store: Store, rows: Sequence[_Row], place: int, shape: tuple[int, int]
) -> None:
    """The first samples of each row in one column, in `shape` (lines, columns), their FID at the left, lowest bold."""
    found = [_scores(store, row.experiments[place], "fid") for row in rows]
    best = min((known.mean() for known in found if len(known)), default=np.nan)
    for axes, row, known in zip(strips, rows, found, strict=True):
        axes.set_axis_off()
        axes.set_anchor("W")
        cells = row.experiments[place].cells
        file = store.cell(cells[0]).path / "samples.safetensors" if cells else None
        if file is not None and file.exists():
            count = shape[0] * shape[1]
            images = _filled(load_file(file)["images"][:count], count)
            axes.imshow(tile(images, shape[1], scale=4, line=4, colour=255), interpolation="nearest", aspect="equal")
        else:
            told = "samples.safetensors was removed" if file is not None else row.states[place]
            axes.text(0.0, 0.5, told, transform=axes.transAxes, va="center", fontsize=7, color="#555555")
        if len(known):
            text = _three_digits(known.mean()) + (f"\n±{known.std(ddof=1):.2g}" if len(known) > 1 else "")
            weight = "bold" if known.mean() == best else "normal"
            axes.annotate(text, (0, 0.5), (-5, 0), fontsize=8, weight=weight, ha="right", va="center", **_BESIDE)


def _draw_legend(figure: Figure, compared: Sequence[str], styles: Sequence[_Style], latents: bool) -> None:
    handles = [Line2D([], [], color=style.colour, ls=style.dash, marker=style.marker, markersize=5) for style in styles]
    handles.append(Line2D([], [], color=FLOOR, ls=":", lw=1.2))
    handles.append(Line2D([], [], color=FLOOR, ls="", marker="|", markersize=10, mew=1.6))
    names = [
        *(name.replace("\n", ", ") for name in compared),
        "FID of real images",
        *["FID of the autoencoder"] * latents,
    ]
    columns = min(len(names), 5)
    place: dict[str, Any] = {"loc": "upper left", "ncols": columns, "frameon": False, "fontsize": 8}
    figure.legend(handles[: len(names)], names, borderaxespad=0.3, **place)


def _save(figure: Figure, path: Path, dpi: int = 150) -> None:
    figure.savefig(buffer := io.BytesIO(), format="png", dpi=dpi, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())
