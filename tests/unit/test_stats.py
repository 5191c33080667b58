"""Statistics of few pairs: against closed forms, SciPy and enumeration, and their symmetries."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from bench.report import stats

numbers = st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda value: round(value, 6))
samples = st.lists(numbers, min_size=2, max_size=8)
few = st.lists(numbers, min_size=1, max_size=8)


def spread_out(values):
    return np.std(values) > 1e-3


# ------------------------------------------------------------------------------------------------- intervals


def test_the_interval_of_two_values_by_hand():
    """Student's quantile with one degree of freedom is tan(pi (p - 1/2)); the standard error of 0 and 2 is 1."""
    quantile = math.tan(math.pi * 0.475)
    found = stats.t_interval([0.0, 2.0])
    assert found == pytest.approx((1.0, math.sqrt(2), 1 - quantile, 1 + quantile, 2))
    assert stats.t_interval([0.0, 2.0], level=0.5)[2:4] == pytest.approx((0.0, 2.0))


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=9), st.sampled_from([0.8, 0.95, 0.99]))
def test_paired_intervals_are_scipys(pairs, level):
    a, b = np.array(pairs).T
    if not spread_out(a - b):
        return
    oracle = scipy.stats.ttest_rel(a, b).confidence_interval(level)
    found = stats.paired_interval(a, b, level)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), rel=1e-6, abs=1e-6)
    assert (found.mean, found.n) == (pytest.approx(np.mean(a - b)), len(a))


@given(samples, numbers, st.floats(0.01, 100), st.randoms())
def test_intervals_move_with_the_values_and_not_with_their_order(values, shift, scale, random):
    plain = np.array(stats.t_interval(values))
    moved = stats.t_interval(np.array(values) * scale + shift)
    near = {"rel": 1e-6, "abs": 1e-4}
    assert moved.sd == pytest.approx(plain[1] * scale, **near)
    assert (moved.mean, moved.low, moved.high) == pytest.approx(plain[[0, 2, 3]] * scale + shift, **near)
    random.shuffle(values)
    assert stats.t_interval(values) == pytest.approx(plain, **near)


def test_what_few_values_leave_open():
    assert stats.t_interval([])[-1] == 0
    assert np.isnan(stats.t_interval([])[:-1]).all()
    alone = stats.t_interval([3.0])
    assert (alone.mean, alone.n) == (3.0, 1)
    assert np.isnan([alone.sd, alone.low, alone.high]).all()
    assert stats.t_interval([3.0, 3.0, 3.0]) == (3.0, 0.0, 3.0, 3.0, 3)


def test_pairs_that_miss_a_half_are_left_out():
    a, b = [5.0, math.nan, 2.0, math.inf, 1.0], [1.0, 1.0, math.nan, 0.0, 2.0]
    assert stats.paired_interval(a, b) == stats.t_interval([4.0, -1.0])
    with pytest.raises(ValueError, match=r"one length, got \(2,\) and \(3,\)"):
        stats.paired_interval([1, 2], [1, 2, 3])


def test_half_widths_of_many_means_at_once():
    found = stats.half_width([[1.0, 2.0], [1.0, 0.0]], [[3, 3], [1, 5]])
    three = scipy.stats.t.ppf(0.975, 2) / math.sqrt(3)
    assert found == pytest.approx(np.array([[three, 2 * three], [math.nan, 0.0]]), nan_ok=True)


# ------------------------------------------------------------------------------------------------- sign flips


@given(few)
def test_sign_flip_p_is_the_share_of_all_flips(values):
    """Enumerated in whole numbers, where no rounding can break ties."""
    units = [round(value * 1e6) for value in values]
    sums = [sum(sign * unit for sign, unit in zip(signs, units, strict=True))
            for signs in itertools.product((-1, 1), repeat=len(units))]  # fmt: skip
    assert stats.sign_flip_p(values) == np.mean(np.abs(sums) >= abs(sum(units)))


@given(st.lists(st.floats(0.5, 2.0), min_size=2, max_size=8))
def test_sign_flip_p_is_scipys(values):
    values = np.array(values) + np.arange(len(values)) - 1.7  # both signs, no ties
    oracle = scipy.stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert stats.sign_flip_p(values) == pytest.approx(min(oracle.pvalue, 1.0))


@given(few, st.floats(0.01, 100), st.randoms())
def test_sign_flip_p_knows_no_unit_no_order_and_no_direction(values, scale, random):
    p = stats.sign_flip_p(values)
    assert stats.sign_flip_p(np.array(values) * scale) == p
    assert stats.sign_flip_p(-np.array(values)) == p
    random.shuffle(values)
    assert stats.sign_flip_p(values) == p


@pytest.mark.parametrize("n", range(1, 12))
def test_the_smallest_p_is_reached_by_differences_of_one_sign(n):
    assert stats.sign_flip_p(np.arange(1, n + 1)) == stats.smallest_p(n) == 2 / 2**n


def test_p_without_information():
    assert math.isnan(stats.sign_flip_p([]))
    assert math.isnan(stats.sign_flip_p([math.nan]))
    assert math.isnan(stats.smallest_p(0))
    assert stats.sign_flip_p([7.0]) == 1.0
    assert stats.sign_flip_p([0.0, 0.0, 0.0]) == 1.0
    assert stats.sign_flip_p([1.0, math.nan, 1.0]) == 0.5
    assert stats.sign_flip_p([0.1, 0.2, -0.3]) == 1.0  # sums that are 0 but for rounding


def test_many_pairs_are_sampled_alike_every_time():
    values = np.random.default_rng(0).normal(0.3, 1.0, stats.MOST_ENUMERATED + 5)
    p = stats.sign_flip_p(values)
    assert p == stats.sign_flip_p(values)
    assert p == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue, abs=0.02)


# ------------------------------------------------------------------------------------------------------- Holm


def test_holm_by_hand():
    """0.01 x 4, 0.02 x 3, then 0.03 x 2 and 0.04 x 1, which may not fall below those before."""
    assert stats.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert stats.holm([0.5, 0.7]) == pytest.approx([1.0, 1.0])
    assert stats.holm([math.nan, 0.02, 0.01]) == pytest.approx([math.nan, 0.02, 0.02], nan_ok=True)
    assert len(stats.holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(values, random):
    p = np.array(values)
    adjusted = stats.holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(len(p) * p, 1)).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    order = random.sample(range(len(p)), len(p))
    assert list(stats.holm(p[order])) == list(adjusted[order])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10), st.floats(0.001, 0.2))
def test_holm_rejects_what_stepping_down_rejects(values, alpha):
    """The procedure as it was published: reject while the smallest p left is at most alpha over how many are left."""
    left, rejected = sorted(values), 0
    while rejected < len(left) and left[rejected] * (len(left) - rejected) <= alpha:
        rejected += 1
    assert (stats.holm(values) <= alpha).sum() == rejected


@pytest.mark.parametrize(("comparisons", "seeds"), [(1, 6), (2, 7), (3, 7), (4, 8), (8, 9), (20, 10), (1000, 16)])
def test_how_many_seeds_holm_needs(comparisons, seeds):
    assert stats.seeds_for_holm(comparisons) == seeds
    assert comparisons * stats.smallest_p(seeds) <= 0.05 < comparisons * stats.smallest_p(seeds - 1)


def test_seeds_for_holm_refuses_what_means_nothing():
    with pytest.raises(ValueError, match=r"got 0 and 0\.05"):
        stats.seeds_for_holm(0)
    with pytest.raises(ValueError, match="got 3 and 0"):
        stats.seeds_for_holm(3, alpha=0)
