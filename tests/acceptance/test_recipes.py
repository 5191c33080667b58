"""The recipes grid as a user runs it, at a size that takes seconds: every diffusion system leaves what it promises."""

import json
import re
import shutil

import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file

from bench.cell.train import find_damage
from bench.grid import main
from bench.store.files import read_json
from bench.store.grid_folder import Store
from tests.acceptance.conftest import command
from tests.shortcuts import in_process

pytestmark = pytest.mark.xdist_group("recipes")
TINY = {
    "training.rounds": 1,
    "training.batch_size": 32,
    "data.limit": 100,
    "data.validation": 40,
    "data.test": 40,
    "n_clients": 2,
    "beta": 5.0,
    "partition": "dirichlet(min_size=5)",
    "model.widths": "[8,16]",
    "model.attention": "[false,true]",
    "model.blocks": 1,
    "diffusion.T": 60,
    "sampler.steps": 6,
    "evaluation.n_samples": 20,
    "latent.epochs": 1,
    "latent.width": 16,
}
CHOSEN = "recipe=linear-hybrid-ancestral,linear-hybrid-dpm,cosine-simple-ddim,cosine-guided,cosine-latent"


def arguments(results, **changes):
    sets = [f"{key}={value}" for key, value in (TINY | changes).items()]
    return ["--grid", "recipes", "--results", str(results), *(part for text in sets for part in ("--set", text))]


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    results = tmp_path_factory.mktemp("recipes") / "results"
    return results, in_process(*arguments(results), "--set", CHOSEN, "--no-mlflow")


def of(store, recipe, strategy="fedavg"):
    (cell,) = [c for c in store.planned() if (c.labels["recipe"], c.labels["strategy"]) == (recipe, strategy)]
    return store.cell(cell.cell_id)


def test_every_recipe_runs_to_the_end(recipes):
    results, done = recipes
    assert done.returncode == 0, done.stderr
    assert "grid recipes: 10 cells, 0 ended before, 10 to run" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert pd.read_csv(results / "recipes" / "tables" / "cells.csv")["state"].tolist() == ["done"] * 10


def test_every_cell_has_its_pictures_and_diagnostics(recipes):
    store = Store(recipes[0] / "recipes")
    for cell in store.planned():
        folder, latent = store.cell(cell.cell_id), cell.labels["recipe"] == "cosine-latent"
        names = {path.name for path in folder.path.iterdir()}
        assert {"samples.png", "samples_viridis.png", "film.gif", "diagnostics.json", "diagnostics.png"} <= names
        assert ({"autoencoder.safetensors", "reconstructions.png"} <= names) == latent
        for name in names:
            if name.endswith((".png", ".gif")):
                with Image.open(folder.path / name) as picture:
                    picture.load()
        diagnostics = read_json(folder.path / "result.json")["diagnostics"]
        assert len(diagnostics["client_loss"]) == (2 if cell.labels["n_clients"] else 0)
        assert len(diagnostics["class_loss"]) == 10


def test_bits_per_dim_are_shared_by_cells_that_differ_in_the_sampler(recipes):
    store = Store(recipes[0] / "recipes")
    first, second = (of(store, f"linear-hybrid-{name}") for name in ("ancestral", "dpm"))
    known = json.loads((first.path / "likelihood.json").read_text())
    assert json.loads((second.path / "likelihood.json").read_text()) == known
    assert len(known["terms"]) == 60
    assert read_json(first.path / "result.json")["metrics"]["bits_per_dim"] == pytest.approx(
        known["prior"] + sum(known["terms"])
    )
    assert read_json(first.path / "result.json")["weight_hash"] == read_json(second.path / "result.json")["weight_hash"]
    assert read_json(first.path / "result.json")["sample_hash"] != read_json(second.path / "result.json")["sample_hash"]


def test_guided_cells_are_asked_for_classes_and_told_how_many_came(recipes):
    folder = of(Store(recipes[0] / "recipes"), "cosine-guided")
    assert 0 <= read_json(folder.path / "result.json")["metrics"]["label_accuracy"] <= 1
    assert load_file(folder.path / "samples.safetensors")["labels"].shape == (20,)
    assert read_json(folder.path / "result.json")["metrics"]["bits_per_dim"] > 0


def test_latent_cells_tell_what_their_autoencoder_costs_and_keeps(recipes):
    store = Store(recipes[0] / "recipes")
    central, federated = (
        read_json(of(store, "cosine-latent", s).path / "result.json")["metrics"] for s in ("centralized", "fedavg")
    )
    for metrics in (central, federated):
        assert metrics["reconstruction_fid"] > 0
        assert 0 < metrics["reconstruction_mse"] < 1
        assert metrics["autoencoder_seconds"] > 0
    assert central["autoencoder_bytes_up"] == 0 < federated["autoencoder_bytes_up"]


def test_the_table_has_a_column_for_each_new_score(recipes):
    told = recipes[1].stdout
    for head in ("bits/", "rec.", "asked"):
        assert head in told
    rows = pd.read_csv(recipes[0] / "recipes" / "tables" / "cells.csv").set_index(["strategy", "recipe"])
    assert rows["bits_per_dim"].notna().sum() == 8
    assert rows.xs("cosine-latent", level="recipe")["bits_per_dim"].isna().all()
    assert rows["label_accuracy"].notna().sum() == 2
    assert rows["reconstruction_fid"].notna().sum() == 2


@pytest.mark.usefixtures("here")
def test_one_worker_or_two_give_the_same_numbers(recipes, tmp_path):
    chosen = [*arguments(tmp_path), "--set", "recipe=cosine-guided,cosine-latent", "--set", "strategy=fedavg"]
    assert main([*chosen, "--no-mlflow", "--quiet", "--tables-only"]) == 0
    for recipe in ("cosine-guided", "cosine-latent"):
        one, two = (
            read_json(of(Store(root / "recipes"), recipe).path / "result.json") for root in (tmp_path, recipes[0])
        )
        assert [one[key] for key in ("cell_id", "weight_hash", "sample_hash")] == [
            two[key] for key in ("cell_id", "weight_hash", "sample_hash")
        ]
        assert one["diagnostics"] == two["diagnostics"]


@pytest.mark.parametrize("name", ["weights.safetensors", "autoencoder.safetensors", "validation.jsonl"])
@pytest.mark.parametrize("damage", ["cut short", "missing"])
def test_damage_to_what_training_left_is_found(recipes, tmp_path, name, damage):
    results = shutil.copytree(recipes[0], tmp_path / "results")
    folder = of(Store(results / "recipes"), "cosine-latent")
    assert find_damage(folder) is None
    file = folder.path / name
    file.unlink() if damage == "missing" else file.write_bytes(file.read_bytes()[:-20])
    assert re.search(f"{name} is (damaged|missing)", find_damage(folder))


def test_damaged_training_is_told_and_made_anew(recipes, tmp_path):
    results = shutil.copytree(recipes[0], tmp_path / "results")
    damaged = {"centralized": "weights.safetensors", "fedavg": "autoencoder.safetensors"}
    before = {strategy: of(Store(results / "recipes"), "cosine-latent", strategy) for strategy in damaged}
    for strategy, name in damaged.items():
        (before[strategy].path / name).write_bytes(b"no tensors")
    chosen = ["--set", "recipe=cosine-latent", "--no-mlflow", "--n-jobs", "1"]
    done = command(*arguments(results, **{"evaluation.n_samples": 21}), *chosen, "--tables-only")
    assert done.returncode == 0, done.stderr
    for strategy, name in damaged.items():
        assert re.search(f"{name} is damaged .*its training is not used again", done.stderr)
        after = read_json(of(Store(results / "recipes"), "cosine-latent", strategy).path / "result.json")
        assert after["weight_hash"] == read_json(before[strategy].path / "result.json")["weight_hash"]
        assert after["metrics"]["n_generated"] == 21


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"likelihood_id": '])
@pytest.mark.usefixtures("here")
def test_a_damaged_likelihood_is_made_anew(recipes, tmp_path, text, capsys):
    results = tmp_path / "results"
    shutil.copytree(recipes[0], results)
    known = of(Store(results / "recipes"), "cosine-simple-ddim")
    (known.path / "likelihood.json").write_text(text)
    chosen = ["--set", "recipe=cosine-simple-ddim", "--set", "strategy=fedavg", "--no-mlflow", "--n-jobs", "1"]
    with pytest.warns(UserWarning, match=r"likelihood.json is damaged"):
        assert main([*arguments(results, **{"evaluation.n_samples": 21}), *chosen, "--tables-only"]) == 0
    after = read_json(of(Store(results / "recipes"), "cosine-simple-ddim").path / "result.json")["metrics"]
    assert after["bits_per_dim"] == read_json(known.path / "result.json")["metrics"]["bits_per_dim"]
    with pytest.warns(UserWarning, match=r"likelihood.json is damaged"):
        assert main([*arguments(results), *chosen, "--plan"]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_the_likelihoods_seconds_are_a_cost_of_every_cell_that_has_it(recipes):
    store = Store(recipes[0] / "recipes")
    first, second = (
        read_json(of(store, f"linear-hybrid-{name}").path / "result.json")["metrics"] for name in ("ancestral", "dpm")
    )
    assert first["likelihood_seconds"] == second["likelihood_seconds"] > 0


def test_the_likelihood_of_resized_images_is_refused_with_exit_code_2(tmp_path, capsys):
    assert main(["--grid", "default", "--results", str(tmp_path), "--set", "evaluation.nll=10"]) == 2
    told = capsys.readouterr().err
    assert "bits/dim need the data's own 256 grey levels" in told
    assert "Traceback" not in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("diffusion.T=0", "diffusion.T: got 0"),
        ("sampler.steps=1001", "sampler.steps=1001 is more than diffusion.T=1000"),
        ("sampler.eta=-1", "sampler.eta: got -1"),
        ("sampler.name=euler", 'sampler.name: got "euler"'),
        ("diffusion.loss=hybrd", "did you mean 'hybrid'?"),
    ],
)
def test_bad_values_end_with_exit_code_2_and_one_message(tmp_path, capsys, change, told):
    assert main(["--grid", "default", "--results", str(tmp_path), "--set", change]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error
