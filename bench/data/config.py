"""Which data set, and how its images are fitted: the names that there are, and the section of a configuration."""

from typing import Literal, get_args

from bench.store.fields import Positive, Section, Size

Name = Literal["mnist5k", "mnist", "fashion-mnist", "cifar10"]
Fit = Literal["none", "pad", "pad-pool", "resize"]
Range = Literal["symmetric", "unit"]
DATASETS: tuple[Name, ...] = get_args(Name)
FITS: tuple[Fit, ...] = get_args(Fit)
RANGES: tuple[Range, ...] = get_args(Range)
LEVELS_KEPT: tuple[Fit, ...] = ("none", "pad")  # fits after which pixels still have the original's 256 levels


class DataConfig(Section):
    """Which images, at which side, and how many are held out. `limit` keeps that many training images.

    `fit` is how images come to `size` pixels a side: "none" for those that have it, "pad" with black around, "pad-pool"
    with black around up to a multiple of `size`, then means over squares, "resize" by bilinear interpolation. `range`
    is where the network sees grey levels: "symmetric" in [-1, 1], "unit" in [0, 1].
    """

    name: Name = "mnist5k"
    size: Size = 16
    fit: Fit = "pad-pool"
    heldout: Positive = 500
    limit: Positive | None = None
    range: Range = "symmetric"
