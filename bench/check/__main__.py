"""The command line: laws tried on strategies and partitions. ``python -m bench.check --help`` tells all.

Exit codes: 0 no law is broken; 1 some are; 2 a name that cannot be loaded or a hyper-parameter that is wrong; 130
interrupted.
"""

import argparse
import sys
from collections.abc import Sequence

from bench import command

KINDS = ("strategy", "partition")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    options = parser().parse_args(arguments)
    return command.run(lambda: work(options))


def work(options: argparse.Namespace) -> int:
    """List the names, or try the laws; returns the exit code."""
    from bench.check.candidates import REGISTRIES, everything, find

    if options.list:
        for kind, registry in REGISTRIES.items():
            print(f"{kind}: {', '.join(registry.names())}")
        return command.DONE
    candidates = [each for name in options.names for each in find(name, options.kind)]
    candidates = candidates or list(everything(options.kind))
    from rich.console import Console

    from bench.check.report import report  # torch, seconds

    return report(candidates, Console(highlight=False))


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command.parser("bench.check")
    p.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help='e.g. fedavg, "fedprox(mu=0.1)", dirichlet, or your own "package.module:Class(parameter=value)"; '
        "without a name, everything that has one",
    )
    p.add_argument("--kind", choices=KINDS, help="of the names, where one is both a strategy's and a partition's")
    p.add_argument("--list", action="store_true", help="print the names that there are; try nothing")
    return p


if __name__ == "__main__":
    sys.exit(main())
