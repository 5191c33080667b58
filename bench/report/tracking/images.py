"""Samples by round for MLflow's image grid: a sheet of those drawn after some rounds, and one of the final samples.

MLflow keeps each as images/<key>+step+<step>+timestamp+<ms>+<id>.png with a small copy that ends in +compressed.webp,
and shows them only for runs with the tag mlflow.loggedImages.
"""

import re
import warnings
from collections.abc import Mapping

from torch import Tensor

from bench.pictures.sheets import tile
from bench.report.tracking.send import Sender
from bench.report.tracking.values import milliseconds
from bench.store.cell_folder import CURVE, SAMPLES, CellFolder
from bench.store.states import read_tensors

KEY = "generated"  # "samples" is a metric
COLUMNS, MOST = 8, 64  # images in a row of a sheet, and on it
_WIDTH = 384  # pixels of a sheet, about
_WHOLE = re.compile(rf"images/{KEY}\+step\+(\d+)\+.*\+compressed\.webp")  # written last


def send_sheets(
    sender: Sender, run_id: str, folder: CellFolder, last: int, finished: float, times: Mapping[int, float]
) -> None:
    """Log the sheets that the run lacks.

    Args:
        last: the last round, whose sheet shows the final samples.
        finished: seconds since the epoch at which they were drawn.
        times: the same for the other rounds.
    """
    sheets = _read(folder, last)
    if not sheets:
        return
    sender.log(run_id, tags={"mlflow.loggedImages": "True"})
    items = sender.client.list_artifacts(run_id, "images")
    sent = {int(match[1]) for item in items if (match := _WHOLE.fullmatch(item.path))}
    count = min(MOST, *(len(images) for images in sheets.values()))
    for number in sorted(sheets.keys() - sent):
        images = sheets[number][:count]
        sheet = tile(images, COLUMNS, max(1, round(_WIDTH / COLUMNS / images.shape[-1])))
        when = milliseconds(times.get(number, finished))
        sender.client.log_image(run_id, sheet, key=KEY, step=number, timestamp=when)


def _read(folder: CellFolder, last: int) -> dict[int, Tensor]:
    """The first images (N, C, H, W) of each round that has some; what is damaged is left out, with a warning."""
    sheets: dict[int, Tensor] = {}
    for name in (CURVE, SAMPLES):
        path = folder.path / name
        try:
            tensors = read_tensors(path, sealed=False) or {}
            keys = ["images"] if name == SAMPLES else list(tensors)
            read = {last if key == "images" else int(key): tensors[key][:MOST].clone() for key in keys}
        except (KeyError, ValueError) as error:
            warnings.warn(f"{path} is damaged ({error}) and is not sent to MLflow", stacklevel=2)
            continue
        sheets |= {number: images for number, images in read.items() if len(images)}
    return sheets
