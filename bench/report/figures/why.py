"""Why federation hurts: what clients do to one another by round, and to which classes and clients that is done."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.pictures.axes import NOTE, WIDTH, draw_line, headline, log_axis, place, plain, say, wrapped, write
from bench.pictures.style import Style, save
from bench.report.figures.split_parts import SPLITS_SHOWN, finished_splits, grey_note, left_out, line_styles
from bench.report.figures.why_data import Row, read_rows
from bench.report.figures.why_rows import HEADING, Scales, draw_rows, find_scales, rows_height
from bench.report.lines import Line
from bench.report.results import Results

ROWS_SHOWN = 30  # of a split
_LINES = 1.35  # inches, height of the panels of lines


def why(results: Results, *paths: Path) -> None:
    """Why federation hurts: for each split drift and cosine by round, then a row a strategy.

    A row has the last round's drift and cosine, held-out loss by class, generated classes minus the data's, clients'
    held-out losses, and FID to all images beside the clients' own. All are means over seeds; of clients those of all
    seeds are shown. A note says what is left out.

    Raises:
        NotApplicable: if no cell is finished.
    """
    splits = finished_splits(results)
    shown, styles = splits[:SPLITS_SHOWN], line_styles(splits)
    every = [read_rows(split) for split in shown]
    blocks = [rows[:ROWS_SHOWN] for rows in every]
    cut = max(len(rows) for rows in every) - ROWS_SHOWN
    notes = [
        *results.unfinished(),
        left_out(len(splits) - len(shown), "split", "splits"),
        left_out(cut, "strategy", "strategies"),
        grey_note(styles),
    ]
    names = splits[0].groups[0].done[0].class_names
    lines = wrapped(notes, 155)
    heights = [0.34 + _lines_height(rows) + rows_height(len(rows), names) for rows in blocks]
    high = sum(heights) + 0.13 * len(lines) + 0.1
    figure = Figure(figsize=(WIDTH, high))
    scales, top = find_scales([row for rows in blocks for row in rows]), 0.0
    for rows, height in zip(blocks, heights, strict=True):
        _draw_split(figure, top, rows, styles, scales, names)
        top += height
    write(figure, 0.1, high - 0.05, "\n".join(lines), va="bottom", **NOTE)
    save(figure, *paths)


def _lines_height(rows: Sequence[Row]) -> float:
    """Of the panels of lines, which centralized training alone does not have."""
    return 0.0 if all(row.group.central for row in rows) else _LINES + 0.32


def _draw_split(
    figure: Figure,
    top: float,
    rows: Sequence[Row],
    styles: dict[str, Style],
    scales: Scales,
    names: Sequence[str],
) -> None:
    headline(figure, 0.1, top + 0.22, rows[-1].group.split)
    draw_rows(figure, top + 0.34 + _lines_height(rows) + HEADING, rows, styles, scales, names)
    federated = [row for row in rows if not row.group.central]
    if not federated:
        return
    lines, half = [styles[row.group.strategy] for row in federated], (WIDTH - 0.62 - 0.72 - 0.1) / 2
    drift = place(figure, 0.62, top + 0.34, half, _LINES)
    _draw_by_round(drift, [row.drift for row in federated], lines, log=True)
    drift.set_ylabel(r"drift $\|w_i - w\|$", fontsize=8, labelpad=2)
    cosine = place(figure, 0.62 + half + 0.72, top + 0.34, half, _LINES)
    _draw_by_round(cosine, [row.cosine for row in federated], lines, log=False)
    cosine.set_ylabel("cosine of updates", fontsize=8, labelpad=2)


def _draw_by_round(axes: Axes, lines: Sequence[Line | None], styles: Sequence[Style], log: bool) -> None:
    """A line a strategy."""
    plain(axes)
    axes.set_xlabel("round", fontsize=8, labelpad=1)
    known = [value for line in lines if line for value in line.mean if value > 0 or not log]
    if not known:
        axes.set(xticks=[], yticks=[])
        say(axes, "not known")
        return
    for line, style in zip(lines, styles, strict=True):
        if line:
            draw_line(axes, line.x, line.mean, style)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    if log:
        log_axis(axes, "y", min(known), max(known))
    else:
        axes.axhline(0, color="#666666", lw=0.6)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
