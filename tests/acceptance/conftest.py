"""Runs of the command line that several tests look at, each made once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def command(*arguments, cwd=ROOT, **environment) -> subprocess.CompletedProcess[str]:
    """``python -m bench.grid ...`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bench.grid", *map(str, arguments)],
        cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The smoke grid, run once into a folder; the folder and what the command said."""
    results = tmp_path_factory.mktemp("smoke") / "results"
    return results, command("--grid", "smoke", "--results", results)
