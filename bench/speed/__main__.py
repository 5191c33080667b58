"""The command line: how fast the harness is, beside its peers. ``python -m bench.speed --help`` tells all.

Exit codes: 0 measured; 1 a program failed; 2 a mistake; 130 interrupted.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench import command
from bench.config.errors import ConfigError
from bench.plugins import allowed
from bench.speed import commands, networks, rounds
from bench.speed.measure import Row
from bench.store.files import write_bytes

FORMAT = 1  # of the JSON file


def _networks(part: str, o: argparse.Namespace) -> list[Row]:
    """A part that networks of peers do, too."""
    return networks.measure(part, o.shapes, _peers(o, networks.PEERS), o.device, o.repeats, o.timeout)


MEASURES: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "rounds": lambda o: rounds.measure(o.clients, _peers(o, rounds.PEERS), o.repeats, o.timeout),
    "step": lambda o: _networks("step", o),
    "sampling": lambda o: _networks("sampling", o),
    "scores": lambda o: commands.scores(o.device, o.repeats, o.timeout),
    "start": lambda o: commands.start(o.repeats, o.timeout),
    "grid": lambda o: commands.grid(o.repeats, o.timeout),
}
PARTS, PEERS = tuple(MEASURES), (*rounds.PEERS, *networks.PEERS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    options = parser().parse_args(arguments)
    return command.run(lambda: work(options))


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command.parser("bench.speed")
    p.add_argument("--only", type=_parts, default=PARTS, metavar="PART,...", help=f"of {', '.join(PARTS)}")
    p.add_argument(
        "--peer", type=_peer, action="append", default=[], metavar="NAME=PYTHON",
        help=f"measure a peer beside, with the Python in whose environment it is installed; of {', '.join(PEERS)}",
    )  # fmt: skip
    p.add_argument(
        "--clients", type=_numbers, default=(5, 50, 500, 5000), metavar="N,...",
        help="of rounds (default: 5,50,500,5000); peers are measured to 500",
    )  # fmt: skip
    p.add_argument("--shapes", type=_shapes, default=("small",), metavar="NAME,...", help="of networks: small, paper")
    p.add_argument("--device", default="cpu", help="of networks and scores (default: cpu)")
    p.add_argument("--repeats", type=command.whole(1), default=3, metavar="N", help="of everything (default: 3)")
    p.add_argument("--timeout", type=command.seconds, default=600, metavar="S", help="of a program (default: 600)")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    p.add_argument("--against", type=Path, metavar="FILE", help="show the numbers of such a file beside")
    return p


def work(options: argparse.Namespace) -> int:
    """Measure, show and write; returns the exit code.

    Raises:
        ConfigError: for a file that cannot be read or written, or a Python that is not there.
    """
    for name, python in options.peer:
        if not Path(python).is_file():
            raise ConfigError(
                f"--peer {name}={python}: there is no such file; it is the Python of the peer's environment"
            )
    before = _read(options.against) if options.against else {}
    if options.json:
        _check_writable(options.json)
    from bench.speed.table import show  # rich

    found: list[Row] = []
    for part in options.only:
        with command.working(f"measuring {part}"):
            found += MEASURES[part](options)
    show(found, before, command.console())
    if options.json:
        told = {"format": FORMAT, "machine": machine(options.device), "rows": [asdict(row) for row in found]}
        write_bytes(options.json, (json.dumps(told, indent=1) + "\n").encode())
    return command.FAILED if any(row.failed for row in found) else command.DONE


def _peers(options: argparse.Namespace, known: Mapping[str, str]) -> dict[str, str]:
    """Those that were asked for of the ones that can do it: their Pythons, by name."""
    return {name: python for name, python in options.peer if name in known}


def machine(device: str) -> dict[str, object]:
    """What the numbers are of: the code's commit, packages, processor."""
    from bench.cell.environment import describe

    return describe(device) | {"cores": os.cpu_count(), "time": f"{datetime.now(UTC):%Y-%m-%d %H:%M}"}


def _read(path: Path) -> dict[str, float]:
    """Values by row of an earlier run."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise ConfigError(
                f"--against {path}: format {told['format']} is of another version; this one reads {FORMAT}"
            )
        rows = [Row(**row) for row in told["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--against {path}: not a file of `feddiff-bench speed --json`: {error}") from error
    return {row.key: row.value for row in rows if row.value is not None}


def _check_writable(path: Path) -> None:
    """Raise ConfigError now rather than after an hour."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--json {path}: cannot be written")


# ------------------------------------------------------------------------------------------------ types of options


def _chosen(text: str, names: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    for name in chosen:
        if name not in names:
            raise argparse.ArgumentTypeError(f"no {name!r}{allowed(name, names)}")
    return chosen


def _parts(text: str) -> tuple[str, ...]:
    return _chosen(text, PARTS)


def _shapes(text: str) -> tuple[str, ...]:
    return _chosen(text, tuple(networks.SHAPES))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(command.whole(1)(part) for part in text.split(","))


def _peer(text: str) -> tuple[str, str]:
    name, equals, python = text.partition("=")
    _chosen(name, PEERS)
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: not NAME=PYTHON with the path of a Python")
    return name, python


if __name__ == "__main__":
    sys.exit(main())
