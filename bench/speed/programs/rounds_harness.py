"""This harness's rounds of FedAvg, with clients that train nothing: what is left is what a round costs by itself."""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.config.cell import ClientConfig, TrainingConfig
from bench.federation.ledger import VisitRecord
from bench.federation.rounds import FederatedTraining
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


def main() -> None:
    """Print the seconds of each round, divided by the clients."""
    p = argparse.ArgumentParser()
    p.add_argument("--shapes", required=True)
    p.add_argument("--clients", type=int, required=True)
    p.add_argument("--rounds", type=int, required=True)
    options = p.parse_args()
    torch.set_num_threads(1)
    net = nn.ParameterList(torch.randn(shape) for shape in json.loads(options.shapes))
    training = TrainingConfig(rounds=options.rounds, local_epochs=1, batch_size=1)
    clients = [torch.arange(1)] * options.clients
    with tempfile.TemporaryDirectory() as folder:
        task: Any = NoTask()
        run = Untrained(FedAvg(), net, task, clients, training, ClientConfig(), 0, Path(folder))
        seconds, began = [], time.perf_counter()
        for _ in run.rounds():
            ended = time.perf_counter()
            seconds.append((ended - began) / options.clients)
            began = ended
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
