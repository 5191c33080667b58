"""One picture of a whole grid, in the layout that suits it: by split or by recipe."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from bench.pictures.axes import OTHER, key
from bench.pictures.style import Array, Style, central_styles
from bench.report.figures import panels
from bench.report.figures.captions import Caption, Picture
from bench.report.figures.compared import Compared, compared, known
from bench.report.figures.layout import Legend, blank, room, side_name, stacked, wrapped
from bench.report.figures.recipes import STRIPS, comparison, draw_recipes
from bench.report.lines import round_line, seeds_note
from bench.report.results import Group, Results

RECIPES_FROM = 5  # so many values of further axes have a row each, instead of a panel each
SAMPLES = 10  # of each group
_ACROSS = 4  # panels of curves
_CURVES, _ROW, _HEAD = 1.4, 0.5, 0.2  # inches of a row of curves, of a group, and above the groups
Curves = list[list[Group]]  # panels beside one another, with the groups of each


@dataclass(frozen=True)
class Parts:
    """What is the same on all pages.

    Attributes:
        styles: by the labels of lines.
        ends: of the axis of losses, see `panels.log_ends`.
        mix: shares of the classes in the training data (K,), if every split is of the same.
        top: of the axes of classes.
    """

    shown: Compared
    styles: dict[str, Style]
    ends: tuple[float, float] | None
    mix: Array
    top: float


def overview(results: Results) -> list[Picture]:
    """One picture of a grid: validation loss by round for each split, then samples, FID and generated classes.

    Many values of further axes (recipes) have a row each instead, with loss, FID and samples of what is compared:
    centralized training beside the strategies. Samples are those of the first seed.

    Raises:
        NotApplicable: if no cell is finished.
    """
    shown = compared(results)
    columns, rows = comparison(shown)
    enough = 2 if "recipe" in results.extra_axes else RECIPES_FROM
    return draw_recipes(shown, columns, rows) if len(rows) >= enough and len(columns) in STRIPS else _splits(shown)


def _splits(shown: Compared) -> list[Picture]:
    """Curves of each split above, a row a group below, on as many pages as they take."""
    groups = shown.results.finished
    styles = line_styles(groups, shown)
    legend = [(wrapped(_line_name(label, shown), 60), key(style)) for label, style in styles.items() if style != OTHER]
    lines = list(known((str(k), round_line(group, "validation_loss")) for k, group in enumerate(groups)).values())
    top = 1.05 * max((max(_shares(group), default=0.0) for group in groups), default=1.0)
    parts = Parts(shown, styles, panels.log_ends(lines), _label_mix(shown.results), top or 1.0)
    curves = _curves(groups)
    rows: list[Curves | Group] = [curves[k : k + _ACROSS] for k in range(0, len(curves), _ACROSS)]
    each = max(_ROW, *(0.125 * (1 + _told(group, shown).count("\n")) + 0.05 for group in groups))
    heights = [_CURVES] * len(rows) + [each] * len(groups)
    pages = stacked([*rows, *groups], heights, room(legend) - _HEAD)
    figures = [_page(page, parts, legend, each) for page in pages]
    cut = len(groups) - sum(isinstance(row, Group) for page in pages for row in page)
    spread = " (mean ± standard deviation)" if shown.results.repeated else ""
    notes = [seeds_note(lines), f"the first {SAMPLES} samples of the first seed, with FID{spread}"]
    notes += ["bars: classes of its samples" + ("; line: of the data" if len(parts.mix) else ""), shown.grey()]
    text = Caption("Validation loss by round; samples, FID and classes", notes).text(shown.results, cut)
    return [Picture(figure, text) for figure in figures]


def _curves(groups: Sequence[Group]) -> Curves:
    """What is drawn together: each split's groups, and centralized training with every one."""
    central = [group for group in groups if group.central]
    splits = dict.fromkeys(group.split for group in groups if not group.central)
    found = [[*central, *(g for g in groups if g.split == split and not g.central)] for split in splits]
    return found or [central]


def line_styles(groups: Sequence[Group], shown: Compared) -> dict[str, Style]:
    """By label: a strategy's own, and black for centralized training, of which there are several on further axes."""
    central = dict.fromkeys(_line_label(group, shown) for group in groups if group.central)
    federated = {group.strategy: shown.styles[group.strategy] for group in groups if not group.central}
    return central_styles(list(central)) | federated


def _line_label(group: Group, shown: Compared) -> str:
    """Centralized training on a further axis has no panel of its own, so its line says where it stands."""
    return ", ".join(filter(None, [group.strategy, shown.place(group) if group.central else ""]))


def _line_name(label: str, shown: Compared) -> str:
    strategy, _, place = label.partition(", ")
    return shown.name(label) if label in shown.styles else ", ".join([shown.name(strategy), place])


def _page(rows: Sequence[Curves | Group], parts: Parts, legend: Legend, each: float) -> Figure:
    """Curves above, groups below, `each` inches high."""
    groups = [row for row in rows if isinstance(row, Group)]
    curves = [row for row in rows if not isinstance(row, Group)]
    heights = [_CURVES * len(curves), _HEAD + each * len(groups)]
    both = [high for high, there in zip(heights, (curves, groups), strict=True) if there]
    figure = blank(sum(both), legend if curves else ())
    subfigures = list(figure.subfigures(len(both), 1, squeeze=False, height_ratios=both).flat)
    if curves:
        _draw_curves(subfigures.pop(0), curves, parts)
    if groups:
        _draw_groups(subfigures.pop(0), groups, parts)
    return figure


def _draw_curves(figure: SubFigure, rows: Sequence[Curves], parts: Parts) -> None:
    across = max(map(len, rows))
    grid = figure.subplots(len(rows), across, squeeze=False, sharex=True, sharey=True)
    drawn = [
        (axes, groups) for line, row in zip(grid, rows, strict=True) for axes, groups in zip(line, row, strict=False)
    ]
    for axes, groups in drawn:
        lines = known((_line_label(group, parts.shown), round_line(group, "validation_loss")) for group in groups)
        panels.lines(axes, lines, parts.styles)
        split = next((parts.shown.place(group) for group in groups if not group.central), "centralized training")
        axes.set_title(wrapped(split, 100 // across))
        panels.log_heights(axes, parts.ends)
        axes.set_xlabel("round")
        axes.label_outer()
    for axes in grid.flat[len(drawn) :]:
        axes.set_visible(False)
    grid[0, 0].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for line in grid:
        line[0].set_ylabel("validation loss (log)")


def _draw_groups(figure: SubFigure, groups: Sequence[Group], parts: Parts) -> None:
    """A row a group: its name and FID, its first samples, the classes of all its samples."""
    grid = figure.subplots(len(groups), 2, squeeze=False, width_ratios=[4.2, 1.0])
    names = groups[0].done[0].class_names
    for (samples, classes), group in zip(grid, groups, strict=True):
        colour = parts.styles[_line_label(group, parts.shown)].colour
        panels.images(samples, group.done[0].images(SAMPLES), SAMPLES, count=SAMPLES)
        side_name(samples, _told(group, parts.shown), color=colour)
        if shares := _shares(group):
            panels.bars(classes, np.array([shares]), np.zeros(len(shares)), parts.mix, colour)
            classes.set(ylim=(0, parts.top), yticks=[])
            panels.class_axis(classes, names if max(map(len, names), default=3) <= 2 else ())
            classes.tick_params(length=0, labelbottom=group is groups[-1])
            classes.spines["left"].set_visible(False)
        else:
            panels.nothing(classes, "not known")
    grid[0, 0].set_title(f"first {SAMPLES} samples")
    grid[0, 1].set_title("classes (line: data)" if len(parts.mix) else "classes")


def _told(group: Group, shown: Compared) -> str:
    """The name of a row: strategy, split and FID."""
    split = wrapped(shown.place(group), 30)
    return "\n".join(filter(None, [shown.name(group.strategy), split, _fid_text(group)]))


def _fid_text(group: Group) -> str:
    """Mean and standard deviation over the seeds."""
    values = group.scores("fid")
    if not len(values):
        return "FID unknown"
    spread = f" ± {values.std(ddof=1):.2g}" if len(values) > 1 else ""
    return f"FID {panels.three_digits(values.mean())}{spread}"


def _shares(group: Group) -> tuple[float, ...]:
    """Of the classes, among the samples of the first seed; () if unknown."""
    result = group.done[0].result
    return tuple(result.class_histogram or ()) if result else ()


def _label_mix(results: Results) -> Array:
    """Shares of the classes in the training data (K,); (0,) unless every split is of the same."""
    found = [shares for cell in results.cells if (shares := cell.class_shares) is not None]
    same = bool(found) and all(len(mix) == len(found[0]) and np.allclose(mix, found[0]) for mix in found)
    return found[0] if same else np.empty(0)
