"""A small KL-regularised autoencoder and the standardised space of its latents (Rombach et al. 2022, section 3.1).

The autoencoder is trained first and frozen; diffusion then runs on its latents, a quarter of the image's side. The
KL term's weight is small, so the latents are smooth but not normal, and they are rescaled afterwards: here by the mean
and the standard deviation of each channel over all training images, where the paper's appendix G takes one standard
deviation over the first batch. The weight is not as small as the paper's 1e-6: with so few latents a stronger one costs
little of the reconstruction and makes the latents easier to sample.
"""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.diffusion.config import LATENT_FACTOR

LOG_VARIANCE_RANGE = (-30.0, 20.0)  # as in the paper's code
COLLAPSED = 1e-4  # a channel whose standard deviation is below this carries nothing but rounding
_BATCH = 250  # images at once where no gradient is needed
_NET, _SETTINGS = "net.", ("channels", "width", "latent_channels", "groups")


def latent_side(size: int) -> int:
    """The side of the latents of images with this side.

    Raises:
        ValueError: if `size` is not a positive multiple of `LATENT_FACTOR`.
    """
    if size < 1 or size % LATENT_FACTOR:
        raise ValueError(f"latents need images with a side divisible by {LATENT_FACTOR}, got {size}")
    return size // LATENT_FACTOR


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice: the U-Net's block without the timestep."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, width), nn.Conv2d(width, width, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, width), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Autoencoder(nn.Module):
    """Image to a normal distribution of latents and back, narrow where the side is long.

    The feature channels are width / 2 at the full side, width at half of it and 3 * width / 2 at a quarter.

    Args:
        channels: image channels, 1 for MNIST.
        width: feature channels at half the side.
        latent_channels: channels of the latents.
        groups: groups of every GroupNorm. Must divide width / 2.
    Raises:
        ValueError: if `width` is not a positive multiple of 2 * `groups`.
    """

    def __init__(self, channels: int, width: int = 32, latent_channels: int = 4, groups: int = 8) -> None:
        super().__init__()
        if groups < 1 or width < 1 or width % (2 * groups):
            raise ValueError(f"autoencoder width must be a positive multiple of 2 * groups = {2 * groups}, got {width}")
        self.settings = dict(zip(_SETTINGS, (channels, width, latent_channels, groups), strict=True))
        full, half, quarter = width // 2, width, 3 * width // 2
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, full, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(full, half, 3, stride=2, padding=1),
            ResidualBlock(half, groups),
            nn.Conv2d(half, quarter, 3, stride=2, padding=1),
            ResidualBlock(quarter, groups),
            *_head(quarter, 2 * latent_channels, groups),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, quarter, 3, padding=1),
            ResidualBlock(quarter, groups),
            nn.ConvTranspose2d(quarter, half, 4, stride=2, padding=1),
            ResidualBlock(half, groups),
            nn.ConvTranspose2d(half, full, 4, stride=2, padding=1),
            ResidualBlock(full, groups),
            *_head(full, channels, groups),
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) -> mean and log variance (nats, clamped) of the latents, (B, c, H/4, W/4) each.

        Raises:
            ValueError: if H or W is not divisible by `LATENT_FACTOR`.
        """
        for side in x.shape[-2:]:
            latent_side(side)
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, c, h, w) -> images (B, C, 4h, 4w) in about the range of the training images, not clipped."""
        return self.decoder(z)


def _head(width: int, out: int, groups: int) -> tuple[nn.Module, ...]:
    return nn.GroupNorm(groups, width), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1)


def autoencoder_losses(net: Autoencoder, x: Tensor, noise: Tensor, kl_weight: float) -> Tensor:
    """Per-image loss (B,): squared error, mean over pixels, + `kl_weight` * `kl_to_normal`, a mean over latents.

    The negative evidence lower bound of a decoder with fixed variance (Kingma & Welling 2014, eq. 7), scaled so that
    a weight means the same at every image size. (Rombach et al., section 3.1, add perceptual and adversarial losses.)

    Args:
        x: images (B, C, H, W) in the model's range.
        noise: standard normal, of the latents' shape; the reconstruction is of z = mean + sd * noise.
        kl_weight: 0 or more.
    """
    mean, log_variance = net.encode(x)
    z = mean + (0.5 * log_variance).exp() * noise
    error = (net.decode(z) - x).square().flatten(1).mean(dim=1)
    return error + kl_weight * kl_to_normal(mean, log_variance)


def kl_to_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) in nats, (B, ...) -> (B,), a mean over the latent dimensions.

    Kingma & Welling 2014, appendix B, divided by the number of dimensions.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).flatten(1).mean(dim=1)


@dataclass(frozen=True, eq=False)
class LatentSpace:
    """A trained autoencoder and the standardisation of its latents (Rombach et al. 2022, appendix G).

    Attributes:
        net: frozen, in eval mode.
        mean, sd: (1, c, 1, 1) float32, of each channel over all training latents.
        bound: largest absolute value of the standardised training latents, to which samplers clip.
    """

    net: Autoencoder
    mean: Tensor
    sd: Tensor
    bound: float

    def __post_init__(self) -> None:
        self.net.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> means of their latents (N, c, H/4, W/4), each channel with mean 0 and variance 1 over
        the training images; in batches, on the space's device.

        Raises:
            ValueError: if H or W is not divisible by `LATENT_FACTOR`.
        """
        return torch.cat([(self.net.encode(batch)[0] - self.mean) / self.sd for batch in x.split(_BATCH)])

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Standardised latents (N, c, h, w) -> images (N, C, 4h, 4w), not clipped; likewise."""
        return torch.cat([self.net.decode(batch * self.sd + self.mean) for batch in z.split(_BATCH)])

    def to(self, device: str | torch.device) -> "LatentSpace":
        """A copy on this device."""
        net = copy.deepcopy(self.net).to(device)
        return LatentSpace(net, self.mean.to(device), self.sd.to(device), self.bound)

    def state(self) -> dict[str, Tensor]:
        """Everything as named tensors on the CPU, for safetensors; `from_state` restores it bit for bit."""
        kept = {_NET + name: tensor for name, tensor in self.net.state_dict().items()}
        kept |= {"mean": self.mean, "sd": self.sd, "bound": torch.tensor(self.bound, dtype=torch.float64)}
        kept["settings"] = torch.tensor([self.net.settings[name] for name in _SETTINGS])
        return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in kept.items()}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "LatentSpace":
        """The space of a `state`, on the CPU.

        Raises:
            ValueError: if tensors are missing or of other shapes.
        """
        try:
            with torch.device("meta"):  # draws no initial weights
                net = Autoencoder(*state["settings"].tolist())
            weights = {n.removeprefix(_NET): t.clone() for n, t in state.items() if n.startswith(_NET)}
            net.load_state_dict(weights, assign=True)
            mean, sd, bound = state["mean"].clone(), state["sd"].clone(), float(state["bound"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"not the state of a latent space: {error}") from error
        if {mean.shape, sd.shape} != {(1, net.settings["latent_channels"], 1, 1)}:
            raise ValueError(f"not the state of a latent space: mean {tuple(mean.shape)} and sd {tuple(sd.shape)}")
        return cls(net, mean, sd, bound)


@torch.no_grad()
def fit_latent_space(net: Autoencoder, x: Tensor, batch_size: int) -> LatentSpace:
    """The space of a trained autoencoder's latents, standardised over the training images.

    Args:
        net: copied; it may be trained further without changing the space.
        x: all training images (N, C, H, W) in the model's range, on the network's device.
        batch_size: images encoded at once.
    Raises:
        ValueError: if a channel is constant over the images (it collapsed) or not finite.
    """
    net = copy.deepcopy(net).eval()
    latents = torch.cat([net.encode(batch)[0] for batch in x.split(batch_size)])
    exact = latents.double()
    mean, sd = exact.mean(dim=(0, 2, 3), keepdim=True), exact.std(dim=(0, 2, 3), keepdim=True, correction=0)
    usable = (sd >= COLLAPSED) & sd.isfinite()  # NaN is not
    if not usable.all():
        raise ValueError(
            f"{int((~usable).sum())} of {sd.numel()} latent channels collapsed (standard deviations "
            f"{', '.join(f'{s:.2g}' for s in sd.flatten().tolist())}): lower the KL weight, or train for longer"
        )
    mean, sd = mean.float(), sd.float()
    return LatentSpace(net, mean, sd, float(((latents - mean) / sd).abs().max()))
