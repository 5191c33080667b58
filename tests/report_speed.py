"""How long a report takes: ``python -m tests.report_speed --cells 500``. A made-up store, nothing is trained.

Its cells have as many local losses and images as those of the default grid.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from bench.report.figures.every import draw_all
from bench.report.page.write import write_page
from bench.report.results import Results
from bench.report.tables.contents import Contents, contents
from bench.report.tables.terminal import claim_lines, terminal_table
from bench.report.tables.write import write_tables
from bench.store.files import write_bytes
from bench.store.grid_folder import Store
from tests import fake_store

STRATEGIES = [
    "centralized", "fedavg", "fedprox(mu=0.01)", "fedprox(mu=0.1)", "fedprox(mu=1.0)", "fedavgm(momentum=0.5)",
    "fedavgm(momentum=0.9)", "scaffold", "fednova", "feddyn(alpha=0.1)", "median",
]  # fmt: skip
SPLITS = {"n_clients": [3, 5], "beta": [0.1, 0.5, 1.0]}


STEPS, IMAGES = 2_800, 500  # of a cell


def fill(store: Store) -> None:
    """Give every cell that many local losses and images."""
    for cell in store.planned():
        folder, n = store.cell(cell.cell_id), cell.labels["n_clients"] or 1
        losses = np.array_split(0.1 + np.exp(-np.arange(STEPS) / 300), fake_store.ROUNDS * n)
        (folder.path / "steps.jsonl").unlink()
        told = [{"round": 1 + k // n, "client": k % n, "loss": part.tolist()} for k, part in enumerate(losses)]
        folder.append("steps.jsonl", told)
        images = torch.from_numpy(fake_store.fake_images(cell, IMAGES))
        write_bytes(folder.path / "samples.safetensors", save({"images": images}), sync=False)


def main() -> None:
    """Print seconds by part and in all."""
    p = argparse.ArgumentParser("python -m tests.report_speed")
    p.add_argument("--cells", type=int, default=500, metavar="N", help="about how many (default: 500)")
    wanted = p.parse_args().cells
    seeds = max(1, round(wanted / (1 + 6 * (len(STRATEGIES) - 1))))
    with tempfile.TemporaryDirectory() as folder:
        axes = SPLITS | {"strategy": STRATEGIES, "seed": list(range(seeds))}
        made = fake_store.finished_store(Path(folder), axes)
        fake_store.tell_more(made)
        fill(made)
        root, total = made.root, 0.0
        results = Results.read(root)
        told: list[Contents] = []
        parts = {
            "contents of tables": lambda: told.append(contents(results, with_claims=True)),
            "tables": lambda: write_tables(told[0], root / "tables"),
            "figures": lambda: draw_all(results, root / "figures"),
            "terminal": lambda: (terminal_table(told[0]), claim_lines(told[0])),
            "page": lambda: write_page(told[0], root / "report.html", root / "tables", root / "figures", {}),
        }
        print(f"{len(results.cells)} cells, {seeds} seeds")
        for name, make in parts.items():
            started = time.perf_counter()
            make()
            spent = time.perf_counter() - started
            total += spent
            print(f"{name}: {spent:.1f} s")
        print(f"all: {total:.1f} s; page: {(root / 'report.html').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
