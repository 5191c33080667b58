"""An exponential moving average of the weights, whose time constant is counted in gradient steps.

    e <- d_k e + (1 - d_k) w        after gradient step k = 0, 1, ...

with a warm-up of the decay, without which the initial weights would stay for 1 / (1 - d) steps. On the server w is
known at the end of a round only: after a round of s steps it counts as the weights of each of them, so
e <- D e + (1 - D) w with D the product of the round's s decays. The time constant is then that of a
single machine's average.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


@torch.no_grad()
def update(average: Mapping[str, Tensor], weights: Mapping[str, Tensor], decay: float) -> None:
    """e <- d e + (1 - d) w in place, over the tensors of `average`; what is not floating-point is copied."""
    floats = [name for name, tensor in average.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([average[n] for n in floats], [weights[n].detach() for n in floats], 1.0 - decay)
    for name in average.keys() - set(floats):
        average[name].copy_(weights[name])
