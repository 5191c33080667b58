"""What a cell's files hold: a class a file, checked when it is read, and no type is converted but lists to tuples.

Fields that older versions did not write have a default, and fields that are no longer written are passed over. Numbers
that are not finite are null in the files and None here.
"""

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.store.files import Damaged, read_json, read_lines

RESULT_VERSION = 7  # raised by hand when a change of the code changes numbers, or what records hold
Number = int | float
Numbers = dict[str, Number | None]  # by name
AsTuple = Field(strict=False)  # JSON has lists
Counts = Annotated[tuple[int, ...], AsTuple]
Losses = Annotated[tuple[float | None, ...], AsTuple]
Names = Annotated[tuple[str, ...], AsTuple]
Status = Literal["failed", "diverged", "timeout", "killed"]
FAILURES: tuple[Status, ...] = get_args(Status)


class Record(BaseModel):
    """One JSON object: a file of its own, or a line of a log."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)
    FILE: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, content: Any) -> Any:
        """A field that is null has its default."""
        nulls = [key for key, value in content.items() if value is None] if isinstance(content, dict) else []
        fields = {key: cls.model_fields[key] for key in nulls if key in cls.model_fields}
        defaults = {key: field.get_default() for key, field in fields.items() if not field.is_required()}
        return content | defaults if defaults else content

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The record in the file `FILE` of a cell's folder; None if there is none.

        Raises:
            Damaged: if it is not what was written.
        """
        found = read_json(folder / cls.FILE)
        return None if found is None else cls.checked(found)

    @classmethod
    def read_log(cls, folder: Path) -> list[Self]:
        """The lines of the log `FILE`; a torn last line is left out.

        Raises:
            Damaged: if any line is no such record.
        """
        return [cls.checked(line) for line in read_lines(folder / cls.FILE)]

    @classmethod
    def checked(cls, content: dict[str, Any]) -> Self:
        """The record of this content.

        Raises:
            Damaged: if a field is missing or cannot be read as what it is.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise Damaged(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error

    def known(self) -> dict[str, Any]:
        """The fields that were given, as plain values."""
        return self.model_dump(exclude_unset=True)


R = TypeVar("R", bound=Record)


# ------------------------------------------------------------------------------------------------ parts of records


class DataSet(Record):
    """The images of a cell: `size` in pixels, how many train, validate and test."""

    name: str
    digest: str | None = None
    size: int | None = None
    fit: str | None = None
    n_train: int | None = None
    n_validation: int | None = None
    n_test: int | None = None
    class_names: Names = ()


class ExtractorUsed(Record):
    """The network whose features scores are of."""

    name: str
    digest: str | None = None
    feature_width: int | None = None
    test_accuracy: float | None = None


class Environment(Record):
    """What code, packages and machine a cell was made with; `dirty` is whether the working tree had changes."""

    commit: str | None = None
    dirty: bool | None = None
    python: str | None = None
    packages: dict[str, str | None] = {}
    device: str | None = None
    cpu: str | None = None
    platform: str | None = None


class Diagnostics(Record):
    """diagnostics.json, and a part of the result: mean squared errors of the predicted noise on test images.

    Attributes:
        loss: of all.
        draws: passes of each test image.
        t_edges: (bins + 1,) timesteps; bin k holds t_edges[k] <= t < t_edges[k + 1].
        t_loss: (bins,), None for a bin without a timestep.
        class_names, class_loss: of the images' classes, None for a class without test images.
        client_loss: (n,), the loss on each client's own mix of classes, None for a client none of whose classes is
            tested; () for centralized training.
    """

    FILE = "diagnostics.json"
    loss: float | None = None
    draws: int | None = None
    t_edges: Counts = ()
    t_loss: Losses = ()
    class_names: Names = ()
    class_loss: Losses = ()
    client_loss: Losses = ()


class Client(Record):
    """What a result says of a client: its number of images, FID of all generated images and of those of its mix of
    classes to its own images, loss on that mix, and how many samples are near-copies of its images.
    """

    client: int
    n_samples: int | None = None
    fid: float | None = None
    fid_mix: float | None = None
    test_loss: float | None = None
    copies: int | None = None


# ------------------------------------------------------------------------------------------------ files


class _OfCell(Record):
    """What both cell.json and result.json say of the cell."""

    cell_id: str
    train_id: str | None = None
    result_version: int | None = None
    config: dict[str, Any] = {}
    data: DataSet | None = None
    extractor: ExtractorUsed | None = None
    environment: Environment = Environment()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of its data; () where they are not known."""
        return self.data.class_names if self.data else ()


class Manifest(_OfCell):
    """cell.json, written when an attempt at a cell begins; `started` in seconds since the epoch."""

    FILE = "cell.json"
    attempt: str
    started: float
    resumed: int | None = None
    labels: dict[str, Any] = {}


class Failure(Record):
    """error.json: how and why a cell failed, and when (seconds since the epoch)."""

    FILE = "error.json"
    status: Status = "failed"
    error: str = ""
    traceback: str = ""
    time: float | None = None


class Trained(Record):
    """train.json: what training measured, and hashes of weights and files."""

    FILE = "train.json"
    train_id: str
    weight_hash: str
    personal_hashes: dict[str, str] = {}
    metrics: Numbers
    environment: Environment = Environment()
    files: dict[str, str]


class Result(_OfCell):
    """result.json: all that a finished cell measured.

    Attributes:
        floor: what real images score that nothing was trained on.
        bootstrap: the scores of resampled images, by metric.
        finished: seconds since the epoch.
        files: SHA-256 of the cell's files by name.
    """

    FILE = "result.json"
    metrics: Numbers
    floor: Numbers = {}
    class_histogram: Annotated[tuple[float, ...], AsTuple] = ()
    bootstrap: dict[str, list[float | None]] = {}
    weight_hash: str | None = None
    sample_hash: str | None = None
    clients: Annotated[tuple[Client, ...], AsTuple] = ()
    diagnostics: Diagnostics = Diagnostics()
    training_environment: Environment = Environment()
    finished: float
    files: dict[str, str] = {}


class Likelihood(Record):
    """likelihood.json: bits/dim of test images, the bound's terms at the timesteps `kept`, and of each image."""

    FILE = "likelihood.json"
    likelihood_id: str
    bits_per_dim: float | None = None
    likelihood_seconds: float | None = None
    prior: float | None = None
    kept: Counts = ()
    terms: Losses = ()
    images: Losses = ()


class Progress(Record):
    """progress.json: `done` in [0, 1] of a phase."""

    FILE = "progress.json"
    phase: str = ""
    done: float = 0.0


class Partition(Record):
    """partition.json: images by client and class (n, K), and how far clients' classes are from all data's."""

    FILE = "partition.json"
    histogram: Annotated[tuple[Counts, ...], Field(min_length=1, strict=False)]
    noise: Annotated[tuple[float, ...], AsTuple] = ()
    total_variation_mean: float | None = None

    @property
    def class_shares(self) -> list[float]:
        """Of all clients' images (K,)."""
        counts = [sum(column) for column in zip(*self.histogram, strict=True)]
        return [count / sum(counts) for count in counts]


class Numbered(Record):
    """Numbers of a round, by any names."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Any]
    round: int

    def value(self, key: str) -> float:
        """A number, NaN where there is none."""
        value = self.__dict__.get(key, self.__pydantic_extra__.get(key))
        return math.nan if value is None else float(value)

    def numbers(self) -> dict[str, float]:
        """What is known beside the fields."""
        return {key: float(value) for key, value in self.__pydantic_extra__.items() if isinstance(value, int | float)}


class Scores(Numbered):
    """The scores of the images drawn after a round."""


class Curve(Record):
    """curve.json."""

    FILE = "curve.json"
    curve: Annotated[tuple[Scores, ...], AsTuple]


# ------------------------------------------------------------------------------------------------ logs


class Round(Numbered):
    """A line of metrics.jsonl, the fields of `bench.federation.ledger.RoundRecord` that are defined in the round."""

    FILE = "metrics.jsonl"
    __pydantic_extra__: dict[str, Number | None]
    time: float


class Visit(Record):
    """A line of clients.jsonl: see `bench.federation.ledger.VisitRecord`."""

    FILE = "clients.jsonl"
    round: int
    client: int
    n_samples: int | None = None
    work: float
    outcome: str
    samples: int = 0
    steps: int = 0
    drift: float | None = None
    bytes_down: int = 0
    bytes_up: int = 0
    loss: float | None = None


class Steps(Record):
    """A line of steps.jsonl: the mean local loss of each of a client's optimizer steps in a round."""

    FILE = "steps.jsonl"
    round: int
    client: int | None = None
    loss: Losses


class Validation(Record):
    """A line of validation.jsonl: a round's loss on validation images by class (K,) and by client (n,)."""

    FILE = "validation.jsonl"
    round: int
    class_loss: Losses = ()
    client_loss: Losses = ()


LOGS = tuple(kind.FILE for kind in (Round, Visit, Steps, Validation))  # the files that grow by lines
# Records that are read again; those that list others' digests stand before these.
RECORDS = tuple(kind.FILE for kind in (Result, Failure, Trained, Manifest, Likelihood, Curve))
