"""What figures of several splits share: which splits and strategies stand out, how they are drawn, what is left out."""

import itertools
import math
from collections.abc import Iterable, Sequence

from bench.pictures.axes import OTHER, distinct
from bench.pictures.style import REFERENCE, NotApplicable, Style
from bench.report.lines import Line, final_point, round_line
from bench.report.results import Group, Results, Split

SPLITS_SHOWN = 6
TOLD_APART = 12  # so many lines have a colour, dash and marker each
LEADERS = 8  # that stand out where there are more lines


def finished_splits(results: Results) -> list[Split]:
    """The splits with finished cells.

    Raises:
        NotApplicable: if no cell is finished.
    """
    if not results.splits:
        raise NotApplicable("no cell is finished, so there is nothing to draw")
    return results.splits


def line_styles(splits: Sequence[Split]) -> dict[str, Style]:
    """By strategy: black for centralized training, one each for up to `TOLD_APART`; else the leaders' and grey."""
    styles = {group.strategy: Style(REFERENCE, "-", "") for split in splits for group in split.groups if group.central}
    everyone = strategies(splits)
    coloured = everyone if len(everyone) <= TOLD_APART else leaders(splits, LEADERS)
    styles |= dict.fromkeys(everyone, OTHER)
    return styles | {label: distinct(number) for number, label in enumerate(coloured)}


def strategies(splits: Iterable[Split]) -> list[str]:
    """Labels of the federated ones, in the plan's order."""
    return list(dict.fromkeys(group.strategy for split in splits for group in split.federated))


def leaders(splits: Sequence[Split], count: int) -> list[str]:
    """The strategies that are best in any split by held-out loss or FID, then the second best, until there are `count`.

    In the plan's order.
    """
    rankings = [_ranking(split.federated, metric) for split in splits for metric in ("heldout_loss", "fid")]
    turns = (label for places in itertools.zip_longest(*rankings) for label in places if label is not None)
    chosen = list(dict.fromkeys(turns))[:count]
    return [label for label in strategies(splits) if label in chosen]


def _ranking(groups: Sequence[Group], metric: str) -> list[str]:
    """Strategies with a known score, lowest mean first."""
    means = {group.strategy: scores.mean() for group in groups if len(scores := group.scores(metric))}
    return sorted(means, key=means.__getitem__)


def fid_images(splits: Sequence[Split]) -> tuple[bool, list[int]]:
    """Whether there are FIDs along training, and of how many images they are (those of finished models, if not)."""
    groups = [group for split in splits for group in split.groups]
    along = [scores.value("n_generated") for group in groups for cell in group.done for scores in cell.drawn]
    final = [count for group in groups for count in group.scores("n_generated")]
    return bool(along), sorted({int(count) for count in along or final if math.isfinite(count)})


def fid_line(group: Group, along: bool, x: str) -> Line | None:
    """FIDs of the images drawn along training, or the one of the finished models, over a cost."""
    return round_line(group, "drawn fid", x) if along else final_point(group, x)


def grey_note(styles: dict[str, Style]) -> str:
    """Which strategies are drawn in grey."""
    grey = [label for label, style in styles.items() if style == OTHER]
    return f"in colour: the best of each split by held-out loss or FID; in grey: {', '.join(grey)}" if grey else ""


def left_out(count: int, one: str, more: str) -> str:
    """E.g. ``2 more splits are not shown``; "" for none."""
    return (
        f"{count} more {one} is not shown" if count == 1 else f"{count} more {more} are not shown" if count > 0 else ""
    )
