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


def test_what_is_tested_or_compared_can_be_better_or_is_a_cost():
    assert all(METRICS[key].better for key in metrics.TESTED)
    assert all(metric.better for metric in METRICS.values() if metric.goal)
