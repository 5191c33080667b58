"""Plans: costs, estimates and labels."""

import pytest

from bench import cost
from bench.config import ConfigError, load_grid
from bench.plan import describe, make_plan
from bench.store import write_bytes, write_json


def plan_of(tmp_path, *overrides):
    return make_plan(load_grid("smoke", overrides), tmp_path)


def test_passes_count_training_heldout_and_sampling(tmp_path):
    plan = plan_of(tmp_path, "training.rounds=3", "training.local_epochs=2", "sampler.steps=7")
    assert plan.passes(plan.jobs[0]) == (3 * (3 * 200 * 2 + 100), 100 * 7)


def test_estimates_come_from_finished_cells_where_there_are_any(tmp_path):
    plan = plan_of(tmp_path)
    folder = plan.store.cell(plan.jobs[0].cell_id)
    train, sample = plan.passes(plan.jobs[0])
    write_json(folder.path / "train.json", {"metrics": {"train_seconds": 2 * train}})
    write_bytes(folder.path / "weights.safetensors", b"")
    assert plan.estimate(list(plan.jobs[1:])) == {
        job.cell_id: pytest.approx(2 * (train + sample)) for job in plan.jobs[1:]
    }


def test_without_finished_cells_a_probe_measures_a_pass(tmp_path):
    plan = plan_of(tmp_path)
    assert all(0.1 < seconds < 600 for seconds in plan.estimate(list(plan.jobs)).values())


def test_cells_with_other_networks_take_other_times(tmp_path):
    first, *_, last = plan_of(tmp_path, "threads=1,2").jobs
    assert cost.model_key(first.config, "cpu") != cost.model_key(last.config, "cpu")


def test_labels_tell_cells_apart(tmp_path):
    plan = plan_of(tmp_path, "partition=iid,dirichlet(min_size=5)", "strategy=centralized,fedavg")
    assert [job.labels["partition"] for job in plan.jobs] == [None, "iid", "dirichlet(min_size=5)"]
    assert [describe(job.config) for job in plan.jobs] == [
        "centralized seed=0",
        "fedavg n=2 seed=0",
        "fedavg n=2 beta=1 seed=0",
    ]


def test_failed_cells_wait_to_be_asked_for(tmp_path):
    plan = plan_of(tmp_path)
    folder = plan.store.cell(plan.jobs[0].cell_id)
    folder.begin({})
    write_json(folder.path / "error.json", {"status": "failed"})
    assert plan.pending(retry_failed=False) == list(plan.jobs[1:])
    assert plan.pending(retry_failed=True) == list(plan.jobs)


def test_splits_are_tried_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match=r"fedavg n=30 beta=1 seed=0: .*take it out with \[\[exclude\]\]"):
        plan_of(tmp_path, "n_clients=30")
