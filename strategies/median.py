"""FedMedian: in every coordinate the median of the uploads.

Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML 2018,
definition 1 and algorithm 1 (arXiv 1803.01498).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from strategies.base import State, Upload
from strategies.fedavg import FedAvg
from strategies.trimmed_mean import middle_mean


@dataclass(frozen=True)
class FedMedian(FedAvg):
    """w_k <- median over clients of w_ik for every coordinate k; the mean of the middle two where their number is even.

    Fewer than half of the uploads, however wrong, cannot bring a coordinate outside the range of the others'. Of one
    or two uploads it is the plain mean. As in the paper every client counts alike, whatever its number of images, so
    that it is not the pooled loss's mean; the paper takes the median of gradients, which is that of models where all
    start from the same one. Skewed labels move it from the mean: what few clients train stays near where it was.

    All uploads are kept until the last has arrived.
    """

    title: ClassVar[str] = "FedMedian"
    convex: ClassVar[bool] = False
    streams: ClassVar[bool] = False

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        server["params"] = middle_mean(server["params"], uploads, lambda count: (count - 1) // 2)
