"""The one training loop: rounds of local training on one resident model, whatever the strategy.

A round asks the strategy for its five hooks and knows nothing else of it. Clients are trained one after
another while the strategy's `aggregate` takes their uploads, so one model is in memory however many clients
there are. All randomness comes from streams named by client and round (`bench.seeds`): the order of clients,
other cells and restarts cannot change it, and every strategy sees the same draws.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.client_states import ClientStates
from bench.config import ClientConfig, TrainingConfig
from bench.data import to_model_range
from bench.diffusion.gaussian import simple_loss
from bench.diffusion.schedule import Schedule
from bench.seeds import Label, derive, numpy_stream, torch_stream
from strategies import State, Strategy, Tensors, Upload

Tick = Callable[[int], None]
Batches = Callable[["DiffusionTask", Tensor, torch.Generator, int, int], Iterator[tuple[Tensor, Tensor, Tensor]]]


class Diverged(ArithmeticError):
    """A loss became NaN or infinite; the message says where."""


@dataclass(frozen=True)
class RoundRecord:
    """What one round measured. Counts are totals since the start.

    Attributes:
        round: 1 .. rounds.
        train_loss: mean local loss over the round's images, without any penalty, at weights that still move.
        heldout_loss: loss of the new global model on held-out images with fixed timesteps and noise.
        drift: mean over participants of ||w_i - w_round||, the Euclidean norm of all parameters.
        participants: number of clients in the round.
        samples: images seen.
        gradient_steps: optimizer steps taken by all clients.
        sequential_steps: optimizer steps that had to wait for one another (the slowest client of each round).
        bytes_down, bytes_up: bytes of the tensors that travelled; 0 where nothing does.
        seconds: wall time of training so far.
        time: seconds since the epoch when the round ended.
    """

    round: int
    train_loss: float
    heldout_loss: float
    drift: float
    participants: int
    samples: int
    gradient_steps: int
    sequential_steps: int
    bytes_down: int
    bytes_up: int
    seconds: float
    time: float


@dataclass(frozen=True)
class DiffusionTask:
    """What is learned: noise prediction on images of one range, on one device.

    Attributes:
        images: all training images, uint8 (N, C, H, W), on `device`.
        heldout: held-out images, uint8, on `device`.
        pixel_range: "symmetric" or "unit".
        dtype: "float32", or "bfloat16" for autocast of the network.
    """

    schedule: Schedule
    images: Tensor
    heldout: Tensor
    pixel_range: str = "symmetric"
    dtype: str = "float32"

    @property
    def device(self) -> torch.device:
        return self.images.device

    def losses(self, net: nn.Module, images: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Per-image loss (B,) of uint8 images at timesteps t (B,) under noise eps (B, C, H, W), both on the CPU."""
        x0 = to_model_range(images, self.pixel_range)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            return simple_loss(net, self.schedule, x0, t, eps.to(self.device, non_blocking=True))


def local_batches(
    task: DiffusionTask, indices: Tensor, stream: torch.Generator, epochs: int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches (images, t, eps) of a client's local epochs; the last of an epoch may be smaller, none is dropped."""
    shape = task.images.shape[1:]
    for _ in range(epochs):
        order = indices[torch.randperm(len(indices), generator=stream)]
        for chosen in order.split(batch_size):
            t = torch.randint(0, task.schedule.T, (len(chosen),), generator=stream)
            eps = torch.randn(len(chosen), *shape, generator=stream)
            yield task.images[chosen.to(task.device)], t, eps


class HeldoutLoss:
    """Loss on held-out images with common random numbers: the same timesteps and noise in every round and cell.

    Timesteps are spread evenly over 0 .. T-1; neither they nor the noise depend on the repetition's seed.
    """

    def __init__(self, task: DiffusionTask, batch_size: int = 250) -> None:
        count, stream = len(task.heldout), torch_stream(0, "heldout")
        spread = (torch.arange(count) + 0.5) * task.schedule.T / count
        self._t = spread.long()[torch.randperm(count, generator=stream)]
        self._eps = torch.randn(task.heldout.shape, generator=stream)
        self._task, self._batch = task, batch_size

    @torch.no_grad()
    def __call__(self, net: nn.Module) -> float:
        """Mean over all held-out images; the network is put in evaluation mode meanwhile."""
        was_training = net.training
        net.eval()
        total = 0.0
        for x, t, eps in zip(*(v.split(self._batch) for v in (self._task.heldout, self._t, self._eps)), strict=True):
            total += self._task.losses(net, x, t, eps).double().sum().item()
        net.train(was_training)
        return total / len(self._task.heldout)


@dataclass
class Ledger:
    """Running totals of what training cost."""

    samples: int = 0
    gradient_steps: int = 0
    sequential_steps: int = 0
    bytes_down: int = 0
    bytes_up: int = 0


@dataclass
class Visit:
    """What one client's local training measured."""

    loss_sum: float
    samples: int
    steps: int
    drift: float


@dataclass
class FederatedTraining:
    """A run of one strategy over clients, each a tensor of indices into the task's images.

    Attributes:
        net: the resident model on the task's device; its weights at construction are the initial global model.
        clients: per client the indices (N_i,) of its images; sorted here, since an order of storage is no data.
        seed: root of all draws.
        folder: where clients' states lie between their visits.
        tick: called with the number of images of each batch, for progress.
        batches: how a client's batches are drawn.
    """

    strategy: Strategy
    net: nn.Module
    task: DiffusionTask
    clients: Sequence[Tensor]
    training: TrainingConfig
    client: ClientConfig
    seed: int
    folder: Path
    tick: Tick = lambda _: None
    batches: Batches = local_batches
    server: State = field(init=False)

    def __post_init__(self) -> None:
        self.clients = [indices.sort().values for indices in self.clients]
        self._live: Tensors = {**dict(self.net.named_parameters()), **dict(self.net.named_buffers())}
        self.server = {"params": {name: tensor.detach().clone() for name, tensor in self._live.items()}}
        self._optimizer = make_optimizer(self.client, list(self.net.parameters()))
        self._states = ClientStates(self.folder, self.task.device)
        self._heldout = HeldoutLoss(self.task)
        self._ledger = Ledger()

    def rounds(self) -> Iterator[RoundRecord]:
        """Train round by round, yielding what each measured; the global model is in `net` at every yield.

        Raises:
            Diverged: if a loss stops being finite.
        """
        seconds = 0.0
        for index in range(self.training.rounds):
            started = time.perf_counter()
            visits: list[Visit] = []
            self.net.train()
            uploads = self._uploads(index, visits)
            self.strategy.aggregate(self.server, uploads)
            if not visits or next(uploads, None) is not None:
                raise RuntimeError(
                    f"{type(self.strategy).__name__}.aggregate left uploads in the iterator: it must take every one"
                )
            copy_into(self._live, self.server["params"])
            heldout = self._heldout(self.net)
            if not math.isfinite(heldout):
                raise Diverged(f"held-out loss is {heldout} after round {index + 1}")
            seconds += time.perf_counter() - started
            yield self._record(index, visits, heldout, seconds)

    def _record(self, index: int, visits: list[Visit], heldout: float, seconds: float) -> RoundRecord:
        samples = sum(v.samples for v in visits)
        self._ledger.samples += samples
        self._ledger.gradient_steps += sum(v.steps for v in visits)
        self._ledger.sequential_steps += max(v.steps for v in visits)
        return RoundRecord(
            round=index + 1,
            train_loss=sum(v.loss_sum for v in visits) / samples,
            heldout_loss=heldout,
            drift=sum(v.drift for v in visits) / len(visits),
            participants=len(visits),
            seconds=seconds,
            time=time.time(),
            **vars(self._ledger),
        )

    def _uploads(self, index: int, visits: list[Visit]) -> Iterator[Upload]:
        """Train the round's participants one at a time, in the order of their numbers."""
        for number in participants(len(self.clients), self.training.participation, self.seed, index):
            down = self.strategy.download(self.server, number)
            state = self._states.take(number)
            copy_into(self._live, down)
            self._restore_optimizer(state)
            with self._own_randomness("dropout", number, index):
                visits.append(self._visit(index, number, down, state["strategy"]))
            up = self.strategy.upload(self._live, down, state["strategy"])
            self._keep_optimizer(state)
            self._states.put(number, state)
            if not self.strategy.centralized:
                self._ledger.bytes_down += nbytes(down)
                self._ledger.bytes_up += nbytes(up)
            yield Upload(number, len(self.clients[number]), up)

    def _visit(self, index: int, number: int, down: Tensors, local: State) -> Visit:
        """One client's local epochs in one round."""
        indices, epochs, size = self.clients[number], self.training.local_epochs, self.training.batch_size
        planned = epochs * math.ceil(len(indices) / size)
        stream = torch_stream(self.seed, "client", number, index)
        loss_sum, samples, steps = torch.zeros((), dtype=torch.float64, device=self.task.device), 0, 0
        for images, t, eps in self.batches(self.task, indices, stream, epochs, size):
            self._set_lr((index + steps / planned) / self.training.rounds)
            loss_sum += self._step(images, t, eps, down, local)
            samples, steps = samples + len(images), steps + 1
            self.tick(len(images))
        total = loss_sum.item()
        if not math.isfinite(total):
            raise Diverged(f"training loss of client {number} is {total / samples} in round {index + 1}")
        return Visit(total, samples, steps, distance(self._live, down))

    @contextmanager
    def _own_randomness(self, *labels: Label) -> Iterator[None]:
        """Dropout draws from torch's global generator: seed it for one visit, then put it back."""
        with torch.random.fork_rng(devices=[self.task.device] if self.task.device.type == "cuda" else []):
            torch.manual_seed(derive(self.seed, *labels))
            yield

    def _step(self, images: Tensor, t: Tensor, eps: Tensor, down: Tensors, local: State) -> Tensor:
        """One optimizer step; returns the batch's summed loss without the penalty."""
        self._optimizer.zero_grad(set_to_none=True)
        losses = self.task.losses(self.net, images, t, eps)
        penalty = self.strategy.penalty(self._live, down)
        loss = losses.mean()
        (loss if penalty is None else loss + penalty).backward()
        self.strategy.correct_grads(self._live, down, local)
        self._optimizer.step()
        return losses.detach().sum()

    def _set_lr(self, done: float) -> None:
        """The learning rate at the share `done` of the run, the same for every number of clients."""
        factor = 0.5 * (1 + math.cos(math.pi * done)) if self.client.lr_schedule == "cosine" else 1.0
        for group in self._optimizer.param_groups:
            group["lr"] = self.client.lr * factor

    def _keeps(self) -> bool:
        return self.client.optimizer_state == "keep"

    def _restore_optimizer(self, state: State) -> None:
        self._optimizer.state.clear()
        for name, parameter in self.net.named_parameters():
            if name in state["optimizer"]:
                self._optimizer.state[parameter] = state["optimizer"][name]

    def _keep_optimizer(self, state: State) -> None:
        if self._keeps():
            state["optimizer"] = {
                name: self._optimizer.state[p] for name, p in self.net.named_parameters() if p in self._optimizer.state
            }


def make_optimizer(config: ClientConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The local optimizer over one model's parameters, without momentum for SGD."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr)
    return torch.optim.Adam(parameters, lr=config.lr, fused=True)


def participants(n_clients: int, fraction: float, seed: int, index: int) -> list[int]:
    """max(1, round(C n)) different clients, rising, drawn for round `index` (McMahan et al. 2017, algorithm 1)."""
    wanted = max(1, math.floor(fraction * n_clients + 0.5))
    if wanted >= n_clients:
        return list(range(n_clients))
    drawn = numpy_stream(seed, "participants", index).choice(n_clients, wanted, replace=False)
    return sorted(int(number) for number in drawn)


@torch.no_grad()
def copy_into(live: Tensors, source: Mapping[str, Tensor]) -> None:
    """Copy `source`'s values into the live tensors of the same names; neither shares memory with the other after."""
    torch._foreach_copy_([live[name] for name in source], list(source.values()))


@torch.no_grad()
def distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Euclidean norm of the difference over the tensors that both have."""
    both = [name for name in a if name in b and a[name].is_floating_point()]
    norms = torch._foreach_norm(torch._foreach_sub([a[n].detach() for n in both], [b[n] for n in both]))
    return float(torch.stack(norms).double().square().sum().sqrt())


def nbytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the tensors as they travel, uncompressed."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def weight_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, by sorted name: equal exactly if the weights are, bit for bit."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name].detach().cpu().numpy())
        total.update(f"{name}:{array.dtype}:{array.shape};".encode())
        total.update(array.tobytes())
    return total.hexdigest()
