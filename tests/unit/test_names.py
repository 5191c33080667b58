"""Names of cells, splits and axis values."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

import strategies
from bench.config.errors import ConfigError
from bench.config.grid_file import parse_grid
from bench.config.names import axis_key, cell_name, exact_text, split_name, titles, value_text
from strategies.fedavg import FedAvg
from strategies.fedprox import FedProx

LABELS = {"strategy": "fedavg", "n_clients": 5, "beta": 0.1, "seed": 0, "model.widths": [8, 16], "latent.mode": None}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("pad", "pad"), (0.1, "0.1"), (0.123456, "0.123456"), (3.0, "3"), (5, "5"), (2_000_000, "2000000"), (np.int64(7), "7"),
        (np.int64(2_000_000), "2000000"), (12345678.0, "12345678"), (0.1234567, "0.1234567"), (np.float64(0.25), "0.25"), (True, "true"), (np.bool_(False), "false"), ([8, 16], "[8, 16]"),
        (None, "--"), (float("nan"), "--"), (pd.NA, "--"), ((8, 16), "(8, 16)"), (np.float32(0.5), "0.5"), ({"k": 2}, "{'k': 2}"),
    ],
)  # fmt: skip
def test_values_read_as_in_a_grids_file(value, text):
    assert value_text(value) == text


def test_a_parameter_keeps_all_digits():
    assert exact_text(0.123456789) == "0.123456789"
    assert exact_text("pad") == "pad"


def test_a_cell_is_named_by_its_labels():
    assert cell_name(LABELS) == "fedavg n=5 beta=0.1 seed=0 model.widths=[8, 16]"
    assert cell_name(LABELS, "page") == "fedavg, n 5, beta 0.1, seed 0, model.widths [8, 16]"
    assert cell_name({"strategy": "centralized", "n_clients": None, "beta": None, "seed": 1}) == "centralized seed=1"


def test_a_split_is_named_without_strategy_and_seed():
    assert split_name(LABELS).replace("\N{NO-BREAK SPACE}", " ") == "n = 5, β = 0.1, model.widths = [8, 16]"
    assert " " not in split_name({"strategy": "fedavg", "n_clients": 5, "seed": 0})
    assert split_name({"strategy": "centralized", "n_clients": None, "beta": None, "seed": 0}) == ""


def test_partners_are_found_by_values_that_compare():
    assert axis_key("model.widths", [8, 16]) == "[8, 16]"
    assert axis_key("beta", float("nan")) is None
    assert axis_key("latent.mode", "federated") == "central"
    assert axis_key("latent.mode", "federated", central=False) == "federated"


def grid_of(strategies, **more):
    """A grid of these strategies."""
    axes = {"strategy": strategies, "n_clients": [3], "beta": [0.1], "seed": [0]}
    return parse_grid({"axes": axes, **more}, "grid.toml", "titles")


@dataclass(frozen=True)
class Nudge(FedProx):
    """A user's strategy, which is not FedProx for people either."""


class Twin(FedAvg):
    """A user's strategy with another's title."""

    title = "FedAvg"


def test_strategies_have_titles_as_papers_write_them():
    asked = ["centralized", "fedavg", "fedprox(mu=0.1)", "fedadam(beta1=0.9, server_lr=0.01)", f"{__name__}:Nudge"]
    assert list(titles(grid_of(asked)).values()) == [
        "Centralized", "FedAvg", "FedProx, μ = 0.1", "FedAdam, server lr = 0.01, β1 = 0.9", "Nudge, μ = 0.1",
    ]  # fmt: skip


def test_no_two_shipped_strategies_share_a_title():
    own = {name: vars(strategies.load(name))["title"] for name in strategies.registry.names()}
    assert all(own.values())
    assert len(set(own.values())) == len(own)


def test_strategies_of_one_title_keep_their_labels():
    found = titles(grid_of(["fedavg", f"{__name__}:Twin"]))
    assert found == {}


def test_titles_stand_for_strategies_axes_and_values_in_names():
    known = {"fedavg": "FedAvg", "model.widths": "widths", "n_clients": "K", "small": "few steps"}
    labels = {"strategy": "fedavg", "n_clients": 5, "beta": 0.1, "seed": 0, "model.widths": [8], "recipe": "small"}
    assert cell_name(labels, titles=known) == "FedAvg K=5 beta=0.1 seed=0 widths=[8] recipe=few steps"
    text = split_name(labels, known).replace("\N{NO-BREAK SPACE}", " ")
    assert text == "K = 5, β = 0.1, widths = [8], recipe = few steps"


def test_a_grids_labels_stand_before_titles_and_take_strategies_as_the_grid_writes_them():
    labels = {"fedprox": "FedProx (ours)", "beta": "α", "fedavg": "baseline"}
    found = titles(grid_of(["fedavg", "fedprox", "centralized"], labels=labels))
    assert found == {
        "fedavg": "baseline", "fedprox(mu=0.1)": "FedProx (ours)", "centralized": "Centralized", "beta": "α",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (
            {"fedprx": "x"},
            "grid.toml: labels: 'fedprx' is no strategy, axis or recipe of this grid \\(did you mean 'fedprox",
        ),
        (
            {"fedavg": "one", "fedprox": "one"},
            "labels: fedprox: got 'one'; it must be a text that nothing else is called by",
        ),
        ({"fedavg": " "}, "labels: fedavg: got ' '"),
        ({"fedavg": "--"}, "labels: fedavg: got '--'"),
        (
            {"fedavg": "FedProx, μ = 0.1"},
            "labels: fedavg: got 'FedProx, μ = 0.1'; it must be a text that nothing else is called by",
        ),
        ({"n_clients": "beta"}, "labels: n_clients: got 'beta'"),
        ({"fedavg": 3}, "labels"),
    ],
)
def test_a_label_of_nothing_or_of_two_things_is_refused(labels, told):
    with pytest.raises(ConfigError, match=told):
        grid_of(["fedavg", "fedprox"], labels=labels)


def test_labels_of_what_set_takes_out_of_a_grid_are_no_mistake():
    raw = {
        "axes": {"strategy": ["fedavg", "fedprox"], "n_clients": [3], "beta": [0.1], "seed": [0]},
        "recipes": {"few": {"training": {"rounds": 1}}, "many": {"training": {"rounds": 2}}},
        "labels": {"fedprox": "pulled", "recipe": "Variant", "few": "one round", "training": {"batch_size": "B"}},
    }
    found = parse_grid(
        raw, "grid.toml", "mine", ["strategy=fedavg,fedprox(mu=1.0)", "training.batch_size=16,32"]
    ).labels
    assert found == {"fedprox(mu=0.1)": "pulled", "recipe": "Variant", "few": "one round", "training.batch_size": "B"}
