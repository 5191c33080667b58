"""How long a report takes: ``python -m tests.report_speed --cells 500``. A made-up store, nothing is trained."""

import argparse
import tempfile
import time
from pathlib import Path

from bench import figures, tables
from bench.page import write_page
from bench.store import ReadOnce
from tests import fake_store

STRATEGIES = [
    "centralized", "fedavg", "fedprox(mu=0.01)", "fedprox(mu=0.1)", "fedprox(mu=1.0)", "fedavgm(momentum=0.5)",
    "fedavgm(momentum=0.9)", "scaffold", "fednova", "feddyn(alpha=0.1)", "median",
]  # fmt: skip
SPLITS = {"n_clients": [3, 5], "beta": [0.1, 0.5, 1.0]}


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
        store, total = ReadOnce(made.root), 0.0
        parts = {
            "tables": lambda: tables.write_tables(store, store.root / "tables"),
            "figures": lambda: figures.draw_all(store, store.root / "figures"),
            "page": lambda: write_page(
                store, store.root / "report.html", store.root / "tables", store.root / "figures"
            ),
        }
        print(f"{len(store.planned())} cells, {seeds} seeds")
        for name, make in parts.items():
            started = time.perf_counter()
            make()
            spent = time.perf_counter() - started
            total += spent
            print(f"{name}: {spent:.1f} s")
        print(f"all: {total:.1f} s; page: {(store.root / 'report.html').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
