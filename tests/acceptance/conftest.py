"""Runs of the command line that several tests look at, each made once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guard import ROOT, run_guarded
from tests.shortcuts import blank_pictures, no_workers


def command(*arguments, cwd=ROOT, **environment) -> subprocess.CompletedProcess[str]:
    """``python -m bench.grid ...`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bench.grid", *map(str, arguments)],
        cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The smoke grid, run once into a folder under guard; the folder, beside which the notes lie, and what was said."""
    notes = tmp_path_factory.mktemp("smoke")
    return notes / "results", run_guarded(notes, "-m", "bench.grid", "--grid", "smoke", "--results", notes / "results")


@pytest.fixture
def here() -> Iterator[None]:
    """For tests of what cells hold, not of workers and pictures."""
    with no_workers(), blank_pictures():
        yield
