"""The one training loop: rounds of local training on one resident model, whatever the strategy.

A round asks the strategy for its hooks and knows nothing else of it. Clients are trained one after
another while the strategy's `aggregate` takes their uploads, so one model is in memory however many clients
there are. All randomness comes from streams named by client and round (`bench.seeds`): the order of clients,
other cells and restarts cannot change it, and every strategy sees the same draws.
"""

import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench import mixture
from bench.client_states import ClientStates
from bench.config import ClientConfig, TrainingConfig
from bench.diffusion import ema
from bench.diffusion.ema import EmaSettings
from bench.participation import Outcome, Participant, draw_round
from bench.seeds import Label, derive, torch_stream
from bench.tasks import Batch, Diverged, Task, mean_error
from strategies import State, Strategy, Tensors, Upload, WeightedMean

Tick = Callable[[int], None]


@dataclass(frozen=True)
class RoundRecord:
    """What one round measured. Counts are totals since the start, but for `participants`.

    Attributes:
        round: 1 .. rounds.
        train_loss: mean local loss over the round's images, without any penalty, at weights that still move; NaN where
            no update arrived.
        heldout_loss: loss of the model that would be evaluated now, on held-out images with fixed timesteps and noise;
            of the mixture of clients' models where they keep their own, see `bench.mixture`.
        heldout_loss_raw: that of the global model as `server["params"]` is, without any moving average; the same where
            the strategy evaluates that.
        drift: mean over arrived updates of ||w_i - w||, the Euclidean norm of all parameters, from where local training
            started.
        update_cosine: mean over pairs of arrived updates of the cosine between them; NaN for fewer than two.
        participants: number of clients drawn in the round.
        stragglers: participants so far that had no time for all their local steps.
        dropped: those of them whose work the strategy does not take; `failed`: participants whose update was lost.
            What they did is not simulated: it is in no loss, and in no count but `bytes_down`.
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
    update_cosine: float
    participants: int
    stragglers: int
    dropped: int
    failed: int
    samples: int
    gradient_steps: int
    sequential_steps: int
    bytes_down: int
    bytes_up: int
    seconds: float
    time: float

    def as_dict(self) -> dict[str, float]:
        """What there is, without what is NaN: a loss that is no number ends training and is in no record."""
        return {key: value for key, value in asdict(self).items() if not math.isnan(value)}


@dataclass
class Ledger:
    """Running totals of what training cost, and of what went wrong."""

    stragglers: int = 0
    dropped: int = 0
    failed: int = 0
    samples: int = 0
    gradient_steps: int = 0
    sequential_steps: int = 0
    bytes_down: int = 0
    bytes_up: int = 0

    def add(self, visits: Sequence["Visit"]) -> None:
        """Add a round's visits."""
        self.stragglers += sum(v.work < 1 for v in visits)
        self.dropped += sum(v.outcome == "dropped" for v in visits)
        self.failed += sum(v.outcome == "failed" for v in visits)
        self.samples += sum(v.samples for v in visits)
        self.gradient_steps += sum(v.steps for v in visits)
        self.sequential_steps += max((v.steps for v in visits), default=0)
        self.bytes_down += sum(v.bytes_down for v in visits)
        self.bytes_up += sum(v.bytes_up for v in visits)


@dataclass
class Visit:
    """One client's part in one round.

    Attributes:
        n_samples: how many images it holds.
        work: the share of its local steps that it had time for.
        outcome: whether its update "arrived", was "dropped" (a straggler's) or "failed" (lost).
        loss_sum: local loss without any penalty, summed over the images seen; without training this and the rest are 0.
        samples, steps: images seen and optimizer steps done.
        drift: ||w_i - w||.
        bytes_down, bytes_up: what travelled.
        step_losses: mean local loss of each optimizer step's batch without any penalty, in their order.
    """

    client: int
    n_samples: int
    work: float
    outcome: Outcome
    loss_sum: float = 0.0
    samples: int = 0
    steps: int = 0
    drift: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    step_losses: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """All but the steps' losses, with `loss`, the mean over the images seen, None without any, for the sum."""
        told = asdict(self)
        del told["step_losses"]
        loss_sum = told.pop("loss_sum")
        return told | {"loss": loss_sum / self.samples if self.samples else None}


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
        server: the strategy's state; `server["params"]` is the global model, see `strategies.base`.
        average: the moving average of the global model, None where none is kept.
        visits: the last round's, in the order of the clients' numbers.
        heldout_errors: the last round's losses of each held-out image (M,), whose mean is `heldout_loss`.
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
    visits: list[Visit] = field(init=False, default_factory=list)
    heldout_errors: Tensor = field(init=False, default_factory=lambda: torch.empty(0))
    _averages: WeightedMean = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.clients = [indices.sort().values for indices in self.clients]
        self._live: Tensors = {**dict(self.net.named_parameters()), **dict(self.net.named_buffers())}
        self.server = {
            "params": {name: tensor.detach().clone() for name, tensor in self._live.items()},
            "round": 0,
            "n_clients": len(self.clients),
            "n_samples": sum(map(len, self.clients)),
            "participation": self.training.participation,
            "sampling": self.training.sampling,
            "seed": derive(self.seed, "strategy"),
        }
        self._optimizer = make_optimizer(self.client, list(self.net.parameters()))
        self._states = ClientStates(self.folder, self.task.device)
        self._ledger = Ledger()
        self._done, self._seconds = 0, 0.0
        if self.ema.mode != "off":
            self.average = {name: tensor.clone() for name, tensor in self.server["params"].items()}

    def rounds(self) -> Iterator[RoundRecord]:
        """Train round by round from where the run stands, yielding what each measured.

        At every yield the model to be evaluated is in `net`; where clients keep their own, `models` gives them.

        Raises:
            Diverged: if a loss stops being finite.
        """
        for index in range(self._done, self.training.rounds):
            started = time.perf_counter()
            self.visits, self._directions = [], Directions()
            self.net.train()
            self._train(index, draw_round(len(self.clients), self.training, self.seed, index))
            self._ledger.add(self.visits)
            raw, heldout = self._heldout_losses(index)
            self._done, self._seconds = index + 1, self._seconds + time.perf_counter() - started
            yield self._record(index, raw, heldout, self._seconds)

    def snapshot(self) -> State:
        """Where the run stands between two rounds, for `restore`; the clients' states are on disk then."""
        return {
            "done": self._done,
            "seconds": self._seconds,
            "server": self.server,
            "average": self.average or {},
            "ledger": vars(self._ledger),
            "clients": self._states.commit(),
        }

    def restore(self, state: State) -> None:
        """Go on from a `snapshot` of a run of the same settings, whose clients' states lie in the same folder.

        Raises:
            Damaged: if a client's state was damaged since.
        """
        self._states.restore(state["clients"])
        self._done, self._seconds, self.server = state["done"], state["seconds"], state["server"]
        self._ledger = Ledger(**state["ledger"])
        self.average = state["average"] or None

    def forget_older(self) -> None:
        """Remove clients' states that only an older snapshot needs."""
        self._states.prune()

    def models(self) -> Iterator[Tensors]:
        """Each client's model as it would be evaluated now, by number: whole, and not to be written to."""
        for number in range(len(self.clients)):
            local = self._states.take(number)["strategy"] if self.strategy.personal else {}
            yield {**self.server["params"], **self.strategy.model(self.server, local)}

    def evaluated(self) -> Tensors:
        """The global model as it would be evaluated now: whole, and not to be written to."""
        return {**self.server["params"], **(self.average or self.strategy.model(self.server, {}))}

    def report(self) -> dict[str, float]:
        """The strategy's own figures."""
        return self.strategy.report(self.server)

    def _train(self, index: int, cast: Sequence[Participant]) -> None:
        """Local training of a round's cast and aggregation of what arrives; the moving average follows."""
        self.server["round"] = index
        before = self._ledger.sequential_steps
        uploads = self._uploads(index, cast)
        first = next(uploads, None)
        if first is None:
            return
        arriving = (upload for part in ([first], uploads) for upload in part)
        self.strategy.aggregate(self.server, arriving)
        if next(arriving, None) is not None:
            raise RuntimeError(
                f"{type(self.strategy).__name__}.aggregate left uploads in the iterator: it must take every one"
            )
        self._end_average(before, max(v.steps for v in self.visits))

    def _heldout_losses(self, index: int) -> tuple[float, float]:
        """Of the global model and of what would be evaluated, which is left in `net`."""
        if self.strategy.personal:
            self.heldout_errors = self._mixture_errors()
            raw = heldout = mean_error(self.heldout_errors)
        else:
            params = self.server["params"]
            copy_into(self._live, params)
            self.heldout_errors = self.task.heldout_errors(self.net)
            raw = heldout = mean_error(self.heldout_errors)
            evaluated = self.evaluated()
            if any(tensor is not params[name] for name, tensor in evaluated.items()):
                copy_into(self._live, evaluated)
                self.heldout_errors = self.task.heldout_errors(self.net)
                heldout = mean_error(self.heldout_errors)
        if not math.isfinite(raw + heldout):
            raise Diverged(f"held-out loss is {raw if math.isfinite(heldout) else heldout} after round {index + 1}")
        return raw, heldout

    def _mixture_errors(self) -> Tensor:
        """Held-out losses (M,), each image judged by its client's model."""
        whose = mixture.assigned([len(indices) for indices in self.clients], self.task.n_heldout)
        errors = torch.empty(len(whose), dtype=torch.float64)
        for number, model in enumerate(self.models()):
            chosen = (whose == number).nonzero().flatten()
            if len(chosen):
                copy_into(self._live, model)
                errors[chosen] = self.task.heldout_errors(self.net, chosen)
        return errors

    def _end_average(self, done: int, steps: int) -> None:
        """Bring the moving average over a round of `steps` sequential gradient steps after `done` of them."""
        if self.average is None:
            return
        if self.ema.mode == "server":
            ema.update(self.average, self.server["params"], self.ema.decay_over(done, steps))
        else:
            self.average = self._averages.result()

    def _record(self, index: int, raw: float, heldout: float, seconds: float) -> RoundRecord:
        arrived = [v for v in self.visits if v.outcome == "arrived"]
        samples = sum(v.samples for v in arrived)
        return RoundRecord(
            round=index + 1,
            train_loss=sum(v.loss_sum for v in arrived) / samples if arrived else math.nan,
            heldout_loss=heldout,
            heldout_loss_raw=raw,
            drift=sum(v.drift for v in arrived) / len(arrived) if arrived else math.nan,
            update_cosine=self._directions.mean_cosine(),
            participants=len(self.visits),
            seconds=seconds,
            time=time.time(),
            **vars(self._ledger),
        )

    def _uploads(self, index: int, cast: Sequence[Participant]) -> Iterator[Upload]:
        """Train the round's participants one at a time, in the order of their numbers; yield what arrives."""
        if self.average is not None and self.ema.mode == "client":
            self._averages = WeightedMean(self.average)
        for who in cast:
            down = self.strategy.download(self.server, who.client)
            visit = self._begin_visit(who, down)
            self.visits.append(visit)
            if visit.outcome != "arrived":
                continue
            state = self._states.take(who.client)
            origin = {**self.server["params"], **self.strategy.start(down, state["strategy"])}
            copy_into(self._live, origin)
            self._restore_optimizer(state)
            with self._own_randomness("dropout", who.client, index):
                self._local_epochs(index, visit, down, state)
            visit.drift = self._directions.add(self._live, origin)
            up = self.strategy.upload(self._live, down, state["strategy"])
            self._keep_optimizer(state)
            self._states.put(who.client, state)
            visit.bytes_up = self._bytes(up)
            yield Upload(who.client, visit.n_samples, up)

    def _begin_visit(self, who: Participant, down: Tensors) -> Visit:
        n_samples = len(self.clients[who.client])
        late = self._steps(n_samples, who.work) < self._steps(n_samples, 1.0)
        outcome: Outcome = (
            "failed" if who.fails else "dropped" if late and not self.strategy.partial_work else "arrived"
        )
        return Visit(who.client, n_samples, who.work if late else 1.0, outcome, bytes_down=self._bytes(down))

    def _steps(self, n_samples: int, work: float) -> int:
        """Optimizer steps in that share of a client's local epochs, at least one."""
        planned = self.training.local_epochs * math.ceil(n_samples / self.training.batch_size)
        return max(1, math.floor(work * planned))

    def _bytes(self, tensors: Tensors) -> int:
        """What travels on one way: with averages on the clients, those travel, too."""
        if self.strategy.centralized:
            return 0
        averages = nbytes(self.average) if self.average is not None and self.ema.mode == "client" else 0
        return nbytes(tensors) + averages

    def _local_epochs(self, index: int, visit: Visit, down: Tensors, state: State) -> None:
        """One client's local training in one round, as much as it has time for."""
        indices, epochs, size = self.clients[visit.client], self.training.local_epochs, self.training.batch_size
        planned, allowed = self._steps(visit.n_samples, 1.0), self._steps(visit.n_samples, visit.work)
        streams = partial(torch_stream, self.seed, "client", visit.client, index)
        average = self._own_average()
        sums, sizes = [], []
        batches = self.task.batches(indices, streams, epochs, size, state["task"])
        for batch in itertools.islice(batches, allowed):
            self._set_lr((index + visit.steps / planned) / self.training.rounds)
            sums.append(self._step(batch, down, state["strategy"]))
            sizes.append(len(batch.x0))
            if average is not None:
                ema.update(average, self._live, self.ema.decay_at(self._ledger.sequential_steps + visit.steps))
            visit.samples, visit.steps = visit.samples + len(batch.x0), visit.steps + 1
            self.tick(len(batch.x0))
        of_steps = torch.stack(sums).double().tolist()  # once a visit: a GPU need not wait at every step
        visit.loss_sum = sum(of_steps)
        visit.step_losses = [total / count for total, count in zip(of_steps, sizes, strict=True)]
        if not math.isfinite(visit.loss_sum):
            mean = visit.loss_sum / visit.samples
            raise Diverged(f"training loss of client {visit.client} is {mean} in round {index + 1}")
        if average is not None:
            self._averages.add(average, visit.n_samples)

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


@torch.no_grad()
def copy_into(live: Tensors, source: Mapping[str, Tensor]) -> None:
    """Copy `source`'s values into the live tensors of the same names; neither shares memory with the other after."""
    torch._foreach_copy_([live[name] for name in source], list(source.values()))


class Directions:
    """The mean cosine between updates, from the sum of their unit vectors: one model in memory for any number of them.

    sum_{i != j} u_i . u_j = ||sum_i u_i||^2 - n for unit vectors u_i. Updates that are 0 have no direction and are
    left out.
    """

    def __init__(self) -> None:
        self._sum: list[Tensor] = []
        self._count = 0

    @torch.no_grad()
    def add(self, live: Mapping[str, Tensor], origin: Mapping[str, Tensor]) -> float:
        """Take one update into account; returns its Euclidean norm over the tensors that both have."""
        both = [name for name in origin if name in live and live[name].is_floating_point()]
        update = torch._foreach_sub([live[name].detach() for name in both], [origin[name] for name in both])
        norm = _norm(update)
        if 0 < norm < math.inf:
            self._sum = self._sum or [torch.zeros_like(part) for part in update]
            torch._foreach_add_(self._sum, update, alpha=1 / norm)
            self._count += 1
        return norm

    def mean_cosine(self) -> float:
        """In [-1, 1]; NaN for fewer than two updates."""
        n = self._count
        return (_norm(self._sum) ** 2 - n) / (n * (n - 1)) if n > 1 else math.nan


def _norm(parts: Sequence[Tensor]) -> float:
    return float(torch.stack(torch._foreach_norm(list(parts))).double().square().sum().sqrt())


@torch.no_grad()
def distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Euclidean norm of the difference over the tensors that both have."""
    both = [name for name in a if name in b and a[name].is_floating_point()]
    return _norm(torch._foreach_sub([a[n].detach() for n in both], [b[n] for n in both]))


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
