"""What both layouts of the overview share: the curve of the held-out loss and its axes, how a score is written."""

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from bench.pictures.style import Style
from bench.report.lines import Line, round_line
from bench.report.results import Group

ROWS_SHOWN = 24  # of experiments or of recipes, with their samples


def draw_curve(axes: Axes, group: Group, style: Style) -> Line2D | None:
    """Draw the group's held-out loss by round with its band; returns the line, None where no round tells of it."""
    line = loss_line(group)
    if line is None:
        return None
    if line.band is not None:
        axes.fill_between(line.x, *line.band, color=style.colour, alpha=0.18, lw=0)
    (drawn,) = axes.plot(
        line.x,
        line.mean,
        style.dash,
        color=style.colour,
        marker=style.marker or ("o" if len(line.x) == 1 else ""),
        markersize=3.5,
        markevery=max(1, len(line.x) // 6),
        lw=2.4 if group.central else 1.3,
        zorder=2 if group.central else 3,
    )
    return drawn


def loss_line(group: Group) -> Line | None:
    return round_line(group, "heldout_loss")


def finish_axes(axes: Axes, below: bool) -> None:
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


def three_digits(value: float) -> str:
    return f"{value:#.3g}".rstrip(".")
