"""The scores against closed forms, plain numpy and scipy, and the file of reference statistics against accidents."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.fidelity import references
from bench.fidelity import scores as fidelity
from bench.fidelity.extractors import Extractor, ExtractorUnavailable, extractor_digest, load_extractor
from bench.fidelity.references import Reference, reference, statistics
from bench.seeds import derive, numpy_stream, torch_stream
from bench.store.states import read_tensors, write_tensors

pytestmark = pytest.mark.xdist_group("extractor")  # one worker reads the digits once

Array = NDArray[np.float64]
TENTHS = np.full(10, 0.1)
WIDTH = 6


def _noise(n: int, side: int = 4, label: str = "images") -> Tensor:
    return torch.randint(0, 256, (n, 1, side, side), generator=torch_stream(0, label), dtype=torch.uint8)


def _normal(n: int, width: int, label: str) -> Tensor:
    return torch.randn(n, width, generator=torch_stream(0, label))


class Calls(list[int]):
    """The sizes of the batches that an extractor was given."""


def _linear(calls: Calls, digest: str = "d" * 64) -> Extractor:
    """An extractor that projects 4x4 pixels, noting the batches it sees."""
    weights = _normal(16, WIDTH + 10, "weights")

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(images))
        out = (images.flatten(1) / 255) @ weights
        return out[:, :WIDTH], out[:, WIDTH:]

    return Extractor("linear", digest, WIDTH, 10, None, lambda channels, size: None, run, lambda device: None)


# ---------------------------------------------------------------------------------------- Frechet distance


def _moments(n: int, width: int, label: str) -> tuple[Array, Array]:
    """Mean and covariance of correlated samples, by numpy."""
    rng = numpy_stream(0, label)
    x = rng.normal(size=(n, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)
    return x.mean(0), np.cov(x, rowvar=False)


def test_frechet_distance_is_the_formula_with_a_matrix_square_root() -> None:
    (m1, s1), (m2, s2) = a, b = _moments(300, 20, "a"), _moments(200, 20, "b")
    root = scipy.linalg.sqrtm(s1 @ s2).real
    expected = ((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * np.trace(root)
    assert fidelity.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert fidelity.frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_the_same_is_zero_and_of_a_shift_its_square() -> None:
    mean, covariance = _moments(300, 20, "a")
    shift = numpy_stream(0, "shift").normal(size=20)
    assert fidelity.frechet_distance((mean, covariance), (mean, covariance)) == pytest.approx(0, abs=1e-9)
    moved = fidelity.frechet_distance((mean, covariance), (mean + shift, covariance))
    assert moved == pytest.approx((shift**2).sum(), rel=1e-9)


def test_frechet_distance_in_one_dimension_and_of_diagonals() -> None:
    one = fidelity.frechet_distance((np.array([1.0]), np.array([[4.0]])), (np.array([3.0]), np.array([[25.0]])))
    assert one == pytest.approx((1 - 3) ** 2 + (2 - 5) ** 2)
    s, t = np.array([1.0, 0.5, 3.0]), np.array([2.0, 0.0, 3.0])
    zero = np.zeros(3)
    many = fidelity.frechet_distance((zero, np.diag(s**2)), (zero, np.diag(t**2)))
    assert many == pytest.approx(((s - t) ** 2).sum())


def test_statistics_are_float64_of_float32_features() -> None:
    features = _normal(50, WIDTH, "features") + 1000  # in float32 the mean alone would be off by 1e-5
    mean, covariance = statistics(features)
    assert mean.dtype == covariance.dtype == np.float64
    np.testing.assert_allclose(mean, features.double().mean(0).numpy(), rtol=1e-14)
    np.testing.assert_allclose(covariance, np.cov(features.double().numpy(), rowvar=False), rtol=1e-12)


# -------------------------------------------------------------------------------------------- expected bias


def test_expected_bias_of_white_features_is_d_times_d_plus_5_over_4n() -> None:
    assert fidelity.expected_bias(np.eye(64), 1000) == pytest.approx(64 * 69 / 4000) == pytest.approx(1.104)
    assert fidelity.expected_bias(np.eye(128), 1000) == pytest.approx(4.256)
    assert fidelity.expected_bias(np.eye(64), 10_000) == pytest.approx(0.1104)
    assert fidelity.expected_bias(np.eye(64), 1000, 1000) == pytest.approx(2.208)  # two finite sets add up


def test_expected_bias_of_decaying_eigenvalues() -> None:
    values = np.exp(-np.arange(64) / 8)
    assert fidelity.expected_bias(np.diag(values), 1000) == pytest.approx(0.0577, abs=5e-5)
    turned = scipy.linalg.qr(numpy_stream(0, "turn").normal(size=(64, 64)))[0]
    assert fidelity.expected_bias(turned @ np.diag(values) @ turned.T, 1000) == pytest.approx(0.0577, abs=5e-5)


def test_expected_bias_with_dead_features_is_that_of_the_others() -> None:
    dead = np.diag([1.0, 2.0, 0.0, 0.0])
    assert fidelity.expected_bias(dead, 100) == pytest.approx(fidelity.expected_bias(dead[:2, :2], 100))
    assert fidelity.expected_bias(np.zeros((3, 3)), 100) == 0


def test_expected_bias_is_what_gaussian_samples_score() -> None:
    rng, n, width = numpy_stream(0, "bias"), 400, 16
    exact = np.zeros(width), np.eye(width)
    draws = [rng.normal(size=(n, width)) for _ in range(60)]
    scores = [fidelity.frechet_distance((x.mean(0), np.cov(x, rowvar=False)), exact) for x in draws]
    assert np.mean(scores) == pytest.approx(fidelity.expected_bias(np.eye(width), n), rel=0.05)


# ------------------------------------------------------------------------------------------ inception score


def test_inception_score_of_uniform_predictions_is_one() -> None:
    found = fidelity.inception_score(torch.zeros(100, 10), seed=0)
    assert found["is_mean"] == pytest.approx(1)
    assert found["is_std"] == pytest.approx(0)


def test_inception_score_of_one_class_only_is_one() -> None:
    logits = torch.zeros(100, 10)
    logits[:, 3] = 50
    assert fidelity.inception_score(logits, seed=0)["is_mean"] == pytest.approx(1)


def test_inception_score_of_sure_and_balanced_predictions_is_the_number_of_classes() -> None:
    logits = 50 * torch.eye(10).repeat(1000, 1)  # the splits are shuffled, so not quite balanced
    assert fidelity.inception_score(logits, seed=0)["is_mean"] == pytest.approx(10, rel=0.01)


def test_inception_score_of_few_images_is_not_one_for_lack_of_company() -> None:
    assert fidelity.inception_score(50 * torch.eye(10), seed=0)["is_mean"] == pytest.approx(2)  # five splits of two


def test_inception_score_depends_on_its_seed_alone() -> None:
    logits = _normal(200, 10, "logits") * 3
    first, again, other = (fidelity.inception_score(logits, seed) for seed in (2**62 + 1, 2**62 + 1, 2))
    assert first == again != other


# ------------------------------------------------------------------------------------------------------ KID


def _mmd2(x: Array, y: Array) -> float:
    """The unbiased estimate of Binkowski et al. 2018, with their cubic kernel."""
    kernel = {k: (a @ b.T / x.shape[1] + 1) ** 3 for k, (a, b) in {"xx": (x, x), "yy": (y, y), "xy": (x, y)}.items()}
    n, off = len(x), ~np.eye(len(x), dtype=bool)
    return float((kernel["xx"][off].sum() + kernel["yy"][off].sum()) / (n * (n - 1)) - 2 * kernel["xy"].mean())


def _real(features: Tensor, count: int | None = None) -> Reference:
    """A reference of these features."""
    return Reference(*statistics(features), features, count or len(features), "d" * 64)


def test_kid_is_the_unbiased_mmd_of_all_pairs() -> None:
    x, y = _normal(80, 12, "x"), _normal(80, 12, "y") + 0.3
    found = fidelity.kernel_distance(x, _real(y))
    assert found["kid_mean"] == pytest.approx(_mmd2(x.double().numpy(), y.double().numpy()), rel=1e-9)


def test_kid_is_what_torch_fidelitys_means_over_subsets_tend_to() -> None:
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    x, y = _normal(90, 12, "x").double(), _normal(150, 12, "y").double() + 0.3
    means = [
        kid_features_to_metric(x, y, kid_subsets=200, kid_subset_size=40, rng_seed=seed, verbose=False)[
            KEY_METRIC_KID_MEAN
        ]
        for seed in range(10)
    ]
    error = np.std(means, ddof=1) / np.sqrt(len(means))
    assert fidelity.kernel_distance(x, _real(y))["kid_mean"] == pytest.approx(np.mean(means), abs=3 * error)


def test_kid_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _normal(50, 12, "x"), _normal(90, 12, "y")
    whole = fidelity.kernel_distance(x, _real(y))
    for module in (fidelity, references):
        monkeypatch.setattr(module, "ROWS", 7)
    assert fidelity.kernel_distance(x, _real(y)) == pytest.approx(whole, rel=1e-9)


def test_kid_of_one_distribution_is_around_zero() -> None:
    pairs = [(_normal(60, 12, f"x{i}"), _real(_normal(60, 12, f"y{i}"))) for i in range(60)]
    scores = [fidelity.kernel_distance(*pair)["kid_mean"] for pair in pairs]
    assert min(scores) < 0 < max(scores)
    assert abs(np.mean(scores)) < 3 * np.std(scores) / np.sqrt(len(scores))
    moved = fidelity.kernel_distance(pairs[0][0] + 1, pairs[0][1])["kid_mean"]
    assert moved > 10 * np.std(scores)


@pytest.mark.parametrize("shift", [0.0, 0.5], ids=["of one distribution", "of two"])
def test_the_spread_of_kid_is_that_of_other_samples(shift: float) -> None:
    real = _real(_normal(2000, 12, "real"))
    found = [fidelity.kernel_distance(_normal(100, 12, f"x{i}") + shift, real) for i in range(200)]
    sd = np.std([each["kid_mean"] for each in found], ddof=1)
    told = np.sqrt(np.mean([each["kid_std"] ** 2 for each in found]))  # the variance has no bias
    assert told == pytest.approx(sd, rel=0.15)


def test_kid_of_very_few_images_has_no_spread() -> None:
    real = _real(_normal(50, 12, "real"))
    assert fidelity.kernel_distance(_normal(4, 12, "x"), real)["kid_std"] is None
    assert fidelity.kernel_distance(_normal(5, 12, "x"), real)["kid_std"] > 0


# ---------------------------------------------------------------------------------------------- class scores


def test_class_scores() -> None:
    logits = 50 * torch.eye(10)[[0, 0, 0, 1]]
    found = fidelity.class_scores(logits, TENTHS, 10)
    assert found["class_histogram"] == [0.75, 0.25, *[0.0] * 8]
    assert found["class_tv"] == pytest.approx((0.65 + 0.15 + 8 * 0.1) / 2)
    assert found["mean_confidence"] == pytest.approx(1)
    even = fidelity.class_scores(50 * torch.eye(10), TENTHS, 10)
    assert even["class_tv"] == pytest.approx(0)
    unsure = fidelity.class_scores(torch.zeros(5, 10), TENTHS, 10)
    assert unsure["mean_confidence"] == pytest.approx(0.1)
    assert (found["recognised"], unsure["recognised"]) == (1, 0)


@pytest.mark.parametrize(("sure", "known"), [(65, True), (64, False)])
def test_class_tv_is_undefined_where_few_images_are_recognised(sure: int, known: bool) -> None:
    logits = torch.cat([50 * torch.eye(10).repeat(10, 1)[:sure], torch.eye(10).repeat(10, 1)[sure:]])
    found = fidelity.class_scores(logits, TENTHS, 10)
    assert found["recognised"] == pytest.approx(sure / 100)
    assert (found["class_tv"] is not None) == known
    assert found["class_histogram"] == pytest.approx(TENTHS.tolist())


def test_classes_that_are_not_the_datas_are_not_counted() -> None:
    found = fidelity.class_scores(torch.zeros(5, 1008), TENTHS, None)
    assert set(found.values()) == {None}


# ------------------------------------------------------------------------------------------------- reference


def test_reference_is_of_all_images_and_kept(tmp_path: Path) -> None:
    calls = Calls()
    extractor, images = _linear(calls), _noise(600)
    made = reference(images, "data", extractor, tmp_path)
    assert sum(calls) == 600
    features, _ = extractor.features(images)
    np.testing.assert_allclose(made.mean, features.double().mean(0).numpy())
    np.testing.assert_allclose(made.covariance, np.cov(features.double().numpy(), rowvar=False))
    assert sorted(made.features.sum(1).tolist()) == sorted(features.sum(1).tolist())
    assert made.count == 600
    calls.clear()
    kept = reference(images, "data", extractor, tmp_path)
    assert not calls  # read, not computed
    _same(made, kept)


def _same(a: Reference, b: Reference) -> None:
    np.testing.assert_array_equal(a.mean, b.mean)
    np.testing.assert_array_equal(a.covariance, b.covariance)
    assert a.features.equal(b.features)
    assert a.count == b.count


def test_reference_is_computed_anew_for_other_data_number_or_weights(tmp_path: Path) -> None:
    calls, images = Calls(), _noise(40)
    reference(images, "data", _linear(calls), tmp_path)
    for other in (
        (images, "other", _linear(calls)),
        (images[:30], "data", _linear(calls)),
        (images, "data", _linear(calls, "e" * 64)),
    ):
        calls.clear()
        assert reference(*other, tmp_path).count == len(other[0])
        assert sum(calls) == len(other[0])
    assert len(list(tmp_path.iterdir())) == 4  # and nothing temporary


@pytest.mark.parametrize("damage", ["truncated", "rubbish", "empty", "one bit"])
def test_a_broken_file_is_computed_anew_with_a_warning(tmp_path: Path, damage: str) -> None:
    calls, images = Calls(), _noise(40)
    made = reference(images, "data", _linear(calls), tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    flipped = whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:]
    path.write_bytes({"truncated": whole[:-8], "rubbish": b"rubbish", "empty": b"", "one bit": flipped}[damage])
    calls.clear()
    with pytest.warns(UserWarning, match="damaged"):
        again = reference(images, "data", _linear(calls), tmp_path)
    assert sum(calls) == 40
    _same(made, again)
    assert path.read_bytes() == whole


def test_a_file_of_other_shapes_is_computed_anew_with_a_warning(tmp_path: Path) -> None:
    calls, images = Calls(), _noise(40)
    made = reference(images, "data", _linear(calls), tmp_path)
    (path,) = tmp_path.iterdir()
    tensors = read_tensors(path)
    write_tensors(path, tensors | {"mean": tensors["mean"][:-1]})
    with pytest.warns(UserWarning, match="damaged"):
        _same(made, reference(images, "data", _linear(calls), tmp_path))


def test_a_reference_of_another_extractor_is_refused(tmp_path: Path) -> None:
    images = _noise(40)
    known = reference(images, "data", _linear(Calls()), tmp_path)
    with pytest.raises(ValueError, match="distances between them mean nothing"):
        fidelity.evaluate(images, known, TENTHS, _linear(Calls(), "e" * 64))


# ------------------------------------------------------------------------------------------ the whole and real images


@pytest.mark.parametrize("n", [0, 1])
def test_scores_need_two_images(tmp_path: Path, n: int) -> None:
    extractor = _linear(Calls())
    known = reference(_noise(40), "data", extractor, tmp_path)
    with pytest.raises(ValueError, match=f"at least 2 images, got {n}"):
        fidelity.evaluate(_noise(40)[:n], known, TENTHS, extractor)


def test_evaluate_is_deterministic_and_complete(tmp_path: Path) -> None:
    extractor = _linear(Calls())
    known = reference(_noise(300), "data", extractor, tmp_path)
    other = _noise(120, label="other")
    first, again = (fidelity.evaluate(other, known, TENTHS, extractor) for _ in range(2))
    assert first == again
    assert set(first) == {
        "fid", "fid_bias", "is_mean", "is_std", "kid_mean", "kid_std", "precision", "recall", "density", "coverage",
        "class_histogram", "class_tv", "recognised", "mean_confidence", "n_generated", "n_reference",
    }  # fmt: skip
    assert (first["n_generated"], first["n_reference"]) == (120, 300)
    assert sum(first["class_histogram"]) == pytest.approx(1)
    features, logits = extractor.features(other, "cpu")
    seed = derive(0, "fidelity")  # one for all cells: scores differ by their images alone
    drawn = fidelity.kernel_distance(features, known) | fidelity.inception_score(logits, seed)
    assert {key: first[key] for key in drawn} == drawn
    assert first["fid_bias"] == fidelity.expected_bias(known.covariance, 120, 300)


def test_images_that_are_the_reference_have_no_distance(tmp_path: Path) -> None:
    extractor, images = _linear(Calls()), _noise(300)
    known = reference(images, "data", extractor, tmp_path)
    assert fidelity.evaluate(images, known, TENTHS, extractor)["fid"] == pytest.approx(0, abs=1e-9)


# ------------------------------------------------------------------------------------------------ extractors


def test_the_digit_classifier_names_itself() -> None:
    extractor = load_extractor("mnist-cnn")
    assert (extractor.name, extractor.feature_width, extractor.classes) == ("mnist-cnn", 64, 10)
    assert extractor.digest == extractor_digest("mnist-cnn")
    assert extractor.test_accuracy is not None
    features, logits = extractor.features(_noise(300, 16))  # more than a batch
    assert (features.shape, logits.shape) == ((300, 64), (300, 10))
    assert features.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(features[260:], extractor.features(_noise(300, 16)[260:])[0])


def test_images_that_it_does_not_take_are_refused() -> None:
    extractor = load_extractor("mnist-cnn")
    with pytest.raises(ValueError, match="uint8"):
        extractor.features(torch.zeros(2, 1, 28, 28))
    with pytest.raises(ValueError, match="3x28x28"):
        extractor.features(torch.zeros(2, 3, 28, 28, dtype=torch.uint8))
    with pytest.raises(ValueError, match="28, 16"):
        extractor.features(torch.zeros(2, 1, 28, 16, dtype=torch.uint8))


def test_loading_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    load_extractor("mnist-cnn")
    assert torch.get_rng_state().equal(before)


def test_an_unknown_extractor_is_refused_by_naming_those_there_are() -> None:
    for ask in (load_extractor, extractor_digest):
        with pytest.raises(ValueError, match=r"nonesuch.*mnist-cnn, inception-v3-compat"):
            ask("nonesuch")


def test_missing_inception_weights_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for ask in (load_extractor, extractor_digest):
        with pytest.raises(ExtractorUnavailable, match=r"--download.*https://.*extractor_weights.*mnist-cnn"):
            ask("inception-v3-compat")
        with pytest.raises(ExtractorUnavailable, match=r"nowhere\.pth"):
            ask("inception-v3-compat", tmp_path / "nowhere.pth", download=True)  # a named file is never replaced


def test_a_file_that_is_no_inception_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="does not hold"):
        load_extractor("inception-v3-compat", path)


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the right shapes, untrained: torch-fidelity's network, built without the download it asks for."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # after torchvision_compat

    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.save(FeatureExtractorInceptionV3("random", ["2048"]).state_dict(), path)
    return path


def test_inception_takes_grey_as_three_equal_channels(inception_weights: Path) -> None:
    extractor = load_extractor("inception-v3-compat", inception_weights)
    assert extractor.digest == hashlib.sha256(inception_weights.read_bytes()).hexdigest()
    assert extractor.digest == extractor_digest("inception-v3-compat", inception_weights)
    assert (extractor.feature_width, extractor.classes) == (2048, None)
    grey = _noise(2, 16)
    features, logits = extractor.features(grey)
    assert (features.shape, logits.shape) == ((2, 2048), (2, 1008))
    assert features.isfinite().all()
    torch.testing.assert_close(features, extractor.features(grey.repeat(1, 3, 1, 1))[0])
    with pytest.raises(ValueError, match="1 or 3 channels"):
        extractor.features(grey.repeat(1, 2, 1, 1))


@pytest.mark.parametrize("content", [b"not a checkpoint", b""])
def test_a_file_that_is_no_checkpoint_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="does not hold torch-fidelity's Inception weights"):
        load_extractor("inception-v3-compat", path)


def test_splits_are_those_that_papers_use() -> None:
    """torch-fidelity's default, after the paper of IS."""
    from torch_fidelity.defaults import DEFAULTS

    assert DEFAULTS["isc_splits"] == fidelity.IS_SPLITS


@pytest.mark.parametrize(("width", "kept"), [(2048, 30), (WIDTH, 40)], ids=["many features", "few"])
def test_features_are_kept_of_so_many_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, kept: int
) -> None:
    monkeypatch.setattr(references, "KEPT", 30)
    monkeypatch.setattr(references, "KEPT_NUMBERS", 40 * WIDTH)
    extractor, images = dataclasses.replace(_linear(Calls()), feature_width=width), _noise(60)
    made = reference(images, "data", extractor, tmp_path)
    assert made.features.equal(extractor.features(images)[0][made.drawn])
    assert len(made.features) == kept
