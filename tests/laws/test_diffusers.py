"""Agreement with the diffusers package, step by step: the same network, noise and timesteps on both sides.

diffusers has its tables in float32, which costs up to 3e-4 over a thousand steps (1 - A_t loses digits where A_t is near
1). To compare formulas and not rounding, `exact` gives its schedulers our tables in float64, and the tables are compared
by themselves; a few trajectories are compared with diffusers as it comes.

All gaps are relative to the largest value of the step, or to 1: with a random network and no clipping, values reach
sqrt(1 / A_T), that is 157 with the linear schedule and 20,291 with the cosine one.
"""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from bench.diffusion import gaussian, samplers, schedule
from bench.diffusion.config import SamplerConfig
from bench.diffusion.process import PREDICTIONS, VARIANCES, Process

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers.*")
T = 1000
SHAPE = (3, 2, 4, 4)
FORWARD = {"linear": schedule.linear(T), "squaredcos_cap_v2": schedule.cosine(T)}
PREDICTION = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
VARIANCE = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}

every_schedule = pytest.mark.parametrize("name", FORWARD)
every_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)
every_variance = pytest.mark.parametrize("variance", VARIANCES)
every_eta = pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
clipped_or_not = pytest.mark.parametrize("clip", [True, False])


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_network(learned=False):
    """tanh of a random linear map of the image and its timestep, with a variance part where there is one."""
    weights, channels = normal(32, 64) / 32**0.5, 4 if learned else 2

    def network(x, t):
        mixed = x.flatten(1) @ weights + torch.cos(t / 100.0)[:, None]
        return torch.tanh(mixed).reshape(len(x), 4, 4, 4)[:, :channels]

    return network


def ours(network, process, settings):
    """x after each step, from noise of seed 7."""
    stream = torch.Generator().manual_seed(7)
    return list(
        samplers.trajectory(
            network, process, settings, lambda: torch.randn(SHAPE, generator=stream, dtype=torch.float64)
        )
    )


def theirs(network, scheduler, **options):
    """The same by diffusers, which draws the same noise from the same stream in the same order."""
    stream = torch.Generator().manual_seed(7)
    x = torch.randn(SHAPE, generator=stream, dtype=torch.float64)
    images = [x]
    for t in scheduler.timesteps.tolist():
        x = scheduler.step(network(x, torch.full((len(x),), t)), t, x, generator=stream, **options).prev_sample
        images.append(x)
    return images


def gap(a, b):
    assert len(a) == len(b)
    return max(((x - y).abs().max() / max(1.0, y.abs().max())).item() for x, y in zip(a, b, strict=True))


def exact(scheduler, forward):
    """The scheduler with `forward`'s tables in float64."""
    scheduler.betas, scheduler.alphas = torch.from_numpy(forward.beta), torch.from_numpy(1 - forward.beta)
    scheduler.alphas_cumprod = torch.from_numpy(forward.alpha_bar)
    return scheduler


def falling(steps, spacing="fractional"):
    return schedule.timesteps(T, steps, spacing)[::-1].tolist()


@pytest.mark.parametrize("steps", [100, 1000, 4000])
def test_both_tables_of_betas_are_diffusers(steps):
    linear = DDPMScheduler(steps, beta_start=1e-4 * 1000 / steps, beta_end=0.02 * 1000 / steps).betas
    np.testing.assert_allclose(schedule.linear(steps).beta, linear.numpy(), rtol=1e-6)
    cosine = DDPMScheduler(steps, beta_schedule="squaredcos_cap_v2").betas
    np.testing.assert_allclose(schedule.cosine(steps).beta, cosine.numpy(), rtol=1e-6)


@every_schedule
def test_the_products_of_alphas_are_diffusers_to_its_rounding(name):
    theirs_ = DDPMScheduler(beta_schedule=name).alphas_cumprod.numpy()
    np.testing.assert_allclose(FORWARD[name].alpha_bar, theirs_, rtol=2e-5)


@every_schedule
def test_noised_images_and_velocities_are_diffusers(name):
    scheduler, forward, t = exact(DDPMScheduler(beta_schedule=name), FORWARD[name]), FORWARD[name], torch.arange(T)
    x0, eps = normal(T, 1, 2, 2, seed=1), normal(T, 1, 2, 2, seed=2)
    torch.testing.assert_close(gaussian.noised(forward, x0, t, eps), scheduler.add_noise(x0, eps, t))
    v = Process(forward, "v").target(x0, eps, t)
    torch.testing.assert_close(v, scheduler.get_velocity(x0, eps, t))


@every_schedule
@pytest.mark.parametrize("steps", [T, 37])
def test_learned_log_variances_are_diffusers(name, steps):
    """But for the first step, where diffusers puts log 1e-20 for log 0 and we, like OpenAI's code, log btilde_1.

    It is not drawn from: no noise is added there.
    """
    scheduler = exact(DDPMScheduler(beta_schedule=name, variance_type="learned_range"), FORWARD[name])
    scheduler.set_timesteps(timesteps=falling(steps))
    process, u = (
        Process(FORWARD[name], variance="learned").respaced(schedule.timesteps(T, steps)),
        normal(steps, 2, 1, 1),
    )
    kept = schedule.timesteps(T, steps).tolist()
    expected = torch.stack([scheduler._get_variance(t, predicted_variance=u[i]) for i, t in enumerate(kept)])
    got = process.log_variance(u, torch.arange(steps), u)
    torch.testing.assert_close(got[1:], expected[1:], atol=1e-9, rtol=1e-9)
    assert (got[0] - expected[0]).abs().max() > 1


@every_schedule
@every_prediction
@every_variance
@clipped_or_not
def test_ancestral_sampling_over_kept_steps_is_diffusers_ddpm(name, prediction, variance, clip):
    """Kept steps end at 0 here. Where they do not (one step alone), diffusers adds noise even at the end; we never do."""
    scheduler = exact(ddpm(name, prediction, variance, clip), FORWARD[name])
    scheduler.set_timesteps(timesteps=falling(37))
    network, settings = random_network(variance == "learned"), SamplerConfig(name="ancestral", steps=37, clip=clip)
    assert (
        gap(ours(network, Process(FORWARD[name], prediction, variance), settings), theirs(network, scheduler)) < 1e-10
    )


def ddpm(name, prediction, variance, clip):
    return DDPMScheduler(
        beta_schedule=name, prediction_type=PREDICTION[prediction], variance_type=VARIANCE[variance], clip_sample=clip
    )


@every_schedule
@pytest.mark.parametrize(
    ("prediction", "variance", "clip"), [("eps", "small", True), ("x0", "large", False), ("v", "learned", True)]
)
def test_ancestral_sampling_over_all_steps_is_diffusers_ddpm(name, prediction, variance, clip):
    scheduler = exact(ddpm(name, prediction, variance, clip), FORWARD[name])
    network, settings = random_network(variance == "learned"), SamplerConfig(name="ancestral", steps=T, clip=clip)
    assert (
        gap(ours(network, Process(FORWARD[name], prediction, variance), settings), theirs(network, scheduler)) < 1e-12
    )


def ddim(name, prediction, clip, steps):
    """diffusers' DDIM knows whole strides only, and its stride is T // steps: right where steps divides T, as here."""
    scheduler = DDIMScheduler(beta_schedule=name, prediction_type=PREDICTION[prediction], clip_sample=clip)
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == falling(steps, "integer")
    return scheduler


@every_schedule
@every_prediction
@every_eta
@clipped_or_not
def test_ddim_is_diffusers(name, prediction, eta, clip):
    """We always compute eps anew from a clipped image; diffusers only if told by `use_clipped_model_output`."""
    scheduler = exact(ddim(name, prediction, clip, 40), FORWARD[name])
    network, settings = random_network(), SamplerConfig(name="ddim", steps=40, spacing="integer", eta=eta, clip=clip)
    expected = theirs(network, scheduler, eta=eta, use_clipped_model_output=True)
    assert gap(ours(network, Process(FORWARD[name], prediction), settings), expected) < 1e-12


@every_schedule
@every_eta
def test_ddim_over_all_steps_is_diffusers(name, eta):
    scheduler = exact(ddim(name, "eps", True, T), FORWARD[name])
    network, settings = random_network(), SamplerConfig(name="ddim", steps=T, eta=eta)
    expected = theirs(network, scheduler, eta=eta, use_clipped_model_output=True)
    assert gap(ours(network, Process(FORWARD[name]), settings), expected) < 1e-12


def dpm_solver(name, prediction, clip, steps):
    """Its `thresholding` with a largest value of 1 is clipping."""
    scheduler = DPMSolverMultistepScheduler(
        beta_schedule=name,
        prediction_type=PREDICTION[prediction],
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        thresholding=clip,
        sample_max_value=1.0,
    )
    scheduler.set_timesteps(timesteps=falling(steps))
    return scheduler


@every_schedule
@every_prediction
@clipped_or_not
@pytest.mark.parametrize("steps", [1, 2, 3, 14, 15, 100])
def test_dpm_solver_is_diffusers(name, prediction, clip, steps):
    """diffusers rounds x to float32 at every step, whatever its tables are: gaps are that rounding's."""
    scheduler, a = dpm_solver(name, prediction, clip, steps), FORWARD[name].alpha_bar[falling(steps)]
    scheduler.sigmas = torch.from_numpy(np.append(np.sqrt((1 - a) / a), 0.0))
    network, settings = random_network(), SamplerConfig(name="dpm-solver++", steps=steps, clip=clip)
    assert gap(ours(network, Process(FORWARD[name], prediction), settings), theirs(network, scheduler)) < 1e-5


@every_prediction
def test_trajectories_agree_with_diffusers_as_it_comes(prediction):
    """Its float32 tables included: with the linear schedule they cost less than 1e-4 over 40 to 50 steps (measured: 4e-5)."""
    network, process = random_network(), Process(FORWARD["linear"], prediction)
    scheduler = ddpm("linear", prediction, "small", True)
    scheduler.set_timesteps(timesteps=falling(50))
    assert gap(ours(network, process, SamplerConfig(name="ancestral", steps=50)), theirs(network, scheduler)) < 1e-4
    settings = SamplerConfig(name="ddim", steps=40, spacing="integer", eta=0.5)
    expected = theirs(network, ddim("linear", prediction, True, 40), eta=0.5, use_clipped_model_output=True)
    assert gap(ours(network, process, settings), expected) < 1e-4
    expected = theirs(network, dpm_solver("linear", prediction, True, 40))
    assert gap(ours(network, process, SamplerConfig(name="dpm-solver++", steps=40)), expected) < 1e-4


def test_diffusers_offset_shifts_our_whole_strides_by_one():
    """The trap `steps_offset=1` (Stable Diffusion's): the last step is at t = 1, whose image still has noise."""
    scheduler = DDIMScheduler(steps_offset=1)
    scheduler.set_timesteps(5)
    assert scheduler.timesteps.tolist() == [801, 601, 401, 201, 1]
    assert [t - 1 for t in scheduler.timesteps.tolist()] == falling(5, "integer")


@pytest.mark.parametrize("steps", [2, 10, 37, 250, 999, 1000])
def test_fractional_strides_are_diffusers_linspace(steps):
    scheduler = DDPMScheduler(timestep_spacing="linspace")
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == falling(steps)
