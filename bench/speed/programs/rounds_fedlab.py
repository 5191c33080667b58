"""FedLab's rounds of federated averaging, its serial trainer in one process, with clients that train nothing."""

import argparse
import json
import time
from itertools import pairwise
from typing import Any

import torch
from fedlab.contrib.algorithm.basic_client import SGDSerialClientTrainer
from fedlab.contrib.algorithm.basic_server import SyncServerHandler
from fedlab.core.standalone import StandalonePipeline


class Net(torch.nn.Module):
    """Parameters alone."""

    def __init__(self, shapes: list[list[int]]) -> None:
        super().__init__()
        self.all = torch.nn.ParameterList(torch.randn(shape) for shape in shapes)


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


def main() -> None:
    """Print the seconds of each round, divided by the clients."""
    p = argparse.ArgumentParser()
    p.add_argument("--shapes", required=True)
    p.add_argument("--clients", type=int, required=True)
    p.add_argument("--rounds", type=int, required=True)
    options = p.parse_args()
    torch.set_num_threads(1)
    shapes = json.loads(options.shapes)
    server = Server(Net(shapes), options.rounds, 1.0)
    server.num_clients = options.clients
    StandalonePipeline(server, Untrained(Net(shapes), options.clients)).main()
    seconds = [(b - a) / options.clients for a, b in pairwise(server.ends)]
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
