"""The harness's commands from their start to their end, and a grid's makespan."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

GRID = ("--grid", "smoke", "--no-mlflow", "--tables-only", "--quiet")
CELLS = 4  # for each core


def run(*words: str) -> float:
    """Seconds of ``python -m`` with these words."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def a_help() -> float:
    """Until the options are told."""
    return run("bench.grid", "--help")


def a_plan() -> float:
    """Until the cells of the default grid are listed, with how long they take."""
    with tempfile.TemporaryDirectory() as results:
        return run("bench.grid", "--grid", "default", "--results", results, "--plan", "--quiet")


def a_cell() -> float:
    """Until a grid of one tiny cell has been run and told."""
    with tempfile.TemporaryDirectory() as results:
        return run("bench.grid", *GRID, "--results", results, "--n-jobs", "1", "--set", "strategy=fedavg")


def a_makespan() -> float:
    """Time of a grid of equal cells over the sum of their seconds, divided among the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    seeds = f"seed={','.join(map(str, range(CELLS * cores)))}"
    with tempfile.TemporaryDirectory() as results:
        setting = (
            "--set",
            "strategy=fedavg",
            "--set",
            seeds,
            "--set",
            "training.rounds=20",
            "--set",
            "data.limit=2000",
        )
        wall = run("bench.grid", *GRID, "--results", results, "--n-jobs", str(cores), *setting)
        told = [
            json.loads(path.read_text())["metrics"]["seconds"] for path in Path(results).glob("smoke/*/result.json")
        ]
    return wall / (sum(told) / cores)


def a_report() -> float:
    """A report of 500 made-up cells; in a checkout alone, since the tests make them up."""
    return run("tests.report_speed", "--cells", "500")


MEASURES: dict[str, Callable[[], float]] = {
    "help": a_help, "plan": a_plan, "cell": a_cell, "makespan": a_makespan, "report": a_report
}  # fmt: skip


def main() -> None:
    """Print the numbers of some repetitions, the first of which finds files that are not yet in memory."""
    p = argparse.ArgumentParser()
    p.add_argument("--what", choices=sorted(MEASURES), required=True)
    p.add_argument("--times", type=int, default=1)
    options = p.parse_args()
    print(json.dumps({"seconds": [MEASURES[options.what]() for _ in range(options.times)]}))


if __name__ == "__main__":
    main()
