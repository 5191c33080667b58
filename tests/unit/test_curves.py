"""What curves say in one number: closed forms, and what may not change it."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.report import curves
from bench.store.records import Round, Steps

heights = st.floats(-100, 100, allow_subnormal=False).map(lambda value: round(value, 3))
paths = st.lists(heights, min_size=2, max_size=20)


def steps(*visits):
    """Lines of steps.jsonl from (round, client, losses)."""
    return [Steps(round=number, client=client, loss=losses) for number, client, losses in visits]


# ------------------------------------------------------------------------------------------------------ area


def test_areas_by_hand():
    assert curves.area([0, 1, 4], [2.0, 2.0, 2.0]) == 2.0
    assert curves.area([0, 1, 4], [4.0, 2.0, 0.0]) == pytest.approx((3 + 3) / 4)
    assert curves.area([4, 0, 1], [0.0, 4.0, 2.0]) == pytest.approx(1.5)  # in the order of x


@given(paths, heights, st.floats(0.01, 10), st.floats(0.1, 1000), heights)
def test_area_is_a_mean_height_whatever_the_axis(path, shift, scale, stretch, start):
    x = np.arange(len(path))
    plain = curves.area(x, path)
    assert min(path) - 1e-9 <= plain <= max(path) + 1e-9
    assert curves.area(x * stretch + start, path) == pytest.approx(plain, abs=1e-6)
    assert curves.area(x, np.array(path) * scale + shift) == pytest.approx(plain * scale + shift, abs=1e-6)


def test_an_axis_without_length_has_no_area():
    assert math.isnan(curves.area([], []))
    assert math.isnan(curves.area([1], [2.0]))
    assert math.isnan(curves.area([1, 1], [2.0, 3.0]))
    assert curves.area([0, 1, 2], [1.0, math.nan, 3.0]) == 2.0
    with pytest.raises(ValueError, match="one length"):
        curves.area([0, 1], [1.0])


# ------------------------------------------------------------------------------------------------- roughness


@given(paths)
def test_a_curve_that_only_falls_has_roughness_one(path):
    path = sorted(set(path), reverse=True)
    assume(len(path) > 1)
    assert curves.roughness(path) == pytest.approx(1.0)


def test_roughness_by_hand():
    assert curves.roughness([4.0, 2.0, 3.0, 0.0]) == pytest.approx((2 + 1 + 3) / 4)
    assert curves.roughness([4.0, math.nan, 2.0, 3.0, 0.0]) == pytest.approx(1.5)


@given(paths, st.integers(0, 20), heights)
def test_a_detour_adds_twice_its_height_over_the_fall(path, where, height):
    assume(path[0] - path[-1] > 0.01)
    where = where % (len(path) - 1)
    peak = max(path[where], path[where + 1]) + abs(height)
    risen = [*path[: where + 1], peak, *path[where + 1 :]]
    detour = 2 * (peak - max(path[where], path[where + 1]))
    assert curves.roughness(risen) == pytest.approx(curves.roughness(path) + detour / (path[0] - path[-1]))


@given(paths, heights, st.floats(0.01, 100))
def test_roughness_has_no_unit(path, shift, scale):
    assume(path[0] - path[-1] > 0.01)
    assert curves.roughness(np.array(path) * scale + shift) == pytest.approx(curves.roughness(path), rel=1e-3)


@pytest.mark.parametrize("path", [[], [1.0], [1.0, 1.0], [1.0, 2.0], [1.0, 0.0, 1.0]])
def test_a_curve_that_does_not_fall_has_no_roughness(path):
    assert math.isnan(curves.roughness(path))


# ---------------------------------------------------------------------------------------------------- unrest


def test_unrest_by_hand():
    """A detour of 1 up and down in either half of a fall of 10."""
    calm, early, late = [10.0, 8.0, 6.0, 3.0, 0.0], [10.0, 8.0, 9.0, 6.0, 3.0, 0.0], [10.0, 8.0, 6.0, 3.0, 4.0, 0.0]
    assert curves.unrest(calm) == 0.0
    assert curves.unrest(early) == pytest.approx(-0.2)
    assert curves.unrest(late) == pytest.approx(0.2)


def test_a_half_is_not_restless_for_falling_less():
    assert curves.unrest(np.exp(-np.arange(40.0))) == pytest.approx(0.0)


@given(st.lists(heights, min_size=4, max_size=20))
def test_read_backwards_and_upside_down_a_curve_is_as_much_calmer(path):
    assume(path[0] - path[-1] > 0.01)
    assert curves.unrest([-y for y in reversed(path)]) == pytest.approx(-curves.unrest(path), abs=1e-9)


@pytest.mark.parametrize("path", [[], [3.0, 2.0, 1.0], [1.0, 0.0, 2.0, 1.0]])
def test_no_unrest_without_halves_or_a_fall(path):
    assert math.isnan(curves.unrest(path))


# ------------------------------------------------------------------------------------------------- beginnings


def test_the_first_point_that_reaches_a_target():
    x, y = [10, 20, 30, 40], [3.0, 1.0, 2.0, 0.5]
    assert curves.first_reach(x, y, 3.0) == 10
    assert curves.first_reach(x, y, 1.5) == 20  # that it rises again does not matter
    assert curves.first_reach(x, y, 1.0) == 20
    assert curves.first_reach(x, y, 0.7) == 40
    assert math.isnan(curves.first_reach(x, y, 0.4))
    assert math.isnan(curves.first_reach(x, y, math.nan))
    assert math.isnan(curves.first_reach([], [], 1.0))


@given(paths, heights, heights)
def test_a_lower_target_is_not_reached_earlier(path, one, other):
    x = np.arange(len(path))
    early, late = (curves.first_reach(x, path, target) for target in (max(one, other), min(one, other)))
    assert math.isnan(late) or early <= late


def test_the_mean_over_the_beginning():
    x, y = [100, 200, 300, 400, 500], [5.0, 4.0, 3.0, 2.0, 1.0]
    assert curves.early_mean(x, y, 0.2) == 5.0
    assert curves.early_mean(x, y, 0.5) == 4.5
    assert curves.early_mean([0.1 * k for k in range(1, 11)], range(10), 0.3) == 1.0  # 0.3 is not 3 x 0.1
    assert math.isnan(curves.early_mean([100, 200], [2.0, 1.0], 0.2))
    assert math.isnan(curves.early_mean([], [], 0.2))


# --------------------------------------------------------------------------------------- running training loss


def test_local_losses_stand_in_the_order_of_execution():
    lines = steps((1, 2, [5.0, 4.0]), (1, 0, [3.0]), (2, 1, [2.0, 1.0]))
    assert list(curves.step_losses(lines)) == [5.0, 4.0, 3.0, 2.0, 1.0]
    assert curves.last_round_loss(lines) == 1.5
    assert len(curves.step_losses([])) == 0
    assert math.isnan(curves.last_round_loss([]))


def test_running_means_by_hand():
    assert curves.running_mean([1.0, 3.0, 5.0, 7.0], 2) == pytest.approx([2.0, 6.0])
    assert curves.running_mean([1.0, 2.0, 3.0], 2) == pytest.approx([(1 + 2 / 2) / 1.5, (2 / 2 + 3) / 1.5])
    assert curves.running_mean([1.0, 3.0], 4) == pytest.approx([1.0, 1.0, 3.0, 3.0])
    assert curves.running_mean([1.0, math.nan, 3.0], 2) == pytest.approx([1.0, 3.0])
    assert len(curves.running_mean([])) == 0


@given(st.lists(heights, min_size=1, max_size=60), st.integers(1, 30))
def test_running_means_keep_the_mean_and_the_range(losses, stretches):
    means = curves.running_mean(losses, stretches)
    assert len(means) == stretches
    assert means.mean() == pytest.approx(np.mean(losses), abs=1e-6)
    assert min(losses) - 1e-6 <= means.min() <= means.max() <= max(losses) + 1e-6


@given(st.lists(heights, min_size=1, max_size=40), heights, st.floats(0.01, 10))
def test_running_means_move_with_the_losses(losses, shift, scale):
    moved = curves.running_mean(np.array(losses) * scale + shift, 7)
    assert moved == pytest.approx(curves.running_mean(losses, 7) * scale + shift, abs=1e-6)


def test_more_batches_of_the_same_run_give_the_same_curve():
    """So that clients' smaller last batches do not shift a federated curve against the centralized one."""
    fine, coarse = (curves.running_mean(np.exp(-np.linspace(0, 3, n)), 20) for n in (2000, 1990))
    assert fine == pytest.approx(coarse, rel=2e-3)


def test_the_axis_of_the_running_loss_are_images_at_the_end_of_each_stretch():
    x, y = curves.running_loss(steps((1, 0, [4.0, 2.0]), (1, 1, [3.0, 1.0])), samples=100, stretches=2)
    assert (list(x), list(y)) == ([50.0, 100.0], [3.0, 2.0])
    x, y = curves.running_loss([], samples=100)
    assert len(x) == len(y) == 0


def test_visits_of_clients_make_the_running_loss_rougher():
    """A sawtooth of one tooth a visit, on a fall: the running mean is fine enough to see ten rounds of ten clients."""
    fall = np.linspace(1.0, 0.5, 4000)
    teeth = [0.1 * (1 - (np.arange(4000) % (4000 // visits)) * visits / 4000) for visits in (10, 30, 100)]
    rough = [curves.roughness(curves.running_mean(fall + tooth)) for tooth in teeth]
    assert rough[0] < rough[1] < rough[2]


def test_columns_of_a_log():
    lines = [Round(round=1, time=0.0, loss=0.5), Round(round=2, time=0.0, loss=None), Round(round=3, time=0.0)]
    assert curves.column(lines, "loss") == pytest.approx([0.5, math.nan, math.nan], nan_ok=True)
