"""Runs of the command line that several tests look at, each made once."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.grid import main

ROOT = Path(__file__).parents[2]


def command(*arguments, cwd=ROOT, **environment) -> subprocess.CompletedProcess[str]:
    """``python -m bench.grid ...`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bench.grid", *map(str, arguments)],
        cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def in_process(*arguments) -> subprocess.CompletedProcess[str]:
    """The same without starting Python and torch again; its workers are processes all the same."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The smoke grid, run once into a folder; the folder and what the command said."""
    results = tmp_path_factory.mktemp("smoke") / "results"
    return results, command("--grid", "smoke", "--results", results)
