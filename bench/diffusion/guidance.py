"""Classes: hidden at random in training, asked for and followed more strongly in sampling.

A class-conditional network takes (x, t, y) with classes y in 0 .. K-1, and `null` = K for "no class".
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Network = Callable[[Tensor, Tensor], Tensor]
ConditionalNetwork = Callable[[Tensor, Tensor, Tensor], Tensor]
_GOLDEN = (5**0.5 - 1) / 2


def drop_labels(labels: Tensor, null: int, rate: float, stream: torch.Generator) -> Tensor:
    """`labels` (B,), on the CPU, each hidden, that is `null`, with probability `rate` (Ho & Salimans 2022, alg. 1)."""
    hidden = torch.rand(len(labels), generator=stream) < rate
    return labels.masked_fill(hidden, null)


def guided(network: ConditionalNetwork, labels: Tensor, null: int, scale: float, mean_channels: int) -> Network:
    """The network (x, t) for images of these classes (B,), which follows the class `scale` times as strongly.

    mean = mean_null + s (mean_class - mean_null), which for the prediction eps is Ho & Salimans 2022, eq. 6, with their
    w = s - 1; x_0 and v are linear in eps, so it is the same rule. A learned variance is that of the class. s = 1 is
    the network at the class, in one pass; otherwise two passes are made as one batch.

    Args:
        network: with an output in float32 or better: the scale would enlarge a bfloat16's rounding.
        mean_channels: channels C of the mean part of the output.
    """
    if scale == 1:
        return lambda x, t: network(x, t, labels)
    nulls = torch.full_like(labels, null)

    def combined(x: Tensor, t: Tensor) -> Tensor:
        both = network(torch.cat((x, x)), torch.cat((t, t)), torch.cat((labels, nulls)))
        wanted, free = both.chunk(2)
        mean = free[:, :mean_channels] + scale * (wanted[:, :mean_channels] - free[:, :mean_channels])
        return torch.cat((mean, wanted[:, mean_channels:]), dim=1)

    return combined


def asked_labels(shares: np.ndarray, first: int, count: int) -> Tensor:
    """Classes (count,) asked of images `first` .. `first + count - 1`, in the given shares (K,) at every length.

    Image i has the class at quantile i times the golden ratio modulo 1, a sequence of low discrepancy; it does not
    depend on the number of images.
    """
    quantiles = (np.arange(first, first + count) + 0.5) * _GOLDEN % 1.0
    found = np.searchsorted(np.cumsum(shares) / np.sum(shares), quantiles, side="right")
    return torch.from_numpy(np.minimum(found, len(shares) - 1)).long()
