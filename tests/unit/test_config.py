"""Grids: what they expand to, what changes a cell's id, and what every mistake is answered with."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.config import ids
from bench.config.cell import CellConfig, field_names
from bench.config.errors import ConfigError
from bench.config.grid_file import find_grid, load_grid, parse_grid
from bench.config.grids import shipped_grids
from bench.config.ids import cell_id, digest, identity, likelihood_id, train_id
from strategies.fedavg import FedAvg


def grid_of(overrides=(), **changes):
    raw = {"axes": {"strategy": ["centralized", "fedavg"], "n_clients": [3, 5], "beta": [0.1, 1.0]}} | changes
    return parse_grid(raw, "my.toml", "my", overrides)


def message(overrides=(), **changes):
    with pytest.raises(ConfigError) as caught:
        grid_of(overrides, **changes)
    return str(caught.value)


def one(**changes) -> CellConfig:
    return grid_of(axes={"strategy": ["fedavg"], "n_clients": [3], "beta": [1.0]}, **changes).cells[0]


@pytest.mark.parametrize(
    ("name", "cells"), [("smoke", 3), ("default", 10), ("mnist", 57), ("paper", 3), ("recipes", 28)]
)
def test_shipped_grids_have_these_cells(name, cells):
    grid = load_grid(name)
    assert grid.name == name
    assert len(grid.cells) == cells
    assert grid.description


def test_the_default_grid_compares_the_strategies_at_each_split():
    cells = load_grid("default").cells
    seen = [(c.strategy.name, c.n_clients, c.beta) for c in cells]
    wanted = [(s, n, b) for s in ("fedavg", "fedprox") for n in (2, 5) for b in (0.1, 100.0)]
    assert seen == [("centralized", None, None), ("centralized-matched", None, None), *wanted]
    assert [c.training.local_steps for c in cells] == [None, *[219] * 9]


def test_centralized_training_of_the_default_grid_sees_as_many_images_as_its_most_clients():
    training = next(c.training for c in load_grid("default").cells if c.n_clients == 5)
    assert training.images_a_round(3500, 5) == 5 * 219 * 16
    assert abs(training.local_epochs * 3500 / (5 * 219 * 16) - 1) < 0.01


def test_centralized_cells_are_one_a_seed():
    grid = grid_of(["seed=0,1"])
    central = [cell for cell in grid.cells if cell.centralized]
    assert [cell.seed for cell in central] == [0, 1]
    assert central[0].client.optimizer_state == "keep"
    assert len(grid.cells) == 2 + 8


STEPS = {"strategy": ["centralized", "centralized-matched", "fedavg"], "n_clients": [3], "beta": [1.0]}


def test_a_budget_of_steps_is_one_of_clients_and_of_centralized_training_that_is_matched():
    """Centralized training has its epochs whatever the clients' steps; a line that is matched has no clients either."""
    axes = STEPS | {"n_clients": [3, 5], "training.local_steps": [10, 20]}
    grid = grid_of(axes=axes, training={"local_epochs": 2, "participation": 0.5})
    told = [(c.strategy.name, c.n_clients, c.training.local_steps, c.training.participation) for c in grid.cells]
    assert told == [
        ("centralized", None, None, 1.0),
        ("centralized-matched", None, 10, 1.0),
        ("centralized-matched", None, 20, 1.0),
        *(("fedavg", n, steps, 0.5) for n in (3, 5) for steps in (10, 20)),
    ]
    central, matched = grid.cells[:2]
    assert central.training.steps(33) == 2 * 2
    assert matched.training.steps(33) == 10
    assert all(cell.client.optimizer_state == "keep" for cell in (central, matched))
    assert matched.partition is matched.beta is None


def test_beta_is_nothing_to_a_partition_that_does_not_use_it():
    grid = grid_of(partition="iid")
    assert [(c.n_clients, c.beta) for c in grid.cells if not c.centralized] == [(3, None), (5, None)]


def test_any_field_can_be_an_axis():
    grid = grid_of(["diffusion.schedule=linear,cosine", "strategy=fedavg", "n_clients=3", "beta=1"])
    assert [cell.diffusion.schedule for cell in grid.cells] == ["linear", "cosine"]
    assert grid.extra_axes == ["diffusion.schedule"]


def test_overrides_set_fields_and_axes():
    grid = grid_of(
        ["training.rounds=3", "beta=0.5,2", "n_clients=10", "model.widths=[8,16]", "model.attention=[false,true]"]
    )
    cell = grid.cells[-1]
    assert (cell.training.rounds, cell.n_clients, cell.beta) == (3, 10, 2.0)
    assert cell.model.widths == (8, 16)


def test_whole_numbers_are_taken_where_a_fraction_is_meant():
    assert one().beta == 1.0
    assert isinstance(grid_of(["beta=1"]).cells[-1].beta, float)


@pytest.mark.parametrize(
    "written", ["fedprox(mu=0.5)", {"name": "fedprox", "mu": 0.5}, {"name": "fedprox", "params": {"mu": 0.5}}]
)
def test_hyper_parameters_can_be_written_in_three_ways(written):
    cell = grid_of(axes={"strategy": [written], "n_clients": [3], "beta": [1.0]}).cells[0]
    assert cell.strategy.label == "fedprox(mu=0.5)"
    assert cell.strategy.params == {"mu": 0.5}


def test_defaults_of_hyper_parameters_are_part_of_the_cell():
    written, default = (grid_of([f"strategy={s}"]).cells[0] for s in ("fedprox(mu=0.1)", "fedprox"))
    assert written == default


def test_exclusions_take_cells_out_by_name_or_label():
    grid = grid_of(exclude=[{"strategy": "fedavg", "n_clients": 5, "beta": 0.1}])
    assert [(c.n_clients, c.beta) for c in grid.cells if not c.centralized] == [(3, 0.1), (3, 1.0), (5, 1.0)]
    two = grid_of(["strategy=fedprox(mu=0.1),fedprox(mu=1.0)"], exclude=[{"strategy": "fedprox(mu=1.0)"}])
    assert {c.strategy.label for c in two.cells} == {"fedprox(mu=0.1)"}


def test_an_override_may_leave_an_exclusion_without_cells():
    assert len(grid_of(["n_clients=3"], exclude=[{"n_clients": 5}]).cells) == 3


def test_commas_inside_brackets_and_quotes_part_no_values():
    grid = grid_of(['strategy=fedprox(mu=0.5),{name="fedprox", mu=0.25}', "n_clients=3", "beta=1"])
    assert [cell.strategy.label for cell in grid.cells] == ["fedprox(mu=0.5)", "fedprox(mu=0.25)"]


# ------------------------------------------------------------------------------------------------ identity


def test_ids_depend_on_what_changes_numbers_and_on_nothing_else():
    cell = one()
    known = cell_id(cell, "data", "extractor", "cpu")
    assert known == cell_id(one(), "data", "extractor", "cpu")
    assert known == cell_id(one(evaluation={"extractor_weights": "/somewhere/else.pt"}), "data", "extractor", "cpu")
    others = [cell_id(cell, "data2", "extractor", "cpu"), cell_id(cell, "data", "extractor2", "cpu"),
              cell_id(cell, "data", "extractor", "cuda"), cell_id(one(threads=2), "data", "extractor", "cpu"),
              cell_id(one(seed=1), "data", "extractor", "cpu"), cell_id(one(evaluation={"n_samples": 7}), "data", "extractor", "cpu")]  # fmt: skip
    assert len({known, *others}) == 7


def test_every_field_is_part_of_the_identity():
    uses_all = identity(
        one(
            model={"class_conditional": True},
            diffusion={"loss": "min-snr"},
            ema={"mode": "server"},
            latent={"mode": "central"},
            sampler={"name": "ddim"},
            data={"size": 32, "fit": "pad"},
            training={"sampling": "poisson", "stragglers": 0.5, "failures": 0.5},
            evaluation={"curve_every": 2},
        )
    )
    flat = {name.split(".")[0] if name.split(".")[0] in ("strategy", "partition") else name for name in field_names()}
    bounded = identity(one(data={"size": 32, "fit": "pad"}, evaluation={"nll": 5}))
    by_steps = identity(one(training={"local_steps": 5}))
    others = {"diffusion.variance": bounded, "evaluation.nll": bounded, "evaluation.nll_steps": bounded}
    others["training.local_steps"] = by_steps
    for name in flat - {"evaluation.extractor_weights", "evaluation.nll_rounded", "device", "recipe"}:
        tree = others.get(name, uses_all)
        for part in name.split("."):
            assert part in tree, name
            tree = tree[part]


def test_a_version_that_is_raised_makes_other_ids(monkeypatch):
    cells, trainings = cell_id(one(), "data", "extractor", "cpu"), train_id(one(), "data", "cpu")
    monkeypatch.setattr(ids, "RESULT_VERSION", ids.RESULT_VERSION + 1)
    assert cell_id(one(), "data", "extractor", "cpu") != cells
    assert train_id(one(), "data", "cpu") == trainings  # what was trained is evaluated again
    monkeypatch.setattr(ids, "TRAINING_VERSION", ids.TRAINING_VERSION + 1)
    assert train_id(one(), "data", "cpu") != trainings


def test_evaluation_does_not_change_what_is_trained():
    trained = train_id(one(), "data", "cpu")
    assert trained == train_id(one(evaluation={"n_samples": 7}, sampler={"steps": 3}), "data", "cpu")
    assert trained != train_id(one(training={"rounds": 7}), "data", "cpu")


@pytest.mark.parametrize(
    "unused",
    [
        {"diffusion": {"min_snr_gamma": 1.0}},
        {"diffusion": {"label_dropout": 0.5}},
        {"ema": {"decay": 0.5, "warmup": "none"}},
        {"latent": {"channels": 8, "epochs": 3}},
        {"evaluation": {"nll_steps": 5, "nll_rounded": True}},
        {"sampler": {"name": "ddim"}, "diffusion": {"variance": "large"}},
        {"sampler": {"name": "ancestral", "eta": 0.5}},
        {"recipe": None},
    ],
)
def test_fields_that_change_nothing_here_are_no_part_of_the_identity(unused):
    plain = {key: {"name": value["name"]} for key, value in unused.items() if key == "sampler"}
    assert identity(one(**unused)) == identity(one(**plain))


def test_epochs_and_steps_are_parts_of_an_id_where_they_are_the_budget():
    """A cell's id has the one that counts, and the other changes it nowhere."""

    def ids_of(**training):
        cells = grid_of(axes=STEPS, training={"local_steps": 10} | training).cells
        return {cell.strategy.name: cell_id(cell, "data", "extractor", "cpu") for cell in cells}

    plain, epochs, steps = ids_of(), ids_of(local_epochs=3), ids_of(local_steps=11)
    assert plain["fedavg"] == epochs["fedavg"] != steps["fedavg"]
    assert plain["centralized-matched"] == epochs["centralized-matched"] != steps["centralized-matched"]
    assert plain["centralized"] == steps["centralized"] != epochs["centralized"]
    assert plain["centralized"] == cell_id(grid_of(["strategy=centralized"]).cells[0], "data", "extractor", "cpu")
    by_epochs = [identity(one(training={"local_epochs": e}))["training"] for e in (1, 2)]
    assert [("local_steps" in t, t["local_epochs"]) for t in by_epochs] == [(False, 1), (False, 2)]
    trained = [train_id(one(training=t), "data", "cpu") for t in ({}, {"local_steps": 10}, {"local_steps": 11})]
    assert len(set(trained)) == 3
    assert train_id(one(training={"local_steps": 10, "local_epochs": 3}), "data", "cpu") == trained[1]


def test_the_reference_is_one_of_evaluation_alone():
    by_test = one(evaluation={"reference": "test"})
    assert train_id(by_test, "data", "cpu") == train_id(one(), "data", "cpu")
    assert cell_id(by_test, "data", "extractor", "cpu") != cell_id(one(), "data", "extractor", "cpu")


def test_a_fixed_variance_is_trained_only_by_the_bound():
    small, large = (train_id(one(diffusion={"variance": v}), "data", "cpu") for v in ("small", "large"))
    assert small == large
    bound = [train_id(one(diffusion={"variance": v, "loss": "vlb"}), "data", "cpu") for v in ("small", "large")]
    assert bound[0] != bound[1]
    learned = train_id(one(diffusion={"variance": "learned", "loss": "hybrid"}), "data", "cpu")
    assert learned not in (small, *bound)


def test_cells_that_differ_in_the_sampler_share_their_likelihood():
    nll = {"evaluation": {"nll": 5, "nll_rounded": True}}
    known = likelihood_id(one(**nll), "data", "cpu")
    assert known == likelihood_id(one(sampler={"name": "ancestral", "steps": 7}, **nll), "data", "cpu")
    assert known != likelihood_id(one(diffusion={"variance": "large"}, **nll), "data", "cpu")
    assert known != likelihood_id(one(evaluation={"nll": 6, "nll_rounded": True}), "data", "cpu")


# ------------------------------------------------------------------------------------------------ recipes


RECIPES = {"plain": {}, "fast": {"sampler": {"steps": 5}}, "v": {"diffusion": {"prediction": "v"}}}


def test_recipes_are_an_axis_of_named_bundles():
    grid = grid_of(["strategy=fedavg", "n_clients=3", "beta=1"], recipes=RECIPES)
    assert grid.axes["recipe"] == ["plain", "fast", "v"]
    assert grid.extra_axes == ["recipe"]
    assert [(c.recipe, c.sampler.steps, c.diffusion.prediction) for c in grid.cells] == [
        ("plain", 50, "eps"),
        ("fast", 5, "eps"),
        ("v", 50, "v"),
    ]


def test_some_recipes_can_be_chosen_and_a_set_has_the_last_word():
    grid = grid_of(["recipe=fast,v", "sampler.steps=9", "strategy=fedavg", "n_clients=3", "beta=1"], recipes=RECIPES)
    assert [(c.recipe, c.sampler.steps) for c in grid.cells] == [("fast", 9), ("v", 9)]
    (cell,) = grid_of(["strategy=fedavg", "n_clients=3", "beta=1"], recipe="v", recipes=RECIPES).cells
    assert cell.diffusion.prediction == "v"


def test_a_recipe_changes_its_fields_over_those_of_the_grid():
    grid = grid_of(["recipe=fast"], recipes=RECIPES, sampler={"name": "ancestral", "steps": 40})
    assert {(c.sampler.name, c.sampler.steps) for c in grid.cells} == {("ancestral", 5)}


def test_recipes_that_become_one_and_the_same_are_refused_by_their_names():
    told = message(["strategy=fedavg", "n_clients=3", "sampler.steps=9"], recipes=RECIPES)
    assert "recipe: 'plain' and 'fast' are one and the same as other fields stand" in told
    central = grid_of(["strategy=centralized"], recipes={"all": {}, "half": {"training": {"participation": 0.5}}})
    assert [cell.recipe for cell in central.cells] == ["all"]


def test_equal_experiments_have_equal_ids_however_they_are_written():
    nll = {"fit": "pad", "size": 32}
    whole, none = (one(data=nll, evaluation={"nll": 5, "nll_steps": s}) for s in (1000, None))
    rounded = one(data=nll, evaluation={"nll": 5, "nll_rounded": True})
    assert identity(whole) == identity(none) == identity(rounded)
    assert likelihood_id(whole, "data", "cuda:1") == likelihood_id(none, "data", "cuda")
    latent = {"data": {"size": 32, "fit": "pad"}, "axes": {"strategy": ["centralized"]}}
    modes = [grid_of(latent={"mode": mode}, **latent).cells[0] for mode in ("central", "federated")]
    assert modes[0] == modes[1]


class ServerStep(FedAvg):
    """Aggregates in its own way."""

    def aggregate(self, server, uploads):
        super().aggregate(server, uploads)


def test_averages_of_clients_need_a_strategy_that_takes_their_mean():
    changes = {"ema": {"mode": "client"}}
    assert grid_of(["strategy=fedprox"], **changes).cells
    told = message([f"strategy={__name__}:ServerStep"], **changes)
    assert "ema.mode: 'client' takes the mean of the clients' averages" in told
    assert "use 'server'" in told


def test_labels_and_the_report_are_no_part_of_a_cell():
    grid = grid_of(labels={"fedavg": "FedAvg"}, report={"claims": True})
    assert (grid.labels, grid.claims) == ({"fedavg": "FedAvg"}, True)
    assert grid.cells == grid_of().cells
    assert (grid_of().labels, grid_of().claims) == ({}, False)
    assert {name for name in shipped_grids() if load_grid(name).claims} == {"default", "paper"}


def test_the_recipes_grid_has_all_systems_of_the_review():
    grid = load_grid("recipes")
    by_name = {cell.recipe: cell for cell in grid.cells}
    products = itertools.product(("linear", "cosine"), ("simple", "hybrid"), ("ancestral", "ddim", "dpm"))
    assert {"-".join(parts) for parts in products} | {"cosine-guided", "cosine-latent"} <= set(by_name)
    for name, cell in by_name.items():
        schedule, loss = name.split("-")[:2]
        assert cell.diffusion.schedule == schedule
        if loss in ("simple", "hybrid"):
            assert cell.diffusion.loss == loss
            assert cell.sampler.name.startswith(name.split("-")[2])
    assert by_name["cosine-guided"].sampler.guidance_scale > 1
    assert by_name["cosine-latent"].is_latent
    trainings = {train_id(cell, "data", "cpu") for cell in grid.cells}
    assert len(trainings) < len(grid.cells) / 2


def test_digests_do_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1}) != digest({"a": 1, "b": [2, 1]})


# ------------------------------------------------------------------------------------------------ mistakes

MISTAKES = [
    ((), {"training": {"round": 3}}, ["my.toml", "training.round", "unknown key", "did you mean 'rounds'?", "local_epochs"]),
    ((), {"trainig": {}}, ["my.toml: trainig: unknown key", "did you mean 'training'?"]),
    ((), {"training": {"rounds": "3"}}, ['training.rounds: got "3"', "valid integer"]),
    ((), {"training": {"rounds": True}}, ["training.rounds: got true", "valid integer"]),
    ((), {"training": {"rounds": 0}}, ["training.rounds: got 0", "greater than or equal to 1"]),
    ((), {"training": 3}, ["my.toml: training: got 3"]),
    ((), {"training": {"participation": 1.5}}, ["training.participation: got 1.5", "less than or equal to 1"]),
    ((), {"data": {"name": "mnst"}}, ['data.name: got "mnst"', "'mnist5k'", "did you mean 'mnist'?"]),
    ((), {"client": {"lr": float("nan")}}, ["client.lr: got NaN", "finite"]),
    ((), {"model": {"widths": [16, 32]}}, ["model.attention has 3 flags for 2 model.widths"]),
    ((), {"model": {"widths": [16, 30, 32]}}, ["model.groups=8 does not divide width 30"]),
    ((), {"model": {"widths": [4, 8, 8], "groups": 4}}, ["first of model.widths must be a multiple of 8, got 4"]),
    ((), {"data": {"size": 18}}, ["data.size=18 cannot be halved 2 times"]),
    ((), {"sampler": {"steps": 1001}}, ["sampler.steps=1001 is more than diffusion.T=1000"]),
    ((), {"diffusion": {"T": 20, "schedule": "linear"}, "sampler": {"steps": 5}}, ["T >= 21, got T=20"]),
    ((), {"partition": "dirichlt"}, ["my.toml: partition: got 'dirichlt'", "did you mean 'dirichlet'?"]),
    ((), {"partition": "dirichlet(min_size=0)"}, ["partition: dirichlet", "min_size must be at least 1"]),
    ((), {"partition": "dirichlet(beta=3.0)"}, ["beta is a field and an axis of the grid"]),
    ((), {"axes": {"strategy": ["fedavg"], "n_clients": [3]}}, ["beta: missing; partition 'dirichlet' needs it"]),
    ((), {"axes": {"strategy": ["fedavg"], "beta": [1.0]}}, ["n_clients: missing; strategy 'fedavg' needs it"]),
    ((), {"axes": {"n_clients": [3], "beta": [1.0]}}, ["my.toml: strategy: missing"]),
    (["strategy=centralized-matched"], {}, ["training.local_steps: missing; strategy 'centralized-matched' makes as many steps"]),
    ((), {"training": {"local_steps": 0}}, ["training.local_steps: got 0", "greater than or equal to 1"]),
    ((), {"training": {"local_steps": 9, "batch_size": 10**6}}, ["training.batch_size=1000000", "training.local_steps", "65,536"]),
    ((), {"data": {"heldout": 500}}, ["my.toml: data.heldout: unknown key"]),
    ((), {"data": {"sampling": "random"}}, ['data.sampling: got "random"', "'stratified'", "'iid'"]),
    ((), {"evaluation": {"reference": "validation"}}, ['evaluation.reference: got "validation"', "'train'", "'test'"]),
    ((), {"axes": {"n_client": [3]}}, ["my.toml: axes.n_client: unknown field", "did you mean 'n_clients'?"]),
    ((), {"axes": {"beta": 1.0}}, ["axes.beta: got 1.0; it must be a list"]),
    ((), {"axes": {"beta": []}}, ["axes.beta: got []; it must be a list of at least one value"]),
    ((), {"axes": [1]}, ["axes: got [1]; it must be a table"]),
    ((), {"name": "../evil"}, ["name: got '../evil'", "names a folder"]),
    ((), {"name": 3}, ["name: got 3"]),
    ((), {"description": 3}, ["description: got 3"]),
    ((), {"exclude": [{"nclients": 3}]}, ["exclude.nclients: unknown field", "did you mean 'n_clients'?"]),
    ((), {"exclude": {"n_clients": 3}}, ['exclude: got {"n_clients": 3}; it must be a list']),
    ((), {"exclude": [{"strategy": "fedavg"}, {"strategy": "centralized"}]}, ["my.toml: exclude: no cell is left of 8"]),
    ((), {"exclude": [{}]}, ["my.toml: exclude: got {}; it must be a table with at least one field"]),
    ((), {"exclude": [3]}, ["my.toml: exclude: got 3; it must be a table"]),
    (["seed=1"], {"exclude": [{"strategy": "fedavg"}, {"strategy": "centralized"}]}, ["my.toml with --set seed=1: exclude: no cell is left of 8"]),
    (["beta=-1"], {}, ["--set beta=-1: beta: got -1", "greater than 0"]),
    (["beta=0"], {}, ["beta: got 0"]),
    (["n_clients=0"], {}, ["n_clients: got 0"]),
    (["strategy=fedprx"], {}, ["--set strategy=fedprx: strategy: got 'fedprx'", "did you mean 'fedprox'?"]),
    (["strategy=fedprox(mu=-1.0)"], {}, ["mu must be a finite number >= 0, got -1.0"]),
    (["strategy=fedprox(nu=1.0)"], {}, ["unknown hyper-parameter 'nu' (did you mean 'mu'?); allowed: mu"]),
    (["strategy=fedavg(mu=1.0)"], {}, ["unknown hyper-parameter 'mu'; it has no hyper-parameters"]),
    (["strategy=fedprox(mu=x)"], {}, ["got 'fedprox(mu=x)'", "key=value"]),
    (['strategy=fedprox(mu="x")'], {}, ["fedprox(mu): got 'x'"]),
    (["strategy=3"], {}, ["strategy: got 3; write"]),
    (["training.round=3"], {}, ["unknown field 'training.round' (did you mean 'training.rounds'?); allowed: "]),
    (["rounds=3"], {}, ["unknown field 'rounds' (did you mean 'training.rounds'?)"]),
    (["lr=3"], {}, ["unknown field 'lr' (did you mean 'client.lr' or 'latent.lr'?)"]),
    (["beta"], {}, ["write --set FIELD=VALUE"]),
    (["beta="], {}, ["write --set FIELD=VALUE"]),
    (["training.rounds=,"], {}, ["--set training.rounds=,: a value is missing beside a comma"]),
    (["beta=0.1,,1"], {}, ["a value is missing beside a comma"]),
    (["training.rounds=3)"], {}, ["')' has no partner"]),
    (["model.widths=[8,16"], {}, ["a closing ']' is missing"]),
    (["diffusion.T=1000000000000"], {}, ["diffusion.T: got 1000000000000", "less than or equal to 100000"]),
    (["data.size=1000000"], {}, ["data.size: got 1000000"]),
    ((), {"exclude": [{"strategy": "fedprx"}]}, ["my.toml: exclude: no cell has strategy = 'fedprx'"]),
    ((), {"exclude": [{"strategy": "nothing", "nclients": 3}]}, ["exclude.nclients: unknown field"]),
    ((), {"beta": 0.5}, ["my.toml: beta: given both as a field and as axes.beta"]),
    ((), {"diffusion": {"T": 0}}, ["diffusion.T: got 0", "greater than or equal to 1"]),
    ((), {"sampler": {"eta": -0.1}}, ["sampler.eta: got -0.1", "greater than or equal to 0"]),
    ((), {"sampler": {"name": "dpm++"}}, ['sampler.name: got "dpm++"', "did you mean 'dpm-solver++'?"]),
    ((), {"sampler": {"steps": 300, "spacing": "integer"}}, ["no whole stride keeps just 300 of T=1000", "250 and 334"]),
    ((), {"diffusion": {"prediction": "noise"}}, ['diffusion.prediction: got "noise"', "'eps', 'x0' or 'v'"]),
    ((), {"diffusion": {"loss": "hybrd"}}, ["did you mean 'hybrid'?"]),
    ((), {"diffusion": {"loss": "hybrid"}}, ['diffusion.loss="hybrid" trains the variance', 'diffusion.variance="learned"']),
    ((), {"diffusion": {"variance": "learned"}}, ['diffusion.variance="learned" needs diffusion.loss="hybrid" or "vlb"']),
    ((), {"diffusion": {"variance": "learned", "loss": "vlb", "T": 1}, "sampler": {"steps": 1}}, ["diffusion.T of at least 2"]),
    ((), {"diffusion": {"min_snr_gamma": 0}}, ["diffusion.min_snr_gamma: got 0", "greater than 0"]),
    ((), {"ema": {"decay": 1.0}}, ["ema.decay: got 1.0", "less than 1"]),
    ((), {"ema": {"mode": "sever"}}, ["did you mean 'server'?"]),
    ((), {"sampler": {"guidance_scale": 2}}, ["sampler.guidance_scale=2 needs model.class_conditional=true"]),
    ((), {"sampler": {"guidance_scale": 2}, "model": {"class_conditional": True}, "diffusion": {"label_dropout": 0}},
     ["guidance_scale=2 needs diffusion.label_dropout above 0"]),
    ((), {"evaluation": {"nll": 10}}, ["evaluation.nll=10: bits/dim need the data's own 256 grey levels", "data.fit='pad-pool'", 'use "none" or "pad"']),
    ((), {"evaluation": {"nll": 10}, "data": {"fit": "resize", "size": 32}}, ["data.fit='resize' made new ones by mixing pixels"]),
    ((), {"evaluation": {"nll": 1001}, "data": {"fit": "pad", "size": 32}}, ["evaluation.nll=1001 is more than data.test=1000"]),
    ((), {"evaluation": {"nll": 1, "nll_steps": 1001, "nll_rounded": True}}, ["evaluation.nll_steps=1001 is more than diffusion.T=1000"]),
    ((), {"evaluation": {"nll": 1}, "latent": {"mode": "central"}, "data": {"fit": "pad", "size": 32}}, ['evaluation.nll=1 needs diffusion of the images', 'latent.mode="off"']),
    ((), {"latent": {"mode": "central"}, "diffusion": {"loss": "vlb"}}, ["diffusion.loss='vlb' needs 256 grey levels, which latents do not have"]),
    ((), {"latent": {"mode": "central"}, "data": {"size": 12}}, ["the latents' side 3 is too small for 3 model.widths: it must be 4 or more"]),
    ((), {"recipes": {"slow": {"sampler": {"steps": 0}}}}, ["my.toml: recipes.slow: sampler.steps: got 0"]),
    ((), {"recipes": {"slow": {"sampler": {"steps": 2000}}}}, ["my.toml: recipes.slow: sampler.steps=2000 is more than diffusion.T=1000"]),
    ((), {"latent": {"mode": "central"}, "data": {"size": 18}}, ["data.size=18 must be divisible by 4"]),
    ((), {"latent": {"mode": "central", "width": 12}}, ["latent.width must be a multiple of 16, got 12"]),
    ((), {"recipe": "fast"}, ["recipe: got 'fast'; the grid has no [recipes.NAME] tables"]),
    ((), {"recipes": {"fast": {}}, "recipe": "fats"}, ["recipe: got 'fats' (did you mean 'fast'?); allowed: fast"]),
    ((), {"recipes": {"fast": {"sampler": {"step": 3}}}}, ["recipes.fast.sampler.step: unknown field (did you mean 'sampler.steps'?)"]),
    ((), {"recipes": {"fast": {"beta": 3}}}, ["beta: given both in recipes.fast and as axes.beta"]),
    ((), {"recipes": {"a b": {}}}, ["recipes: got the name 'a b'"]),
    ((), {"recipes": ["fast"]}, ['recipes: got ["fast"]; it must be a table']),
    (["recipe=slow"], {"recipes": {"fast": {}}}, ["--set recipe=slow: recipe: got 'slow'"]),
    ((), {"recipes": {"fast": {"recipe": "slow"}}}, ["recipes.fast.recipe: a recipe names no other"]),
    ((), {"evaluation": {"bootstrap": 5}}, ["my.toml: evaluation.bootstrap: got 5; it must be 0 for none, or at least 10"]),
    ((), {"evaluation": {"bootstrap": -1}}, ["my.toml: evaluation.bootstrap: got -1; it must be greater than or equal to 0"]),
    ((), {"labels": {"fedavg": 3}}, ["my.toml: labels.fedavg: got 3; it must be a text"]),
    ((), {"labels": ["fedavg"]}, ['my.toml: labels: got ["fedavg"]; it must be a table']),
    ((), {"report": {"claims": "yes"}}, ['my.toml: report.claims: got "yes"; it must be a valid boolean']),
    ((), {"report": {"claim": True}}, ["my.toml: report.claim: unknown key (did you mean 'claims'?)"]),
    ((), {"reports": {}}, ["my.toml: reports: unknown key (did you mean 'report'?)"]),
    ((), {"axes": {"strategy": ["fedavg"], "n_clients": [3, 3], "beta": [0.1]}}, ["my.toml: axes.n_clients: got 3 twice; take one out"]),
    (["beta=1,1.0"], {}, ["--set beta=1,1.0: beta: got 1.0 twice"]),
    (["strategy=fedprox,fedprox(mu=0.1)"], {}, ['strategy: got "fedprox(mu=0.1)" twice; take one out']),
    (["sampler.steps=2000"], {}, ["--set sampler.steps=2000: sampler.steps=2000 is more than diffusion.T=1000"]),
    (["data.size=18", "training.rounds=1"], {}, ["--set data.size=18: data.size=18 cannot be halved 2 times"]),
    (["latent.mode=central", "data.size=12"], {}, ["my.toml with --set latent.mode=central, --set data.size=12: the latents' side 3 is too small"]),
    (["diffusion.T=20"], {"recipes": {"slow": {"sampler": {"steps": 30}}}}, ["--set diffusion.T=20: recipes.slow: sampler.steps=30 is more than diffusion.T=20"]),
    (["ema.mode=client", f"strategy={__name__}:ServerStep"], {}, [f"--set ema.mode=client, --set strategy={__name__}:ServerStep: ema.mode: 'client' takes"]),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "changes", "parts"), MISTAKES, ids=[" ".join(m[2])[:60] for m in MISTAKES])
def test_mistakes_are_told_with_file_key_value_and_the_way_out(overrides, changes, parts):
    told = message(overrides, **changes)
    assert all(part in told for part in parts), told
    assert "Traceback" not in told
    assert "pydantic" not in told


def test_a_file_that_is_not_toml_is_told_with_its_line(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("name = \n")
    with pytest.raises(ConfigError, match=r"broken.toml: not valid TOML: .*line 1"):
        load_grid(str(path))


def test_a_date_is_no_value(tmp_path):
    path = tmp_path / "date.toml"
    path.write_text("seed = 2020-01-01\n[axes]\nstrategy = ['fedavg']\nn_clients = [3]\nbeta = [1.0]\n")
    with pytest.raises(ConfigError, match=r"date.toml: a value is of a type that no field takes"):
        load_grid(str(path))


def test_unknown_grids_are_told_with_those_there_are(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"--grid defalt: unknown grid \(did you mean 'default'\?\); allowed: default, mnist, paper, recipes, smoke",
    ):
        find_grid("defalt")
    with pytest.raises(ConfigError, match="there is no such file"):
        find_grid(str(tmp_path / "none.toml"))


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                           lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    key=st.sampled_from([*field_names(), "axes", "recipes", "exclude", "name", "training", "nothing"]),
    value=json_values,
)
def test_any_value_anywhere_is_a_grid_or_one_clear_error(key, value):
    """Whatever stands at a key, the answer is a grid or a ConfigError, never another exception."""
    top, *rest = key.split(".")
    changes = {top: {rest[0]: value} if rest else value}
    try:
        grid = grid_of(**changes)
    except ConfigError:
        pass
    else:
        assert json.dumps([identity(cell) for cell in grid.cells], allow_nan=False)


def test_a_strategy_is_labelled_by_its_first_hyper_parameter_and_what_is_not_its_default():
    def label(text):
        return load_grid("smoke", [f"strategy={text}"]).cells[0].strategy_label

    assert label("fedprox") == "fedprox(mu=0.1)"
    assert label("fedavg") == "fedavg"
    assert label("quantised(bits=8)") == "quantised(bits=8)"
    assert label("quantised(bits=4, down_bits=8)") == "quantised(bits=4, down_bits=8)"
    for text in ("fedadam(tau=0.01)", 'flower(strategy="FedAvgM", options={server_momentum=0.5})'):
        assert label(label(text)) == label(text)  # a grid accepts it back
    assert (
        label('flower(strategy="FedAvgM", options={server_momentum=0.5})').count("options={server_momentum=0.5}") == 1
    )
