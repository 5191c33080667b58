"""Dirichlet label skew with NIID-Bench's balance rule.

Li, Diao, Chen, He: "Federated Learning on Non-IID Data Silos: An Experimental Study", ICDE 2022
(arXiv 2102.02079), partition "noniid-labeldir" of the authors' code.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from partitions.base import IntArray, Partition, PartitionError, check_request

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
MOST_RETRIES = 100_000  # some minutes of draws; more would only seem to hang


@dataclass(frozen=True)
class DirichletDraws(Partition):
    """What partitions by Dirichlet draws have in common: draws are thrown away until no client is too small.

    Attributes:
        beta: concentration, > 0.
        min_size: a draw that leaves a client with fewer samples is thrown away.
        max_retries: how many draws may be thrown away before giving up.
    """

    uses_beta: ClassVar[bool] = True

    beta: float
    min_size: int = field(default=10, kw_only=True)
    max_retries: int = field(default=1000, kw_only=True)

    def __post_init__(self) -> None:
        """Raises PartitionError where a hyper-parameter is out of range."""
        super().__post_init__()
        if not (math.isfinite(self.beta) and self.beta > 0):
            raise PartitionError(f"beta must be finite and greater than 0, not {self.beta}")
        if not 0 <= self.max_retries <= MOST_RETRIES:
            raise PartitionError(f"max_retries must be between 0 and {MOST_RETRIES:,}, not {self.max_retries}")

    def _gave_up(self, n_clients: int, n_samples: int, best: int) -> PartitionError:
        """The error after the last draw; `best` is the largest that the smallest client ever was."""
        return PartitionError(
            f"{type(self).__name__}: none of {self.max_retries + 1} draws at beta={self.beta}, n_clients={n_clients} "
            f"gave every client {self.min_size} of the {n_samples} samples; the smallest client of the best draw "
            f"held {best}. Raise beta or max_retries, or lower n_clients or min_size"
        )


@dataclass(frozen=True)
class Dirichlet(DirichletDraws):
    """Each class is shared out by p ~ Dir(beta, ..., beta); a client that is full gets none of the later classes.

    A client is full once it holds N/n or more samples from earlier classes of the draw. The rule evens out the
    sizes and raises the label skew a little, so "beta = b" with and without it are different experiments.
    Large beta is IID, small gives each class to about one client.
    """

    balance: ClassVar[bool] = True

    def split(self, labels: IntArray, n_clients: int, rng: np.random.Generator) -> list[IntArray]:
        """The first draw in which every client holds `min_size` samples; see `Partition.split`.

        Raises:
            PartitionError: if `max_retries` draws were thrown away and the next one fails too.
        """
        check_request(labels, n_clients, self.min_size)
        classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        best = 0
        for _ in range(self.max_retries + 1):
            parts = self._draw(classes, n_clients, rng)
            smallest = min(len(part) for part in parts)
            if smallest >= self.min_size:
                return [rng.permutation(part) for part in parts]
            best = max(best, smallest)
        raise self._gave_up(n_clients, len(labels), best)

    def _draw(self, classes: list[IntArray], n_clients: int, rng: np.random.Generator) -> list[IntArray]:
        """One draw: class by class, shuffle, share out, append. Parts come back grouped by class."""
        n_samples = sum(len(members) for members in classes)
        sizes = np.zeros(n_clients, dtype=np.int64)
        pieces: list[list[IntArray]] = [[] for _ in range(n_clients)]
        for members in classes:
            shuffled = rng.permutation(members)
            # At least one client is below the mean size as long as a class is left to share out.
            is_open = sizes * n_clients < n_samples if self.balance else np.ones(n_clients, dtype=bool)
            shares = _only_open(rng.dirichlet(np.full(n_clients, self.beta)), is_open, self.beta, rng)
            open_clients = np.flatnonzero(is_open)
            # Cut among open clients only, so that the last of them takes the rounding rest and a full one never does.
            cuts = np.floor(len(members) * np.cumsum(shares)[open_clients[:-1]]).astype(np.int64)
            for client, piece in zip(open_clients, np.split(shuffled, cuts), strict=True):
                pieces[client].append(piece)
                sizes[client] += len(piece)
        return [np.concatenate(own) for own in pieces]


def dirichlet_shares(beta: float, count: int, rng: np.random.Generator) -> FloatArray:
    """A draw (count,) of Dir(beta, ..., beta), summing to 1 at every beta."""
    return _only_open(rng.dirichlet(np.full(count, beta)), np.ones(count, dtype=bool), beta, rng)


def _only_open(shares: FloatArray, is_open: BoolArray, beta: float, rng: np.random.Generator) -> FloatArray:
    """The shares (n,) with those of full clients set to 0, scaled to sum 1; redrawn where no mass is left to scale.

    A part of a Dirichlet vector, scaled to sum 1, is Dirichlet(beta) again and independent of the mass it had, so
    a new draw keeps the law where that mass underflows to 0. Equal shares would not: they make a class near IID
    exactly where beta asks for one client to take it.
    """
    kept = np.where(is_open, shares, 0.0)
    mass = float(kept.sum())
    if not (math.isfinite(mass) and mass > 0):
        kept[is_open] = _log_space_draw(beta, int(is_open.sum()), rng)
        mass = float(kept.sum())
    return kept / mass


def _log_space_draw(beta: float, count: int, rng: np.random.Generator) -> FloatArray:
    """A Dirichlet(beta) draw (count,), up to its scale, whose largest entry is 1 however small beta is."""
    if beta >= 1:  # asked for only where beta is so large that the ordinary draw overflows: shares are equal
        return np.ones(count)
    # log Gamma(beta) = log Gamma(beta + 1) + log(U) / beta; kept times beta until the largest is taken off.
    scaled_logs = np.log1p(-rng.random(count)) + beta * np.log(rng.standard_gamma(beta + 1, count))
    with np.errstate(over="ignore"):  # -inf is a share of 0
        draw: FloatArray = np.exp((scaled_logs - scaled_logs.max()) / beta)
    return draw
