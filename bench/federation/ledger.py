"""Measurements and costs of a round and of a client's visit."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.federation.participation import Outcome


@dataclass(frozen=True)
class RoundRecord:
    """The measurements of one round. Counts are totals since the start, but for `participants`.

    Attributes:
        round: 1 .. rounds.
        train_loss: mean local loss over the round's images, without any penalty, at weights that still move; NaN where
            no update arrived.
        validation_loss: loss of the model that would be evaluated now, on validation images with fixed timesteps and
            noise; of the mixture of clients' models where they keep their own, see `bench.federation.mixture`.
        validation_loss_raw: that of the global model as `server["params"]` is, without any moving average; the same
            where the strategy evaluates that.
        drift: mean over arrived updates of ||w_i - w||, the Euclidean norm of all parameters, from where local training
            started.
        update_cosine: mean over pairs of arrived updates of the cosine between them; NaN for fewer than two.
        participants: number of clients drawn in the round.
        stragglers: participants so far that had no time for all their local steps.
        dropped: those of them whose work the strategy does not take; `failed`: participants whose update was lost.
            What they did is not simulated: it is in no loss, and in no count but `bytes_down`.
        samples: images seen.
        gradient_steps: optimizer steps taken by all clients.
        sequential_steps: optimizer steps that had to wait for one another (the slowest client of each round).
        bytes_down, bytes_up: bytes of the tensors that travelled; 0 where nothing does.
        seconds: wall time of training so far.
        time: seconds since the epoch when the round ended.
    """

    round: int
    train_loss: float
    validation_loss: float
    validation_loss_raw: float
    drift: float
    update_cosine: float
    participants: int
    stragglers: int
    dropped: int
    failed: int
    samples: int
    gradient_steps: int
    sequential_steps: int
    bytes_down: int
    bytes_up: int
    seconds: float
    time: float

    def as_dict(self) -> dict[str, float]:
        """The numbers that are defined, without NaN; a training loss that is NaN ends the training."""
        return {key: value for key, value in asdict(self).items() if not math.isnan(value)}


@dataclass
class Ledger:
    """Running totals of the costs of training, and of updates that were lost."""

    stragglers: int = 0
    dropped: int = 0
    failed: int = 0
    samples: int = 0
    gradient_steps: int = 0
    sequential_steps: int = 0
    bytes_down: int = 0
    bytes_up: int = 0

    def add(self, visits: Sequence["VisitRecord"]) -> None:
        """Add a round's visits."""
        self.stragglers += sum(v.work < 1 for v in visits)
        self.dropped += sum(v.outcome == "dropped" for v in visits)
        self.failed += sum(v.outcome == "failed" for v in visits)
        self.samples += sum(v.samples for v in visits)
        self.gradient_steps += sum(v.steps for v in visits)
        self.sequential_steps += max((v.steps for v in visits), default=0)
        self.bytes_down += sum(v.bytes_down for v in visits)
        self.bytes_up += sum(v.bytes_up for v in visits)


@dataclass
class VisitRecord:
    """One client's part in one round.

    Attributes:
        n_samples: how many images it holds.
        work: the share of its local steps that it had time for.
        outcome: whether its update "arrived", was "dropped" (a straggler's) or "failed" (lost).
        loss_sum: local loss without any penalty, summed over the images seen; without training this and the rest are 0.
        samples, steps: images seen and optimizer steps done.
        drift: ||w_i - w||.
        bytes_down, bytes_up: what travelled.
        step_losses: mean local loss of each optimizer step's batch without any penalty, in their order.
    """

    client: int
    n_samples: int
    work: float
    outcome: Outcome
    loss_sum: float = 0.0
    samples: int = 0
    steps: int = 0
    drift: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    step_losses: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """All but the steps' losses; instead of the sum `loss`, the mean over the images seen, None without any."""
        fields = {key: value for key, value in asdict(self).items() if key not in ("step_losses", "loss_sum")}
        return fields | {"loss": self.loss_sum / self.samples if self.samples else None}
