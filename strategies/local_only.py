"""Local training without any exchange: the lower line that every federated strategy has to beat."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from strategies.base import State, Strategy, Tensors, Upload


@dataclass(frozen=True)
class LocalOnly(Strategy):
    """Each client trains a model of its own from the common initial one; nothing travels.

    Clients that do not take part in a round do not train in it, so at a participation below 1 each sees fewer images.
    A straggler's partial work is dropped, as FedAvg does.
    """

    title: ClassVar[str] = "Local only"
    convex: ClassVar[bool] = False

    @property
    def personal(self) -> bool:
        return True

    def download(self, server: State, client: int) -> Tensors:
        return {}

    def start(self, down: Tensors, local: State) -> Tensors:
        return dict(local.get("params", {}))

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        local["params"] = {name: p.detach().clone() for name, p in params.items()}
        return {}

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        """Let every client train; the server's model stays the initial one."""
        for _ in uploads:
            pass

    def model(self, server: State, local: State) -> Tensors:
        return {**server["params"], **local.get("params", {})}
