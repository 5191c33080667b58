"""Copies among a cell's samples: of what clients train on, by client, and the sheet of what comes closest to one."""

import numpy as np
import pytest
import torch
from PIL import Image

from bench.cell.copies import judge_copies
from bench.cell.setting import Setting, load_data
from bench.config.grid_file import load_grid
from bench.fidelity.extractors import load_extractor
from bench.fidelity.floor import RealImages
from bench.fidelity.references import Reference, fixed_draw, statistics
from bench.store.cell_folder import CellFolder

pytestmark = pytest.mark.xdist_group("extractor")  # one worker reads the digits once

EXTRACTOR = load_extractor("mnist-cnn")


def setting_of(tmp_path, *overrides):
    (cell,) = load_grid("smoke", ["strategy=fedavg", "n_clients=3", "beta=0.5", "data.test=300", *overrides]).cells
    return Setting(cell, load_data(cell, None), "cpu", CellFolder(tmp_path), tmp_path)


def judged(setting, images):
    data, features = setting.data, EXTRACTOR.features(setting.data.train_images)[0]
    kept = features[fixed_draw(len(features), len(features))]
    train = Reference(*statistics(features), kept, len(features), EXTRACTOR.digest)
    real = RealImages.of(data.test_images, data.test_labels, 150, EXTRACTOR, "cpu")
    return judge_copies(setting, images, EXTRACTOR.features(images)[0], train, real, EXTRACTOR)


def test_a_copycat_is_told_with_whose_images_it_copies(tmp_path):
    setting = setting_of(tmp_path)
    own = torch.from_numpy(setting.parts[1])
    found = judged(setting, setting.data.train_images[own])
    assert found.by_client == [0, len(own), 0]
    for space in ("pixels", "features"):
        assert found.metrics[f"copies_{space}"] == 1
        assert found.metrics[f"authenticity_{space}"] == 0
        assert (found.floor[f"copies_{space}"], found.floor[f"authenticity_{space}"] > 0.4) == (0, True)
    assert found.metrics["copies_by_size"] is not None
    with Image.open(tmp_path / "closest.png") as sheet:
        assert sheet.width > 8 * 16 * 3


def test_test_images_are_no_copies(tmp_path):
    setting = setting_of(tmp_path)
    found = judged(setting, setting.data.test_images)
    assert found.by_client == [0, 0, 0]
    assert found.metrics["copies_by_size"] is None
    assert {key: found.metrics[key] for key in found.floor} == found.floor
    assert found.metrics["c_t_pixels"] == found.metrics["c_t_features"] == pytest.approx(0)


def test_copies_of_noisy_images_are_of_those_that_were_trained_on(tmp_path):
    setting = setting_of(tmp_path, "partition=feature-noise(sigma=0.3)")
    noisiest = int(np.argmax(setting.noise))
    own = torch.from_numpy(setting.parts[noisiest])
    found = judged(setting, setting.noisy.train_images[own])
    assert found.by_client[noisiest] == len(own)
    assert found.metrics["copies_pixels"] == found.metrics["copies_features"] == 1
    assert found.floor == {}  # it would be another one in each split
    assert judged(setting, setting.data.train_images[own]).by_client[noisiest] < len(own)


def test_centralized_training_has_no_clients_to_copy_from(tmp_path):
    (cell,) = load_grid("smoke", ["strategy=centralized"]).cells
    setting = Setting(cell, load_data(cell, None), "cpu", CellFolder(tmp_path), tmp_path)
    found = judged(setting, setting.data.train_images[:40])
    assert (found.by_client, found.metrics["copies_by_size"], found.metrics["copies_pixels"]) == ([], None, 1)
