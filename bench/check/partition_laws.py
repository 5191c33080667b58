"""Laws of partitions, on small sets of labels. Each function raises `Broken` with a counterexample, or returns."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from bench.check.law import BETA, Broken, Law, NotClaimed
from bench.check.random_state import drawn_from, seeded, states
from partitions.base import IntArray, Partition, PartitionError, check_levels, checked_split, partition_digest
from partitions.report import skew_report

SKEWED, EVEN = 0.05, 100.0
MIN_SIZE = 25
DRAWS = 10


def _shuffled(*counts: int) -> IntArray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


LABELS: dict[str, IntArray] = {
    "10 classes of 60": _shuffled(*[60] * 10),
    "classes of 240, 120, 60, 30, 15": _shuffled(240, 120, 60, 30, 15),
    "4 classes of 50, in order": np.repeat(np.arange(4), 50),
    "one class of 100": np.zeros(100, dtype=np.int64),
}
REQUESTS = [(name, n) for name in LABELS for n in (1, 2, 5)] + [("10 classes of 60", 10)]


@dataclass(frozen=True)
class PartitionSubject:
    """A partition that is tried: `make(beta)` gives one of that beta, or the only one where it has none."""

    make: Callable[[float], Partition]

    @property
    def partition(self) -> Partition:
        """The one at a moderate beta."""
        return self.make(BETA)


@dataclass(frozen=True)
class Drawn:
    """The split of a request that was not refused: so many clients of these labels, drawn from that seed."""

    name: str
    n_clients: int
    seed: int
    labels: IntArray  # as the partition left them
    parts: list[IntArray]

    def __str__(self) -> str:
        return f"{self.name}, {self.n_clients} clients, rng seed {self.seed}"


def _splits(partition: Partition, seed: int = 0) -> Iterator[Drawn]:
    """Of all requests that the partition does not refuse."""
    for name, n_clients in REQUESTS:
        labels = LABELS[name].copy()
        try:
            parts = partition.split(labels, n_clients, np.random.default_rng(seed))
        except PartitionError:
            continue
        yield Drawn(name, n_clients, seed, labels, parts)


def splits(subject: PartitionSubject) -> None:
    """Every split, to one client or many, is disjoint and complete; a refusal says why, and not all are refused."""
    refused = [reason for name, n in REQUESTS if (reason := _refused(subject.partition, name, n)) is not None]
    if len(refused) == len(REQUESTS):
        raise Broken(f"all {len(REQUESTS)} requests are refused, the last one: {refused[-1]}")


def _refused(partition: Partition, name: str, n_clients: int) -> str | None:
    """Why the request is refused, by the partition itself or for too small a client; None if it is not.

    Raises:
        Broken: if the split is none of the samples into so many clients.
    """
    labels, what = LABELS[name], f"{name}, {n_clients} clients"
    try:
        parts = partition.split(labels.copy(), n_clients, np.random.default_rng(0))
    except PartitionError as refusal:
        if not str(refusal).strip():
            raise Broken(f"{what}: it refuses and does not say why") from refusal
        return str(refusal)
    try:
        checked_split(partition, labels.copy(), n_clients, np.random.default_rng(0))
    except PartitionError as error:
        if len(parts) == n_clients and _covers(parts, len(labels)):
            return str(error)
        raise Broken(f"{what}: {error}") from error
    return None


def _covers(parts: list[IntArray], n_samples: int) -> bool:
    return all(isinstance(p, np.ndarray) for p in parts) and np.array_equal(
        np.sort(np.concatenate(parts)), np.arange(n_samples)
    )


def same_rng_same_split(subject: PartitionSubject) -> None:
    """The generator that it is given decides the split."""
    for first, again in zip(_splits(subject.partition), _splits(subject.partition), strict=True):
        if partition_digest(first.parts) != partition_digest(again.parts):
            raise Broken(f"{first}: {_apart(first, again)} when it is asked again")


def _apart(a: Drawn, b: Drawn) -> str:
    changed = [i for i, (x, y) in enumerate(zip(a.parts, b.parts, strict=True)) if not np.array_equal(x, y)]
    x, y = a.parts[changed[0]], b.parts[changed[0]]
    return f"{len(changed)} clients get other samples; client {changed[0]} {x[:4].tolist()}... and {y[:4].tolist()}..."


def rng_matters(subject: PartitionSubject) -> None:
    """Other generators give other splits."""
    seen = [[partition_digest([np.sort(p) for p in s.parts]) for s in _splits(subject.partition, i)] for i in range(3)]
    if seen[0] == seen[1] == seen[2]:
        raise NotClaimed("every generator gives the same split: repetitions of an experiment share it")


def global_generators(subject: PartitionSubject) -> None:
    """No global generator is drawn from, and none matters."""
    runs: list[list[Drawn]] = []
    for seed in (1, 2):
        with seeded(seed):
            before = states()
            runs.append(list(_splits(subject.partition)))
            drawn = drawn_from(before)
        if drawn:
            raise Broken(f"{len(runs[0])} splits draw from the global generator of {' and '.join(drawn)}")
    for a, b in zip(*runs, strict=True):
        if partition_digest(a.parts) != partition_digest(b.parts):
            raise Broken(f"{a}: with the global generators seeded by 1 and 2, {_apart(a, b)}")


def labels_stay(subject: PartitionSubject) -> None:
    """It does not write to the labels."""
    for split in _splits(subject.partition):
        before = LABELS[split.name]
        changed = np.flatnonzero(split.labels != before)
        if changed.size:
            first = changed[0]
            raise Broken(
                f"{split.name}, {split.n_clients} clients: {changed.size} labels were written to; "
                f"label {first} was {before[first]} and is {split.labels[first]}"
            )


def min_size(subject: PartitionSubject) -> None:
    """Every client gets `min_size` samples; one that leaves this to `checked_split` is told so."""
    demanding = list(_splits(replace(subject.partition, min_size=MIN_SIZE)))
    if not demanding:
        raise NotClaimed(f"it refuses min_size = {MIN_SIZE}")
    for split in demanding:
        sizes = [len(part) for part in split.parts]
        if min(sizes) < MIN_SIZE:
            raise NotClaimed(f"it leaves that to `checked_split`, which refuses: min_size = {MIN_SIZE}, sizes {sizes}")


def uses_beta(subject: PartitionSubject) -> None:
    """`uses_beta` is True exactly if there is a field `beta`."""
    has = any(item.name == "beta" for item in dataclasses.fields(subject.partition))
    if has != subject.partition.uses_beta:
        raise Broken(f"uses_beta = {subject.partition.uses_beta}, but it has {'a' if has else 'no'} field beta")


def beta_is_skew(subject: PartitionSubject) -> None:
    """From beta 0.05 to 100 the skew of labels or of sizes falls to less than two thirds."""
    if not subject.partition.uses_beta:
        raise NotClaimed("uses_beta = False")
    try:
        skewed, even = (_skew(subject.make(beta)) for beta in (SKEWED, EVEN))
    except PartitionError as refusal:
        raise NotClaimed(f"it refuses: {refusal}") from refusal
    if not (skewed[0] > 1.5 * even[0] or skewed[1] > 1.5 * even[1]):
        raise Broken(
            f"from beta {SKEWED} to {EVEN:g} the mean total variation between clients goes from {skewed[0]:.3f} to "
            f"{even[0]:.3f}, the coefficient of variation of sizes from {skewed[1]:.3f} to {even[1]:.3f}"
        )


def _skew(partition: Partition) -> tuple[float, float]:
    """Mean total variation and size coefficient of variation over draws."""
    labels, rng = LABELS["10 classes of 60"], np.random.default_rng(0)
    reports = [skew_report(labels, partition.split(labels.copy(), 5, rng), 10) for _ in range(DRAWS)]
    return (
        float(np.mean([report.total_variation_mean for report in reports])),
        float(np.mean([report.size_cv for report in reports])),
    )


def noise_levels(subject: PartitionSubject) -> None:
    """There is one noise level of 0 or more for each client."""
    for n_clients in (1, 3, 10):
        levels = subject.partition.noise_levels(n_clients)
        try:
            check_levels(levels, n_clients)
        except PartitionError as wrong:
            raise Broken(f"{n_clients} clients: {wrong}; it gives {levels}") from wrong


PARTITION_LAWS: tuple[Law, ...] = (
    splits,
    same_rng_same_split,
    rng_matters,
    global_generators,
    labels_stay,
    min_size,
    uses_beta,
    beta_is_skew,
    noise_levels,
)
