"""Flower's simulation on Ray, by one actor."""

import os
import time
from itertools import pairwise
from typing import Any

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}

import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation


def seconds(shapes: list[list[int]], clients: int, rounds: int) -> list[float]:
    """Of each round."""
    client, server, ends = ClientApp(), ServerApp(), list[float]()

    @client.train()
    def train(message: Any, context: Any) -> Any:
        """All of a visit but its training."""
        live = {name: tensor.clone() for name, tensor in message.content["arrays"].to_torch_state_dict().items()}
        told = {"arrays": ArrayRecord(live), "metrics": MetricRecord({"num-examples": 1})}
        return Message(content=RecordDict(told), reply_to=message)

    @server.main()
    def main(grid: Any, context: Any) -> None:
        """Notes when each round ends."""
        state = {str(k): torch.randn(shape) for k, shape in enumerate(shapes)}
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
        while len(list(grid.get_node_ids())) < clients:
            time.sleep(0.05)
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(state),
            num_rounds=rounds,
            evaluate_fn=lambda *_: ends.append(time.perf_counter()),
        )

    run_simulation(
        server,
        client,
        num_supernodes=clients,
        backend_name="ray",
        backend_config={
            "init_args": {"num_cpus": 1, "include_dashboard": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    return [b - a for a, b in pairwise(ends)]
