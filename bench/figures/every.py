"""All figures of a grid: a name, and what draws it to given paths or says why it does not apply."""

import warnings
from collections.abc import Callable
from pathlib import Path

from bench.figures.class_histograms import class_histograms
from bench.figures.client_spread import client_spread
from bench.figures.costs import costs
from bench.figures.drift import drift
from bench.figures.films import films
from bench.figures.losses import clients, long_run, schemes
from bench.figures.overview import overview
from bench.figures.partitions import partitions
from bench.figures.quality_cost import quality_cost
from bench.figures.samples import samples, samples_grid
from bench.figures.skew import skew
from bench.figures.style import NotApplicable
from bench.figures.why import why
from bench.files import Damaged, remove
from bench.store import Store

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


def draw(store: Store, folder: Path) -> tuple[list[Path], list[str]]:
    """See `bench.figures.draw_all`."""
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    untold: list[str] = []
    for name, figure in FIGURES.items():
        paths = [folder / f"{name}{suffix}" for suffix in FORMATS]
        try:
            figure(store, *paths)
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
