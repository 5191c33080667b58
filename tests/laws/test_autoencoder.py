"""The autoencoder's shapes, loss and gradients, and the laws of a standardised latent space."""

import pytest
import torch
from safetensors.torch import load, save

from bench.diffusion.autoencoder import (
    LOG_VARIANCE_RANGE,
    Autoencoder,
    LatentSpace,
    autoencoder_losses,
    fit_latent_space,
    kl_to_normal,
    latent_side,
)
from bench.diffusion.config import LATENT_FACTOR
from bench.diffusion.unet import count_parameters


def small_net(channels=1, latent_channels=2):
    """The same initial weights at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Autoencoder(channels, width=16, latent_channels=latent_channels)


def discs(count=48, size=16):
    """Images (count, 1, size, size) in [-1, 1]: a soft disc each, of another place and radius."""
    draw = torch.rand(count, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.linspace(0, 1, size)[:, None], torch.linspace(0, 1, size)[None]
    distance = ((rows - 0.2 - 0.6 * draw[:, 0]).square() + (columns - 0.2 - 0.6 * draw[:, 1]).square()).sqrt()
    return torch.tanh(12 * (0.15 + 0.15 * draw[:, 2] - distance))[:, None]


def normal(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def train(net, x, steps, kl_weight=1e-3):
    """Full-batch steps; the mean loss at each."""
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=3e-3), []
    for step in range(steps):
        loss = autoencoder_losses(net, x, normal(len(x), 2, 4, 4, seed=step), kl_weight).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.fixture(scope="module")
def trained():
    """A net after some steps, and the losses on the way."""
    torch.set_num_threads(1)
    net = small_net()
    return net, train(net, discs(24), 30)


@pytest.fixture(scope="module")
def space(trained):
    return fit_latent_space(trained[0], discs(), batch_size=20)


# -------------------------------------------------------------------------------------------------- network


@pytest.mark.parametrize(("size", "side"), [(16, 4), (28, 7), (32, 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_latents_have_a_quarter_of_the_side_and_decode_to_the_image(channels, size, side):
    net = Autoencoder(channels)
    mean, log_variance = net.encode(torch.zeros(2, channels, size, size))
    assert mean.shape == log_variance.shape == (2, 4, side, side)
    assert net.decode(mean).shape == (2, channels, size, size)
    assert latent_side(size) == side == size // LATENT_FACTOR


@pytest.mark.parametrize("size", [30, 27, 2, 0, -4])
def test_a_side_that_cannot_be_quartered_is_refused(size):
    with pytest.raises(ValueError, match=f"side divisible by 4, got {size}"):
        latent_side(size)


def test_encoding_refuses_a_side_that_decoding_would_not_restore(space):
    with pytest.raises(ValueError, match="side divisible by 4, got 18"):
        small_net().encode(torch.zeros(1, 1, 16, 18))
    with pytest.raises(ValueError, match="side divisible by 4, got 30"):
        space.encode(torch.zeros(1, 1, 30, 32))


@pytest.mark.parametrize("width", [40, 0, -16])
def test_a_width_that_cannot_be_normalised_is_refused(width):
    with pytest.raises(ValueError, match=rf"positive multiple of 2 \* groups = 16, got {width}"):
        Autoencoder(1, width=width)


@pytest.mark.parametrize(("channels", "count"), [(1, 182_473), (3, 183_051)])
def test_the_default_network_is_small(channels, count):
    with torch.device("meta"):
        assert count_parameters(Autoencoder(channels)) == count


# ----------------------------------------------------------------------------------------------------- loss


def test_kl_is_the_mean_of_the_closed_form_and_zero_only_for_the_standard_normal():
    mean, log_variance = normal(3, 2, 4, 4, seed=1), normal(3, 2, 4, 4, seed=2)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_normal(mean, log_variance), expected.flatten(1).mean(dim=1))
    assert torch.equal(kl_to_normal(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)), torch.zeros(2))


def test_the_loss_is_reconstruction_error_plus_weighted_kl_an_image():
    net, x, noise = small_net(), discs(3), normal(3, 2, 4, 4)
    mean, log_variance = net.encode(x)
    error = (net.decode(mean + (log_variance / 2).exp() * noise) - x).square().mean(dim=(1, 2, 3))
    for weight in (0.0, 0.25):
        losses = autoencoder_losses(net, x, noise, weight)
        assert losses.shape == (3,)
        torch.testing.assert_close(losses, error + weight * kl_to_normal(mean, log_variance))


def test_log_variances_are_clamped():
    net, ends = small_net(latent_channels=2), torch.tensor(LOG_VARIANCE_RANGE)
    with torch.no_grad():
        net.encoder[-1].bias[2:] = torch.tensor([-1e4, 1e4])
        log_variance = net.encode(discs(2))[1]
    assert torch.equal(log_variance, ends[None, :, None, None].expand(2, 2, 4, 4))
    assert autoencoder_losses(net, discs(2), torch.zeros(2, 2, 4, 4), 1e-6).isfinite().all()


def test_gradients_reach_every_parameter():
    net = small_net()
    autoencoder_losses(net, discs(4), normal(4, 2, 4, 4), 0.1).mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_training_lowers_the_loss(trained):
    losses = trained[1]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_training_is_deterministic():
    first, second = small_net(), small_net()
    assert train(first, discs(8), 3) == train(second, discs(8), 3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


# ---------------------------------------------------------------------------------------------- latent space


def test_training_latents_have_mean_0_and_variance_1_in_each_channel(space):
    z = space.encode(discs()).double()
    torch.testing.assert_close(z.mean(dim=(0, 2, 3)), torch.zeros(2).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(dim=(0, 2, 3), correction=0), torch.ones(2).double(), atol=1e-5, rtol=0)


def test_the_bound_holds_the_training_latents_and_is_reached(space):
    assert isinstance(space.bound, float)
    assert space.encode(discs()).abs().max().item() == pytest.approx(space.bound, abs=1e-5)


def test_decoding_undoes_the_standardisation(trained, space):
    net, x = trained[0], discs()
    with torch.no_grad():
        torch.testing.assert_close(space.decode(space.encode(x)), net.decode(net.encode(x)[0]), atol=1e-5, rtol=0)


def test_a_reconstruction_resembles_its_image(space):
    x = discs()
    assert (space.decode(space.encode(x)) - x).square().mean() < 0.5 * x.var()


def test_the_round_trip_does_not_depend_on_the_batch(space):
    x = discs(300)  # more than are encoded at once
    together = space.decode(space.encode(x))
    apart = torch.cat([space.decode(space.encode(part)) for part in x.split(7)])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


def test_fitting_does_not_depend_on_the_batch_size(trained, space):
    other = fit_latent_space(trained[0], discs(), batch_size=1000)
    torch.testing.assert_close(other.mean, space.mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(other.sd, space.sd, atol=1e-6, rtol=1e-5)
    assert other.bound == pytest.approx(space.bound, abs=1e-4)


def test_a_space_gives_no_gradients_and_does_not_change_with_the_net_it_was_made_of():
    net, x = small_net(), discs(8)
    space = fit_latent_space(net, x, batch_size=8)
    before = space.encode(x)
    train(net, x, 2)
    assert torch.equal(space.encode(x), before)
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert not before.requires_grad
    assert not space.decode(before.requires_grad_()).requires_grad
    assert not any(parameter.requires_grad for parameter in space.net.parameters())


def test_a_collapsed_channel_is_refused():
    net = small_net()
    with torch.no_grad():
        net.encoder[-1].weight[1] = 0.0
    with pytest.raises(ValueError, match="1 of 2 latent channels collapsed"):
        fit_latent_space(net, discs(8), batch_size=4)


def test_a_diverged_network_is_refused():
    net = small_net()
    with torch.no_grad():
        net.encoder[0].bias[0] = float("nan")
    with pytest.raises(ValueError, match="latent channels collapsed"):
        fit_latent_space(net, discs(8), batch_size=4)


def test_the_state_goes_through_safetensors_unchanged(space):
    restored = LatentSpace.from_state(load(save(space.state())))
    before, after = space.state(), restored.state()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert restored.bound == space.bound
    assert restored.net.settings == space.net.settings
    x = discs(5)
    assert torch.equal(restored.encode(x), space.encode(x))
    assert torch.equal(restored.decode(space.encode(x)), space.decode(space.encode(x)))


def test_the_state_is_a_copy(space):
    kept = space.state()
    restored = LatentSpace.from_state(kept)
    for tensor in kept.values():
        tensor.zero_()
    assert space.sd.min() > 0
    assert restored.sd.min() > 0
    assert torch.equal(restored.encode(discs(3)), space.encode(discs(3)))


def broken_states(state):
    yield {name: tensor for name, tensor in state.items() if name != "sd"}
    yield {name: tensor for name, tensor in state.items() if name != "net.decoder.0.bias"}
    yield state | {"settings": torch.tensor([1, 2])}
    yield state | {"settings": torch.tensor([3, 16, 2, 8])}
    yield state | {"settings": torch.tensor([1, 16, 2, 0])}
    yield state | {"mean": torch.zeros(1, 3, 1, 1)}
    yield {}


def test_a_broken_state_is_refused(space):
    for state in broken_states(space.state()):
        with pytest.raises(ValueError, match="not the state of a latent space"):
            LatentSpace.from_state(state)
