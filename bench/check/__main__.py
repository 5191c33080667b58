"""The command line: laws tried on strategies and partitions. ``python -m bench.check --help`` tells all.

Exit codes: 0 no law is broken; 1 some are; 2 a name that cannot be loaded or a hyper-parameter that is wrong; 130
interrupted.
"""

import argparse
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
from rich.console import Console
from rich.table import Table
from rich.text import Text

import partitions
import strategies
from bench import command
from bench.check import partition_laws, toy
from bench.check.law import Outcome, Verdict, judge, summary
from bench.check.partition_laws import PARTITION_LAWS
from bench.check.strategy_laws import STRATEGY_LAWS
from bench.command import print_whole
from bench.config.errors import ConfigError
from bench.config.plugin import Plugin, plugin_parts, read_plugin, takes_beta
from bench.plugins import Registry, UnknownPlugin

REGISTRIES: dict[str, Registry[Any]] = {"strategy": strategies.registry, "partition": partitions.registry}
# Of shipped plugins that need to be told something, and packages without which one cannot be tried.
EXAMPLES = {("partition", "flower"): 'flower(partitioner="DirichletPartitioner", options={alpha=0.5})'}
PACKAGES = {("strategy", "flower"): "flwr", ("partition", "flower"): "flwr_datasets"}
PLURAL = {"strategy": "strategies", "partition": "partitions"}
COLOURS: dict[Outcome, str] = {"holds": "green", "broken": "bold red", "not claimed": "yellow", "not tried": "dim"}
BROKEN = 1


@dataclass(frozen=True)
class Candidate:
    """A strategy or a partition that was asked for.

    Attributes:
        kind: "strategy" or "partition".  text: how it was asked for.
    """

    kind: str
    text: str
    plugin: Plugin

    def make(self, beta: float) -> Any:
        """An instance, of that beta if it takes one."""
        return self.plugin.make(REGISTRIES[self.kind], beta)

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
        for kind, registry in REGISTRIES.items():
            console.print(f"{kind}: {', '.join(registry.names())}", soft_wrap=True, markup=False)
        return command.DONE
    candidates = [each for name in options.names for each in find(name, options.kind)]
    return report(candidates or list(everything(options.kind)), console)


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
    p.add_argument(
        "--kind", choices=list(REGISTRIES), help="of the names, where one is both a strategy's and a partition's"
    )
    p.add_argument("--list", action="store_true", help="print the names that there are; try nothing")
    return p


def everything(kind: str | None = None) -> Iterator[Candidate]:
    """All that has a name, with its defaults or as in `EXAMPLES`; a line says what cannot be tried here.

    Raises:
        ConfigError: as `find`.
    """
    for each in [kind] if kind else REGISTRIES:
        for name in REGISTRIES[each].names():
            needed = PACKAGES.get((each, name))
            if needed is not None and find_spec(needed) is None:
                print(f"left out: {each} {name}: the package {needed} is not installed", file=sys.stderr)
            else:
                yield from find(EXAMPLES.get((each, name), name), each)


def find(text: str, kind: str | None = None) -> list[Candidate]:
    """What goes by "name" or "name(parameter=value)": one mostly; two where a strategy and a partition both do.

    Raises:
        ConfigError: if nothing does, or its hyper-parameters are wrong.
    """
    name, _ = plugin_parts(text, "name")
    found, wrong = [], []
    for each in [kind] if kind else _kinds_of(name):
        try:
            found.append(_load(text, each))
        except ConfigError as error:
            wrong.append(str(error))
    if not found:
        raise ConfigError("; ".join(wrong))
    return found


def _kinds_of(name: str) -> list[str]:
    """Whether the name, or the class at a dotted path, is a strategy's, a partition's or both."""
    known = {kind: registry.names() for kind, registry in REGISTRIES.items()}
    if any(name in names for names in known.values()):
        return [kind for kind, names in known.items() if name in names]
    if ":" not in name:
        near = difflib.get_close_matches(name, itertools.chain(*known.values()), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        listed = "; ".join(f"{PLURAL[kind]}: {', '.join(names)}" for kind, names in known.items())
        raise ConfigError(f'no strategy or partition {name!r}{hint} {listed}; or your own as "package.module:Class"')
    wrong = {}
    for kind, registry in REGISTRIES.items():
        try:
            registry.load(name)
        except UnknownPlugin as error:
            wrong[kind] = str(error)
    if len(wrong) == len(REGISTRIES):
        raise ConfigError("; ".join(dict.fromkeys(wrong.values())))
    return [kind for kind in REGISTRIES if kind not in wrong]


def _load(text: str, kind: str) -> Candidate:
    name, given = plugin_parts(text, kind)
    try:
        cls = REGISTRIES[kind].load(name)
        if takes_beta(cls) and "beta" in given:
            raise ConfigError(f"{kind}: {text}: leave beta out; the laws try several")
        if takes_beta(cls) and "beta" not in cls.__dataclass_fields__:
            raise ConfigError(f"{kind}: {name}: uses_beta = True, but it has no field beta")
        candidate = Candidate(kind, text, read_plugin(text, kind, REGISTRIES[kind]))
        candidate.make(partition_laws.BETA)
    except (ConfigError, UnknownPlugin) as error:
        raise ConfigError(str(error)) from error
    except Exception as error:  # foreign code may raise anything while it is imported or made
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{kind}: {text}: it cannot be made: {what}") from error
    return candidate


def report(candidates: Sequence[Candidate], console: Console) -> int:
    """Try the laws on each and print a table; returns the exit code."""
    verdicts: list[Verdict] = []
    for candidate in candidates:
        with console.status(candidate.text):
            judged = list(candidate.verdicts())
        print_table(candidate, judged, console)
        verdicts += judged
    console.print(summary(verdicts))
    return BROKEN if any(verdict.outcome == "broken" for verdict in verdicts) else command.DONE


def print_table(candidate: Candidate, verdicts: Sequence[Verdict], console: Console) -> None:
    """A line a law: what it says where it holds, else what was found or why it is not claimed."""
    console.print(Text(f"{candidate.kind} {candidate.text}", style="bold"), soft_wrap=True)
    table = Table()
    table.add_column("law", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("what it says, or what was found")
    for verdict in verdicts:
        detail = Text(verdict.told or verdict.states, style="" if verdict.outcome == "broken" else "dim")
        table.add_row(verdict.law, Text(verdict.outcome, style=COLOURS[verdict.outcome]), detail)
    if console.is_terminal:
        console.print(table)
    else:  # in a file lines may be long, and are easier to search
        print_whole(console, table)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
