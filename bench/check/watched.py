"""Strategies around the strategy that is tried: each passes every hook on to it, and checks something on the way."""

import importlib.util
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from bench.check.differences import copied, difference, storages, tensors_in
from bench.check.law import Broken, NotClaimed, no_difference
from bench.check.random_state import drawn_from, states
from bench.check.toy import BATCH
from strategies.base import State, Strategy, Tensors, Upload


def _hook(name: str) -> Any:
    """A method that goes through `Watched.call`."""

    def through(self: "Watched", *arguments: Any) -> Any:
        return self.call(name, *arguments)

    return through


@dataclass(frozen=True)
class Watched(Strategy):
    """The strategy `inner`, whose hooks are all called through `call`."""

    inner: Strategy

    def __post_init__(self) -> None:
        for name in ("centralized", "partial_work"):  # what the loop asks for besides hooks
            object.__setattr__(self, name, getattr(self.inner, name))

    def call(self, hook: str, *arguments: Any) -> Any:
        """Call the hook of that name."""
        return getattr(self.inner, hook)(*arguments)

    def arrived(self, upload: Upload) -> None:
        """An upload that the strategy asks for while it aggregates; nothing is done by default."""

    @property
    def personal(self) -> bool:
        return self.inner.personal

    download, start, upload, model = _hook("download"), _hook("start"), _hook("upload"), _hook("model")
    penalty, correct_grads, report = _hook("penalty"), _hook("correct_grads"), _hook("report")

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        def noted() -> Iterator[Upload]:
            for upload in uploads:
                self.arrived(upload)
                yield upload

        self.call("aggregate", server, noted())


@dataclass(frozen=True)
class Mean(Watched):
    """Adds up what the clients trained, in float64, by the numbers of images, of batches and of clients.

    Attributes:
        sums: of the last round, per kind of weight the sum of weights and the weighted sum of each tensor.
        sizes: numbers of images of the clients that arrived in it.  trained: the model trained last.
    """

    sums: dict[str, tuple[int, dict[str, Tensor]]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    trained: list[Tensors] = field(default_factory=list)

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        self.trained[:] = [{name: t.detach().double() for name, t in params.items()}]
        return super().upload(params, down, local)

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        self.sums.clear()
        self.sizes.clear()
        super().aggregate(server, uploads)

    def arrived(self, upload: Upload) -> None:
        images = upload.n_samples
        self.sizes.append(images)
        for kind, weight in (("images", images), ("batches", -(-images // BATCH)), ("clients", 1)):
            total, sums = self.sums.get(kind, (0, {}))
            added = {name: sums.get(name, 0) + weight * tensor for name, tensor in self.trained[0].items()}
            self.sums[kind] = (total + weight, added)

    def mean(self, kind: str, like: Tensors) -> Tensors:
        """The mean by "images", "batches" or "clients", of the types of `like`."""
        total, sums = self.sums[kind]
        return {name: (tensor / total).to(like[name].dtype) for name, tensor in sums.items()}


@dataclass(frozen=True)
class Guarded(Watched):
    """Finds writes to another party's tensors, and states that share memory with tensors which will change.

    Attributes:
        live: the memory of the resident model's parameters; to be filled in before training.
        downs: of each download its name, tensors, and a copy of them.
        uploads: of the last round, so that their memory is not given to other tensors meanwhile.
    """

    live: dict[int, str] = field(default_factory=dict)
    downs: list[tuple[str, Tensors, Tensors]] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)
    visit: dict[str, Any] = field(default_factory=dict)

    def arrived(self, upload: Upload) -> None:
        self.uploads.append(upload)

    def download(self, server: State, client: int) -> Tensors:
        down = super().download(server, client)
        who = f"round {server['round'] + 1}, client {client}"
        self.downs.append((f"{who}'s download", down, copied(down)))
        self.visit.update(who=who, server=server, before=copied(tensors_in(server)))
        return down

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        up = super().upload(params, down, local)
        who = self.visit["who"]
        self._check_downs(f"after {who}'s training")
        written = difference(tensors_in(self.visit["server"]), self.visit["before"])
        no_difference(written, f"{who} changed the server's state without sending anything")
        self._check_apart(f"{who}'s memory `local`", local, self.live, "the live parameters")
        return up

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        self.uploads.clear()
        super().aggregate(server, uploads)
        when = f"round {server['round'] + 1}"
        self._check_downs(f"after {when}'s aggregation")
        self._check_apart(f"{when}: `server`", server, self.live, "the live parameters")
        for upload in self.uploads:
            lent = storages(tensors_in(upload.tensors))
            self._check_apart(f"{when}: `server`", server, lent, f"client {upload.client}'s upload")

    def _check_downs(self, when: str) -> None:
        for whose, down, before in self.downs:
            no_difference(difference(tensors_in(down), before), f"{when}, {whose} was written to")

    def _check_apart(self, whose: str, state: State, others: dict[int, str], what: str) -> None:
        for name, tensor in tensors_in(state).items():
            address = tensor.untyped_storage().data_ptr()
            if address in others:
                raise Broken(f"{whose} shares memory with {what}: {name!r} with {others[address]!r}")


@dataclass(frozen=True)
class Probed(Watched):
    """At the first step of every visit, looks at what is added to the gradients along a line through the model."""

    visit: dict[str, Any] = field(default_factory=dict)

    def download(self, server: State, client: int) -> Tensors:
        self.visit.update(who=f"round {server['round'] + 1}, client {client}", fresh=True)
        return super().download(server, client)

    def correct_grads(self, params: Tensors, down: Tensors, local: State) -> None:
        if self.visit.pop("fresh", False):
            self._probe(params, down, local)
        super().correct_grads(params, down, local)

    def _probe(self, params: Tensors, down: Tensors, local: State) -> None:
        stream = torch.Generator().manual_seed(0)
        line = {name: 0.1 * torch.randn(p.shape, generator=stream) for name, p in params.items() if p.requires_grad}
        pulls = [self._pull(params, line, k, down, copied(local)) for k in range(3)]
        largest = max(float(p.abs().max()) for p in pulls[2].values())
        for name in line:
            at = [pull[name].flatten() for pull in pulls]
            second = at[0] - 2 * at[1] + at[2]
            worst = int(second.abs().nan_to_num(nan=torch.inf).argmax())
            allowed = 1e-3 * max(float(p.abs().max()) for p in at) + 1e-6 * largest
            values = ", ".join(f"{float(p[worst]):.4g}" for p in at)
            what = f"{self.visit['who']}: what it adds to the gradient of {name!r} at w, w + d, w + 2d"
            if not all(p.isfinite().all() for p in at):
                raise Broken(f"{what}: {values}")
            if float(second[worst].abs()) > allowed:
                raise Broken(f"{what} is {values}: its second difference is {float(second[worst]):.4g}, not 0")

    def _pull(self, params: Tensors, line: Tensors, k: int, down: Tensors, local: State) -> Tensors:
        """What the strategy makes of gradients of 0 at the model, moved `k` times along the line."""
        moved = {name: p.detach() + k * line[name] if name in line else p.detach() for name, p in params.items()}
        for name in line:
            moved[name].requires_grad_().grad = torch.zeros_like(moved[name])
        penalty = self.inner.penalty(moved, down)
        if penalty is not None and penalty.requires_grad:
            penalty.backward()
        self.inner.correct_grads(moved, down, local)
        return {name: grad for name in line if (grad := moved[name].grad) is not None}


@dataclass(frozen=True)
class Sealed(Watched):
    """Finds hooks that draw from a global generator."""

    def call(self, hook: str, *arguments: Any) -> Any:
        before = states()
        result = super().call(hook, *arguments)
        drawn = drawn_from(before)
        if drawn:
            raise Broken(f"`{hook}` draws from the global generator of {' and '.join(drawn)}")
        return result


@dataclass(frozen=True)
class Posted(Watched):
    """Server and clients as strangers to one another: what is sent goes through bytes, and nothing else is shared.

    The server and each client have a `stranger` of their own.

    Attributes:
        travelled: bytes "down" and "up".
    """

    travelled: dict[str, int] = field(default_factory=lambda: {"down": 0, "up": 0})
    parties: dict[int, Strategy] = field(default_factory=dict)
    resident: list[int] = field(default_factory=lambda: [-1])

    def call(self, hook: str, *arguments: Any) -> Any:
        if hook == "download":
            self.resident[0] = arguments[1]
        return getattr(self._party(hook), hook)(*arguments)

    def _party(self, hook: str) -> Strategy:
        number = -1 if hook in ("download", "aggregate", "model", "report") else self.resident[0]
        if number not in self.parties:
            self.parties[number] = stranger(self.inner)
        return self.parties[number]

    def download(self, server: State, client: int) -> Tensors:
        return self._post("down", super().download(server, client))

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        return self._post("up", super().upload(params, down, local))

    def _post(self, way: str, payload: Tensors) -> Tensors:
        for name, value in payload.items():
            if not (isinstance(name, str) and isinstance(value, Tensor)):
                raise Broken(f"what travels {way} holds {name!r}: {type(value).__name__}; only tensors by name travel")
        letter = to_safetensors({name: tensor.detach().clone().contiguous() for name, tensor in payload.items()})
        self.travelled[way] += len(letter) - 8 - int.from_bytes(letter[:8], "little")
        return from_safetensors(letter)


def stranger(strategy: Strategy) -> Strategy:
    """The strategy as another process has it: of a class from its module executed anew.

    So neither the instance nor the class nor the module can remember what another one did. What other modules
    remember is shared.

    Raises:
        NotClaimed: if the class is not to be found in its module.
    """
    cls = type(strategy)
    spec = importlib.util.find_spec(cls.__module__)
    if spec is None or spec.loader is None or "<locals>" in cls.__qualname__:
        raise NotClaimed(f"{cls.__qualname__} cannot be loaded a second time: it is in no module of its own")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    again = operator.attrgetter(cls.__qualname__)(module)
    return again(**{f.name: getattr(strategy, f.name) for f in fields(strategy) if f.init})
