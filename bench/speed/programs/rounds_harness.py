"""This harness's FedAvg."""

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from torch import nn

from bench.config.cell import ClientConfig, TrainingConfig
from bench.federation.ledger import VisitRecord
from bench.federation.rounds import FederatedTraining
from bench.federation.tasks import Task
from strategies.base import State, Tensors
from strategies.fedavg import FedAvg


class Untrained(FederatedTraining):
    """All of a round but its training and its validation loss."""

    def _train_locally(self, index: int, visit: VisitRecord, down: Tensors, state: State) -> None:
        visit.samples, visit.steps, visit.loss_sum, visit.step_losses = 1, 1, 1.0, [1.0]

    def _validation_losses(self, index: int) -> tuple[float, float]:
        return 1.0, 1.0


class NoTask:
    """A task of which nothing is asked but its device."""

    device = torch.device("cpu")


def seconds(shapes: list[list[int]], clients: int, rounds: int) -> list[float]:
    """Of each round."""
    net = nn.ParameterList(torch.randn(shape) for shape in shapes)
    training, task = TrainingConfig(rounds=rounds, local_epochs=1, batch_size=1), cast(Task, NoTask())
    with tempfile.TemporaryDirectory() as folder:
        run = Untrained(FedAvg(), net, task, [torch.arange(1)] * clients, training, ClientConfig(), 0, Path(folder))
        ends = [time.perf_counter(), *(time.perf_counter() for _ in run.rounds())]
    return [b - a for a, b in pairwise(ends)]
