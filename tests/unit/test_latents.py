"""The first stage of latent diffusion: trained in one place or by the strategy, kept for the cells that share it."""

import pytest
import torch

from bench.cell import autoencoder as latents
from bench.cell.setting import Setting, load_data
from bench.config.errors import ConfigError
from bench.config.grid_file import load_grid
from bench.federation.drive import Checkpoint
from bench.store.cell_folder import CellFolder
from bench.store.states import read_tensors
from strategies import registry
from strategies.base import Strategy
from tests.laws.conftest import same


def cell_of(mode="central", *overrides):
    latent = [
        "latent.epochs=2",
        "latent.width=16",
        f"latent.mode={mode}",
        "data.limit=120",
        "data.validation=20",
        "data.test=20",
    ]
    (cell,) = load_grid("smoke", ["strategy=fedavg", *latent, *overrides]).cells
    return cell


def setting_of(cell, results):
    return Setting(cell, load_data(cell, None), "cpu", CellFolder(results / "cell"), results)


@pytest.fixture
def make(tmp_path):
    """Train a cell's first stage; ticks are counted."""

    def made(cell):
        setting, ticks = setting_of(cell, tmp_path), []
        stage = latents.first_stage(setting, ticks.append, Checkpoint(tmp_path / "checkpoint", 0))
        return stage, sum(ticks)

    return made


def test_a_central_autoencoder_is_trained_once_for_all_cells_that_share_it(make):
    first, trained = make(cell_of())
    again, none = make(cell_of("central", "diffusion.prediction=v", "n_clients=1"))
    assert (trained, none) == (240, 0)
    assert same(first.state(), again.state())
    assert first.metrics["autoencoder_bytes_up"] == 0


@pytest.mark.parametrize("other", ["seed=1", "latent.lr=0.1", "latent.channels=3", "data.limit=121"])
def test_another_autoencoder_is_another_file(make, other):
    make(cell_of())
    _, trained = make(cell_of("central", other))
    assert trained >= 240


def test_a_broken_file_is_made_anew(make, tmp_path):
    first, _ = make(cell_of())
    (path,) = (tmp_path / latents.CACHE).iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="is damaged .* trained anew"):
        again, trained = make(cell_of())
    assert trained == 240
    assert same(first.space.state(), again.space.state())
    assert read_tensors(path) is not None


def test_a_federated_autoencoder_is_trained_by_the_strategy_and_its_bytes_count(make, tmp_path):
    central, _ = make(cell_of())
    federated, trained = make(cell_of("federated"))
    assert trained == 240
    assert not same(central.state(), federated.state())
    size = sum(t.numel() * 4 for t in federated.space.net.parameters())
    assert federated.metrics["autoencoder_bytes_down"] == federated.metrics["autoencoder_bytes_up"] == 2 * 2 * size
    assert len(list((tmp_path / latents.CACHE).iterdir())) == 1


def test_one_client_trains_the_central_autoencoder_bit_for_bit(make):
    alone = ["n_clients=1", "client.optimizer_state=keep"]
    central, _ = make(cell_of("central", *alone))
    federated, _ = make(cell_of("federated", *alone))
    assert same(central.space.state(), federated.space.state())


def test_centralized_training_has_a_central_autoencoder_whatever_it_is_asked(make):
    first, _ = make(cell_of())
    again, trained = make(cell_of("federated", "strategy=centralized"))
    assert trained == 0
    assert same(first.state(), again.state())


def test_the_state_of_a_first_stage_comes_back(make):
    first, _ = make(cell_of())
    again = latents.FirstStage.from_state(first.state())
    assert again.metrics == first.metrics
    assert same(again.state(), first.state())


def test_the_task_learns_standardised_latents(make, tmp_path):
    setting = setting_of(cell_of(), tmp_path)
    stage, _ = make(setting.config)
    task = setting.task()
    assert task.images.shape == (120, 4, 4, 4)
    assert task.heldout.shape == (20, 4, 4, 4)
    torch.testing.assert_close(task.images.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(task.images.var(dim=(0, 2, 3), correction=0), torch.ones(4), atol=1e-4, rtol=0)
    assert task.images.abs().max().item() == pytest.approx(stage.space.bound)
    net = setting.network()
    batch = next(task.batches(torch.arange(20), lambda *_: torch.Generator().manual_seed(0), 1, 20, {}))
    assert batch.x0.dtype == torch.float32
    assert task.losses(net, batch).shape == (20,)


def test_every_strategy_that_ships_can_train_an_autoencoder(make):
    for name in registry.names():
        kind = registry.load(name)
        chosen = [f"strategy={name}", *(["training.local_steps=2"] if kind.matched else [])]
        cell = cell_of("central", *chosen)
        if cell.make_strategy().personal or not kind.any_network or kind.report is not Strategy.report:
            with pytest.raises(ConfigError, match="use 'central'"):
                cell_of("federated", *chosen)
            continue
        stage, _ = make(cell_of("federated", *chosen))
        assert stage.space.sd.min() > 0
