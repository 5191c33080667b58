"""All figures of a grid: a name, and what draws it to given paths or says why it does not apply."""

import warnings
from collections.abc import Callable
from pathlib import Path

from bench.pictures.style import NotApplicable
from bench.report.figures.class_histograms import class_histograms
from bench.report.figures.clients import client_spread
from bench.report.figures.costs import costs
from bench.report.figures.drift import drift
from bench.report.figures.films import films
from bench.report.figures.losses import clients, long_run, schemes
from bench.report.figures.overview import overview
from bench.report.figures.partitions import partitions
from bench.report.figures.quality import quality_cost
from bench.report.figures.samples import samples, samples_grid
from bench.report.figures.skew import skew
from bench.report.figures.why import why
from bench.report.results import Results
from bench.store.files import Damaged, remove

FORMATS = (".pdf", ".png")
FIGURES: dict[str, Callable[..., None]] = {
    "overview": overview,
    "costs": costs,
    "why": why,
    "partitions": partitions,
    "schemes": schemes,
    "clients": clients,
    "long_run": long_run,
    "samples": samples,
    "samples_grid": samples_grid,
    "quality_cost": quality_cost,
    "skew": skew,
    "class_histograms": class_histograms,
    "client_spread": client_spread,
    "drift": drift,
    "film": films,
}

# What records of other versions, or of runs that went wrong, bring about; other errors are the code's own.
_ODD = (KeyError, IndexError, AttributeError, TypeError, ValueError, ArithmeticError)


def draw_all(results: Results, folder: Path) -> tuple[list[Path], list[str]]:
    """Draw every figure that applies to a grid's results, as NAME.pdf and NAME.png in `folder`.

    Returns:
        The files, and a line for each figure that does not apply, e.g. ``skew: no partition is skewed``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    untold: list[str] = []
    for name, figure in FIGURES.items():
        paths = [folder / f"{name}{suffix}" for suffix in FORMATS]
        try:
            figure(results, *paths)
        except (NotApplicable, Damaged) as reason:
            untold.append(f"{name}: {reason}")
        except _ODD as error:
            untold.append(f"{name}: could not be drawn: {type(error).__name__}: {error}")
            warnings.warn(untold[-1], stacklevel=2)
        else:
            made += paths
            continue
        for path in paths:  # of other results, which stood here before
            remove(path)
    return made, untold
