"""How strategies and partitions are found, and what is said where they are not."""

import pytest

import bench.plugins
import partitions
import strategies
from bench.plugins import UnknownPlugin
from partitions.dirichlet import Dirichlet
from strategies.fedavg import FedAvg
from strategies.fedprox import FedProx


class FakeEntryPoint:
    """The parts of an installed package's entry point that the registry reads."""

    def __init__(self, name: str, found: object) -> None:
        self.name, self.value, self._found = name, "plugin:Thing", found

    def load(self) -> object:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


class Mine(FedAvg):
    pass


STRATEGIES = [
    "centralized",
    "centralized-matched",
    "local-only",
    "fedavg",
    "fedprox",
    "fedavgm",
    "fedadam",
    "fedyogi",
    "fedadagrad",
    "scaffold",
    "fednova",
    "feddyn",
    "ewc",
    "fedavg-ema",
    "median",
    "trimmed-mean",
    "feddiffuse",
    "quantised",
    "top-k",
    "dp-fedavg",
    "flower",
]
PARTITIONS = ["iid", "dirichlet", "dirichlet-plain", "k-labels", "shards", "quantity", "feature-noise", "flower"]


def test_shipped_names():
    assert strategies.registry.names() == STRATEGIES
    assert partitions.registry.names() == PARTITIONS
    assert strategies.load("fedprox") is FedProx
    assert partitions.load("dirichlet") is Dirichlet


def test_dotted_paths():
    assert strategies.load("strategies.fedprox:FedProx") is FedProx
    assert partitions.load("partitions.dirichlet:Dirichlet") is Dirichlet


def test_plugins_add_names_and_take_none(monkeypatch):
    offered = [FakeEntryPoint("mine", Mine), FakeEntryPoint("fedavg", Mine)]
    monkeypatch.setattr(bench.plugins, "entry_points", lambda group: offered if group == "bench.strategies" else [])
    assert strategies.load("mine") is Mine
    assert strategies.load("fedavg") is FedAvg
    assert strategies.registry.names() == [*STRATEGIES, "mine"]
    assert partitions.registry.names() == PARTITIONS


@pytest.mark.parametrize(
    "found", [int, "text", Dirichlet, ImportError("no such module"), AttributeError("no such class")]
)
def test_plugins_that_are_none_are_told(monkeypatch, found):
    monkeypatch.setattr(bench.plugins, "entry_points", lambda group: [FakeEntryPoint("odd", found)])
    with pytest.raises(UnknownPlugin, match="plugin"):
        strategies.load("odd")


@pytest.mark.parametrize(
    ("room", "name", "message"),
    [
        (
            strategies,
            "fedavgg",
            r"no strategy 'fedavgg' \(did you mean 'fedavg'\?\); allowed: centralized, centralized-matched, local-only, fedavg, fedprox, .*, or",
        ),
        (
            partitions,
            "dirichlett",
            r"did you mean 'dirichlet'\?\); allowed: iid, dirichlet, dirichlet-plain, .*, flower, or your own",
        ),
        (partitions, "zzz", "no partition 'zzz'; allowed: iid"),
        (partitions, "partitions.dirichlet:Dirichlt", "did you mean 'Dirichlet'"),
        (strategies, "no_such_module_here:Thing", "no module 'no_such_module_here'"),
        (strategies, "json:JSONDecoder", "not a subclass of strategies.base.Strategy"),
        (partitions, "partitions:Partition", "not a subclass of partitions.base.Partition with all its methods"),
        (strategies, ":Thing", "not of the form"),
        (strategies, "..base:Thing", "not of the form"),
        (strategies, "json:", "not of the form"),
    ],
)
def test_names_that_are_none_are_explained(room, name, message):
    with pytest.raises(UnknownPlugin, match=message):
        room.load(name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = = 1", "importing it failed: SyntaxError"),
        ("import nowhere_at_all", "importing it failed: ModuleNotFoundError"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_modules_that_raise_are_told(tmp_path, monkeypatch, source, message):
    name = f"module_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownPlugin, match=message):
        strategies.load(f"{name}:Mine")
