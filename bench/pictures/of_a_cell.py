"""Pictures of one cell from the files in its folder: partition, rounds, held-out losses, samples."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator
from numpy.typing import NDArray

from bench.config.names import cell_name
from bench.federation.mixture import spread
from bench.pictures.axes import WIDTH, apart, distinct, key, log_axis, plain, say
from bench.pictures.sheets import class_sheet, sample_sheet
from bench.pictures.style import COLOURS, MARKERS, Array, save
from bench.store import locks
from bench.store.cell_folder import CellFolder
from bench.store.files import Damaged, file_hash, read_json, write_json
from bench.store.records import Diagnostics, Heldout, Likelihood, Manifest, Partition, Result, Trained, Visit
from bench.store.states import read_tensors

PICTURES = ("partition.png", "rounds.png", "diagnostics.png", "samples.png", "samples_viridis.png")
SHEET = 64  # samples on their sheet
LINES_SHOWN = 12  # up to so many clients or classes have a line each
_OUTCOME_COLOURS = ("white", "#BFD9EA", "#56B4E9", "#E69F00", "#B02020")  # the first: not drawn in the round
COUNTED_CLIENTS = 25  # up to so many clients, each count is written into its field
CLIENTS_SHOWN = 100  # where each has a row or a bar
OUTCOMES = ("arrived", "part of its steps", "dropped", "failed")
Panels = Sequence[Callable[[Axes], None]]


def draw(folder: CellFolder) -> list[str]:
    """Draw those of `PICTURES` that the cell has data for, from its files alone; their names.

    Raises:
        Damaged: if the samples are not what was written.
    """
    manifest = folder.read(Manifest)
    if manifest is None:
        return []
    title, names = cell_name(manifest.labels), manifest.data.class_names if manifest.data else ()
    drawn = []
    if partition := folder.read(Partition):
        drawn.append("partition.png")
        split = partition_title(manifest)
        partition_heatmap(np.array(partition.histogram), names, folder.path / drawn[-1], split, partition.noise)
        if draw_rounds(folder, folder.path / "rounds.png", title):
            drawn.append("rounds.png")
    if diagnostics := folder.read(Diagnostics):
        drawn.append("diagnostics.png")
        draw_diagnostics(diagnostics, folder.path / drawn[-1], title, folder.read(Likelihood))
    samples = read_tensors(folder.path / "samples.safetensors", sealed=False)
    if samples is not None:
        drawn += ["samples.png", "samples_viridis.png"]
        if "labels" in samples:
            class_sheet(samples["images"], samples["labels"], names, folder.path / "samples.png")
        else:
            sample_sheet(samples["images"][:SHEET], folder.path / "samples.png")
        sample_sheet(samples["images"][:SHEET], folder.path / "samples_viridis.png", colours="viridis")
    return drawn


def draw_again(folder: CellFolder) -> str | None:
    """Draw a finished cell's pictures again, and record their digests; why not, if it was not done.

    Their digests leave the result first and come back last: if it is killed in between, no record relies on a file that
    is gone. Older train.json list a picture; they do so no more.
    """
    with locks.hold(folder.path, "pictures") as held:
        if not held:
            return "another process works at it"
        try:
            result, trained = (read_json(folder.path / kind.FILE) for kind in (Result, Trained))
        except Damaged as error:
            return f"one of its records is damaged ({error})"
        if result is None or trained is None:
            return "its training or its result is not finished"
        listed, needed = result["files"], trained["files"]
        if changed := folder.changed(_without_pictures(listed | needed)):
            return "; ".join(f"{name} is damaged ({why})" for name, why in changed.items())
        kept = {name: digest for name, digest in _without_pictures(listed).items() if name != Trained.FILE}
        write_json(folder.path / Result.FILE, result | {"files": kept})
        if (rest := _without_pictures(needed)) != needed:
            write_json(folder.path / Trained.FILE, trained | {"files": rest})
        digests = {name: file_hash(folder.path / name) for name in (Trained.FILE, *draw(folder))}
        write_json(folder.path / Result.FILE, result | {"files": listed | digests})
    return None


def _without_pictures(files: Mapping[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in files.items() if name not in PICTURES}


def partition_title(manifest: Manifest) -> str:
    """The split's name, e.g. "dirichlet, 5 clients, beta = 0.1, seed 0"."""
    cell = manifest.config
    beta = "" if cell["beta"] is None else f", beta = {cell['beta']:g}"
    return f"{cell['partition']['name']}, {cell['n_clients']} clients{beta}, seed {cell['seed']}"


def draw_rounds(folder: CellFolder, path: Path, title: str) -> bool:
    """What a federated cell's clients did, by round; whether there was anything to draw.

    Up to `LINES_SHOWN` clients have a line each; of more there are their range, middle half and median. If any update
    was lost, a map of clients and rounds shows which. A cell without clients.jsonl and heldout.jsonl has no picture.
    """
    visits, groups, manifest = folder.read_log(Visit), folder.read_log(Heldout), folder.read(Manifest)
    labels, data = (manifest.labels, manifest.data) if manifest else ({}, None)
    n = labels.get("n_clients") or 1 + max((visit.client for visit in visits), default=0)
    panels = list_panels(visits, groups, n, data.class_names if data else ())
    if not panels:
        return False
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    lines, keyed = -(-len(panels) // columns), n <= LINES_SHOWN
    figure = _frame(title, panels, columns, (WIDTH * columns / 3, 0.35 + 2.15 * lines + 0.25 * keyed))
    if keyed:
        names = [f"{client}" if client else "client 0" for client in range(n)]
        settings: dict[str, Any] = {"loc": "outside lower center", "frameon": False, "fontsize": 7}
        figure.legend([key(distinct(client)) for client in range(n)], names, ncols=n, **settings)
    save(figure, path)
    return True


def _frame(title: str, panels: Panels, columns: int, size: tuple[float, float]) -> Figure:
    """The panels in rows of so many columns."""
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    places = list(figure.subplots(-(-len(panels) // columns), columns, squeeze=False).flat)
    for axes, draw_panel in zip(places, panels, strict=False):
        plain(axes)
        draw_panel(axes)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    return figure


def list_panels(
    visits: Sequence[Visit], groups: Sequence[Heldout], n: int, class_names: Sequence[str]
) -> list[Callable[[Axes], None]]:
    """What there is something to draw of, of a cell of `n` clients."""
    panels: list[Callable[[Axes], None]] = []
    if visits:
        drift, loss = (by_client(visits, n, name) for name in ("drift", "loss"))
        panels.append(partial(_draw_members, table=drift, name=r"drift $\|w_i - w\|$"))
        panels.append(partial(_draw_members, table=loss, name="local loss"))
        panels.append(partial(_draw_bytes, sent=megabytes(visits, n)))
        if any(visit.outcome != "arrived" or visit.work < 1 for visit in visits):
            panels.append(partial(_draw_outcomes, table=outcomes(visits, n)))
    classes = by_member(groups, "class_loss")
    if classes.size:
        panels.append(partial(_draw_classes, table=classes, names=class_names))
    clients = by_member(groups, "client_loss")
    if clients.size:
        panels.append(partial(_draw_members, table=clients, name="held-out loss by client"))
    return panels


def _draw_members(axes: Axes, table: Array, name: str, what: str = "clients") -> None:
    """A line a member, across rounds in which it took no part; of many their range, middle half and median."""
    few = table.shape[1] <= LINES_SHOWN
    title = name if few else f"{name}\n{table.shape[1]:,} {what}: range, middle half, median"
    axes.set_title(title, fontsize=8, pad=4)
    for number in range(table.shape[1] if few else 0):
        known = np.flatnonzero(np.isfinite(table[:, number]))
        style = distinct(number)
        line: dict[str, Any] = {"color": style.colour, "marker": style.marker, "markersize": 2.6, "lw": 1.1}
        every = max(1, len(known) // 6)
        axes.plot(known + 1, table[known, number], style.dash, markevery=every, **line)
    if not few:
        known = np.flatnonzero(np.isfinite(table).any(axis=1))
        low, first, middle, third, high = np.nanquantile(table[known], [0, 0.25, 0.5, 0.75, 1], axis=1)
        axes.fill_between(known + 1, low, high, color=COLOURS[0], alpha=0.15, lw=0)
        axes.fill_between(known + 1, first, third, color=COLOURS[0], alpha=0.35, lw=0)
        axes.plot(known + 1, middle, color=COLOURS[0], lw=1.4, marker="o" if len(known) == 1 else "", markersize=3)
    axes.set_xlim(0.5 if len(table) < 3 else 1 - 0.02 * len(table), len(table) + max(0.02 * len(table), 0.1))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.set_xlabel("round", fontsize=8, labelpad=1)
    if not _log_heights(axes, table):
        axes.set_yticks([])
        say(axes, "nothing arrived")


def _draw_classes(axes: Axes, table: Array, names: Sequence[str]) -> None:
    """As for clients, with names at the ends of the lines."""
    K = table.shape[1]
    _draw_members(axes, table, "held-out loss by class", "classes")
    if K > LINES_SHOWN:
        return
    known = {k: column[np.isfinite(column)] for k, column in enumerate(table.T)}
    ends = {k: float(column[-1]) for k, column in known.items() if len(column)}
    low, high = np.log(axes.get_ylim())
    heights = apart({k: (np.log(end) - low) / (high - low) for k, end in ends.items()}, 0.075)
    for k, height in heights.items():
        name = names[k] if k < len(names) else str(k)
        beside: dict[str, Any] = {"xycoords": "axes fraction", "va": "center", "annotation_clip": False}
        axes.annotate(name, (1.02, height), color=distinct(k).colour, fontsize=6.5, **beside)


def _draw_bytes(axes: Axes, sent: Array) -> None:
    """Stacked bars of all rounds, client by client; of many clients, of those spread evenly over the numbers."""
    n = sent.shape[1]
    shown = some_clients(n)
    axes.set_title("MB by client" + _told(shown, n), fontsize=8, pad=4)
    if not sent.any():
        axes.set(xticks=[], yticks=[])
        say(axes, "nothing travels")
        return
    places = range(len(shown))
    axes.bar(places, sent[0, shown], color=COLOURS[5], width=0.8, label="down")
    axes.bar(places, sent[1, shown], bottom=sent[0, shown], color=COLOURS[0], width=0.8, label="up")
    axes.set_ylim(0, 1.3 * sent.sum(axis=0).max())
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.legend(loc="upper right", fontsize=6.5, frameon=False, ncols=2, handlelength=1, borderaxespad=0.1)
    _name_clients(axes, shown, "x", n)


def _draw_outcomes(axes: Axes, table: Array) -> None:
    """Clients upwards, rounds to the right."""
    shown = some_clients(table.shape[1])
    axes.set_title("what became of updates" + _told(shown, table.shape[1]), fontsize=8, pad=4)
    colours: dict[str, Any] = {"cmap": ListedColormap(_OUTCOME_COLOURS), "vmin": -0.5, "vmax": 4.5}
    extent = (0.5, len(table) + 0.5, -0.5, len(shown) - 0.5)
    fields: dict[str, Any] = {"aspect": "auto", "interpolation": "nearest", "origin": "lower", "extent": extent}
    axes.imshow(table[:, shown].T, **colours, **fields)
    axes.grid(visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.set_xlabel("round", fontsize=8, labelpad=1)
    _name_clients(axes, shown, "y", table.shape[1])
    there = [number for number in range(1, 5) if (table == number).any()]
    patches = [Patch(color=_OUTCOME_COLOURS[number], label=OUTCOMES[number - 1]) for number in there]
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.17), "ncols": len(patches)}
    axes.legend(handles=patches, fontsize=6.5, frameon=False, handlelength=1, columnspacing=0.8, **below)


def _told(shown: Sequence[int], n: int) -> str:
    return f"\n{len(shown)} of {n:,} clients" if len(shown) < n else ""


def _name_clients(axes: Axes, shown: Sequence[int], which: str, n: int) -> None:
    """Numbers of clients at the places 0, 1, ... of those that are shown of `n`."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    if len(shown) == n:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    else:
        places = np.linspace(0, len(shown) - 1, 6).round().astype(int).tolist()
        axis.set_major_locator(FixedLocator(places))
        axis.set_major_formatter(FixedFormatter([f"{shown[place]}" for place in places]))
    axes.set(**{f"{which}label": "client"})
    axis.label.set_fontsize(8)
    axis.labelpad = 1


def draw_diagnostics(diagnostics: Diagnostics, path: Path, title: str, likelihood: Likelihood | None = None) -> None:
    """Where a model's held-out loss comes from: by timestep, by class and by client, and bits/dim by timestep.

    Args:
        diagnostics: without clients their panel is left out.
        likelihood: None for no panel of it.
    """
    panels: list[Callable[[Axes], None]] = [
        partial(_draw_loss_by_time, told=diagnostics),
        partial(_draw_loss_by_class, told=diagnostics),
    ]
    if diagnostics.client_loss:
        panels.append(partial(_draw_loss_by_client, losses=np.array(diagnostics.client_loss, dtype=float)))
    if likelihood:
        panels.append(partial(_draw_bits_by_time, told=likelihood, edges=diagnostics.t_edges))
    save(_frame(title, panels, len(panels), (0.2 + 2.35 * len(panels), 2.5)), path)


def _draw_loss_by_time(axes: Axes, told: Diagnostics) -> None:
    """A step a bin of timesteps."""
    losses = np.array(told.t_loss, dtype=float)
    axes.stairs(losses, told.t_edges, baseline=None, color=COLOURS[0], lw=1.6)
    axes.set_title("held-out loss by timestep", fontsize=8)
    axes.set_xlabel("t", fontsize=8, labelpad=1)
    _log_heights(axes, losses)


def _log_heights(axes: Axes, values: Array) -> bool:
    """A logarithmic axis for the positive ones of the values; whether there are any."""
    positive = values[values > 0]  # NaN is not
    if len(positive):
        log_axis(axes, "y", float(positive.min()), float(positive.max()))
    return len(positive) > 0


def _draw_loss_by_class(axes: Axes, told: Diagnostics) -> None:
    losses, names = np.array(told.class_loss, dtype=float), told.class_names
    axes.bar(range(len(losses)), losses, color=COLOURS[5], width=0.8)
    slanted: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, **(slanted if max(map(len, names), default=0) > 2 else {}))
    axes.set_title("by class", fontsize=8)


def _draw_loss_by_client(axes: Axes, losses: Array) -> None:
    """A dot a client, their mean and one standard deviation to both sides."""
    mean, sd = float(np.nanmean(losses)), float(np.nanstd(losses))
    axes.axhspan(mean - sd, mean + sd, color="#999999", alpha=0.25, lw=0)
    axes.axhline(mean, color="#444444", lw=1, ls="--")
    axes.plot(range(len(losses)), losses, MARKERS[0], color=COLOURS[1], markersize=5 if len(losses) <= 50 else 2)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_title(f"by client: {mean:.3g} ± {sd:.2g}", fontsize=8)
    axes.set_xlabel("client", fontsize=8, labelpad=1)
    axes.margins(y=0.15)


def _draw_bits_by_time(axes: Axes, told: Likelihood, edges: Sequence[int]) -> None:
    """The bound's terms, summed over each bin of timesteps; a bin without a term has no line."""
    held, _ = np.histogram(told.kept, bins=edges)
    bits, _ = np.histogram(told.kept, bins=edges, weights=np.array(told.terms, dtype=float))
    bits = np.where(held > 0, bits, np.nan)
    axes.stairs(bits, edges, baseline=None, color=COLOURS[2], lw=1.6)
    total, prior = (
        "not finite:" if value is None else format(value, digits)
        for value, digits in ((told.bits_per_dim, ".3f"), (told.prior, ".1g"))
    )
    axes.set_title(f"{total} bits/dim by timestep", fontsize=8)
    axes.set_xlabel(f"t (and {prior} of the prior)", fontsize=8, labelpad=1)
    _log_heights(axes, bits)


def partition_heatmap(
    histogram: NDArray[Any], class_names: Sequence[str], path: Path, title: str, noise: Sequence[float] = ()
) -> None:
    """How many images of each class each client holds, with the clients' sizes at the side: the paper's figure 1.

    Args:
        histogram: (n_clients, K) counts.
        class_names: K names.
        noise: standard deviation of the noise on each client's images, of the full pixel range; shown if any is not 0.
    """
    n, k = histogram.shape
    counted = n <= COUNTED_CLIENTS
    height = 0.34 * max(n, 2) if counted else min(0.34 * COUNTED_CLIENTS, 0.12 * n)
    bars = 2 if any(noise) else 1
    figure = Figure(figsize=(0.8 + 1.5 * bars + 0.52 * k, 1.0 + height), layout="constrained")
    fields, sizes, *levels = figure.subplots(1, 1 + bars, sharey=True, width_ratios=[k, *[3] * bars])
    image = fields.imshow(histogram, cmap="Blues", aspect="auto", vmin=0)
    slanted: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    fields.set_xticks(range(k), class_names, **(slanted if max(map(len, class_names)) > 3 else {}))
    fields.yaxis.set_major_locator(MaxNLocator(min(n, COUNTED_CLIENTS), integer=True))
    fields.set(xlabel="class", ylabel="client")
    fields.tick_params(length=0)
    fields.set_title(title, fontsize=10, loc="left")
    fields.spines[:].set_visible(False)
    totals = histogram.sum(axis=1)
    _draw_bars(sizes, totals, [f"{size:,}" for size in totals], "images", counted)
    for axes in levels:
        _draw_bars(axes, np.asarray(noise), [f"{level:.3g}" for level in noise], "noise (std)", counted)
    if counted:
        _write_counts(fields, histogram)
    else:
        figure.colorbar(image, ax=figure.axes[-1], label="images of a class", fraction=0.2, aspect=40)
    save(figure, path)


def _write_counts(axes: Axes, histogram: NDArray[Any]) -> None:
    dark = histogram.max() * 0.55
    for (row, column), count in np.ndenumerate(histogram):
        colour = "white" if count > dark else "black" if count else "#999999"
        axes.text(column, row, f"{count}", ha="center", va="center", fontsize=8, color=colour)


def _draw_bars(axes: Axes, values: NDArray[Any], told: Sequence[str], name: str, counted: bool) -> None:
    """A bar a client: with what it is told beside it, or an axis where there are too many."""
    bars = axes.barh(range(len(values)), values, height=0.7 if counted else 0.9, color="#9AA5B1")
    axes.tick_params(left=False, labelleft=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel(name, loc="left" if counted else "center")
    if counted:
        axes.bar_label(bars, told, fontsize=8, padding=3)
        axes.set_xlim(0, 1.55 * values.max())
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)


def by_client(visits: Sequence[Visit], n: int, name: str) -> Array:
    """A value of the updates that arrived (rounds, n), NaN where none did; round 1 stands first."""
    table = np.full((_last_round(visits), n), np.nan)
    for visit in visits:
        if visit.outcome == "arrived" and getattr(visit, name) is not None:
            table[visit.round - 1, visit.client] = getattr(visit, name)
    return table


def by_member(groups: Sequence[Heldout], name: str) -> Array:
    """Losses of classes or clients (rounds, members), NaN where one is not known; without members where none are."""
    known = [line for line in groups if getattr(line, name)]
    rows = max((line.round for line in known), default=0)
    table = np.full((rows, max((len(getattr(line, name)) for line in known), default=0)), np.nan)
    for line in known:
        table[line.round - 1, : len(getattr(line, name))] = np.array(getattr(line, name), dtype=float)
    return table


def outcomes(visits: Sequence[Visit], n: int) -> Array:
    """What became of visits (rounds, n): 0 for a client that was not drawn, else 1 + the place in `OUTCOMES`."""
    table = np.zeros((_last_round(visits), n))
    for visit in visits:
        partly = visit.outcome == "arrived" and visit.work < 1
        outcome = OUTCOMES[1] if partly else visit.outcome
        table[visit.round - 1, visit.client] = 1 + OUTCOMES.index(outcome)
    return table


def megabytes(visits: Sequence[Visit], n: int) -> Array:
    """What travelled to and from each client (2, n): down, up."""
    table = np.zeros((2, n))
    for visit in visits:
        table[:, visit.client] += visit.bytes_down, visit.bytes_up
    return table / 1e6


def _last_round(visits: Sequence[Visit]) -> int:
    return max(visit.round for visit in visits)


def some_clients(n: int) -> list[int]:
    """All, or `CLIENTS_SHOWN` of them spread evenly over the numbers."""
    return spread(n, CLIENTS_SHOWN)
