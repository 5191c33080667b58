"""The laws tried on each candidate, and a table of what was found."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.check import partition_laws, strategy_laws, toy
from bench.check.candidates import Candidate
from bench.check.law import BETA, Outcome, Verdict, judge, summary
from bench.command import DONE, FAILED, print_whole

COLOURS: dict[Outcome, str] = {"holds": "green", "broken": "bold red", "not claimed": "yellow", "not tried": "dim"}


def report(candidates: Sequence[Candidate], console: Console) -> int:
    """Try the laws on each and print a table; returns the exit code."""
    torch.set_num_threads(1)
    verdicts: list[Verdict] = []
    for candidate in candidates:
        with console.status(candidate.text):
            judged = list(verdicts_on(candidate))
        print_table(candidate, judged, console)
        verdicts += judged
    console.print(summary(verdicts))
    return FAILED if any(verdict.outcome == "broken" for verdict in verdicts) else DONE


def print_table(candidate: Candidate, verdicts: Sequence[Verdict], console: Console) -> None:
    """A line a law: its statement where it holds, else the counterexample or why it is not claimed."""
    console.print(Text(f"{candidate.kind} {candidate.text}", style="bold"), soft_wrap=True)
    table = Table()
    table.add_column("law", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("what it says, or what was found")
    for verdict in verdicts:
        detail = Text(verdict.reason or verdict.states, style="" if verdict.outcome == "broken" else "dim")
        table.add_row(verdict.law, Text(verdict.outcome, style=COLOURS[verdict.outcome]), detail)
    if console.is_terminal:
        console.print(table)
    else:  # in a file lines may be long, and are easier to search
        print_whole(console, table)


def verdicts_on(candidate: Candidate) -> Iterator[Verdict]:
    """On all laws of its kind, one after the other."""
    if candidate.kind == "partition":
        yield from judge(partition_laws.PARTITION_LAWS, partition_laws.PartitionSubject(candidate.make))
        return
    with tempfile.TemporaryDirectory() as folder:
        yield from judge(strategy_laws.STRATEGY_LAWS, toy.Subject(candidate.make(BETA), Path(folder)))
