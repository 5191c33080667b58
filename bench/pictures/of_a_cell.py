"""Pictures of one cell from the files in its folder: partition, rounds, losses, samples."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from bench.config.names import cell_name
from bench.federation.mixture import spread
from bench.pictures.axes import WIDTH, apart, distinct, key, log_axis, plain, say
from bench.pictures.sheets import class_sheet, sample_sheet
from bench.pictures.style import COLOURS, MARKERS, Array, save
from bench.store import locks
from bench.store.cell_folder import SAMPLES, CellFolder
from bench.store.files import Damaged, file_hash, read_json, write_json
from bench.store.records import Diagnostics, Likelihood, Manifest, Partition, Result, Trained, Validation, Visit
from bench.store.states import read_tensors

PICTURES = ("partition.png", "rounds.png", "diagnostics.png", "samples.png", "samples_viridis.png")
SHEET = 64  # samples on their sheet
LINES_SHOWN = 12  # up to so many clients or classes have a line each
COUNTED_CLIENTS = 25  # up to so many clients, each count is written into its field
CLIENTS_SHOWN = 100  # where each has a row or a bar
Draw = Callable[[Axes], None]
OUTCOMES = {"arrived": "#BFD9EA", "part of its steps": "#56B4E9", "dropped": "#E69F00", "failed": "#B02020"}


def draw(folder: CellFolder) -> list[str]:
    """Draw those of `PICTURES` that the cell has data for, from its files alone; their names.

    Raises:
        Damaged: if the samples are not what was written.
    """
    manifest = folder.read(Manifest)
    if manifest is None:
        return []
    title, drawn = cell_name(manifest.labels), []
    if draw_partition(folder):
        drawn.append("partition.png")
        if draw_rounds(folder, folder.path / "rounds.png", title):
            drawn.append("rounds.png")
    if diagnostics := folder.read(Diagnostics):
        drawn.append("diagnostics.png")
        draw_diagnostics(diagnostics, folder.path / drawn[-1], title, folder.read(Likelihood))
    samples = read_tensors(folder.path / SAMPLES, sealed=False)
    if samples is not None:
        drawn += ["samples.png", "samples_viridis.png"]
        if "labels" in samples:
            class_sheet(samples["images"], samples["labels"], manifest.class_names, folder.path / "samples.png")
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


def draw_partition(folder: CellFolder) -> bool:
    """Draw partition.png, whether the cell has ended or not; False where it has no split."""
    manifest, partition = folder.read(Manifest), folder.read(Partition)
    if manifest is None or partition is None:
        return False
    counts, title = np.array(partition.histogram), partition_title(manifest)
    partition_heatmap(counts, manifest.class_names, folder.path / "partition.png", title, partition.noise)
    return True


def partition_title(manifest: Manifest) -> str:
    """The split's name, e.g. "dirichlet, 5 clients, beta = 0.1, seed 0"."""
    cell = manifest.config
    beta = "" if cell["beta"] is None else f", beta = {cell['beta']:g}"
    return f"{cell['partition']['name']}, {cell['n_clients']} clients{beta}, seed {cell['seed']}"


def partition_heatmap(
    histogram: NDArray[Any], class_names: Sequence[str], path: Path, title: str, noise: Sequence[float] = ()
) -> None:
    """How many images of each class each client holds, with the clients' sizes at the side: the paper's figure 1.

    Args:
        histogram: (n_clients, K) counts.
        class_names: K names; numbers where there are none.
        noise: standard deviation of the noise on each client's images, of the full pixel range; shown if any is not 0.
    """
    n, k = histogram.shape
    counted, columns = n <= COUNTED_CLIENTS, 3 if any(noise) else 2
    height = 0.34 * max(n, 2) if counted else min(0.34 * COUNTED_CLIENTS, 0.12 * n)
    figure = Figure(figsize=(1.5 * columns - 0.7 + 0.52 * k, 1.0 + height), layout="constrained")
    fields, *sides = figure.subplots(1, columns, sharey=True, width_ratios=[k, 3, 3][:columns])
    image = fields.imshow(histogram, cmap="Blues", aspect="auto", vmin=0)
    _name_classes(fields, class_names or tuple(map(str, range(k))))
    fields.yaxis.set_major_locator(MaxNLocator(min(n, COUNTED_CLIENTS), integer=True))
    fields.set(xlabel="class", ylabel="client")
    fields.tick_params(length=0)
    fields.set_title(title, fontsize=10, loc="left")
    fields.spines[:].set_visible(False)
    _draw_sizes(sides[0], histogram.sum(axis=1), "images", "{:,.0f}")
    for axes in sides[1:]:
        _draw_sizes(axes, np.asarray(noise), "noise (std)", "{:.3g}")
    if not counted:
        figure.colorbar(image, ax=figure.axes[-1], label="images of a class", fraction=0.2, aspect=40)
    for (row, column), count in np.ndenumerate(histogram) if counted else ():
        colour = "white" if count > 0.55 * histogram.max() else "black" if count else "#999999"
        fields.text(column, row, f"{count}", ha="center", va="center", fontsize=8, color=colour)
    save(figure, path)


def _draw_sizes(axes: Axes, values: NDArray[Any], name: str, form: str) -> None:
    """A bar a client with its value in this form beside it, or an axis where there are too many."""
    counted = len(values) <= COUNTED_CLIENTS
    bars = axes.barh(range(len(values)), values, height=0.7 if counted else 0.9, color="#9AA5B1")
    axes.tick_params(left=False, labelleft=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel(name, loc="left" if counted else "center")
    if counted:
        axes.bar_label(bars, fmt=form, fontsize=8, padding=3)
        axes.set(xlim=(0, 1.55 * values.max()), xticks=[])
        axes.spines["bottom"].set_visible(False)


def draw_rounds(folder: CellFolder, path: Path, title: str) -> bool:
    """What a federated cell's clients did, by round; whether there was anything to draw.

    Up to `LINES_SHOWN` clients have a line each; of more there are their range, middle half and median. If any update
    was lost, a map of clients and rounds shows which. A cell without clients.jsonl and validation.jsonl has no picture.
    """
    visits, groups, manifest = folder.read_log(Visit), folder.read_log(Validation), folder.read(Manifest)
    labels, names = (manifest.labels, manifest.class_names) if manifest else ({}, ())
    n = labels.get("n_clients") or 1 + max((visit.client for visit in visits), default=0)
    panels = _panels_of_visits(visits, n) if visits else []
    classes, clients = by_member(groups, "class_loss"), by_member(groups, "client_loss")
    if classes.size:
        panels.append(lambda axes: _draw_members(axes, classes, "validation loss by class", "classes", names))
    if clients.size:
        panels.append(lambda axes: _draw_members(axes, clients, "validation loss by client"))
    if not panels:
        return False
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    lines, keyed = -(-len(panels) // columns), n <= LINES_SHOWN
    figure = _figure(title, panels, columns, (WIDTH * columns / 3, 0.35 + 2.15 * lines + 0.25 * keyed))
    if keyed:
        numbers = [f"{client}" if client else "client 0" for client in range(n)]
        settings: dict[str, Any] = {"loc": "outside lower center", "frameon": False, "fontsize": 7}
        figure.legend([key(distinct(client)) for client in range(n)], numbers, ncols=n, **settings)
    save(figure, path)
    return True


def _figure(title: str, panels: Sequence[Draw], columns: int, size: tuple[float, float]) -> Figure:
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


def _name(axes: Axes, title: str, x: str) -> None:
    """The panel's title, and the name of its x axis, which has a few whole numbers."""
    axes.set_title(title, fontsize=8, pad=4)
    axes.set_xlabel(x, fontsize=8, labelpad=1)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))


def _name_classes(axes: Axes, names: Sequence[str]) -> None:
    """Names of classes at 0, 1, ... below the axes, slanted where they are long."""
    slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, **(slanted if max(map(len, names), default=0) > 2 else {}))


def _log_heights(axes: Axes, values: Array, otherwise: str = "") -> None:
    """A logarithmic axis for the positive ones of the values; a text where there is none."""
    positive = values[values > 0]  # NaN is not
    if len(positive):
        log_axis(axes, "y", float(positive.min()), float(positive.max()))
    else:
        axes.yaxis.set_major_locator(NullLocator())
        say(axes, otherwise)


def _panels_of_visits(visits: Sequence[Visit], n: int) -> list[Draw]:
    """Drift, loss and bytes of `n` clients, and what became of their updates if any was not whole."""
    shown = spread(n, CLIENTS_SHOWN)
    which = f"\n{len(shown)} of {n:,} clients" if len(shown) < n else ""
    drift, loss, sent, lost = (
        by_client(visits, n, "drift"),
        by_client(visits, n, "loss"),
        megabytes(visits, n),
        outcomes(visits, n),
    )
    panels: list[Draw] = [
        lambda axes: _draw_members(axes, drift, r"drift $\|w_i - w\|$"),
        lambda axes: _draw_members(axes, loss, "local loss"),
        lambda axes: _draw_bytes(axes, sent, "MB by client" + which, shown),
    ]
    if (lost > 1).any():
        panels.append(lambda axes: _draw_outcomes(axes, lost, "what became of updates" + which, shown))
    return panels


def _draw_members(
    axes: Axes, table: Array, title: str, members: str = "clients", names: Sequence[str] | None = None
) -> None:
    """A value of each member (rounds, members): a line each across rounds in which it took no part, with `names` at
    their ends; of many members their range, middle half and median.
    """
    count, few = table.shape[1], table.shape[1] <= LINES_SHOWN
    _name(axes, title if few else f"{title}\n{count:,} {members}: range, middle half, median", "round")
    for number, column in enumerate(table.T if few else ()):
        rounds, style = np.flatnonzero(np.isfinite(column)), distinct(number)
        look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "markersize": 2.6, "lw": 1.1}
        axes.plot(rounds + 1, column[rounds], style.dash, markevery=max(1, len(rounds) // 6), **look)
    if not few:
        rounds = np.flatnonzero(np.isfinite(table).any(axis=1))
        low, first, middle, third, high = np.nanquantile(table[rounds], [0, 0.25, 0.5, 0.75, 1], axis=1)
        axes.fill_between(rounds + 1, low, high, color=COLOURS[0], alpha=0.15, lw=0)
        axes.fill_between(rounds + 1, first, third, color=COLOURS[0], alpha=0.35, lw=0)
        axes.plot(rounds + 1, middle, color=COLOURS[0], lw=1.4, marker="o" if len(rounds) == 1 else "", markersize=3)
    axes.set_xlim(0.5, len(table) + 0.5)
    _log_heights(axes, table, "nothing arrived")
    if few and names is not None:
        _name_lines(axes, names)


def _name_lines(axes: Axes, names: Sequence[str]) -> None:
    """Each line's name, or its number, at its right end and clear of the others."""
    low, high = np.log(axes.get_ylim())
    heights = [np.asarray(line.get_ydata()) for line in axes.lines]
    ends = {k: float(column[-1]) for k, column in enumerate(heights) if len(column)}
    places = apart({k: (np.log(end) - low) / (high - low) for k, end in ends.items()}, 0.075)
    beside: dict[str, Any] = {"xycoords": "axes fraction", "va": "center", "annotation_clip": False, "fontsize": 6.5}
    for k, height in places.items():
        axes.annotate(names[k] if k < len(names) else f"{k}", (1.02, height), color=distinct(k).colour, **beside)


def _draw_bytes(axes: Axes, sent: Array, title: str, shown: Sequence[int]) -> None:
    """Stacked bars of all rounds, at the numbers of the clients that are shown."""
    _name(axes, title, "client")
    if not sent.any():
        axes.set(xticks=[], yticks=[])
        say(axes, "nothing travels")
        return
    below, width = np.zeros(len(shown)), 0.8 * sent.shape[1] / len(shown)
    for name, colour, values in zip(("down", "up"), (COLOURS[5], COLOURS[0]), sent[:, shown], strict=True):
        axes.bar(shown, values, bottom=below, color=colour, width=width, label=name)
        below = below + values
    axes.set_ylim(0, 1.3 * below.max())
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.legend(loc="upper right", fontsize=6.5, frameon=False, ncols=2, handlelength=1, borderaxespad=0.1)


def _draw_outcomes(axes: Axes, table: Array, title: str, shown: Sequence[int]) -> None:
    """Clients upwards, rounds to the right; white where a client was not drawn."""
    _name(axes, title, "round")
    colours = ListedColormap(["white", *OUTCOMES.values()])
    extent = (0.5, len(table) + 0.5, -0.5, table.shape[1] - 0.5)
    fields: dict[str, Any] = {"aspect": "auto", "interpolation": "nearest", "origin": "lower", "extent": extent}
    axes.imshow(table[:, shown].T, cmap=colours, vmin=-0.5, vmax=len(OUTCOMES) + 0.5, **fields)
    axes.grid(visible=False)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_ylabel("client", fontsize=8, labelpad=1)
    patches = [
        Patch(color=colour, label=name)
        for number, (name, colour) in enumerate(OUTCOMES.items(), start=1)
        if (table == number).any()
    ]
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.17), "ncols": len(patches)}
    axes.legend(handles=patches, fontsize=6.5, frameon=False, handlelength=1, columnspacing=0.8, **below)


def by_client(visits: Sequence[Visit], n: int, name: str) -> Array:
    """A value of the updates that arrived (rounds, n), NaN where none did; round 1 stands first."""
    table = np.full((_last_round(visits), n), np.nan)
    for visit in visits:
        if visit.outcome == "arrived":
            table[visit.round - 1, visit.client] = np.float64(getattr(visit, name))  # None is NaN
    return table


def by_member(groups: Sequence[Validation], name: str) -> Array:
    """Losses of classes or clients (rounds, members), NaN where one is not known; without members where none are."""
    losses = {line.round: getattr(line, name) for line in groups if getattr(line, name)}
    table = np.full((max(losses, default=0), max(map(len, losses.values()), default=0)), np.nan)
    for number, values in losses.items():
        table[number - 1, : len(values)] = np.array(values, dtype=float)
    return table


def outcomes(visits: Sequence[Visit], n: int) -> Array:
    """What became of visits (rounds, n): 0 for a client that was not drawn, else 1 + the place in `OUTCOMES`."""
    table, places = np.zeros((_last_round(visits), n)), list(OUTCOMES)
    for visit in visits:
        partly = visit.outcome == "arrived" and visit.work < 1
        table[visit.round - 1, visit.client] = 1 + places.index("part of its steps" if partly else visit.outcome)
    return table


def megabytes(visits: Sequence[Visit], n: int) -> Array:
    """What travelled to and from each client (2, n): down, up."""
    table = np.zeros((2, n))
    for visit in visits:
        table[:, visit.client] += visit.bytes_down, visit.bytes_up
    return table / 1e6


def _last_round(visits: Sequence[Visit]) -> int:
    return max(visit.round for visit in visits)


def draw_diagnostics(diagnostics: Diagnostics, path: Path, title: str, likelihood: Likelihood | None = None) -> None:
    """Where a model's test loss comes from: by timestep, by class and by client, and bits/dim by timestep.

    Args:
        diagnostics: without clients their panel is left out.
        likelihood: None for no panel of it.
    """
    edges, names = diagnostics.t_edges, diagnostics.class_names
    by_time, by_class, by_client = (
        np.array(losses, dtype=float)
        for losses in (diagnostics.t_loss, diagnostics.class_loss, diagnostics.client_loss)
    )

    def classes(axes: Axes) -> None:
        _name(axes, "by class", "")
        axes.bar(range(len(by_class)), by_class, color=COLOURS[5], width=0.8)
        _name_classes(axes, names)

    panels: list[Draw] = [lambda axes: _draw_bins(axes, by_time, edges, "test loss by timestep", "t"), classes]
    if len(by_client):
        panels.append(lambda axes: _draw_clients(axes, by_client))
    if likelihood:
        panels.append(lambda axes: _draw_bits(axes, likelihood, edges))
    save(_figure(title, panels, len(panels), (0.2 + 2.35 * len(panels), 2.5)), path)


def _draw_bins(axes: Axes, values: Array, edges: Sequence[int], title: str, x: str, colour: str = COLOURS[0]) -> None:
    """A step a bin of timesteps."""
    _name(axes, title, x)
    axes.stairs(values, edges, baseline=None, color=colour, lw=1.6)
    _log_heights(axes, values)


def _draw_clients(axes: Axes, losses: Array) -> None:
    """A dot a client, their mean and one standard deviation to both sides."""
    mean, sd = float(np.nanmean(losses)), float(np.nanstd(losses))
    _name(axes, f"by client: {mean:.3g} ± {sd:.2g}", "client")
    axes.axhspan(mean - sd, mean + sd, color="#999999", alpha=0.25, lw=0)
    axes.axhline(mean, color="#444444", lw=1, ls="--")
    axes.plot(range(len(losses)), losses, MARKERS[0], color=COLOURS[1], markersize=5 if len(losses) <= 50 else 2)
    axes.margins(y=0.15)


def _draw_bits(axes: Axes, likelihood: Likelihood, edges: Sequence[int]) -> None:
    """The bound's terms, summed over each bin of timesteps; a bin without a term has no line."""
    counts, _ = np.histogram(likelihood.kept, bins=edges)
    bits, _ = np.histogram(likelihood.kept, bins=edges, weights=np.array(likelihood.terms, dtype=float))
    total, prior = (
        "not finite:" if value is None else format(value, digits)
        for value, digits in ((likelihood.bits_per_dim, ".3f"), (likelihood.prior, ".1g"))
    )
    bits = np.where(counts > 0, bits, np.nan)
    _draw_bins(axes, bits, edges, f"{total} bits/dim by timestep", f"t (and {prior} of the prior)", COLOURS[2])
