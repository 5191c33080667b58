"""Schedules, the forward process and the samplers against constants and closed forms."""

import re
import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.diffusion import gaussian, losses, samplers, schedule
from bench.diffusion.config import SAMPLERS, SPACINGS, SamplerConfig
from bench.diffusion.losses import LossSettings
from bench.diffusion.process import Process

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
    eps, t = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(5)
    x0 = torch.zeros_like(eps)
    x_t = gaussian.noised(LINEAR, x0, t, eps)
    loss = losses.simple(Process(LINEAR), torch.zeros_like(eps), x0, x_t, eps, t, LossSettings())
    torch.testing.assert_close(loss, eps.square().mean(dim=(1, 2, 3)))


def test_fractional_strides_have_the_published_steps():
    assert schedule.timesteps(1000, 10).tolist() == [0, 111, 222, 333, 444, 555, 666, 777, 888, 999]
    assert schedule.timesteps(1000, 50)[[0, 1, 2, 3, 4, -2, -1]].tolist() == [0, 20, 41, 61, 82, 979, 999]
    assert schedule.timesteps(1000, 250)[:5].tolist() == [0, 4, 8, 12, 16]


@given(T=st.integers(1, 2000), data=st.data())
def test_any_number_of_steps_gives_just_that_many(T, data):
    steps = data.draw(st.integers(1, T))
    kept = schedule.timesteps(T, steps)
    assert len(kept) == steps
    assert kept[-1] == T - 1
    assert kept[0] == (0 if steps > 1 else T - 1)
    assert all(a < b for a, b in pairwise(kept))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_outside_the_schedule_are_refused(steps, spacing):
    with pytest.raises(ValueError, match="between 1 and T=1000"):
        schedule.timesteps(1000, steps, spacing)


def test_whole_strides_have_the_published_steps():
    assert schedule.timesteps(1000, 50, "integer").tolist() == list(range(0, 1000, 20))
    assert schedule.timesteps(1000, 5, "integer").tolist() == [0, 200, 400, 600, 800]
    assert schedule.timesteps(1000, 334, "integer").tolist() == list(range(0, 1000, 3))
    assert schedule.timesteps(1000, 1000, "integer").tolist() == list(range(1000))


@given(T=st.integers(1, 2000), data=st.data())
def test_a_whole_stride_gives_just_the_steps_that_it_reaches(T, data):
    """Also where the number of steps does not divide T, where T // steps gives too many."""
    stride = data.draw(st.integers(1, max(T - 1, 1)))
    steps = len(range(0, T, stride))
    kept = schedule.timesteps(T, steps, "integer").tolist()
    smallest = next(s for s in range(1, T + 1) if len(range(0, T, s)) == steps)
    assert kept == list(range(0, T, smallest))


@pytest.mark.parametrize("T", [2, 1000])
def test_one_step_of_a_whole_stride_would_call_noise_an_image_and_is_refused(T):
    with pytest.raises(ValueError, match="one step of spacing 'integer' keeps t = 0 alone"):
        schedule.timesteps(T, 1, "integer")
    assert schedule.timesteps(1, 1, "integer").tolist() == [0]


@given(T=st.integers(2, 2000), data=st.data())
def test_a_number_of_steps_that_no_whole_stride_gives_is_refused_with_two_that_one_does(T, data):
    steps = data.draw(st.integers(2, T))
    reached = {len(range(0, T, s)) for s in range(1, T)}
    if steps in reached:
        assert len(schedule.timesteps(T, steps, "integer")) == steps
        return
    with pytest.raises(ValueError, match=f"no whole stride keeps just {steps} of T={T} ") as error:
        schedule.timesteps(T, steps, "integer")
    told = [int(n) for n in re.search(r"nearest numbers are (\d+) and (\d+)", str(error.value)).groups()]
    assert set(told) <= reached
    farther = max(abs(n - steps) for n in told)
    assert all(abs(n - steps) >= farther for n in reached - set(told))


def test_the_refused_number_of_steps_is_told_with_its_neighbours():
    with pytest.raises(
        ValueError, match=r"just 300 of T=1000 timesteps; the nearest numbers are 250 and 334, or use sp"
    ):
        schedule.timesteps(1000, 300, "integer")


def test_an_unknown_spacing_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"unknown spacing 'trailing'; there are fractional, integer"):
        schedule.timesteps(1000, 10, "trailing")


def test_respacing_by_ten_gives_the_published_betas():
    short = schedule.respaced(LINEAR, range(0, 1000, 10))
    assert short.beta[0] == pytest.approx(1e-4)
    assert short.beta[-1] == pytest.approx(0.18068, abs=1e-5)
    np.testing.assert_allclose(short.alpha_bar, LINEAR.alpha_bar[::10])


@pytest.mark.parametrize(("now", "before", "variance"), [(420, 400, 0.1477195), (980, 960, 0.3246052)])
def test_ddim_variance_has_the_published_values(now, before, variance):
    short = schedule.respaced(LINEAR, [before, now])
    assert samplers.ddim_sigma(short, 1, 1.0) ** 2 == pytest.approx(variance, abs=1e-7)


def test_ddim_sigma_at_eta_one_and_stride_one_is_the_small_variance():
    sigmas = [samplers.ddim_sigma(LINEAR, i, 1.0) ** 2 for i in range(1000)]
    np.testing.assert_allclose(sigmas, LINEAR.posterior_variance, atol=2e-16)


def test_the_full_ddim_loop_of_a_dummy_model_has_the_golden_sum():
    """diffusers' tests: model x t / (t + 1), ten steps with "leading" spacing, which is our whole stride."""
    start = (torch.arange(768, dtype=torch.float64) / 768).reshape(3, 8, 8, 4).permute(3, 0, 1, 2)
    settings, draws = SamplerConfig(name="ddim", steps=10, spacing="integer"), iter([start])
    sample = samplers.sample(dummy, Process(LINEAR), settings, lambda: next(draws))
    assert sample.abs().sum().item() == pytest.approx(172.0065, abs=2e-3)
    assert sample.abs().mean().item() == pytest.approx(0.2239668, abs=3e-6)


def dummy(x, t):
    return x * (t / (t + 1)).reshape(-1, 1, 1, 1)


def draw_images(settings, first=0, count=4, T=50, variance="small", clip_range=(-1.0, 1.0)):
    noise, process = (
        samplers.ImageNoise(3, range(first, first + count), (1, 4, 4)),
        Process(schedule.linear(T), variance=variance),
    )
    return samplers.sample(dummy, process, settings, noise.draw, clip_range=clip_range)


def test_ddim_with_eta_one_over_all_steps_is_ancestral_sampling_with_small_variance():
    ddim = draw_images(SamplerConfig(name="ddim", steps=50, eta=1.0))
    ancestral = draw_images(SamplerConfig(name="ancestral", steps=50))
    torch.testing.assert_close(ddim, ancestral, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["ddim", "dpm-solver++"])
def test_a_sampler_without_noise_draws_once(name):
    noise = samplers.ImageNoise(3, range(2), (1, 4, 4))
    draws = []
    settings = SamplerConfig(name=name, steps=7)
    samplers.sample(dummy, Process(schedule.linear(50)), settings, lambda: draws.append(1) or noise.draw())
    assert len(draws) == 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_image_does_not_depend_on_its_batch(name):
    settings = SamplerConfig(name=name, steps=13, eta=0.5)
    together = draw_images(settings, 0, 6)
    apart = torch.cat([draw_images(settings, 0, 2), draw_images(settings, 2, 4)])
    assert torch.equal(together, apart)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_clipped_samples_end_in_range(name, steps, variance):
    images = draw_images(SamplerConfig(name=name, steps=steps), variance=variance)
    assert images.abs().max() <= 1
    assert images.isfinite().all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_are_clipped_to_the_range_asked_for(name):
    images = draw_images(SamplerConfig(name=name, steps=7), clip_range=(0.25, 0.5))
    assert images.min() == 0.25
    assert images.max() == 0.5


@given(steps=st.integers(1, 30), name=st.sampled_from(SAMPLERS), make=st.sampled_from(["linear", "cosine"]))
def test_any_number_of_steps_gives_images(steps, name, make):
    noise = samplers.ImageNoise(3, range(2), (1, 2, 2))
    settings, process = SamplerConfig(name=name, steps=steps, eta=0.5), Process(schedule.make(make, 30))
    images = samplers.sample(dummy, process, settings, noise.draw)
    assert images.shape == (2, 1, 2, 2)
    assert images.abs().max() <= 1


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_network_is_shown_the_kept_timesteps_from_the_noisiest_down(name, spacing):
    seen = []

    def network(x, t):
        seen.append(t.tolist())
        return dummy(x, t)

    noise = samplers.ImageNoise(0, range(2), (1, 2, 2))
    settings = SamplerConfig(name=name, steps=10, spacing=spacing)
    samplers.sample(network, Process(schedule.linear(100)), settings, noise.draw)
    assert seen == [[t, t] for t in schedule.timesteps(100, 10, spacing).tolist()[::-1]]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_sampling_a_perfect_model_of_one_image_finds_that_image(name, spacing):
    target = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4)
    forward = schedule.cosine(100)

    def network(x, t):
        return gaussian.eps_from_x0(forward, x, t, target.expand_as(x))

    noise = samplers.ImageNoise(0, range(3), (1, 4, 4))
    settings = SamplerConfig(name=name, steps=10, spacing=spacing)
    images = samplers.sample(network, Process(forward), settings, noise.draw)
    torch.testing.assert_close(images, target.expand_as(images), atol=1e-4, rtol=0)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_the_ancestral_sampler_draws_the_right_variance_for_a_gaussian(variance):
    """Data N(0, s^2): the exact network is known, and the samples' standard deviation must come out as s."""
    s, forward = 0.5, schedule.linear(1000)

    def network(x, t):
        a = gaussian.at(forward.alpha_bar, t, x)
        return x * (1 - a).sqrt() / (a * s**2 + 1 - a)

    noise = samplers.ImageNoise(0, range(250), (1, 4, 4))
    settings = SamplerConfig(name="ancestral", steps=250, clip=False)
    images = samplers.sample(network, Process(forward, variance=variance), settings, noise.draw)
    assert images.std().item() == pytest.approx(s, rel=0.03)


def test_no_noise_is_added_at_the_last_step():
    draws = []
    noise = samplers.ImageNoise(0, range(1), (1, 2, 2))
    settings = SamplerConfig(name="ancestral", steps=5)
    samplers.sample(dummy, Process(schedule.linear(50)), settings, lambda: draws.append(1) or noise.draw())
    assert len(draws) == 5  # x_T and four of the five steps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SAMPLERS)
def test_images_have_the_type_of_the_noise_whatever_the_networks(name, dtype):
    settings = SamplerConfig(name=name, steps=3, eta=1.0)
    steps = samplers.trajectory(
        lambda x, t: x.bfloat16(), Process(LINEAR), settings, lambda: torch.ones(1, 1, 2, 2, dtype=dtype)
    )
    assert {x.dtype for x in steps} == {dtype}


def test_sampling_holds_no_more_images_the_more_steps_there_are():
    seen = []

    def network(x, t):
        seen.append(weakref.ref(x))
        assert sum(ref() is not None for ref in seen) <= 4
        return dummy(x, t)

    noise = samplers.ImageNoise(0, range(1), (1, 2, 2))
    samplers.sample(network, Process(schedule.linear(50)), SamplerConfig(name="ddim", steps=20), noise.draw)
    assert len(seen) == 20


def test_unknown_samplers_are_refused():
    with pytest.raises(ValueError, match=r"'ancestral', 'ddim' or 'dpm-solver\+\+'"):
        SamplerConfig(name="euler")


@pytest.mark.parametrize("choice", [{"prediction": "score"}, {"variance": "medium"}])
def test_an_unknown_prediction_or_variance_is_named_with_those_there_are(choice):
    with pytest.raises(ValueError, match=r"unknown .*'eps', 'x0', 'v'.*'small', 'large', 'learned'"):
        Process(LINEAR, **choice)
