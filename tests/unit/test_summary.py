"""Rows, means over seeds, paired differences, ranks: against SciPy and by hand."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.report import curves, metrics, summary
from bench.report.metrics import METRICS, Metric
from bench.report.summary import Rows
from bench.store.files import read_json, write_json
from bench.store.grid_folder import PlannedCell, Store
from tests import fake_store, reports

SMALL = {"strategy": ["centralized", "fedavg"], "n_clients": [3]}


def rows_of(numbers: dict[tuple, list[float | None]], metric: str = "fid", **more: str) -> pd.DataFrame:
    """Rows of cells by (strategy, n_clients, beta), a value a seed; None: that cell has failed."""
    made = [
        {
            "cell_id": f"{strategy}-{n}-{beta}-{seed}", "state": "failed" if value is None else "done",
            "strategy": strategy, "n_clients": n, "beta": beta, "seed": seed, metric: value, **more,
        }
        for (strategy, n, beta), values in numbers.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(made).astype({"n_clients": "Int64", metric: float})


def compared(rows: pd.DataFrame, **settings) -> pd.DataFrame:
    return summary.differences(Rows(rows), ["fid"], **settings).set_index("strategy")


def tell_losses(store: Store, cell: PlannedCell, losses: list[float]) -> None:
    """Let a cell's validation losses be these, by round."""
    folder = store.cell(cell.cell_id)
    (folder.path / "metrics.jsonl").unlink()
    lines = [fake_store.round_record(cell, k) | {"validation_loss": loss} for k, loss in enumerate(losses, start=1)]
    folder.append("metrics.jsonl", lines)
    result = read_json(folder.path / "result.json")
    write_json(folder.path / "result.json", result | {"metrics": result["metrics"] | {"validation_loss": losses[-1]}})


def planted(results: Path, losses: dict[str, list[float]], axes: dict | None = None, **settings) -> pd.DataFrame:
    """Rows of a grid whose strategies have these validation losses by round, in every cell."""
    store = fake_store.finished_store(results, SMALL | {"seed": [0]} | (axes or {}), **settings)
    for cell in store.planned():
        tell_losses(store, cell, losses[cell.labels["strategy"]])
    return reports.rows_of(store).frame


# ----------------------------------------------------------------------------------------------- rows: curves


def test_rows_tell_what_curves_say(tmp_path):
    rows = planted(tmp_path, {"centralized": [0.9, 0.5, 0.7, 0.4], "fedavg": [0.9, 0.8, 0.4, 0.6, 0.3]})
    rows = rows.set_index("strategy")
    fedavg = rows.loc["fedavg"]
    assert fedavg["validation_area"] == pytest.approx((0.85 + 0.6 + 0.5 + 0.45) / 4)
    assert fedavg["validation_roughness"] == pytest.approx((0.1 + 0.4 + 0.2 + 0.3) / 0.6)
    reached = fedavg[["reached_centralized", "rounds_to_centralized", "samples_to_centralized"]]
    assert list(reached) == [1, 3, 600]
    assert fedavg["megabytes_to_centralized"] == pytest.approx(2 * 0.4 * 3 * 3)
    assert rows.loc["centralized", "rounds_to_centralized"] == 4
    assert rows.loc["centralized", "megabytes_to_centralized"] == 0


def test_train_roughness_is_that_of_the_running_training_loss(tmp_path):
    store = fake_store.finished_store(tmp_path, SMALL)
    rows = reports.rows_of(store).frame.set_index("cell_id")
    for cell in store.planned():
        losses = [loss for k in range(1, 4) for line in fake_store.steps(cell, k) for loss in line["loss"]]
        assert rows.loc[cell.cell_id, "train_roughness"] == pytest.approx(curves.roughness(curves.running_mean(losses)))
    assert rows["train_roughness"].min() > 1


def test_a_loss_that_is_never_reached_has_no_price(tmp_path):
    rows = planted(tmp_path, {"centralized": [0.9, 0.1], "fedavg": [0.9, 0.2]}).set_index("strategy")
    assert rows.loc["fedavg", "reached_centralized"] == 0
    assert rows.loc["fedavg", [f"{axis}_to_centralized" for axis in ("rounds", "samples", "megabytes")]].isna().all()


def test_without_centralized_training_nobody_knows_what_is_reached(tmp_path):
    rows = planted(tmp_path, {"fedavg": [0.9, 0.2]}, {"strategy": ["fedavg"]})
    assert rows[["reached_centralized", "rounds_to_centralized"]].isna().all(axis=None)
    assert rows["validation_area"].notna().all()


def test_without_a_curve_nobody_knows_what_is_reached(tmp_path):
    store = fake_store.finished_store(tmp_path, SMALL | {"seed": [0]})
    (store.cell(store.planned()[1].cell_id).path / "metrics.jsonl").unlink()
    fedavg = reports.rows_of(store).frame.iloc[1]
    assert fedavg[["reached_centralized", "rounds_to_centralized", "validation_area"]].isna().all()
    assert fedavg["train_roughness"] > 1


def test_what_is_reached_is_centralized_training_of_the_same_seed_and_own_axes(tmp_path):
    axes = SMALL | {"seed": [0, 1], "sampler.steps": [5, 10], "training.participation": [0.5, 1.0]}
    store = fake_store.finished_store(tmp_path, axes)
    for cell in store.planned():
        seed, steps = cell.labels["seed"], cell.labels["sampler.steps"]
        own = 0.4 if (seed, steps) == (1, 10) else 0.2
        central = cell.labels["strategy"] == "centralized"
        tell_losses(store, cell, [0.9, own] if central else [0.9, 0.5, 0.3])
    rows = reports.rows_of(store).frame
    federated = rows[rows["n_clients"].notna()]
    reached = federated["rounds_to_centralized"] == 3
    assert list(reached) == [
        (s, k) == (1, 10) for s, k in zip(federated["seed"], federated["sampler.steps"], strict=True)
    ]
    assert reached.sum() == 2  # participations


def test_bytes_to_centralized_include_the_autoencoders(tmp_path):
    losses = {"centralized": [0.9, 0.5], "fedavg": [0.9, 0.5]}
    latent = {"diffusion": fake_store.SETTINGS["diffusion"], "latent": {"mode": "federated"}}
    rows = planted(tmp_path, losses, **latent).set_index("strategy")
    assert rows.loc["fedavg", "megabytes_to_centralized"] == pytest.approx(2 * 0.4 * 3 * 2 + 0.5)


def test_a_federated_autoencoder_is_compared_with_the_central_one(tmp_path):
    store = fake_store.finished_store(tmp_path, SMALL | {"seed": [0], "latent.mode": ["federated"]})
    rows = reports.rows_of(store).frame
    assert list(rows["latent.mode"]) == ["central", "federated"]
    table = summary.summarise(Rows(rows, ("latent.mode",)))
    assert table["fid_minus_centralized"][1] == pytest.approx(rows["fid"][1] - rows["fid"][0])


@pytest.mark.parametrize("content", ["{]\n", '{"round": 1}\n', '{"round": 1, "client": 0, "loss": ["a"]}\n', "[3]\n"])
def test_a_log_that_cannot_be_read_says_nothing_and_is_told(tmp_path, content):
    store = fake_store.finished_store(tmp_path, SMALL | {"seed": [0]})
    broken = store.cell(store.planned()[1].cell_id).path
    (broken / "steps.jsonl").write_text(content)
    with pytest.warns(UserWarning, match=f"{broken / 'steps.jsonl'} is damaged"):
        rows = reports.rows_of(store).frame
    assert list(rows["train_roughness"].isna()) == [False, True]
    assert rows["fid"].notna().all()


def test_cells_that_are_not_finished_have_no_curve(tmp_path):
    store = fake_store.finished_store(tmp_path, SMALL, missing=[2, 3])
    for number in (2, 3):
        cell = store.planned()[number]
        folder = fake_store.begin(store, cell)
        fake_store.add_rounds(folder, cell, 1, 2)
    fake_store.fail(folder)
    rows = reports.rows_of(store).frame
    assert list(rows["state"]) == ["done", "done", "partial", "failed"]
    assert list(rows["validation_area"].isna()) == [False, False, True, True]


def test_rows_of_a_grid_of_which_nothing_is_finished(tmp_path):
    rows = reports.rows_of(fake_store.planned_store(tmp_path, SMALL)).frame
    assert rows["validation_area"].isna().all()
    assert list(summary.summarise(Rows(rows))["n"]) == [0, 0]
    assert summary.differences(Rows(rows), list(metrics.SUMMARY)).empty
    assert summary.ranks(Rows(rows), "fid", -1).empty
    assert list(marked(rows)["mark"]) == ["", ""]


# -------------------------------------------------------------------------------------------- means over seeds


def test_means_have_the_interval_of_scipy():
    values = [3.0, 4.5, 4.0]
    (row,) = summary.summarise(Rows(rows_of({("fedavg", 3, 0.1): values}))).to_dict("records")
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    assert (row["fid"], row["fid_sd"]) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    assert (row["fid_low"], row["fid_high"]) == (pytest.approx(low), pytest.approx(high))


def test_intervals_count_the_seeds_that_have_the_number():
    """A seed of three is finished but has no such score: the interval is that of two."""
    rows = rows_of({("fedavg", 3, 0.1): [3.0, 4.0, 5.0]}).assign(kid_mean=[1.0, math.nan, 2.0])
    (row,) = summary.summarise(Rows(rows)).to_dict("records")
    assert row["n"] == 3
    assert row["kid_mean_high"] - row["kid_mean"] == pytest.approx(scipy.stats.t.ppf(0.975, 1) * math.sqrt(0.5 / 2))


def test_one_seed_has_no_interval_and_none_no_mean():
    table = summary.summarise(Rows(rows_of({("fedavg", 3, 0.1): [3.0, None], ("fedavg", 5, 0.1): [None, None]})))
    assert list(table["fid"].fillna(-1)) == [3.0, -1]
    assert table[["fid_sd", "fid_low", "fid_high"]].isna().all(axis=None)
    assert list(table["unfinished"]) == ["1 failed", "2 failed"]


def test_differences_to_centralized_training_have_intervals():
    table = summary.summarise(Rows(rows_of({("centralized", None, None): [1.0, 2.0], ("fedavg", 3, 0.1): [4.0, 7.0]})))
    row = table.iloc[1]
    oracle = scipy.stats.ttest_rel([4.0, 7.0], [1.0, 2.0]).confidence_interval()
    assert row["fid_minus_centralized"] == 4.0
    assert (row["fid_minus_centralized_low"], row["fid_minus_centralized_high"]) == pytest.approx(tuple(oracle))
    assert math.isnan(table["fid_minus_centralized"][0])


def test_what_reaching_costs_has_a_mean_only_where_every_seed_reaches_it():
    rows = rows_of(
        {("fedavg", 3, 0.1): [5.0, None, 7.0], ("fedavg", 5, 0.1): [5.0, math.nan, 7.0]}, "rounds_to_centralized"
    )
    rows["state"] = ["done", "failed", "done", "done", "done", "done"]
    table = summary.summarise(Rows(rows))
    assert table["rounds_to_centralized"].to_list() == pytest.approx([6.0, math.nan], nan_ok=True)
    assert table["rounds_to_centralized_high"].isna().to_list() == [False, True]


def test_new_scores_and_those_of_curves_are_summarised(tmp_path):
    rows = reports.rows_of(fake_store.finished_store(tmp_path, SMALL)).frame
    table = summary.summarise(Rows(rows))
    told = ("fid_infinity", "fid_images_sd", "fid_images_bias", "validation_area", "train_roughness")
    for key in told:
        assert table.loc[1, key] == pytest.approx(rows.loc[rows["strategy"] == "fedavg", key].mean())
        assert table.loc[1, f"{key}_low"] <= table.loc[1, key]


# ------------------------------------------------------------------------------------------------- differences

central, ours = ("centralized", None, None), ("fedavg", 3, 0.1)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=2, max_size=6))
def test_paired_differences_are_those_of_scipy(pairs):
    a, b = np.array(pairs).round(3).T
    found = compared(rows_of({central: list(b), ours: list(a)})).loc["fedavg"]
    assert (found["mean"], found["n"]) == (pytest.approx(np.mean(a - b)), len(a))
    if np.std(a - b) > 1e-3:
        oracle = scipy.stats.ttest_rel(a, b).confidence_interval()
        assert (found["low"], found["high"]) == pytest.approx((oracle.low, oracle.high), rel=1e-5, abs=1e-5)


def test_seeds_pair_and_not_places(tmp_path):
    """Seeds 0 and 2 of fedavg are finished, 1 and 2 of centralized training: they have seed 2 in common."""
    found = compared(rows_of({central: [None, 5.0, 1.0], ours: [100.0, None, 4.0]})).loc["fedavg"]
    assert (found["n"], found["mean"], found["p"]) == (1, 3.0, 1.0)
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
    found = summary.differences(Rows(rows_of(numbers)), ["fid"], "fedavg")
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
            rows_of({("fedavg", 3, 0.1): [1.0], ("scaffold", 3, 0.1): [2.0]}, partition="iid"),
            rows_of({("fedavg", 3, 0.1): [10.0], ("scaffold", 3, 0.1): [30.0]}, partition="dirichlet"),
            rows_of({("centralized", None, None): [0.5]}, partition=None),
        ],
        ignore_index=True,
    )
    within = summary.differences(Rows(rows, ("partition",)), ["fid"], "fedavg")
    assert dict(zip(within["partition"], within["mean"], strict=True)) == {"iid": 1.0, "dirichlet": 20.0}
    shared = summary.differences(Rows(rows, ("partition",)), ["fid"])
    assert sorted(shared["mean"]) == [0.5, 1.5, 9.5, 29.5]


def test_a_baseline_must_be_one_of_the_grids():
    rows = rows_of({central: [1.0], ours: [2.0]})
    with pytest.raises(ValueError, match="got 'fedprox'; there are centralized, fedavg"):
        summary.differences(Rows(rows), ["fid"], "fedprox")


def test_without_the_baseline_every_row_says_so():
    found = summary.differences(Rows(rows_of({ours: [1.0, 2.0], ("scaffold", 3, 0.1): [1.0, 2.0]})), ["fid"])
    assert list(found["n"]) == [0, 0]
    assert set(found["note"]) == {"no seed has this number on both sides"}
    assert found[["mean", "low", "p"]].isna().all(axis=None)


def test_baselines_are_offered_by_their_labels(tmp_path):
    store = fake_store.planned_store(tmp_path, {"strategy": ["fedavg", "fedprox(mu=0.1)"]})
    assert summary.baselines(reports.read(store)) == ["centralized", "fedavg", "fedprox(mu=0.1)"]


def test_metrics_that_no_cell_has_are_left_out():
    rows = rows_of({central: [1.0], ours: [2.0]}).assign(epsilon=math.nan)
    assert list(summary.differences(Rows(rows), ["fid", "epsilon", "bits_per_dim"])["metric"]) == ["fid"]


@pytest.mark.parametrize(
    ("seeds", "strategies", "reachable"), [(6, 1, True), (5, 1, False), (7, 2, True), (6, 2, False)]
)
def test_an_adjusted_p_is_given_where_the_seeds_can_reach_it(seeds, strategies, reachable):
    steady = {(f"s{k}", 3, 0.1): [2.0 + k + 0.1 * seed for seed in range(seeds)] for k in range(strategies)}
    found = compared(rows_of({central: [1.0] * seeds} | steady))
    assert set(found["p"]) == {2.0 ** (1 - seeds)}
    if reachable:
        assert set(found["p_holm"]) == {strategies * 2.0 ** (1 - seeds)}
        assert set(found["note"]) == {""}
    else:
        assert all(p is None for p in found["p_holm"])
        assert all(
            note.startswith(f"{seeds} seeds: the smallest p is {2.0 ** (1 - seeds):.2g}; ") for note in found["note"]
        )


def test_the_note_of_three_seeds_and_eight_comparisons():
    strategies = {(f"s{k}", 3, 0.1): [1.0, 2.0, 3.0] for k in range(8)}
    found = compared(rows_of({central: [0.0] * 3} | strategies))
    assert set(found["note"]) == {"3 seeds: the smallest p is 0.25; 8 comparisons need 9 seeds"}


def test_a_comparison_with_fewer_seeds_is_adjusted_only_as_far_as_it_can_be():
    """Nine seeds can reject first, two cannot even then; what has no pair is no comparison."""
    many, few = [2.0 + 0.1 * k for k in range(9)], [3.0, 3.1, *[None] * 7]
    found = compared(rows_of({central: [1.0] * 9, ("a", 3, 0.1): many, ("b", 3, 0.1): few, ("c", 3, 0.1): [None] * 9}))
    assert found["p_holm"].to_list() == [2 * 2.0**-8, None, None]
    assert found.loc["b", "note"] == "2 seeds: the smallest p is 0.5; 2 comparisons need 7 seeds"


def test_families_are_of_one_metric():
    rows = rows_of({central: [1.0] * 6, ours: [2.0 + 0.1 * k for k in range(6)]}).assign(
        class_tv=lambda r: r["fid"] / 9
    )
    found = summary.differences(Rows(rows), ["fid", "class_tv"])
    assert list(found["p_holm"]) == [2.0**-5] * 2


def test_the_order_of_the_rows_does_not_matter():
    numbers = {central: [1.0, 2.0, 3.0], ours: [4.0, 6.0, 7.0], ("scaffold", 3, 0.1): [3.0, None, 9.0]}
    rows = rows_of(numbers)
    mixed = rows.sample(frac=1, random_state=3)
    by = ["strategy", "n_clients", "beta"]
    for compare in (
        lambda r: summary.differences(Rows(r), ["fid"]),
        lambda r: summary.differences(Rows(r), ["fid"], "fedavg"),
        lambda r: summary.summarise(Rows(r)).dropna(axis=1, how="all"),
        lambda r: marked(r)[[*by, "mark"]],
    ):
        one, other = (compare(r).sort_values(by, ignore_index=True) for r in (rows, mixed))
        pd.testing.assert_frame_equal(one, other)


# ----------------------------------------------------------------------------------------- due to the images alone


def test_the_images_interval_pairs_replicates():
    """The same resample errs alike in both cells: what is left is the difference of their errors."""
    rows = rows_of({central: [10.0], ours: [15.0]})
    common = random.Random(0).choices(range(100), k=400)
    replicates = {
        "centralized-None-None-0": common,
        "fedavg-3-0.1-0": [c + 8.0 + (k % 2) for k, c in enumerate(common)],
    }
    found = compared(rows, replicates=replicates).loc["fedavg"]
    assert (found["images_low"], found["images_high"]) == pytest.approx((4.5, 5.5))


def test_the_images_interval_is_of_the_mean_over_seeds():
    """Errors of the seeds that cancel in every replicate leave nothing open."""
    rows = rows_of({central: [10.0, 10.0], ours: [15.0, 17.0]})
    wave = np.sin(np.arange(50.0))
    replicates = {cell: np.zeros(50) for cell in rows["cell_id"]}
    replicates |= {"fedavg-3-0.1-0": 5 + wave, "fedavg-3-0.1-1": 7 - wave}
    found = compared(rows, replicates=replicates).loc["fedavg"]
    assert (found["images_low"], found["images_high"]) == pytest.approx((6.0, 6.0))


@pytest.mark.parametrize("fedavgs", [None, [1.0], [1.0, 2.0, 3.0]])
def test_replicates_that_do_not_pair_give_no_interval(fedavgs):
    rows = rows_of({central: [10.0], ours: [15.0]})
    replicates = {"centralized-None-None-0": [1.0, 2.0]} | ({"fedavg-3-0.1-0": fedavgs} if fedavgs else {})
    found = compared(rows, replicates=replicates).loc["fedavg"]
    assert np.isnan([found["images_low"], found["images_high"]]).all()


def test_replicates_come_from_the_results_and_serve_fid_alone(tmp_path):
    store = fake_store.finished_store(tmp_path, SMALL, missing=[3])
    old = store.cell(store.planned()[0].cell_id)
    result = read_json(old.path / "result.json")
    del result["bootstrap"]
    write_json(old.path / "result.json", result)
    replicates = summary.fid_replicates(reports.read(store))
    assert list(replicates) == [cell.cell_id for cell in store.planned()[1:3]]
    rows = reports.rows_of(fake_store.finished_store(tmp_path / "all", SMALL)).frame
    replicates = summary.fid_replicates(reports.read(Store(tmp_path / "all" / "fake")))
    found = summary.differences(Rows(rows), ["fid", "kid_mean"], replicates=replicates).set_index("metric")
    assert found.loc["fid", "images_low"] == pytest.approx(found.loc["fid", "mean"])  # the same errors in all
    assert math.isnan(found.loc["kid_mean", "images_low"])


# --------------------------------------------------------------------------------------------------- ranks, best


def test_ranks_are_over_blocks():
    numbers = {
        central: [0.0, 0.0],
        ("a", 3, 0.1): [1.0, 3.0], ("b", 3, 0.1): [2.0, 2.0], ("c", 3, 0.1): [9.0, 9.0],
        ("a", 5, 0.1): [5.0, 5.0], ("b", 5, 0.1): [4.0, 4.0], ("c", 5, 0.1): [6.0, 6.0],
    }  # fmt: skip
    found = summary.ranks(Rows(rows_of(numbers)), "fid", -1)
    assert found.to_dict("list") == {
        "strategy": ["b", "a", "c"], "blocks": [2, 2, 2], "mean_rank": [1.25, 1.75, 3.0], "wins": [2, 1, 0],
    }  # fmt: skip
    assert list(summary.ranks(Rows(rows_of(numbers)), "fid", 1)["strategy"]) == ["c", "a", "b"]


@given(st.lists(st.integers(0, 4), min_size=2, max_size=8), st.sampled_from([-1, 1]))
def test_ranks_are_scipys(values, better):
    names = [f"s{place}" for place in range(len(values))]
    numbers = {(name, 3, 0.1): [float(value)] for name, value in zip(names, values, strict=True)}
    found = summary.ranks(Rows(rows_of(numbers)), "fid", better).set_index("strategy")["mean_rank"]
    assert found[names].tolist() == scipy.stats.rankdata([-better * value for value in values]).tolist()


def test_ranks_compare_the_seeds_that_all_have():
    """b lacks the hard seed: on the easy one it is worse, though its mean is better."""
    numbers = {
        ("a", 3, 0.1): [1.0, 9.0],
        ("b", 3, 0.1): [2.0, None],
        ("a", 5, 0.1): [1.0, 1.0],
        ("b", 5, 0.1): [None, None],
    }
    found = summary.ranks(Rows(rows_of(numbers)), "fid", -1)
    assert found.to_dict("list") == {"strategy": ["a", "b"], "blocks": [1, 1], "mean_rank": [1.0, 2.0], "wins": [1, 0]}


def test_who_finished_nothing_is_not_ranked_and_keeps_nobody_from_being():
    numbers = {("a", 3, 0.1): [1.0], ("b", 3, 0.1): [2.0], ("gone", 3, 0.1): [None]}
    assert list(summary.ranks(Rows(rows_of(numbers)), "fid", -1)["strategy"]) == ["a", "b"]
    apart = summary.ranks(Rows(rows_of({("a", 3, 0.1): [1.0], ("b", 5, 0.1): [2.0]})), "fid", -1)
    assert list(apart["blocks"]) == [0, 0]
    assert apart["mean_rank"].isna().all()


def test_a_strategy_alone_is_not_ranked():
    assert summary.ranks(Rows(rows_of({central: [0.0], ("a", 3, 0.1): [1.0], ("a", 5, 0.1): [1.0]})), "fid", -1).empty


def test_who_reaches_centralized_training_in_one_seed_only_has_no_cost_to_be_compared():
    """Its one number would flatter it: the seeds in which it never gets there have none."""
    metric = "rounds_to_centralized"
    rows = rows_of(
        {("a", 3, 0.1): [2.0, 9.0, 9.0], ("b", 3, 0.1): [4.0, 5.0, 6.0], ("c", 3, 0.1): [5.0, 6.0, 6.0]}, metric
    )
    rows.loc[(rows["strategy"] == "a") & (rows["seed"] > 0), metric] = math.nan
    found = marked(rows, METRICS[metric]).set_index("strategy")["mark"]
    assert found.to_dict() == {"a": "", "b": "best", "c": "tied"}
    assert list(summary.ranks(Rows(rows), metric, -1)["strategy"]) == ["b", "c"]
    assert summary.differences(Rows(rows), [metric], "b").empty


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=5))
def test_mean_ranks_are_those_of_scipy(blocks):
    numbers = {(f"s{k}", n, 0.1): [value] for n, block in enumerate(blocks, start=2) for k, value in enumerate(block)}
    found = summary.ranks(Rows(rows_of(numbers)), "fid", -1).set_index("strategy")
    oracle = scipy.stats.rankdata(np.array(blocks), axis=1).mean(axis=0)
    assert [found.loc[f"s{k}", "mean_rank"] for k in range(3)] == pytest.approx(list(oracle))


def marked(
    frame: pd.DataFrame, metric: Metric = METRICS["fid"], digits: int = 6, extra_axes: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Means over seeds with their marks."""
    rows = Rows(frame, extra_axes)
    means = summary.summarise(rows)
    return means.assign(mark=summary.marks(rows, means, metric, digits))


def marks(rows: pd.DataFrame, better: int = -1, digits: int = 6) -> dict[str, str]:
    """By federated strategy, of one split."""
    found = marked(rows, replace(METRICS["fid"], better=better), digits).dropna(subset="n_clients")
    return dict(zip(found["strategy"], found["mark"], strict=True))


def test_what_the_seeds_cannot_tell_from_the_best_ties_with_it():
    numbers = {
        central: [0.0] * 3,
        ("a", 3, 0.1): [1.0, 2.0, 3.0],
        ("close", 3, 0.1): [1.4, 1.9, 3.1],
        ("worse", 3, 0.1): [2.0, 3.1, 4.0],
    }
    assert marks(rows_of(numbers)) == {"a": "best", "close": "tied", "worse": ""}
    assert marks(rows_of(numbers), better=1) == {"a": "", "close": "", "worse": "best"}


def test_ties_are_paired_by_seed():
    """Seeds differ far more than strategies do: only their differences tell that b is worse."""
    numbers = {("a", 3, 0.1): [1.0, 50.0, 90.0], ("b", 3, 0.1): [1.5, 50.4, 90.6]}
    assert marks(rows_of(numbers)) == {"a": "best", "b": ""}


def test_equal_rows_are_both_best():
    assert marks(rows_of({("a", 3, 0.1): [1.0, 2.0], ("b", 3, 0.1): [2.0, 1.0]})) == {"a": "best", "b": "best"}


def test_what_shows_the_same_digits_as_the_best_is_best():
    rows = rows_of({("a", 3, 0.1): [1.0, 2.0], ("b", 3, 0.1): [1.006, 1.998], ("c", 3, 0.1): [1.1, 2.2]})
    assert marks(rows, digits=3)["b"] == "tied"
    assert marks(rows, digits=2) == {"a": "best", "b": "best", "c": "tied"}


def test_with_one_common_seed_it_is_not_tested():
    one = rows_of({("a", 3, 0.1): [1.0], ("b", 3, 0.1): [1.0001]})
    assert marks(one) == {"a": "best", "b": "untested"}
    other = rows_of({("a", 3, 0.1): [1.0, None, 1.2], ("b", 3, 0.1): [1.1, 1.3, None]})
    assert marks(other) == {"a": "best", "b": "untested"}


def test_alone_in_a_block_nobody_is_best():
    numbers = {
        ("a", 3, 0.1): [1.0, 2.0],
        ("b", 3, 0.1): [None, None],
        ("a", 5, 0.1): [1.0, 2.0],
        ("b", 5, 0.1): [2.0, 2.5],
    }
    found = marked(rows_of(numbers))
    assert list(found["mark"]) == ["", "", "best", "tied"]
    assert list(found["n_clients"]) == [3, 3, 5, 5]


def test_rows_with_lists_as_axes_are_blocks_too(tmp_path):
    store = fake_store.finished_store(tmp_path, {"model.widths": [[8, 16], [16, 16]], "n_clients": [3]})
    rows, axes = reports.rows_of(store).frame, ["model.widths"]
    found = marked(rows, extra_axes=tuple(axes)).dropna(subset="n_clients")
    assert list(found["model.widths"]) == [json.dumps(w) for w in ([8, 16], [8, 16], [16, 16], [16, 16])]
    assert list(found["mark"] == "best") == [False, True, False, True]
    assert set(summary.differences(Rows(rows, tuple(axes)), ["fid"])["n"]) == {2}
    assert list(summary.ranks(Rows(rows, tuple(axes)), "fid", -1)["blocks"]) == [2, 2]
