"""Colours, dashes and markers that all pictures share, and how a picture is saved.

The colours are Okabe and Ito's, safe for colour-blind readers; lines also differ in dash and marker, so that grey
prints read. A strategy has the colour of its family, the same in every picture of every grid.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.store.files import write_bytes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":")
MARKERS = "osv^Dx"
FAMILIES: dict[str, tuple[str, ...]] = {  # strategies by their colour
    "#0072B2": ("fedavg", "fedavg-ema", "fednova"),  # averaging
    "#D55E00": ("fedprox", "feddyn", "ewc", "scaffold"),  # local training is corrected
    "#009E73": ("fedavgm", "fedadam", "fedyogi", "fedadagrad"),  # an optimizer at the server
    "#CC79A7": ("quantised", "top-k", "feddiffuse"),  # less is sent
    "#E69F00": ("median", "trimmed-mean"),  # robust against outliers
    "#56B4E9": ("dp-fedavg",),  # private
    "#8C5A3C": ("local-only",),  # nothing is averaged
}
_UNKNOWN = "#7A4B8F"  # of a strategy in no family
_SHAPES = "os^Dv*P<X>d"
REFERENCE = "black"  # centralized training
FLOOR = "#999999"  # what real images, or their reconstructions, score
# Nothing that differs from run to run; fonts that can be searched and edited, as publishers ask for.
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None, "Creator": None},
}
_FONTS: Any = {"pdf.fonttype": 42, "svg.hashsalt": "federated-diffusion-bench"}
Array = NDArray[np.float64]


class NotApplicable(ValueError):
    """The results have not what a figure shows; the message says what is missing."""


@dataclass(frozen=True)
class Style:
    """Of a line, the same in every panel of a picture."""

    colour: str
    dash: str
    marker: str


def central_styles(labels: Sequence[str]) -> dict[str, Style]:
    """A style each of centralized training: black, with a dash of their own and, from the fifth on, a marker."""
    marks = ("", *MARKERS)
    return {
        label: Style(REFERENCE, DASHES[k % len(DASHES)], marks[k // len(DASHES) % len(marks)])
        for k, label in enumerate(labels)
    }


def strategy_styles(labels: Sequence[str]) -> dict[str, Style]:
    """A style a strategy: the colour of its family, another dash for each of a family's first four, another marker for
    eleven in a row; of up to 44 no two have both dash and marker in common.
    """
    styles: dict[str, Style] = {}
    for number, label in enumerate(labels):
        colour, marker = _family(label), _SHAPES[number % len(_SHAPES)]
        first = sum(style.colour == colour for style in styles.values())
        taken = {style.dash for style in styles.values() if style.marker == marker}
        turn = [DASHES[(first + k) % len(DASHES)] for k in range(len(DASHES))]
        styles[label] = Style(colour, next((dash for dash in turn if dash not in taken), turn[0]), marker)
    return styles


def _family(label: str) -> str:
    """The colour of a strategy's family, by its name, or the class of its dotted path."""
    name = label.partition("(")[0].rpartition(":")[2].lower()
    return next((colour for colour, names in FAMILIES.items() if name in names), _UNKNOWN)


def save(figure: Figure, *paths: Path, dpi: float | None = 150) -> None:
    """Write the figure to each path, as PNG, PDF or SVG by its suffix; without `dpi` as matplotlib's settings say."""
    for path in paths:
        with rc_context(_FONTS):
            settings: dict[str, Any] = {"format": path.suffix[1:], "metadata": _METADATA[path.suffix]}
            figure.savefig(buffer := io.BytesIO(), dpi=dpi, **settings)
        write_bytes(path, buffer.getvalue())
