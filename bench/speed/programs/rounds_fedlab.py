"""FedLab's serial trainer in one process."""

import time
from itertools import pairwise
from typing import Any

import torch
from fedlab.contrib.algorithm.basic_client import SGDSerialClientTrainer
from fedlab.contrib.algorithm.basic_server import SyncServerHandler
from fedlab.core.standalone import StandalonePipeline


class Untrained(SGDSerialClientTrainer):
    """All of a visit but its training."""

    def local_process(self, payload: Any, id_list: Any) -> None:
        for _ in id_list:
            self.set_model(payload[0])
            self.cache.append([self.model_parameters])


class Server(SyncServerHandler):
    """Notes when each round ends."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.ends = [time.perf_counter()]

    def global_update(self, buffer: Any) -> None:
        super().global_update(buffer)
        self.ends.append(time.perf_counter())


def seconds(shapes: list[list[int]], clients: int, rounds: int) -> list[float]:
    """Of each round."""
    one, other = (torch.nn.ParameterList(torch.randn(shape) for shape in shapes) for _ in range(2))
    server = Server(one, rounds, 1.0)
    server.num_clients = clients
    StandalonePipeline(server, Untrained(other, clients)).main()
    return [b - a for a, b in pairwise(server.ends)]
