"""Colours, dashes and markers that all pictures share, and how a picture is saved.

The colours are Okabe and Ito's, safe for colour-blind readers; lines also differ in dash and marker, so that grey
prints read.
"""

import io
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from bench.files import write_bytes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":")
MARKERS = "osv^Dx"
REFERENCE = "black"  # centralized training
FLOOR = "#999999"  # what real images, or their reconstructions, score


@dataclass(frozen=True)
class Style:
    """Of a line, the same in every panel of a picture."""

    colour: str
    dash: str
    marker: str


def save(figure: Figure, path: Path, dpi: int = 150) -> None:
    figure.savefig(buffer := io.BytesIO(), format="png", dpi=dpi, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())
