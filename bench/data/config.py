"""Which data set, and how its images are fitted: the names that there are, and the section of a configuration."""

from typing import Literal, get_args

from bench.store.fields import Positive, Section, Size

Name = Literal["mnist5k", "mnist", "fashion-mnist", "cifar10"]
Fit = Literal["none", "pad", "pad-pool", "resize"]
Range = Literal["symmetric", "unit"]
Sampling = Literal["stratified", "iid"]
DATASETS: tuple[Name, ...] = get_args(Name)
FITS: tuple[Fit, ...] = get_args(Fit)
RANGES: tuple[Range, ...] = get_args(Range)
LEVELS_KEPT: tuple[Fit, ...] = ("none", "pad")  # fits after which pixels still have the original's 256 levels


class DataConfig(Section):
    """Which images, at which size, and how many are held out of training.

    Clients hold training images alone. What is chosen (rounds, hyper-parameters) is chosen by validation images, and
    test images are seen by the final scores alone.

    Attributes:
        name: Data set; mnist5k is installed with the harness.
        size: Pixels of a side.
        fit: How images come to that size: they have it (none), black around them (pad), black around up to a multiple
            and then means over squares (pad-pool), or bilinear interpolation (resize).
        validation: Images held out for the losses along training, and for tuning.
        test: Images held out for the final scores; of the official test images where there are such.
        sampling: Whether classes have the same shares in each part as in the whole, to one image (stratified), or
            images are drawn whatever their classes (iid).
        limit: Number of training images that are kept; none for all.
        range: Where the network sees grey levels: in [-1, 1] (symmetric) or [0, 1] (unit).
    """

    name: Name = "mnist5k"
    size: Size = 16
    fit: Fit = "pad-pool"
    validation: Positive = 500
    test: Positive = 1000
    sampling: Sampling = "stratified"
    limit: Positive | None = None
    range: Range = "symmetric"
