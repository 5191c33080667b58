"""Pictures, drawn without any global state of matplotlib and written atomically.

Colours are Okabe and Ito's, safe for colour-blind readers; every line also has its own dash, so grey prints read.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from bench.store import PlannedCell, Store, write_bytes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
DASHES = ("-", "--", "-.", ":")
SHOWN = 12  # samples a cell in the overview
CELLS_SHOWN = 16  # cells whose samples the overview shows


def partition_heatmap(histogram: NDArray[Any], class_names: tuple[str, ...], path: Path, title: str) -> None:
    """Images of each class at each client, the paper's figure 1.

    Args:
        histogram: (n_clients, K) counts.
        class_names: K names.
    """
    n, k = histogram.shape
    tall = min(max(n, 2), 40)
    figure = Figure(figsize=(1.6 + 0.5 * k, 1.3 + 0.36 * tall), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(histogram, cmap="Blues", aspect="auto", vmin=0)
    axes.set_xticks(range(k), class_names, rotation=0 if max(map(len, class_names)) < 3 else 60)
    if n <= 40:
        axes.set_yticks(range(n), [f"{i}  ({size:,})" for i, size in enumerate(histogram.sum(axis=1))])
    axes.set_xlabel("class")
    axes.set_ylabel("client (images)")
    axes.set_title(title, fontsize=10)
    if n <= 20:
        _write_counts(axes, histogram)
    figure.colorbar(image, ax=axes, label="images", shrink=0.9)
    _save(figure, path)


def _write_counts(axes: Any, histogram: NDArray[Any]) -> None:
    dark = histogram.max() * 0.6
    for (row, column), count in np.ndenumerate(histogram):
        colour = "white" if count > dark else "black" if count else "#999999"
        axes.text(column, row, f"{count}", ha="center", va="center", fontsize=7, color=colour)


def sample_sheet(images: Tensor, path: Path, columns: int = 8, scale: int = 3) -> None:
    """A PNG of uint8 images (N, C, H, W) in a grid, each pixel `scale` pixels wide, a grey line between images."""
    Image.fromarray(tile(images, columns, scale)).save(buffer := io.BytesIO(), "PNG")
    write_bytes(path, buffer.getvalue())


def tile(images: Tensor, columns: int, scale: int) -> NDArray[np.uint8]:
    """Images as one uint8 picture (rows, columns, 3)."""
    n, c, h, w = images.shape
    rows = -(-n // columns)
    canvas = torch.full((rows, columns, 3, h * scale + 2, w * scale + 2), 110, dtype=torch.uint8)
    large = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3).expand(-1, 3, -1, -1)
    for i in range(n):
        canvas[i // columns, i % columns, :, 1:-1, 1:-1] = large[i]
    return canvas.permute(0, 3, 1, 4, 2).reshape(rows * (h * scale + 2), columns * (w * scale + 2), 3).numpy()


def overview(store: Store, path: Path) -> None:
    """One picture of a grid: held-out loss by round, and under it samples and FID of each finished cell.

    Curves are means over seeds; of cells that differ in the seed alone, the first one's samples are shown. At most
    `CELLS_SHOWN` cells are shown, those that come first in the plan.
    """
    groups = _by_experiment(store)
    shown = list(groups.items())[:CELLS_SHOWN]
    figure = Figure(figsize=(9, 3.4 + 0.62 * len(shown)), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[3.2, 0.62 * len(shown) + 0.2])
    _draw_curves(top.add_subplot(), store, groups)
    for axes, (label, cells) in zip(np.atleast_1d(bottom.subplots(len(shown), 1)), shown, strict=True):
        _draw_samples(axes, label, store, cells)
    _save(figure, path)


def _by_experiment(store: Store) -> dict[str, list[PlannedCell]]:
    """Finished cells that differ in the seed alone, by label."""
    groups: dict[str, list[PlannedCell]] = {}
    for cell in store.planned():
        if store.cell(cell.cell_id).state() == "done":
            groups.setdefault(experiment_label(cell.labels), []).append(cell)
    return groups


def experiment_label(labels: dict[str, Any]) -> str:
    """E.g. ``fedavg, n = 5, beta = 0.1``, without the seed."""
    parts = [labels["strategy"]]
    if labels["n_clients"] is not None:
        parts.append(f"n = {labels['n_clients']}")
    if labels["beta"] is not None:
        parts.append(f"$\\beta$ = {labels['beta']:g}")
    parts += [f"{axis} = {value}" for axis, value in labels.items()
              if axis not in ("strategy", "n_clients", "beta", "seed")]  # fmt: skip
    return ", ".join(part.replace("_", r"\_") if "$" in part else part for part in parts)


def _draw_curves(axes: Any, store: Store, groups: dict[str, list[PlannedCell]]) -> None:
    strategies = list(dict.fromkeys(cells[0].labels["strategy"] for cells in groups.values()))
    seen: dict[str, int] = {}
    for label, cells in groups.items():
        strategy = cells[0].labels["strategy"]
        order = seen[strategy] = seen.get(strategy, -1) + 1
        curves = np.array([[line["heldout_loss"] for line in store.cell(cell.cell_id).rounds()] for cell in cells])
        rounds = np.arange(1, curves.shape[1] + 1)
        central = cells[0].labels["n_clients"] is None
        colour = "black" if central else COLOURS[(strategies.index(strategy) - 1) % len(COLOURS)]
        axes.plot(rounds, curves.mean(axis=0), DASHES[order % len(DASHES)], color=colour, label=label,
                  lw=2.2 if central else 1.3)  # fmt: skip
        if len(cells) > 1:
            axes.fill_between(rounds, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.15, lw=0)
    axes.set_xlabel("round")
    axes.set_ylabel("held-out loss of the global model")
    axes.set_yscale("log")
    axes.grid(True, which="both", alpha=0.25, lw=0.5)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _draw_samples(axes: Any, label: str, store: Store, cells: list[PlannedCell]) -> None:
    folder = store.cell(cells[0].cell_id)
    images = load_file(folder.path / "samples.safetensors")["images"][:SHOWN]
    axes.imshow(tile(images, SHOWN, 4), interpolation="nearest")
    results = [store.cell(cell.cell_id).result() or {} for cell in cells]
    fid = float(np.mean([result["metrics"]["fid"] for result in results]))
    axes.text(-0.02, 0.5, f"{label}\nFID {fid:.3g}", transform=axes.transAxes, ha="right", va="center", fontsize=8)
    axes.set_axis_off()


def _save(figure: Figure, path: Path, dpi: int = 150) -> None:
    figure.savefig(buffer := io.BytesIO(), format="png", dpi=dpi, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())
