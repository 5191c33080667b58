"""Laws of `aggregate` alone, on uploads that the strategy's own hooks make."""

import itertools

import torch

from bench.check.differences import copied, difference, tensors_in
from bench.check.law import Broken, claim, no_difference
from bench.check.memory import peak_bytes
from bench.check.toy import SIZES, Subject, aggregated, visit, visits
from bench.federation.tensors import nbytes
from strategies.base import Strategy, Upload

CANCELLING = (1e8, 1.0, -1e8)  # in float32 their sum is 0 or 1, by the order
ROUNDING = 1e-4
FEW, MANY = 4, 12
WIDTH = 32  # of a network so large that Python's own objects do not count beside it


@claim("any_order")
def any_order(subject: Subject) -> None:
    """The order in which uploads arrive changes nothing beyond rounding, whatever their sizes."""
    server = subject.server(len(SIZES))
    ordinary = list(visits(subject.strategy, server, SIZES))
    _check_orders(subject.strategy, server, ordinary, "models near one another")
    params = server["params"]
    extreme = [
        Upload(i, 10, visit(subject.strategy, server, i, {n: torch.full_like(t, value) for n, t in params.items()}))
        for i, value in enumerate(CANCELLING)
    ]
    _check_orders(subject.strategy, server, extreme, f"models of {', '.join(f'{value:g}' for value in CANCELLING)}")


def _check_orders(strategy: Strategy, server: dict, uploads: list[Upload], what: str) -> None:
    expected = tensors_in(aggregated(strategy, server, uploads))
    for order in itertools.permutations(uploads):
        found = tensors_in(aggregated(strategy, server, order))
        arrival = ", ".join(str(upload.client) for upload in order)
        where = f"{what}, clients arriving as {arrival} against 0, 1, 2"
        no_difference(difference(found, expected, ROUNDING), where)


@claim("keeps_equal")
def equal_models(subject: Subject) -> None:
    """In a first round whose uploads all are the global model it stays: bit for bit if `convex`, else to rounding."""
    slack = 0.0 if subject.strategy.convex else 1e-5
    for sizes in (SIZES, (5,), tuple(range(1, 11))):
        server = subject.server(len(sizes))
        uploads = [Upload(i, n, visit(subject.strategy, server, i)) for i, n in enumerate(sizes)]
        after = aggregated(subject.strategy, server, uploads)
        wrong = difference(after["params"], server["params"], slack)
        if wrong is not None:
            raise Broken(f"{len(sizes)} clients of {sizes} images all send the global model back; the new {wrong}")


@claim("streams")
def memory(subject: Subject) -> None:
    """`aggregate` needs no more memory for more clients."""

    def peak(uploads: int) -> int:
        server, sizes = subject.server(uploads, WIDTH), [5] * uploads
        after = copied(server)
        return peak_bytes(lambda: subject.strategy.aggregate(after, visits(subject.strategy, server, sizes)))

    model = nbytes(subject.server(1, WIDTH)["params"])
    few, many = peak(FEW), peak(MANY)
    if many - few > model / 2:
        raise Broken(
            f"it needs {few / 1e6:.2f} MB at once with {FEW} uploads and {many / 1e6:.2f} MB with {MANY}, "
            f"where one model has {model / 1e6:.2f} MB"
        )
