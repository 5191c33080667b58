"""What a grid file says of tuning: what is to be tried, [tune], and what was, the table [tuned] that tuning writes."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from bench.config.cell import field_names
from bench.config.tables import FieldName, Fields, flat
from bench.store.fields import Positive, Section

Value = bool | int | float | str
Seed = Annotated[int, Field(ge=0, lt=2**63)]
APART = ("strategy", "recipe", "seed")  # fields that nothing but an axis gives
SPLIT = ("partition", "n_clients", "beta")
AFTER = ("evaluation", "sampler", "threads", "device")  # fields and sections that weights do not depend on
# Fields and sections that are not tuned, by why. Validation losses are errors of the noise, whatever is predicted and
# minimised: see `bench.federation.tasks.DiffusionTask.noise_errors`.
UNTUNED = {
    "only an axis gives it": APART,
    "it says what strategies are compared on": (
        *SPLIT, "data", "training.sampling", "training.stragglers", "training.failures",
    ),
    "validation losses do not compare over it": (
        "latent", "model.class_conditional", "diffusion.T", "diffusion.schedule",
    ),
    "trials would not cost the same": (
        "training.rounds", "training.local_epochs", "training.local_steps", "training.participation", "model.blocks",
        "dtype",
    ),
    "no training depends on it": AFTER,
}  # fmt: skip


def among(key: str, names: Iterable[str]) -> bool:
    """Whether a field is one of those, or of a section among them."""
    return not {key, key.partition(".")[0]}.isdisjoint(names)


class Space(Section):
    """Where the values of one hyper-parameter are looked for: a range, or a list of choices.

    Attributes:
        low, high: The ends of the range, which belong to it.
        log: Whether the range is even in the logarithm.
        choices: Instead of a range, the values that there are.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: Annotated[list[Value], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "Space":
        ends = self.low, self.high
        if (self.choices is None) == (ends == (None, None)) or (self.choices is not None and self.log):
            raise ValueError("write either {low = 1e-4, high = 1e-1, log = true} or {choices = [1, 2]}")
        if self.choices is not None and len(set(map(repr, self.choices))) < len(self.choices):
            raise ValueError(f"choices: got {self.choices}; each must stand once")
        if self.choices is None:
            for mistake in self._mistakes(*ends):
                raise ValueError(mistake)
        return self

    def _mistakes(self, low: float | None, high: float | None) -> Iterator[str]:
        if low is None or high is None:
            yield "a range has two ends: give low and high"
        elif low >= high:
            yield f"low = {low} must be less than high = {high}"
        elif self.log and low <= 0:
            yield f"low = {low} must be above 0, as log = true"

    @property
    def ends(self) -> list[Value]:
        """The choices, or the ends of the range."""
        return self.choices or [end for end in (self.low, self.high) if end is not None]

    @property
    def points(self) -> float:
        """How many values it has; infinite for a range of floats."""
        if self.choices is not None:
            return len(self.choices)
        low, high = self.low, self.high
        return high - low + 1 if isinstance(low, int) and isinstance(high, int) else math.inf

    def of_kind(self, own: Any) -> "Space":
        """The same with whole numbers as floats, where the grid's own value is a float."""

        def number(value: Any) -> Any:
            return float(value) if type(value) is int and isinstance(own, float) else value

        choices = self.choices and [number(choice) for choice in self.choices]
        return self.model_copy(update={"low": number(self.low), "high": number(self.high), "choices": choices})

    def position(self, value: Any) -> float:
        """Where in the range a value is, from 0 to 1."""
        low, high, at = (math.log(n) if self.log else n for n in (*self.ends, value))
        return float((at - low) / (high - low))

    def holds(self, value: Any) -> bool:
        """Whether a value is of it."""
        if self.choices is not None:
            return any(type(value) is type(choice) and value == choice for choice in self.choices)
        low, high = self.ends
        return isinstance(value, int | float) and low <= value <= high  # type: ignore[operator]

    def __str__(self) -> str:
        if self.choices is not None:
            return ", ".join(map(str, self.choices))
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


def _spaces(table: Any, prefix: str = "") -> Any:
    """Nested tables as one, by the dotted names of fields."""
    if not isinstance(table, dict):
        return table
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        is_section = isinstance(value, dict) and any(known.startswith(f"{name}.") for known in field_names())
        found |= _spaces(value, f"{name}.") if is_section else {name: value}
    return found


class Tune(Section):
    """How strategies are tuned; see docs/tuning.md.

    Attributes:
        trials: Settings tried of each strategy, the grid's own among them.
        seeds: Of the trials; none of them is a seed of the grid.
        fields: Fields that every strategy tunes.
        strategies: Hyper-parameters that a strategy tunes, by its name or as the grid has it.
        where: Fields that the trials have instead of the grid's, so that tuning sees one split only.
        rungs: Numbers of rounds after each of which the better trials of a strategy go on and the others stop.
        keep: Share of the trials that go on.
    """

    trials: Annotated[int, Field(ge=2, le=1000)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    fields: Annotated[dict[FieldName, Space], BeforeValidator(_spaces)] = Field(default_factory=dict)
    strategies: dict[str, Annotated[dict[str, Space], Field(min_length=1)]] = Field(default_factory=dict)
    where: Fields = Field(default_factory=dict)
    rungs: list[Positive] = Field(default_factory=list)
    keep: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _consistent(self) -> "Tune":
        for mistake in self._mistakes():
            raise ValueError(mistake)
        return self

    def _mistakes(self) -> Iterator[str]:
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds: got {self.seeds}; each must stand once"
        if self.rungs != sorted(set(self.rungs)):
            yield f"rungs: got {self.rungs}; each must be more rounds than the one before"
        if not self.fields and not self.strategies:
            yield "nothing is tuned: give tune.fields, or tune.strategies.NAME"
        for key in self.fields:
            for why in (why for why, names in UNTUNED.items() if among(key, names)):
                yield f"fields.{key}: it cannot be tuned: {why}"
        for key in ("strategy", "seed"):
            if key in self.where:
                yield f"where.{key}: it cannot stand there; take it out"
        for key in self.fields.keys() & self.where.keys():
            yield f"{key}: given both in tune.fields and in tune.where; take one out"

    def counts(self) -> list[int]:
        """How many trials of a strategy are trained to each rung, and how many to the end."""
        counts = [self.trials]
        for _ in self.rungs:
            counts.append(max(1, round(counts[-1] * self.keep)))
        return counts

    def stages(self, rounds: int) -> list[tuple[int, int]]:
        """The rungs and the `rounds` of a whole training, each with its count."""
        return list(zip([*self.rungs, rounds], self.counts(), strict=True))


class Tuned(Section):
    """How a grid's values were chosen, and what that cost.

    Attributes:
        trials: Settings tried of each strategy.
        seeds: That they were tried with.
        metric: By which the best was chosen, the least mean over seeds and cells.
        rungs: Rounds after each of which a part of the trials was stopped.
        kept: Trials of a strategy trained to each rung, and to the end.
        where: Fields that the trials had instead of the grid's.
        space: What was tuned, and where its values were looked for.
        cells: Trainings, whole and stopped ones.
        gradient_steps: Optimizer steps of all of them.
        seconds: Of training.
    """

    trials: Positive
    seeds: Annotated[list[Seed], Field(min_length=1)]
    metric: str
    rungs: list[Positive] = Field(default_factory=list)
    kept: list[Positive] = Field(default_factory=list)
    where: Annotated[dict[str, Value], BeforeValidator(flat)] = Field(default_factory=dict)
    space: Annotated[dict[str, str], BeforeValidator(flat)] = Field(default_factory=dict)
    cells: Positive
    gradient_steps: Positive
    seconds: Annotated[float, Field(ge=0)]


def shared_seed(seeds: Iterable[int], tables: Mapping[str, Tune | Tuned | None]) -> str | None:
    """What is wrong where a seed of the grid is one that served tuning; None if none is.

    Args:
        tables: [tune] and [tuned], by name, where there are any.
    """
    for name, table in tables.items():
        for seed in seeds:
            if table is not None and seed in table.seeds:
                return f"seed: {seed} is of {name}.seeds, too; results need seeds that chose nothing: take another"
    return None
