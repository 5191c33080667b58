"""The command line: laws tried on strategies and partitions. ``python -m bench.check --help`` tells all.

Exit codes: 0 no law is broken; 1 some are; 2 a name that cannot be loaded or a hyper-parameter that is wrong; 130
interrupted.
"""

import argparse
import dataclasses
import difflib
import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

import partitions
import strategies
from bench import command
from bench.check import partition_laws, toy
from bench.check.law import Outcome, Verdict, judge, summary
from bench.check.partition_laws import PARTITION_LAWS
from bench.check.strategy_laws import STRATEGY_LAWS
from bench.config.errors import ConfigError
from bench.config.grid_file import plugin_parts, read_plugin
from bench.plugins import UnknownPlugin

ROOMS: dict[str, Any] = {"strategy": strategies, "partition": partitions}
# Of shipped plugins that need to be told something, and packages without which one cannot be tried.
EXAMPLES = {("partition", "flower"): 'flower(partitioner="DirichletPartitioner", options={alpha=0.5})'}
PACKAGES = {("strategy", "flower"): "flwr", ("partition", "flower"): "flwr_datasets"}
PLURAL = {"strategy": "strategies", "partition": "partitions"}
COLOURS: dict[Outcome, str] = {"holds": "green", "broken": "bold red", "not claimed": "yellow", "not tried": "dim"}
BROKEN = 1


@dataclass(frozen=True)
class Plugin:
    """A strategy or a partition that was found.

    Attributes:
        kind: "strategy" or "partition".  name: as it was asked for.  params: its hyper-parameters but for beta.
    """

    kind: str
    name: str
    cls: type
    params: dict[str, Any]

    def make(self, beta: float) -> Any:
        """An instance, of that beta if it takes one."""
        more = {"beta": beta} if getattr(self.cls, "uses_beta", False) else {}
        return TypeAdapter(self.cls).validate_python(self.params | more)

    def verdicts(self) -> Iterator[Verdict]:
        """On all laws of its kind, one after the other."""
        if self.kind == "partition":
            yield from judge(PARTITION_LAWS, partition_laws.Subject(self.make))
            return
        with tempfile.TemporaryDirectory() as folder:
            yield from judge(STRATEGY_LAWS, toy.Subject(self.make(partition_laws.BETA), Path(folder)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    options = parser().parse_args(arguments)
    return command.run(lambda: work(options))


def work(options: argparse.Namespace) -> int:
    """List the names, or try the laws; returns the exit code."""
    console = Console(highlight=False)
    if options.list:
        for kind, room in ROOMS.items():
            console.print(f"{kind}: {', '.join(room.registry.names())}", soft_wrap=True, markup=False)
        return command.DONE
    plugins = [found for name in options.names for found in find(name, options.kind)]
    return report(plugins or list(everything(options.kind)), console)


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = command.parser("bench.check", "Try the laws that strategies and partitions obey, and show what breaks them.")
    p.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help='e.g. fedavg, "fedprox(mu=0.1)", dirichlet, or your own "package.module:Class(parameter=value)"; '
        "without a name, everything that has one",
    )
    p.add_argument("--kind", choices=list(ROOMS), help="of the names, where one is both a strategy's and a partition's")
    p.add_argument("--list", action="store_true", help="print the names that there are; try nothing")
    return p


def everything(kind: str | None = None) -> Iterator[Plugin]:
    """All that has a name, with its defaults or as in `EXAMPLES`; what cannot be tried here is told.

    Raises:
        ConfigError: as `find`.
    """
    for each in [kind] if kind else ROOMS:
        for name in ROOMS[each].registry.names():
            needed = PACKAGES.get((each, name))
            if needed is not None and find_spec(needed) is None:
                print(f"left out: {each} {name}: the package {needed} is not installed", file=sys.stderr)
            else:
                yield from find(EXAMPLES.get((each, name), name), each)


def find(text: str, kind: str | None = None) -> list[Plugin]:
    """What goes by "name" or "name(parameter=value)": one mostly; two where a strategy and a partition both do.

    Raises:
        ConfigError: if nothing does, or its hyper-parameters are wrong.
    """
    name, _ = plugin_parts(text, "name")
    kinds = [kind] if kind else [each for each, room in ROOMS.items() if name in room.registry.names()]
    found, wrong = [], []
    for each in kinds or _kinds_of(name):
        try:
            found.append(_load(text, each))
        except ConfigError as error:
            wrong.append(str(error))
    if not found:
        raise ConfigError("; ".join(wrong))
    return found


def _kinds_of(path: str) -> list[str]:
    """Of what a dotted path leads to."""
    if ":" not in path:
        known = {each: room.registry.names() for each, room in ROOMS.items()}
        near = difflib.get_close_matches(path, itertools.chain(*known.values()), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        listed = "; ".join(f"{PLURAL[each]}: {', '.join(names)}" for each, names in known.items())
        raise ConfigError(f'no strategy or partition {path!r}{hint} {listed}; or your own as "package.module:Class"')
    kinds, wrong = [], []
    for each, room in ROOMS.items():
        try:
            room.load(path)
            kinds.append(each)
        except ValueError as error:
            wrong.append(str(error))
    if not kinds:
        raise ConfigError("; ".join(dict.fromkeys(wrong)))
    return kinds


def _load(text: str, kind: str) -> Plugin:
    name, given = plugin_parts(text, kind)
    try:
        cls = ROOMS[kind].load(name)
        if kind == "partition" and cls.uses_beta:
            if "beta" in given:
                raise ConfigError(f"{kind}: {text}: leave beta out; the laws try several")
            if not any(item.name == "beta" for item in dataclasses.fields(cls)):
                raise ConfigError(f"{kind}: {name}: uses_beta = True, but it has no field beta")
        found = Plugin(kind, text, cls, read_plugin(text, kind, ROOMS[kind])["params"])
        found.make(partition_laws.BETA)
    except (ConfigError, UnknownPlugin) as error:
        raise ConfigError(str(error)) from error
    except Exception as error:  # what foreign code raises when it is imported or made is told, whatever it is
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{kind}: {text}: it cannot be made: {told}") from error
    return found


def report(plugins: Sequence[Plugin], console: Console) -> int:
    """Try the laws on each and print a table; returns the exit code."""
    verdicts: list[Verdict] = []
    for plugin in plugins:
        with console.status(plugin.name):
            told = list(plugin.verdicts())
        print_table(plugin, told, console)
        verdicts += told
    console.print(summary(verdicts))
    return BROKEN if any(verdict.outcome == "broken" for verdict in verdicts) else command.DONE


def print_table(plugin: Plugin, verdicts: Sequence[Verdict], console: Console) -> None:
    """A line a law: what it says where it holds, else what was found or why it is not claimed."""
    console.print(Text(f"{plugin.kind} {plugin.name}", style="bold"), soft_wrap=True)
    table = Table()
    table.add_column("law", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("what it says, or what was found")
    for verdict in verdicts:
        colour = COLOURS[verdict.outcome]
        told = Text(verdict.told or verdict.states, style="" if verdict.outcome == "broken" else "dim")
        table.add_row(verdict.law, Text(verdict.outcome, style=colour), told)
    if not console.is_terminal:  # in a file lines may be long, and are easier to search
        width = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
        console = Console(width=max(width, console.width))
    console.print(table)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
