"""What the commands share: their names, exit codes, one frame around their work, argparse types, wide tables."""

import argparse
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from bench import __version__
from bench.config.errors import ConfigError
from bench.plugins import allowed, hint
from bench.store.files import Damaged

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Message = Callable[[Any], str]  # of an error, in one line
DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
ODD = (Damaged, KeyError, IndexError, TypeError, ValueError, ArithmeticError)  # errors over records of another version


class Command(NamedTuple):
    """A command: the module that ``python -m`` runs, and what it does in a sentence."""

    module: str
    about: str


COMMANDS = {
    "run": Command("bench.grid", "Run a grid of federated diffusion experiments."),
    "tune": Command(
        "bench.tune",
        "Tune every strategy of a grid with the same number of trials, and write the grid of what was chosen.",
    ),
    "report": Command("bench.report", "Write tables, figures and a page of a grid's results; nothing is run."),
    "compare": Command("bench.compare", "Set the results of two folders side by side, pair by pair."),
    "verify": Command(
        "bench.verify",
        "Run finished cells of a grid once more, elsewhere, and compare every number with those recorded.",
    ),
    "check": Command("bench.check", "Try the laws that strategies and partitions obey, and show what breaks them."),
    "data": Command("bench.data", "Check that a data set is whole; fetch it if asked."),
    "speed": Command("bench.speed", "Measure how fast the harness is, beside its peers, in one run."),
    "train-extractor": Command(
        "bench.fidelity.train_mnist_cnn", "Train the shipped digit classifier, whose features scores are of, anew."
    ),
}


class Parser(argparse.ArgumentParser):
    """A parser with the option --version, whose mistakes are one line."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.add_argument("--version", action="version", version=f"federated-diffusion-bench {__version__}")

    def error(self, message: str) -> NoReturn:
        """Print the message with a hint, and exit with code 2."""
        if message.startswith("unrecognized arguments"):
            options = [word.partition("=")[0] for word in message.split() if word.startswith("--")]
            message += "".join(hint(option, self._option_string_actions) for option in options)
        self.exit(WRONG, f"{self.prog}: error: {ConfigError(message)}; --help lists the options\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse's, with the message of every wrong name."""
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"got {value!r}{allowed(str(value), action.choices)}")


def parser(module: str) -> Parser:
    """The parser of the command of ``python -m module``."""
    name, about = next((name, each.about) for name, each in COMMANDS.items() if each.module == module)
    return Parser(f"feddiff-bench {name}", description=about, epilog=f"The same as python -m {module}.")


def run(
    work: Callable[[], int],
    interrupted: str = "interrupted",
    known: Mapping[type[Exception], Message] | None = None,
    code: int = WRONG,
) -> int:
    """Do a command's work; returns its exit code.

    A `ConfigError` is one line and exit code 2, an interrupt one line and 130.

    Args:
        interrupted: the line after an interrupt.
        known: further errors that are one line, with what makes it; the first that fits.
        code: the exit code of those.
    """
    known = known or {}
    try:
        return work()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return INTERRUPTED
    except tuple(known) as error:
        message = next(message for kind, message in known.items() if isinstance(error, kind))
        print(f"error: {message(error)}", file=sys.stderr)
        return code


def odd_records(where: str) -> dict[type[Exception], Message]:
    """For `run`: errors over records that lie `where` and are not as this version writes them."""

    def message(error: Exception) -> str:
        what = str(error) if isinstance(error, Damaged) else f"{type(error).__name__}: {error}"
        return f"a record {where} is not as it should be: {what}: were they written by another version?"

    return dict.fromkeys(ODD, message)


# ------------------------------------------------------------------------------------------------ types of options


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


# --------------------------------------------------------------------------------------------------- the terminal


def terminal_text(text: str) -> "Text":
    """`text` as it is, with question marks for control characters: it can neither colour nor move nor retitle."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() else "?" for c in text))


def console(**settings: Any) -> "Console":
    """A console, with rich's settings, that prints every text as it is, in a line of any length."""
    from rich.console import Console

    return Console(highlight=False, markup=False, soft_wrap=True, **settings)


@contextmanager
def working(text: str, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Say on standard error what the command does meanwhile; on a terminal with a spinner, which goes when it is done.

    Yields a function that adds a word on how far it is, for terminals.
    """
    errors = console(stderr=True, quiet=quiet)
    if not errors.is_terminal:
        errors.print(f"{text} ...")
        yield lambda _: None
        return
    with errors.status(terminal_text(f"{text} ...")) as status:
        yield lambda detail: status.update(terminal_text(f"{text}: {detail} ..."))


def print_whole(console: "Console", table: "Table") -> None:
    """Print a table at its full width: where the terminal is narrower its lines run on, and no number is cut."""
    from rich.console import Console
    from rich.measure import Measurement

    needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    wide = Console(width=max(needed, console.width), quiet=console.quiet, force_terminal=console.is_terminal)
    wide.print(table, crop=False)
