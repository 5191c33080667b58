"""Every client draws from the same distribution: a random permutation cut into near-equal parts."""

from dataclasses import dataclass

import numpy as np

from partitions.base import IntArray, Partition, check_request


@dataclass(frozen=True)
class IID(Partition):
    """Client sizes differ by at most one sample; labels play no part."""

    def split(self, labels: IntArray, n_clients: int, rng: np.random.Generator) -> list[IntArray]:
        """n_clients parts of a permutation of 0..N-1; see `Partition.split`."""
        check_request(labels, n_clients, self.min_size)
        return np.array_split(rng.permutation(len(labels)), n_clients)
