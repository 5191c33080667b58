"""The one training loop: rounds of local training on one resident model, whatever the strategy.

A round asks the strategy for its hooks and knows nothing else of it. Clients are trained one after
another while the strategy's `aggregate` takes their uploads, so one model is in memory however many clients
there are. All randomness comes from streams named by client and round (`bench.seeds`): the order of clients,
other cells and restarts cannot change it, and every strategy sees the same draws.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.config.cell import ClientConfig, TrainingConfig
from bench.diffusion import ema
from bench.diffusion.config import EmaConfig
from bench.federation import mixture
from bench.federation.client_states import ClientStates
from bench.federation.ledger import Ledger, RoundRecord, VisitRecord
from bench.federation.participation import Outcome, Participant, draw_round
from bench.federation.tasks import Batch, Diverged, Task, mean_error
from bench.federation.tensors import Directions, copy_into, nbytes
from bench.seeds import Label, derive, torch_stream
from strategies.base import State, Strategy, Tensors, Upload, WeightedMean

Tick = Callable[[int], None]


@dataclass
class FederatedTraining:
    """A run of one strategy over clients, each a tensor of indices into the task's images.

    Attributes:
        net: the resident model on the task's device; its weights at construction are the initial global model.
        task: the images, their losses and their random numbers.
        clients: per client the indices (N_i,) of its images; sorted here, since an order of storage is no data.
        seed: root of all draws.
        folder: where clients' states lie between their visits.
        tick: called with the number of images of each batch, and of all before where a run goes on, for progress.
        ema: whether and how a moving average of the weights is kept, which is then evaluated.
        server: the strategy's state; `server["params"]` is the global model, see `strategies.base`.
        average: the moving average of the global model, None where none is kept.
        visits: the last round's, in the order of the clients' numbers.
        validation_errors: the last round's losses of each validation image (M,), whose mean is `validation_loss`.
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
    ema: EmaConfig = field(default_factory=EmaConfig)
    server: State = field(init=False)
    average: Tensors | None = field(init=False, default=None)
    visits: list[VisitRecord] = field(init=False, default_factory=list)
    validation_errors: Tensor = field(init=False, default_factory=lambda: torch.empty(0))
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
        """Train the rounds that are left, yielding the record of each.

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
            raw, loss = self._validation_losses(index)
            self._done, self._seconds = index + 1, self._seconds + time.perf_counter() - started
            yield self._record(index, raw, loss, self._seconds)

    def snapshot(self) -> State:
        """The state of the run between two rounds, for `restore`; the clients' states are on disk then."""
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
        self.tick(self._ledger.samples)

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
        """Local training of a round's cast and aggregation of the uploads; then the moving average."""
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

    def _validation_losses(self, index: int) -> tuple[float, float]:
        """Losses of the global model and of the model to be evaluated, which is left in `net`."""
        if self.strategy.personal:
            self.validation_errors = self._mixture_errors()
            raw = loss = mean_error(self.validation_errors)
        else:
            params = self.server["params"]
            copy_into(self._live, params)
            self.validation_errors = self.task.heldout_errors(self.net)
            raw = loss = mean_error(self.validation_errors)
            evaluated = self.evaluated()
            if any(tensor is not params[name] for name, tensor in evaluated.items()):
                copy_into(self._live, evaluated)
                self.validation_errors = self.task.heldout_errors(self.net)
                loss = mean_error(self.validation_errors)
        if not math.isfinite(raw + loss):
            raise Diverged(f"validation loss is {raw if math.isfinite(loss) else loss} after round {index + 1}")
        return raw, loss

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

    def _record(self, index: int, raw: float, loss: float, seconds: float) -> RoundRecord:
        arrived = [v for v in self.visits if v.outcome == "arrived"]
        samples = sum(v.samples for v in arrived)
        return RoundRecord(
            round=index + 1,
            train_loss=sum(v.loss_sum for v in arrived) / samples if arrived else math.nan,
            validation_loss=loss,
            validation_loss_raw=raw,
            drift=sum(v.drift for v in arrived) / len(arrived) if arrived else math.nan,
            update_cosine=self._directions.mean_cosine(),
            participants=len(self.visits),
            seconds=seconds,
            time=time.time(),
            **vars(self._ledger),
        )

    def _uploads(self, index: int, cast: Sequence[Participant]) -> Iterator[Upload]:
        """Train the round's participants one at a time, by number; yield the uploads that arrive."""
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
                self._train_locally(index, visit, down, state)
            visit.drift = self._directions.add(self._live, origin)
            up = self.strategy.upload(self._live, down, state["strategy"])
            self._keep_optimizer(state)
            self._states.put(who.client, state)
            visit.bytes_up = self._bytes(up)
            yield Upload(who.client, visit.n_samples, up)

    def _begin_visit(self, who: Participant, down: Tensors) -> VisitRecord:
        n_samples = len(self.clients[who.client])
        late = self._steps(n_samples, who.work) < self._steps(n_samples, 1.0)
        outcome: Outcome = (
            "failed" if who.fails else "dropped" if late and not self.strategy.partial_work else "arrived"
        )
        return VisitRecord(who.client, n_samples, who.work if late else 1.0, outcome, bytes_down=self._bytes(down))

    def _steps(self, n_samples: int, work: float) -> int:
        """Optimizer steps in that share of a client's local work, at least one."""
        return max(1, math.floor(work * self.training.steps(n_samples)))

    def _bytes(self, tensors: Tensors) -> int:
        """Bytes that travel one way: of the tensors, and of the moving average where clients keep one."""
        if self.strategy.centralized:
            return 0
        averages = nbytes(self.average) if self.average is not None and self.ema.mode == "client" else 0
        return nbytes(tensors) + averages

    def _train_locally(self, index: int, visit: VisitRecord, down: Tensors, state: State) -> None:
        """One client's local training in one round, as much as it has time for."""
        indices, size = self.clients[visit.client], self.training.batch_size
        epochs = self.training.local_epochs if self.training.local_steps is None else None
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
