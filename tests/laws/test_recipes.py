"""The recipes around the process: predictions, variances, losses, draws of t, averages and guidance, by their laws."""

import io
import math
import operator
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy import stats

from bench.diffusion import config, ema, gaussian, guidance, losses, samplers, schedule, timesteps
from bench.diffusion.config import WARMUPS, EmaConfig, SamplerConfig
from bench.diffusion.likelihood import bits_per_dim, vlb_term
from bench.diffusion.losses import LOSSES, LossSettings
from bench.diffusion.process import PREDICTIONS, Process
from bench.diffusion.timesteps import LossAware, Uniform

LINEAR = schedule.linear(1000)
COSINE = schedule.cosine(1000)
SETTINGS = LossSettings()


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def levels(*shape, seed=0):
    """Images of 256 levels in [-1, 1]."""
    return torch.randint(0, 256, shape, generator=stream(seed)).double() / 127.5 - 1


# --- constants


def test_the_cosine_schedule_is_divided_by_its_value_at_0():
    u = np.arange(1, 1000) / 1000  # the last beta is capped
    f = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(f / COSINE.alpha_bar[:-1], 0.99984459, atol=1e-8)


def golden_start():
    return (torch.arange(768, dtype=torch.float64) / 768).reshape(3, 8, 8, 4).permute(3, 0, 1, 2)


def golden_model(x, t):
    return x * (t / (t + 1)).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(("prediction", "total", "mean"), [("eps", 172.0067, 0.223967), ("v", 52.5302, 0.0684)])
def test_the_full_ddim_loop_has_the_golden_sums_of_diffusers_tests(prediction, total, mean):
    settings, draws = SamplerConfig(name="ddim", steps=10, spacing="integer"), iter([golden_start()])
    x = samplers.sample(golden_model, Process(LINEAR, prediction), settings, lambda: next(draws))
    assert x.abs().sum().item() == pytest.approx(total, abs=2e-3)
    assert x.abs().mean().item() == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize(("prediction", "total", "mean"), [("eps", 258.9606, 0.3372), ("v", 202.0296, 0.2631)])
def test_the_full_ddpm_loop_has_the_golden_sums_of_diffusers_tests(prediction, total, mean):
    """All 1000 steps, the noise from seed 0 in float32; diffusers' own tests allow 1e-2 for its float32 tables."""
    noise, first = stream(0), [golden_start()]
    x = samplers.sample(
        golden_model,
        Process(LINEAR, prediction),
        SamplerConfig(name="ancestral", steps=1000),
        lambda: first.pop() if first else torch.randn(4, 3, 8, 8, generator=noise),
    )
    assert x.abs().sum().item() == pytest.approx(total, abs=1e-2)
    assert x.abs().mean().item() == pytest.approx(mean, abs=1e-4)


# --- what an output means


cases = given(
    seed=st.integers(0, 10**6),
    prediction=st.sampled_from(PREDICTIONS),
    forward=st.sampled_from([LINEAR, COSINE, schedule.linear(21), schedule.cosine(1)]),
)


@cases
def test_an_estimate_from_the_target_is_the_image_and_the_noise(seed, prediction, forward):
    x0, eps = normal(2, 5, 1, 2, 2, seed=seed)
    t = torch.randint(0, forward.T, (5,), generator=stream(seed))
    process, x_t = Process(forward, prediction), gaussian.noised(forward, x0, t, eps)
    estimate = process.estimate(process.target(x0, eps, t), x_t, t)
    torch.testing.assert_close(estimate.x0, x0, atol=1e-10, rtol=0)
    torch.testing.assert_close(estimate.eps, eps, atol=1e-10, rtol=0)


@cases
def test_image_and_noise_of_any_estimate_make_up_the_noised_image_clipped_or_not(seed, prediction, forward):
    x_t, output = 3 * normal(2, 5, 1, 2, 2, seed=seed)
    t = torch.randint(0, forward.T, (5,), generator=stream(seed))
    for clip in (None, (-1.0, 1.0), (0.0, 1.0)):
        estimate = Process(forward, prediction).estimate(output, x_t, t, clip)
        torch.testing.assert_close(gaussian.noised(forward, estimate.x0, t, estimate.eps), x_t)
        assert clip is None or (clip[0] <= estimate.x0.min() and estimate.x0.max() <= clip[1])


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_clipping_changes_nothing_in_range(prediction):
    x0, eps = normal(9, 1, 2, 2).clamp(-1, 1), normal(9, 1, 2, 2, seed=1)
    t = torch.arange(9) * 60
    process, x_t = Process(LINEAR, prediction), gaussian.noised(LINEAR, x0, t, eps)
    free, clipped = (
        process.estimate(process.target(x0, eps, t), x_t, t, clip) for clip in (None, (-1.0 - 1e-9, 1.0 + 1e-9))
    )
    torch.testing.assert_close(free.x0, clipped.x0)
    torch.testing.assert_close(free.eps, clipped.eps)


def test_v_is_the_derivative_of_the_noised_image_by_its_angle():
    """With sqrt(A) = cos phi, v = d x / d phi (Salimans & Ho 2022, appendix D); at A = 1/2 it is (eps - x0) / sqrt 2."""
    half = schedule.Schedule(np.array([0.5]))
    x0, eps = normal(2, 1, 1, 2, 2)
    v = Process(half, "v").target(x0, eps, torch.tensor([0]))
    torch.testing.assert_close(v, (eps - x0) / math.sqrt(2))
    angle, step = math.pi / 4, 1e-5
    at = [math.cos(angle + s) * x0 + math.sin(angle + s) * eps for s in (-step, step)]
    torch.testing.assert_close(v, (at[1] - at[0]) / (2 * step), atol=1e-8, rtol=0)


@pytest.mark.parametrize("forward", [LINEAR, COSINE])
@pytest.mark.parametrize(("u", "variance"), [(-1.0, "small"), (1.0, "large")])
def test_learned_variance_at_its_ends_is_a_fixed_one(forward, u, variance):
    """But for "large" at t = 0, where Nichol & Dhariwal's code has beta_0 and Ho et al.'s has btilde_1."""
    t, like = torch.arange(1000), normal(1000, 1, 2, 2)
    learned = Process(forward, variance="learned").log_variance(torch.full_like(like, u), t, like)
    fixed = Process(forward, variance=variance).log_variance(None, t, like)
    assert torch.equal(learned[1:], fixed[1:].expand_as(learned[1:]))
    at_zero = {"small": math.log(forward.posterior_variance[1]), "large": math.log(forward.beta[0])}
    assert learned[0].unique().item() == pytest.approx(at_zero[variance], rel=1e-12)
    assert fixed[0].item() == pytest.approx(math.log(forward.posterior_variance[1]), rel=1e-12)


@given(u=st.floats(-3, 3), t=st.integers(1, 999))
def test_learned_variance_is_geometric_in_between(u, t):
    like = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    got = Process(LINEAR, variance="learned").log_variance(torch.full_like(like, u), torch.tensor([t]), like).exp()
    f = (u + 1) / 2
    assert got.item() == pytest.approx(LINEAR.beta[t] ** f * LINEAR.posterior_variance[t] ** (1 - f), rel=1e-9)


def walk(network, process, settings, seed=3):
    noise = stream(seed)
    draw = lambda: torch.randn(2, 1, 3, 3, generator=noise, dtype=torch.float64)  # noqa: E731
    return list(samplers.trajectory(network, process, settings, draw))


def wavy(x, t):
    return torch.tanh(1.5 * x.flip(-1) + torch.cos(t / 50.0).reshape(-1, 1, 1, 1))


@pytest.mark.parametrize("steps", [1, 30, 1000])
@pytest.mark.parametrize(("u", "variance"), [(-1.0, "small"), (1.0, "large")])
def test_trajectories_with_learned_variance_at_its_ends_are_those_of_a_fixed_one(u, variance, steps):
    def both(x, t):
        return torch.cat((wavy(x, t), torch.full_like(x, u)), dim=1)

    settings = SamplerConfig(name="ancestral", steps=steps)
    learned = walk(both, Process(LINEAR, variance="learned"), settings)
    fixed = walk(wavy, Process(LINEAR, variance=variance), settings)
    assert all(torch.equal(a, b) for a, b in zip(learned, fixed, strict=True))


@pytest.mark.parametrize("name", ["ddim", "dpm-solver++"])
def test_samplers_that_need_no_variance_ignore_a_learned_one(name):
    def both(x, t):
        return torch.cat((wavy(x, t), 5 * wavy(x, t)), dim=1)

    settings = SamplerConfig(name=name, steps=12, eta=0.5)
    learned = walk(both, Process(COSINE, "v", "learned"), settings)
    assert torch.equal(learned[-1], walk(wavy, Process(COSINE, "v"), settings)[-1])


# --- samplers against each other and against closed forms


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("steps", "clip"), [(1000, True), (1000, False), (40, True), (40, False)])
def test_ddim_with_eta_one_is_ancestral_sampling_with_small_variance_at_every_step(prediction, steps, clip):
    """Song et al. 2021, section 4.1; on the respaced process it holds for any strides."""
    process = Process(LINEAR, prediction)
    ddim = walk(wavy, process, SamplerConfig(name="ddim", steps=steps, eta=1.0, clip=clip))
    ancestral = walk(wavy, process, SamplerConfig(name="ancestral", steps=steps, clip=clip))
    for a, b in zip(ddim, ancestral, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


def test_the_first_and_the_last_step_of_dpm_solver_are_ddims():
    """Both are of first order, and DPM-Solver++ of first order is DDIM (Lu et al. 2022b, section 4.1)."""
    process = Process(LINEAR)
    for steps, same in ((1, 2), (2, 3), (10, 2)):
        ddim, dpm = (walk(wavy, process, SamplerConfig(name=name, steps=steps)) for name in ("ddim", "dpm-solver++"))
        for a, b in zip(ddim[:same], dpm[:same], strict=True):
            torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)
    assert (ddim[-1] - dpm[-1]).abs().max() > 1e-3


def ode_error(name, steps, s=0.5):
    """Of the last sample before t = 0 is left, for data N(0, s^2), whose probability flow scales x by a known factor."""

    def network(x, t):
        a = gaussian.at(LINEAR.alpha_bar, t, x)
        return x * (1 - a).sqrt() / (a * s**2 + 1 - a)

    start, *_, end, _ = walk(network, Process(LINEAR), SamplerConfig(name=name, steps=steps, clip=False))
    spread = LINEAR.alpha_bar * s**2 + 1 - LINEAR.alpha_bar
    return (end / start / math.sqrt(spread[0] / spread[-1]) - 1).abs().max().item()


@pytest.mark.parametrize(("name", "order", "error"), [("ddim", 1, 0.015), ("dpm-solver++", 2, 0.004)])
def test_samplers_near_the_probability_flow_at_their_order(name, order, error):
    coarse, fine = ode_error(name, 50), ode_error(name, 200)
    assert fine < error
    assert math.log(coarse / fine, 4) == pytest.approx(order, abs=0.1)


# --- losses


def made(forward, prediction="eps", variance="small", seed=0):
    """A batch at every kind of t, t = 0 too, with a wrong output of the right shape."""
    process = Process(forward, prediction, variance)
    x0, eps = levels(6, 1, 4, 4, seed=seed), normal(6, 1, 4, 4, seed=seed + 1)
    t = torch.tensor([0, 1, 2, forward.T // 3, forward.T // 2, forward.T - 1])
    output = normal(6, 2 if process.learned else 1, 4, 4, seed=seed + 2)
    return process, output, x0, gaussian.noised(forward, x0, t, eps), eps, t


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("loss", ["simple", "min-snr"])
def test_losses_of_the_mean_vanish_at_the_target_alone(loss, prediction):
    process, output, x0, x_t, eps, t = made(LINEAR, prediction)
    assert LOSSES[loss](process, process.target(x0, eps, t), x0, x_t, eps, t, SETTINGS).abs().max() == 0
    assert LOSSES[loss](process, output, x0, x_t, eps, t, SETTINGS).min() > 0


def test_every_loss_that_a_grid_may_name_is_there():
    assert tuple(LOSSES) == config.LOSSES


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_one_number_an_image_and_does_not_mix_images(loss):
    process, output, x0, x_t, eps, t = made(LINEAR, variance="learned")
    together = LOSSES[loss](process, output, x0, x_t, eps, t, SETTINGS)
    assert together.shape == (6,)
    apart = [LOSSES[loss](process, *(v[i : i + 1] for v in (output, x0, x_t, eps, t)), SETTINGS) for i in range(6)]
    torch.testing.assert_close(together, torch.cat(apart))


@pytest.mark.parametrize("forward", [LINEAR, COSINE])
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_is_one_objective_whatever_is_predicted(forward, gamma):
    """min(SNR_t, gamma) |x_0 - x_0_hat|^2 (Hang et al. 2023, section 3.4)."""
    t, chosen = torch.arange(1000), LossSettings(min_snr_gamma=gamma)
    x0, eps, guess = normal(3, 1000, 1, 2, 2)
    x_t = gaussian.noised(forward, x0, t, eps)
    snr = torch.from_numpy(forward.alpha_bar / (1 - forward.alpha_bar))
    expected = snr.clamp(max=gamma) * (x0 - guess).square().mean(dim=(1, 2, 3))
    for prediction in PREDICTIONS:
        process = Process(forward, prediction)
        output = process.target(guess, gaussian.eps_from_x0(forward, x_t, t, guess), t)
        got = losses.min_snr(process, output, x0, x_t, eps, t, chosen)
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-12)


def test_min_snr_without_a_ceiling_is_the_simple_loss_of_eps():
    process, output, x0, x_t, eps, t = made(LINEAR)
    free = losses.min_snr(process, output, x0, x_t, eps, t, LossSettings(min_snr_gamma=1e9))
    torch.testing.assert_close(free, losses.simple(process, output, x0, x_t, eps, t, SETTINGS))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("T", [1000, 4000])
def test_the_hybrid_loss_trains_the_mean_by_the_simple_one_and_the_variance_by_the_bound(T, prediction):
    process, output, x0, x_t, eps, t = made(schedule.cosine(T), prediction, "learned")

    def gradient(loss):
        leaf = output.clone().requires_grad_()
        loss(leaf).sum().backward()
        return leaf.grad.chunk(2, dim=1)

    mean, u = gradient(lambda out: losses.hybrid(process, out, x0, x_t, eps, t, SETTINGS))
    of_simple, none = gradient(lambda out: losses.simple(process, out, x0, x_t, eps, t, SETTINGS))
    of_bound, of_variance = gradient(lambda out: vlb_term(process, out, x0, x_t, t))
    assert torch.equal(mean, of_simple)
    assert none.abs().max() == 0
    assert of_bound[1:].abs().amax(dim=(1, 2, 3)).min() > 0  # which the mean must not see
    torch.testing.assert_close(u, 0.001 * T * of_variance, rtol=1e-10, atol=0)
    assert u[1:].abs().amax(dim=(1, 2, 3)).min() > 0


def test_the_hybrid_loss_is_the_simple_one_and_a_thousandth_of_the_bound():
    process, output, x0, x_t, eps, t = made(LINEAR, variance="learned")
    hybrid, simple, vlb = (LOSSES[n](process, output, x0, x_t, eps, t, SETTINGS) for n in ("hybrid", "simple", "vlb"))
    torch.testing.assert_close(hybrid, simple + vlb / 1000)


def test_the_hybrid_loss_needs_a_learned_variance():
    process, output, x0, x_t, eps, t = made(LINEAR)
    with pytest.raises(ValueError, match="variance 'learned'"):
        losses.hybrid(process, output, x0, x_t, eps, t, SETTINGS)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("pixel_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_the_bounds_mean_over_uniform_t_is_the_bound_but_for_its_prior(variance, pixel_range):
    """For a network that knows the image no term depends on the noise, so that two draws of it must agree."""
    low, high = pixel_range
    image = low + (high - low) * (levels(1, 1, 4, 4) + 1) / 2
    forward = schedule.cosine(200)
    process, t = Process(forward, "x0", variance), torch.arange(200)
    x0, eps = image.expand(200, 1, 4, 4), normal(200, 1, 4, 4)
    x_t = gaussian.noised(forward, x0, t, eps)
    loss = losses.vlb(process, x0, x0, x_t, eps, t, LossSettings(pixel_range=pixel_range))
    bound = bits_per_dim(lambda x, t: image.expand(len(x), 1, 4, 4), process, image, pixel_range=pixel_range)
    assert loss.mean().item() == pytest.approx((bound.total - bound.prior).item(), rel=1e-6)
    torch.testing.assert_close(loss / 200, bound.terms[0], atol=1e-8, rtol=1e-6)


# --- which t


def observed(T, rounds, memory=None, seed=0):
    """`LossAware` told `rounds` losses at every t, and these, (rounds, T)."""
    aware = LossAware(T, {} if memory is None else memory)
    told = normal(rounds, T, seed=seed).exp()
    for row in told:
        aware.observe(torch.arange(T), row)
    return aware, told


def test_draws_are_uniform_until_every_timestep_has_ten_losses():
    aware, _ = observed(7, 9)
    aware.observe(torch.tensor([0, 1, 2, 3, 4, 5]), torch.full((6,), 3.0))  # nine at 6
    assert torch.equal(aware.probabilities(), torch.full((7,), 1 / 7, dtype=torch.float64))
    _, weights = aware.draw(50, stream())
    assert torch.equal(weights, torch.ones(50))
    aware.observe(torch.tensor([6]), torch.tensor([3.0]))
    assert aware.probabilities().std() > 0.01


@pytest.mark.parametrize("rounds", [10, 13, 25])
def test_probabilities_are_proportional_to_the_root_mean_square_of_the_last_ten_losses(rounds):
    aware, told = observed(9, rounds)
    p, rms = aware.probabilities(), told[-10:].square().mean(dim=0).sqrt()
    assert p.dtype == torch.float64
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(p, 0.999 * rms / rms.sum() + 0.001 / 9)


def test_losses_in_any_order_and_any_batch_are_kept_by_their_timestep():
    together, told = observed(5, 14)
    apart = LossAware(5, {})
    for t in (3, 0, 4, 2, 1):
        apart.observe(torch.full((14,), t), told[:, t].float().double())
    torch.testing.assert_close(apart.probabilities(), together.probabilities(), rtol=1e-6, atol=0)


@given(sizes=st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_the_weighted_loss_is_unbiased_and_no_weight_is_above_a_thousand(sizes):
    T, loss = len(sizes), torch.tensor(sizes, dtype=torch.float64)
    aware = LossAware(T, {})
    for _ in range(10):
        aware.observe(torch.arange(T), loss)
    p = aware.probabilities()
    weights = 1 / (T * p)
    assert p.sum().item() == pytest.approx(1)
    assert weights.max() <= 1000 * (1 + 1e-9)
    assert (p * weights * loss).sum().item() == pytest.approx(loss.mean().item())


def test_drawn_weights_are_the_inverse_of_the_probabilities_and_give_the_mean_loss():
    aware, told = observed(40, 10)
    t, weights = aware.draw(100_000, stream(1))
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.double(), 1 / (40 * aware.probabilities()[t]), rtol=1e-6, atol=0)
    assert weights.mean().item() == pytest.approx(1, abs=0.01)
    rms = told.square().mean(dim=0).sqrt()
    weighted = weights * rms[t]
    assert weighted.mean().item() == pytest.approx(rms.mean().item(), rel=0.002)
    assert weighted.std() < 0.05 * rms.std()  # which is why t is drawn so


def chi_square(t, p):
    return stats.chisquare(torch.bincount(t, minlength=len(p)), len(t) * p.numpy()).pvalue


def test_draws_follow_their_probabilities():
    aware, _ = observed(20, 10)
    t, _ = aware.draw(20_000, stream(2))
    assert chi_square(t, aware.probabilities()) > 1e-3
    assert chi_square(t, torch.full((20,), 0.05, dtype=torch.float64)) < 1e-6
    uniform, weights = Uniform(20).draw(20_000, stream(3))
    assert weights is None
    assert chi_square(uniform, torch.full((20,), 0.05, dtype=torch.float64)) > 1e-3


def test_a_memory_may_be_saved_and_given_again():
    memory = {}
    aware, _ = observed(6, 7, memory)
    file = io.BytesIO()
    torch.save(memory, file)
    file.seek(0)
    again = LossAware(6, torch.load(file, weights_only=True))
    for each in (aware, again):
        for _ in range(8):
            each.observe(torch.arange(6), torch.arange(6.0) + 1)
    assert again.probabilities().std() > 0.01
    assert torch.equal(again.probabilities(), aware.probabilities())
    assert torch.equal(LossAware(6, memory).probabilities(), aware.probabilities())  # the dict itself is written to
    assert torch.equal(again.draw(30, stream())[0], aware.draw(30, stream())[0])


def test_losses_of_zero_leave_the_draws_uniform():
    aware = LossAware(3, {})
    for _ in range(10):
        aware.observe(torch.arange(3), torch.zeros(3))
    assert torch.equal(aware.probabilities(), torch.full((3,), 1 / 3, dtype=torch.float64))


@pytest.mark.parametrize("draws", [Uniform(50), LossAware(50, {}), observed(50, 10)[0]])
def test_every_timestep_is_drawn_and_the_stream_decides(draws):
    t, _ = draws.draw(5000, stream(4))
    assert t.shape == (5000,)
    assert t.unique().tolist() == list(range(50))
    assert torch.equal(t, draws.draw(5000, stream(4))[0])
    assert not torch.equal(t, draws.draw(5000, stream(5))[0])


def test_the_constants_of_importance_sampling_are_the_papers():
    assert (timesteps.HISTORY, timesteps.UNIFORM_SHARE) == (10, 0.001)


# --- averages


def test_warm_ups_have_their_values():
    ratio, gamma, none = (EmaConfig(mode="server", decay=0.9999, warmup=warmup) for warmup in WARMUPS)
    assert [ratio.decay_at(k) for k in (0, 1, 90)] == pytest.approx([0.1, 2 / 11, 0.91])
    assert [gamma.decay_at(k) for k in (0, 7, 26)] == pytest.approx([0, 0.75, 8 / 9])
    assert [none.decay_at(k) for k in (0, 10**6)] == [0.9999, 0.9999]
    assert ratio.decay_at(89_989) < 0.9999
    assert ratio.decay_at(89_991) == 0.9999
    assert gamma.decay_at(10**6) == 0.9999


@pytest.mark.parametrize("warmup", WARMUPS)
def test_decays_rise_from_step_to_step_to_the_one_asked_for(warmup):
    settings = EmaConfig(mode="client", decay=0.99, warmup=warmup)
    decays = [settings.decay_at(k) for k in range(2000)]
    assert decays == sorted(decays)
    assert decays[-1] == 0.99
    assert decays[0] >= 0


@given(first=st.integers(0, 5000), steps=st.integers(0, 50), warmup=st.sampled_from(WARMUPS), d=st.floats(0, 0.9999))
def test_the_decay_over_steps_is_the_product_of_theirs(first, steps, warmup, d):
    settings = EmaConfig(mode="server", decay=d, warmup=warmup)
    product = reduce(operator.mul, (settings.decay_at(k) for k in range(first, first + steps)), 1.0)
    assert settings.decay_over(first, steps) == pytest.approx(product, rel=1e-12)


@pytest.mark.parametrize("d", [0.0, 0.9, 0.999])
def test_the_average_of_ones_from_zero_is_one_minus_the_decays_power(d):
    average, settings = {"w": torch.zeros(3, dtype=torch.float64)}, EmaConfig(mode="client", decay=d, warmup="none")
    for k in range(50):
        ema.update(average, {"w": torch.ones(3, dtype=torch.float64)}, settings.decay_at(k))
        torch.testing.assert_close(average["w"], torch.full((3,), 1 - d ** (k + 1), dtype=torch.float64))


@given(seed=st.integers(0, 10**6), decay=st.floats(0, 0.99999))
def test_constant_weights_are_a_fixed_point(seed, decay):
    weights = {"a": normal(3, 4, seed=seed).float(), "b": normal(2, seed=seed + 1)}
    average = {name: tensor.clone() for name, tensor in weights.items()}
    ema.update(average, weights, decay)
    assert all(torch.equal(average[name], weights[name]) for name in weights)


def test_an_update_is_made_in_place_and_copies_what_is_no_float():
    weights = {"w": torch.ones(3, requires_grad=True), "steps": torch.tensor(7), "other": torch.ones(1)}
    average = {"w": torch.zeros(3), "steps": torch.tensor(1)}
    at = {name: tensor.data_ptr() for name, tensor in average.items()}
    ema.update(average, weights, 0.75)
    assert {name: tensor.data_ptr() for name, tensor in average.items()} == at
    assert torch.equal(average["w"], torch.full((3,), 0.25))
    assert average["steps"] == 7
    assert not average["w"].requires_grad
    assert torch.equal(weights["w"], torch.ones(3))


@pytest.mark.parametrize("warmup", WARMUPS)
def test_a_servers_average_over_rounds_is_the_average_over_their_steps(warmup):
    """With weights that are constant in each round, here of 1, 5, 20 and 3 steps."""
    settings = EmaConfig(mode="server", decay=0.97, warmup=warmup)
    by_round, by_step = ({"w": torch.zeros(4, dtype=torch.float64)} for _ in range(2))
    done = 0
    for i, steps in enumerate((1, 5, 20, 3)):
        weights = {"w": normal(4, seed=i)}
        ema.update(by_round, weights, settings.decay_over(done, steps))
        for k in range(done, done + steps):
            ema.update(by_step, weights, settings.decay_at(k))
        done += steps
    torch.testing.assert_close(by_round["w"], by_step["w"], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "wrong", [{"mode": "both"}, {"warmup": "linear"}, {"decay": 1.0}, {"decay": -0.1}, {"decay": float("nan")}]
)
def test_an_average_that_is_none_is_refused(wrong):
    allowed = r"'off', 'server' or 'client'|'ratio', 'inverse-gamma' or 'none'|less than 1|than or equal to 0|finite"
    with pytest.raises(ValueError, match=allowed):
        EmaConfig(**wrong)


# --- classes


NULL = 3


class Conditional:
    """A network of two image channels and two of variance, that counts its passes; classes 0, 1, 2 and `NULL`."""

    def __init__(self):
        self.passes = 0

    def __call__(self, x, t, y):
        self.passes += 1
        shift = torch.tensor([0.3, -0.8, 1.7, 0.05], dtype=x.dtype)[y].reshape(-1, 1, 1, 1)
        mean = torch.tanh(x * (1 + shift) + t.reshape(-1, 1, 1, 1) / 100 + shift)
        return torch.cat((mean, mean.square() + shift), dim=1)


def guided_inputs():
    return normal(4, 2, 3, 3), torch.tensor([5, 5, 70, 70]), torch.tensor([0, 1, 2, 1])


def guide(scale, network=None, labels=None):
    x, t, y = guided_inputs()
    return guidance.guided(network or Conditional(), y if labels is None else labels, NULL, scale, mean_channels=2)(
        x, t
    )


def test_guidance_of_one_is_the_network_at_the_class_in_one_pass():
    x, t, y = guided_inputs()
    network = Conditional()
    assert torch.equal(guide(1, network), network(x, t, y))
    assert network.passes == 2  # one of them the test's


def test_guidance_of_zero_is_the_mean_without_a_class():
    x, t, y = guided_inputs()
    network = Conditional()
    got = guide(0.0, network)
    assert network.passes == 1  # two as one batch
    assert torch.equal(got[:, :2], Conditional()(x, t, torch.full_like(y, NULL))[:, :2])


@given(scale=st.floats(-5, 10))
def test_guidance_is_linear_in_its_scale_and_leaves_the_variance_alone(scale):
    x, t, y = guided_inputs()
    wanted, free = Conditional()(x, t, y), Conditional()(x, t, torch.full_like(y, NULL))
    got = guide(scale)
    torch.testing.assert_close(got[:, :2], (1 - scale) * free[:, :2] + scale * wanted[:, :2])
    assert torch.equal(got[:, 2:], wanted[:, 2:])


@pytest.mark.parametrize("scale", [1, 2.5])
def test_the_order_of_a_guided_batch_is_irrelevant(scale):
    x, t, y = guided_inputs()
    order = torch.tensor([2, 0, 3, 1])
    shuffled = guidance.guided(Conditional(), y[order], NULL, scale, 2)(x[order], t[order])
    assert torch.equal(shuffled, guide(scale)[order])


def test_guiding_towards_no_class_changes_nothing():
    x, t, y = guided_inputs()
    nulls = torch.full_like(y, NULL)
    torch.testing.assert_close(guide(4.0, labels=nulls), Conditional()(x, t, nulls))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_guiding_any_prediction_is_guiding_the_noise(prediction):
    """x_0 and v are linear in eps at a given x_t, so one rule serves all three."""
    x, t, y = guided_inputs()
    process = Process(LINEAR, prediction)
    network = Conditional()

    def eps_of(scale):
        guided = guidance.guided(lambda *at: network(*at)[:, :2], y, NULL, scale, 2)
        return process.estimate(guided(x, t), x, t).eps

    free, wanted = eps_of(0.0), eps_of(1)
    torch.testing.assert_close(eps_of(3.0), free + 3 * (wanted - free))


def test_labels_are_dropped_at_their_rate():
    labels = torch.randint(0, 10, (50_000,), generator=stream(1))
    dropped = guidance.drop_labels(labels, 10, 0.1, stream(2))
    hidden = dropped == 10
    assert hidden.double().mean().item() == pytest.approx(0.1, abs=0.005)
    assert torch.equal(dropped[~hidden], labels[~hidden])
    assert labels.max() == 9  # what was given is left alone
    of_class = torch.stack([hidden[labels == k].double().mean() for k in range(10)])
    assert of_class.sub(0.1).abs().max() < 0.02
    assert torch.equal(dropped, guidance.drop_labels(labels, 10, 0.1, stream(2)))


@pytest.mark.parametrize(("rate", "kept"), [(0.0, 100), (1.0, 0)])
def test_labels_are_all_kept_at_rate_zero_and_all_dropped_at_one(rate, kept):
    labels = torch.arange(100) % 10
    assert (guidance.drop_labels(labels, 10, rate, stream()) == labels).sum() == kept


some_shares = st.lists(st.integers(0, 1000), min_size=1, max_size=20).filter(any)


@examples(max_examples=60)
@given(shares=some_shares)
def test_asked_labels_follow_their_shares_at_every_length(shares):
    """Counts are off by fewer than 6 (3.7 in 1500 trials), where independent draws would be off by 30 of 3000."""
    n, shares = 3000, np.array(shares)
    asked = guidance.asked_labels(shares, 0, n)
    counts = torch.nn.functional.one_hot(asked, len(shares)).cumsum(0).numpy()
    expected = np.arange(1, n + 1)[:, None] * (shares / shares.sum())
    assert np.abs(counts - expected).max() < 6
    assert not counts[-1][shares == 0].any()


@given(shares=some_shares, first=st.integers(0, 10_000), cut=st.integers(0, 40))
def test_asked_labels_do_not_depend_on_the_batches(shares, first, cut):
    whole = guidance.asked_labels(np.array(shares), first, 40)
    parts = [guidance.asked_labels(np.array(shares), *part) for part in ((first, cut), (first + cut, 40 - cut))]
    assert torch.equal(whole, torch.cat(parts))
    assert whole.dtype == torch.int64


def test_asked_labels_are_a_matter_of_shares_not_of_their_sum():
    small, large = (guidance.asked_labels(np.array([1, 2, 5]) * scale, 0, 500) for scale in (1, 7))
    assert torch.equal(small, large)
