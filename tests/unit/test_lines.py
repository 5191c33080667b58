"""What training had cost after each round, and the page's curves over it."""

import numpy as np
import pytest

from bench.report.lines import Line, seeds_note
from bench.report.metrics import COSTS
from bench.report.results import Cell
from bench.store.files import read_json, write_json
from tests import fake_store, reports

LINES = [
    {"round": 1, "bytes_up": 1e6, "bytes_down": 2e6, "samples": 40, "sequential_steps": 5, "seconds": 1.5, "time": 0.0},
    {"round": 2, "bytes_up": 2e6, "bytes_down": 4e6, "samples": 80, "seconds": 3.0, "time": 0.0},
]
FIRST_STAGE = {"autoencoder_bytes_up": 5e6, "autoencoder_bytes_down": 6e6, "autoencoder_seconds": 10.0}


def cell_of(tmp_path, rounds, metrics) -> Cell:
    """A finished cell with these rounds and metrics."""
    store = fake_store.planned_store(tmp_path, {"strategy": ["fedavg"], "n_clients": [3], "beta": [0.1], "seed": [0]})
    (planned,) = store.planned()
    folder = fake_store.begin(store, planned)
    folder.append("metrics.jsonl", rounds)
    write_json(
        folder.path / "result.json", {"cell_id": planned.cell_id, "config": {}, "metrics": metrics, "finished": 1.0}
    )
    return reports.read(store).cells[0]


@pytest.mark.parametrize(("metrics", "megabytes", "seconds"), [({}, 0.0, 0.0), (FIRST_STAGE, 11.0, 10.0)])
def test_costs_are_totals_with_the_autoencoders(tmp_path, metrics, megabytes, seconds):
    spent = cell_of(tmp_path, LINES, metrics).costs
    assert spent.keys() == COSTS.keys()
    assert spent["megabytes"].tolist() == [3.0 + megabytes, 6.0 + megabytes]
    assert spent["seconds"].tolist() == [1.5 + seconds, 3.0 + seconds]
    assert spent["samples"].tolist() == [40, 80]
    assert spent["sequential_steps"][0] == 5
    assert np.isnan(spent["sequential_steps"][1])


def test_nothing_was_spent_before_the_first_round(tmp_path):
    assert all(len(values) == 0 for values in cell_of(tmp_path, [], FIRST_STAGE).costs.values())


def line(*seeds: list[float]) -> Line:
    return Line(np.arange(len(seeds[0])), np.array(seeds))


def test_a_band_is_the_range_of_two_seeds_and_an_interval_from_three_on():
    assert line([1.0, 2.0]).band is None
    low, high = line([1.0, 5.0], [3.0, 2.0]).band
    assert (low.tolist(), high.tolist()) == ([1.0, 2.0], [3.0, 5.0])
    three = line([1.0], [2.0], [3.0])
    low, high = three.band
    half = 4.302652729911275 / np.sqrt(3)  # Student's t of two degrees of freedom
    assert (low[0], high[0]) == pytest.approx((2 - half, 2 + half))
    assert three.mean.tolist() == [2.0]


def test_the_note_says_how_many_seeds_and_which_band():
    one, two, three = line([1.0]), line([1.0], [2.0]), line([1.0], [2.0], [3.0])
    assert seeds_note([]) == seeds_note([one]) == ""
    assert seeds_note([one, two]) == "means of 1 to 2 seeds; bands: from the lowest seed to the highest"
    assert seeds_note([three]) == "means of 3 seeds; bands: 95 % t interval of the mean over seeds"
    assert seeds_note([two, three]).endswith("over seeds; of two seeds from the lower to the higher")


def test_the_pages_megabytes_and_seconds_count_the_autoencoders(tmp_path):
    store = fake_store.finished_store(tmp_path, {"strategy": ["fedavg"], "n_clients": [3], "beta": [0.1], "seed": [0]})
    (cell,) = store.planned()
    before = reports.page_data(store)["cells"][0]
    path = store.cell(cell.cell_id).path / "result.json"
    result = read_json(path)
    write_json(path, result | {"metrics": result["metrics"] | FIRST_STAGE})
    after = reports.page_data(store)["cells"][0]
    for axis, more in (("megabytes", 11.0), ("seconds", 10.0)):
        assert after["curves"]["axes"][axis] == pytest.approx(np.add(before["curves"]["axes"][axis], more), rel=1e-4)
    assert after["seconds"] == pytest.approx(before["seconds"] + 10.0, rel=1e-4)
    assert after["curves"]["axes"]["images"] == before["curves"]["axes"]["images"]


def test_rounds_that_some_seeds_lack_are_the_mean_of_the_others():
    """As cosines are, of which a round with fewer than two updates has none."""
    some = line([1.0, np.nan, 3.0], [2.0, 4.0, np.nan], [6.0, np.nan, np.nan])
    assert some.mean.tolist() == [3.0, 4.0, 3.0]
    low, high = some.band
    assert np.isfinite(low[0])
    assert np.isnan([low[1:], high[1:]]).all()
    two = line([1.0, np.nan], [2.0, 4.0])
    assert [end.tolist() for end in two.band] == [[1.0, 4.0], [2.0, 4.0]]
