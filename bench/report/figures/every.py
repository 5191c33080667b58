"""All figures of a grid: a name, and what draws it or says why it does not apply."""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib import rc_context

from bench.pictures.style import NotApplicable, save
from bench.report.figures import FORMATS, USUAL_FORMATS
from bench.report.figures.captions import Picture, captions
from bench.report.figures.clients import client_spread
from bench.report.figures.layout import FIXED, LOOK, settle
from bench.report.figures.losses import clients, drift, long_run, schemes
from bench.report.figures.overview import overview
from bench.report.figures.partitions import partitions
from bench.report.figures.quality import costs, quality_cost, skew
from bench.report.figures.samples import class_histograms, films, samples, samples_grid
from bench.report.figures.why import why
from bench.report.results import Results
from bench.store.files import Damaged, remove, write_bytes

FIGURES: dict[str, Callable[[Results], list[Picture]]] = {
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


def draw(
    name: str, results: Results, paths: Callable[[int], Iterable[Path]], style: Mapping[Any, Any] = {}
) -> list[Picture]:
    """Draw a figure; returns its pictures, one a page.

    Args:
        paths: the files of the page of a number, from 1.
        style: settings of matplotlib that go before the usual ones.
    Raises:
        NotApplicable: if the results have not what it shows.
        Damaged: if a file that it needs is.
    """
    with rc_context(LOOK | dict(style) | FIXED):
        pictures = FIGURES[name](results)
        for number, picture in enumerate(pictures, 1):
            settle(picture.figure)
            save(picture.figure, *paths(number), dpi=None)
    return pictures


def draw_all(
    results: Results,
    folder: Path,
    names: Iterable[str] | None = None,
    formats: Iterable[str] = USUAL_FORMATS,
    style: Mapping[Any, Any] = {},
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[list[Path], dict[str, str], list[str]]:
    """Draw figures as NAME.pdf, say, and NAME_2.pdf for what needs more than a page, and write their captions.

    Args:
        names: of figures; None for all.
        formats: of `FORMATS`.
        tell: called with the name of each before it is drawn.
    Returns:
        The files, captions by figure, and a line for each that does not apply, e.g. ``skew: no partition is skewed``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[tuple[str, Picture]] = []
    left_out: list[str] = []
    for name in FIGURES if names is None else names:
        tell(name)

        def paths(number: int, name: str = name) -> list[Path]:
            return [folder / f"{page_name(name, number)}.{kind}" for kind in formats]

        try:
            pictures = draw(name, results, paths, style)
        except (NotApplicable, Damaged) as reason:
            left_out.append(f"{name}: {reason}")
        except _ODD as error:
            left_out.append(f"{name}: could not be drawn: {type(error).__name__}: {error}")
            warnings.warn(left_out[-1], stacklevel=2)
        else:
            of = f" Part {{}} of {len(pictures)}." if len(pictures) > 1 else ""
            for number, picture in enumerate(pictures, 1):
                drawn.append((page_name(name, number), replace(picture, caption=picture.caption + of.format(number))))
    files = [folder / f"{name}.{kind}" for name, _ in drawn for kind in formats]
    texts = captions(results.name, drawn, next((kind for kind in formats if kind in ("png", "svg")), None))
    for name, text in texts.items():
        write_bytes(folder / name, text.encode(errors="replace"))
    made = files + [folder / name for name in texts]
    ours = rf"({'|'.join(FIGURES)})(_\d+)?\.({'|'.join(FORMATS)})|captions\.(tex|md)"
    for path in folder.iterdir():  # of other results, which stood here before
        if path not in made and re.fullmatch(ours, path.name):
            remove(path)
    return made, {name: picture.caption for name, picture in drawn}, left_out


def page_name(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"
