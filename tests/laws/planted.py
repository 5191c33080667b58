"""Strategies and partitions with one known mistake each, which the law checker has to find."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from partitions.base import Partition, PartitionError
from partitions.dirichlet import Dirichlet
from partitions.iid import IID
from strategies.base import State, Strategy, Tensors, Upload, WeightedMean
from strategies.fedavg import FedAvg
from strategies.fedprox import FedProx

# ------------------------------------------------------------------------------------------------ strategies


@dataclass(frozen=True)
class AliasedProx(FedProx):
    """The pull is always 0: its "global" model is the live one."""

    def correct_grads(self, params, down, local):
        anchors = local.setdefault("anchors", {name: p.detach() for name, p in params.items()})
        super().correct_grads(params, anchors, local)

    def upload(self, params, down, local):
        del local["anchors"]
        return params


@dataclass(frozen=True)
class UnsquaredProx(FedAvg):
    """mu ||w - w_round||, with PyTorch's gradient of 0 where the norm is 0."""

    zero = {"mu": 0.0}  # noqa: RUF012 - as an author writes it
    mu: float = 0.5

    def penalty(self, params, down):
        return self.mu * torch.cat([(p - down[name]).flatten() for name, p in params.items()]).norm()


@dataclass(frozen=True)
class UnsquaredRoot(UnsquaredProx):
    """The same as a root, whose gradient is infinite at 0."""

    def penalty(self, params, down):
        return self.mu * sum((p - down[name]).square().sum() for name, p in params.items()).sqrt()


class ByBatches(FedAvg):
    """Weights are numbers of batches."""

    def aggregate(self, server, uploads):
        mean = WeightedMean(server["params"])
        for upload in uploads:
            mean.add(upload.tensors, -(-upload.n_samples // 8))
        server["params"] = mean.result()


class ByArrival(FedAvg):
    """A running mean in float32, in the order of arrival."""

    def aggregate(self, server, uploads):
        mean, total = {name: torch.zeros_like(t) for name, t in server["params"].items()}, 0
        for upload in uploads:
            total += upload.n_samples
            for name, tensor in upload.tensors.items():
                mean[name] += (tensor.detach() - mean[name]) * (upload.n_samples / total)
        server["params"] = mean


class FloatSum(FedAvg):
    """A float32 sum by shares: equal models do not stay bit for bit."""

    any_order = streams = False

    def aggregate(self, server, uploads):
        taken = [(u.n_samples, {name: t.detach().clone() for name, t in u.tensors.items()}) for u in uploads]
        total = sum(n for n, _ in taken)
        server["params"] = {name: sum(t[name] * (n / total) for n, t in taken) for name in server["params"]}


class KeepsLive(FedAvg):
    """A client remembers the live parameters."""

    def upload(self, params, down, local):
        local["last"] = dict(params)
        return params


class ServerKeepsLive(FedAvg):
    """The server remembers the last upload, which is the live parameters."""

    def aggregate(self, server, uploads):
        def noted() -> Iterator[Upload]:
            for upload in uploads:
                server["last"] = {name: tensor.detach() for name, tensor in upload.tensors.items()}
                yield upload

        super().aggregate(server, noted())


class ServerKeepsUpload(FedAvg):
    """The server remembers a tensor that a client sent beside its model, and may change it."""

    def upload(self, params, down, local):
        return {**params, "steps": torch.tensor([1.0])}

    def aggregate(self, server, uploads):
        def models() -> Iterator[Upload]:
            for upload in uploads:
                model = dict(upload.tensors)
                server["steps"] = model.pop("steps")
                yield Upload(upload.client, upload.n_samples, model)

        super().aggregate(server, models())


class WritesDownload(FedAvg):
    """A client changes what it was sent, which is the server's own model."""

    def upload(self, params, down, local):
        down["final.bias"].add_(0.5)
        return params


class MovesInPlace(FedAvg):
    """The server's model is written to in place, and with it every earlier download."""

    def aggregate(self, server, uploads):
        before = server["params"]
        super().aggregate(server, uploads)
        for name, tensor in before.items():
            tensor.copy_(server["params"][name])
        server["params"] = before


class HoardsUploads(FedAvg):
    """All uploads are in memory at once, and it is claimed that they are not."""

    def aggregate(self, server, uploads):
        taken = [Upload(u.client, u.n_samples, {n: t.detach().clone() for n, t in u.tensors.items()}) for u in uploads]
        super().aggregate(server, iter(taken))


class HoardsArrays(FedAvg):
    """The same, where torch does not see it."""

    def aggregate(self, server, uploads):
        taken = [(u, {n: t.detach().numpy().copy() for n, t in u.tensors.items()}) for u in uploads]
        tensors = ({n: torch.from_numpy(a) for n, a in arrays.items()} for _, arrays in taken)
        super().aggregate(server, (Upload(u.client, u.n_samples, t) for (u, _), t in zip(taken, tensors, strict=True)))


WHISPERED: dict[int, float] = {}


class Whispers(FedAvg):
    """A client tells the server a number through the module."""

    convex = alone_is_centralized = keeps_equal = any_order = False

    def correct_grads(self, params, down, local):
        local["steps"] = local.get("steps", 0) + 1

    def upload(self, params, down, local):
        WHISPERED[0] = local.pop("steps")
        return params

    def aggregate(self, server, uploads):
        super().aggregate(server, uploads)
        steps = WHISPERED.get(0, 0)
        server["params"] = {name: tensor * (1 + 1e-3 * steps) for name, tensor in server["params"].items()}


@dataclass(frozen=True)
class WhispersToItself(Whispers):
    """The same through the instance."""

    heard: dict = field(default_factory=dict, init=False, compare=False)

    def upload(self, params, down, local):
        self.heard["steps"] = local.pop("steps")
        return params

    def aggregate(self, server, uploads):
        FedAvg.aggregate(self, server, uploads)
        scale = 1 + 1e-3 * self.heard.get("steps", 0)
        server["params"] = {name: tensor * scale for name, tensor in server["params"].items()}


ROUNDS_SEEN: list[int] = []


class CountsInModule(FedAvg):
    """The server counts its rounds where no checkpoint finds them."""

    convex = alone_is_centralized = keeps_equal = any_order = False

    def aggregate(self, server, uploads):
        super().aggregate(server, uploads)
        if server["round"] == 0:
            ROUNDS_SEEN.clear()
        ROUNDS_SEEN.append(server["round"])
        server["params"] = {name: t * (1 - 1e-3 * len(ROUNDS_SEEN)) for name, t in server["params"].items()}


class NumbersAsKeys(FedAvg):
    """The server remembers sizes by number of client: a file has texts as keys."""

    def aggregate(self, server, uploads):
        def noted() -> Iterator[Upload]:
            for upload in uploads:
                server.setdefault("sizes", {})[upload.client] = upload.n_samples
                yield upload

        super().aggregate(server, noted())


class RemembersTuples(FedAvg):
    """A client remembers what becomes a list on disk."""

    def upload(self, params, down, local):
        local["shape"] = (1, 2)
        return params


class ByOrderOfNames(FedAvg):
    """Takes it for granted that a dict comes as it was sent."""

    convex = keeps_equal = alone_is_centralized = False

    def aggregate(self, server, uploads):
        def first_is_special() -> Iterator[Upload]:
            for upload in uploads:
                first, *rest = upload.tensors.items()
                yield Upload(upload.client, upload.n_samples, {first[0]: first[1].detach() * 0.99, **dict(rest)})

        super().aggregate(server, first_is_special())


class DrawsGlobally(FedAvg):
    """Draws from torch's global generator, for nothing."""

    def upload(self, params, down, local):
        torch.rand(3)
        return params


@dataclass(frozen=True)
class HalfWay(FedAvg):
    """The server moves by a share; at the strength that `zero` names it does not move at all."""

    convex = alone_is_centralized = False
    zero = {"rate": 0.0}  # noqa: RUF012
    rate: float = 0.5

    def aggregate(self, server, uploads):
        before = server["params"]
        super().aggregate(server, uploads)
        server["params"] = {name: before[name].lerp(t, self.rate) for name, t in server["params"].items()}


class LeavesUploads(FedAvg):
    """Takes the first upload alone."""

    def aggregate(self, server, uploads):
        super().aggregate(server, iter([next(uploads)]))


class Doubles(FedAvg):
    """The model comes back in another type."""

    def aggregate(self, server, uploads):
        super().aggregate(server, uploads)
        server["params"] = {name: tensor.double() for name, tensor in server["params"].items()}


class NeedsAll(FedAvg):
    """Takes it for granted that all clients arrive."""

    def aggregate(self, server, uploads):
        taken = []
        super().aggregate(server, (taken.append(u.client) or u for u in uploads))
        if len(taken) < server["n_clients"]:
            raise RuntimeError(f"clients {taken} of {server['n_clients']} arrived")


class Decays(FedAvg):
    """Decays the weights of every client, and says nothing of it."""

    def penalty(self, params, down):
        return 0.1 * sum(p.square().sum() for p in params.values())


class HalfModels(Strategy):
    """Evaluates a model that a client which was never visited does not have."""

    convex = alone_is_centralized = False

    @property
    def personal(self):
        return True

    def upload(self, params, down, local):
        local["own"] = {name: p.detach().clone() for name, p in params.items()}
        return params

    def model(self, server: State, local: State) -> Tensors:
        return local["own"]


class SendsText(FedAvg):
    """Not only tensors travel."""

    def upload(self, params, down, local):
        return {**params, "name": "client"}

    def aggregate(self, server, uploads):
        def models() -> Iterator[Upload]:
            for upload in uploads:
                yield Upload(upload.client, upload.n_samples, {n: t for n, t in upload.tensors.items() if n != "name"})

        super().aggregate(server, models())


class ReportsText(FedAvg):
    """Reports no number."""

    def report(self, server):
        return {"mood": "good"}


@dataclass(frozen=True)
class NeedsMore(FedAvg):
    """Cannot be made without being told something."""

    much: int


@dataclass(frozen=True)
class HasBeta(FedAvg):
    """No mistake: beta is a grid's axis for partitions, and a name like others for strategies."""

    beta: float = 0.9


class Explodes(FedAvg):
    """Cannot be made at all."""

    def __post_init__(self):
        1 / 0  # noqa: B018


class Damped(FedAvg):
    """No mistake: the server moves by a share only, and says so."""

    convex = alone_is_centralized = False

    def aggregate(self, server, uploads):
        before = server["params"]
        super().aggregate(server, uploads)
        server["params"] = {name: before[name].lerp(t, 0.5) for name, t in server["params"].items()}


# ------------------------------------------------------------------------------------------------ partitions


class Overlapping(IID):
    """Sample 0 is everyone's."""

    def split(self, labels, n_clients, rng):
        return [np.union1d(part, [0]) for part in super().split(labels, n_clients, rng)]


class Incomplete(IID):
    """The last sample is nobody's."""

    def split(self, labels, n_clients, rng):
        return super().split(labels[:-1], n_clients, rng)


class Lists(IID):
    """Parts are no arrays."""

    def split(self, labels, n_clients, rng):
        return [part.tolist() for part in super().split(labels, n_clients, rng)]


class RefusesAll(Partition):
    """Nothing is ever possible."""

    def split(self, labels, n_clients, rng):
        raise PartitionError(f"{n_clients} clients are too many")


class RefusesMutely(IID):
    """Says no and not why."""

    def split(self, labels, n_clients, rng):
        if n_clients == 5:
            raise PartitionError
        return super().split(labels, n_clients, rng)


class GlobalSplit(IID):
    """Draws from NumPy's global generator."""

    def split(self, labels, n_clients, rng):
        return np.array_split(np.random.permutation(len(labels)), n_clients)  # noqa: NPY002


COUNTER: list[int] = []


class Moody(IID):
    """Splits otherwise each time it is asked."""

    def split(self, labels, n_clients, rng):
        COUNTER.append(0)
        return [np.roll(part, 1) for part in np.array_split(np.roll(np.arange(len(labels)), len(COUNTER)), n_clients)]


class WritesLabels(IID):
    """Sorts the caller's labels."""

    def split(self, labels, n_clients, rng):
        labels.sort()
        return super().split(labels, n_clients, rng)


class InOrder(Partition):
    """Deterministic by design, and leaves small clients to `checked_split`."""

    def split(self, labels, n_clients, rng):
        return np.array_split(np.arange(len(labels)), n_clients)


@dataclass(frozen=True)
class HiddenBeta(IID):
    """Has a beta and does not say so."""

    beta: float = 1.0


class DeafToBeta(Dirichlet):
    """Beta changes nothing."""

    def split(self, labels, n_clients, rng):
        return IID().split(labels, n_clients, rng)


class NegativeNoise(IID):
    """The last client's noise level is below 0."""

    def noise_levels(self, n_clients):
        return [0.1] * (n_clients - 1) + [-0.5]


class BetaIsMissing(IID):
    """Says that it has a beta, and has none."""

    uses_beta = True
