"""The one list of metrics."""

from bench.report import metrics
from bench.report.metrics import METRICS


def test_every_metric_is_listed_once():
    assert len(METRICS) == len(metrics._ALL)
    assert sorted(metrics.SUMMARISED) == sorted(METRICS)


def test_what_a_metric_refers_to_is_a_metric():
    for metric in METRICS.values():
        for key in (metric.like, metric.minus):
            assert not key or key in METRICS, metric.key


def test_what_is_shown_has_a_name_and_what_stands_on_the_terminal_a_head():
    for metric in metrics.SHOWN:
        assert metric.name, metric.key
        assert bool(metric.head) == (metric.table == "summary") or metric.key == "fid_infinity"


def test_every_metric_says_what_it_is():
    for metric in METRICS.values():
        assert len(metric.about.split()) > 1, metric.key
        assert not metric.about.endswith("."), metric.key


def test_what_is_tested_or_compared_can_be_better_or_is_a_cost():
    assert all(metric.better for metric in METRICS.values() if metric.tested)
    assert all(metric.better for metric in METRICS.values() if metric.goal)


def test_which_way_is_better():
    lower = {
        "fid", "fid_infinity", "fid_mix", "kid_mean", "class_tv", "bits_per_dim", "test_loss", "validation_area",
        "validation_roughness", "train_roughness", "rounds_to_centralized", "samples_to_centralized",
        "megabytes_to_centralized", "epsilon",
    }  # fmt: skip
    assert {metric.key for metric in METRICS.values() if metric.better == -1} == lower
    higher = {"is_mean", "label_accuracy", "recall", "coverage"}
    assert {metric.key for metric in METRICS.values() if metric.better == 1} == higher


def test_totals_are_sums_of_what_cells_record():
    assert {total.key for total in metrics.TOTALS} == {"megabytes", "seconds"}
    assert METRICS["megabytes"].unit == 1e6
