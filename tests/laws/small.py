"""A network on which laws are tried in a tenth of the time that they take on the U-Net."""

import contextlib
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from bench.check import toy


class Small(nn.Module):
    """A network that trains far faster than the U-Net, with some of its names; the wider, the more numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image_proj = nn.Conv2d(1, width, 3, padding=1)
        self.time_emb = nn.Sequential(nn.Linear(1, 16 * width**2), nn.Linear(16 * width**2, width))
        self.final = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x, t):
        time = self.time_emb(t[:, None] / 50)
        return self.final(nn.functional.silu(self.image_proj(x) + time[:, :, None, None]))


def small_net(width: int = 8) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Small(width)


@contextlib.contextmanager
def on_small_net() -> Iterator[None]:
    """Subjects of laws train `Small`."""
    toy.trained_in_one_place.cache_clear()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(toy, "make_net", small_net)
            yield
    finally:
        toy.trained_in_one_place.cache_clear()
