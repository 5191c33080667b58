"""The variational bound against constants, closed forms and a toy whose exact likelihood is known."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor

from bench.diffusion import gaussian, schedule
from bench.diffusion.likelihood import Bound, bits_per_dim, decoder_bits, gaussian_kl, prior_bits, vlb_term
from bench.diffusion.process import PREDICTIONS, Process

LINEAR = schedule.linear(1000)
COSINE = schedule.cosine(1000)
LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1
LN2 = math.log(2)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Gaussians and the prior


def test_the_kl_of_gaussians_has_its_closed_form():
    assert gaussian_kl(f64(0), f64(0), f64(1), f64(1)).item() == pytest.approx(0.367879, abs=1e-6)


@given(*[st.floats(-5, 5)] * 4)
def test_the_kl_agrees_with_torchs(mean1, log_var1, mean2, log_var2):
    p, q = (torch.distributions.Normal(f64(m), f64(v / 2).exp()) for m, v in ((mean1, log_var1), (mean2, log_var2)))
    ours = gaussian_kl(f64(mean1), f64(log_var1), f64(mean2), f64(log_var2))
    torch.testing.assert_close(ours, torch.distributions.kl_divergence(p, q), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    ("tables", "pixel", "bits", "rel"),
    [
        (LINEAR, 1.0, 2.9113e-5, 1e-4),
        (LINEAR, -1.0, 2.9113e-5, 1e-4),
        (LINEAR, 0.0, 5.9e-10, 1e-2),
        (COSINE, 1.0, 1.75e-9, 1e-2),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_prior_has_the_published_values(tables, pixel, bits, rel, dtype):
    prior = prior_bits(tables, torch.full((3, 1, 2, 2), pixel, dtype=dtype))
    assert prior.tolist() == pytest.approx([bits] * 3, rel=rel)


def test_the_prior_is_the_kl_from_the_last_step_to_pure_noise():
    x0, a = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 1e-2
    tables = schedule.Schedule(np.array([0.5, 0.98]))
    kl = gaussian_kl(math.sqrt(a) * x0, f64(math.log(1 - a)), f64(0), f64(0)) / LN2
    torch.testing.assert_close(prior_bits(tables, x0), kl.mean(dim=(1, 2, 3)))


# The decoder


@pytest.mark.parametrize(("sd", "bits"), [(0.005, 0.818213), (0.01, 1.712846), (0.05, 3.999652), (0.1, 4.998543)])
def test_the_decoder_at_the_mean_has_the_published_values_of_the_exact_cdf(sd, bits):
    assert decoder_bits(f64(0.2), f64(0.2), f64(2 * math.log(sd))).item() == pytest.approx(bits, abs=1e-6)


@given(mean=st.floats(-1.5, 1.5), sd=st.floats(1e-3, 3))
def test_the_masses_of_all_levels_sum_to_one(mean, sd):
    masses = 2 ** -decoder_bits(LEVELS, f64(mean), f64(2 * math.log(sd)))
    assert masses.sum().item() == pytest.approx(1, abs=1e-9)  # 256 masses are at most 1e-12 too large


@given(k=st.integers(0, 255), z=st.floats(-6.5, 6.5), sd=st.floats(3e-3, 1))
def test_float32_is_near_scipy_on_both_sides_of_the_mean(k, z, sd):
    x0, mean = LEVELS[k : k + 1].float(), (LEVELS[k] - z * sd).float()
    upper, lower = (float(LEVELS[k]) - float(mean) + h for h in (1 / 255, -1 / 255))
    upper, lower = math.inf if k == 255 else upper / sd, -math.inf if k == 0 else lower / sd
    mass = norm.sf(lower) - norm.sf(upper) if z > 0 else norm.cdf(upper) - norm.cdf(lower)
    bits = decoder_bits(x0, mean, torch.tensor(2 * math.log(sd)))
    assert bits.dtype == torch.float32
    assert bits.item() == pytest.approx(-math.log2(max(mass, 1e-12)), abs=5e-3)


def test_the_outer_bins_reach_to_infinity():
    far = decoder_bits(f64(-1, 1, -1, 1), f64(-9, 9, 9, -9), f64(-6))
    assert far[:2].tolist() == [0, 0]
    assert far[2:].tolist() == pytest.approx([-math.log2(1e-12)] * 2)
    assert decoder_bits(f64(-1, 1), f64(-1, 1), f64(0)).tolist() == pytest.approx([-math.log2(norm.cdf(1 / 255))] * 2)


def test_unit_range_has_bins_of_half_the_width():
    x0, mean, log_variance = LEVELS, LEVELS.flip(0) * 0.1 + LEVELS * 0.9, f64(-7)
    unit = decoder_bits((x0 + 1) / 2, (mean + 1) / 2, log_variance - 2 * LN2, pixel_range=(0.0, 1.0))
    torch.testing.assert_close(unit, decoder_bits(x0, mean, log_variance))
    centre = decoder_bits(f64(100 / 255), f64(100 / 255), f64(2 * math.log(0.05)), pixel_range=(0.0, 1.0))
    assert centre.item() == pytest.approx(4.998543, abs=1e-6)  # as sd 0.1 in [-1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_decoders_gradients_are_finite_at_extreme_values(dtype):
    x0, mean, log_variance = torch.meshgrid(
        torch.tensor([-1.0, -1 + 2 / 255, 1 / 255, 1.0], dtype=dtype),
        torch.tensor([-1e30, -1e4, -1.0, 0.0, 1 / 255, 2 / 255, 1.0, 3.0, 1e30], dtype=dtype),
        torch.tensor([-1e4, -200.0, -80.0, -9.8, 0.0, 30.0, 200.0, 1e4], dtype=dtype),
        indexing="ij",
    )
    mean, log_variance = mean.clone().requires_grad_(), log_variance.clone().requires_grad_()
    bits = decoder_bits(x0, mean, log_variance)
    assert bits.isfinite().all()
    assert (bits >= 0).all()
    bits.sum().backward()
    assert mean.grad.isfinite().all()
    assert log_variance.grad.isfinite().all()


def test_the_decoders_gradients_are_those_of_its_values():
    x0 = torch.stack([LEVELS[[0, 0, 0, 1, 128, 128, 255, 255, 255]]] * 2)
    mean = torch.stack([x0[0] + f64(-0.02, 0, 0.01, 0.003, -0.01, 0, 0.02, 0, -0.01)] * 2).requires_grad_()
    log_variance = torch.stack([torch.full((9,), v, dtype=torch.float64) for v in (-9.8, -5)]).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, v: decoder_bits(x0, m, v), (mean, log_variance))


# The terms


def case(t: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Images, noise and noised images, (B, 1, 2, 2) each."""
    generator = torch.Generator().manual_seed(seed)
    x0 = LEVELS[torch.randint(0, 256, (len(t), 1, 2, 2), generator=generator)]
    eps = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    return x0, eps, gaussian.noised(LINEAR, x0, t, eps)


def cost_of_eps_errors(variance: str, delta: float = 0.5) -> np.ndarray:
    """Nats per unit of squared eps error that terms t = 1 .. 999 grow by; entry 0 stays 0."""
    t, process = torch.arange(1, 1000), Process(LINEAR, "eps", variance)
    x0, eps, x_t = case(t)
    grown = vlb_term(process, eps + delta, x0, x_t, t) - vlb_term(process, eps, x0, x_t, t)
    return np.append(0, grown.numpy()) * LN2 / delta**2


def eps_weights(variance: np.ndarray) -> np.ndarray:
    beta, a = LINEAR.beta, LINEAR.alpha_bar
    return beta**2 / (2 * variance * (1 - beta) * (1 - a))


def test_errors_of_eps_weigh_as_published_with_small_variance():
    weights = cost_of_eps_errors("small")
    assert weights[[1, 11, 101, 999]] == pytest.approx([0.599672, 0.0727676, 0.0100916, 0.0102045], rel=1e-5)
    assert weights.sum() / LN2 == pytest.approx(14.67292, abs=1e-5)
    np.testing.assert_allclose(weights[1:], eps_weights(np.exp(LINEAR.posterior_log_variance))[1:], rtol=1e-6)


def test_errors_of_eps_weigh_as_published_with_large_variance():
    weights, closed = cost_of_eps_errors("large"), eps_weights(LINEAR.beta)
    assert closed[:3] == pytest.approx([0.500050, 0.272692, 0.194402], abs=1e-6)
    np.testing.assert_allclose(weights[1:], closed[1:], rtol=1e-6)
    assert weights.sum() / LN2 == pytest.approx(13.50506, abs=1e-5)


def perfect_terms(variance: str, t: Tensor) -> Tensor:
    x0, eps, x_t = case(t)
    return vlb_term(Process(LINEAR, "eps", variance), eps, x0, x_t, t)


def test_the_terms_of_a_perfect_mean_cost_what_the_variance_does():
    t = torch.arange(1, 1000)
    assert perfect_terms("small", t).abs().max() < 1e-12
    large = perfect_terms("large", t)
    assert large.sum().item() == pytest.approx(0.48642, abs=1e-5)
    assert large[0].item() == pytest.approx(0.17512, abs=1e-5)


def test_the_term_at_0_is_the_decoder_with_the_clipped_variance():
    assert LINEAR.posterior_log_variance[0] == pytest.approx(-9.816725, abs=1e-6)
    x0, _, _ = case(torch.zeros(5, dtype=torch.int64))
    levels = decoder_bits(x0, x0, f64(-9.816725))
    torch.testing.assert_close(
        perfect_terms("small", torch.zeros(5, dtype=torch.int64)), levels.mean(dim=(1, 2, 3)), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(("u", "variance"), [(-1.0, "small"), (1.0, "large")])
def test_learned_variance_at_its_ends_is_a_fixed_one(u, variance):
    t = torch.arange(1, 1000)
    x0, eps, x_t = case(t)
    output = torch.cat([eps * 0.9, torch.full_like(eps, u)], dim=1)
    learned = vlb_term(Process(LINEAR, "eps", "learned"), output, x0, x_t, t)
    torch.testing.assert_close(learned, vlb_term(Process(LINEAR, "eps", variance), eps * 0.9, x0, x_t, t))


def test_one_estimate_has_the_same_terms_whatever_the_network_predicts():
    t = torch.arange(0, 1000, 37)
    x0, eps, x_t = case(t)
    guess = gaussian.x0_from_eps(LINEAR, x_t, t, eps * 0.9)
    processes = [Process(LINEAR, prediction, "large") for prediction in PREDICTIONS]
    terms = [vlb_term(p, p.target(guess, eps * 0.9, t), x0, x_t, t) for p in processes]
    torch.testing.assert_close(terms[1], terms[0])
    torch.testing.assert_close(terms[2], terms[0])


def test_clipping_the_estimate_bounds_a_wild_output():
    t = torch.tensor([100, 500, 999])
    x0, eps, x_t = case(t)
    free, clipped = (vlb_term(Process(LINEAR), eps + 100, x0, x_t, t, clip=clip) for clip in (None, (-1.0, 1.0)))
    assert (clipped < free / 10).all()
    assert torch.equal(vlb_term(Process(LINEAR), eps, x0, x_t, t, clip=(-50.0, 50.0)) < 1e-9, torch.ones(3) > 0)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e8])
def test_the_terms_gradients_are_finite_in_float32(scale):
    t = torch.tensor([0, 0, 1, 999])
    x0, eps, x_t = (x.float() for x in case(t))
    output = torch.cat([eps * scale, torch.tensor([-30.0, 30.0, -2.0, 2.0]).reshape(4, 1, 1, 1).expand_as(eps)], dim=1)
    output = output.clone().requires_grad_()
    vlb_term(Process(LINEAR, "eps", "learned"), output, x0, x_t, t).sum().backward()
    assert output.grad.isfinite().all()


# A toy: 256-level pixels of N(M, S^2), and the exact network for them

M, S = 0.1, 0.25
N = 96


def toy_images(n: int = N) -> Tensor:
    pixels = M + S * torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return ((pixels + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def exact_bits(images: Tensor) -> np.ndarray:
    """-log2 of each pixel's probability, a mean per image; by scipy, not by what is tested."""
    edges = np.concatenate([[0], norm.cdf((LEVELS[:-1].numpy() + LEVELS[1:].numpy()) / 2, M, S), [1]])
    levels = ((images + 1) * 127.5).round().long().numpy()
    return -np.log2(np.diff(edges))[levels].mean(axis=(1, 2, 3))


def best_variance(tables: schedule.Schedule) -> np.ndarray:
    """Var(x_{t-1} | x_t) = btilde_t + c_t^2 Var(x_0 | x_t), c_t being x_0's coefficient in the posterior's mean."""
    a = tables.alpha_bar
    return tables.posterior_variance + tables.posterior_mean_x0**2 * S**2 * (1 - a) / (a * S**2 + 1 - a)


def expected_kl(tables: schedule.Schedule, log_variance: np.ndarray) -> float:
    """Bits of all terms t >= 1 for the exact network, in expectation over the toy."""
    kl = log_variance - tables.posterior_log_variance - 1 + best_variance(tables) / np.exp(log_variance)
    return float(kl[1:].sum() / 2 / LN2)


def toy_network(x: Tensor, t: Tensor) -> Tensor:
    """E[eps | x_t], linear in x_t; float32 as any network."""
    a = gaussian.at(LINEAR.alpha_bar, t, x)
    return (1 - a).sqrt() * (x - a.sqrt() * M) / (a * S**2 + 1 - a)


def toy_network_with_best_variance(x: Tensor, t: Tensor) -> Tensor:
    small = LINEAR.posterior_log_variance
    f = (np.log(best_variance(LINEAR)) - small) / (np.log(LINEAR.beta) - small)
    return torch.cat([toy_network(x, t), gaussian.at(2 * f - 1, t, x).expand_as(x)], dim=1)


def toy_bound(variance: str, images: Tensor | None = None, **kwargs) -> Bound:
    network = toy_network_with_best_variance if variance == "learned" else toy_network
    images = toy_images() if images is None else images
    return bits_per_dim(network, Process(LINEAR, "eps", variance), images, **kwargs)


@cache
def full_bound(variance: str) -> Bound:
    return toy_bound(variance, batch_size=1000)


def mean_and_error(values: Tensor | np.ndarray) -> tuple[float, float]:
    """The mean and its standard error."""
    values = np.asarray(values)
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def test_the_toys_exact_likelihood_is_the_decoder_of_its_own_distribution():
    decoded = decoder_bits(toy_images(), f64(M), f64(2 * math.log(S))).mean(dim=(1, 2, 3))
    np.testing.assert_allclose(exact_bits(toy_images()), decoded, rtol=1e-9)


def test_the_bound_of_the_exact_network_is_the_exact_likelihood():
    bound, exact = full_bound("learned"), exact_bits(toy_images())
    gap, error = mean_and_error(bound.total - torch.from_numpy(exact))
    assert error < 0.003 * exact.mean()
    assert abs(gap) < 0.01 * exact.mean()
    assert gap > -3 * error
    assert bound.total.dtype == torch.float64


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("steps", [1000, 50])
def test_fixed_variances_cost_what_the_closed_form_says(variance, steps):
    kept = np.round(np.linspace(0, 999, steps)).astype(int)
    tables = schedule.respaced(LINEAR, kept)
    bound = full_bound(variance) if steps == 1000 else toy_bound(variance, kept=kept)
    log_variance = tables.posterior_log_variance if variance == "small" else np.log(tables.large_variance)
    kl, error = mean_and_error(bound.terms[:, 1:].sum(dim=1))
    assert abs(kl - expected_kl(tables, log_variance)) < 4 * error
    gap, error = mean_and_error(bound.total - torch.from_numpy(exact_bits(toy_images())))
    assert gap > 3 * error  # a bound, and for these variances not a tight one


@pytest.mark.parametrize("variance", ["learned", "small", "large"])
def test_a_respaced_chain_is_looser_in_all_but_the_decoder(variance):
    kept = [0, *range(9, 1000, 10)]
    short, full = toy_bound(variance, kept=kept), full_bound(variance)
    assert short.terms.shape == (N, len(kept))
    assert short.kept == tuple(kept)
    assert short.terms.isfinite().all()
    gap, error = mean_and_error(short.terms[:, 1:].sum(dim=1) - full.terms[:, 1:].sum(dim=1))
    assert gap > -3 * error
    gap, error = mean_and_error(short.total - full.total)
    if variance == "small":
        assert gap > 1  # btilde is far too small for long steps
    elif variance == "learned":
        assert gap > -3 * error


def test_the_decoder_of_large_variance_gains_by_respacing():
    """Its variance at t = 0 is btilde_1, about beta_0 / 2 in the full chain and nearly beta_0, the best, in this one."""
    short, full = toy_bound("large", kept=[0, *range(9, 1000, 10)]), full_bound("large")
    gain, error = mean_and_error(full.terms[:, 0] - short.terms[:, 0])
    assert gain > 3 * error


@pytest.mark.parametrize("kept", [[999], [500], [0, 999], [3, 4, 700]])
def test_any_kept_steps_give_a_bound(kept):
    exact = exact_bits(toy_images())
    gap, error = mean_and_error(toy_bound("large", kept=kept).total - torch.from_numpy(exact))
    assert gap > 3 * error


# The loop

FEW = (0, 1, 10, 400, 999)


def test_an_images_bound_depends_on_neither_the_batch_nor_the_others():
    images = toy_images(5)
    together = toy_bound("learned", images, kept=FEW, batch_size=100)
    for batch_size in (1, 3, 7):
        torch.testing.assert_close(toy_bound("learned", images, kept=FEW, batch_size=batch_size).terms, together.terms)
    apart = toy_bound("learned", images[:2], kept=FEW)
    torch.testing.assert_close(apart.terms, together.terms[:2])
    torch.testing.assert_close(apart.total, together.total[:2])


def test_the_bound_is_repeatable_and_leaves_global_generators_alone():
    state = torch.get_rng_state()
    assert torch.equal(*[toy_bound("small", toy_images(3), kept=FEW).terms for _ in range(2)])
    assert torch.equal(torch.get_rng_state(), state)


def test_keeping_all_steps_is_keeping_none_out():
    images = toy_images(2)
    all_kept, plain = toy_bound("large", images, kept=range(1000)), toy_bound("large", images)
    assert all_kept.kept == plain.kept == tuple(range(1000))
    torch.testing.assert_close(all_kept.terms, plain.terms, atol=1e-6, rtol=1e-5)


def test_the_total_is_the_chains_own_prior_and_every_term():
    kept = FEW[:-1]
    bound = toy_bound("small", toy_images(3), kept=kept)
    torch.testing.assert_close(bound.total, bound.prior + sum(bound.terms[:, i] for i in range(len(kept))))
    torch.testing.assert_close(bound.prior, prior_bits(schedule.respaced(LINEAR, kept), toy_images(3)))


def test_the_network_sees_float32_original_steps_and_other_noise_in_every_pair():
    seen = []

    def network(x, t):
        seen.extend(zip(t.tolist(), x, strict=True))
        assert x.dtype == torch.float32
        assert not torch.is_grad_enabled()
        return torch.zeros_like(x)

    images, ticks = torch.zeros(3, 1, 4, 4), []
    bits_per_dim(network, Process(LINEAR), images, kept=FEW, batch_size=4, tick=ticks.append)
    assert [t for t, _ in seen] == [*FEW] * 3
    assert ticks == [4, 4, 4, 3]
    noises = torch.stack([x / math.sqrt(1 - LINEAR.alpha_bar[t]) for t, x in seen]).flatten(1)
    assert torch.pdist(noises).min() > 1
    assert noises.std().item() == pytest.approx(1, abs=0.2)


def test_clipping_is_on_unless_asked_otherwise():
    def wild(x, t):
        return 100 * torch.ones_like(x)

    clipped, free = (
        bits_per_dim(wild, Process(LINEAR), toy_images(2), kept=FEW, clip=clip).total for clip in (True, False)
    )
    assert (clipped < free / 10).all()
    assert torch.equal(bits_per_dim(wild, Process(LINEAR), toy_images(2), kept=FEW).total, clipped)


def test_a_perfect_network_on_unit_range_pays_for_the_unit_bins():
    images = (toy_images(2) + 1) / 2

    def perfect(x, t):
        return images.float()[pair_images(len(x))]

    def pair_images(count):
        return torch.arange(count) // len(FEW)

    bound = bits_per_dim(perfect, Process(LINEAR, "x0"), images, kept=FEW, pixel_range=(0.0, 1.0))
    unit = schedule.respaced(LINEAR, FEW).posterior_log_variance[0]
    mass = math.erf(0.5 / 255 / math.exp(unit / 2) / math.sqrt(2))
    assert bound.terms[:, 0].tolist() == pytest.approx([-math.log2(mass)] * 2, abs=1e-4)
    assert bound.terms[:, 1:].abs().max() < 1e-6


def test_no_images_have_an_empty_bound():
    bound = toy_bound("small", torch.zeros(0, 1, 8, 8), kept=FEW)
    assert bound.terms.shape == (0, 5)
    assert bound.total.shape == (0,)


@pytest.mark.parametrize("kept", [[], [-1, 5], [5, 1000], [3, 3], [7, 2]])
def test_kept_steps_that_are_no_chain_are_refused(kept):
    with pytest.raises(ValueError, match=r"kept must be rising timesteps from 0 .. 999"):
        toy_bound("small", toy_images(1), kept=kept)


def test_a_class_conditional_network_is_shown_each_images_class():
    images, labels, seen = toy_images(3), torch.tensor([4, 7, 9]), []

    def network(x, t, y):
        seen.extend(y.tolist())
        return torch.zeros_like(x)

    bits_per_dim(network, Process(LINEAR), images, labels, kept=FEW, batch_size=4)
    assert seen == [label for label in (4, 7, 9) for _ in FEW]


def test_each_image_has_the_term_of_its_own_timestep():
    """Images at t = 0 among others: the decoder's bits go to just those."""
    t, process = torch.tensor([3, 0, 999, 0, 1]), Process(LINEAR, "eps", "learned")
    x0, eps, x_t = (x.float() for x in case(t))
    output = torch.cat([eps * 0.5, torch.zeros_like(eps)], dim=1)
    together = vlb_term(process, output, x0, x_t, t)
    apart = [vlb_term(process, output[i : i + 1], x0[i : i + 1], x_t[i : i + 1], t[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(together, torch.cat(apart))
