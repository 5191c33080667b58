"""How far clients' models go from the global one in each round, and whether they go the same way."""

from pathlib import Path

from bench.pictures.style import NotApplicable
from bench.report.figures.layout import compared, grey
from bench.report.figures.panels import Block, Panel, draw_blocks, known
from bench.report.lines import round_line
from bench.report.results import Results

ROWS_SHOWN = 4


def drift(results: Results, *paths: Path) -> None:
    """The distance of clients' models to the global one and the cosine between their updates, by round and split.

    Raises:
        NotApplicable: if no round tells of a drift.
    """
    shown = compared(results, ROWS_SHOWN)
    blocks = [
        Block(
            split.name,
            known((group.strategy, round_line(group, "drift", shared=False)) for group in split.federated),
            known((group.strategy, round_line(group, "update_cosine", shared=False)) for group in split.federated),
        )
        for split in shown.splits
        if split.federated
    ]
    if not any(block.left or block.right for block in blocks):
        raise NotApplicable("no round of a finished cell tells how far its clients went")
    panels = [Panel("drift of clients' models", log=True), Panel("cosine of updates", log=False)]
    draw_blocks(blocks, panels, shown.styles, [*shown.notes, grey(shown)], "round", *paths)
