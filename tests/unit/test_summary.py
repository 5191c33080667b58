"""Rows, means over seeds, paired differences, ranks: against SciPy and by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.report import contrasts, curves, metrics, summary
from bench.report.metrics import METRICS, Metric
from bench.report.summary import Rows
from bench.store.files import read_json, write_json
from bench.store.grid_folder import PlannedCell, Store
from tests import fake_store, reports
from tests.reports import table_of_cells

SMALL = {"strategy": ["centralized", "fedavg"], "n_clients": [3]}
central, ours = ("centralized", None, None), ("fedavg", 3, 0.1)


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
    assert contrasts.differences(Rows(rows), list(metrics.SUMMARY)).empty
    assert summary.ranks(Rows(rows), "fid", -1).empty
    assert list(marked(rows)["mark"]) == ["", ""]


# -------------------------------------------------------------------------------------------- means over seeds


def test_means_have_the_interval_of_scipy():
    values = [3.0, 4.5, 4.0]
    (row,) = summary.summarise(Rows(table_of_cells({("fedavg", 3, 0.1): values}))).to_dict("records")
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    assert (row["fid"], row["fid_sd"]) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    assert (row["fid_low"], row["fid_high"]) == (pytest.approx(low), pytest.approx(high))


def test_intervals_count_the_seeds_that_have_the_number():
    """A seed of three is finished but has no such score: the interval is that of two."""
    rows = table_of_cells({("fedavg", 3, 0.1): [3.0, 4.0, 5.0]}).assign(kid_mean=[1.0, math.nan, 2.0])
    (row,) = summary.summarise(Rows(rows)).to_dict("records")
    assert row["n"] == 3
    assert row["kid_mean_high"] - row["kid_mean"] == pytest.approx(scipy.stats.t.ppf(0.975, 1) * math.sqrt(0.5 / 2))


def test_one_seed_has_no_interval_and_none_no_mean():
    table = summary.summarise(Rows(table_of_cells({("fedavg", 3, 0.1): [3.0, None], ("fedavg", 5, 0.1): [None, None]})))
    assert list(table["fid"].fillna(-1)) == [3.0, -1]
    assert table[["fid_sd", "fid_low", "fid_high"]].isna().all(axis=None)
    assert list(table["unfinished"]) == ["1 failed", "2 failed"]


def test_differences_to_centralized_training_have_intervals():
    table = summary.summarise(
        Rows(table_of_cells({("centralized", None, None): [1.0, 2.0], ("fedavg", 3, 0.1): [4.0, 7.0]}))
    )
    row = table.iloc[1]
    oracle = scipy.stats.ttest_rel([4.0, 7.0], [1.0, 2.0]).confidence_interval()
    assert row["fid_minus_centralized"] == 4.0
    assert (row["fid_minus_centralized_low"], row["fid_minus_centralized_high"]) == pytest.approx(tuple(oracle))
    assert math.isnan(table["fid_minus_centralized"][0])


def test_what_reaching_costs_has_a_mean_only_where_every_seed_reaches_it():
    rows = table_of_cells(
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


# --------------------------------------------------------------------------------------------------- ranks, best


def test_ranks_are_over_blocks():
    numbers = {
        central: [0.0, 0.0],
        ("a", 3, 0.1): [1.0, 3.0], ("b", 3, 0.1): [2.0, 2.0], ("c", 3, 0.1): [9.0, 9.0],
        ("a", 5, 0.1): [5.0, 5.0], ("b", 5, 0.1): [4.0, 4.0], ("c", 5, 0.1): [6.0, 6.0],
    }  # fmt: skip
    found = summary.ranks(Rows(table_of_cells(numbers)), "fid", -1)
    assert found.to_dict("list") == {
        "strategy": ["b", "a", "c"], "blocks": [2, 2, 2], "seeds": [2, 2, 2], "mean_rank": [1.25, 1.75, 3.0], "wins": [2, 1, 0],
    }  # fmt: skip
    assert list(summary.ranks(Rows(table_of_cells(numbers)), "fid", 1)["strategy"]) == ["c", "a", "b"]


@given(st.lists(st.integers(0, 4), min_size=2, max_size=8), st.sampled_from([-1, 1]))
def test_ranks_are_scipys(values, better):
    names = [f"s{place}" for place in range(len(values))]
    numbers = {(name, 3, 0.1): [float(value)] for name, value in zip(names, values, strict=True)}
    found = summary.ranks(Rows(table_of_cells(numbers)), "fid", better).set_index("strategy")["mean_rank"]
    assert found[names].tolist() == scipy.stats.rankdata([-better * value for value in values]).tolist()


def test_the_order_of_the_rows_does_not_matter():
    numbers = {central: [1.0, 2.0, 3.0], ours: [4.0, 6.0, 7.0], ("scaffold", 3, 0.1): [3.0, 5.0, 9.0]}
    rows = table_of_cells(numbers)
    mixed = rows.sample(frac=1, random_state=3)
    for compare in (lambda r: summary.summarise(Rows(r)).dropna(axis=1, how="all"), marked):
        one, other = (
            compare(r).sort_values(["strategy", "n_clients", "beta"], ignore_index=True) for r in (rows, mixed)
        )
        pd.testing.assert_frame_equal(one, other)


def test_ranks_compare_the_seeds_that_all_have():
    """b lacks the hard seed: on the easy one it is worse, though its mean is better."""
    numbers = {
        ("a", 3, 0.1): [1.0, 9.0],
        ("b", 3, 0.1): [2.0, None],
        ("a", 5, 0.1): [1.0, 1.0],
        ("b", 5, 0.1): [None, None],
    }
    found = summary.ranks(Rows(table_of_cells(numbers)), "fid", -1)
    assert found.to_dict("list") == {
        "strategy": ["a", "b"], "blocks": [1, 1], "seeds": [1, 1], "mean_rank": [1.0, 2.0], "wins": [1, 0],
    }  # fmt: skip


def test_who_finished_nothing_is_not_ranked_and_keeps_nobody_from_being():
    numbers = {("a", 3, 0.1): [1.0], ("b", 3, 0.1): [2.0], ("gone", 3, 0.1): [None]}
    assert list(summary.ranks(Rows(table_of_cells(numbers)), "fid", -1)["strategy"]) == ["a", "b"]
    apart = summary.ranks(Rows(table_of_cells({("a", 3, 0.1): [1.0], ("b", 5, 0.1): [2.0]})), "fid", -1)
    assert list(apart["blocks"]) == [0, 0]
    assert apart["mean_rank"].isna().all()


def test_a_strategy_alone_is_not_ranked():
    assert summary.ranks(
        Rows(table_of_cells({central: [0.0], ("a", 3, 0.1): [1.0], ("a", 5, 0.1): [1.0]})), "fid", -1
    ).empty


def test_who_reaches_centralized_training_in_one_seed_only_has_no_cost_to_be_compared():
    """Its one number would flatter it: the seeds in which it never gets there have none."""
    metric = "rounds_to_centralized"
    rows = table_of_cells(
        {("a", 3, 0.1): [2.0, 9.0, 9.0], ("b", 3, 0.1): [4.0, 5.0, 6.0], ("c", 3, 0.1): [5.0, 6.0, 6.0]}, metric
    )
    rows.loc[(rows["strategy"] == "a") & (rows["seed"] > 0), metric] = math.nan
    found = marked(rows, METRICS[metric]).set_index("strategy")["mark"]
    assert found.to_dict() == {"a": "", "b": "best", "c": "tied"}
    assert list(summary.ranks(Rows(rows), metric, -1)["strategy"]) == ["b", "c"]
    assert contrasts.differences(Rows(rows), [metric], "b").empty


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=5))
def test_mean_ranks_are_those_of_scipy(blocks):
    numbers = {(f"s{k}", n, 0.1): [value] for n, block in enumerate(blocks, start=2) for k, value in enumerate(block)}
    found = summary.ranks(Rows(table_of_cells(numbers)), "fid", -1).set_index("strategy")
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
        ("worse", 3, 0.1): [4.0, 5.1, 6.0],
    }
    assert marks(table_of_cells(numbers)) == {"a": "best", "close": "tied", "worse": ""}
    assert marks(table_of_cells(numbers), better=1) == {"a": "", "close": "", "worse": "best"}


def test_ties_are_paired_by_seed():
    """Seeds differ far more than strategies do: only their differences tell that b is worse."""
    numbers = {("a", 3, 0.1): [1.0, 50.0, 90.0], ("b", 3, 0.1): [1.5, 50.4, 90.6]}
    assert marks(table_of_cells(numbers)) == {"a": "best", "b": ""}


def test_more_rows_ask_for_more_to_be_told_apart():
    """The differences of two rows, 0.5, 0.4 and 0.6, are too small among eight more whose seeds disagree."""
    numbers = {("a", 3, 0.1): [1.0, 50.0, 90.0], ("b", 3, 0.1): [1.5, 50.4, 90.6]}
    noise = np.random.default_rng(0).normal(0, 0.3, (8, 3)) + 0.8 + np.array([1.0, 50.0, 90.0])
    others = {(f"s{k}", 3, 0.1): values.tolist() for k, values in enumerate(noise)}
    assert marks(table_of_cells(numbers | others))["b"] == "tied"


def test_equal_rows_are_both_best():
    numbers = {("a", 3, 0.1): [1.0, 2.0, 3.0], ("b", 3, 0.1): [2.0, 1.0, 3.0]}
    assert marks(table_of_cells(numbers)) == {"a": "best", "b": "best"}


def test_rows_are_compared_by_the_seeds_that_they_have_in_common():
    """A fourth seed, which the others lack, has by itself the best mean for a row that is worse by the three."""
    numbers = {
        ("a", 3, 0.1): [1.0, 1.01, 1.02, -50.0],
        ("b", 3, 0.1): [0.0, 0.0, 0.01],
        ("c", 3, 0.1): [0.5, 0.6, 0.4],
    }
    assert marks(table_of_cells(numbers)) == {"a": "", "b": "best", "c": ""}


def test_what_shows_the_same_digits_as_the_best_is_best():
    rows = table_of_cells(
        {
            ("a", 3, 0.1): [1.0, 2.0, 3.0],
            ("b", 3, 0.1): [1.006, 1.998, 3.0],
            ("c", 3, 0.1): [1.1, 2.2, 2.9],
        }
    )
    assert marks(rows, digits=3)["b"] == "tied"
    assert marks(rows, digits=2) == {"a": "best", "b": "best", "c": "tied"}


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_nothing_is_marked(seeds):
    rows = table_of_cells({("a", 3, 0.1): [1.0, 2.0][:seeds], ("b", 3, 0.1): [9.0, 9.1][:seeds]})
    assert marks(rows) == {"a": "untested", "b": "untested"}


def test_rows_of_too_few_seeds_are_left_out_of_the_comparison():
    numbers = {
        ("a", 3, 0.1): [1.0, 2.0, 3.0],
        ("b", 3, 0.1): [5.0, 6.1, 7.0],
        ("few", 3, 0.1): [0.1, 0.2, None],
        ("none", 3, 0.1): [None] * 3,
    }
    assert marks(table_of_cells(numbers)) == {"a": "best", "b": "", "few": "untested", "none": ""}


def test_rows_are_compared_by_three_common_seeds_or_not():
    a = [1.0, 2.0, 3.0, 4.0, None]
    assert marks(table_of_cells({("a", 3, 0.1): a, ("b", 3, 0.1): [None, 5.0, 6.1, 7.0, 8.0]})) == {
        "a": "best",
        "b": "",
    }
    apart = table_of_cells({("a", 3, 0.1): a, ("b", 3, 0.1): [None, None, 6.1, 7.0, 8.0]})
    assert marks(apart) == {"a": "untested", "b": "untested"}


def test_alone_in_a_block_nobody_is_best():
    numbers = {
        ("a", 3, 0.1): [1.0, 2.0, 3.0],
        ("b", 3, 0.1): [None] * 3,
        ("a", 5, 0.1): [1.0, 2.0, 3.0],
        ("b", 5, 0.1): [2.0, 2.5, 2.8],
    }
    found = marked(table_of_cells(numbers))
    assert list(found["mark"]) == ["", "", "best", "tied"]
    assert list(found["n_clients"]) == [3, 3, 5, 5]


def test_rows_with_lists_as_axes_are_blocks_too(tmp_path):
    store = fake_store.finished_store(
        tmp_path, {"model.widths": [[8, 16], [16, 16]], "n_clients": [3], "seed": [0, 1, 2]}
    )
    rows, axes = reports.rows_of(store).frame, ["model.widths"]
    found = marked(rows, extra_axes=tuple(axes)).dropna(subset="n_clients")
    assert list(found["model.widths"]) == [json.dumps(w) for w in ([8, 16], [8, 16], [16, 16], [16, 16])]
    assert list(found["mark"] == "best") == [False, True, False, True]
    assert set(contrasts.differences(Rows(rows, tuple(axes)), ["fid"])["n"]) == {3}
    assert list(summary.ranks(Rows(rows, tuple(axes)), "fid", -1)["blocks"]) == [2, 2]
