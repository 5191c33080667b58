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
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.client_states import ClientStates
from bench.config import ClientConfig, TrainingConfig
from bench.diffusion import ema
from bench.diffusion.ema import EmaSettings
from bench.seeds import Label, derive, numpy_stream, torch_stream
from bench.tasks import Batch, Diverged, Task
from strategies import State, Strategy, Tensors, Upload, WeightedMean

Tick = Callable[[int], None]


@dataclass(frozen=True)
class RoundRecord:
    """What one round measured. Counts are totals since the start.

    Attributes:
        round: 1 .. rounds.
        train_loss: mean local loss over the round's images, without any penalty, at weights that still move.
        heldout_loss: loss of the model that would be evaluated now, on held-out images with fixed timesteps and noise.
        heldout_loss_raw: that of the global model without its moving average; the same where none is kept.
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
    heldout_loss_raw: float
    drift: float
    participants: int
    samples: int
    gradient_steps: int
    sequential_steps: int
    bytes_down: int
    bytes_up: int
    seconds: float
    time: float


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
        task: what is learned.
        clients: per client the indices (N_i,) of its images; sorted here, since an order of storage is no data.
        seed: root of all draws.
        folder: where clients' states lie between their visits.
        tick: called with the number of images of each batch, for progress.
        ema: whether and how a moving average of the weights is kept; it is what is evaluated then.
        server: the strategy's state; `server["params"]` is the global model.
        average: the moving average of the global model, None where none is kept.
    """

    strategy: Strategy
    net: nn.Module
    task: Task
    clients: Sequence[Tensor]
    training: TrainingConfig
    client: ClientConfig
    seed: int
    folder: Path
    tick: Tick = lambda _: None
    ema: EmaSettings = field(default_factory=EmaSettings)
    server: State = field(init=False)
    average: Tensors | None = field(init=False, default=None)
    _averages: WeightedMean = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.clients = [indices.sort().values for indices in self.clients]
        self._live: Tensors = {**dict(self.net.named_parameters()), **dict(self.net.named_buffers())}
        self.server = {"params": {name: tensor.detach().clone() for name, tensor in self._live.items()}}
        self._optimizer = make_optimizer(self.client, list(self.net.parameters()))
        self._states = ClientStates(self.folder, self.task.device)
        self._ledger = Ledger()
        if self.ema.mode != "off":
            self.average = {name: tensor.clone() for name, tensor in self.server["params"].items()}

    def rounds(self) -> Iterator[RoundRecord]:
        """Train round by round, yielding what each measured; at every yield the model to be evaluated is in `net`:
        the moving average where one is kept, else the global model.

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
            self._end_average(max(v.steps for v in visits))
            raw, heldout = self._heldout_losses(index)
            seconds += time.perf_counter() - started
            yield self._record(index, visits, raw, heldout, seconds)

    def _heldout_losses(self, index: int) -> tuple[float, float]:
        """Of the global model and of what would be evaluated, which is left in `net`."""
        copy_into(self._live, self.server["params"])
        raw = heldout = self.task.heldout_loss(self.net)
        if self.average is not None:
            copy_into(self._live, self.average)
            heldout = self.task.heldout_loss(self.net)
        if not math.isfinite(raw + heldout):
            raise Diverged(f"held-out loss is {raw if math.isfinite(heldout) else heldout} after round {index + 1}")
        return raw, heldout

    def _end_average(self, steps: int) -> None:
        """Bring the moving average to the end of a round of `steps` sequential gradient steps."""
        if self.average is None:
            return
        if self.ema.mode == "server":
            ema.update(self.average, self.server["params"], self.ema.decay_over(self._ledger.sequential_steps, steps))
        else:
            self.average = self._averages.result()

    def _record(self, index: int, visits: list[Visit], raw: float, heldout: float, seconds: float) -> RoundRecord:
        samples = sum(v.samples for v in visits)
        self._ledger.samples += samples
        self._ledger.gradient_steps += sum(v.steps for v in visits)
        self._ledger.sequential_steps += max(v.steps for v in visits)
        return RoundRecord(
            round=index + 1,
            train_loss=sum(v.loss_sum for v in visits) / samples,
            heldout_loss=heldout,
            heldout_loss_raw=raw,
            drift=sum(v.drift for v in visits) / len(visits),
            participants=len(visits),
            seconds=seconds,
            time=time.time(),
            **vars(self._ledger),
        )

    def _uploads(self, index: int, visits: list[Visit]) -> Iterator[Upload]:
        """Train the round's participants one at a time, in the order of their numbers."""
        if self.average is not None and self.ema.mode == "client":
            self._averages = WeightedMean(self.average)
        for number in participants(len(self.clients), self.training.participation, self.seed, index):
            down = self.strategy.download(self.server, number)
            state = self._states.take(number)
            if (
                down.keys() != self._live.keys()
            ):  # what does not travel starts from the global model, not from a neighbour's
                copy_into(self._live, self.server["params"])
            copy_into(self._live, down)
            self._restore_optimizer(state)
            with self._own_randomness("dropout", number, index):
                visits.append(self._visit(index, number, down, state))
            up = self.strategy.upload(self._live, down, state["strategy"])
            self._keep_optimizer(state)
            self._states.put(number, state)
            self._count(down, up)
            yield Upload(number, len(self.clients[number]), up)

    def _count(self, down: Tensors, up: Tensors) -> None:
        """Add what travelled to the ledger: with averages on the clients, those travel, too."""
        if self.strategy.centralized:
            return
        averages = nbytes(self.average) if self.average is not None and self.ema.mode == "client" else 0
        self._ledger.bytes_down += nbytes(down) + averages
        self._ledger.bytes_up += nbytes(up) + averages

    def _visit(self, index: int, number: int, down: Tensors, state: State) -> Visit:
        """One client's local epochs in one round."""
        indices, epochs, size = self.clients[number], self.training.local_epochs, self.training.batch_size
        planned = epochs * math.ceil(len(indices) / size)
        streams = partial(torch_stream, self.seed, "client", number, index)
        average = self._own_average()
        loss_sum, samples, steps = torch.zeros((), dtype=torch.float64, device=self.task.device), 0, 0
        for batch in self.task.batches(indices, streams, epochs, size, state["task"]):
            self._set_lr((index + steps / planned) / self.training.rounds)
            loss_sum += self._step(batch, down, state["strategy"])
            if average is not None:
                ema.update(average, self._live, self.ema.decay_at(self._ledger.sequential_steps + steps))
            samples, steps = samples + len(batch.x0), steps + 1
            self.tick(len(batch.x0))
        total = loss_sum.item()
        if not math.isfinite(total):
            raise Diverged(f"training loss of client {number} is {total / samples} in round {index + 1}")
        if average is not None:
            self._averages.add(average, len(indices))
        return Visit(total, samples, steps, distance(self._live, down))

    def _own_average(self) -> Tensors | None:
        """A copy of the moving average for a client to go on with; None unless clients keep one."""
        if self.average is None or self.ema.mode != "client":
            return None
        return {name: tensor.clone() for name, tensor in self.average.items()}

    @contextmanager
    def _own_randomness(self, *labels: Label) -> Iterator[None]:
        """Dropout draws from torch's global generator: seed it for one visit, then put it back."""
        with torch.random.fork_rng(devices=[self.task.device] if self.task.device.type == "cuda" else []):
            torch.manual_seed(derive(self.seed, *labels))
            yield

    def _step(self, batch: Batch, down: Tensors, local: State) -> Tensor:
        """One optimizer step; returns the batch's summed loss without the penalty."""
        self._optimizer.zero_grad(set_to_none=True)
        losses = self.task.losses(self.net, batch)
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
