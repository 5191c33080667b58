"""A strategy outside the package, in ten lines: the one that writing_a_strategy.md builds."""

from dataclasses import dataclass
from typing import ClassVar

from strategies.fedavg import FedAvg


@dataclass(frozen=True)
class Damped(FedAvg):
    """FedAvg whose server moves only a part of the way to the clients' mean; `rate` 1 is FedAvg."""

    title: ClassVar[str] = "Damped FedAvg"
    convex: ClassVar[bool] = False
    alone_is_centralized: ClassVar[bool] = False

    rate: float = 0.5

    def aggregate(self, server, uploads):
        before = server["params"]
        super().aggregate(server, uploads)
        server["params"] = {name: before[name].lerp(mean, self.rate) for name, mean in server["params"].items()}
