"""What costs.png, why.png and rounds.png share: places in inches, lines of many strategies, ticks of log axes."""

from collections.abc import Sequence

from bench.pictures.axes import OTHER, distinct
from bench.pictures.style import REFERENCE, Style
from bench.report.figures.split_data import Split, leaders, strategies
from bench.store.grid_folder import Store

SPLITS_SHOWN = 6
TOLD_APART = 12  # so many lines have a colour, dash and marker each
LEADERS = 8  # that stand out where there are more lines


def line_styles(store: Store, splits: Sequence[Split]) -> dict[str, Style]:
    """By strategy: black for centralized training, one each for up to `TOLD_APART`; else the leaders' and grey."""
    styles = {e.strategy: Style(REFERENCE, "-", "") for split in splits for e in split.experiments if e.central}
    everyone = strategies(splits)
    coloured = everyone if len(everyone) <= TOLD_APART else leaders(store, splits, LEADERS)
    styles |= dict.fromkeys(everyone, OTHER)
    return styles | {label: distinct(number) for number, label in enumerate(coloured)}


def grey_note(styles: dict[str, Style]) -> str:
    """Which strategies are drawn in grey."""
    grey = [label for label, style in styles.items() if style == OTHER]
    return f"in colour: the best of each split by held-out loss or FID; in grey: {', '.join(grey)}" if grey else ""


def left_out(count: int, one: str, more: str) -> str:
    """E.g. ``2 more splits are not shown``; "" for none."""
    return (
        f"{count} more {one} is not shown" if count == 1 else f"{count} more {more} are not shown" if count > 0 else ""
    )
