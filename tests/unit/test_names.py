"""Names of cells, splits and axis values."""

import numpy as np
import pandas as pd
import pytest

from bench.config.names import axis_key, cell_name, exact_text, split_name, value_text

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
    assert axis_key("latent.mode", "federated", baseline="fedavg") == "federated"
