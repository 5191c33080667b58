"""Who takes part in a round, who is slow and who fails: drawn from streams that no strategy can change."""

import math
from dataclasses import dataclass
from typing import Literal

from bench.config.cell import TrainingConfig
from bench.seeds import numpy_stream

Outcome = Literal["arrived", "dropped", "failed"]


@dataclass(frozen=True)
class Participant:
    """A client in a round.

    Attributes:
        client: its number.
        work: the share of its local steps that it has time for, 1 for all; at least one step is done.
        fails: its update is lost.
    """

    client: int
    work: float = 1.0
    fails: bool = False


def draw_round(n_clients: int, training: TrainingConfig, seed: int, index: int) -> list[Participant]:
    """The participants of round `index`, rising by number: none is possible under Poisson sampling alone.

    A straggler's share of work is uniform in (0, 1): with whole epochs this is FedProx's "x epochs, uniformly from
    1 .. E" (Li et al. 2020, section 5.2). Failures and stragglers have streams of their own, so that switching one of
    them on changes nothing else.
    """
    chosen = draw_clients(n_clients, training.participation, training.sampling, seed, index)
    slow, lost = (numpy_stream(seed, name, index).random((n_clients, 2)) for name in ("stragglers", "failures"))
    return [
        Participant(
            client,
            float(slow[client, 1]) if slow[client, 0] < training.stragglers else 1.0,
            bool(lost[client, 0] < training.failures),
        )
        for client in chosen
    ]


def draw_clients(n_clients: int, fraction: float, sampling: str, seed: int, index: int) -> list[int]:
    """Numbers of the clients of round `index`, rising.

    "fixed" draws max(1, round(C n)) different clients (McMahan et al. 2017, algorithm 1), "poisson" each client with
    probability C.
    """
    stream = numpy_stream(seed, "participants", index)
    if sampling == "poisson":
        return [int(number) for number in (stream.random(n_clients) < fraction).nonzero()[0]]
    wanted = max(1, math.floor(fraction * n_clients + 0.5))
    if wanted >= n_clients:
        return list(range(n_clients))
    return sorted(int(number) for number in stream.choice(n_clients, wanted, replace=False))
