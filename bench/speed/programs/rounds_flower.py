"""Flower's rounds of federated averaging, simulated on Ray by one actor, with clients that train nothing."""

import argparse
import json
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

client, server = ClientApp(), ServerApp()


def options() -> argparse.Namespace:
    """The command line, which the actors see, too."""
    p = argparse.ArgumentParser()
    p.add_argument("--shapes", default=os.environ.get("SHAPES"))
    p.add_argument("--clients", type=int, default=1)
    p.add_argument("--rounds", type=int, default=1)
    return p.parse_known_args()[0]


def state() -> dict[str, torch.Tensor]:
    """Parameters alone."""
    return {str(k): torch.randn(shape) for k, shape in enumerate(json.loads(os.environ["SHAPES"]))}


@client.train()
def train(message: Any, context: Any) -> Any:
    """All of a visit but its training."""
    live = {name: tensor.clone() for name, tensor in message.content["arrays"].to_torch_state_dict().items()}
    told = {"arrays": ArrayRecord(live), "metrics": MetricRecord({"num-examples": 1})}
    return Message(content=RecordDict(told), reply_to=message)


@server.main()
def main(grid: Any, context: Any) -> None:
    """Run the rounds and print the seconds of each, divided by the clients."""
    chosen, ends = options(), []
    n = chosen.clients
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=n, min_available_nodes=n)
    while len(list(grid.get_node_ids())) < n:
        time.sleep(0.05)

    def after(number: int, arrays: Any) -> None:
        ends.append(time.perf_counter())

    strategy.start(grid=grid, initial_arrays=ArrayRecord(state()), num_rounds=chosen.rounds, evaluate_fn=after)
    print(json.dumps({"seconds": [(b - a) / n for a, b in pairwise(ends)]}), flush=True)


if __name__ == "__main__":
    os.environ["SHAPES"] = options().shapes
    run_simulation(
        server,
        client,
        num_supernodes=options().clients,
        backend_name="ray",
        backend_config={
            "init_args": {"num_cpus": 1, "include_dashboard": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
