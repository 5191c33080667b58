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


# ------------------------------------------------------------------------------------------------- pairs

pairs = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=8)
positive = st.floats(0.5, 50).map(lambda value: round(value, 6))


@given(pairs)
def test_everything_of_pairs_is_scipys(values):
    a, b = np.array(values).T
    found = stats.paired(a, b)
    assert (found.n, found.reference_mean) == (len(a), pytest.approx(b.mean()))
    assert found[1:5] == stats.paired_interval(a, b)[:4]
    assert found.p_sign == stats.sign_flip_p(a - b)
    if spread_out(a - b):
        assert found.p_t == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue, rel=1e-6, abs=1e-12)
    if spread_out(a) and spread_out(b):
        assert found.correlation == pytest.approx(scipy.stats.pearsonr(a, b).statistic, abs=1e-6)


@given(pairs)
def test_what_pairing_brings_follows_from_the_correlation(values):
    """Squared: 1 - 2 r s t / (s^2 + t^2) of standard deviations s and t, that is 1 - r of equal ones."""
    a, b = np.array(values).T
    found = stats.paired(a, b)
    if spread_out(a) and spread_out(b):
        s, t = np.std(a), np.std(b)
        assert found.pairing**2 == pytest.approx(1 - 2 * found.correlation * s * t / (s**2 + t**2), abs=1e-6)
        unpaired = math.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / len(a))
        assert found.sd / math.sqrt(len(a)) == pytest.approx(found.pairing * unpaired, abs=1e-6)


def test_seeds_that_move_both_halves_alike_are_paired_away():
    seeds = np.array([1.0, 5.0, 9.0])
    found = stats.paired(seeds + 0.5, seeds)
    assert (found.mean, found.sd, found.correlation, found.pairing) == (0.5, 0.0, 1.0, 0.0)
    against = stats.paired(-seeds, seeds)
    assert (against.correlation, against.pairing) == (-1.0, pytest.approx(math.sqrt(2)))


@given(st.lists(st.tuples(positive, positive), min_size=2, max_size=8))
def test_a_relative_difference_is_fiellers(values):
    """An end is the ratio whose own difference, a - ratio b, has a t interval that begins or ends at zero."""
    a, b = np.array(values).T
    found = stats.paired(a, b)
    assert found.relative == pytest.approx(a.mean() / b.mean() - 1)
    if math.isnan(found.relative_low) or not (spread_out(a - b) and found.relative_high < 1e3):
        return
    for end in (found.relative_low, found.relative_high):
        interval = stats.t_interval(a - (1 + end) * b)
        assert min(abs(interval.low), abs(interval.high)) < 1e-5 * (abs(end) + 1) * b.max()
    assert found.relative_low <= found.relative <= found.relative_high
    apart = found.low > 1e-6 or found.high < -1e-6
    assert (
        apart == (found.relative_low > 0 or found.relative_high < 0) or abs(min(found.low, found.high, key=abs)) < 1e-5
    )


def test_a_relative_difference_needs_numbers_with_a_zero_and_a_mean_that_can_be_told_from_it():
    assert np.isnan(stats.paired([1.0, -2.0, 3.0], [1.0, 2.0, 3.0])[6:9]).all()
    found = stats.paired([2.0, 3.0], [1.0, 100.0])  # with one degree of freedom the mean 50.5 may be 0
    assert found.relative == pytest.approx(2.5 / 50.5 - 1)
    assert np.isnan([found.relative_low, found.relative_high]).all()


def test_what_few_pairs_leave_open():
    alone = stats.paired([3.0, math.nan], [2.0, 5.0])
    assert (alone.n, alone.mean, alone.relative, alone.p_sign) == (1, 1.0, 0.5, 1.0)
    assert np.isnan([alone.low, alone.relative_low, alone.p_t, alone.correlation, alone.pairing]).all()
    none = stats.paired([], [])
    assert (none.n, len(none)) == (0, 13)
    assert np.isnan(none[1:]).all()
    equal = stats.paired([4.0, 4.1, 4.3], [4.0, 4.1, 4.3])
    assert (equal.mean, equal.p_sign, equal.p_t, equal.relative_low, equal.relative_high) == (0.0, 1.0, 1.0, 0.0, 0.0)
    assert math.isnan(stats.paired([1.0] * 3, [2.0] * 3).correlation)
    assert np.isnan(stats.paired([1.0, 2.0], [3.0, 5.0])[-2:]).all()


# ------------------------------------------------------------------------------------------------- the best


def test_range_quantiles_are_tukeys():
    """Table of upper 5 % points of the studentized range; for two means it is Student's, times the root of 2."""
    table = {(3, 10): 3.877, (5, 20): 4.232, (10, 30): 4.824, (20, 60): 5.241}
    assert [stats.range_quantile(*key) for key in table] == pytest.approx(list(table.values()), abs=6e-4)
    assert stats.range_quantile(2, 4) == pytest.approx(math.sqrt(2) * scipy.stats.t.ppf(0.975, 4))


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=6))
def test_of_two_rows_the_worse_is_found_by_the_paired_t_test(values):
    table = np.array(values)
    if not spread_out(table[:, 0] - table[:, 1]):
        return
    oracle = scipy.stats.ttest_rel(*table.T)
    wanted = [bool(oracle.pvalue < 0.05 and oracle.statistic * sign > 0) for sign in (1, -1)]
    if abs(oracle.pvalue - 0.05) > 1e-6:
        assert stats.worse_than_best(table).tolist() == wanted


def stepped_down(table: np.ndarray) -> list[bool]:
    """The rule as it is told, with the spread of a regression on rows and seeds and SciPy's p."""
    seeds, left, worse = len(table), list(range(table.shape[1])), set()
    best = min(left, key=lambda k: table[:, k].mean())
    while len(left) > 1:
        design = np.array([[float(s == t) for t in range(seeds)] + [float(k == m) for m in left]
                           for s in range(seeds) for k in left])  # fmt: skip
        y = table[:, left].ravel()
        residual = y - design @ np.linalg.lstsq(design, y)[0]
        df = (seeds - 1) * (len(left) - 1)
        found = []
        for k in left:
            gap = table[:, k].mean() - table[:, best].mean()
            p = scipy.stats.studentized_range.sf(gap / math.sqrt(residual @ residual / df / seeds), len(left), df)
            own = k != best and scipy.stats.ttest_rel(table[:, k], table[:, best]).confidence_interval().low > 0
            found += [k] if p < 0.05 and own else []
        if not found:
            break
        worse |= set(found)
        left = [k for k in left if k not in worse]
    return [k in worse for k in range(table.shape[1])]


def test_the_rule_step_by_step():
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(15):
        table = rng.normal(size=(3, 6)) + np.array([0, 2, 5, 8, 12, 60]) + rng.normal(size=(3, 1)) * 9
        table[:, 5] *= 1 + rng.random()
        found = stats.worse_than_best(table)
        assert found.tolist() == stepped_down(table)
        sizes.add(int(found.sum()))
    assert len(sizes) > 2


@given(st.integers(2, 5), st.integers(3, 5), st.integers(0, 999), st.floats(0.1, 10))
def test_what_is_worse_depends_neither_on_the_seeds_effect_nor_on_unit_or_order(rows, seeds, number, scale):
    rng = np.random.default_rng(number)
    table = rng.normal(size=(seeds, rows)) + 3 * np.arange(rows)
    found = stats.worse_than_best(table)
    assert (stats.worse_than_best(table * scale + rng.normal(size=(seeds, 1))) == found).all()
    order = rng.permutation(rows)
    assert (stats.worse_than_best(table[:, order]) == found[order]).all()
    assert not found[table.mean(axis=0).argmin()]


def share_of_tables(shifts: np.ndarray, tables: int = 2000, seeds: int = 3) -> tuple[float, float]:
    """Of tables of normal noise, with an effect of each seed: how many find a row of the best mean worse, and the share
    of the other rows that are found."""
    rng = np.random.default_rng(15)
    best = shifts == shifts.min()
    wrong, right = 0, 0
    for _ in range(tables):
        found = stats.worse_than_best(rng.normal(size=(seeds, len(shifts))) + shifts + 5 * rng.normal(size=(seeds, 1)))
        wrong, right = wrong + bool(found[best].any()), right + int(found[~best].sum())
    return wrong / tables, right / tables / max(int((~best).sum()), 1)


def test_of_22_equal_rows_any_is_found_worse_in_at_most_5_percent_of_tables():
    """2,000 tables tell a share near 5 % to within one percentage point, two of its standard errors; found are 3.3."""
    wrong, _ = share_of_tables(np.zeros(22))
    assert 0.005 < wrong <= 0.05


def test_beside_rows_that_are_much_worse_equal_rows_are_kept_and_those_are_found():
    wrong, right = share_of_tables(np.repeat([0.0, 12.0], 11), tables=500)
    assert wrong <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 500)  # two standard errors of a share
    assert right > 0.99


def test_a_row_that_varies_wildly_does_not_hide_that_another_is_worse():
    rng = np.random.default_rng(1)
    table = 0.1 * rng.normal(size=(3, 6)) + np.array([0, 0, 0, 0, 4, 0])
    table[:, 5] = [60.0, 90.0, 70.0]
    assert stats.worse_than_best(table).tolist() == [False] * 4 + [True, True]


def test_differences_that_are_all_the_same_number_tell_nothing_of_how_seeds_spread():
    """Shares of 100 images, in steps of 0.01: that three differences are equal is chance, and no proof."""
    shares = np.array([[0.12, 0.13], [0.15, 0.16], [0.13, 0.14]])
    assert stats.worse_than_best(shares).tolist() == [False, False]
    assert math.isnan(stats.paired(*shares.T).p_t)
    assert stats.worse_than_best([[1.0], [2.0]]).tolist() == [False]


@pytest.mark.parametrize("table", [[[1.0, 2.0]], [[1.0, math.nan], [1.0, 2.0]]])
def test_the_best_needs_whole_tables(table):
    with pytest.raises(ValueError, match="needs two seeds or more, and every row's value of each"):
        stats.worse_than_best(table)
