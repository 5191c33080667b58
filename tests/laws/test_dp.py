"""DP-FedAvg: its mean, its sensitivity, its noise and its accountant, each against an independent computation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from bench.federation.participation import draw_round
from strategies.base import Upload
from strategies.dp_fedavg import DPFedAvg, epsilon
from strategies.fedavg import FedAvg
from tests.laws.conftest import finish, same, small_net
from tests.laws.quadratic import Quadratic, make_run, train

NO_PRIVACY = {"clip": 1e6, "noise_multiplier": 0.0}


def server_of(params, n_clients=4, **entries):
    common = {"round": 0, "n_clients": n_clients, "participation": 1.0, "sampling": "fixed", "seed": 3}
    return {"params": params, **common, **entries}


def uploads_of(strategy, server, models):
    """What clients with these models send up."""
    down = strategy.download(server, 0)
    return [Upload(i, 10, strategy.upload(model, down, {})) for i, model in enumerate(models)]


def aggregated(strategy, server, models):
    strategy.aggregate(server, iter(uploads_of(strategy, server, models)))
    return server["params"]


# ------------------------------------------------------------------------------------------ the mean


def test_without_noise_and_clipping_it_is_the_unweighted_mean(tmp_path):
    """Clients of 1, 2 and 5 images with losses (w - b)^2 / 2 move from 0 by 0.1 times the mean of their centres."""
    centres = torch.tensor([[8.0], [1.0], [3.0], [5.0], [5.0], [4.0], [6.0], [5.0]])
    steps = [0.1 * 8.0, 0.1 * (1.0 + 3.0) / 2, 0.1 * (5.0 + 5.0 + 4.0 + 6.0 + 5.0) / 5]
    run = make_run(tmp_path, DPFedAvg(**NO_PRIVACY), Quadratic(centres), (1, 2, 5))
    assert train(run).item() == pytest.approx(sum(steps) / 3, rel=1e-6)
    weighted = make_run(tmp_path / "weighted", FedAvg(), Quadratic(centres), (1, 2, 5))
    assert train(weighted).item() == pytest.approx((steps[0] + 2 * steps[1] + 5 * steps[2]) / 8, rel=1e-6)


def test_without_noise_and_clipping_clients_of_equal_size_give_fedavg(make_training):
    """By SGD: Adam makes much of a rounding error."""
    fields = {"sizes": (13, 13, 13), "optimizer": "sgd", "lr": 0.02}
    private, plain = (finish(make_training(s, **fields)) for s in (DPFedAvg(**NO_PRIVACY), FedAvg()))
    assert not same(plain, dict(small_net().named_parameters()))
    for name, value in private.items():
        torch.testing.assert_close(value, plain[name], atol=2e-6, rtol=1e-5)


def test_the_sum_is_over_the_expected_number_of_participants_whoever_arrives():
    one = [{"w": torch.tensor([6.0])}]
    strategy, zero = DPFedAvg(**NO_PRIVACY), {"w": torch.zeros(1)}
    assert aggregated(strategy, server_of(zero, 10, participation=0.25), one)["w"].item() == 6.0 / 3
    assert aggregated(strategy, server_of(zero, 10, participation=0.01), one)["w"].item() == 6.0
    poisson = server_of(zero, 10, participation=0.25, sampling="poisson")
    assert aggregated(strategy, poisson, one)["w"].item() == pytest.approx(6.0 / 2.5)


def test_the_denominator_is_the_number_that_the_loop_draws(tmp_path):
    task = Quadratic(torch.full((7, 1), 10.0))
    for share in (0.1, 0.2, 0.36, 0.5, 0.9, 1.0):
        run = make_run(tmp_path / str(share), DPFedAvg(**NO_PRIVACY), task, (1,) * 7, participation=share)
        assert train(run).item() == pytest.approx(1.0, rel=1e-6)  # each participant moves by 0.1 * 10


def test_numbers_of_images_change_nothing():
    strategy, zero = DPFedAvg(**NO_PRIVACY), {"w": torch.zeros(1)}
    sent = [{"w": torch.tensor([value])} for value in (1.0, 2.0)]
    means = []
    for sizes in ((1, 1), (1000, 1)):
        server = server_of(zero, 2)
        strategy.aggregate(server, iter([Upload(i, n, up) for i, (n, up) in enumerate(zip(sizes, sent, strict=True))]))
        means.append(server["params"]["w"].item())
    assert means == [1.5, 1.5]


def test_the_order_of_clients_changes_nothing_beyond_rounding():
    strategy = DPFedAvg(clip=0.5, noise_multiplier=0.1)
    start = {"w": torch.linspace(-1, 1, 50)}
    models = [{"w": start["w"] + torch.randn(50, generator=torch.Generator().manual_seed(i))} for i in range(6)]
    there, back = (aggregated(strategy, server_of(start, 6), order) for order in (models, models[::-1]))
    torch.testing.assert_close(there, back, atol=1e-7, rtol=1e-6)


# ------------------------------------------------------------------------------------------ clipping


@given(st.floats(1e-3, 1e3), st.floats(-6, 6), st.integers(0, 1000))
def test_what_is_sent_is_never_longer_than_the_clip_and_keeps_its_direction(clip, exponent, seed):
    stream = torch.Generator().manual_seed(seed)
    down = {"a": torch.randn(3, 2, generator=stream), "b": torch.randn(5, generator=stream)}
    change = {name: torch.randn(t.shape, generator=stream) * 10**exponent for name, t in down.items()}
    params = {name: (down[name] + change[name]).requires_grad_() for name in down}
    update = torch.cat([(params[name].detach() - down[name]).flatten() for name in down])
    sent = DPFedAvg(clip=clip).upload(params, down, {})
    flat = torch.cat([sent[name].flatten() for name in down])
    assert flat.double().norm() <= clip * (1 + 1e-6)
    expected = update if update.norm() <= clip else update / update.norm() * clip
    torch.testing.assert_close(flat, expected, rtol=1e-5, atol=1e-6 * clip)
    assert not flat.requires_grad


def test_the_norm_is_that_of_all_tensors_together():
    """(3, 4) has the norm 5, so clipped to 1 it is (0.6, 0.8); tensor by tensor it would be (1, 1)."""
    down = {"a": torch.zeros(1), "b": torch.zeros(1)}
    sent = DPFedAvg(clip=1.0).upload({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}, down, {})
    assert (sent["a"].item(), sent["b"].item()) == (pytest.approx(0.6), pytest.approx(0.8))


def test_short_updates_and_none_at_all_are_sent_as_they_are():
    down = {"w": torch.tensor([1.0, 2.0])}
    assert DPFedAvg(clip=1.0).upload({"w": torch.tensor([1.25, 2.5])}, down, {})["w"].tolist() == [0.25, 0.5]
    assert DPFedAvg(clip=1.0).upload(down, down, {})["w"].tolist() == [0.0, 0.0]


@given(st.floats(1e-2, 1e2), st.integers(1, 6), st.integers(0, 1000), st.floats(-3, 5))
def test_replacing_one_client_by_any_other_moves_the_model_by_two_clips_over_m_at_most(clip, others, seed, exponent):
    stream = torch.Generator().manual_seed(seed)
    m, start = others + 1, {"w": torch.randn(7, generator=stream)}
    models = [{"w": torch.randn(7, generator=stream) * 10**exponent} for _ in range(m + 1)]
    strategy = DPFedAvg(clip=clip, noise_multiplier=0.0)
    before = aggregated(strategy, server_of(start, m), models[:m])["w"].double()
    after = aggregated(strategy, server_of(start, m), [*models[: m - 1], models[m]])["w"].double()
    without = aggregated(strategy, server_of(start, m), models[: m - 1])["w"].double() if others else start["w"]
    rounding = 1e-6 * (before.norm() + clip)
    assert (before - after).norm() <= 2 * clip / m + rounding
    assert (before - without).norm() <= clip / m + rounding


def test_the_bound_on_a_clients_influence_is_reached():
    strategy, zero = DPFedAvg(clip=2.0, noise_multiplier=0.0), {"w": torch.zeros(1)}
    high, low = (aggregated(strategy, server_of(zero, 1), [{"w": torch.tensor([v])}])["w"].item() for v in (9.0, -9.0))
    assert high - low == 2 * 2.0


def test_what_is_sent_has_the_bytes_of_the_model(make_training):
    *_, last = make_training(DPFedAvg(), rounds=1).rounds()
    assert last.bytes_up == last.bytes_down == 3 * sum(p.numel() * 4 for p in small_net().parameters())


def test_integer_tensors_are_neither_sent_nor_changed():
    start = {"w": torch.zeros(2), "count": torch.tensor(7)}
    strategy = DPFedAvg()
    (upload,) = uploads_of(strategy, server_of(start, 1), [{"w": torch.ones(2), "count": torch.tensor(9)}])
    assert set(upload.tensors) == {"w"}
    assert aggregated(strategy, server_of(start, 1), [{"w": torch.ones(2), "count": torch.tensor(9)}])["count"] == 7


# ------------------------------------------------------------------------------------------ noise


def noise_of(round=0, seed=3, m=5, clip=2.0, z=0.3, size=40_000, names="ab", dtype=torch.float32):
    """What a round adds where all updates are zero."""
    start = {name: torch.zeros(size // len(names), dtype=dtype) for name in names}
    strategy = DPFedAvg(clip=clip, noise_multiplier=z)
    moved = aggregated(strategy, server_of(start, m, round=round, seed=seed, noised=round), [start])
    return torch.cat([moved[name] for name in sorted(names)]).double()


@pytest.mark.parametrize(("m", "clip", "z"), [(5, 2.0, 0.3), (1, 0.1, 1.0), (40, 3.0, 0.01)])
def test_the_noise_has_the_mechanisms_standard_deviation_and_is_normal(m, clip, z):
    """z S / m per coordinate; of 40,000 the mean is within 5 and the deviation within 4 standard errors."""
    noise = noise_of(m=m, clip=clip, z=z) / (z * clip / m)
    assert abs(noise.mean()) < 5 / 200
    assert abs(noise.std() - 1) < 4 / math.sqrt(2 * 40_000)
    for level, mass in ((1.0, 0.6827), (2.0, 0.9545), (3.0, 0.9973)):
        assert (noise.abs() < level).double().mean() == pytest.approx(mass, abs=0.01)


def test_noise_is_drawn_anew_for_each_round_tensor_and_seed_and_repeats():
    noises = [noise_of(), noise_of(round=1), noise_of(seed=4)]
    assert torch.equal(noises[0], noise_of())
    halves = [half for noise in noises for half in noise.chunk(2)]
    cosines = np.corrcoef(torch.stack(halves).numpy())
    assert np.abs(cosines - np.eye(6)).max() < 5 / math.sqrt(20_000)


def test_neither_the_order_of_tensors_nor_their_type_changes_the_noise():
    assert torch.equal(noise_of(names="ab"), noise_of(names="ba"))
    torch.testing.assert_close(noise_of(), noise_of(dtype=torch.float64), atol=0, rtol=1e-6)


def test_noise_is_added_once_and_not_for_each_client():
    start = {"w": torch.zeros(40_000)}
    moved = aggregated(DPFedAvg(clip=1.0, noise_multiplier=1.0), server_of(start, 16), [start] * 16)["w"]
    assert moved.std().item() == pytest.approx(1 / 16, rel=0.02)


def test_runs_repeat_and_other_seeds_draw_other_noise(make_training):
    first, second, other = (
        finish(make_training(DPFedAvg(noise_multiplier=0.001), rounds=1, seed=s)) for s in (1, 1, 2)
    )
    assert same(first, second)
    assert not same(first, other)


def test_global_generators_are_left_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    noise_of()
    assert torch.equal(before, torch.get_rng_state())


# ------------------------------------------------------------------------------------------ rounds without arrivals


def drawn(run):
    return [len(draw_round(len(run.clients), run.training, run.seed, r)) for r in range(run.training.rounds)]


def test_rounds_in_which_nobody_is_drawn_add_their_noise_too(tmp_path):
    """Clients that stay where they are (a rate of 0), so the model is the start and the noise of all its rounds."""
    strategy = DPFedAvg(clip=1.0, noise_multiplier=0.5)
    fields = {"rounds": 12, "participation": 0.15, "sampling": "poisson", "at": [1.0, 2.0]}
    run = make_run(tmp_path, strategy, Quadratic(torch.tensor([[1.0, 2.0]] * 4)), (1,) * 4, lr=1e-30, **fields)
    arrivals = drawn(run)
    assert 0 in arrivals[:-1]
    assert any(arrivals)
    expected = torch.tensor([1.0, 2.0]).double()
    for record in run.rounds():
        server = server_of({"w": torch.zeros(2)}, 1, round=record.round - 1, seed=run.server["seed"])
        expected += strategy._noise(server, record.round - 1)["w"] / (0.15 * 4)
        released = strategy.model(run.server, {})["w"].double()
        torch.testing.assert_close(released, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(run.net.w.detach().double(), expected, atol=1e-5, rtol=1e-5)


def test_what_clients_are_given_has_the_noise_of_every_round_before():
    strategy = DPFedAvg(clip=1.0, noise_multiplier=1.0)
    server = server_of({"w": torch.zeros(3)}, 2, round=2)
    given_out = strategy.download(server, 0)["w"]
    both = strategy._noise(server, 0)["w"] + strategy._noise(server, 1)["w"]
    torch.testing.assert_close(given_out.double(), both / 2, atol=1e-6, rtol=1e-6)
    assert server["params"]["w"].tolist() == [0.0] * 3
    strategy.aggregate(server, iter([]))
    torch.testing.assert_close(server["params"]["w"].double(), (both + strategy._noise(server, 2)["w"]) / 2)
    assert torch.equal(strategy.model(server, {})["w"], server["params"]["w"])


def test_without_noise_rounds_without_arrivals_change_nothing():
    server = server_of({"w": torch.ones(3)}, 2, round=5)
    assert DPFedAvg(noise_multiplier=0.0).download(server, 0)["w"] is server["params"]["w"]


# ------------------------------------------------------------------------------------------ the accountant


def by_hand(z, rounds, delta):
    """Renyi: T Gaussians spend alpha T / (2 z^2) at order alpha. As (epsilon, delta) (Canonne, Kamath, Steinke 2020,
    proposition 12; Balle et al. 2020, theorem 21): + log((alpha - 1) / alpha) - (log delta + log alpha) / (alpha - 1).
    """
    orders = 1 + np.logspace(-5, 4, 20_000)
    spent = orders * rounds / (2 * z**2)
    return float(np.min(spent + np.log((orders - 1) / orders) - (np.log(delta) + np.log(orders)) / (orders - 1)))


def exact(z, rounds, delta):
    """Of the Gaussian mechanism itself (Balle and Wang 2018, theorem 8); T of them are one with z / sqrt(T)."""
    mu = math.sqrt(rounds) / z

    def excess(eps):
        return norm.cdf(mu / 2 - eps / mu) - math.exp(eps + norm.logcdf(-mu / 2 - eps / mu)) - delta

    return brentq(excess, 0, mu * mu + 50 * mu + 50)


@pytest.mark.parametrize("z", [0.01, 0.1, 0.5, 1.0, 4.0, 30.0])
@pytest.mark.parametrize(("rounds", "delta"), [(1, 1e-5), (8, 1e-5), (200, 1e-3)])
def test_epsilon_without_amplification_is_the_closed_form_and_above_the_exact_one(z, rounds, delta):
    spent = epsilon(z, 1.0, rounds, delta)
    assert by_hand(z, rounds, delta) * (1 - 1e-9) < spent < by_hand(z, rounds, delta) * 1.01
    assert exact(z, rounds, delta) < spent < 1.3 * exact(z, rounds, delta)


def renyi(z, q, alpha):
    """Order alpha of the sampled Gaussian (Mironov, Talwar, Zhang 2019, section 3.3), its integral by the trapezoid
    rule: log E_x [(1 - q + q exp((2 x - 1) / (2 z^2)))^alpha] / (alpha - 1) over x ~ N(0, z^2).
    """
    x = np.linspace(-40 * z, 40 * z + alpha + 2, 20_001)
    ratio = np.logaddexp(np.log1p(-q), np.log(q) + (2 * x - 1) / (2 * z * z))
    terms = alpha * ratio - x * x / (2 * z * z) - 0.5 * np.log(2 * np.pi * z * z)
    return (terms.max() + np.log(np.sum(np.exp(terms - terms.max())) * (x[1] - x[0]))) / (alpha - 1)


@pytest.mark.parametrize(("z", "q", "rounds"), [(1.0, 0.1, 8), (0.5, 0.5, 8), (5.0, 0.3, 100), (30.0, 0.4, 8)])
def test_epsilon_with_amplification_is_that_of_the_sampled_gaussian_integrated(z, q, rounds):
    orders = 1 + np.logspace(-2, 2.3, 60)
    spent = [rounds * renyi(z, q, a) + math.log((a - 1) / a) - (math.log(1e-5) + math.log(a)) / (a - 1) for a in orders]
    assert epsilon(z, q, rounds, 1e-5) == pytest.approx(min(spent), rel=0.01)


@settings(max_examples=10)
@given(st.floats(0.02, 40), st.floats(1e-3, 0.999), st.integers(1, 500))
def test_epsilon_is_positive_and_sampling_only_lowers_it(z, q, rounds):
    assert 0 < epsilon(z, q, rounds, 1e-5) < epsilon(z, 1.0, rounds, 1e-5) * (1 + 1e-9)


@pytest.mark.parametrize("q", [1.0, 0.02])
def test_more_noise_costs_less_and_more_rounds_or_a_smaller_delta_cost_more(q):
    middle = epsilon(1.0, q, 8, 1e-5)
    assert epsilon(0.5, q, 8, 1e-5) > middle > epsilon(2.0, q, 8, 1e-5)
    assert epsilon(1.0, q, 9, 1e-5) > middle > epsilon(1.0, q, 7, 1e-5)
    assert epsilon(1.0, q, 8, 1e-6) > middle > epsilon(1.0, q, 8, 1e-4)


def test_the_numbers_that_the_documentation_tells():
    assert [round(epsilon(z, 1.0, 8, 1e-5), 1) for z in (0.01, 0.1, 1)] == [41353.7, 533.1, 16.6]


def test_the_report_counts_every_round_and_amplifies_poisson_sampling_alone(tmp_path):
    """Two rounds that draw 1 of 4 clients: to fixed sampling that is no amplification."""
    for sampling, q in (("fixed", 1.0), ("poisson", 0.25)):
        fields = {"rounds": 2, "participation": 0.25, "sampling": sampling}
        run = make_run(
            tmp_path / sampling, DPFedAvg(noise_multiplier=2.0), Quadratic(torch.ones(4, 1)), (1,) * 4, **fields
        )
        train(run)
        assert run.report() == {"epsilon": epsilon(2.0, q, 2, 1e-5)}


def test_rounds_from_which_nothing_arrives_are_accounted_for(tmp_path):
    fields = {"rounds": 12, "participation": 0.15, "sampling": "poisson"}
    run = make_run(tmp_path, DPFedAvg(noise_multiplier=2.0), Quadratic(torch.ones(4, 1)), (1,) * 4, **fields)
    assert 0 in drawn(run)
    train(run)
    assert run.report()["epsilon"] == epsilon(2.0, 0.15, 12, 1e-5)


def test_without_noise_epsilon_is_infinite():
    assert DPFedAvg(noise_multiplier=0.0).report(server_of({})) == {"epsilon": math.inf}


# ------------------------------------------------------------------------------------------ hyper-parameters


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clip": 0.0}, "clip must be a finite number > 0, got 0.0"),
        ({"clip": math.inf}, "clip must be a finite number > 0, got inf"),
        ({"clip": math.nan}, "clip must be a finite number > 0, got nan"),
        ({"noise_multiplier": -0.1}, "noise_multiplier must be a finite number >= 0, got -0.1"),
        ({"noise_multiplier": math.inf}, "noise_multiplier must be a finite number >= 0, got inf"),
        ({"delta": 0.0}, "delta must lie between 0 and 1, got 0.0"),
        ({"delta": 1.0}, "delta must lie between 0 and 1, got 1.0"),
        ({"delta": math.nan}, "delta must lie between 0 and 1, got nan"),
    ],
)
def test_hyper_parameters_that_make_no_sense_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        DPFedAvg(**given)
