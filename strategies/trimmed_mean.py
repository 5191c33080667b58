"""Trimmed mean: in every coordinate the mean of the uploads without the largest and the smallest of them.

Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML 2018,
definition 2 and algorithm 1 (arXiv 1803.01498).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from bench.plugins import Tensor, torch
from strategies.base import State, Tensors, Upload
from strategies.fedavg import FedAvg


@dataclass(frozen=True)
class TrimmedMean(FedAvg):
    """w_k <- mean over clients of w_ik without the `cut` largest and the `cut` smallest, for every coordinate k.

    cut = floor(fraction m) of the m uploads that arrived, so that fewer than 1 / fraction uploads are averaged without
    any cut, and a single one is taken as it is: such rounds have no protection. Up to `cut` uploads, however wrong,
    cannot bring a coordinate outside the range of the others'.

    As in the paper every client counts alike, whatever its number of images (an attacker could claim any number): with
    unequal clients this is not the pooled loss's mean even at fraction 0. The paper trims gradients; trimming models is
    trimming their updates, as all start from the same one. Skewed labels make honest clients look like outliers.

    All uploads are kept until the last has arrived.

    Attributes:
        fraction: the share of uploads cut at each end, in [0, 0.5); more than the share of clients that may be wrong.
            Sensible grid: 0.1, 0.2, 0.3, 0.4.

    Raises:
        ValueError: if the fraction is outside its range.
    """

    title: ClassVar[str] = "Trimmed mean"
    convex: ClassVar[bool] = False
    streams: ClassVar[bool] = False

    fraction: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 0.5:
            raise ValueError(f"fraction must be in [0, 0.5), got {self.fraction}")

    def cut(self, count: int) -> int:
        """How many of `count` uploads are cut at each end."""
        return math.floor(round(self.fraction * count, 6))  # 0.29 * 100 is 28.999999999999996

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        server["params"] = middle_mean(server["params"], uploads, self.cut)


def middle_mean(like: Mapping[str, Tensor], uploads: Iterator[Upload], cut: Callable[[int], int]) -> Tensors:
    """In every coordinate the mean of the uploads without the `cut(count)` largest and smallest; integers: the first's.

    Sums are in float64, one tensor of the model after the other.

    Raises:
        ValueError: if nothing arrived or an upload's names differ from `like`'s.
    """
    arrived = [_copied(like, upload) for upload in uploads]
    if not arrived:
        raise ValueError("no client's upload arrived: there is nothing to average")
    count = len(arrived)
    kept = slice(cut(count), count - cut(count))
    result = {}
    for name, tensor in like.items():
        values = [tensors.pop(name) for tensors in arrived]
        if tensor.is_floating_point():
            middle = torch.stack(values).sort(dim=0).values[kept]
            result[name] = (middle.sum(dim=0, dtype=torch.float64) / len(middle)).to(tensor.dtype)
        else:
            result[name] = values[0]
    return result


def _copied(like: Mapping[str, Tensor], upload: Upload) -> Tensors:
    if upload.tensors.keys() != like.keys():
        odd = sorted(upload.tensors.keys() ^ like.keys())
        raise ValueError(f"an upload must hold the tensors of the server's model; these differ: {odd[:5]}")
    return {name: tensor.detach().clone() for name, tensor in upload.tensors.items()}
