"""Any strategy of the Flower framework as the server's part of a round.

Beutel et al.: Flower: A Friendly Federated Learning Framework, 2020 (arXiv 2007.14390). Both of Flower's interfaces
work: the message API (`flwr.serverapp.strategy`, `aggregate_train`) and the classic one (`flwr.server.strategy`,
`aggregate_fit`). A round here is one of Flower's own server: configure, train, aggregate; only that clients are trained
first, by this project's loop, which changes nothing since the global model stays as it was meanwhile.

What is Flower's and what is not:

    Aggregation is Flower's, with numbers of images as numbers of examples.
    Who takes part is the grid's `training.participation`: a strategy that trains fewer of those who arrived is refused.
        Minimum numbers of clients, for which Flower's server would wait, have no effect.
    Local training is the same for all strategies: one that sends clients a configuration or a model of its own is
        refused. FedProx with its `proximal-mu`, say, would be FedAvg without telling so.
    Rounds from which nothing arrives do not count: Flower's numbers, from 1, are those of the rounds that did.

Flower's classes keep what they remember in themselves. Between rounds their attributes lie in `server["flower"]`, as
plain numbers and texts; every round makes the object anew from its options and gives them back. So no file of states
can bring code with it.
"""

import inspect
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from bench.plugins import Later, Registry, Tensor, torch
from bench.seeds import derive
from strategies.base import State, Strategy, Tensors, Upload

flower_state = Later("strategies.flower_state")  # it needs torch
_HOMES = ("flwr.server.strategy", "flwr.serverapp.strategy")  # the later one has the word where both have a name
_MISSING = "the package flwr is not installed: pip install -c constraints.txt -e '.[flower]'"
_WAITS = ("min_train_nodes", "min_available_nodes")  # a strategy's own counts, until which it waits


@dataclass(frozen=True)
class Flower(Strategy):
    """A Flower strategy's aggregation. It claims nothing of what depends on which one it is.

    Every upload is in memory at once, as Flower wants it. Floating tensors go through Flower and come back in their own
    types; integer ones are the first upload's, as in FedAvg. Whatever local optimizer clients have: Flower sees models.

    Attributes:
        strategy: "package.module:Class", or the name of a class of `flwr.serverapp.strategy` or else of
            `flwr.server.strategy`. Sensible grid: "FedAvg", "FedAvgM", "FedAdam", "FedYogi", "FedMedian", "Krum".
        options: its keyword arguments, e.g. {eta = 0.01}. `initial_parameters` are given where they are asked for.

    Raises:
        ValueError: if flwr is not installed, there is no such class, or it fails in two rounds of 24 clients.
    """

    title: ClassVar[str] = "Flower"
    convex: ClassVar[bool] = False
    keeps_equal: ClassVar[bool] = False
    any_order: ClassVar[bool] = False
    streams: ClassVar[bool] = False
    alone_is_centralized: ClassVar[bool] = False

    strategy: str = "flwr.serverapp.strategy:FedAvg"
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Try it on a model of two numbers, so that what cannot work is known before anything is trained."""
        _load(self.strategy)
        server: State = {"params": {"w": torch.zeros(2)}, "seed": 0}
        uploads = [Upload(i, i + 1, {"w": torch.tensor([1.0, float(i)])}) for i in range(24)]
        try:
            for _ in range(2):
                self.aggregate(server, iter(uploads))
        except Exception as error:  # whatever the code of others raises: it is told, with its cause
            told = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
            raise ValueError(f"{self.strategy}({told}) does not work here: {type(error).__name__}: {error}") from error

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        """One round of the Flower strategy.

        Raises:
            ValueError: if it gives no model, or wants of clients what they do not do.
            TypeError: if it remembers what cannot be kept; the message names the attribute.
        """
        params, kept = server["params"], server.get("flower", {"round": 0})
        names = [name for name, tensor in params.items() if tensor.is_floating_point()]
        integers: Tensors = {}
        results = []
        for upload in uploads:
            integers = integers or {n: upload.tensors[n].detach().clone() for n in params.keys() - set(names)}
            results.append(Upload(upload.client, upload.n_samples, _on_cpu(upload.tensors, names)))
        number, current = kept["round"] + 1, _on_cpu(params, names)
        with _as_in_flower(derive(server["seed"], "flower", number)):
            strategy = self._made(current) if number == 1 else self._remade(current, server["seed"])
            made = flower_state.places(strategy)
            if number > 1:
                flower_state.restore(strategy, kept["object"], made)
            speak = _by_messages if hasattr(strategy, "aggregate_train") else _by_fit
            new = speak(strategy, number, current, results)
            server["flower"] = {"round": number, "object": flower_state.written(strategy, made)}
        if new.keys() != current.keys():
            raise ValueError(f"it makes a model of other tensors: {sorted(new.keys() ^ current.keys())[:5]}")
        server["params"] = {n: _like(t, new[n]) if n in new else integers[n] for n, t in params.items()}

    def _made(self, initial: Tensors) -> Any:
        """A new object of the Flower class."""
        cls = _load(self.strategy)
        given = dict(self.options)
        if "initial_parameters" in inspect.signature(cls).parameters:
            given["initial_parameters"] = _parameters(initial)
        made: Any = cls(**given)
        vars(made).update({name: 1 for name in _WAITS if name in vars(made)})
        return made

    def _remade(self, current: Tensors, seed: int) -> Any:
        """A new object in a later round: as in the first one where its constructor draws, and the round's draws as if
        there had been no constructor.
        """
        with _as_in_flower(derive(seed, "flower", 1)):
            return self._made(current)


def _by_messages(strategy: Any, number: int, current: Tensors, results: Sequence[Upload]) -> Tensors:
    """A round through the message API: the new model."""
    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

    arrays = ArrayRecord(current)
    sent = list(strategy.configure_train(number, arrays, ConfigRecord(), _Nodes([r.client for r in results])))
    asked = [(dict(next(iter(m.content.config_records.values()), {})), _bytes(m.content)) for m in sent]
    _check_asked(asked, [array.data for array in arrays.values()], len(results))
    instructions = {message.metadata.dst_node_id: message for message in sent}
    weight = getattr(strategy, "weighted_by_key", "num-examples")
    replies = [
        Message(
            RecordDict({"arrays": ArrayRecord(dict(r.tensors)), "metrics": MetricRecord({weight: r.n_samples})}),
            reply_to=instructions[r.client],
        )
        for r in results
    ]
    new, _ = strategy.aggregate_train(number, replies)
    if new is None:
        raise ValueError(f"it makes no model of {len(results)} updates")
    return {name: torch.from_numpy(array.numpy()) for name, array in new.items()}


def _by_fit(strategy: Any, number: int, current: Tensors, results: Sequence[Upload]) -> Tensors:
    """A round through the classic API: the new model."""
    from flwr.common import Code, FitRes, Status, parameters_to_ndarrays

    clients, parameters = _Clients([r.client for r in results]), _parameters(current)
    if number == 1:
        strategy.initialize_parameters(clients)
    asked = [(ins.config, ins.parameters.tensors) for _, ins in strategy.configure_fit(number, parameters, clients)]
    _check_asked(asked, parameters.tensors, len(results))
    replies = [
        (proxy, FitRes(Status(Code.OK, ""), _parameters(r.tensors), r.n_samples, {}))
        for proxy, r in zip(clients.proxies, results, strict=True)
    ]
    new, _ = strategy.aggregate_fit(number, replies, [])
    if new is None:
        raise ValueError(f"it makes no model of {len(results)} updates")
    made = parameters_to_ndarrays(new)
    return {name: torch.from_numpy(array) for name, array in zip(current, made, strict=True)}


def _check_asked(asked: Sequence[tuple[Mapping[str, Any], list[bytes]]], model: list[bytes], n_clients: int) -> None:
    """Of the configuration and model for each client: that they are what clients here get.

    Raises:
        ValueError: if not; the message says what differs.
    """
    if len(asked) != n_clients:
        raise ValueError(f"it trains {len(asked)} of {n_clients} clients; who takes part is the grid's participation")
    keys = sorted({key for config, _ in asked for key in config} - {"server-round"})
    if keys:
        raise ValueError(f"it tells clients {', '.join(keys)}, but local training is not Flower's here")
    if any(sent != model for _, sent in asked):
        raise ValueError("it sends clients another model than the global one")


class _Nodes:
    """Stands for Flower's network (a `Grid`): who arrived. Nothing is sent."""

    def __init__(self, clients: list[int]) -> None:
        self._clients = clients
        self._asked = 0

    def get_node_ids(self) -> list[int]:
        self._asked += 1
        if self._asked > 3:  # Flower's classes ask twice, and every second again while they wait for more
            raise ValueError(f"it waits for more than {len(self._clients)} clients")
        return self._clients


class _Clients:
    """Stands for a classic `ClientManager`: who arrived."""

    def __init__(self, clients: list[int]) -> None:
        self.proxies = [SimpleNamespace(cid=str(c), node_id=c, properties={}) for c in clients]

    def num_available(self) -> int:
        return len(self.proxies)

    def all(self) -> dict[str, Any]:
        return {proxy.cid: proxy for proxy in self.proxies}

    def sample(self, num_clients: int, min_num_clients: int | None = None, criterion: Any = None) -> list[Any]:
        return self.proxies[:num_clients]


@contextmanager
def _as_in_flower(seed: int) -> Iterator[None]:
    """Flower finds a task, without which it makes no messages, and the global generators that some of its classes draw
    from seeded; its log tells errors only (of missing metrics it warns in every run). Then all is as it was.
    """
    from flwr.supercore.task_identity import TaskIdentity

    log = logging.getLogger("flwr")
    level, identity = log.level, (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - Flower draws from them
    try:
        log.setLevel(logging.ERROR)
        TaskIdentity._task_id = TaskIdentity._run_id = TaskIdentity._node_id = 1
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        yield
    finally:
        log.setLevel(level)
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = identity
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def _load(path: str) -> type:
    """The Flower class.

    Raises:
        ValueError: if there is none, naming what there is; or if flwr is missing.
    """
    try:
        classic, messages = (import_module(home) for home in _HOMES)
    except ModuleNotFoundError as error:
        raise ValueError(f"{_MISSING} ({error})") from error
    shipped = {name: vars(home)[name] for home in (classic, messages) for name in home.__all__}
    found = Registry("Flower strategy", "bench.flower", object, shipped).load(path)
    if not issubclass(found, (classic.Strategy, messages.Strategy)):
        raise ValueError(f"{path!r} is no Flower strategy: it must derive from {' or '.join(_HOMES)}.Strategy")
    return found


def _parameters(tensors: Mapping[str, Tensor]) -> Any:
    """Of the classic API: the tensors without their names."""
    from flwr.common import ndarrays_to_parameters

    return ndarrays_to_parameters([tensor.numpy() for tensor in tensors.values()])


def _bytes(content: Any) -> list[bytes]:
    return [array.data for record in content.array_records.values() for array in record.values()]


def _on_cpu(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensors:
    """Copies in Flower's memory: uploads may be the live parameters."""
    return {name: tensors[name].detach().to("cpu", copy=True) for name in names}


def _like(old: Tensor, new: Tensor) -> Tensor:
    if old.shape != new.shape:
        raise ValueError(f"it makes a tensor of shape {tuple(new.shape)} of one of shape {tuple(old.shape)}")
    return new.to(old)
