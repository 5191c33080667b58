"""Schedules, the forward process and the samplers against constants and closed forms."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.diffusion import gaussian, samplers, schedule
from bench.diffusion.samplers import SamplerSettings

LINEAR = schedule.linear(1000)
COSINE = schedule.cosine(1000)


def test_linear_tables_have_the_published_values():
    assert LINEAR.alpha_bar[999] == pytest.approx(4.035830e-5, rel=1e-6)
    assert LINEAR.alpha_bar[499] == pytest.approx(0.0785872, rel=1e-5)
    assert LINEAR.posterior_variance[[0, 1, 487, 999]] == pytest.approx(
        [0, 5.45319e-5, 0.00979157, 0.01999998], rel=1e-5
    )


def test_log_variance_is_clipped_at_the_first_step():
    log_variance = LINEAR.posterior_log_variance
    assert log_variance[[0, 1, 999]] == pytest.approx([-9.816725, -9.816725, -3.912023], abs=1e-6)
    assert np.log(LINEAR.beta[0]) == pytest.approx(-9.210340, abs=1e-6)


def test_large_variance_is_beta_but_for_the_first_step():
    assert LINEAR.large_variance[0] == LINEAR.posterior_variance[1]
    assert np.array_equal(LINEAR.large_variance[1:], LINEAR.beta[1:])


def test_cosine_tables_have_the_published_values():
    assert COSINE.beta[[0, 998, 999]] == pytest.approx([4.128422e-5, 0.7499994, 0.999], rel=1e-6)
    assert (COSINE.beta == 0.999).sum() == 1
    assert COSINE.alpha_bar[999] == pytest.approx(2.42877e-9, rel=1e-5)
    assert COSINE.alpha_bar[499] == pytest.approx(0.4938436, rel=1e-6)
    assert schedule.cosine(4000).beta[0] == pytest.approx(9.86582e-6, rel=1e-6)


@pytest.mark.parametrize("T", [20, 1, 0, -5])
def test_linear_refuses_a_T_at_which_beta_reaches_one(T):
    with pytest.raises(ValueError, match=r"T >= 21, got T="):
        schedule.linear(T)


def test_linear_allows_the_smallest_T():
    assert schedule.linear(21).beta[-1] < 1


@pytest.mark.parametrize("T", [0, -1])
def test_cosine_refuses_no_steps(T):
    with pytest.raises(ValueError, match="T >= 1"):
        schedule.cosine(T)


def test_an_unknown_schedule_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"'quadratic'; there are linear, cosine"):
        schedule.make("quadratic", 10)


def test_both_formulas_of_the_posterior_mean_agree():
    t = torch.tensor([500])
    x0, eps = torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64), torch.full((1, 1, 1, 1), -0.7, dtype=torch.float64)
    x_t = gaussian.noised(LINEAR, x0, t, eps)
    beta, a = LINEAR.beta[500], LINEAR.alpha_bar[500]
    direct = (x_t - beta / np.sqrt(1 - a) * eps) / np.sqrt(1 - beta)
    assert gaussian.posterior_mean(LINEAR, x0, x_t, t).item() == pytest.approx(-0.5841565, abs=1e-7)
    assert direct.item() == pytest.approx(-0.5841565, abs=1e-7)


def test_x0_and_eps_are_recovered_from_the_noised_image():
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 16, 1, 4, 4, generator=generator, dtype=torch.float64)
    t = torch.arange(16) * 60
    x_t = gaussian.noised(LINEAR, x0, t, eps)
    torch.testing.assert_close(gaussian.x0_from_eps(LINEAR, x_t, t, eps), x0)
    torch.testing.assert_close(gaussian.eps_from_x0(LINEAR, x_t, t, x0), eps)


def test_the_simple_loss_is_the_mean_square_of_the_noise_for_a_network_that_predicts_zero():
    eps = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    losses = gaussian.simple_loss(lambda x, t: torch.zeros_like(x), LINEAR, torch.zeros_like(eps), torch.arange(5), eps)
    torch.testing.assert_close(losses, eps.square().mean(dim=(1, 2, 3)))


def test_fractional_strides_have_the_published_steps():
    assert samplers.timesteps(1000, 10).tolist() == [0, 111, 222, 333, 444, 555, 666, 777, 888, 999]
    assert samplers.timesteps(1000, 50)[[0, 1, 2, 3, 4, -2, -1]].tolist() == [0, 20, 41, 61, 82, 979, 999]
    assert samplers.timesteps(1000, 250)[:5].tolist() == [0, 4, 8, 12, 16]


@given(T=st.integers(1, 2000), data=st.data())
def test_any_number_of_steps_gives_just_that_many(T, data):
    steps = data.draw(st.integers(1, T))
    kept = samplers.timesteps(T, steps)
    assert len(kept) == steps
    assert kept[-1] == T - 1
    assert kept[0] == (0 if steps > 1 else T - 1)
    assert all(a < b for a, b in pairwise(kept))


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_outside_the_schedule_are_refused(steps):
    with pytest.raises(ValueError, match="between 1 and T=1000"):
        samplers.timesteps(1000, steps)


def test_respacing_by_ten_gives_the_published_betas():
    short = samplers.respaced(LINEAR, range(0, 1000, 10))
    assert short.beta[0] == pytest.approx(1e-4)
    assert short.beta[-1] == pytest.approx(0.18068, abs=1e-5)
    np.testing.assert_allclose(short.alpha_bar, LINEAR.alpha_bar[::10])


@pytest.mark.parametrize(("now", "before", "variance"), [(420, 400, 0.1477195), (980, 960, 0.3246052)])
def test_ddim_variance_has_the_published_values(now, before, variance):
    short = samplers.respaced(LINEAR, [before, now])
    assert samplers.ddim_sigma(short, 1, 1.0) ** 2 == pytest.approx(variance, abs=1e-7)


def test_ddim_sigma_at_eta_one_and_stride_one_is_the_small_variance():
    sigmas = [samplers.ddim_sigma(LINEAR, i, 1.0) ** 2 for i in range(1000)]
    np.testing.assert_allclose(sigmas, LINEAR.posterior_variance, atol=2e-16)


def test_the_full_ddim_loop_of_a_dummy_model_has_the_golden_sum():
    """diffusers' tests: model x t / (t + 1), ten steps with 'leading' spacing, which the loop is given here."""
    kept = np.arange(0, 1000, 100)
    sample = (torch.arange(768, dtype=torch.float64) / 768).reshape(3, 8, 8, 4).permute(3, 0, 1, 2)
    short, settings = samplers.respaced(LINEAR, kept), SamplerSettings("ddim", steps=10)
    for i in range(9, -1, -1):
        eps = sample * kept[i] / (kept[i] + 1)
        sample = samplers.ddim_step(eps, short, sample, i, settings, no_noise)
    assert sample.abs().sum().item() == pytest.approx(172.0065, abs=2e-3)
    assert sample.abs().mean().item() == pytest.approx(0.2239668, abs=3e-6)


def no_noise() -> torch.Tensor:
    raise AssertionError("a deterministic sampler drew noise")


def dummy(x, t):
    return x * (t / (t + 1)).reshape(-1, 1, 1, 1)


def draw_images(settings, first=0, count=4, T=50):
    noise = samplers.ImageNoise(3, first, count, (1, 4, 4))
    return samplers.sample(dummy, schedule.linear(T), settings, noise.draw)


def test_ddim_with_eta_one_over_all_steps_is_ancestral_sampling_with_small_variance():
    ddim = draw_images(SamplerSettings("ddim", steps=50, eta=1.0))
    ancestral = draw_images(SamplerSettings("ancestral", steps=50))
    torch.testing.assert_close(ddim, ancestral, atol=1e-5, rtol=1e-5)


def test_ddim_without_noise_draws_once():
    noise = samplers.ImageNoise(3, 0, 2, (1, 4, 4))
    draws = []
    samplers.sample(
        dummy, schedule.linear(50), SamplerSettings("ddim", steps=7), lambda: draws.append(1) or noise.draw()
    )
    assert len(draws) == 1


@pytest.mark.parametrize("name", ["ancestral", "ddim"])
def test_an_image_does_not_depend_on_its_batch(name):
    settings = SamplerSettings(name, steps=13, eta=0.5)
    together = draw_images(settings, 0, 6)
    apart = torch.cat([draw_images(settings, 0, 2), draw_images(settings, 2, 4)])
    assert torch.equal(together, apart)


@pytest.mark.parametrize("name", ["ancestral", "ddim"])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_clipped_samples_end_in_range(name, steps):
    images = draw_images(SamplerSettings(name, steps=steps))
    assert images.abs().max() <= 1
    assert images.isfinite().all()


def test_sampling_a_perfect_model_of_one_image_finds_that_image():
    target = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4)
    forward = schedule.cosine(100)

    def network(x, t):
        return gaussian.eps_from_x0(forward, x, t, target.expand_as(x))

    for name in samplers.SAMPLERS:
        noise = samplers.ImageNoise(0, 0, 3, (1, 4, 4))
        images = samplers.sample(network, forward, SamplerSettings(name, steps=10), noise.draw)
        torch.testing.assert_close(images, target.expand_as(images), atol=1e-4, rtol=0)


def test_the_ancestral_sampler_draws_the_right_variance_for_a_gaussian():
    """Data N(0, s^2): the exact network is known, and the samples' standard deviation must come out as s."""
    s, forward = 0.5, schedule.linear(1000)

    def network(x, t):
        a = gaussian.at(forward.alpha_bar, t, x)
        return x * (1 - a).sqrt() / (a * s**2 + 1 - a)

    noise = samplers.ImageNoise(0, 0, 250, (1, 4, 4))
    settings = SamplerSettings("ancestral", steps=250, clip=False)
    assert samplers.sample(network, forward, settings, noise.draw).std().item() == pytest.approx(s, rel=0.03)


def test_no_noise_is_added_at_the_last_step():
    draws = []
    noise = samplers.ImageNoise(0, 0, 1, (1, 2, 2))
    settings = SamplerSettings("ancestral", steps=5)
    samplers.sample(dummy, schedule.linear(50), settings, lambda: draws.append(1) or noise.draw())
    assert len(draws) == 5  # x_T and four of the five steps


def test_unknown_samplers_are_refused():
    with pytest.raises(ValueError, match="unknown sampler 'euler'"):
        draw_images(SamplerSettings("euler"))
