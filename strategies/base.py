"""The interface of a federated strategy, with FedAvg's behaviour as the default of every hook.

A strategy is a frozen dataclass of its hyper-parameters. The training loop calls its hooks and nothing else; it never
asks which strategy it runs. `server` and `local` are plain dicts of tensors, numbers, texts and such dicts: they go
to disk and come back without the strategy's code. `local` is one client's memory from its last visit, at first empty.

The loop writes these entries of `server`, and a strategy may add its own:

    params        the global model, by names of parameters; `aggregate` replaces it
    round         number of the round, from 0
    n_clients     how many clients there are
    n_samples     how many images they hold together
    participation the expected share of clients in a round, in (0, 1]
    sampling      "fixed" or "poisson", how they are drawn
    seed          for a strategy's own random numbers, as `torch_stream(server["seed"], "noise", server["round"])` of
                  `bench.seeds` gives them
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.plugins import Tensor, torch

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
        title: its name as papers write it; of the class alone, a subclass has its own or is called by its name.
        centralized: one party holds all images; there are no clients and nothing travels.
        matched: of centralized training, whether it makes a client's steps, `training.local_steps`, in each round.
        any_network: it works for networks other than the diffusion's U-Net, too.
        partial_work: updates of stragglers, who did only a part of their local steps, are aggregated as FedProx does;
            else they are dropped as FedAvg does.

    What a strategy claims, and `python -m bench.check` proves; a subclass that means to differ says so:
        convex: the new global model is the mean of the uploaded models weighted by their numbers of images.
        keeps_equal: where all uploads are the global model, it stays (to rounding; bit for bit if `convex`).
        any_order: the order of uploads changes nothing beyond rounding.
        streams: `aggregate` needs no more memory for more clients.
        quadratic: what it adds to local losses is a quadratic of the weights, so its pull is affine in them.
        alone_is_centralized: with one client that holds everything it is centralized training (to rounding; bit for bit
            if `convex`), at `zero` where that is given.
        zero: hyper-parameters at which it is its first base class, bit for bit; {} for none.
    """

    title: ClassVar[str] = ""
    centralized: ClassVar[bool] = False
    matched: ClassVar[bool] = False
    any_network: ClassVar[bool] = True
    partial_work: ClassVar[bool] = False
    convex: ClassVar[bool] = True
    keeps_equal: ClassVar[bool] = True
    any_order: ClassVar[bool] = True
    streams: ClassVar[bool] = True
    quadratic: ClassVar[bool] = True
    alone_is_centralized: ClassVar[bool] = True
    zero: ClassVar[Mapping[str, Any]] = {}

    @property
    def personal(self) -> bool:
        """Whether clients keep parts of the model to themselves, so that each has to be evaluated with its own."""
        return False

    def download(self, server: State, client: int) -> Tensors:
        """What travels down to a client at the start of a round; its bytes are counted.

        The tensors are read, never written: the loop copies them into the model.
        """
        return dict(server["params"])

    def start(self, down: Tensors, local: State) -> Tensors:
        """The model that local training starts from, made on the client of what came down and what it remembers.

        Parameters that are missing here start from the initial model, which all clients know.
        """
        return down

    def penalty(self, params: Tensors, down: Tensors) -> Tensor | None:
        """A scalar added to the local loss before backward, or None. It is not part of the logged loss."""
        return None

    def correct_grads(self, params: Tensors, down: Tensors, local: State) -> None:
        """Change `params[name].grad` in place, after backward and before the optimizer's step."""

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        """What travels up after local training; its bytes are counted. May write to `local`: copies of `params`, never
        the live tensors themselves, which go on to the next client.
        """
        return params

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        """Take the uploads, one at a time and in the order of the clients' numbers, into `server`.

        Each upload is produced by training when it is asked for, so that memory does not grow with the clients. It is
        not called in a round from which nothing arrives. As training happens inside, it must not run under
        `torch.no_grad()` as a whole; uploads may require grad, so do arithmetic on `tensor.detach()`.
        """
        server["params"] = weighted_mean(server["params"], uploads)

    def model(self, server: State, local: State) -> Tensors:
        """The model to be evaluated: the global one, or a client's own if `personal`.

        Parameters that are missing here are the initial model's. `local` is {} for a client that has not been visited,
        and for strategies that are not personal.
        """
        return dict(server["params"])

    def report(self, server: State) -> dict[str, float]:
        """Figures for the table beside the scores, e.g. {"epsilon": 8.0}, from the server's state after training."""
        return {}


def weighted_mean(like: Mapping[str, Tensor], uploads: Iterator[Upload]) -> Tensors:
    """FedAvg's mean of the uploads, weighted by their numbers of images; arguments and errors as `WeightedMean`."""
    mean = WeightedMean(like)
    for upload in uploads:
        mean.add(upload.tensors, upload.n_samples)
    return mean.result()


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
                self._sums[name].add_(tensor.detach(), alpha=weight)
            else:
                self._integers.setdefault(name, tensor.detach().clone())

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
