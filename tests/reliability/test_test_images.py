"""Test images are seen by the final scores alone: with noise in their place all before those stays bit for bit the same."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.cell import run
from bench.cell.setting import CLIENTS, PERSONAL, FirstStage, load_data
from bench.data.sets import Dataset
from bench.store.cell_folder import CURVE, SAMPLES, WEIGHTS
from bench.store.files import file_hash, read_json, read_lines
from bench.store.records import LOGS, Curve, Partition, Result, Trained
from bench.store.states import read_tensors
from tests.reliability.tiny import folder_of, jobs_of, untimed
from tests.shortcuts import blank_pictures

# As many training images as validation and test images: what a cache takes for the same would be found out.
SETTINGS = (
    "data.limit=40",
    "data.validation=40",
    "data.test=40",
    "training.rounds=2",
    "evaluation.curve_every=1",
    "evaluation.curve_samples=20",
)
LOSSES = {"test_loss", "test_loss_client_mean", "test_loss_client_max"}
DISTANCES = {"fid", "fid_images_low", "fid_images_high", "kid_mean", "fid_avg", "fid_client_max"}
CASES = {
    "an average of weights and bits/dim": (
        ["ema.mode=server", "ema.decay=0.9", "evaluation.nll=5", "evaluation.nll_steps=4", "evaluation.nll_rounded=true"],
        LOSSES | {"bits_per_dim"},
    ),
    "an autoencoder": (
        ["latent.mode=federated", "latent.epochs=1", "latent.width=16"],
        LOSSES | {"reconstruction_fid", "reconstruction_mse"},
    ),
    "test images as the reference, noise on clients' images": (
        ["evaluation.reference=test", "evaluation.bootstrap=20", "partition=feature-noise"],
        LOSSES | DISTANCES,
    ),
    "test images as the reference, clients' own parts": (
        ["evaluation.reference=test", "evaluation.bootstrap=20", 'strategy=feddiffuse(mode="udec")'],
        LOSSES | DISTANCES,
    ),
}  # fmt: skip


def poisoned(data: Dataset) -> Dataset:
    """The same training and validation images, and noise of random classes for test images."""
    stream = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, data.test_images.shape, dtype=torch.uint8, generator=stream)
    classes = torch.randint(0, data.n_classes, data.test_labels.shape, generator=stream)
    return dataclasses.replace(data, test_images=noise, test_labels=classes, digest="noise for test images")


def finished(results: Path, settings: list[str], data: Dataset | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """A cell run to its end: what training, sampling and the curve left but times, and its result."""
    (job,) = jobs_of(results, *SETTINGS, *settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "load_data", lambda *_: data or load_data(job.config, None))
        run.run_cell(job)
    folder = folder_of(job)
    result, trained = (read_json(folder.path / name) for name in (Result.FILE, Trained.FILE))
    assert result is not None
    assert trained is not None
    names = (WEIGHTS, CURVE, SAMPLES, Partition.FILE, *(f"{PERSONAL}/{name}" for name in trained["personal_hashes"]))
    stage = read_tensors(folder.path / FirstStage.FILE, sealed=False) or {}
    before = {
        "files": {name: file_hash(folder.path / name) for name in names},
        "logs": {name: untimed(read_lines(folder.path / name)) for name in LOGS},
        "autoencoder": {key: tensor.tolist() for key, tensor in stage.items() if "seconds" not in key},
        "metrics": {key: value for key, value in trained["metrics"].items() if not key.endswith("seconds")},
        "hashes": [trained["weight_hash"], trained["personal_hashes"], result["weight_hash"], result["sample_hash"]],
        "curve": read_json(folder.path / Curve.FILE)["curve"],
    }
    assert not (folder.path / CLIENTS).exists()
    return before, result


@pytest.mark.parametrize("case", CASES)
def test_nothing_before_the_final_scores_reads_test_images(case, tmp_path):
    settings, scores = CASES[case]
    (job,) = jobs_of(tmp_path / "plan", *SETTINGS, *settings)
    with blank_pictures():
        before, result = finished(tmp_path / "real", settings)
        after, other = finished(tmp_path / "noise", settings, poisoned(load_data(job.config, None)))
    assert before == after
    assert all(before["files"].values())
    assert [point["round"] for point in before["curve"]] == [1, 2]
    same, metrics = before["metrics"], result["metrics"]
    changed = {key for key in metrics if metrics[key] != other["metrics"][key] and not key.endswith("seconds")}
    assert scores <= changed
    assert changed.isdisjoint(same)
    for part in ("floor", "diagnostics", "clients"):
        assert result[part] != other[part]
    assert result["class_histogram"] == other["class_histogram"]
