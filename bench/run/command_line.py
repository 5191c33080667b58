"""What the commands share that run cells: options, and messages of what may happen meanwhile."""

import argparse
from pathlib import Path

from bench.command import Message, seconds, whole
from bench.config.errors import ConfigError
from bench.config.grids import shipped_grids
from bench.run import BACKENDS
from bench.store.files import STORAGE_FULL, Damaged


def add_options(p: argparse.ArgumentParser) -> None:
    """Which grid, where its data and results are, and how its cells are run."""
    p.add_argument(
        "--grid", required=True, metavar="NAME", help=f"a shipped grid ({', '.join(shipped_grids())}) or a TOML file"
    )
    p.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE",
        help="override a field (training.rounds=3) or an axis (beta=0.1,1); may be repeated",
    )  # fmt: skip
    p.add_argument("--plan", action="store_true", help="print what would be run, with estimated time; run nothing")
    p.add_argument("--retry-failed", action="store_true", help="run failed cells again, too, from their checkpoints")
    p.add_argument("--results", default="results", metavar="DIR", help="where results go (default: results)")
    p.add_argument("--data-root", type=Path, metavar="DIR", help="folder of torchvision's data sets")
    p.add_argument("--download", action="store_true", help="allow fetching data and extractor weights that are missing")
    p.add_argument("--n-jobs", type=whole(1), metavar="N", help="cells at once (default: as cores or GPUs allow)")
    p.add_argument("--backend", choices=BACKENDS, default="loky", help="joblib backend (default: loky)")
    p.add_argument(
        "--scheduler", metavar="ADDRESS", help="Dask scheduler or Ray cluster; without it a local one is started"
    )
    p.add_argument("--isolate", action="store_true", help="run each cell in a process of its own")
    p.add_argument(
        "--timeout", type=seconds, metavar="SECONDS", help="end a cell as timed out that takes longer (default: never)"
    )
    p.add_argument(
        "--checkpoint-every", type=whole(0), default=1, metavar="K",
        help="rounds between two checkpoints, from which a killed cell goes on; 0 for none (default: 1)",
    )  # fmt: skip
    p.add_argument(
        "--shuffle", type=int, metavar="SEED", help="run cells in another order; no number depends on the order"
    )
    p.add_argument(
        "--break-locks", action="store_true",
        help="take over cells at which processes of other hosts are said to work: all of those must be gone",
    )  # fmt: skip
    p.add_argument("--quiet", action="store_true", help="print errors and warnings only")


def check_scheduler(options: argparse.Namespace) -> None:
    """Raises:
    ConfigError: for a scheduler of a backend that has none.
    """
    if options.scheduler is not None and options.backend not in ("dask", "ray"):
        raise ConfigError("--scheduler: it belongs to --backend dask or --backend ray; give one of them")


def results_folder(given: str) -> Path:
    """The folder, resolved.

    Raises:
        ConfigError: if the path is that of no folder and of none that could be made.
    """
    try:
        path = Path(given).resolve()
        if path.exists() and not path.is_dir():
            raise ConfigError(f"--results {given}: cannot be written: it is not a folder")
    except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, a NUL
        raise ConfigError(f"--results {given}: cannot be written: {error}") from error
    return path


def damaged_meanwhile(error: Damaged) -> str:
    """The message of a file that was damaged while the grid ran."""
    return f"a file was damaged meanwhile: {error}; the same command makes it anew"


def not_written(error: OSError) -> str:
    """The message of an error of the storage."""
    remedy = "make room and" if error.errno in STORAGE_FULL else "mend that and"
    return f"{type(error).__name__}: {error}: what is done is kept; {remedy} run the same command again"


MEANWHILE: dict[type[Exception], Message] = {Damaged: damaged_meanwhile, OSError: not_written}
