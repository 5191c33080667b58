"""Comparisons paired by seed, with a baseline and along axes: against SciPy and by hand."""

import math
import random

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.report import contrasts, stats
from bench.report.summary import Rows
from bench.store.files import read_json, write_json
from bench.store.grid_folder import Store
from tests import fake_store, reports
from tests.reports import table_of_cells

SMALL = {"strategy": ["centralized", "fedavg"], "n_clients": [3]}
STEPS = "training.local_steps"


def compared(rows: pd.DataFrame, **settings) -> pd.DataFrame:
    return contrasts.differences(Rows(rows), ["fid"], **settings).set_index("strategy")


# ------------------------------------------------------------------------------------------------- differences

central, ours = ("centralized", None, None), ("fedavg", 3, 0.1)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=2, max_size=6))
def test_paired_differences_are_those_of_scipy(pairs):
    a, b = np.array(pairs).round(3).T
    found = compared(table_of_cells({central: list(b), ours: list(a)})).loc["fedavg"]
    assert (found["mean"], found["n"]) == (pytest.approx(np.mean(a - b)), len(a))
    if np.std(a - b) > 1e-3:
        oracle = scipy.stats.ttest_rel(a, b).confidence_interval()
        assert (found["low"], found["high"]) == pytest.approx((oracle.low, oracle.high), rel=1e-5, abs=1e-5)


def test_seeds_pair_and_not_places(tmp_path):
    """Seeds 0 and 2 of fedavg are finished, 1 and 2 of centralized training: they have seed 2 in common."""
    found = compared(table_of_cells({central: [None, 5.0, 1.0], ours: [100.0, None, 4.0]})).loc["fedavg"]
    assert (found["n"], found["mean"], found["p_sign"]) == (1, 3.0, 1.0)
    assert math.isnan(found["sd"])
    assert found["note"] == "1 seed: the smallest p is 1; 1 comparison needs 6 seeds"


def test_differences_to_a_strategy_are_within_its_block():
    numbers = {
        central: [0.0, 0.0],
        ("fedavg", 3, 0.1): [10.0, 20.0],
        ("scaffold", 3, 0.1): [11.0, 22.0],
        ("fedavg", 5, 0.1): [50.0, 60.0],
        ("scaffold", 5, 0.1): [49.0, 57.0],
        ("scaffold", 5, 1.0): [1.0, 1.0],
    }
    found = contrasts.differences(Rows(table_of_cells(numbers)), ["fid"], "fedavg")
    assert list(found["strategy"]) == ["scaffold"] * 3
    assert list(zip(found["n_clients"], found["beta"], found["n"], strict=True)) == [
        (3, 0.1, 2),
        (5, 0.1, 2),
        (5, 1.0, 0),
    ]
    assert found["mean"].to_list() == pytest.approx([1.5, -2.0, math.nan], nan_ok=True)
    assert found["note"].to_list()[1:] == [
        "2 seeds: the smallest p is 0.5; 2 comparisons need 7 seeds", "no seed has this number on both sides",
    ]  # fmt: skip


def test_differences_to_a_strategy_are_within_every_further_axis():
    rows = pd.concat(
        [
            table_of_cells({("fedavg", 3, 0.1): [1.0], ("scaffold", 3, 0.1): [2.0]}, partition="iid"),
            table_of_cells({("fedavg", 3, 0.1): [10.0], ("scaffold", 3, 0.1): [30.0]}, partition="dirichlet"),
            table_of_cells({("centralized", None, None): [0.5]}, partition=None),
        ],
        ignore_index=True,
    )
    within = contrasts.differences(Rows(rows, ("partition",)), ["fid"], "fedavg")
    assert dict(zip(within["partition"], within["mean"], strict=True)) == {"iid": 1.0, "dirichlet": 20.0}
    shared = contrasts.differences(Rows(rows, ("partition",)), ["fid"])
    assert sorted(shared["mean"]) == [0.5, 1.5, 9.5, 29.5]


def test_differences_to_centralized_training_with_a_clients_steps_are_to_that_of_as_many():
    matched = "centralized-matched"
    rows = pd.concat(
        [
            table_of_cells({(matched, None, None): [base], ("fedavg", 3, 0.1): [base + 2.0]}).assign(**{STEPS: steps})
            for steps, base in ((5, 10.0), (10, 20.0))
        ]
        + [table_of_cells({("centralized", None, None): [0.5]}).assign(**{STEPS: None})],
        ignore_index=True,
    )
    found = contrasts.differences(Rows(rows, (STEPS,)), ["fid"], matched)
    assert found[[STEPS, "strategy", "n", "mean"]].to_numpy().tolist() == [
        [5, "fedavg", 1, 2.0],
        [10, "fedavg", 1, 2.0],
    ]
    plain = contrasts.differences(Rows(rows.drop(columns=STEPS).iloc[:2]), ["fid"], matched)
    assert plain["mean"].tolist() == [2.0]


def test_a_baseline_must_be_one_of_the_grids():
    rows = table_of_cells({central: [1.0], ours: [2.0]})
    with pytest.raises(ValueError, match="got 'fedprox'; there are centralized, fedavg"):
        contrasts.differences(Rows(rows), ["fid"], "fedprox")


def test_without_the_baseline_every_row_says_so():
    found = contrasts.differences(Rows(table_of_cells({ours: [1.0, 2.0], ("scaffold", 3, 0.1): [1.0, 2.0]})), ["fid"])
    assert list(found["n"]) == [0, 0]
    assert set(found["note"]) == {"no seed has this number on both sides"}
    assert found[["mean", "low", "p_sign"]].isna().all(axis=None)


def test_baselines_are_offered_by_their_labels(tmp_path):
    store = fake_store.planned_store(tmp_path, {"strategy": ["fedavg", "fedprox(mu=0.1)"]})
    assert contrasts.baselines(reports.read(store)) == ["centralized", "fedavg", "fedprox(mu=0.1)"]


def test_metrics_that_no_cell_has_are_left_out():
    rows = table_of_cells({central: [1.0], ours: [2.0]}).assign(epsilon=math.nan)
    assert list(contrasts.differences(Rows(rows), ["fid", "epsilon", "bits_per_dim"])["metric"]) == ["fid"]


@pytest.mark.parametrize(
    ("seeds", "strategies", "reachable"), [(6, 1, True), (5, 1, False), (7, 2, True), (6, 2, False)]
)
def test_an_adjusted_p_is_given_where_the_seeds_can_reach_it(seeds, strategies, reachable):
    steady = {(f"s{k}", 3, 0.1): [2.0 + k + 0.1 * seed for seed in range(seeds)] for k in range(strategies)}
    found = compared(table_of_cells({central: [1.0] * seeds} | steady))
    assert set(found["p_sign"]) == {2.0 ** (1 - seeds)}
    if reachable:
        assert set(found["p_sign_holm"]) == {strategies * 2.0 ** (1 - seeds)}
        assert set(found["note"]) == {""}
    else:
        assert all(p is None for p in found["p_sign_holm"])
        assert all(
            note.startswith(f"{seeds} seeds: the smallest p is {2.0 ** (1 - seeds):.2g}; ") for note in found["note"]
        )


def test_the_note_of_three_seeds_and_eight_comparisons():
    strategies = {(f"s{k}", 3, 0.1): [1.0, 2.0, 3.0] for k in range(8)}
    found = compared(table_of_cells({central: [0.0] * 3} | strategies))
    assert set(found["note"]) == {"3 seeds: the smallest p is 0.25; 8 comparisons need 9 seeds"}


def test_a_comparison_with_fewer_seeds_is_adjusted_only_as_far_as_it_can_be():
    """Nine seeds can reject first, two cannot even then; what has no pair is no comparison."""
    many, few = [2.0 + 0.1 * k for k in range(9)], [3.0, 3.1, *[None] * 7]
    found = compared(
        table_of_cells({central: [1.0] * 9, ("a", 3, 0.1): many, ("b", 3, 0.1): few, ("c", 3, 0.1): [None] * 9})
    )
    assert found["p_sign_holm"].to_list() == [2 * 2.0**-8, None, None]
    assert found.loc["b", "note"] == "2 seeds: the smallest p is 0.5; 2 comparisons need 7 seeds"


def test_families_are_of_one_metric():
    rows = table_of_cells({central: [1.0] * 6, ours: [2.0 + 0.1 * k for k in range(6)]}).assign(
        class_tv=lambda r: r["fid"] / 9
    )
    found = contrasts.differences(Rows(rows), ["fid", "class_tv"])
    assert list(found["p_sign_holm"]) == [2.0**-5] * 2


def test_the_order_of_the_rows_does_not_matter():
    numbers = {central: [1.0, 2.0, 3.0], ours: [4.0, 6.0, 7.0], ("scaffold", 3, 0.1): [3.0, None, 9.0]}
    numbers |= {("fedavg", 5, 0.1): [5.0, 6.0, 8.0], ("fedavg", 3, 1.0): [4.5, 6.1, 7.3]}
    rows = table_of_cells(numbers)
    mixed = rows.sample(frac=1, random_state=3)
    by = ["strategy", "n_clients", "beta"]
    for compare in (
        lambda r: contrasts.differences(Rows(r), ["fid"]),
        lambda r: contrasts.differences(Rows(r), ["fid"], "fedavg"),
        lambda r: contrasts.contrasts(Rows(r), ["fid"]),
    ):
        one, other = (compare(r).sort_values(by, ignore_index=True) for r in (rows, mixed))
        pd.testing.assert_frame_equal(one, other)


# ----------------------------------------------------------------------------------------- due to the images alone


def test_the_images_interval_pairs_replicates():
    """The same resample errs alike in both cells: what is left is the difference of their errors."""
    rows = table_of_cells({central: [10.0], ours: [15.0]})
    common = random.Random(0).choices(range(100), k=400)
    replicates = {
        "centralized-None-None-0": common,
        "fedavg-3-0.1-0": [c + 8.0 + (k % 2) for k, c in enumerate(common)],
    }
    found = compared(rows, replicates=replicates).loc["fedavg"]
    assert (found["images_low"], found["images_high"]) == pytest.approx((4.5, 5.5))


def test_the_images_interval_is_of_the_mean_over_seeds():
    """Errors of the seeds that cancel in every replicate leave nothing open."""
    rows = table_of_cells({central: [10.0, 10.0], ours: [15.0, 17.0]})
    wave = np.sin(np.arange(50.0))
    replicates = {cell: np.zeros(50) for cell in rows["cell_id"]}
    replicates |= {"fedavg-3-0.1-0": 5 + wave, "fedavg-3-0.1-1": 7 - wave}
    found = compared(rows, replicates=replicates).loc["fedavg"]
    assert (found["images_low"], found["images_high"]) == pytest.approx((6.0, 6.0))


@pytest.mark.parametrize("fedavgs", [None, [1.0], [1.0, 2.0, 3.0]])
def test_replicates_that_do_not_pair_give_no_interval(fedavgs):
    rows = table_of_cells({central: [10.0], ours: [15.0]})
    replicates = {"centralized-None-None-0": [1.0, 2.0]} | ({"fedavg-3-0.1-0": fedavgs} if fedavgs else {})
    found = compared(rows, replicates=replicates).loc["fedavg"]
    assert np.isnan([found["images_low"], found["images_high"]]).all()


def test_replicates_come_from_the_results_and_serve_fid_alone(tmp_path):
    store = fake_store.finished_store(tmp_path, SMALL, missing=[3])
    old = store.cell(store.planned()[0].cell_id)
    result = read_json(old.path / "result.json")
    del result["bootstrap"]
    write_json(old.path / "result.json", result)
    replicates = contrasts.fid_replicates(reports.read(store))
    assert list(replicates) == [cell.cell_id for cell in store.planned()[1:3]]
    rows = reports.rows_of(fake_store.finished_store(tmp_path / "all", SMALL)).frame
    replicates = contrasts.fid_replicates(reports.read(Store(tmp_path / "all" / "fake")))
    found = contrasts.differences(Rows(rows), ["fid", "kid_mean"], replicates=replicates).set_index("metric")
    assert found.loc["fid", "images_low"] == pytest.approx(found.loc["fid", "mean"])  # the same errors in all
    assert math.isnan(found.loc["kid_mean", "images_low"])


# ---------------------------------------------------------------------------------------------------- contrasts

GRID = {
    central: [1.0, 1.0, 1.0],
    ("fedprox", 3, 0.1): [3.0, 5.0, 4.0], ("fedprox", 3, 100.0): [2.0, 2.5, 2.0],
    ("fedprox", 5, 0.1): [7.0, 7.5, 9.0], ("fedprox", 5, 100.0): [4.0, 5.0, 6.5],
    ("fedavg", 3, 0.1): [2.5, 4.0, 3.0], ("fedavg", 3, 100.0): [2.0, 2.0, 1.5],
    ("fedavg", 5, 0.1): [6.0, 7.0, 9.5], ("fedavg", 5, 100.0): [5.0, 5.5, 5.0],
}  # fmt: skip
PLACE = ["axis", "strategy", "n_clients", "beta"]


def along(rows: pd.DataFrame, references: dict | None = None, extra_axes: tuple[str, ...] = ()) -> pd.DataFrame:
    return contrasts.contrasts(Rows(rows, extra_axes), ["fid"], references)


def test_every_axis_is_contrasted_at_equal_values_of_the_others():
    found = along(table_of_cells(GRID))
    assert found.groupby("axis", sort=False)["reference"].first().to_dict() == {
        "strategy": "fedavg", "n_clients": 3, "beta": 100.0,
    }  # fmt: skip
    assert found.groupby("axis", sort=False).size().to_dict() == {"strategy": 4, "n_clients": 4, "beta": 4}
    partner = {"strategy": lambda s, n, b: ("fedavg", n, b), "n_clients": lambda s, n, b: (s, 3, b),
               "beta": lambda s, n, b: (s, n, 100.0)}  # fmt: skip
    for row in found.to_dict("records"):
        place = (row["strategy"], row["n_clients"], row["beta"])
        a, b = np.array(GRID[place]), np.array(GRID[partner[row["axis"]](*place)])
        oracle = scipy.stats.ttest_rel(a, b)
        assert row["mean"] == pytest.approx(np.mean(a - b))
        assert (row["low"], row["high"]) == pytest.approx(tuple(oracle.confidence_interval()))
        assert (row["p_t"], row["n"]) == (pytest.approx(oracle.pvalue), 3)
        flips = scipy.stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert row["p_sign"] == pytest.approx(min(flips.pvalue, 1.0))
        assert row["relative"] == pytest.approx(a.mean() / b.mean() - 1)
        assert row["correlation"] == pytest.approx(scipy.stats.pearsonr(a, b).statistic)


def test_both_p_are_adjusted_within_an_axis_and_metric():
    rows = table_of_cells({place: [*values, *values[::-1], 5.0] for place, values in GRID.items()})
    found = contrasts.contrasts(Rows(rows.assign(class_tv=rows["fid"] ** 2)), ["fid", "class_tv"])
    for _, family in found.groupby(["axis", "metric"]):
        assert len(family) == 4
        assert list(family["p_t_holm"]) == pytest.approx(list(stats.holm(family["p_t"])))
    steady = table_of_cells({("fedavg", 3, b): [k + b / 10 for k in range(6)] for b in (1.0, 100.0)})
    (row,) = along(steady).to_dict("records")
    assert (row["p_sign_holm"], row["note"]) == (2.0**-5, "")


def test_contrasts_are_to_what_is_asked_for():
    found = along(table_of_cells(GRID), {"beta": 0.1, "strategy": "fedprox"})
    assert found.groupby("axis")["reference"].first().to_dict() == {"beta": 0.1, "n_clients": 3, "strategy": "fedprox"}
    usual = along(table_of_cells(GRID))
    assert set(found.loc[found["axis"] == "beta", "mean"]) == {-m for m in usual.loc[usual["axis"] == "beta", "mean"]}
    with pytest.raises(ValueError, match=r"reference of beta: got 7; there are 0\.1, 100\.0"):
        along(table_of_cells(GRID), {"beta": 7})


def test_without_fedavg_the_first_federated_strategy_is_what_others_are_held_against():
    numbers = {central: [1.0] * 3, ("b", 3, 0.1): [1.0, 2.0, 3.0], ("a", 3, 0.1): [1.0, 2.0, 4.0]}
    (row,) = along(table_of_cells(numbers)).to_dict("records")
    assert (row["strategy"], row["reference"], row["mean"]) == ("a", "b", pytest.approx(1 / 3))


def test_what_has_no_like_in_the_plan_is_no_contrast_and_what_is_not_finished_is_one_without_a_number():
    numbers = {("fedavg", 3, 0.1): [1.0, 2.0], ("fedavg", 5, 1.0): [1.0, 2.0], ("fedavg", 5, 100.0): [None, None]}
    found = along(table_of_cells(numbers))
    assert found[PLACE].values.tolist() == [["beta", "fedavg", 5, 1.0]]
    assert (found["n"].item(), found["note"].item()) == (0, "no seed has this number on both sides")
    assert along(table_of_cells({("fedavg", 3, 0.1): [1.0, 2.0]})).empty


def test_further_axes_are_contrasted_with_their_first_value_and_so_is_centralized_training():
    steps = [table_of_cells({central: [1.0 + more], ours: [2.0 + 3 * more]}).assign(**{"sampler.steps": 10 * (1 + more)})
             for more in (1, 0, 2)]  # fmt: skip
    found = along(pd.concat(steps, ignore_index=True), extra_axes=("sampler.steps",))
    assert set(found["axis"]) == {"sampler.steps"}
    assert set(found["reference"]) == {20}
    told = found.set_index(["strategy", "sampler.steps"])["mean"].to_dict()
    assert told == {("centralized", 10): -1, ("centralized", 30): 1, ("fedavg", 10): -3, ("fedavg", 30): 3}


def test_axes_of_lists_are_contrasted(tmp_path):
    store = fake_store.finished_store(tmp_path, {"model.widths": [[8, 16], [16, 16]], "n_clients": [3]})
    made = contrasts.contrasts(reports.rows_of(store), ["fid"], {"model.widths": [16, 16]})
    found = made[made["axis"] == "model.widths"]
    assert (set(found["model.widths"]), set(found["reference"])) == ({"[8, 16]"}, {"[16, 16]"})
    assert list(found["strategy"]) == ["centralized", "fedavg", "fedprox(mu=0.1)"]


@settings(max_examples=4)
@given(st.permutations(sorted(GRID, key=str)))
def test_a_contrast_is_the_negative_of_the_one_the_other_way_round(places):
    rows = table_of_cells({place: GRID[place] for place in places})
    forth, back = along(rows, {"n_clients": 3}), along(rows, {"n_clients": 5})
    one, other = (made[made["axis"] == "n_clients"].sort_values(["strategy", "beta"]) for made in (forth, back))
    for a, b in (("mean", "mean"), ("low", "high"), ("high", "low")):
        assert list(one[a]) == pytest.approx([-value for value in other[b]])
    for same in ("p_t", "p_sign", "p_t_holm", "correlation", "pairing", "sd"):
        assert list(one[same]) == pytest.approx(list(other[same]))
