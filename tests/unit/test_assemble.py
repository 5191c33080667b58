"""Every field of the diffusion family reaches the training: another value, other weights or another model."""

from functools import cache

import pytest

from bench.cell.autoencoder import first_stage
from bench.cell.setting import Setting, load_data
from bench.config.grid_file import load_grid
from bench.federation.drive import Checkpoint
from bench.federation.tensors import weight_hash
from bench.store.cell_folder import CellFolder

pytestmark = pytest.mark.xdist_group("assemble")  # one worker trains what several compare with
SMALL = [
    "strategy=fedavg",
    "training.rounds=1",
    "data.limit=60",
    "data.validation=20",
    "data.test=20",
    "partition=iid",
    "diffusion.T=60",
]


def trained(tmp_path, *overrides, rounds=1):
    """The hash of what would be evaluated after training."""
    (cell,) = load_grid("smoke", [*SMALL, f"training.rounds={rounds}", *overrides]).cells
    setting = Setting(cell, load_data(cell, None), "cpu", CellFolder(tmp_path), tmp_path)
    if cell.is_latent:
        first_stage(setting, lambda _: None, Checkpoint(tmp_path / "checkpoint", 0))
        assert setting.task().images.shape[1:] == setting.shape
    run = setting.training(lambda _: None)
    for _ in run.rounds():
        pass
    return weight_hash(dict(run.net.named_parameters()))


LEARNED = ["diffusion.variance=learned", "diffusion.loss=hybrid"]
CONDITIONAL = ["model.class_conditional=true"]
PAIRS = {
    "schedule": ([], ["diffusion.schedule=linear"]),
    "x0": ([], ["diffusion.prediction=x0"]),
    "v": (["diffusion.prediction=x0"], ["diffusion.prediction=v"]),
    "vlb": ([], ["diffusion.loss=vlb"]),
    "variance of the bound": (["diffusion.loss=vlb"], ["diffusion.loss=vlb", "diffusion.variance=large"]),
    "learned by the bound": (LEARNED, ["diffusion.variance=learned", "diffusion.loss=vlb"]),
    "min-snr": ([], ["diffusion.loss=min-snr"]),
    "gamma": (["diffusion.loss=min-snr"], ["diffusion.loss=min-snr", "diffusion.min_snr_gamma=1.0"]),
    "loss-aware": ([], ["diffusion.timesteps=loss-aware"]),
    "label dropout": (CONDITIONAL, [*CONDITIONAL, "diffusion.label_dropout=0.5"]),
    "server's average": ([], ["ema.mode=server"]),
    "clients' average": (["ema.mode=server"], ["ema.mode=client"]),
    "decay": (["ema.mode=server"], ["ema.mode=server", "ema.decay=0.01"]),
    "warm-up": (["ema.mode=server"], ["ema.mode=server", "ema.warmup=none"]),
    "bfloat16": ([], ["dtype=bfloat16"]),
}


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """`trained`, which trains once for all that ask for the same."""
    return cache(lambda *overrides: trained(tmp_path_factory.mktemp("trained"), *overrides))


@pytest.mark.parametrize(("first", "second"), PAIRS.values(), ids=PAIRS.keys())
def test_the_field_changes_what_is_trained(trained_once, first, second):
    assert trained_once(*first) != trained_once(*second)


def test_the_fixed_variance_does_not_reach_the_simple_loss(trained_once):
    assert trained_once() == trained_once("diffusion.variance=large")


def test_latents_of_28_pixels_are_7_by_7_and_fit_a_network_of_three_levels(tmp_path):
    native = ["data.fit=none", "data.size=28", "latent.mode=central", "latent.width=16", "latent.epochs=1"]
    levels = ["model.widths=[8,16,16]", "model.attention=[false,false,true]"]
    assert trained(tmp_path, *native, *levels)
