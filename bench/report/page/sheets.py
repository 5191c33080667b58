"""Small sheets of a cell's samples: PNGs of a few grey levels or colours, for the browser to enlarge."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.pictures.sheets import filled, tile
from bench.report.page.embed import data_address
from bench.report.results import Cell
from bench.store.files import Damaged

COLUMNS = 8
COLOURS = 32  # of a sheet
PIXELS = 12_000_000  # of the images of all sheets together: half a byte or so each in the page
MOST, FEWEST = 64, 8


def images_each(cells: int, pixels: int) -> int:
    """How many images of so many pixels a sheet shows, in whole rows, that all sheets together stay small."""
    fitting = PIXELS // max(cells * pixels, 1) // COLUMNS * COLUMNS
    return min(MOST, max(FEWEST, fitting))


def sheet(cell: Cell, cells: int) -> dict[str, object]:
    """A cell's first samples as {"address", "width", "height", "count"}, or {"missing": why there are none}."""
    try:
        images = cell.images(MOST)
    except Damaged as error:
        return {"missing": f"samples.safetensors is damaged ({error.__cause__})"}
    if images is None:
        return {"missing": "samples.safetensors is not there"}
    shown = images[: images_each(cells, images.shape[-1] * images.shape[-2])]
    picture = _small(shown)
    picture.save(buffer := io.BytesIO(), "PNG", optimize=True)
    address = data_address(buffer.getvalue(), "image/png")
    return {"address": address, "width": picture.width, "height": picture.height, "count": len(shown)}


def _small(images: Tensor) -> Image.Image:
    """A picture with a palette of images (N, 1 or 3, H, W), uint8."""
    rows = -(-len(images) // COLUMNS)
    tiled = Image.fromarray(tile(filled(images, rows * COLUMNS), COLUMNS))
    if images.shape[1] == 3:
        return tiled.quantize(COLOURS)
    step = 255 / (COLOURS - 1)
    levels = torch.from_numpy(np.asarray(tiled.convert("L")).copy()).div(step).round().to(torch.uint8)
    picture = Image.fromarray(levels.numpy(), "P")
    picture.putpalette([round(level * step) for level in range(COLOURS) for _ in range(3)])
    return picture
