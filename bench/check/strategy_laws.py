"""Laws of strategies on the real training loop. Each function raises `Broken` with a counterexample, or returns."""

from contextlib import suppress

import torch
from torch import Tensor

from bench.check.aggregation_laws import any_order, equal_models, memory
from bench.check.differences import copied, difference, number, state_difference, storages
from bench.check.law import Broken, Law, NotClaimed, claim, no_difference
from bench.check.random_state import seeded
from bench.check.toy import ROUNDS, SIZES, Subject, evaluated, finish, trained_in_one_place
from bench.check.watched import Guarded, Mean, Posted, Probed, Sealed, Watched, stranger
from bench.federation.ledger import RoundRecord
from bench.federation.rounds import FederatedTraining
from bench.federation.tasks import Diverged
from bench.federation.tensors import distance
from bench.store.states import State, load_state, save_state
from strategies.base import Tensors

ULPS = 4 * 2**-23  # of the largest size in a tensor: what rounding to float32 a few times may do
CPU = torch.device("cpu")


def trains(subject: Subject) -> None:
    """It takes every upload and leaves a whole, finite global model of the same names, shapes and types."""
    run = subject.run()
    try:
        subject.plain = run, _checked(run)
    except Diverged as error:
        with suppress(Diverged):
            finish(subject.run(Probed(subject.strategy)))  # which tells whether what it adds to gradients is to blame
        raise Broken(str(error)) from error


def missing_clients(subject: Subject) -> None:
    """So it does where clients are not drawn, are late or fail."""
    if subject.strategy.centralized:
        raise NotClaimed("centralized: there are no clients")
    _checked(subject.run(rounds=6, participation=0.7, sampling="poisson", stragglers=0.3, failures=0.2))


def _checked(run: FederatedTraining) -> RoundRecord:
    """Train to the end, looking at the global model after every round; the last record."""
    before = copied(run.server["params"])
    for record in run.rounds():
        params = run.server["params"]
        if params.keys() != before.keys():
            raise Broken(
                f"round {record.round}: names of the model changed: {sorted(params.keys() ^ before.keys())[:3]}"
            )
        for name, tensor in params.items():
            _check_tensor(f"round {record.round}: {name!r}", tensor, before[name])
    return record


def _check_tensor(what: str, found: Tensor, like: Tensor) -> None:
    kind, wanted = ((t.dtype, tuple(t.shape), t.requires_grad) for t in (found, like))
    if kind != wanted:
        raise Broken(f"{what} has type, shape and requires_grad {kind} instead of {wanted}")
    if not found.isfinite().all():
        raise Broken(f"{what} holds {number(found[~found.isfinite()][0])}")


def whole_models(subject: Subject) -> None:
    """What is evaluated are whole, finite models, of clients that were never visited, too; asking changes nothing."""
    run = subject.run(participation=0.34)
    like = copied(run.server["params"])
    for record in run.rounds():
        before = copied(run.server)
        models = list(run.models()) if run.strategy.personal else [run.evaluated()]
        for i, model in enumerate(models):
            whose = f"round {record.round}: client {i}'s" if run.strategy.personal else f"round {record.round}:"
            if model.keys() != like.keys():
                raise Broken(f"{whose} model has other names: {sorted(model.keys() ^ like.keys())[:3]}")
            for name, tensor in model.items():
                _check_tensor(f"{whose} {name!r}", tensor, like[name])
        no_difference(state_difference(run.server, before), f"round {record.round}: `model` changes the server's state")


def reports_numbers(subject: Subject) -> None:
    """What it reports are numbers by name."""
    report = subject.plain[0].report()
    for name, value in report.items():
        if not (isinstance(name, str) and isinstance(value, float | int)):
            raise Broken(f"`report` gives {name!r}: {value!r}")


@claim("convex")
def mean_by_images(subject: Subject) -> None:
    """The new global model is the mean of what clients trained, weighted by their numbers of images."""
    watched = Mean(subject.strategy)
    run = subject.run(watched, rounds=2)
    for record in run.rounds():
        params = _floating(run.server["params"])
        wrong = difference(params, watched.mean("images", params), ULPS)
        if wrong is not None:
            others = [k for k in ("batches", "clients") if not difference(params, watched.mean(k, params), ULPS)]
            instead = f"; it is their mean weighted by numbers of {others[0]}" if others else ""
            sizes = ", ".join(map(str, watched.sizes))
            raise Broken(f"round {record.round}, clients of {sizes} images: {wrong}{instead}")


def _floating(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}


@claim("zero", off={})
def zero_strength(subject: Subject) -> None:
    """At `zero` it ends as its first base class does, bit for bit."""
    run = subject.run(subject.at_zero)
    finish(run)
    where = f"after {ROUNDS} rounds at {_zero(subject)} against {subject.parent}"
    no_difference(difference(evaluated(run), subject.of_parent), where)


@claim("zero", off={})
def strength_acts(subject: Subject) -> None:
    """At its own strength it ends elsewhere than its first base class."""
    if subject.strategy == subject.at_zero:
        raise NotClaimed(f"it was given with {_zero(subject)}, at which nothing acts")
    if difference(evaluated(subject.plain[0]), subject.of_parent) is None:
        raise Broken(
            f"{subject.strategy} ends after {ROUNDS} rounds with the weights of {subject.parent}, bit for bit: "
            f"all {sum(t.numel() for t in subject.of_parent.values())} numbers differ by 0"
        )


def _zero(subject: Subject) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in subject.strategy.zero.items())


@claim("quadratic")
def quadratic(subject: Subject) -> None:
    """What it adds to local gradients is finite at the downloaded model, and affine in the weights."""
    finish(subject.run(Probed(subject.strategy), rounds=2))


@claim("alone_is_centralized")
def alone(subject: Subject) -> None:
    """One client that holds everything is centralized training: bit for bit if `convex`, else to rounding."""
    one = subject.run(subject.at_zero, sizes=[sum(SIZES)], keep=True)
    initial = copied(one.server["params"])
    finish(one)
    model = next(one.models()) if one.strategy.personal else one.evaluated()
    expected = trained_in_one_place()
    wrong = difference(model, expected)
    apart, moved = distance(model, expected), distance(expected, initial)
    if wrong is not None and (subject.strategy.convex or not apart < 1e-3 * moved):
        raise Broken(
            f"after {ROUNDS} rounds against centralized training: {wrong}; the two are {apart:.3g} apart, after moving "
            f"by {moved:.3g}"
        )


def remembers(subject: Subject) -> None:
    """What `server` and `local` hold comes back from disk as it was."""
    path = subject.folder / "state.safetensors"

    def check(whose: str, state: State) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_state(path, state)
        no_difference(
            state_difference(load_state(path, CPU), state), f"{whose} comes back from disk with other content"
        )

    class Stored(Watched):
        def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
            up = super().upload(params, down, local)
            check("`local`", local)
            return up

    run = subject.run(Stored(subject.strategy), rounds=2)
    for _ in run.rounds():
        check("`server`", run.server)


def resumes(subject: Subject) -> None:
    """A run that stopped after two rounds and goes on in another process ends as if it had not, bit for bit."""
    whole, _ = subject.plain
    first = subject.run()
    stopped = first.rounds()
    for _ in range(ROUNDS - 1):
        next(stopped)
    path = subject.folder / "run.safetensors"
    save_state(path, first.snapshot())
    second = subject.run(stranger(subject.strategy), folder=first.folder)
    second.restore(load_state(path, CPU))
    finish(second)
    where = f"after {ROUNDS} rounds with a stop after round {ROUNDS - 1} against none"
    no_difference(difference(evaluated(second), evaluated(whole)), where)
    no_difference(state_difference(second.server, whole.server), where)
    for client in range(len(whole.clients)):
        found, expected = (run._states.take(client) for run in (second, whole))
        no_difference(state_difference(found, expected), f"{where}: client {client}'s memory")


def no_aliasing(subject: Subject) -> None:
    """Downloads are never written to, and nothing kept shares memory with live parameters or with uploads."""
    watched = Guarded(subject.strategy)
    run = subject.run(watched, rounds=2)
    watched.live.update(storages({**dict(run.net.named_parameters()), **dict(run.net.named_buffers())}))
    finish(run)


def only_what_is_sent(subject: Subject) -> None:
    """Server and clients share nothing but the tensors that travel, and the ledger counts their bytes."""
    if subject.strategy.centralized:
        raise NotClaimed("centralized: nothing travels")
    posted = Posted(subject.strategy)
    run, (plain, record) = subject.run(posted), subject.plain
    finish(run)
    wrong = difference(evaluated(run), evaluated(plain))
    if wrong is not None:
        raise Broken(
            f"after {ROUNDS} rounds in which server and clients share nothing but bytes, against an ordinary run: "
            f"{wrong}; something went past the ledger, or depends on the order of names"
        )
    for way, counted in (("down", record.bytes_down), ("up", record.bytes_up)):
        if posted.travelled[way] != counted:
            raise Broken(f"{posted.travelled[way]} bytes travel {way}, and the ledger counts {counted}")


def repeatable(subject: Subject) -> None:
    """Runs with the same seed are equal bit for bit; no global generator is drawn from, and none matters."""
    run = subject.run(Sealed(subject.strategy))
    with seeded(1):
        finish(run)
    where = f"after {ROUNDS} rounds with the global generators seeded against without"
    no_difference(difference(evaluated(run), evaluated(subject.plain[0])), where)


STRATEGY_LAWS: tuple[Law, ...] = (
    trains,
    missing_clients,
    whole_models,
    reports_numbers,
    mean_by_images,
    any_order,
    equal_models,
    zero_strength,
    strength_acts,
    quadratic,
    alone,
    remembers,
    resumes,
    no_aliasing,
    only_what_is_sent,
    memory,
    repeatable,
)
