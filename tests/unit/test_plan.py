"""Plans: costs, estimates and labels."""

import pytest

from bench.config.errors import ConfigError
from bench.config.grid_file import load_grid
from bench.config.names import cell_name
from bench.run import cost
from bench.run.plan import make_plan
from bench.store.files import write_bytes, write_json


def plan_of(tmp_path, *overrides):
    return make_plan(load_grid("smoke", overrides), tmp_path)


def test_passes_count_training_validation_sampling_and_test_images(tmp_path):
    plan = plan_of(tmp_path, "training.rounds=3", "training.local_epochs=2", "sampler.steps=7")
    assert plan.passes(plan.jobs[0]) == {
        "autoencoder": 0,
        "train": 3 * (3 * 200 * 2 + 100),
        "sample": 100 * 7,
        "likelihood": 0,
        "evaluate": 8 * 100,
    }


def test_passes_count_averages_guidance_the_autoencoder_and_the_likelihood(tmp_path):
    averaged = plan_of(tmp_path, "ema.mode=server", "evaluation.nll=3", "evaluation.nll_rounded=true")
    assert averaged.passes(averaged.jobs[0])["train"] == 2 * (3 * 200 + 2 * 100)
    assert averaged.passes(averaged.jobs[0])["likelihood"] == 3 * 100
    guided = plan_of(tmp_path, "model.class_conditional=true", "sampler.guidance_scale=2.0")
    assert guided.passes(guided.jobs[0])["sample"] == 2 * 100 * 5
    latent = plan_of(tmp_path, "latent.mode=central", "latent.epochs=4")
    assert latent.passes(latent.jobs[0])["autoencoder"] == 4 * (3 * 200 + 100)


def test_what_cells_share_is_estimated_once(tmp_path):
    plan = plan_of(tmp_path, "sampler.steps=5,7", "evaluation.nll=3", "evaluation.nll_rounded=true", "strategy=fedavg")
    first, second = plan.estimate(list(plan.jobs)).values()
    assert second < 0.7 * first


def test_estimates_come_from_finished_cells_where_there_are_any(tmp_path):
    plan = plan_of(tmp_path)
    folder = plan.store.cell(plan.jobs[0].cell_id)
    passes = plan.passes(plan.jobs[0])
    metrics = {"train_seconds": 2 * passes["train"]}
    trained = {"train_id": "of the first", "weight_hash": "h", "metrics": metrics, "files": {}}
    write_json(folder.path / "train.json", trained)
    write_bytes(folder.path / "weights.safetensors", b"")
    assert plan.estimate(list(plan.jobs[1:])) == {
        job.cell_id: pytest.approx(2 * sum(passes.values())) for job in plan.jobs[1:]
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
    assert [cell_name(job.labels) for job in plan.jobs] == [
        "centralized seed=0",
        "fedavg n=2 seed=0 partition=iid",
        "fedavg n=2 beta=1 seed=0 partition=dirichlet(min_size=5)",
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
