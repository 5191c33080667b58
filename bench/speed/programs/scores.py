"""All scores of 1,000 images by the shipped classifier, features included: FID, KID, IS, recall, coverage, classes."""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bench.data.pixels import fit_images
from bench.data.sets import read_mnist5k
from bench.fidelity.extractors import load_extractor
from bench.fidelity.references import reference
from bench.fidelity.scores import evaluate

IMAGES = 1000


def main() -> None:
    """Print the seconds of some repetitions."""
    p = argparse.ArgumentParser()
    p.add_argument("--device", default="cpu")
    options = p.parse_args()
    torch.set_num_threads(1)
    digits, _ = read_mnist5k()
    images = fit_images(digits, 16, "pad-pool")[torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))]
    extractor, shares = load_extractor("mnist-cnn"), np.full(10, 0.1)
    with tempfile.TemporaryDirectory() as folder:
        real = reference(images[IMAGES:], "speed", extractor, Path(folder), options.device)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        evaluate(images[:IMAGES], real, shares, extractor, options.device)
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
