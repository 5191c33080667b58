"""Stateless random streams: every number is drawn from a generator named by what it is for.

There is no global generator anywhere in this project. A stream is named by one root seed (a repetition)
and labels, e.g. ``("client", 3, 17)`` for client 3 in round 17. The strategy's name is never a label, so
all strategies see the same initial weights, split, participants, batches, timesteps and noise, and
differences between them are paired. Streams do not depend on the order in which they are asked for.
"""

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Label = str | int | float


def derive(root: int, *labels: Label) -> int:
    """A seed in [0, 2**63) for the stream `labels` of repetition `root`: SHA-256 of their JSON."""
    text = json.dumps([root, *labels], separators=(",", ":"), allow_nan=False)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_stream(root: int, *labels: Label) -> "torch.Generator":
    """A CPU generator for the stream. Draws are made on the CPU on every device, so they are the same on each."""
    import torch  # takes seconds, which who asks for no numbers need not wait for

    return torch.Generator("cpu").manual_seed(derive(root, *labels))


def numpy_stream(root: int, *labels: Label) -> np.random.Generator:
    """A NumPy generator for the stream."""
    return np.random.default_rng(derive(root, *labels))
