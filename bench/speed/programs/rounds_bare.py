"""Rounds of federated averaging as the shortest loop in PyTorch, without training: copy the model, add it up."""

import argparse
import json
import time

import torch


def main() -> None:
    """Print the seconds of each round, divided by the clients."""
    p = argparse.ArgumentParser()
    p.add_argument("--shapes", required=True)
    p.add_argument("--clients", type=int, required=True)
    p.add_argument("--rounds", type=int, required=True)
    options = p.parse_args()
    torch.set_num_threads(1)
    live = [torch.randn(shape) for shape in json.loads(options.shapes)]
    state, seconds = [tensor.clone() for tensor in live], []
    for _ in range(options.rounds):
        began = time.perf_counter()
        total = [torch.zeros_like(tensor) for tensor in live]
        for _ in range(options.clients):
            torch._foreach_copy_(live, state)
            torch._foreach_add_(total, live, alpha=1 / options.clients)
        state = total
        seconds.append((time.perf_counter() - began) / options.clients)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
