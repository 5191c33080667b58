"""Whether a cell's samples copy training images, and whose: in pixels and in the extractor's features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from bench.cell.setting import Setting
from bench.fidelity.copying import Nearest, copies_by_client, data_copying, size_correlation
from bench.fidelity.extractors import Extractor
from bench.fidelity.floor import RealImages
from bench.fidelity.references import Reference

PAIRS = 16  # on the sheet of what comes closest to copies


@dataclass(frozen=True)
class Copies:
    """How many samples are copies.

    Attributes:
        metrics: copies_pixels, authenticity_pixels, c_t_pixels, the same of features, and copies_by_size, see
            `bench.fidelity.copying`.
        floor: of test images, what is theirs too; {} where clients' images are noisy, and each split has other ones.
        by_client: near-copies in pixels of each client's images (n,).
    """

    metrics: dict[str, float | None]
    floor: dict[str, float]
    by_client: Sequence[int]


def judge_copies(
    setting: Setting, images: Tensor, features: Tensor, train: Reference, real: RealImages, extractor: Extractor
) -> Copies:
    """Copies among samples uint8 (N, C, H, W) with features (N, D), and closest.png in the cell's folder.

    Training images are those that clients train on, with their noise. In features they are the ones that the reference
    keeps, all of them but for very many.
    """
    trained, labels = setting.noisy.train_images, setting.data.train_labels.numpy()
    if any(setting.noise):
        trained_features, numbers = extractor.features(trained, setting.device)[0], np.arange(len(trained))
    else:
        trained_features, numbers = train.features, train.drawn.numpy()
    spaces = {
        "pixels": (images.flatten(1), real.images.flatten(1), trained.flatten(1), labels),
        "features": (features, real.features, trained_features, labels[numbers]),
    }
    metrics: dict[str, float | None] = {}
    floor: dict[str, float] = {}
    for space, (ours, others, known, classes) in spaces.items():
        generated, test = Nearest.of(ours, known), Nearest.of(others, known)
        if space == "pixels":
            in_pixels = generated
        metrics |= {f"{key}_{space}": value for key, value in generated.shares().items()}
        metrics[f"c_t_{space}"] = data_copying(generated, test, classes)
        floor |= {f"{key}_{space}": value for key, value in test.shares().items()}
    _draw_closest(setting, images, trained, in_pixels)
    parts = [] if setting.config.centralized else setting.parts
    by_client = copies_by_client(in_pixels, parts)
    metrics["copies_by_size"] = size_correlation(by_client, [len(part) for part in parts])
    return Copies(metrics, {} if any(setting.noise) else floor, by_client.tolist())


def _draw_closest(setting: Setting, images: Tensor, trained: Tensor, nearest: Nearest) -> None:
    """Write closest.png: the samples that come closest to copies, each above its nearest training image."""
    from bench.pictures.sheets import pairs_sheet  # matplotlib: half a second

    chosen = nearest.closest[:PAIRS]
    path = setting.folder.path / "closest.png"
    pairs_sheet(images[chosen], trained[nearest.numbers[chosen]], path, names=("sample", "training"))
