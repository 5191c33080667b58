"""What a round costs beside its training: seconds a client, and memory over the number of clients."""

import json
from collections.abc import Mapping, Sequence

from bench.speed.measure import Program, Row, interleaved, milliseconds, rows

OWN = {"bare": "bare loop", "harness": "this harness"}
PEERS = {"pfl": "pfl-research", "flower": "Flower's simulation", "fedlab": "FedLab"}
SIZES = {"0.26 M": ((16, 32, 32), 1), "3.4 M": ((32, 64, 128), 2)}  # parameters: widths and blocks of a U-Net
ROUNDS = 5
FEW = 500  # clients, beyond which peers that keep every model take more than a machine


def measure(clients: Sequence[int], interpreters: Mapping[str, str], repeats: int, timeout: float) -> list[Row]:
    """Milliseconds a client and round, and peak memory, of this harness beside the bare loop and the peers at hand.

    Args:
        interpreters: of peers, by name.
    """
    found = []
    for parameters, (widths, blocks) in SIZES.items():
        shapes = json.dumps(_shapes(widths, blocks))
        for n in clients:
            shown = f"{parameters} parameters, {n} clients"
            samples = interleaved(_programs(shapes, n, interpreters), repeats, timeout)
            found += rows("rounds", f"a client's visit without training, {shown}", "ms", samples, milliseconds)
            found += rows("rounds", f"peak memory, {shown}", "MB", samples, lambda sample: sample.peak)
    return found


def _shapes(widths: tuple[int, ...], blocks: int) -> list[list[int]]:
    """Of the parameters of a U-Net."""
    from bench.diffusion.unet import UNet  # torch, seconds

    attention = (*[False] * (len(widths) - 1), True)
    return [list(p.shape) for p in UNet(1, widths, attention, blocks=blocks, groups=8).parameters()]


def _programs(shapes: str, clients: int, interpreters: Mapping[str, str]) -> list[Program]:
    rounds = max(2, min(ROUNDS, 1000 // clients))
    asked = ("--shapes", shapes, "--clients", str(clients), "--rounds", str(rounds))
    own = [Program(name, "rounds", ("--program", program, *asked)) for program, name in OWN.items()]
    peers = interpreters if clients <= FEW else {}
    return own + [Program(PEERS[name], "rounds", ("--program", name, *asked), python) for name, python in peers.items()]
