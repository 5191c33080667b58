"""One picture of a whole grid, in the layout that suits it: by split or by recipe."""

from pathlib import Path

from bench.report.figures.overview_recipes import STRIPS, comparison, draw_recipes
from bench.report.figures.overview_splits import draw_splits
from bench.report.figures.split_parts import finished_splits
from bench.report.results import Results

RECIPES_FROM = 5  # so many values of further axes have a row each, instead of a panel each


def overview(results: Results, *paths: Path) -> None:
    """One picture of a grid: held-out loss by round for each split, then samples, FID and generated classes.

    Many values of further axes (recipes) have a row each instead, with loss, FID and samples of what is compared:
    centralized training beside the strategies. Samples are those of the first seed. A note says what is left out.

    Raises:
        NotApplicable: if no cell is finished.
    """
    finished_splits(results)  # raises where there are none
    compared, rows = comparison(results)
    enough = 2 if "recipe" in results.extra_axes else RECIPES_FROM
    if len(rows) >= enough and len(compared) in STRIPS:
        draw_recipes(results, compared, rows, *paths)
    else:
        draw_splits(results, *paths)
