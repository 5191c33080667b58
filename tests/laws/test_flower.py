"""Flower's strategies in this project's loop: against Flower's own servers, which are fed the same updates."""

import collections
import logging
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from bench.check.differences import state_difference
from bench.config.grid_file import parse_grid
from bench.federation.client_states import ClientStates
from bench.store.states import load_state, save_state
from strategies.base import Upload
from strategies.fedavg import FedAvg
from strategies.flower import Flower
from strategies.flower_state import places, restore, written
from tests.laws.conftest import finish, same, small_net
from tests.laws.quadratic import Quadratic, make_run, train

pytest.importorskip("flwr")

import flwr.server
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import strategy as classic
from flwr.serverapp import Grid
from flwr.serverapp import strategy as messages
from flwr.supercore.task_identity import TaskIdentity

CLASSIC, MESSAGES = "flwr.server.strategy", "flwr.serverapp.strategy"
STRATEGIES = [
    ("FedAvg", {}),
    ("FedAvgM", {"server_momentum": 0.7, "server_learning_rate": 0.5}),
    ("FedAdam", {"eta": 0.03, "beta_1": 0.8, "beta_2": 0.9, "tau": 0.01}),
    ("FedYogi", {"eta": 0.03, "beta_1": 0.8, "beta_2": 0.9, "tau": 0.01}),
    ("FedAdagrad", {"eta": 0.03, "tau": 0.01}),
    ("FedMedian", {}),
    ("FedTrimmedAvg", {"beta": 0.3}),
    ("Krum", {}),
]


# ------------------------------------------------------------------------------------------ Flower's own servers


class Recorded(Flower):
    """Keeps what arrives in each round."""

    def aggregate(self, server, uploads):
        kept = [Upload(u.client, u.n_samples, {n: t.detach().clone() for n, t in u.tensors.items()}) for u in uploads]
        ROUNDS.append(kept)
        super().aggregate(server, iter(kept))


ROUNDS: list = []


class Network(Grid):
    """Flower's network, in which clients answer what was recorded."""

    def __init__(self, rounds):
        self.rounds = iter(rounds)
        self.sent = []
        self.nodes = [upload.client for upload in rounds[0]]

    def get_node_ids(self):
        return self.nodes

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        if not messages:  # the evaluation by clients, which is switched off
            return []
        self.sent.append(next(iter(messages[0].content.array_records.values())).to_numpy_ndarrays())
        uploads = {upload.client: upload for upload in next(self.rounds)}
        return [answer(message, uploads[message.metadata.dst_node_id]) for message in messages]

    set_run = run = create_message = push_messages = pull_messages = None


def answer(message, upload):
    arrays = ArrayRecord(dict(upload.tensors))
    metrics = MetricRecord({"num-examples": upload.n_samples})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def by_flowers_server(name, options, initial, rounds):
    """The model after Flower's loop of the message API."""
    strategy = getattr(messages, name)(fraction_evaluate=0.0, **options)
    result = strategy.start(Network(rounds), ArrayRecord(initial), num_rounds=len(rounds))
    return {name: array.numpy() for name, array in result.arrays.items()}


class Client(flwr.server.client_proxy.ClientProxy):
    """A client of the classic API that answers what was recorded."""

    def __init__(self, uploads):
        super().__init__(str(uploads[0].client))
        self.uploads = iter(uploads)

    def fit(self, ins, timeout, group_id):
        upload = next(self.uploads)
        packed = ndarrays_to_parameters([tensor.numpy() for tensor in upload.tensors.values()])
        return FitRes(Status(Code.OK, ""), packed, upload.n_samples, {})

    get_properties = get_parameters = evaluate = reconnect = None


def by_flowers_classic_server(name, options, initial, rounds):
    """The model after Flower's loop of the classic API."""
    start = ndarrays_to_parameters([tensor.numpy() for tensor in initial.values()])
    strategy = getattr(classic, name)(fraction_evaluate=0.0, initial_parameters=start, **options)
    manager = flwr.server.SimpleClientManager()
    for uploads in zip(*rounds, strict=True):
        manager.register(Client(uploads))
    server = flwr.server.Server(client_manager=manager, strategy=strategy)
    server.fit(num_rounds=len(rounds), timeout=None)
    return dict(zip(initial, parameters_to_ndarrays(server.parameters), strict=True))


SERVERS = {MESSAGES: by_flowers_server, CLASSIC: by_flowers_classic_server}


@pytest.fixture
def task_identity(monkeypatch):
    """As in a process that Flower has started."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def centres():
    return torch.randn(12, 3, generator=torch.Generator().manual_seed(2)) + 1.0


@pytest.mark.parametrize("home", SERVERS)
@pytest.mark.parametrize(("name", "options"), STRATEGIES)
def test_rounds_in_the_loop_are_those_of_flowers_own_server(tmp_path, task_identity, home, name, options):
    """Five clients of 1 to 4 images, five rounds."""
    run = make_run(tmp_path, Recorded(f"{home}:{name}", options), Quadratic(centres()), (2, 1, 4, 2, 3), rounds=5)
    initial = {name: tensor.clone() for name, tensor in run.server["params"].items()}
    ROUNDS.clear()
    found = train(run)
    expected = SERVERS[home](name, options, initial, ROUNDS)["w"]
    assert len(ROUNDS) == 5
    torch.testing.assert_close(found, torch.from_numpy(expected).double(), atol=1e-6, rtol=1e-5)
    assert found.norm() > 0.05


def test_flowers_server_sends_the_models_that_the_loop_sends(tmp_path, task_identity):
    """So that what was recorded is what its clients would have answered."""
    run = make_run(tmp_path, Recorded("FedAdam", {"eta": 0.03}), Quadratic(centres()), (4, 8), rounds=4)
    ROUNDS.clear()
    models = [run.server["params"]["w"].clone()]
    models += [run.server["params"]["w"].clone() for _ in run.rounds()]
    network = Network(ROUNDS)
    messages.FedAdam(fraction_evaluate=0.0, eta=0.03).start(network, ArrayRecord({"w": models[0]}), num_rounds=4)
    for (sent,), model in zip(network.sent, models, strict=False):
        torch.testing.assert_close(torch.from_numpy(sent).float(), model, atol=1e-6, rtol=1e-5)


# ------------------------------------------------------------------------------------------ beside this project's own


@pytest.mark.parametrize("home", SERVERS)
def test_flowers_fedavg_is_fedavg_on_the_unet(make_training, home):
    """By SGD: Adam makes much of a rounding error."""
    settings = {"optimizer": "sgd", "lr": 0.02, "rounds": 2}
    found, expected = (finish(make_training(s, **settings)) for s in (Flower(f"{home}:FedAvg"), FedAvg()))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-6)
    assert not same(expected, dict(small_net().named_parameters()))


@pytest.mark.parametrize("home", SERVERS)
@pytest.mark.parametrize("name", ["FedAvg", "FedMedian", "FedAvgM"])
def test_one_client_is_enough(tmp_path, home, name):
    """Whose model the new one is: (w - 10)^2 / 2 from 0 at a rate of 0.1 gives 1, then 1.9."""
    run = make_run(tmp_path, Flower(f"{home}:{name}"), Quadratic(torch.full((3, 1), 10.0)), (3,), rounds=2)
    assert train(run).item() == pytest.approx(1.9, rel=1e-6)


@pytest.mark.parametrize("home", SERVERS)
def test_rounds_from_which_nothing_arrives_do_not_count(tmp_path, home):
    settings = {"rounds": 8, "participation": 0.3, "sampling": "poisson"}
    run = make_run(
        tmp_path, Recorded(f"{home}:FedAvgM", {"server_momentum": 0.5}), Quadratic(centres()), (6, 6), **settings
    )
    ROUNDS.clear()
    arrivals = [record.participants for record in run.rounds()]
    assert 0 in arrivals
    assert arrivals[0] == 0 or len(ROUNDS) < 8
    assert run.server["flower"]["round"] == len(ROUNDS) == 8 - arrivals.count(0)


# ------------------------------------------------------------------------------------------ tensors and state


def server_of(params, seed=0):
    return {"params": params, "round": 0, "seed": seed}


def uploads_of(*models):
    return [Upload(i, i + 1, model) for i, model in enumerate(models)]


@pytest.mark.parametrize("home", SERVERS)
def test_names_types_and_shapes_are_the_models_own(home):
    """Whatever order uploads have their tensors in; of client 0 one image and of client 1 two."""
    params = {
        "z": torch.zeros(2, 1),
        "a": torch.zeros((), dtype=torch.float64),
        "count": torch.tensor(0),
        "m": torch.zeros(3),
    }
    first = {
        "m": torch.full((3,), 3.0),
        "count": torch.tensor(5),
        "a": torch.tensor(6.0).double(),
        "z": torch.ones(2, 1),
    }
    second = {
        "a": torch.tensor(0.0).double(),
        "z": torch.full((2, 1), 4.0),
        "m": torch.zeros(3),
        "count": torch.tensor(9),
    }
    server = server_of(params)
    for _ in range(2):
        Flower(f"{home}:FedAvg").aggregate(server, iter(uploads_of(first, second)))
        new = server["params"]
        assert list(new) == list(params)
        assert [(t.dtype, t.shape) for t in new.values()] == [(t.dtype, t.shape) for t in params.values()]
        assert new["z"].flatten().tolist() == pytest.approx([3.0, 3.0])
        assert new["a"].item() == pytest.approx(2.0)
        assert new["m"].tolist() == pytest.approx([1.0] * 3)
        assert new["count"].item() == 5


@pytest.mark.parametrize("home", SERVERS)
def test_a_model_that_flower_makes_in_float64_comes_back_in_float32(home):
    """FedAdam's bias correction is a float64, which NumPy spreads."""
    server = server_of({"w": torch.zeros(2)})
    Flower(f"{home}:FedAdam").aggregate(server, iter(uploads_of({"w": torch.ones(2)})))
    assert server["params"]["w"].dtype == torch.float32


@pytest.mark.parametrize("home", SERVERS)
def test_uploads_may_be_the_live_parameters(home):
    def trained():
        live = {"w": torch.zeros(1, requires_grad=True)}
        for number, value in enumerate((3.0, 9.0)):
            with torch.no_grad():
                live["w"].fill_(value)
            yield Upload(number, 1, live)
        with torch.no_grad():
            live["w"].fill_(100.0)

    server = server_of({"w": torch.zeros(1)})
    Flower(f"{home}:FedAvg").aggregate(server, trained())
    assert server["params"]["w"].item() == pytest.approx(6.0)
    assert not server["params"]["w"].requires_grad


@pytest.mark.parametrize("home", SERVERS)
@pytest.mark.parametrize(("name", "options"), STRATEGIES)
def test_what_a_strategy_remembers_survives_the_disk(tmp_path, home, name, options):
    """After two of four rounds the state goes to a file and is read into another object's run."""
    models = [
        [{"w": torch.randn(4, generator=torch.Generator().manual_seed(10 * r + i))} for i in range(4)] for r in range(4)
    ]

    def after(server, rounds):
        strategy = Flower(f"{home}:{name}", options)
        for r in rounds:
            strategy.aggregate(server, iter(uploads_of(*models[r])))
        return server

    through = after(server_of({"w": torch.zeros(4)}), range(4))["params"]
    half = after(server_of({"w": torch.zeros(4)}), range(2))
    states = ClientStates(tmp_path, torch.device("cpu"))
    states.put(0, {"strategy": half, "optimizer": {}, "task": {}})
    states.flush()
    read = states.take(0)["strategy"]
    assert same(after(read, range(2, 4))["params"], through)


def test_momentum_is_remembered_between_rounds():
    """Both rounds' uploads are 1 ahead of the model. FedAvgM: v = 1 and w = 1, then v = 0.5 + 1 and w = 2.5."""
    strategy, server = Flower("FedAvgM", {"server_momentum": 0.5}), server_of({"w": torch.zeros(1)})
    found = []
    for _ in range(2):
        strategy.aggregate(server, iter(uploads_of({"w": server["params"]["w"] + 1})))
        found.append(server["params"]["w"].item())
    assert found == pytest.approx([1.0, 2.5])


# ------------------------------------------------------------------------------------------ what is kept between rounds


class Note:
    """A helper with attributes of its own."""

    def __init__(self):
        self.seen = []


class Collector(messages.FedAvg):
    """Remembers one of every kind of value, and tells what it has by the model it makes."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight, self.note, self.stream = weight, Note(), np.random.default_rng(3)
        self.python, self.torch = random.Random(4), torch.Generator().manual_seed(5)
        self.legacy = np.random.RandomState(6)
        self.by_method, self.counts, self.gone = self.drawn, {1: "one", (2, None): {3}}, "here at first"
        self.sums, self.record, self.data, self.size = np.zeros((2, 3), order="F"), None, b"", np.float64(0.5)
        self.again = self.sums

    def drawn(self):
        numbers = [self.stream.normal(), self.python.random(), self.legacy.normal()]
        return sum(numbers) + torch.rand(1, generator=self.torch).item()

    def aggregate_train(self, server_round, replies):
        new, metrics = super().aggregate_train(server_round, replies)
        number = self.by_method()
        self.sums += number
        self.note.seen.append((server_round, number, float("inf")))
        self.counts[1] += "!"
        self.record, self.data, self.size = new, self.data + b"\0", self.size * np.float32(1.1)
        vars(self).pop("gone", None)
        self.late = frozenset({server_round})
        told = self.weight * (number + self.again[1, 2] + len(self.note.seen) + self.size + len(self.counts[1]))
        moved = {name: flwr.app.Array(array.numpy() + np.float32(told)) for name, array in new.items()}
        return ArrayRecord(moved), metrics


def plain_leaves(tree):
    for key, value in tree.items():
        assert isinstance(key, str)
        if isinstance(value, dict):
            yield from plain_leaves(value)
        else:
            yield value


def test_what_is_kept_is_plain_and_every_kind_of_value_comes_back(tmp_path):
    """Stopping after each round and going on from the disk changes no bit."""
    strategy = Flower(f"{__name__}:Collector")
    through, stopped = (server_of({"w": torch.zeros(2)}, 5) for _ in range(2))
    for number in range(4):
        uploads = uploads_of({"w": torch.full((2,), 1.0 + number)}, {"w": torch.arange(2.0)})
        strategy.aggregate(through, iter(uploads))
        Flower(f"{__name__}:Collector").aggregate(stopped, iter(uploads))
        assert {type(v) for v in plain_leaves(stopped["flower"])} <= {torch.Tensor, bool, int, float, str, type(None)}
        save_state(tmp_path / "server.safetensors", stopped)
        stopped = load_state(tmp_path / "server.safetensors", torch.device("cpu"))
        assert same(stopped["params"], through["params"])
    assert state_difference(stopped, through) is None


def restored(found, changed):
    """A new object with what `changed` remembers."""
    made = places(found)
    restore(found, written(changed, places(changed)), made)
    return found


def test_an_object_comes_back_with_its_values_types_and_their_identities():
    changed = Collector(weight=2.0)
    changed.drawn()
    changed.sums += np.arange(6.0).reshape(2, 3)
    changed.note.seen = [(1, [float("nan"), -0.0]), np.float32(3.0), changed.record, bytearray(b"ab"), np.zeros(0)]
    changed.note.owner, changed.by_method = changed, changed.drawn
    changed.record = ArrayRecord({"x": flwr.app.Array(np.arange(3))})
    del changed.gone
    found = restored(Collector(weight=1.0), changed)
    assert found.sums.tolist() == changed.sums.tolist()
    assert found.sums.flags.f_contiguous
    assert found.again is found.sums
    assert found.note.owner is found
    assert found.by_method.__self__ is found
    assert repr(found.note.seen) == repr(changed.note.seen)
    assert [type(value) for value in found.note.seen] == [type(value) for value in changed.note.seen]
    assert found.counts == {1: "one", (2, None): {3}}
    assert found.record["x"].numpy().tolist() == [0, 1, 2]
    assert found.weight == 2.0
    assert not hasattr(found, "gone")
    assert found.drawn() == changed.drawn()


@pytest.mark.parametrize("cls", [messages.FedAvg, classic.FedAvg])
def test_what_another_class_remembers_is_refused(cls):
    other = Collector()
    state = written(other, places(other))
    with pytest.raises(ValueError, match="is not the state of"):
        restore(made := cls(), state, places(made))


class Hiding(messages.FedAvg):
    """Keeps, from its first round on, what has no plain form."""

    def __init__(self, what):
        super().__init__()
        self.what, self.note, self.fn = what, Note(), told

    def aggregate_train(self, server_round, replies):
        if self.what == "fn":
            self.fn = len
        else:
            self.note.seen = [HIDDEN[self.what]()]
        return super().aggregate_train(server_round, replies)


class Slotted:
    __slots__ = ("a",)


HIDDEN = {
    "lock": threading.Lock,
    "deque": collections.deque,
    "stream": np.random.default_rng,
    "object": Note,
    "function": lambda: lambda: 1,
    "iterator": lambda: iter([1]),
    "objects": lambda: np.array([{}], dtype=object),
    "slots": Slotted,
    "counter": lambda: collections.Counter("aa"),
    "parameter": lambda: torch.nn.Parameter(torch.ones(1)),
    "grad": lambda: torch.ones(1, requires_grad=True),
}


@pytest.mark.parametrize("what", ["fn", *HIDDEN])
def test_what_cannot_be_kept_is_refused_by_the_name_of_its_attribute(what):
    name = "fn" if what == "fn" else r"note\.seen\.0"
    with pytest.raises(ValueError, match=f"TypeError: its attribute {name} cannot be kept between rounds"):
        Flower(f"{__name__}:Hiding", {"what": what})


def test_a_function_that_holds_what_changes_is_not_taken_for_unchanging():
    made = messages.FedAvg()
    counted = []
    made.train_metrics_aggr_fn = lambda records: counted.append(records)
    with pytest.raises(TypeError, match="train_metrics_aggr_fn"):
        written(made, places(made))


# ------------------------------------------------------------------------------------------ nothing global


class Noisy(messages.FedAvg):
    """Draws from a global generator, as Flower's strategies with differential privacy do."""

    def __init__(self, source):
        super().__init__()
        self.source = source

    def aggregate_train(self, server_round, replies):
        new, metrics = super().aggregate_train(server_round, replies)
        drawn = np.random.random() if self.source == "numpy" else random.random()  # noqa: NPY002
        moved = {name: array.numpy() + drawn for name, array in new.items()}
        return ArrayRecord({name: flwr.app.Array(np.asarray(value)) for name, value in moved.items()}), metrics


def noisy(source, seed, rounds=1):
    server = server_of({"w": torch.zeros(1)}, seed)
    for _ in range(rounds):
        Flower(f"{__name__}:Noisy", {"source": source}).aggregate(server, iter(uploads_of({"w": torch.zeros(1)})))
    return server["params"]["w"].item()


@pytest.mark.parametrize("source", ["numpy", "python"])
def test_what_flower_draws_belongs_to_seed_and_round_whatever_was_drawn_before(source):
    first = noisy(source, 1)
    random.random()
    np.random.random()  # noqa: NPY002
    assert noisy(source, 1) == first
    assert len({first, noisy(source, 2), noisy(source, 1, rounds=2)}) == 3


class Private(messages.DifferentialPrivacyServerSideFixedClipping):
    """One of Flower's wrappers, which hold another strategy."""

    def __init__(self, noise_multiplier=0.1, clipping_norm=1.0):
        super().__init__(messages.FedAvg(), noise_multiplier, clipping_norm, num_sampled_clients=3)


def test_wrapped_strategies_work_and_their_noise_repeats(tmp_path):
    settings = {"sizes": (4, 4, 4), "rounds": 3}
    strategies = [Flower(f"{__name__}:Private", {"noise_multiplier": z}) for z in (0.1, 0.1, 0.0)]
    runs = [make_run(tmp_path / str(i), s, Quadratic(centres()), **settings) for i, s in enumerate(strategies)]
    first, second, silent = (train(run) for run in runs)
    assert torch.equal(first, second)
    assert 0 < (first - silent).norm() < 1


def everything_global():
    identity = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
    numbers = np.random.get_state()  # noqa: NPY002
    return random.getstate(), numbers[1].tobytes(), numbers[2:], logging.getLogger("flwr").level, identity


@pytest.mark.parametrize(
    ("path", "options"),
    [
        (f"{MESSAGES}:FedAvg", {}),
        (f"{CLASSIC}:FedAvg", {}),
        (f"{__name__}:Noisy", {"source": "numpy"}),
        (f"{__name__}:Noisy", {"source": "python"}),
    ],
)
def test_global_generators_and_flowers_log_and_identity_are_as_before(path, options):
    before = everything_global()
    Flower(path, options).aggregate(server_of({"w": torch.zeros(1)}), iter(uploads_of({"w": torch.ones(1)})))
    assert everything_global() == before
    with pytest.raises(ValueError, match="does not work here"):
        Flower("FedAvg", {"nope": 1})
    assert everything_global() == before


@pytest.mark.parametrize("home", SERVERS)
def test_nothing_is_printed(home, capfd, caplog):
    with caplog.at_level(logging.INFO):
        logging.getLogger("flwr").info("it would be seen")
        Flower(f"{home}:FedAvgM").aggregate(server_of({"w": torch.zeros(1)}), iter(uploads_of({"w": torch.ones(1)})))
    assert [record.getMessage() for record in caplog.records] == ["it would be seen"]
    assert "WARNING" not in capfd.readouterr().err


OFFLINE = """
import socket, threading, urllib.request
def refuse(*args, **kwargs): raise SystemExit(f"a connection was tried: {args}")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
urllib.request.urlopen = refuse
import torch
threads = set(threading.enumerate())
from strategies.base import Upload
from strategies.flower import Flower
import flwr.supercore.telemetry
flwr.supercore.telemetry.event = flwr.supercore.telemetry.create_event = refuse
for home in ("flwr.server.strategy", "flwr.serverapp.strategy"):
    Flower(home + ":FedAdam").aggregate({"params": {"w": torch.zeros(1)}, "seed": 0}, iter([Upload(0, 1, {"w": torch.ones(1)})]))
assert set(threading.enumerate()) == threads
print("offline")
"""


def test_nothing_phones_home():
    done = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("offline\n", 0), done.stderr


# ------------------------------------------------------------------------------------------ what is refused


class Lazy(messages.FedAvg):
    def aggregate_train(self, server_round, replies):
        return None, None


class Renaming(messages.FedAvg):
    def aggregate_train(self, server_round, replies):
        new, metrics = super().aggregate_train(server_round, replies)
        return ArrayRecord({f"module.{name}": array for name, array in new.items()}), metrics


class Reshaping(classic.FedAvg):
    def aggregate_fit(self, server_round, results, failures):
        return ndarrays_to_parameters([np.zeros(3)]), {}


class Ahead(messages.FedAvg):
    def configure_train(self, server_round, arrays, config, grid):
        moved = {name: flwr.app.Array(array.numpy() + 1) for name, array in arrays.items()}
        return super().configure_train(server_round, ArrayRecord(moved), config, grid)


class Schedules(messages.FedAvg):
    def configure_train(self, server_round, arrays, config, grid):
        return super().configure_train(server_round, arrays, ConfigRecord({"lr": 0.1}), grid)


def told(server_round):
    return {"epochs": 2}


class Talks(classic.FedAvg):
    def __init__(self, **settings):
        super().__init__(on_fit_config_fn=told, **settings)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("FedAvgg", {}, r"no Flower strategy 'FedAvgg' \(did you mean 'FedAvg'"),
        ("no.such.module:FedAvg", {}, "no module 'no' on the import path"),
        (f"{MESSAGES}:FedNova", {}, "has no 'FedNova'"),
        (f"{MESSAGES}:Strategy", {}, "with all its methods"),
        ("torch.nn:Linear", {}, "'torch.nn:Linear' is no Flower strategy: it must derive from"),
        ("FedAdam", {"etta": 0.1}, r"FedAdam\(etta=0.1\) does not work here: TypeError: .*etta"),
        ("FedTrimmedAvg", {"beta": 0.7}, r"FedTrimmedAvg\(beta=0.7\) does not work here: ValueError: `beta` must be"),
        ("FedAvg", {"fraction_train": 0.5}, "trains 12 of 24 clients; who takes part is the grid's participation"),
        (f"{CLASSIC}:FedAvg", {"fraction_fit": 0.5}, "trains 12 of 24 clients"),
        ("FedProx", {"proximal_mu": 0.1}, "tells clients proximal-mu, but local training is not Flower's here"),
        (f"{CLASSIC}:FedProx", {"proximal_mu": 0.1}, "tells clients proximal_mu"),
        (f"{__name__}:Schedules", {}, "tells clients lr"),
        (f"{__name__}:Talks", {}, "tells clients epochs"),
        (f"{__name__}:Ahead", {}, "sends clients another model than the global one"),
        (f"{__name__}:Lazy", {}, "makes no model of 24 updates"),
        (f"{__name__}:Renaming", {}, r"makes a model of other tensors: \['module.w', 'w'\]"),
        (f"{__name__}:Reshaping", {}, r"makes a tensor of shape \(3,\) of one of shape \(2,\)"),
        ("QFedAvg", {"client_learning_rate": 0.1}, "training loss"),
        ("FedXgbBagging", {}, "does not work here"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(path, options, message):
    with pytest.raises(ValueError, match=message):
        Flower(path, options)


def test_a_strategy_that_waits_for_more_clients_is_told_instead(monkeypatch):
    """A wrapped FedAvg wants two of them."""
    monkeypatch.setattr("flwr.serverapp.strategy.strategy_utils.sleep", lambda seconds: None)
    with pytest.raises(ValueError, match="waits for more than 1 clients"):
        Flower(f"{__name__}:Private").aggregate(
            server_of({"w": torch.zeros(1)}), iter(uploads_of({"w": torch.ones(1)}))
        )


def test_without_flower_it_says_what_to_install(monkeypatch):
    for name in ("flwr", "flwr.server.strategy", "flwr.serverapp.strategy"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"flwr is not installed: pip install -c constraints.txt -e '\.\[flower\]'"):
        Flower()


# ------------------------------------------------------------------------------------------ grids


def test_a_grid_may_name_any_flower_strategy_with_its_options():
    raw = {
        "strategy": 'strategies.flower:Flower(strategy="FedYogi", options={eta=0.01, beta_1=0.9})',
        "partition": "dirichlet",
        "axes": {"n_clients": [2], "beta": [1.0], "seed": [0]},
    }
    (cell,) = parse_grid(raw, "here", "name").cells
    assert cell.make_strategy() == Flower("FedYogi", {"eta": 0.01, "beta_1": 0.9})
    assert parse_grid(raw | {"strategy": cell.strategy.label}, "here", "name").cells == (cell,)


def test_equal_ones_have_equal_hashes():
    assert len({Flower("FedAdam", {"eta": 0.1}), Flower("FedAdam", {"eta": 0.1}), Flower("FedAdam", {"eta": 0.2})}) == 2
