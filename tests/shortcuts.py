"""What tests leave out where it is not what they test."""

import contextlib
import io
import subprocess
from collections.abc import Iterator
from typing import Any

import joblib
import pytest
from matplotlib.figure import Figure
from PIL import Image

from bench.grid import main
from bench.pictures import of_a_cell
from bench.run import pool


def in_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """``python -m bench.grid ...`` without starting Python and torch again; its workers are processes all the same."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def no_workers() -> Iterator[None]:
    """Grids that this process runs, run their cells in it, too, one after another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "_configured", lambda *_: joblib.parallel_config("sequential"))
        yield


@contextlib.contextmanager
def blank_pictures() -> Iterator[None]:
    """Figures that this process draws are one white pixel, those of cells have no panels; sheets of images are as ever."""

    def save(figure: Figure, file: Any, **settings: Any) -> None:
        Image.new("L", (1, 1), 255).save(file, settings["format"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        patch.setattr(of_a_cell, "_figure", lambda *_: Figure())
        patch.setattr(of_a_cell, "partition_heatmap", lambda _, __, path, *___: of_a_cell.save(Figure(), path))
        yield
