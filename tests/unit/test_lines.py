"""What training had cost after each round, and the page's curves over it."""

import numpy as np
import pytest

from bench.report.lines import costs
from bench.report.metrics import COSTS
from bench.report.page.data import page_data
from bench.report.results import ReadOnce
from bench.store.files import read_json, write_json
from tests import fake_store

LINES = [
    {"round": 1, "bytes_up": 1e6, "bytes_down": 2e6, "samples": 40, "sequential_steps": 5, "seconds": 1.5},
    {"round": 2, "bytes_up": 2e6, "bytes_down": 4e6, "samples": 80, "seconds": 3.0},
]
FIRST_STAGE = {"autoencoder_bytes_up": 5e6, "autoencoder_bytes_down": 6e6, "autoencoder_seconds": 10.0}


@pytest.mark.parametrize(("metrics", "megabytes", "seconds"), [({}, 0.0, 0.0), (FIRST_STAGE, 11.0, 10.0)])
def test_costs_are_totals_with_the_autoencoders(metrics, megabytes, seconds):
    spent = costs(LINES, metrics)
    assert spent.keys() == COSTS.keys()
    assert spent["megabytes"].tolist() == [3.0 + megabytes, 6.0 + megabytes]
    assert spent["seconds"].tolist() == [1.5 + seconds, 3.0 + seconds]
    assert spent["samples"].tolist() == [40, 80]
    assert spent["sequential_steps"][0] == 5
    assert np.isnan(spent["sequential_steps"][1])


def test_nothing_was_spent_before_the_first_round():
    assert all(len(values) == 0 for values in costs([], FIRST_STAGE).values())


def test_the_pages_megabytes_and_seconds_count_the_autoencoders(tmp_path):
    store = fake_store.finished_store(tmp_path, {"strategy": ["fedavg"], "n_clients": [3], "beta": [0.1], "seed": [0]})
    (cell,) = store.planned()
    before = page_data(ReadOnce(store.root))["cells"][0]
    path = store.cell(cell.cell_id).path / "result.json"
    result = read_json(path)
    write_json(path, result | {"metrics": result["metrics"] | FIRST_STAGE})
    after = page_data(ReadOnce(store.root))["cells"][0]
    for axis, more in (("megabytes", 11.0), ("seconds", 10.0)):
        assert after["curves"]["axes"][axis] == pytest.approx(np.add(before["curves"]["axes"][axis], more), rel=1e-4)
    assert after["seconds"] == pytest.approx(before["seconds"] + 10.0, rel=1e-4)
    assert after["curves"]["axes"]["images"] == before["curves"]["axes"]["images"]
