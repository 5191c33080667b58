"""A grid's folder, results/<grid>/: its plan, and the folders of its cells."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.store.cell_folder import CellFolder
from bench.store.files import Damaged, read_json, write_json
from bench.store.records import RESULT_VERSION, Likelihood, Manifest, R, Trained

GRID = "grid.json"


@dataclass(frozen=True)
class PlannedCell:
    """A cell of a plan as its grid file records it: ids, and the values that label it.

    Attributes:
        labels: strategy (its label), n_clients, beta, seed and any further axis by dotted name.
        config: the whole configuration as JSON.
    """

    cell_id: str
    train_id: str
    labels: dict[str, Any]
    config: dict[str, Any]


class Store:
    """The results of one grid, results/<grid>/."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def cell(self, cell_id: str) -> CellFolder:
        """The folder of a cell, which need not exist yet."""
        return CellFolder(self.root / cell_id)

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Write grid.json: the grid's name, description, axes, data, extractor, floor and planned cells."""
        self.root.mkdir(parents=True, exist_ok=True)
        write_json(self.root / GRID, plan)

    def plan(self) -> dict[str, Any]:
        """grid.json.

        Raises:
            FileNotFoundError: if no grid was run into this folder.
            Damaged: if it is not what was written; names the file.
        """
        try:
            plan = read_json(self.root / GRID)
        except Damaged as error:
            raise Damaged(f"{self.root / GRID} is damaged ({error})") from error
        if plan is None:
            raise FileNotFoundError(f"{self.root} holds no {GRID}: no grid has been run into it")
        return plan

    def planned(self) -> list[PlannedCell]:
        """The cells of the last plan, in its order."""
        return [PlannedCell(**cell) for cell in self.plan()["cells"]]

    def strangers(self) -> int:
        """How many cells lie here that the last plan does not name."""
        return len(self._unnamed())

    def versions(self) -> dict[str, int]:
        """How many of the cells that the last plan does not name were made by which RESULT_VERSION."""
        return dict(Counter(map(_version, self._unnamed())))

    def _unnamed(self) -> list[Path]:
        named = {cell.cell_id for cell in self.planned()}
        return [path for path in sorted(self.root.glob("*/cell.json")) if path.parent.name not in named]

    def find_trained(self, train_id: str) -> list[CellFolder]:
        """The cells whose weights were trained by the settings of `train_id`."""
        return [folder for folder, record in self._read(Trained) if record.train_id == train_id]

    def trained_ids(self) -> set[str]:
        """The train_id of every cell whose training is done."""
        return {record.train_id for _, record in self._read(Trained)}

    def likelihood_ids(self) -> set[str]:
        """The likelihood_id of every likelihood.json."""
        return {record.likelihood_id for _, record in self._read(Likelihood)}

    def find_likelihood(self, likelihood_id: str) -> Likelihood | None:
        """The bits/dim of a cell with that id, or None."""
        return next((record for _, record in self._read(Likelihood) if record.likelihood_id == likelihood_id), None)

    def _read(self, kind: type[R]) -> Iterator[tuple[CellFolder, R]]:
        """That record of every cell that has it, of the plan or not.

        A damaged one is left out, with a warning if its cell is of this RESULT_VERSION; `versions` counts the others.
        """
        for path in sorted(self.root.glob(f"*/{kind.FILE}")):
            folder = CellFolder(path.parent)
            try:
                record = kind.read(folder.path)
            except Damaged as error:
                if _version(folder.path / Manifest.FILE) == str(RESULT_VERSION):
                    folder.warn(kind, error)
                continue
            if record is not None:
                yield folder, record


def _version(manifest: Path) -> str:
    """The RESULT_VERSION by which a cell was made, "unknown" where its manifest cannot be read."""
    try:
        content = read_json(manifest) or {}
    except Damaged:  # before records had seals, or broken
        content = {}
    return str(content.get("result_version", "unknown"))
