"""The problem on which strategies are tried: the real loop over a tiny U-Net, 40 random images and three clients."""

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.check.differences import copied
from bench.config.cell import ClientConfig, TrainingConfig
from bench.diffusion import schedule
from bench.diffusion.process import Process
from bench.diffusion.unet import UNet
from bench.federation.ledger import RoundRecord
from bench.federation.rounds import FederatedTraining
from bench.federation.tasks import DiffusionTask
from strategies.base import State, Strategy, Tensors, Upload
from strategies.centralized import Centralized

SIZES = (7, 12, 21)  # in batches of 8 these are 1, 2 and 3: no multiples of one another
BATCH = 8
ROUNDS = 3
SEED = 11


def make_task() -> DiffusionTask:
    """40 random training images (1, 8, 8) and 10 held-out ones, 50 timesteps."""
    stream = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8, generator=stream)
    return DiffusionTask(Process(schedule.linear(50)), pixels[:40], pixels[40:])


def make_net(width: int = 8) -> nn.Module:
    """A U-Net of one level; the same weights at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return UNet(1, (width,), (False,), blocks=1, groups=8)


def split(sizes: Sequence[int]) -> list[Tensor]:
    """Indices of so many random images for each client; more than there are repeat."""
    total = sum(sizes)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(1)) % 40
    return list(order.split(list(sizes)))


def finish(run: FederatedTraining) -> RoundRecord:
    """Train to the end; the last round's record."""
    *_, last = run.rounds()
    return last


def evaluated(run: FederatedTraining) -> Tensors:
    """Everything that is evaluated after training, and the global model, by names that say which."""
    if run.strategy.personal:
        models = {f"client {i}'s": model for i, model in enumerate(run.models())}
    else:
        models = {"evaluated": run.evaluated()}
    models["global"] = run.server["params"]
    return {f"{whose} {name}": tensor for whose, model in models.items() for name, tensor in model.items()}


class Subject:
    """A strategy that is tried.

    Attributes:
        strategy: as it was given.
        folder: for clients' states; every run has one of its own in it.
    """

    def __init__(self, strategy: Strategy, folder: Path) -> None:
        self.strategy, self.folder = strategy, folder
        self._numbers, self._task = count(), make_task()

    def run(
        self,
        strategy: Strategy | None = None,
        sizes: Sequence[int] = SIZES,
        keep: bool = False,
        folder: Path | None = None,
        width: int = 8,
        **training: Any,
    ) -> FederatedTraining:
        """A run that has not begun, of `strategy` or the one that is tried; one party has all if it is centralized.

        Args:
            keep: clients keep their optimizers between visits.
            folder: of clients' states; a new one if None.
            width: of the network.
            training: fields of TrainingConfig.
        """
        chosen = strategy or self.strategy
        settings = {"rounds": ROUNDS, "local_epochs": 1, "batch_size": BATCH} | training
        return FederatedTraining(
            chosen,
            make_net(width),
            self._task,
            split([sum(sizes)] if chosen.centralized else sizes),
            TrainingConfig(**settings),
            ClientConfig(optimizer_state="keep" if keep else "reset"),
            SEED,
            folder or self.folder / str(next(self._numbers)),
        )

    @cached_property
    def plain(self) -> tuple[FederatedTraining, RoundRecord]:
        """A run to the end with no strategy around the strategy, and its last record."""
        run = self.run()
        return run, finish(run)

    @cached_property
    def at_zero(self) -> Strategy:
        """The strategy at the strength that its `zero` gives; as it is where that is {}."""
        return dataclasses.replace(self.strategy, **self.strategy.zero)

    @cached_property
    def parent(self) -> Strategy:
        """Its first base class, with the values of those hyper-parameters that both have as they are at `zero`."""
        base = type(self.strategy).__bases__[0]
        shared = {f.name: getattr(self.at_zero, f.name) for f in dataclasses.fields(base) if f.init}
        return base(**shared)

    @cached_property
    def of_parent(self) -> Tensors:
        """What its first base class ends with, see `evaluated`."""
        run = self.run(self.parent)
        finish(run)
        return evaluated(run)

    def server(self, n_clients: int, width: int = 8) -> State:
        """The server's state as the loop makes it before the first round, for a network of that width."""
        return self.run(sizes=[40] * n_clients, width=width).server


@cache
def trained_in_one_place() -> Tensors:
    """The model after centralized training; not to be written to."""
    with tempfile.TemporaryDirectory() as folder:
        run = Subject(Centralized(), Path(folder)).run(keep=True)
        finish(run)
    return run.evaluated()


def visit(strategy: Strategy, server: State, client: int, trained: Tensors | None = None) -> Tensors:
    """A copy of what a client sends whose local training ended at `trained`; where it started if that is None.

    The hooks are called as the loop does in one local step, on gradients of 0.
    """
    down, local = strategy.download(server, client), dict[str, Any]()
    origin = {**server["params"], **strategy.start(down, local)}
    params = {name: tensor.clone().requires_grad_(tensor.is_floating_point()) for name, tensor in origin.items()}
    for tensor in params.values():
        tensor.grad = torch.zeros_like(tensor) if tensor.requires_grad else None
    strategy.penalty(params, down)
    strategy.correct_grads(params, down, local)
    with torch.no_grad():
        for name, tensor in (trained or {}).items():
            params[name].copy_(tensor)
    return {name: tensor.detach().clone() for name, tensor in strategy.upload(params, down, local).items()}


def visits(strategy: Strategy, server: State, sizes: Sequence[int]) -> Iterator[Upload]:
    """Uploads of clients of these sizes, each made when it is asked for, whose models are near the global one."""
    for client, size in enumerate(sizes):
        yield Upload(client, size, visit(strategy, server, client, near(server["params"], client)))


def near(params: Tensors, seed: int) -> Tensors:
    """The parameters with a little noise."""
    stream = torch.Generator().manual_seed(seed)
    return {
        name: tensor + 0.01 * torch.randn(tensor.shape, generator=stream) if tensor.is_floating_point() else tensor
        for name, tensor in params.items()
    }


def aggregated(strategy: Strategy, server: State, uploads: Sequence[Upload]) -> State:
    """A copy of the server's state after it took the uploads."""
    after = copied(server)
    strategy.aggregate(after, iter(uploads))
    return after
