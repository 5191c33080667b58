"""What the commands share: argparse types, exit codes, messages, wide tables."""

import argparse
import threading
from collections.abc import Callable

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from bench.store.files import Damaged

ODD = (Damaged, KeyError, IndexError, TypeError, ValueError, ArithmeticError)  # of records that are not as they should


def whole(least: int) -> Callable[[str], int]:
    """For argparse, a whole number from `least`."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    number.__name__ = "whole number"  # as argparse calls it in its message
    return number


def seconds(text: str) -> float:
    """For argparse, a time above 0."""
    value = float(text)
    if not 0 < value < threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"must be above 0 and finite, got {text}")
    return value


def odd_record(where: str, error: BaseException) -> str:
    """What to say of one of `ODD`."""
    told = f"{type(error).__name__}: {error}"
    return f"a record {where} is not as it should be: {told}: were they written by another version?"


def terminal_text(text: str) -> Text:
    """`text` as it is, with question marks for control characters: it can neither colour nor move nor retitle."""
    return Text("".join(c if c.isprintable() else "?" for c in text))


def print_whole(console: Console, table: Table) -> None:
    """Print a table at its full width: where the terminal is narrower its lines run on, and no number is cut."""
    needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    wide = Console(width=max(needed, console.width), quiet=console.quiet, force_terminal=console.is_terminal)
    wide.print(table, crop=False)
