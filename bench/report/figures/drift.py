"""How far clients' models go from the global one in each round, and whether they go the same way."""

from pathlib import Path

from bench.pictures.style import NotApplicable
from bench.report.figures.layout import compared, grey
from bench.report.figures.panels import Block, Panel, draw_blocks, known
from bench.report.figures.seed_data import round_line
from bench.store.grid_folder import Store

ROWS_SHOWN = 4


def drift(store: Store, *paths: Path) -> None:
    """The distance of clients' models to the global one and the cosine between their updates, by round and split.

    Raises:
        NotApplicable: if no round tells of a drift.
    """
    shown = compared(store, ROWS_SHOWN)
    blocks = [
        Block(
            split.name,
            known((e.strategy, round_line(store, e, "drift")) for e in split.federated),
            known((e.strategy, round_line(store, e, "update_cosine")) for e in split.federated),
        )
        for split in shown.splits
        if split.federated
    ]
    if not any(block.left or block.right for block in blocks):
        raise NotApplicable("no round of a finished cell tells how far its clients went")
    panels = [Panel("drift of clients' models", log=True), Panel("cosine of updates", log=False)]
    draw_blocks(blocks, panels, shown.styles, [*shown.notes, grey(shown)], "round", *paths)
