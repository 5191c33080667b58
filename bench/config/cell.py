"""What a cell is: a validated, frozen configuration of everything that changes its numbers, and its ids."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, model_validator

import partitions
import strategies
from bench.config.plugin import Plugin
from bench.data.config import LEVELS_KEPT, DataConfig
from bench.diffusion import schedule
from bench.diffusion.config import (
    LATENT_FACTOR,
    DiffusionConfig,
    EmaConfig,
    LatentConfig,
    ModelConfig,
    SamplerConfig,
)
from bench.store.fields import Count, Fraction, Images, Positive, Section, Share

ExtractorName = Literal["mnist-cnn", "inception-v3-compat"]
EXTRACTORS: tuple[ExtractorName, ...] = get_args(ExtractorName)
MOST_WEIGHTS = 2 * 10**9  # of a network: more would not fit into any one machine's memory
MOST_IN_A_BATCH = 2**16  # images, where clients with fewer fill their batches by repeating them


class TrainingConfig(Section):
    """The budget, and who takes part in a round.

    See `bench.federation.participation`.

    Attributes:
        rounds: Rounds of local training and aggregation.
        local_epochs: Passes of a participant over its own images in a round.
        local_steps: Gradient steps of a participant in a round instead, each of a full batch: the same number for all,
            whatever they hold. Centralized training has its epochs all the same, and `centralized-matched` these steps.
        batch_size: Images of a gradient step.
        participation: Share C of the n clients in a round.
        sampling: How participants are drawn: round(C n) of them (fixed), or each with probability C (poisson).
        stragglers: Share of participants that have time for a part of their local steps only; strategies with
            `partial_work` (FedProx) keep what they did, the others (FedAvg) drop them.
        failures: Share of participants whose update is lost.
    """

    rounds: Positive = 10
    local_epochs: Positive = 1
    local_steps: Positive | None = None
    batch_size: Positive = 32
    participation: Fraction = 1.0
    sampling: Literal["fixed", "poisson"] = "fixed"
    stragglers: Share = 0.0
    failures: Share = 0.0

    def images_a_round(self, n_train: int, n_clients: int) -> float:
        """How many images are trained on in a round in the mean, of `n_train` that `n_clients` hold together."""
        steps = self.local_steps
        everyone = n_train * self.local_epochs if steps is None else steps * self.batch_size * n_clients
        return everyone * self.participation

    def steps(self, n_samples: int) -> int:
        """Gradient steps of a participant with so many images in a round."""
        return self.local_steps or self.local_epochs * math.ceil(n_samples / self.batch_size)


class ClientConfig(Section):
    """The local optimizer.

    Attributes:
        optimizer: Adam, or SGD without momentum.
        lr: Learning rate, at the first step of training.
        lr_schedule: Constant, or falling to 0 over all rounds along half a cosine.
        optimizer_state: Adam's moments: dropped at every visit (reset) or kept by each client (keep).
    """

    optimizer: Literal["adam", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0)] = 2e-3
    lr_schedule: Literal["constant", "cosine"] = "cosine"
    optimizer_state: Literal["reset", "keep"] = "reset"


def _none_or_ten(count: int) -> int:
    if 0 < count < 10:
        raise ValueError(f"got {count}; it must be 0 for none, or at least 10")
    return count


class EvaluationConfig(Section):
    """How samples are judged.

    Few images have a large FID: compare the curves of `curve_every` among themselves. With Inception's 2,048 features
    and more images a resample of `bootstrap` takes seconds (`bench.fidelity.bootstrap`). Padding counts as pixels in
    bits/dim, and costs almost nothing: those of 28x28 digits padded to 32x32 are not those of 28x28.

    Attributes:
        n_samples: Images generated and scored.
        reference: Real images that scores compare with: the training images, or the test images where there are many.
            Images drawn along training are then compared with the validation images.
        extractor: Network whose features FID and KID compare, and whose classes IS and class TV count.
        extractor_weights: Path of its weights, for an extractor that is not shipped.
        nll: Test images whose bits/dim are bounded, 0 for none; a class-conditional network sees their classes.
        nll_steps: Timesteps of that bound; none for all T.
        nll_rounded: Whether bits/dim are allowed for images that were resized and rounded to 256 levels; these compare
            within such data, not with published numbers.
        curve_every: Rounds between two draws of images along training, the last round's among them; 0 for none.
        curve_samples: Images of each such draw.
        bootstrap: Resamples of the images for the interval of the FID; 0 for none.
    """

    n_samples: Images = 500
    reference: Literal["train", "test"] = "train"
    extractor: ExtractorName = "mnist-cnn"
    extractor_weights: str | None = None
    nll: Count = 0
    nll_steps: Positive | None = None
    nll_rounded: bool = False
    curve_every: Count = 0
    curve_samples: Images = 100
    bootstrap: Annotated[int, Field(ge=0, le=10**5), AfterValidator(_none_or_ten)] = 200


class CellConfig(Section):
    """One experiment: everything that changes its numbers.

    Attributes:
        strategy: What is compared; --fields strategies lists them.
        partition: How the images are split among clients; --fields partitions lists them.
        n_clients: Number of clients; none for centralized training.
        beta: Concentration of Dirichlet partitions, small for much skew; none where nothing uses it.
        seed: Root of every random stream; other seeds are repetitions.
        recipe: Name that a grid gave to a bundle of fields: a label, and no part of the id.
        threads: CPU threads of the cell; weights differ bitwise between thread counts.
        device: Where tensors are; auto takes a GPU where there is one.
        dtype: Precision of the U-Net in training and sampling; bits/dim are float32.
    """

    strategy: Plugin
    partition: Plugin | None = Plugin(name="dirichlet")
    n_clients: Positive | None = None
    beta: Annotated[float, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    recipe: str | None = None
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    client: ClientConfig = ClientConfig()
    model: ModelConfig = ModelConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    ema: EmaConfig = EmaConfig()
    latent: LatentConfig = LatentConfig()
    sampler: SamplerConfig = SamplerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    threads: Annotated[int, Field(ge=1, le=1024)] = 1  # more abort the process
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _consistent(self) -> "CellConfig":
        mistakes = _training_mistakes, _network_mistakes, _recipe_mistakes, _sampling_mistakes
        for mistake in itertools.chain.from_iterable(find(self) for find in mistakes):
            raise ValueError(mistake)
        schedule.make(self.diffusion.schedule, self.diffusion.T)
        schedule.timesteps(self.diffusion.T, self.sampler.steps, self.sampler.spacing)
        return self

    @property
    def centralized(self) -> bool:
        """Whether one party holds all the data."""
        return strategies.load(self.strategy.name).centralized

    @property
    def strategy_label(self) -> str:
        """The strategy with its first hyper-parameter and those that are not its defaults; a grid accepts it back."""
        return short_strategy(self.strategy).label

    @property
    def strategy_title(self) -> str:
        """The same for people: by the class's `title`, or its name, with symbols of hyper-parameters."""
        own = vars(strategies.load(self.strategy.name)).get("title")  # a subclass has another title, or none
        return short_strategy(self.strategy).title(own or self.strategy.name.rpartition(":")[2])

    def make_strategy(self) -> strategies.Strategy:
        """The strategy with its hyper-parameters."""
        return self.strategy.make(strategies.registry)

    def make_partition(self) -> partitions.Partition:
        """The partition with its hyper-parameters and beta, of a cell that has one.

        Raises:
            ValueError: if it refuses a value.
        """
        assert self.partition is not None
        return self.partition.make(partitions.registry, self.beta)

    def noise_levels(self) -> list[float]:
        """Standard deviation of the noise on each client's images, of images scaled to [0, 1]; [] without clients."""
        return [] if self.centralized or self.n_clients is None else self.make_partition().noise_levels(self.n_clients)

    @property
    def is_latent(self) -> bool:
        """Whether the diffusion runs in an autoencoder's latent space."""
        return self.latent.mode != "off"

    @property
    def pixel_range(self) -> tuple[float, float]:
        """What the darkest and the brightest grey level become at the model's door."""
        return (-1.0 if self.data.range == "symmetric" else 0.0), 1.0


def _training_mistakes(cell: CellConfig) -> Iterator[str]:
    t = cell.training
    if t.local_steps is not None and t.batch_size > MOST_IN_A_BATCH:
        yield (
            f"training.batch_size={t.batch_size} is too many: with training.local_steps every batch is full, however "
            f"few images a client has, and at most {MOST_IN_A_BATCH:,} are allowed"
        )


def _network_mistakes(cell: CellConfig) -> Iterator[str]:
    m, levels = cell.model, len(cell.model.widths)
    if levels != len(m.attention):
        yield f"model.attention has {len(m.attention)} flags for {levels} model.widths; give one a level"
    if cell.is_latent and cell.data.size % LATENT_FACTOR:
        mode = cell.latent.mode
        yield f"data.size={cell.data.size} must be divisible by {LATENT_FACTOR}, as latent.mode is {mode!r}"
    if not cell.is_latent and cell.data.size % 2 ** (levels - 1):  # latents are padded: 28x28 has them at 7x7
        yield f"data.size={cell.data.size} cannot be halved {levels - 1} times for {levels} model.widths"
    if cell.is_latent and cell.data.size // LATENT_FACTOR < 2 ** (levels - 1):
        side = cell.data.size // LATENT_FACTOR
        yield f"the latents' side {side} is too small for {levels} model.widths: it must be {2 ** (levels - 1)} or more"
    for width in m.widths:
        if width % m.groups:
            yield f"model.groups={m.groups} does not divide width {width} of model.widths"
    weights = sum(18 * m.blocks * width**2 for width in m.widths)  # two 3x3 convolutions a block, once through
    if weights > MOST_WEIGHTS:
        yield (
            f"model.widths={list(m.widths)} with model.blocks={m.blocks} make a network of more than {weights:,} "
            f"weights; at most {MOST_WEIGHTS:,} are allowed"
        )
    if m.widths[0] % 8:
        yield f"the first of model.widths must be a multiple of 8, got {m.widths[0]}"
    if cell.is_latent and cell.latent.width % 16:
        yield f"latent.width must be a multiple of 16, got {cell.latent.width}"


def _recipe_mistakes(cell: CellConfig) -> Iterator[str]:
    d = cell.diffusion
    if d.loss == "hybrid" and d.variance != "learned":
        yield f'diffusion.loss="hybrid" trains the variance: it needs diffusion.variance="learned", got {d.variance!r}'
    if d.variance == "learned" and d.loss not in ("hybrid", "vlb"):
        yield f'diffusion.variance="learned" needs diffusion.loss="hybrid" or "vlb": {d.loss!r} does not train it'
    if d.variance == "learned" and d.T < 2:
        yield f'diffusion.variance="learned" needs diffusion.T of at least 2, got {d.T}'
    if cell.is_latent and d.loss in ("hybrid", "vlb"):
        yield f'diffusion.loss={d.loss!r} needs 256 grey levels, which latents do not have; use latent.mode="off"'


def _sampling_mistakes(cell: CellConfig) -> Iterator[str]:
    s, e, T = cell.sampler, cell.evaluation, cell.diffusion.T
    if s.steps > T:
        yield f"sampler.steps={s.steps} is more than diffusion.T={T}"
    if s.guidance_scale != 1 and not cell.model.class_conditional:
        yield f"sampler.guidance_scale={s.guidance_scale:g} needs model.class_conditional=true"
    if s.guidance_scale != 1 and cell.diffusion.label_dropout == 0:
        yield (
            f"sampler.guidance_scale={s.guidance_scale:g} needs diffusion.label_dropout above 0: a network that always "
            "sees the class has learned nothing without it"
        )
    if e.nll and cell.is_latent:
        remedy = 'use latent.mode="off", or leave latent cells out'
        yield f"evaluation.nll={e.nll} needs diffusion of the images themselves; {remedy}"
    if e.nll > cell.data.test:
        yield f"evaluation.nll={e.nll} is more than data.test={cell.data.test}"
    if e.nll_steps is not None and e.nll_steps > T:
        yield f"evaluation.nll_steps={e.nll_steps} is more than diffusion.T={T}"
    if e.nll and cell.data.fit not in LEVELS_KEPT and not e.nll_rounded:
        yield (
            f"evaluation.nll={e.nll}: bits/dim need the data's own 256 grey levels, and data.fit={cell.data.fit!r} "
            'made new ones by mixing pixels; use "none" or "pad", or set evaluation.nll_rounded=true for bits/dim of '
            "the resized images as rounded to 8 bits, which compare with nothing published"
        )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings by dotted name: `{"training": {"rounds": 3}}` gives ("training.rounds", 3)."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def short_strategy(strategy: Plugin) -> Plugin:
    """A strategy with its first hyper-parameter and those that are not its defaults."""
    return strategy.short(strategies.load(strategy.name), always=list(strategy.params)[:1])


def field_names(model: type[BaseModel] = CellConfig, prefix: str = "") -> list[str]:
    """Dotted names of all fields that a grid may set, e.g. ``training.rounds``."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section) and kind is not Plugin:
            names += field_names(kind, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def field(cell: CellConfig, key: str) -> Any:
    """The cell's value at a dotted name, e.g. ``training.rounds``."""
    value: Any = cell
    for part in key.split("."):
        value = getattr(value, part)
    return value
