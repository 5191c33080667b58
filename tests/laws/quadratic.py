"""Clients with quadratic losses, on which strategies have fixed points and first steps known in closed form.

The loss of image j at weights w (d,) is (1/2) sum_k a_jk (w_k - b_jk)^2. It runs through the real training loop.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.config.cell import ClientConfig, TrainingConfig
from bench.federation.rounds import FederatedTraining
from bench.federation.tasks import Batch
from strategies.base import Strategy


class Point(nn.Module):
    """The model: one vector `w` (d,), at first zero or `at`."""

    def __init__(self, width: int = 1, at: Sequence[float] = ()) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(at, dtype=torch.float32) if len(at) else torch.zeros(width))


class Quadratic:
    """A `bench.federation.tasks.Task`: images are centres b (N, d) with curvatures a (N, d); batches come in order, no draws."""

    def __init__(self, centres: Tensor, curvatures: Tensor | None = None) -> None:
        self.centres = centres.float()
        self.curvatures = torch.ones_like(self.centres) if curvatures is None else curvatures.float()
        self.device = torch.device("cpu")
        self.n_heldout = len(self.centres)

    def batches(self, indices, streams, epochs, batch_size, memory):
        for _ in range(epochs):
            for chosen in indices.split(batch_size):
                yield Batch(self.centres[chosen], torch.zeros(len(chosen)), torch.zeros(()), indices=chosen)

    def losses(self, net: nn.Module, batch: Batch) -> Tensor:
        return (self.curvatures[batch.indices] * (net.w - batch.x0).square()).sum(dim=1) / 2

    def heldout_errors(self, net: nn.Module, only: Tensor | None = None) -> Tensor:
        chosen = torch.arange(self.n_heldout) if only is None else only
        batch = Batch(self.centres[chosen], torch.zeros(len(chosen)), torch.zeros(()), indices=chosen)
        with torch.no_grad():
            return self.losses(net, batch).double()

    def optimum(self) -> Tensor:
        """The minimiser (d,) of the mean loss over all images."""
        a, b = self.curvatures.double(), self.centres.double()
        return (a * b).sum(0) / a.sum(0)


def make_run(
    folder: Path,
    strategy: Strategy,
    task: Quadratic,
    sizes: Sequence[int],
    *,
    rounds: int = 1,
    epochs: int = 1,
    batch_size: int = 10**6,
    lr: float = 0.1,
    at: Sequence[float] = (),
    **settings,
) -> FederatedTraining:
    """A run by SGD at a constant rate over clients that hold consecutive images; one full-batch step an epoch unless
    `batch_size` says otherwise. `settings` are further fields of TrainingConfig.
    """
    clients = list(torch.arange(len(task.centres)).split(list(sizes)))
    training = TrainingConfig(rounds=rounds, local_epochs=epochs, batch_size=batch_size, **settings)
    client = ClientConfig(optimizer="sgd", lr=lr, lr_schedule="constant")
    net = Point(task.centres.shape[1], at)
    return FederatedTraining(strategy, net, task, clients, training, client, 0, folder)


def train(run: FederatedTraining) -> Tensor:
    """The global model's weights (d,) in float64 after all rounds."""
    for _ in run.rounds():
        pass
    return run.server["params"]["w"].double()
