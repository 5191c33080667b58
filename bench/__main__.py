"""The console script ``feddiff-bench``, the same as ``python -m bench``: one entry to all commands.

``feddiff-bench COMMAND ...`` is ``python -m`` with the command's module; ``feddiff-bench --help`` lists them.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import command
from bench.command import COMMANDS
from bench.plugins import allowed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0].startswith("-") and any(word.partition("=")[0] == "--grid" for word in words):
        words = ["run", *words]  # as the script took its options before it had commands
    if words and words[0] in COMMANDS:
        search_working_folder()
        return run_module(COMMANDS[words[0]].module, words[1:])
    p = parser()
    if words and not words[0].startswith("-"):
        p.error(f"no command {words[0]!r}{allowed(words[0], COMMANDS)}")
    if words[:1] == ["--version"] and words[1:]:
        p.error(f"--version stands alone; got {' '.join(words[1:])!r} after it")
    options = p.parse_args(words)
    if options.fields is None:
        p.error(f"a command is missing; allowed: {', '.join(COMMANDS)}")
    return command.run(lambda: list_fields(options.fields))


def run_module(module: str, arguments: Sequence[str]) -> int:
    """Run the command of ``python -m module``; returns its exit code."""
    loaded = importlib.import_module(module)
    if hasattr(loaded, "__path__"):  # a package
        loaded = importlib.import_module(f"{module}.__main__")
    return int(loaded.main(arguments))


def search_working_folder() -> None:
    """Let a user's own modules load from the working folder, as with ``python -m``, but after all that is installed.

    This package's own place comes before it, so that a folder called strategies there hides nothing, in workers, too.
    """
    if not sys.flags.safe_path:
        places = [str(Path(command.__file__).parents[1]), os.getcwd()]
        sys.path += [place for place in places if place not in sys.path]


def parser() -> command.Parser:
    """The options beside the commands."""
    commands = [f"  {name:17} {about}\n{'':20}(python -m {module})" for name, (module, about) in COMMANDS.items()]
    p = command.Parser(
        "feddiff-bench",
        usage="%(prog)s COMMAND ... | --fields [SECTION]",
        description="Compare federated-learning strategies on diffusion models.",
        epilog="\n".join(["commands, each with a --help of its own:", *commands]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--fields", nargs="?", const="", metavar="SECTION",
        help="list the fields of a cell (of one section, e.g. training), or the strategies, partitions or metrics",
    )  # fmt: skip
    return p


def list_fields(section: str) -> int:
    """Print the tables of a section, or of all sections of a cell for ""; returns the exit code."""
    from bench.config.fields import show  # strategies and partitions
    from bench.report.metrics import METRICS

    show(section, [(metric.key, metric.name, metric.way, metric.about) for metric in METRICS.values()])
    return command.DONE


if __name__ == "__main__":
    sys.exit(main())
