"""Pictures, drawn without any global state of matplotlib and written atomically."""

from pathlib import Path

from bench.figures.agreement import agreement
from bench.figures.costs import costs
from bench.figures.diagnostics import diagnostics
from bench.figures.film import film
from bench.figures.overview import overview
from bench.figures.overview_data import split_label
from bench.figures.partition import partition_heatmap
from bench.figures.rounds import rounds
from bench.figures.sheets import class_sheet, coloured, pairs_sheet, rows_sheet, sample_sheet, tile
from bench.figures.why import why
from bench.store import Store


def draw_all(store: Store, folder: Path) -> tuple[list[Path], list[str]]:
    """Draw every figure that applies to a grid's results, as NAME.pdf and NAME.png in `folder`.

    Returns:
        The files, and a line for each figure that does not apply, e.g. ``skew: no partition is skewed``.
    """
    from bench.figures import every  # takes scipy.stats, a second that cells' processes need not wait for

    return every.draw(store, folder)


__all__ = [
    "agreement",
    "class_sheet",
    "coloured",
    "costs",
    "diagnostics",
    "draw_all",
    "film",
    "overview",
    "pairs_sheet",
    "partition_heatmap",
    "rounds",
    "rows_sheet",
    "sample_sheet",
    "split_label",
    "tile",
    "why",
]
