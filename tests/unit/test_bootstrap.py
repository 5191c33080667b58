"""The bootstrap over images and FID-infinity: against torch-fidelity's distance, closed forms and repeated sampling."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.fidelity import bootstrap
from bench.fidelity.bootstrap import Distances, fid_infinity, fid_uncertainty
from bench.fidelity.references import statistics
from bench.fidelity.scores import expected_bias, frechet_distance
from bench.seeds import numpy_stream

Array = NDArray[np.float64]
WIDTH = 8
numbers = st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda value: round(value, 6))
SPREADS = np.exp(-np.arange(WIDTH) / 4)  # eigenvalues of the reference's covariance
REFERENCE = np.zeros(WIDTH), np.diag(SPREADS)


def drawn(n: int, label: str, shift: float = 0.0) -> Array:
    """Features of the reference's own distribution, all but for a shift of the first."""
    made = numpy_stream(0, label).normal(size=(n, WIDTH)) * np.sqrt(SPREADS)
    made[:, 0] += shift
    return made


def distance(features: Array, reference: tuple[Array, Array] = REFERENCE) -> float:
    return frechet_distance(statistics(torch.from_numpy(features)), reference)


@pytest.mark.parametrize(("n", "width"), [(50, 6), (7, 20)], ids=["more images than features", "fewer"])
def test_distances_of_resamples_are_those_of_torch_fidelity(n, width):
    rng = numpy_stream(1, n)
    features, real = rng.normal(size=(n, width)) @ rng.normal(size=(width, width)), rng.normal(size=(90, width))
    reference = real.mean(axis=0), np.cov(real, rowvar=False)
    distances = Distances.to(features, *reference)
    assert (distances.gram is None) == (n > width)
    for chosen in (np.arange(n), rng.integers(n, size=n), rng.permutation(n)[: n // 2]):
        assert distances.of(chosen) == pytest.approx(distance(features[chosen], reference), rel=1e-6, abs=1e-6)


def test_spread_and_bias_are_those_of_other_samples_of_the_same_model():
    samples = [drawn(200, f"sample {k}", shift=1.0) for k in range(200)]
    scores = np.array([distance(sample) for sample in samples])
    told = [fid_uncertainty(distance(x), x, *REFERENCE, replicates=100) for x in samples[:10]]
    assert np.mean([found["fid_images_sd"] for found in told]) == pytest.approx(scores.std(ddof=1), rel=0.15)
    bias = expected_bias(REFERENCE[1], 200)
    assert np.mean([found["fid_images_bias"] for found in told]) == pytest.approx(bias, rel=0.25)
    for found, fid in zip(told, scores, strict=False):
        assert found["fid_images_low"] < fid < found["fid_images_high"]
        width = found["fid_images_high"] - found["fid_images_low"]
        assert width == pytest.approx(2 * 1.96 * found["fid_images_sd"], rel=0.3)


@pytest.mark.parametrize(("shift", "least"), [(0.5, 0.88), (0.0, 0.99)])
def test_the_interval_covers_what_such_samples_score_in_the_mean(shift, least):
    samples = [drawn(200, f"of many {k}", shift) for k in range(100)]
    scores = np.array([distance(sample) for sample in samples])
    told = [fid_uncertainty(fid, x, *REFERENCE, replicates=60) for fid, x in zip(scores, samples, strict=True)]
    assert np.mean([a["fid_images_low"] <= scores.mean() <= a["fid_images_high"] for a in told]) >= least


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_fid_infinity_has_lost_the_bias(shift):
    features = drawn(1000, "many", shift)
    found = fid_infinity(Distances.to(features, *REFERENCE), 150)
    bias = expected_bias(REFERENCE[1], 1000)
    assert found == pytest.approx(distance(features) - bias, abs=bias / 3)


def test_fid_infinity_needs_four_images_a_feature():
    assert fid_infinity(Distances.to(drawn(4 * WIDTH, "few"), *REFERENCE), 15) is not None
    assert fid_infinity(Distances.to(drawn(4 * WIDTH - 1, "few"), *REFERENCE), 15) is None


def test_resamples_pair_cells_with_as_many_images():
    better, worse = drawn(60, "common"), drawn(60, "common", shift=1.0)
    first, second = (np.array(fid_uncertainty(0.0, x, *REFERENCE, 40)["bootstrap"]["fid"]) for x in (better, worse))
    alone = np.hypot(first.std(), second.std())
    assert (second - first).std() < alone  # the same images were taken
    again = fid_uncertainty(0.0, better, *REFERENCE, 40)["bootstrap"]["fid"]
    assert again == first.tolist()
    assert [part.tolist() for part in bootstrap._resamples(5, 2)] != [
        part.tolist() for part in bootstrap._resamples(5, 4)
    ][2:]


@given(st.lists(numbers, min_size=2, max_size=30), numbers, numbers)
def test_bootstrap_intervals_follow_the_value_and_not_the_bias(replicates, value, bias):
    low, high = bootstrap.bootstrap_interval(replicates, value)
    assert low <= high
    assert bootstrap.bootstrap_interval(np.array(replicates) + bias, value) == pytest.approx((low, high), abs=1e-6)
    assert bootstrap.bootstrap_interval(replicates, value + bias) == pytest.approx((low + bias, high + bias), abs=1e-6)


def test_a_bootstrap_interval_is_as_skewed_as_its_replicates():
    low, high = bootstrap.bootstrap_interval([0.0] * 90 + [10.0] * 10, 5.0)
    assert (low, high) == (4.0, 14.0)
    assert np.isnan(bootstrap.bootstrap_interval([1.0], 5.0)).all()
    assert np.isnan(bootstrap.bootstrap_interval([1.0, 2.0], math.nan)).all()


def test_a_bootstrap_interval_holds_95_of_a_hundred_replicates():
    low, high = bootstrap.bootstrap_interval(np.arange(1001.0), 0.0)
    assert (low, high) == pytest.approx((-475.0, 475.0))
