"""How generated images lie among the nearest neighbours of real ones: precision, recall, density and coverage."""

from collections.abc import Iterator

import torch
from torch import Tensor

import bench.data.torchvision_compat  # noqa: F401 - before torch_fidelity
from bench.fidelity.references import ROWS, fixed_draw

K = 5  # neighbours, as Naeem et al. 2020 choose them
KEYS = ("precision", "recall", "density", "coverage")


def manifold_scores(features: Tensor, real: Tensor) -> dict[str, float | None]:
    """Of generated features (N, D) and real ones (M, D), from balls around an image to its 5th nearest of its own kind.

    The size of a ball depends on how many images there are, so both sides are cut to min(N, M) by a fixed draw; only
    scores of as many images compare.

    Returns:
        precision: share of generated images in some real image's ball (Kynkaanniemi et al. 2019, eq. 2).
        recall: share of real images in some generated image's ball (there, eq. 3).
        density: mean number of real balls that a generated image lies in, over 5; 1 for one distribution (Naeem et al.
        2020, eq. 5).
        coverage: share of real balls with a generated image in them (there, eq. 6).
        All None for 5 images or fewer. Precision and density tell little by themselves: balls around outliers are large
        and take in junk, and images of one class alone lie in real balls, too.
    """
    from torch_fidelity.metric_prc import prc_features_to_metric

    count = min(len(features), len(real))
    if count <= K:
        return dict.fromkeys(KEYS)
    generated, real = (each.double()[fixed_draw(len(each), count)] for each in (features, real))
    found = prc_features_to_metric(
        generated, real, prc_neighborhood=K, prc_batch_size=ROWS, save_cpu_ram=True, verbose=False
    )
    density, coverage = _density_coverage(generated, real)
    return {"precision": found["precision"], "recall": found["recall"], "density": density, "coverage": coverage}


def _density_coverage(generated: Tensor, real: Tensor) -> tuple[float, float]:
    """Of features (N, D) each, float64; torch-fidelity has neither."""
    radii = torch.cat([distances.kthvalue(K + 1).values for distances in _distances(real, real)])  # it is its own first
    hits, nearest = 0, radii.new_full((len(real),), torch.inf)
    for distances in _distances(generated, real):
        hits += int((distances <= radii).sum())
        nearest = torch.minimum(nearest, distances.amin(0))
    return hits / (K * len(generated)), (nearest <= radii).double().mean().item()


def nearest(images: Tensor, others: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Euclidean distances (N, k), float64 and rising, and numbers (N, k) of the k nearest of `others` (M, D), M >= k.

    Args:
        images: (N, D).
    """
    found = [distances.topk(k, largest=False) for distances in _distances(images.double(), others.double())]
    return torch.cat([values for values, _ in found]), torch.cat([numbers for _, numbers in found])


def _distances(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """Euclidean distances between rows, some rows of `a` at a time."""
    return (torch.cdist(part, b) for part in a.split(ROWS))
