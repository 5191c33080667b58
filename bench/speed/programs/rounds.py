"""Rounds of federated averaging over clients that train nothing, by the program that is named: ``rounds_NAME.py``.

Its ``seconds(shapes, clients, rounds)`` gives what each round took, for a model whose parameters have these shapes.
"""

import argparse
import importlib
import json

import torch


def main() -> None:
    """Print the seconds of each round, divided by the clients."""
    p = argparse.ArgumentParser()
    p.add_argument("--program", required=True)
    p.add_argument("--shapes", type=json.loads, required=True)
    p.add_argument("--clients", type=int, required=True)
    p.add_argument("--rounds", type=int, required=True)
    options = p.parse_args()
    torch.set_num_threads(1)
    program = importlib.import_module(f"rounds_{options.program}")  # beside this file, in whatever environment
    seconds = program.seconds(options.shapes, options.clients, options.rounds)
    print(json.dumps({"seconds": [each / options.clients for each in seconds]}), flush=True)


if __name__ == "__main__":
    main()
