"""Colours, dashes and markers that all pictures share, and how a picture is saved.

The colours are Okabe and Ito's, safe for colour-blind readers; lines also differ in dash and marker, so that grey
prints read. How wide pictures are stands in `columns`, and for the sheets that are wider in `split_parts.WIDTH`.
"""

import io
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
REFERENCE = "black"  # centralized training
FLOOR = "#999999"  # what real images, or their reconstructions, score
# Nothing that differs from run to run; fonts that can be searched and edited, as publishers ask for.
_METADATA: dict[str, dict[str, Any]] = {".png": {"Software": None}, ".pdf": {"CreationDate": None}}
_FONTS: Any = {"pdf.fonttype": 42}
Array = NDArray[np.float64]


class NotApplicable(ValueError):
    """The results have not what a figure shows; the message says what is missing."""


@dataclass(frozen=True)
class Style:
    """Of a line, the same in every panel of a picture."""

    colour: str
    dash: str
    marker: str


def literal(text: str) -> str:
    """A text of a grid as it is: dollars in it do not begin a formula."""
    return text.replace("$", r"\$")


def save(figure: Figure, *paths: Path, dpi: int = 150) -> None:
    """Write the figure to each path, as PNG or PDF by its suffix."""
    for path in paths:
        with rc_context(_FONTS):
            settings: dict[str, Any] = {"format": path.suffix[1:], "metadata": _METADATA[path.suffix]}
            figure.savefig(buffer := io.BytesIO(), dpi=dpi, **settings)
        write_bytes(path, buffer.getvalue())
