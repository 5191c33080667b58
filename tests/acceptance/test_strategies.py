"""Every shipped strategy and partition through the command line, at a size that takes a second a cell."""

import json
import shutil

import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file

import partitions
import strategies
from bench.cell.train import find_damage
from bench.grid import main
from bench.store.files import read_json, read_lines
from bench.store.grid_folder import Store
from tests.shortcuts import blank_pictures, in_process, no_workers

pytestmark = pytest.mark.xdist_group("strategies")
TINY = {
    "n_clients": 3,
    "beta": 1.0,
    "partition": "dirichlet(min_size=5)",
    "data.limit": 120,
    "data.validation": 60,
    "data.test": 60,
    "training.rounds": 2,
    "training.batch_size": 8,
    "evaluation.n_samples": 20,
    "sampler.steps": 3,
}
PERSONAL = ("local-only", 'feddiffuse(mode="udec")')
FEDERATED = [
    'feddiffuse(mode="udec")' if name == "feddiffuse" else name
    for name in strategies.registry.names()
    if not strategies.load(name).centralized
]


def arguments(results, **changes):
    sets = [f"{key}={value}" for key, value in (TINY | changes).items()]
    return ["--grid", "smoke", "--results", str(results), *(part for text in sets for part in ("--set", text))]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """All strategies, with images drawn after every round."""
    results = tmp_path_factory.mktemp("strategies") / "results"
    every = {
        "strategy": ",".join(["centralized", *FEDERATED]),
        "evaluation.curve_every": 1,
        "evaluation.curve_samples": 10,
    }
    with no_workers(), blank_pictures():
        done = in_process(*arguments(results, **every), "--no-mlflow", "--tables-only")
    assert done.returncode == 0, done.stderr + done.stdout
    return results


def by_strategy(results):
    store = Store(results / "smoke")
    return {cell.labels["strategy"].split("(")[0]: store.cell(cell.cell_id) for cell in store.planned()}


def test_every_strategy_ends_with_scores(ran):
    rows = pd.read_csv(ran / "smoke" / "tables" / "cells.csv")
    assert rows["state"].tolist() == ["done"] * (1 + len(FEDERATED))
    assert rows["fid"].notna().all()
    federated = rows[rows["n_clients"].notna()]
    assert federated[["fid_avg", "fid_client_sd", "test_loss_client_sd", "update_cosine", "drift"]].notna().all().all()
    assert rows["weight_hash"].nunique() >= len(FEDERATED) - 3  # those that agree here are closer looked at below


@pytest.mark.usefixtures("here")
def test_a_federation_makes_no_more_steps_one_after_another_than_centralized_training_that_is_matched(tmp_path):
    changes = {"strategy": "centralized,centralized-matched,fedavg", "n_clients": "3,5", "training.local_steps": 4}
    assert main([*arguments(tmp_path / "r", **changes), "--no-mlflow", "--quiet", "--tables-only"]) == 0
    rows = pd.read_csv(tmp_path / "r" / "smoke" / "tables" / "cells.csv").set_index(["strategy", "n_clients"])
    assert len(rows) == 4
    assert rows["test_loss"].notna().all()
    per_round = rows["sequential_steps"] / 2
    assert per_round.tolist() == [15, 4, 4, 4]  # an epoch of 120 images in batches of 8, else as asked
    assert rows["gradient_steps"].tolist() == [30, 8, 3 * 8, 5 * 8]
    assert rows["samples"].tolist() == [240, 64, 3 * 64, 5 * 64]


def test_only_what_travels_is_counted(ran):
    rows = pd.read_csv(ran / "smoke" / "tables" / "cells.csv")
    rows["name"] = rows["strategy"].str.split("(").str[0]
    megabytes = rows.set_index("name")["megabytes"]
    assert megabytes["centralized"] == megabytes["local-only"] == 0
    assert megabytes["scaffold"] == pytest.approx(2 * megabytes["fedavg"])
    assert megabytes["feddiffuse"] < 0.8 * megabytes["fedavg"]
    assert megabytes["quantised"] < 0.7 * megabytes["fedavg"]
    assert megabytes["top-k"] < 0.7 * megabytes["fedavg"]


def test_the_logs_by_client_add_up_to_the_ledger(ran):
    for folder in by_strategy(ran).values():
        visits, rounds = read_lines(folder.path / "clients.jsonl"), read_lines(folder.path / "metrics.jsonl")
        for line in rounds:
            until = [visit for visit in visits if visit["round"] <= line["round"]]
            assert sum(visit["bytes_up"] for visit in until) == line["bytes_up"]
            assert sum(visit["bytes_down"] for visit in until) == line["bytes_down"]
            assert sum(visit["steps"] for visit in until) == line["gradient_steps"]
        assert [line["round"] for line in read_lines(folder.path / "validation.jsonl")] == [1, 2]


def test_images_along_training_are_scored(ran):
    for name, folder in by_strategy(ran).items():
        curve = read_json(folder.path / "curve.json")["curve"]
        assert [point["round"] for point in curve] == [1, 2], name
        assert all(point["n_generated"] == 10 and point["fid"] > 0 for point in curve)
        drawn = load_file(folder.path / "curve.safetensors")
        assert sorted(drawn) == ["1", "2"]
        samples = load_file(folder.path / "samples.safetensors")["images"]
        if name not in ("local-only", "feddiffuse"):  # a mixture's images belong to other clients in a smaller sample
            apart = (drawn["2"].int() - samples[:10].int()).abs()  # batches of 10 and 20 may round otherwise
            assert apart.max() <= 2, name


def test_personal_strategies_are_judged_client_by_client(ran):
    for name in ("local-only", "feddiffuse"):
        folder = by_strategy(ran)[name]
        result = read_json(folder.path / "result.json")
        assert sorted(path.name for path in (folder.path / "personal").iterdir()) == [
            f"{i}.safetensors" for i in range(3)
        ]
        assert [client["client"] for client in result["clients"]] == [0, 1, 2]
        assert len({client["fid"] for client in result["clients"]}) == 3
        assert all(client["test_loss"] > 0 for client in result["clients"])
        assert result["weight_hash"] != read_json(folder.path / "train.json")["weight_hash"]
        with Image.open(folder.path / "samples_clients.png") as picture:
            picture.load()
        assert find_damage(folder) is None


@pytest.mark.usefixtures("here")
def test_damage_to_a_personal_part_is_found_and_mended(ran, tmp_path, capsys):
    ran = shutil.copytree(ran, tmp_path / "copy")
    folder = by_strategy(ran)["local-only"]
    path, before = folder.path / "personal" / "1.safetensors", read_json(folder.path / "result.json")
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    assert "1.safetensors is damaged" in find_damage(folder)
    every = {
        "strategy": "local-only",
        "evaluation.curve_every": 1,
        "evaluation.curve_samples": 10,
        "evaluation.n_samples": 21,
    }
    assert main([*arguments(ran, **every), "--no-mlflow", "--quiet", "--tables-only", "--n-jobs", "1"]) == 0
    (cell,) = Store(ran / "smoke").planned()
    after = Store(ran / "smoke").cell(cell.cell_id)
    assert find_damage(after) is None  # what is damaged was not copied: the training was done again
    assert read_json(after.path / "result.json")["weight_hash"] == before["weight_hash"]
    capsys.readouterr()


PARTITIONS = {
    name: {"k-labels": "k-labels(k=4)", "flower": 'flower(partitioner="ShardPartitioner", options={shard_size=5})'}.get(
        name, name
    )
    for name in partitions.registry.names()
}


@pytest.fixture(scope="module")
def split_in_every_way(tmp_path_factory):
    """FedAvg over every partition, in one grid; the folder of each cell by the partition's name."""
    results = tmp_path_factory.mktemp("partitions") / "results"
    changes = {"strategy": "fedavg", "partition": ",".join(PARTITIONS.values()), "training.rounds": 1}
    with no_workers():
        assert main([*arguments(results, **changes), "--no-mlflow", "--quiet", "--tables-only"]) == 0
    store = Store(results / "smoke")
    return {cell.labels["partition"].split("(")[0]: store.cell(cell.cell_id) for cell in store.planned()}


@pytest.mark.parametrize("name", PARTITIONS)
def test_every_partition_ends_with_scores(split_in_every_way, name):
    folder = split_in_every_way[name]
    told = json.loads((folder.path / "partition.json").read_text())
    assert sum(told["sizes"]) == 120
    with Image.open(folder.path / "partition.png") as picture:
        picture.load()
    noisy = name == "feature-noise"
    assert any(told["noise"]) == noisy
    losses = read_json(folder.path / "result.json")["diagnostics"]["client_loss"]
    assert all(loss > 0 for loss in losses if loss is not None)


@pytest.mark.usefixtures("here")
def test_losses_of_updates_are_told(tmp_path):
    changes = {"strategy": "fedavg", "training.failures": 0.5, "training.stragglers": 0.5, "training.rounds": 4}
    assert (
        main([*arguments(tmp_path / "r", **changes), "--no-mlflow", "--quiet", "--tables-only", "--n-jobs", "1"]) == 0
    )
    (row,) = pd.read_csv(tmp_path / "r" / "smoke" / "tables" / "cells.csv").to_dict("records")
    assert row["failed"] > 0
    assert row["dropped"] > 0
    store = Store(tmp_path / "r" / "smoke")
    outcomes = [line["outcome"] for line in read_lines(store.cell(store.planned()[0].cell_id).path / "clients.jsonl")]
    assert len(outcomes) == 12
    assert outcomes.count("failed") == row["failed"]
    assert outcomes.count("dropped") == row["dropped"]


@pytest.mark.parametrize(("sets", "told"), [
    ({"strategy": "local-only", "latent.mode": "federated"}, "local-only keeps parts of a model at its clients"),
    ({"strategy": "feddiffuse", "latent.mode": "federated"}, "is for U-Nets alone"),
    ({"strategy": "fedavg-ema", "ema.mode": "server"}, "says itself which model is evaluated"),
    ({"strategy": "fedadam", "ema.mode": "client"}, "aggregates otherwise"),
    ({"strategy": "dp-fedavg", "latent.mode": "federated"}, "accounts for one training alone"),
    ({"strategy": "fedavg", "training.stragglers": 1.5}, "training.stragglers=1.5"),
])  # fmt: skip
def test_combinations_without_sense_are_refused(tmp_path, capsys, sets, told):
    assert main([*arguments(tmp_path / "r", **sets), "--no-mlflow"]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", ["partition.json", "curve.safetensors", "clients.jsonl", "validation.jsonl"])
def test_what_is_missing_or_broken_of_a_training_is_found(ran, name):
    folder = by_strategy(ran)["fedavg"]
    path, whole = folder.path / name, (folder.path / name).read_bytes()
    assert find_damage(folder) is None
    path.unlink()
    assert name in find_damage(folder)
    path.write_bytes(b"{" if name.endswith("json") else b"{\n")
    assert f"{name} is damaged" in find_damage(folder)
    path.write_bytes(whole)
    assert find_damage(folder) is None


@pytest.mark.usefixtures("here")
def test_a_client_that_never_came_is_judged_with_the_initial_encoder(tmp_path):
    """The file of shared weights is not touched by the models that are put in turn into the network."""
    changes = {"strategy": 'feddiffuse(mode="udec")', "training.participation": 0.34, "training.rounds": 1}
    assert (
        main([*arguments(tmp_path / "r", **changes), "--no-mlflow", "--quiet", "--tables-only", "--n-jobs", "1"]) == 0
    )
    store = Store(tmp_path / "r" / "smoke")
    folder = store.cell(store.planned()[0].cell_id)
    (visited,) = {line["client"] for line in read_lines(folder.path / "clients.jsonl")}
    shared = load_file(folder.path / "weights.safetensors")
    sizes = {i: len(load_file(folder.path / "personal" / f"{i}.safetensors")) for i in range(3)}
    assert [i for i, size in sizes.items() if size] == [visited]
    own = load_file(folder.path / "personal" / f"{visited}.safetensors")
    assert own.keys() <= shared.keys()
    assert not any(own[name].equal(shared[name]) for name in own if name.endswith("conv1.weight"))
