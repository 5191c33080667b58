"""The records of a grid, each read once for a report."""

from functools import cache
from pathlib import Path

import pandas as pd

from bench.store.cell_folder import CellFolder
from bench.store.grid_folder import Store


class ReadOnce(Store):
    """The results of a grid, every record of which is read once: for reports, which ask for the same again and again.

    What is written later is not seen, and what it gives must not be changed.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.cell = cache(self._cell)  # type: ignore[method-assign]
        self.plan = cache(super().plan)  # type: ignore[method-assign]
        self.planned = cache(super().planned)  # type: ignore[method-assign]

    def _cell(self, cell_id: str) -> CellFolder:
        folder = CellFolder(self.root / cell_id)
        for name in ("state", "manifest", "trained", "result", "error", "lines"):
            setattr(folder, name, cache(getattr(folder, name)))
        return folder


def cell_frame(store: Store) -> pd.DataFrame:
    """One row a planned cell: ids, state, labels, and the result's scalar metrics where it is done.

    Columns: cell_id, state, strategy, n_clients, beta, seed, further axes, then the metrics, then weight_hash.
    """
    rows = []
    for cell in store.planned():
        folder = store.cell(cell.cell_id)
        result = folder.result() or {}
        rows.append(
            {
                "cell_id": cell.cell_id,
                "state": folder.state(),
                **cell.labels,
                **result.get("metrics", {}),
                "weight_hash": result.get("weight_hash"),
            }
        )
    return pd.DataFrame(rows)
