"""Samples of a trained cell: guided, decoded, filmed; the same in any batches."""

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from bench.cell.sample import FILM_FRAMES, generate
from bench.cell.setting import Model, Setting, load_data
from bench.config.grid_file import load_grid
from bench.diffusion.autoencoder import Autoencoder, fit_latent_space
from bench.diffusion.guidance import asked_labels
from bench.store.cell_folder import CellFolder


def cell_of(*overrides):
    (cell,) = load_grid("smoke", ["strategy=fedavg", "evaluation.n_samples=30", *overrides]).cells
    return cell


def setting_of(tmp_path, *overrides):
    cell = cell_of(*overrides)
    return Setting(cell, load_data(cell, None), "cpu", CellFolder(tmp_path), tmp_path)


def drawn(tmp_path, *overrides, space=None):
    setting, ticks = setting_of(tmp_path, *overrides), []
    made = generate(setting, Model(setting.network().eval(), space), ticks.append)
    assert sum(ticks) == 30
    return made, setting.data


def latent_space():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Autoencoder(1, 16, 4)
    return fit_latent_space(net, torch.rand(20, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1, 20)


def test_samples_do_not_depend_on_how_they_are_batched(tmp_path):
    together, _ = drawn(tmp_path)
    apart, _ = drawn(tmp_path, "sampler.batch_size=7")
    assert together.images.dtype == torch.uint8
    assert together.images.shape == (30, 1, 16, 16)
    assert (together.images.int() - apart.images.int()).abs().max() <= 1
    assert together.labels is None


def test_files_hold_what_is_returned(tmp_path):
    made, _ = drawn(tmp_path, "model.class_conditional=true")
    kept = load_file(tmp_path / "samples.safetensors")
    assert torch.equal(kept["images"], made.images)
    assert torch.equal(kept["labels"], made.labels)
    assert {path.name for path in tmp_path.iterdir()} == {
        "samples.safetensors",
        "film.gif",
    }


def test_asked_classes_have_the_datas_shares_and_do_not_depend_on_batches(tmp_path):
    made, data = drawn(tmp_path, "model.class_conditional=true", "sampler.batch_size=7")
    assert torch.equal(made.labels, asked_labels(data.class_shares, 0, 30))
    assert all(2 <= count <= 4 for count in torch.bincount(made.labels, minlength=10).tolist())


def test_the_scale_of_guidance_changes_the_samples(tmp_path):
    scales = [drawn(tmp_path, "model.class_conditional=true", f"sampler.guidance_scale={s}")[0] for s in (0, 1, 30)]
    assert not torch.equal(scales[0].images, scales[1].images)
    assert not torch.equal(scales[1].images, scales[2].images)


def test_bfloat16_is_only_the_networks(tmp_path):
    made, _ = drawn(tmp_path, "dtype=bfloat16", "latent.mode=central", "latent.width=16", space=latent_space())
    exact, _ = drawn(tmp_path, "latent.mode=central", "latent.width=16", space=latent_space())
    assert not torch.equal(made.images, exact.images)
    assert (made.images.float() - exact.images.float()).abs().mean() < 5


def test_latents_are_drawn_in_their_shape_and_decoded(tmp_path):
    space = latent_space()
    made, _ = drawn(tmp_path, "latent.mode=central", "latent.width=16", space=space)
    assert made.images.shape == (30, 1, 16, 16)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames > 1


def test_reconstructions_need_an_autoencoder(tmp_path):
    images = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8)
    net = setting_of(tmp_path).network()
    assert Model(net, latent_space()).reconstruct(images, "symmetric", "cpu").shape == images.shape
    with pytest.raises(ValueError, match="only latent diffusion has an autoencoder"):
        Model(net).reconstruct(images, "symmetric", "cpu")


def test_long_chains_make_films_of_bounded_length(tmp_path):
    drawn(tmp_path, "sampler.steps=100", "diffusion.T=100")
    with Image.open(tmp_path / "film.gif") as film:
        assert 10 < film.n_frames <= FILM_FRAMES + 1
