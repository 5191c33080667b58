"""Generated images: a sheet a scheme in the colours of the paper's figures 5 and 6, and strategies by split."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from torch import Tensor

from bench.pictures.axes import OTHER, say
from bench.pictures.sheets import coloured, filled, tile
from bench.pictures.style import NotApplicable, literal, save
from bench.report.figures.layout import COLUMN, DPI, PAGE, SIZE, Room, compared, not_shown, page
from bench.report.figures.split_parts import left_out
from bench.report.figures.table import NAME, frame, read_table
from bench.report.figures.widths import shorten
from bench.report.results import Group, Results

SCHEMES_SHOWN = 12
COLUMNS_SHOWN = 4
SHEET = 4  # images, across and down
_ACROSS = {COLUMN: 2, PAGE: 4}  # sheets, by width
_GAP = 0.12  # inches between them


@dataclass(frozen=True)
class Schemes:
    """What has a sheet or a strip each: centralized training first, then split by split."""

    groups: list[Group]
    notes: list[str]


def schemes_shown(results: Results) -> Schemes:
    """The first `SCHEMES_SHOWN` of the strategies that stand out (all, where they are few).

    Raises:
        NotApplicable: if no cell is finished.
    """
    shown = compared(results, SCHEMES_SHOWN)
    leading = [group for split in shown.splits for group in split.groups if shown.styles[group.strategy] != OTHER]
    each = sorted(dict.fromkeys(leading), key=lambda group: not group.central)
    cut = left_out(len(each) - SCHEMES_SHOWN, "scheme", "schemes")
    return Schemes(each[:SCHEMES_SHOWN], [*shown.notes, not_shown(shown), cut])


def seed_note(groups: Iterable[Group]) -> str:
    """Which seed is shown: the first that is finished."""
    seeds = sorted({group.done[0].labels["seed"] for group in groups})
    return f"seed {', '.join(map(str, seeds))}" + (": not all from the same noise" if len(seeds) > 1 else "")


def samples(results: Results, *paths: Path) -> None:
    """A sheet of the first images a scheme, grey levels in viridis colours.

    Raises:
        NotApplicable: if no finished cell has its images.
    """
    shown = schemes_shown(results)
    found = {group: group.done[0].images(SHEET**2) for group in shown.groups}
    _check(found.values())
    width = COLUMN if len(found) <= _ACROSS[COLUMN] else PAGE
    across = _ACROSS[width]
    rows = -(-len(found) // across)
    notes = [f"the first {SHEET**2} images, {seed_note(found)}", *shown.notes]
    wide = (width - 0.1 - _GAP * (across - 1)) / across
    room = Room(left=0.05, between=_GAP, above=0.33, high=wide, below=0.04, right=0.05, foot=0.02)
    figure, panels = page(rows, across, room, {}, notes, width)
    places = [axes for row in panels for axes in row]
    for axes, (group, images) in zip(places, found.items(), strict=False):
        names = [shorten(group.strategy, wide, SIZE), shorten(group.split, wide, SIZE)]
        axes.set_title(literal("\n".join(filter(None, names))), fontsize=SIZE, pad=2)
        show(axes, images, SHEET, "viridis")
    for axes in places[len(found) :]:
        axes.set_visible(False)
    save(figure, *paths, dpi=DPI)


def show(axes: Axes, images: Tensor | None, across: int, colours: str = "grey") -> None:
    """Images side by side, `across` in a line, or why there are none."""
    axes.set_axis_off()
    if images is None:
        say(axes, "samples were removed")
        return
    made = coloured(images, "viridis" if colours == "viridis" else "grey")
    places = across * -(-len(made) // across)
    axes.imshow(tile(filled(made, places), across, scale=4, line=4, colour=255), interpolation="none", aspect="equal")


def _check(found: Iterable[Tensor | None]) -> None:
    if all(images is None for images in found):
        raise NotApplicable("samples.safetensors was removed from every cell that would be shown")


def samples_grid(results: Results, *paths: Path) -> None:
    """Strategies by split: the first images of each, those below one another from the same noise.

    Raises:
        NotApplicable: if no finished cell has its images.
    """
    table = read_table(results, COLUMNS_SHOWN)
    wide = (PAGE - NAME - 0.18 - 0.1 * (len(table.columns) - 1)) / len(table.columns)
    count = min(12, int(wide / 0.32))
    found = {place: group.done[0].images(count) for place, group in table.groups.items()}
    _check(found.values())
    note = f"images below one another stem from the same noise; {seed_note(table.groups.values())}"
    figure, panels = frame(table, wide / count, 0.1, [note, *table.notes])
    for place, axes in panels.items():
        if place in found:
            show(axes, found[place], count)
        else:
            axes.set_axis_off()
            say(axes, "not finished")
    save(figure, *paths, dpi=DPI)
