"""FedAvg with sparse uploads: each client sends the largest coordinates of its update and remembers the rest.

Stich, Cordonnier, Jaggi: Sparsified SGD with Memory, NeurIPS 2018, algorithm 1 (arXiv 1809.07599). Karimireddy,
Rebjock, Stich, Jaggi: Error Feedback Fixes SignSGD and Other Gradient Compression Schemes, ICML 2019, algorithm 2
(arXiv 1901.09847).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from bench.plugins import Tensor, torch
from strategies.base import State, Tensors, Upload
from strategies.fedavg import FedAvg
from strategies.updates import add_mean, difference


@dataclass(frozen=True)
class TopK(FedAvg):
    """u_i = w_i - w + e_i;  s_i = its k largest coordinates;  e_i <- u_i - s_i;  w <- w + sum_i (N_i / sum_j N_j) s_i.

    k = ceil(fraction P) of the model's P floating-point weights together, by size; of equals, the first. A coordinate
    travels as a float32 value and an int32 index, so that fractions below 1/2 save bytes. The residual e_i waits on the
    client until its next visit. The papers compress a gradient step and take the plain mean; here it is the update
    of all local steps, weighted by images. Their theory is for SGD: under Adam updates are of more equal size, and what
    comes late was made at an older learning rate.

    Attributes:
        fraction: in (0, 1]; 1 is FedAvg up to rounding. Sensible grid: 0.001, 0.01, 0.1.

    Raises:
        ValueError: if fraction is not in (0, 1].
    """

    title: ClassVar[str] = "Top-k FedAvg"
    convex: ClassVar[bool] = False
    alone_is_centralized: ClassVar[bool] = False

    fraction: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction must be in (0, 1], got {self.fraction}")

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        update = difference(params, down)
        rest = torch.cat([change.flatten() for change in update.values() if change.is_floating_point()])
        if "residual" in local:
            rest += local["residual"]
        chosen = largest(rest, self.fraction)
        values = rest[chosen]
        rest[chosen] = 0
        local["residual"] = rest
        whole = {name: value for name, value in update.items() if not value.is_floating_point()}
        return {"values": values, "indices": chosen.to(torch.int32), **whole}

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        params: Tensors = server["params"]
        add_mean(server, ((_dense(upload.tensors, params), upload.n_samples) for upload in uploads))


def largest(x: Tensor, fraction: float) -> Tensor:
    """Indices, rising, of the ceil(fraction n) largest sizes in x (n,); of equals the first, and NaN before all."""
    count = max(1, math.ceil(round(fraction * len(x), 6)))  # 0.07 * 100 is 7.000000000000001
    return x.abs().sort(descending=True, stable=True).indices[:count].sort().values


def _dense(sparse: Mapping[str, Tensor], like: Tensors) -> Tensors:
    """A sparse upload as tensors of the names and shapes of `like`."""
    floats = {name: tensor for name, tensor in like.items() if tensor.is_floating_point()}
    sizes = [tensor.numel() for tensor in floats.values()]
    flat = sparse["values"].new_zeros(sum(sizes))
    flat[sparse["indices"].long()] = sparse["values"]
    pieces = {
        name: piece.view(tensor.shape) for (name, tensor), piece in zip(floats.items(), flat.split(sizes), strict=True)
    }
    return {name: pieces[name] if name in pieces else sparse[name] for name in like}
