"""What figures of a whole grid compare: its splits and strategies, and how each strategy is drawn."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from bench.config.names import hashable, split_name
from bench.pictures.axes import OTHER, key
from bench.pictures.style import NotApplicable, Style, central_styles, strategy_styles
from bench.report.figures.layout import Legend, short_name
from bench.report.lines import Line, final_point, round_line
from bench.report.results import Group, Results, Split

TOLD_APART = 22  # so many strategies have a colour, dash and marker each
LEADERS = 8  # that stand out where there are more


@dataclass(frozen=True)
class Compared:
    """A grid's splits and strategies.

    Attributes:
        styles: by label; black for centralized training of any kind, grey for what does not stand out among many.
    """

    results: Results
    styles: dict[str, Style]

    @cached_property
    def splits(self) -> list[Split]:
        """The finished ones, named by the axes of several values."""
        named = ((split, split.groups[-1]) for split in self.results.splits)
        return [replace(split, name=self.place(last) or "centralized training" * last.central) for split, last in named]

    @property
    def leading(self) -> list[str]:
        """All but the grey ones."""
        return [label for label, style in self.styles.items() if style != OTHER]

    def name(self, label: str) -> str:
        """For people, and of a bounded length."""
        return short_name(self.results.title(label))

    def place(self, group: Group, without: Iterable[str] = ()) -> str:
        """A group's values on the axes that have several in the grid, e.g. ``n = 3``; "" if there is no such axis.

        Args:
            without: axes that are left out.
        """
        axes = group.labels.keys() - {*without, *fixed_labels(self.results)}
        return split_name({axis: value for axis, value in group.labels.items() if axis in axes}, group.titles)

    def legend(self, drawn: Iterable[str]) -> Legend:
        """Of those that are drawn, without the grey ones."""
        shown = set(drawn)
        return [(self.name(label), key(self.styles[label])) for label in self.leading if label in shown]

    def grey(self) -> str:
        """Which strategies are drawn in grey."""
        names = self._others()
        return f"in colour: the best of each split by test loss or FID; in grey: {names}" if names else ""

    def not_shown(self) -> str:
        """Which strategies have no row, in figures without the grey ones."""
        names = self._others()
        return f"rows: the best of each split by test loss or FID; not shown: {names}" if names else ""

    def _others(self) -> str:
        return ", ".join(self.results.title(label) for label, style in self.styles.items() if style == OTHER)


def compared(results: Results) -> Compared:
    """The finished splits of a grid, with a style a strategy.

    Raises:
        NotApplicable: if no cell is finished.
    """
    if not results.splits:
        raise NotApplicable("no cell is finished, so there is nothing to draw")
    central = dict.fromkeys(group.strategy for split in results.splits for group in split.groups if group.central)
    everyone = strategies(results.splits)
    coloured = everyone if len(everyone) <= TOLD_APART else leaders(results.splits, LEADERS)
    styles = central_styles(list(central)) | dict.fromkeys(everyone, OTHER)
    return Compared(results, styles | strategy_styles(coloured))


def fixed_labels(results: Results) -> dict[str, Any]:
    """The axes beside strategy and seed that have a single value in the whole grid, with that value."""
    fixed = {}
    for axis in results.axes[1:]:
        values = [cell.labels[axis] for cell in results.cells if cell.labels[axis] is not None]
        if len(set(map(hashable, values))) == 1:
            fixed[axis] = values[0]
    return fixed


def strategies(splits: Iterable[Split]) -> list[str]:
    """Labels of the federated ones, in the plan's order."""
    return list(dict.fromkeys(group.strategy for split in splits for group in split.federated))


def leaders(splits: Sequence[Split], count: int) -> list[str]:
    """The strategies that are best in any split by test loss or FID, then the second best, until there are `count`.

    In the plan's order.
    """
    rankings = [_ranking(split.federated, metric) for split in splits for metric in ("test_loss", "fid")]
    turns = (label for places in itertools.zip_longest(*rankings) for label in places if label is not None)
    chosen = list(dict.fromkeys(turns))[:count]
    return [label for label in strategies(splits) if label in chosen]


def _ranking(groups: Sequence[Group], metric: str) -> list[str]:
    """Strategies with a known score, lowest mean first."""
    means = {group.strategy: scores.mean() for group in groups if len(scores := group.scores(metric))}
    return sorted(means, key=means.__getitem__)


# ------------------------------------------------------------------------------------------------ lines of splits


def known(lines: Iterable[tuple[str, Line | None]]) -> dict[str, Line]:
    """Those that there are."""
    return {label: line for label, line in lines if line is not None}


def fid_images(splits: Sequence[Split]) -> tuple[bool, list[int]]:
    """Whether there are FIDs along training, and of how many images they are (those of finished models, if not)."""
    groups = [group for split in splits for group in split.groups]
    along = [scores.value("n_generated") for group in groups for cell in group.done for scores in cell.drawn]
    final = [count for group in groups for count in group.scores("n_generated")]
    return bool(along), sorted({int(count) for count in along or final if math.isfinite(count)})


def fid_line(group: Group, along: bool, x: str) -> Line | None:
    """FIDs of the images drawn along training, or the one of the finished models, over a cost."""
    return round_line(group, "drawn fid", x) if along else final_point(group, x)
