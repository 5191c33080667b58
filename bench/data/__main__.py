"""Check a data set, and download it if asked: ``python -m bench.data NAME --data-root DIR [--download]``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.data.sets import DATASETS, load_dataset


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m bench.data NAME --data-root DIR [--download]``: check a data set, fetching it if asked."""
    told = "Check that a data set is whole; fetch it if asked."
    p = argparse.ArgumentParser("python -m bench.data", description=told)
    p.add_argument("name", choices=DATASETS)
    p.add_argument("--data-root", type=Path, metavar="DIR", help="folder in torchvision's layout")
    p.add_argument("--download", action="store_true", help="fetch missing files")
    options = p.parse_args(arguments)
    size = 32 if options.name == "cifar10" else 28
    try:
        data = load_dataset(options.name, size, "none", 500, None, options.data_root, options.download)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{data.name}: {len(data.train_images)} training and {len(data.heldout_images)} held-out images of "
        f"{data.channels}x{size}x{size}, {data.n_classes} classes, digest {data.digest}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
