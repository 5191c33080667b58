"""What each measure sees in real digits that were spoilt in a known way: ``python -m tests.measures_table``.

It prints the tables of docs/measures.md; tests/unit/test_measures.py holds the important orderings.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import partitions
from bench.data.config import DataConfig
from bench.data.sets import Dataset, load_dataset
from bench.fidelity.copying import Nearest, data_copying
from bench.fidelity.extractors import Extractor, load_extractor
from bench.fidelity.floor import RealImages, client_floors, client_mix_floors, real_floor
from bench.fidelity.references import KEPT, ClassMoments, Reference, fixed_draw, moments_by_class, statistics
from bench.fidelity.scores import client_fids, evaluate, fid_of_mix, fid_spread
from bench.seeds import numpy_stream, torch_stream

N = 500  # images of each kind
KINDS = (
    "real", "1 class missing", "3 classes missing", "5 classes missing", "noise of 25", "noise of 50", "blurred",
    "250 twice", "100 five times", "most typical", "low contrast", "junk", "copies", "copies, noise of 5",
    "copies, noise of 15", "a fifth copies",
)  # fmt: skip
OF_CLIENTS = ("real", "1 class missing", "3 classes missing", "noise of 25", "blurred", "most typical", "copies")
BETAS = (100.0, 1.0, 0.1)
NOISE, MISSING = (0, 20, 25, 28, 31, 34, 50, 80), (0, 1, 3, 5)
COLUMNS = {
    "fid": ("FID", 1, 2), "kid_mean": ("KID·10³", 1e3, 0), "is_mean": ("IS", 1, 2), "recognised": ("recognised", 1, 2),
    "class_tv": ("TV", 1, 2), "recall": ("recall", 1, 2), "coverage": ("coverage", 1, 2),
    "precision": ("precision", 1, 2), "density": ("density", 1, 2), "copies_pixels": ("copies", 1, 2),
    "authenticity_pixels": ("authentic", 1, 2), "c_t_pixels": ("C_T", 1, 1),
}  # fmt: skip


@cache
def digits() -> Dataset:
    """mnist5k as the default grid has it: 3,500 training images, 500 of validation, 1,000 of test."""
    return load_dataset(DataConfig())


@cache
def extractor() -> Extractor:
    return load_extractor("mnist-cnn")


@cache
def training() -> Reference:
    """Statistics of the training images."""
    features, _ = extractor().features(digits().train_images)
    kept = features[fixed_draw(len(features), KEPT)]
    return Reference(*statistics(features), kept, len(features), extractor().digest)


@cache
def real() -> RealImages:
    """All test images."""
    return RealImages.of(digits().test_images, digits().test_labels, N, extractor(), "cpu")


@cache
def in_pixels() -> Nearest:
    """The training images nearest to test images."""
    return Nearest.of(real().images.flatten(1), digits().train_images.flatten(1))


def shares_of(count: int, classes: Sequence[int]) -> Tensor:
    """Numbers of `count` test images, the classes given in equal shares."""
    order = fixed_draw(len(digits().test_labels), len(digits().test_labels))
    labels, each = digits().test_labels[order], np.diff(np.linspace(0, count, len(classes) + 1).round().astype(int))
    return torch.cat([order[labels == k][:number] for k, number in zip(classes, each.tolist(), strict=True)])


def noisy(images: Tensor, sd: float) -> Tensor:
    """uint8 images with Gaussian noise on their pixels, in grey levels."""
    noise = torch.randn(images.shape, generator=torch_stream(0, "noise", sd, len(images)))
    return (images + sd * noise).round().clamp(0, 255).to(torch.uint8)


@cache
def images_of(kind: str) -> Tensor:
    """About `N` images uint8 (N, 1, 16, 16) of one of `KINDS`."""
    data = digits()
    whole = data.test_images[shares_of(N, range(10))]
    copies = data.train_images[fixed_draw(len(data.train_images), N)]
    word = kind.split()
    if kind.endswith("missing"):
        return data.test_images[shares_of(N, range(int(word[0]), 10))]
    if kind.startswith("noise"):
        return noisy(whole, float(word[-1]))
    if kind.startswith("copies"):
        return copies if kind == "copies" else noisy(copies, float(word[-1]))
    made = {
        "real": lambda: whole,
        "blurred": lambda: F.avg_pool2d(whole.float(), 3, 1, 1).round().to(torch.uint8),
        "250 twice": lambda: data.test_images[shares_of(250, range(10))].repeat(2, 1, 1, 1),
        "100 five times": lambda: data.test_images[shares_of(100, range(10))].repeat(5, 1, 1, 1),
        "most typical": _typical,
        "low contrast": lambda: (76 + 0.3 * whole.float()).round().to(torch.uint8),
        "junk": lambda: noisy(torch.full_like(whole, 128), 128),
        "a fifth copies": lambda: torch.cat([copies[: N // 5], whole[fixed_draw(N, N - N // 5)]]),
    }
    return made[kind]()


def _typical() -> Tensor:
    """The 50 test images of each class that are nearest to its mean feature."""
    chosen = []
    for k in range(10):
        own = (real().labels == k).nonzero().flatten()
        features = real().features[own]
        chosen.append(own[(features - features.mean(0)).norm(dim=1).argsort()[:50]])
    return real().images[torch.cat(chosen)]


@cache
def scores(kind: str) -> Mapping[str, Any]:
    """All measures of one of `KINDS`."""
    images = images_of(kind)
    found = evaluate(images, training(), digits().class_shares, extractor())
    nearest = Nearest.of(images.flatten(1), digits().train_images.flatten(1))
    copying = nearest.shares() | {"c_t": data_copying(nearest, in_pixels(), digits().train_labels.numpy())}
    return found | {f"{key}_pixels": value for key, value in copying.items()}


@cache
def floor() -> Mapping[str, Any]:
    """What real images score."""
    return real_floor(real(), N, training(), digits().class_shares, 10)


def calibration(sd: float, choices: int = 3) -> Iterator[tuple[float, float]]:
    """Share of recognised images and total variation of the classes found from equal shares, by `MISSING`, each a mean
    over choices of the classes; digits with Gaussian noise of `sd` grey levels.
    """
    for missing in MISSING:
        found = []
        for number in range(choices):
            kept = np.sort(numpy_stream(0, "missing", missing, number).permutation(10)[missing:])
            images = noisy(digits().test_images[shares_of(N, kept.tolist())], sd)
            confidence, classes = extractor().features(images)[1].softmax(1).max(1)
            shares = np.bincount(classes.numpy(), minlength=10) / len(images)
            found.append(((confidence > 0.95).double().mean().item(), np.abs(shares - 0.1).sum() / 2))
        recognised, variation = np.mean(found, axis=0)
        yield float(recognised), float(variation)


@cache
def _clients(beta: float) -> tuple[Mapping[int, np.ndarray], Mapping[int, tuple[np.ndarray, np.ndarray]]]:
    """Mixes of classes (K,) and references of five clients of a Dirichlet split."""
    labels = digits().train_labels.numpy()
    parts = partitions.checked_split(
        partitions.registry.load("dirichlet")(beta=beta), labels, 5, numpy_stream(0, "partition", beta)
    )
    mixes = {i: np.bincount(labels[part], minlength=10).astype(float) for i, part in enumerate(parts)}
    return mixes, {i: _moments().of_mix(mix) for i, mix in mixes.items()}


@cache
def _client_floors(beta: float) -> tuple[Mapping[int, float], Mapping[int, float]]:
    """By client the mean FID of real images, of all and of those at its mix."""
    (mixes, references), shares = _clients(beta), digits().class_shares
    mixed = client_mix_floors(real(), N, references, shares, mixes)
    return client_floors(real(), N, references, shares), mixed


@cache
def client_scores(kind: str, beta: float) -> tuple[float, float]:
    """FID-avg's excess over real images and FID-mix, mean over the clients of `_clients`.

    Args:
        kind: one of `KINDS`, or "floor" for FID-avg itself and FID-mix of real images.
    """
    (mixes, references), (floors, mixed_floors) = _clients(beta), _client_floors(beta)
    if kind == "floor":
        return float(np.mean(list(floors.values()))), float(np.mean(list(mixed_floors.values())))
    seen = extractor().features(images_of(kind))
    fids = client_fids(dict.fromkeys(mixes, seen), references)
    mixed_fids = [fid_of_mix(seen, mix, references[i]) for i, mix in mixes.items()]
    spread = fid_spread(list(fids.values()), list(floors.values()))
    return spread["fid_avg_excess"], float(np.mean(mixed_fids))


@cache
def _moments() -> ClassMoments:
    features, _ = extractor().features(digits().train_images)
    return moments_by_class(features.double(), digits().train_labels, 10)


def _number(value: float | None, scale: float, digits_shown: int) -> str:
    return "" if value is None else f"{value * scale:.{digits_shown}f}"


def _rows(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] + ["---:"] * (len(names) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _client_rows() -> list[list[str]]:
    kinds = ["floor", *(kind for kind in KINDS if kind in OF_CLIENTS)]
    told = {kind: [client_scores(kind, beta) for beta in BETAS] for kind in kinds}
    return [[kind, *(f"{excess:.1f}, {mix:.1f}" for excess, mix in found)] for kind, found in told.items()]


def main() -> None:
    """Print the tables as Markdown."""
    rows = [[kind, *(_number(scores(kind)[key], *look[1:]) for key, look in COLUMNS.items())] for kind in KINDS]
    for name, end in (("floor, mean", ""), ("floor, sd", "_sd")):
        rows.append([name, *(_number(floor().get(key + end), *look[1:]) for key, look in COLUMNS.items())])
    print(_rows(["500 images", *(name for name, *_ in COLUMNS.values())], rows))
    print()
    heads = ["noise", *("all classes" if missing == 0 else f"{missing} missing" for missing in MISSING)]
    print(_rows(["FID-avg's excess, FID-mix", *(f"beta = {beta:g}" for beta in BETAS)], _client_rows()))
    print()
    print(_rows(heads, [[str(sd), *(f"{r:.2f}: {tv:.2f}" for r, tv in calibration(sd))] for sd in NOISE]))


if __name__ == "__main__":
    main()
