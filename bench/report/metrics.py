"""Every metric of a report, once: what it is called, which way is better, where it is shown, what it is made of.

What tables, the page, MLflow and comparisons show is derived from this list, in its order. A metric is a key of
``result.json``'s metrics, and a new one needs one entry here; or it is computed in `bench.report.summary`.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A metric, and how it is shown.

    Attributes:
        key: its name in the rows.
        name: how captions and tables of its own call it, in letters and symbols that `latex.typeset` knows.
        head: how it is headed on the terminal.
        about: what it is, in a few words; captions begin with it.
        better: -1 if lower is better, 1 if higher is, 0 if neither (then no best is marked).
        scale: what values are multiplied by before they are shown.
        digits: after the point; None for as many as the values ask for.
        like: key of the metric whose number of digits is taken.
        signed: whether a plus sign is written.
        table: "summary" for a column of the table of all metrics, "own" for a table of its own alone, "" for
            summary.csv alone.
        spread: where the table of all metrics shows the standard deviation, too; a metric's own table always does.
        minus: key of the metric whose difference to centralized training it is.
        tested: whether the tables of differences and contrasts show it.
        compared: whether `bench.compare` sets it side by side.
        goal: one of `COSTS` where it is that cost of reaching centralized training, which not all do.
        curve: whether it is computed from a finished cell's logs.
        image: whether images drawn along training are scored by it, too.
        first: whether the page shows it before all metrics are asked for.
        parts, optional_parts: keys of what it is the sum of, in `unit`: what every cell has, and what only some have.
    """

    key: str
    name: str = ""
    head: str = ""
    about: str = ""
    better: int = 0
    scale: float = 1.0
    digits: int | None = None
    like: str = ""
    signed: bool = False
    table: Literal["summary", "own", ""] = ""
    spread: Literal["", "written", "both"] = ""
    minus: str = ""
    tested: bool = False
    compared: bool = False
    goal: str = ""
    curve: bool = False
    image: bool = False
    first: bool = False
    parts: tuple[str, ...] = ()
    optional_parts: tuple[str, ...] = ()
    unit: float = 1.0

    @property
    def file(self) -> str:
        """Name of its table's file, without the suffix; it can be chosen by it, too."""
        return self.key.removesuffix("_mean")

    @property
    def alone(self) -> bool:
        """Whether it has no column in the table of all metrics."""
        return self.table != "summary"

    @property
    def way(self) -> str:
        """Which way is better, in a word; "" where neither is."""
        return {-1: "lower", 1: "higher", 0: ""}[self.better]

    def arrow(self) -> str:
        """Which way is better."""
        return {-1: " ↓", 1: " ↑", 0: ""}[self.better]


_ALL = (
    Metric(
        "fid", "FID", "FID", "Fréchet distance of the extractor's features between generated and real images",
        better=-1, table="summary", spread="both", tested=True, compared=True, image=True, first=True,
    ),
    Metric(
        "fid_minus_centralized", "ΔFID", "ΔFID", "FID minus that of centralized training of the same seed",
        like="fid", signed=True, table="summary", spread="written", minus="fid", first=True,
    ),
    Metric(
        "fid_infinity", "FID∞", "FID∞", "FID extrapolated to infinitely many generated images, with the bias of the "
        "finite reference", better=-1, like="fid", table="own",
    ),
    Metric(
        "fid_mix", "FID-mix", "FID\nmix",
        "FID of the generated images of a client's classes, in its shares, to the client's images, mean over clients",
        better=-1, like="fid", table="summary", spread="written",
    ),
    Metric(
        "fid_avg", "FID-avg", "", "mean of FIDs of all generated images to each client's, most of which is the split's",
        like="fid", table="own",
    ),
    Metric(
        "reconstruction_fid", "rec. FID", "rec.\nFID",
        "FID of the autoencoder's reconstructions of real images that are new to it", like="fid", table="summary",
    ),
    Metric(
        "kid_mean", "KID·10³", "KID\n·10³", "kernel inception distance", better=-1, scale=1e3, table="summary",
        spread="written", compared=True, image=True,
    ),
    Metric(
        "is_mean", "IS", "IS", "inception score", better=1, digits=2, table="summary", spread="written", compared=True,
        image=True, first=True,
    ),
    Metric(
        "class_tv", "TV", "class\nTV", "total variation between the class shares of generated and of real images",
        better=-1, digits=3, table="summary", spread="written", tested=True, compared=True, image=True,
        first=True,
    ),
    Metric(
        "recognised", "recognised", "recog-\nnised",
        "share of generated images whose class the classifier gives a probability above 0.95; where it is below 0.65 "
        "there is no TV", digits=2, table="summary", compared=True, image=True, first=True,
    ),
    Metric(
        "recall", "recall", "recall", "share of real images in the 5-neighbour ball of a generated one", better=1,
        digits=2, table="summary", spread="written", compared=True, image=True,
    ),
    Metric(
        "coverage", "coverage", "cover-\nage", "share of real images with a generated one in their 5-neighbour ball",
        better=1, digits=2, table="summary", spread="written", tested=True, compared=True, image=True, first=True,
    ),
    Metric(
        "copies_pixels", "copies", "",
        "share of generated images less than a third as far, in pixels, from one training image as from any other",
        digits=3, table="own",
    ),
    Metric(
        "c_t_pixels", "C_T", "",
        "z-score of distances, in pixels, to training images against test images'; far below 0 for copies",
        digits=2, signed=True, table="own",
    ),
    Metric(
        "label_accuracy", "asked class", "asked\nclass",
        "share of generated images that the classifier puts into the class asked for", better=1, digits=3,
        table="summary", spread="written",
    ),
    Metric(
        "bits_per_dim", "bits/dim", "bits/\ndim",
        "upper bound of test images' negative log-likelihood, in bits a dimension", better=-1, digits=3,
        table="summary", spread="written", first=True,
    ),
    Metric(
        "test_loss", "test loss", "test\nloss", "loss of the global model on test images", better=-1,
        digits=4, table="summary", spread="both", tested=True, compared=True, first=True,
    ),
    Metric(
        "test_loss_minus_centralized", "Δtest loss", "Δ test\nloss",
        "test loss minus that of centralized training of the same seed", digits=4, signed=True, table="summary",
        spread="written", minus="test_loss",
    ),
    Metric(
        "train_loss", "train", "train\nloss", "loss of local models on their own images in the last round",
        digits=4, table="summary", spread="written", compared=True,
    ),
    Metric(
        "validation_area", "validation area", "", "mean height of the validation loss curve", better=-1, digits=4,
        table="own", curve=True,
    ),
    Metric(
        "validation_roughness", "validation roughness", "",
        "total variation of the validation loss over its fall, 1 for a curve that only falls", better=-1, digits=3,
        table="own", curve=True,
    ),
    Metric(
        "train_roughness", "training roughness", "", "total variation of the running training loss over its fall",
        better=-1, digits=3, table="own", curve=True,
    ),
    Metric(
        "reached_centralized", "reached centralized",
        about="1 if the validation loss falls to centralized training's last, 0 if not; of several seeds the share",
        curve=True,
    ),
    Metric(
        "rounds_to_centralized", "rounds to centralized", "",
        "rounds until the validation loss falls to centralized training's last", better=-1, digits=1,
        table="own", curve=True, goal="round",
    ),
    Metric(
        "samples_to_centralized", "images to centralized", "",
        "images seen until the validation loss falls to centralized training's last", better=-1, digits=0,
        table="own", curve=True, goal="samples",
    ),
    Metric(
        "megabytes_to_centralized", "MB to centralized", "",
        "megabytes sent until the validation loss falls to centralized training's last", better=-1, digits=1,
        table="own", curve=True, goal="megabytes",
    ),
    Metric("epsilon", "ε", "ε", "privacy budget spent, ε of (ε, δ)", better=-1, digits=1, table="summary"),
    Metric(
        "megabytes", "MB", "MB", "megabytes sent up and down", digits=1, table="summary", compared=True,
        parts=("bytes_up", "bytes_down"), optional_parts=("autoencoder_bytes_up", "autoencoder_bytes_down"), unit=1e6,
        first=True,
    ),
    Metric(
        "seconds", "s", "s", "seconds of training, sampling and evaluation", digits=0, table="summary", compared=True,
        parts=("train_seconds", "sample_seconds", "evaluate_seconds"),
        optional_parts=("autoencoder_seconds", "likelihood_seconds"), first=True,
    ),
    *(
        Metric(key, key.replace("_", " "), about=about)
        for key, about in {
            "fid_bias": "bias of FID by the closed form for Gaussian features with the reference's covariance",
            "fid_images_sd": "standard deviation of FID over resampled images",
            "fid_images_bias": "bias of FID by a bootstrap over images",
            "is_std": "standard deviation of the inception score over its splits",
            "kid_std": "standard deviation of KID over other draws of as many images, by its exact variance",
            "precision": "share of generated images in the 5-neighbour ball of a real one; junk can score high",
            "density": "mean number of real images' 5-neighbour balls that a generated one is in, over 5; junk can "
            "score high, and typical images above 1",
            "fid_mix_floor": "FID-mix of other real images on the same split",
            "fid_avg_floor": "FID-avg of other real images on the same split",
            "fid_avg_excess": "FID-avg minus that of real images; under skew poor images can score below zero",
            "copies_features": "share of near-copies by the extractor's features",
            "authenticity_pixels": "share of generated images farther, in pixels, from their nearest training image "
            "than that is from any other; about a half without copies",
            "authenticity_features": "the same share by the extractor's features",
            "c_t_features": "the same z-score as C_T by the extractor's features",
            "copies_by_size": "rank correlation over clients between their images and the near-copies for each image",
            "mean_confidence": "mean over generated images of the classifier's largest probability",
            "drift": "Euclidean distance of clients' models from where local training started, mean of the last round",
            "skew_tv": "total variation between a client's classes and all data's, mean over clients",
            "samples": "images seen in training",
            "train_seconds": "seconds of training",
            "validation_loss": "loss of the global model on validation images after the last round",
            "validation_loss_raw": "loss on validation images of the global model without any moving average",
            "test_loss_client_mean": "loss on each client's mix of classes, mean over clients",
            "test_loss_client_sd": "loss on each client's mix of classes, standard deviation over clients",
            "test_loss_client_max": "loss on each client's mix of classes, of the worst client",
            "fid_client_sd": "FID to each client's images, standard deviation over clients",
            "fid_client_max": "FID to each client's images, of the worst client",
            "update_cosine": "cosine between clients' updates, mean over pairs in the last round",
            "stragglers": "participants that had no time for all local steps, over all rounds",
            "dropped": "stragglers whose work the strategy does not take, over all rounds",
            "failed": "participants whose update was lost, over all rounds",
            "gradient_steps": "optimizer steps of all clients",
            "sequential_steps": "optimizer steps that had to wait for one another",
            "bytes_up": "bytes of tensors sent by clients",
            "bytes_down": "bytes of tensors sent to clients",
            "reconstruction_mse": "mean squared error of the autoencoder's reconstructions of new images",
        }.items()
    ),
)  # fmt: skip
METRICS: dict[str, Metric] = {metric.key: metric for metric in _ALL}

SUMMARY = tuple(metric.key for metric in _ALL if metric.table == "summary")
FURTHER = tuple(metric.key for metric in _ALL if metric.table == "own" or metric.curve)  # beside the summary's columns
SUMMARISED = (*SUMMARY, *(metric.key for metric in _ALL if metric.table != "summary"))  # columns of summary.csv
SHOWN = tuple(metric for metric in _ALL if metric.table)
PAIRED = {metric.minus: metric.key for metric in _ALL if metric.minus}  # whose difference to centralized is a column
COMPARED = tuple(metric.key for metric in _ALL if metric.compared)
GOALS = {metric.key: metric.goal for metric in _ALL if metric.goal}
FROM_CURVES = tuple(metric.key for metric in _ALL if metric.curve)
OF_IMAGES = tuple(metric.key for metric in _ALL if metric.image)
TOTALS = tuple(metric for metric in _ALL if metric.parts)

# What a curve may stand over, and how its axis is called.
COSTS = {
    "megabytes": "MB up and down",
    "round": "round",
    "samples": "images seen",
    "sequential_steps": "sequential steps",
    "seconds": "seconds of training",
}
