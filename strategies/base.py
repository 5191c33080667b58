"""The interface of a federated strategy, with FedAvg's behaviour as the default of every hook.

A strategy is a frozen dataclass of its hyper-parameters. The training loop calls its five hooks and nothing
else; it never asks which strategy it runs. `server` and `local` are plain dicts of tensors (or dicts of
tensors) that belong to the strategy between calls: `server["params"]` is the global model, `local` is one
client's memory from its last visit, empty at its first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
State = dict[str, Any]


@dataclass(frozen=True)
class Upload:
    """What one client sends after its local training.

    Attributes:
        client: its number, 0 .. n_clients - 1.
        n_samples: how many images it holds; FedAvg's weight.
        tensors: what travels. They may be the live parameters of the one resident model, so they hold only until
            the next upload is taken from the iterator: add them up or copy them.
    """

    client: int
    n_samples: int
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Strategy:
    """FedAvg (McMahan et al. 2017, algorithm 1): the base of every strategy.

    Class attributes:
        centralized: one party holds all images; there are no clients and nothing travels.
    """

    centralized: ClassVar[bool] = False

    def download(self, server: State, client: int) -> Tensors:
        """What travels down to a client at the start of a round; its bytes are counted.

        The tensors are read, never written: the loop copies them into the model.
        """
        return dict(server["params"])

    def penalty(self, params: Tensors, down: Tensors) -> Tensor | None:
        """A scalar added to the local loss before backward, or None. It is not part of the logged loss."""
        return None

    def correct_grads(self, params: Tensors, down: Tensors, local: State) -> None:
        """Change `params[name].grad` in place, after backward and before the optimizer's step."""

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        """What travels up after local training; its bytes are counted. May write to `local`."""
        return params

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        """Take the uploads, one at a time and in the order of the clients' numbers, into `server`.

        Each upload is produced by training when it is asked for, so that memory does not grow with the clients.
        """
        mean = WeightedMean(server["params"])
        for upload in uploads:
            mean.add(upload.tensors, upload.n_samples)
        server["params"] = mean.result()


class WeightedMean:
    """sum_i n_i x_i / sum_i n_i over dicts of tensors, as one flat running sum in float64.

    In float64 the product of a float32 and an integer below 2**29 is exact, so one client's mean is that
    client, bit for bit, and the order of clients changes the result by less than float32 can show.
    Integer tensors are not averaged: the first upload's are taken.

    Args:
        like: names, shapes, types and devices of what will be added.
    """

    def __init__(self, like: Mapping[str, Tensor]) -> None:
        self._like = {name: tensor.detach() for name, tensor in like.items()}
        floats = {name: t for name, t in self._like.items() if t.is_floating_point()}
        device = next(iter(floats.values())).device if floats else torch.device("cpu")
        flat = torch.zeros(sum(t.numel() for t in floats.values()), dtype=torch.float64, device=device)
        pieces = flat.split([t.numel() for t in floats.values()])
        self._flat = flat
        self._sums = {name: piece.view(t.shape) for (name, t), piece in zip(floats.items(), pieces, strict=True)}
        self._integers: Tensors = {}
        self._total = 0

    @torch.no_grad()
    def add(self, tensors: Mapping[str, Tensor], weight: int) -> None:
        """Add one client's tensors with its number of samples.

        Raises:
            ValueError: if names differ from `like`'s or the weight is not positive.
        """
        if tensors.keys() != self._like.keys():
            odd = sorted(tensors.keys() ^ self._like.keys())
            raise ValueError(f"an upload must hold the tensors of the server's model; these differ: {odd[:5]}")
        if weight <= 0:
            raise ValueError(f"a client's weight must be positive, got {weight}")
        self._total += weight
        for name, tensor in tensors.items():
            if name in self._sums:
                self._sums[name].add_(tensor, alpha=weight)
            else:
                self._integers.setdefault(name, tensor.detach().clone())

    @torch.no_grad()
    def result(self) -> Tensors:
        """The mean, as new tensors of the types of `like`.

        Raises:
            ValueError: if nothing was added.
        """
        if not self._total:
            raise ValueError("no client's upload arrived: there is nothing to average")
        self._flat /= self._total
        return {
            name: self._sums[name].to(t.dtype) if name in self._sums else self._integers[name]
            for name, t in self._like.items()
        }
