"""A strategy that ends its cell, or the process of its cell, in every way; it lies where workers can import it."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from strategies.base import State, Tensors
from strategies.fedavg import FedAvg

SIGNALS = {"is killed": signal.SIGKILL, "crashes": signal.SIGSEGV, "stops": signal.SIGSTOP}
FACTORS = {"diverges": float("nan"), "grows": float("inf")}


@dataclass(frozen=True)
class Odd(FedAvg):
    """FedAvg until a client sends its model.

    Attributes:
        way: what happens then.
        mended: a file; while it exists, nothing happens.
    """

    way: str = "raises"
    mended: str = ""

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        if not (self.mended and Path(self.mended).exists()):
            end(self.way)
            params = {name: tensor * FACTORS.get(self.way, 1.0) for name, tensor in params.items()}
        return super().upload(params, down, local)


def end(way: str) -> None:
    """Do it, where it is one of those that do not come back."""
    if way == "raises":
        raise ZeroDivisionError("on purpose")
    if way == "exits":
        raise SystemExit(3)
    if way == "leaves":
        os._exit(7)
    if way == "hangs":
        time.sleep(1000)
    if way == "wants memory":
        torch.empty(2**60)
    if way in SIGNALS:
        os.kill(os.getpid(), SIGNALS[way])
