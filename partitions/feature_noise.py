"""Feature skew: clients of equal mix and size whose images are noisier from client to client.

Li, Diao, Chen, He: "Federated Learning on Non-IID Data Silos: An Experimental Study", ICDE 2022
(arXiv 2102.02079), "noise-based feature imbalance".
"""

import math
from dataclasses import dataclass

from partitions.base import PartitionError
from partitions.iid import IID


@dataclass(frozen=True)
class FeatureNoise(IID):
    """The split of `IID`; to the images of client i = 1..n comes Gaussian noise of variance sigma i / n.

    So the paper, of images scaled to [0, 1]. Its authors' code differs: it takes sigma (i - 1) / (n - 1) for the
    standard deviation, so that the first client has none, draws the noise anew at every visit of an image, and neither
    rounds nor clips. Here an image's noise is part of the data; see `partitions.noise`.

    Training sees the noise, and what is told of clients: their test losses and FID-avg. Everything that is told
    of the global model (losses, FID and others) is of clean images, and so is centralized training.

    Attributes:
        sigma: variance of the last client's noise, >= 0; 0 is `IID`. The paper's is 0.1.
    """

    sigma: float = 0.1

    def __post_init__(self) -> None:
        """Raises PartitionError where a hyper-parameter is out of range."""
        super().__post_init__()
        if not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise PartitionError(f"sigma must be finite and 0 or more, not {self.sigma}")

    def noise_levels(self, n_clients: int) -> list[float]:
        """sqrt(sigma i / n) for i = 1..n; see `Partition.noise_levels`."""
        return [math.sqrt(self.sigma * client / n_clients) for client in range(1, n_clients + 1)]
