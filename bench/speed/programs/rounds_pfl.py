"""pfl-research, simulated in one process."""

import time
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops import pytorch_ops  # noqa: F401 - chooses PyTorch
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel


class Net(torch.nn.ParameterList):
    """Parameters alone, with the methods that pfl asks for."""

    def loss(self, *_: Any) -> torch.Tensor:
        return sum(p.sum() for p in self)

    def metrics(self, *_: Any) -> dict[str, Any]:
        return {}


class Untrained(FederatedAveraging):
    """All of a visit but its training."""

    def train_one_user(self, initial_model_state: Any, model: Any, user_dataset: Any, central_context: Any) -> Any:
        return model.get_model_difference(initial_model_state), Metrics()


class Clock(TrainingProcessCallback):
    """Notes when each round ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_begin(self, *, model: Any) -> Any:
        self.ends.append(time.perf_counter())
        return super().on_train_begin(model=model)

    def after_central_iteration(self, aggregate_metrics: Any, model: Any, *, central_iteration: int) -> Any:
        self.ends.append(time.perf_counter())
        return super().after_central_iteration(aggregate_metrics, model, central_iteration=central_iteration)


def seconds(shapes: list[list[int]], clients: int, rounds: int) -> list[float]:
    """Of each round."""
    turn = iter(range(10**9))
    data = np.zeros((1, 1), dtype=np.float32)
    users = FederatedDataset(lambda user: Dataset([data], user_id=user), lambda: next(turn) % clients)
    net, clock = Net(torch.randn(shape) for shape in shapes), Clock()
    Untrained().run(
        backend=SimulatedBackend(training_data=users, val_data=users),
        model=PyTorchModel(net, torch.optim.Adam, torch.optim.SGD(net.parameters(), lr=1.0)),
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=10**6,
            train_cohort_size=clients,
            val_cohort_size=0,
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=1),
        model_train_params=NNTrainHyperParams(local_num_epochs=1, local_learning_rate=1e-3, local_batch_size=1),
        callbacks=[clock],
    )
    return [b - a for a, b in pairwise(clock.ends)]
