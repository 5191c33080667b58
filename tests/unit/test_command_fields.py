"""`feddiff-bench --fields`: every field, strategy, partition and metric with what it is, in 100 columns."""

import dataclasses
import re
from dataclasses import dataclass

import pytest

import bench.plugins
import partitions
import strategies
from bench import __main__ as entry
from bench.config import fields
from bench.config.cell import field, field_names
from bench.config.grid_file import load_grid
from bench.report.metrics import METRICS
from strategies.fedavg import FedAvg
from tests.unit.test_plugins import FakeEntryPoint

SECTIONS = ("cell", "data", "training", "client", "model", "diffusion", "ema", "latent", "sampler", "evaluation")


def rows(section: str) -> dict[str, tuple[str, str, str]]:
    """Type, default and sentence by name."""
    _, table = fields.tables(section)
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return {name: tuple(told) for name, *told in zip(*columns, strict=True) if name}


def printed(section: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints."""
    assert entry.main(["--fields", *([section] if section else [])]) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 100
    return told


def test_every_field_has_a_type_a_default_and_a_sentence():
    listed = {
        name if section == "cell" else f"{section}.{name}": row
        for section in SECTIONS
        for name, row in rows(section).items()
    }
    assert set(listed) == set(field_names())
    assert not [name for name, row in listed.items() if not all(row)]
    assert not [
        name
        for name, (_, _, told) in listed.items()
        if not (told[0].isupper() or name.endswith("scale")) or not told.endswith(".")
    ]
    assert not [name for name, (kind, _, _) in listed.items() if "any" in kind]


def test_defaults_are_those_of_a_grid_that_gives_nothing_else(tmp_path):
    (tmp_path / "g.toml").write_text('strategy = "fedavg"\nn_clients = 2\nbeta = 0.5\n')
    (cell,) = load_grid(str(tmp_path / "g.toml")).cells
    for section in SECTIONS[1:]:
        for name, (_, default, _) in rows(section).items():
            value = field(cell, f"{section}.{name}")
            assert default == fields.value_text(list(value) if isinstance(value, tuple) else value), name


def test_types_are_what_fields_take():
    training, sampler = rows("training"), rows("sampler")
    assert training["rounds"][:2] == ("int ≥ 1", "10")
    assert training["participation"][:2] == ("float in (0, 1]", "1.0")
    assert sampler["name"][:2] == ("ancestral | ddim | dpm-solver++", "ddim")
    assert rows("diffusion")["label_dropout"][0] == "float in [0, 1)"
    assert rows("model")["widths"][:2] == ("list of int in [1, 16384]", "[16, 32, 32]")
    assert rows("evaluation")["nll_steps"][:2] == ("int ≥ 1 or none", "none")
    assert rows("cell")["strategy"][:2] == ("name(key=value)", "required")
    assert rows("cell")["partition"][:2] == ("name(key=value) or none", "dirichlet")


@pytest.mark.parametrize(("section", "room"), [("strategies", strategies), ("partitions", partitions)])
def test_what_ships_has_a_sentence_and_so_has_each_hyper_parameter(section, room):
    _, table = fields.tables(section)
    names, _, _, sentences = ([str(cell) for cell in column.cells] for column in table.columns)
    assert [name for name in names if name and not name.startswith(" ")] == room.registry.names()
    assert not [name for name, told in zip(names, sentences, strict=True) if name and not told.endswith(".")]
    expected = [
        item.name
        for name in room.registry.names()
        for item in dataclasses.fields(room.load(name))
        if item.name != "beta"
    ]
    assert sorted(name.strip() for name in names if name.startswith(" ")) == sorted(expected)


def test_a_hyper_parameter_has_its_default():
    told = rows("strategies")
    assert told["fedprox"][2] == "FedProx: FedAvg with a pull towards the round's global model in every local loss."
    assert told["  mu"] == ("float", "0.1", "strength of the pull, >= 0; 0 is FedAvg bit for bit.")
    assert rows("partitions")["  partitioner"][1] == "required"


@dataclass(frozen=True)
class Mine(FedAvg):
    """A strategy of an installed package.

    Attributes:
        weight: how much.
    """

    weight: float = 0.25


def test_installed_plugins_are_listed_and_one_that_does_not_load_says_so(monkeypatch):
    offered = [FakeEntryPoint("mine", Mine), FakeEntryPoint("odd", ImportError("no such module"))]
    monkeypatch.setattr(bench.plugins, "entry_points", lambda group: offered if group == "bench.strategies" else [])
    told = rows("strategies")
    assert told["mine"][2] == "A strategy of an installed package."
    assert told["  weight"] == ("float", "0.25", "how much.")
    assert told["odd"][2] == "cannot be loaded: plugin 'odd' (plugin:Thing) does not load: no such module"


def test_metrics_are_listed_with_the_way_that_is_better(capsys):
    told = printed("metrics", capsys)
    assert [line.split()[0] for line in told.splitlines() if line.split()[:1] and line.split()[0] in METRICS] == [
        *METRICS
    ]
    assert re.search(r"^fid +FID +lower ", told, re.MULTILINE)
    assert re.search(r"^is_mean +IS +higher +inception score *$", told, re.MULTILINE)


def test_all_fits_a_hundred_columns(capsys):
    everything = printed("", capsys)
    assert [line.partition(":")[0] for line in everything.splitlines() if line.partition(":")[0] in SECTIONS] == [
        *SECTIONS
    ]
    for section in (*SECTIONS, "strategies", "partitions", "metrics"):
        assert printed(section, capsys).startswith(f"{section}")


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("trainin", "'training'"),
        ("rounds", "'training'"),
        ("model.widths", "'model'"),
        ("lr", "'client' or 'latent'"),
        ("latent.lr", "'latent'"),
        ("metric", "'metrics'"),
        ("fid", "'metrics'"),
        ("beta", "'cell'"),
        ("strategy", "'cell' or 'strategies'"),
        ("partition", "'cell' or 'partitions'"),
        ("fedprox", "'strategies'"),
        ("k-labels", "'partitions'"),
    ],
)
def test_a_section_that_is_none_is_answered_with_those_that_list_the_name_or_the_nearest(given, near, capsys):
    assert entry.main(["--fields", given]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: --fields {given}: no such section (did you mean {near}?); allowed: cell, data, ")
    assert told.count("\n") == 1
