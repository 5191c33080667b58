"""The choices of the diffusion family: the names that there are, and the sections of a configuration.

The only place where a choice is listed; torch is not needed to read it.
"""

import math
from typing import Annotated, Literal, get_args

from pydantic import Field

from bench.store.fields import Positive, Section, Size

Schedule = Literal["linear", "cosine"]
Prediction = Literal["eps", "x0", "v"]
Variance = Literal["small", "large", "learned"]
Loss = Literal["simple", "hybrid", "vlb", "min-snr"]
Warmup = Literal["ratio", "inverse-gamma", "none"]
Sampler = Literal["ancestral", "ddim", "dpm-solver++"]
Spacing = Literal["fractional", "integer"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
VARIANCES: tuple[Variance, ...] = get_args(Variance)
LOSSES: tuple[Loss, ...] = get_args(Loss)
WARMUPS: tuple[Warmup, ...] = get_args(Warmup)
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
SPACINGS: tuple[Spacing, ...] = get_args(Spacing)

LATENT_FACTOR = 4  # image side over latent side


class ModelConfig(Section):
    """The U-Net; see `bench.diffusion.unet.UNet`.

    Attributes:
        widths: Channels of each level, from the finest on; absolute numbers, not multipliers.
        attention: Whether a level has attention, a flag a level.
        blocks: Residual blocks of a level on the way down; one more on the way up.
        groups: Groups of GroupNorm; they divide each width.
        dropout: Dropout in residual blocks.
        attention_norm: Whether GroupNorm comes before attention, as in DDPM, or not, as in labml's code.
        class_conditional: Whether the network sees the images' classes; guidance needs that.
    """

    widths: Annotated[tuple[Size, ...], Field(min_length=1)] = (16, 32, 32)
    attention: tuple[bool, ...] = (False, False, True)
    blocks: Positive = 2
    groups: Positive = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    attention_norm: bool = True
    class_conditional: bool = False


class DiffusionConfig(Section):
    """The forward process, what the network predicts of it, and the loss.

    Attributes:
        T: Timesteps of the forward process.
        schedule: Noise schedule: linear, its betas scaled by 1000 / T, or cosine.
        prediction: What the network predicts: the noise eps, the image x_0, or v.
        variance: Variance of the reverse step: the smaller or the larger of the fixed ones, or learned by the losses
            hybrid and vlb.
        loss: What training minimises: the error of the prediction (simple), that and the bound (hybrid), the bound
            (vlb), or the error weighted by the clipped signal-to-noise ratio (min-snr).
        min_snr_gamma: Where min-snr clips the ratio.
        timesteps: How t is drawn in training: uniform, or by importance sampling (loss-aware).
        label_dropout: Share of images whose class is hidden from a class-conditional network.
    """

    T: Annotated[int, Field(ge=1, le=10**5)] = 1000
    schedule: Schedule = "cosine"
    prediction: Prediction = "eps"
    variance: Variance = "small"
    loss: Loss = "simple"
    min_snr_gamma: Annotated[float, Field(gt=0)] = 5.0
    timesteps: Literal["uniform", "loss-aware"] = "uniform"
    label_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1


class EmaConfig(Section):
    """An exponential moving average of the weights, which is what is then evaluated; see `bench.diffusion.ema`.

    Attributes:
        mode: No average (off); of the global model after each aggregation (server); or at every local step (client),
            with the mean of the clients' averages weighted by images, for strategies that aggregate in this way.
        decay: Decay d of a gradient step, in both modes.
        warmup: Decay of step k: TensorFlow's min(d, (1 + k) / (10 + k)) (ratio), Crowson's min(d, 1 - (1 + k)^(-2/3))
            (inverse-gamma), or d (none).
    """

    mode: Literal["off", "server", "client"] = "off"
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    warmup: Warmup = "ratio"

    def decay_at(self, step: int) -> float:
        """d_k of gradient step k = `step`, counted from 0."""
        warm = {"ratio": (1 + step) / (10 + step), "inverse-gamma": 1 - (1 + step) ** (-2 / 3), "none": 1.0}
        return min(self.decay, warm[self.warmup])

    def decay_over(self, first: int, steps: int) -> float:
        """The product of d_k over k = first .. first + steps - 1."""
        return math.prod(self.decay_at(k) for k in range(first, first + steps))


class LatentConfig(Section):
    """Diffusion in the latent space of an autoencoder, trained first; see `bench.diffusion.autoencoder`.

    Attributes:
        mode: No autoencoder (off); trained on all images in one place, without any client's noise (central); or by the
            cell's own strategy, clients and participation, its bytes counted (federated).
        channels: Channels of the latents.
        width: Channels of the autoencoder at half the images' side.
        epochs: Its rounds of one local epoch, by Adam with a cosine schedule, in float32.
        batch_size: Images of its gradient step.
        lr: Its learning rate, at the first step.
        kl_weight: Weight of the KL term in its loss.
    """

    mode: Literal["off", "central", "federated"] = "off"
    channels: Size = 4
    width: Size = 32
    epochs: Positive = 10
    batch_size: Positive = 32
    lr: Annotated[float, Field(gt=0)] = 2e-3
    kl_weight: Annotated[float, Field(ge=0)] = 1e-2


class SamplerConfig(Section):
    """How images are drawn; see `bench.diffusion.samplers`.

    Attributes:
        name: Sampler.
        steps: Network evaluations of an image, 1 .. T.
        spacing: Which timesteps these are: evenly spread and rounded (fractional, improved DDPM's N), or of a whole
            stride (integer, its ddimN); see `bench.diffusion.schedule.timesteps`.
        eta: Noise of DDIM, 0 for none; the other samplers ignore it.
        clip: Whether the predicted image is clamped to its range at each step.
        guidance_scale: s in eps = eps_null + s (eps_class - eps_null); 1 is plain conditional sampling.
        batch_size: Images drawn at a time.
    """

    name: Sampler = "ddim"
    steps: Positive = 50
    spacing: Spacing = "fractional"
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    clip: bool = True
    guidance_scale: Annotated[float, Field(ge=0)] = 1.0
    batch_size: Positive = 100
