"""One picture of a whole grid, in the layout that suits it: by split or by recipe."""

from pathlib import Path

from bench.report.figures.overview_data import comparison, finished_experiments
from bench.report.figures.overview_recipes import STRIPS, draw_recipes
from bench.report.figures.overview_splits import draw_splits
from bench.store.grid_folder import Store

RECIPES_FROM = 5  # so many values of further axes have a row each, instead of a panel each


def overview(store: Store, *paths: Path) -> None:
    """One picture of a grid: held-out loss by round for each split, then samples, FID and generated classes.

    Many values of further axes (recipes) have a row each instead, with loss, FID and samples of what is compared:
    centralized training beside the strategies. Curves are means over seeds, with the range in which all seeds
    lie; samples are those of the first seed. A note says what is left out.

    Raises:
        NotApplicable: if no cell is finished.
    """
    experiments = finished_experiments(store)
    compared, rows = comparison(store)
    enough = 2 if "recipe" in store.plan()["extra_axes"] else RECIPES_FROM
    if len(rows) >= enough and len(compared) in STRIPS:
        draw_recipes(store, compared, rows, *paths)
    else:
        draw_splits(store, experiments, *paths)
