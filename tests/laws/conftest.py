"""A small federated problem that trains in a fraction of a second; `make_training` builds runs of it."""

from collections.abc import Callable

import pytest
import torch

from bench.config.cell import ClientConfig, TrainingConfig
from bench.diffusion import schedule
from bench.diffusion.config import EmaConfig
from bench.diffusion.process import Process
from bench.diffusion.unet import UNet
from bench.federation.rounds import FederatedTraining
from bench.federation.tasks import DiffusionTask
from strategies.fedavg import FedAvg

SIZES = (7, 12, 21)


@pytest.fixture(scope="session")
def task() -> DiffusionTask:
    """40 random training images of 8x8 and 10 held out."""
    pixels = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return DiffusionTask(Process(schedule.linear(50)), pixels[:40], pixels[40:])


def small_net() -> UNet:
    """The same initial weights at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return UNet(1, (8, 8), (False, True), blocks=1, groups=8)


def split_of(sizes: tuple[int, ...]) -> list[torch.Tensor]:
    order = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(1))
    return list(order.split(sizes))


@pytest.fixture
def make_training(task, tmp_path) -> Callable[..., FederatedTraining]:
    """A run over three clients of unequal size; keywords override its settings."""
    made = []

    def make(
        strategy=None,
        sizes=SIZES,
        rounds=3,
        epochs=2,
        steps=None,
        batch_size=8,
        participation=1.0,
        stragglers=0.0,
        failures=0.0,
        seed=11,
        net=None,
        own_task=None,
        clients=None,
        ema=None,
        **client,
    ) -> FederatedTraining:
        torch.set_num_threads(1)
        settings = TrainingConfig(
            rounds=rounds,
            local_epochs=epochs,
            local_steps=steps,
            batch_size=batch_size,
            participation=participation,
            stragglers=stragglers,
            failures=failures,
        )
        made.append(1)
        return FederatedTraining(
            strategy or FedAvg(),
            net or small_net(),
            own_task or task,
            clients or split_of(sizes),
            settings,
            ClientConfig(**client),
            seed,
            tmp_path / str(len(made)),
            ema=ema or EmaConfig(),
        )

    return make


def finish(run: FederatedTraining) -> dict[str, torch.Tensor]:
    """Train to the end; the global model."""
    for _ in run.rounds():
        pass
    return run.server["params"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
