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
    """The U-Net: absolute widths, one a level; see `bench.diffusion.unet.UNet`.

    `class_conditional` shows it the images' classes; guidance needs that.
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

    `variance` is that of the reverse step; the losses "hybrid" and "vlb" train it where it is learned.
    `timesteps` says how t is drawn: "loss-aware" is importance sampling. `min_snr_gamma` belongs to the loss
    "min-snr". `label_dropout` is the share of images whose class is hidden from a class-conditional network.
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

    Mode "server" averages the global model after each aggregation. Mode "client" averages at every local step, and
    takes the mean of the clients' averages weighted by images, so it is for strategies that aggregate in this way.
    `decay` d is per gradient step in both. `warmup` gives the decay of step k: "ratio" is TensorFlow's
    min(d, (1 + k) / (10 + k)), "inverse-gamma" Crowson's min(d, 1 - (1 + k)^(-2/3)), "none" d.
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

    Mode "central" trains it on all training images in one place, without any client's noise; "federated" by the cell's
    own strategy, clients and participation, where its bytes are counted. `epochs` are rounds of one local epoch by Adam
    with a cosine schedule, in float32.
    """

    mode: Literal["off", "central", "federated"] = "off"
    channels: Size = 4
    width: Size = 32
    epochs: Positive = 10
    batch_size: Positive = 32
    lr: Annotated[float, Field(gt=0)] = 2e-3
    kl_weight: Annotated[float, Field(ge=0)] = 1e-2


class SamplerConfig(Section):
    """How images are drawn, `batch_size` at a time; see `bench.diffusion.samplers`.

    `steps` are network evaluations an image, 1 .. T, at timesteps by the rule `spacing`
    (`bench.diffusion.schedule.timesteps`). `eta` is DDIM's noise, 0 (deterministic) to 1; the others ignore it. `clip`
    clamps the predicted image to its range at each step. `guidance_scale` s mixes
    eps = eps_null + s (eps_class - eps_null); 1 is plain conditional sampling.
    """

    name: Sampler = "ddim"
    steps: Positive = 50
    spacing: Spacing = "fractional"
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    clip: bool = True
    guidance_scale: Annotated[float, Field(ge=0)] = 1.0
    batch_size: Positive = 100
