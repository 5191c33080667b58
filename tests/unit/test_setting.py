"""What a cell runs with: which part of the data is seen by whom."""

import dataclasses

import pytest
import torch

from bench.cell.setting import Setting, load_data
from bench.config.grid_file import load_grid
from bench.store.cell_folder import CellFolder

SMALL = ("strategy=fedavg", "data.limit=40", "data.validation=40", "data.test=40")


@pytest.fixture
def make(tmp_path):
    """A cell's setting, by its overrides; data are as they are read, or as given."""

    def made(*overrides, data=None):
        (cell,) = load_grid("smoke", [*SMALL, *overrides]).cells
        return Setting(cell, data or load_data(cell, None), "cpu", CellFolder(tmp_path), tmp_path)

    return made


def test_scores_compare_with_training_images_and_the_floor_is_of_test_images(make):
    setting = make()
    data = setting.data
    assert setting.config.evaluation.reference == "train"
    assert data.part(setting.config.evaluation.reference) == (data.train_images, data.train_labels)
    assert data.part(setting.early_part)[0] is data.train_images
    assert data.part(setting.floor_part)[0] is data.test_images


def test_where_scores_compare_with_test_images_the_others_are_validation_images(make):
    """The floor, and what images along training compare with, so that nothing before the scores sees test images."""
    setting = make("evaluation.reference=test")
    data = setting.data
    assert data.part(setting.config.evaluation.reference) == (data.test_images, data.test_labels)
    assert data.part(setting.early_part)[0] is data.validation_images
    assert data.part(setting.floor_part)[0] is data.validation_images


@pytest.mark.parametrize("chosen", ["train", "test"])
def test_caches_tell_parts_of_the_data_apart(make, chosen):
    setting = make(f"evaluation.reference={chosen}")
    parts = [setting.config.evaluation.reference, setting.early_part]
    assert setting.cached_as(parts[0]) == f"{setting.data.digest}-{chosen}"
    names = {setting.cached_as(part): setting.data.part(part)[0] for part in parts}
    assert len(names) == len({id(images) for images in names.values()})
    assert make("evaluation.reference=train").early_part == "train"


def test_clients_train_on_training_images_and_their_curves_are_of_validation_images(make):
    setting = make()
    task, data = setting.task(), setting.data
    assert task.images is data.train_images
    assert task.heldout is data.validation_images
    assert task.heldout_labels is data.validation_labels
    assert sorted(i for part in setting.parts for i in part) == list(range(len(data.train_images)))


@pytest.mark.parametrize("client", [None, 0, 1])
def test_final_losses_are_of_test_images_with_a_clients_noise_where_it_has_some(make, client):
    """Client 0 of two has half the variance of client 1; see Li et al. in `partitions.feature_noise`."""
    plain = make("partition=feature-noise(sigma=0.01)", "n_clients=2")
    grey = torch.full_like(plain.data.test_images, 128)
    setting = make(
        "partition=feature-noise(sigma=0.01)", "n_clients=2", data=dataclasses.replace(plain.data, test_images=grey)
    )
    task = setting.test_task(client)
    assert len(task.images) == 1
    assert task.heldout.shape == setting.data.test_images.shape
    assert task.heldout_labels is setting.data.test_labels
    spread = (task.heldout.double() / 255).std().item()
    wanted = 0.0 if client is None else setting.noise[client]
    assert spread == pytest.approx(wanted, rel=0.03)
    assert torch.equal(setting.test_task(client).heldout, task.heldout)
