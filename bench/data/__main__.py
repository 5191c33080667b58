"""Check a data set, and download it if asked: ``python -m bench.data NAME --data-root DIR [--download]``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import command
from bench.data.config import DATASETS, DataConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    p = command.parser("bench.data")
    p.add_argument("name", choices=DATASETS)
    p.add_argument("--data-root", type=Path, metavar="DIR", help="folder in torchvision's layout")
    p.add_argument("--download", action="store_true", help="fetch missing files")
    options = p.parse_args(arguments)
    return command.run(lambda: work(options), known={ValueError: str})


def work(options: argparse.Namespace) -> int:
    """Read the data set and say what it holds; returns the exit code."""
    from bench.data.sets import load_dataset  # torch, seconds

    size = 32 if options.name == "cifar10" else 28
    data = load_dataset(DataConfig(name=options.name, size=size, fit="none"), options.data_root, options.download)
    print(
        f"{data.name}: {len(data.train_images)} training, {len(data.validation_images)} validation and "
        f"{len(data.test_images)} test images of {data.channels}x{size}x{size}, {data.n_classes} classes, digest "
        f"{data.digest}"
    )
    return command.DONE


if __name__ == "__main__":
    sys.exit(main())
