"""The shipped feature extractor: a small digit classifier, its weights checked against the digest in its record.

``mnist_cnn.json`` records how it was trained, by ``python -m bench.fidelity.train_mnist_cnn``, and what it scores; the
file NOTICE names the digits' origin.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load as from_safetensors
from torch import Tensor, nn

NAME = "mnist-cnn"
FEATURES = 64
CLASSES = 10
SIDES = (16, 28, 32)
DATASETS = ("mnist", "mnist5k")  # what its classes are those of
WEIGHTS = Path(__file__).with_name("mnist_cnn.safetensors")
RECORD = Path(__file__).with_name("mnist_cnn.json")


class MnistCNN(nn.Module):
    """Four 3x3 convolutions with BatchNorm on 32x32 pixels, 64 features, 10 logits; about 131,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *_conv(1, 32), nn.MaxPool2d(2),
            *_conv(32, 32), *_conv(32, 64), nn.MaxPool2d(2),
            *_conv(64, 64), nn.MaxPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.features = nn.Sequential(nn.Linear(1024, FEATURES, bias=False), nn.BatchNorm1d(FEATURES), nn.ReLU())
        self.dropout = nn.Dropout(0.3)
        self.logits = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (B, 1, 32, 32) in [0, 1] -> features (B, 64) and logits (B, 10)."""
        features = self.features(self.convs(x))
        return features, self.logits(self.dropout(features))


def _conv(cin: int, cout: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()


def prepare(images: Tensor) -> Tensor:
    """Images uint8 (N, 1, S, S), S in 16, 28, 32, as the network takes them: float (N, 1, 32, 32) in [0, 1].

    28 is padded with zeros; 16, which is a padded digit's 2x2 means, is enlarged bilinearly.

    Raises:
        ValueError: for another shape or type.
    """
    if images.ndim != 4 or images.shape[-2] != images.shape[-1]:
        raise ValueError(f"{NAME} takes images (N, 1, S, S), got shape {tuple(images.shape)}")
    check(images.shape[1], images.shape[-1])
    if images.dtype != torch.uint8:
        raise ValueError(f"{NAME} takes uint8 images, got {images.dtype}")
    x = images.float() / 255.0
    if x.shape[-1] == 28:
        return F.pad(x, [2, 2, 2, 2])
    return F.interpolate(x, size=(32, 32), mode="bilinear", align_corners=False) if x.shape[-1] == 16 else x


def check(channels: int, size: int) -> None:
    """Raises ValueError unless the extractor takes images of these channels and this side."""
    if channels != 1 or size not in SIDES:
        raise ValueError(
            f"extractor {NAME} takes grey images of side {', '.join(map(str, SIDES))}, "
            f'not {channels}x{size}x{size}; evaluation.extractor = "inception-v3-compat" takes any'
        )


def record() -> dict[str, Any]:
    """The content of mnist_cnn.json: "digest" (SHA-256 of the weights), "test_accuracy" and how it was trained."""
    return dict(json.loads(RECORD.read_text(encoding="utf-8")))


def load(weights: Path = WEIGHTS, digest: str | None = None) -> MnistCNN:
    """The trained network in evaluation mode.

    Args:
        weights: the safetensors file.
        digest: the SHA-256 it must have; None takes the record's.
    Raises:
        ValueError: if the file is missing or another one than was recorded.
    """
    expected = digest or record()["digest"]
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise ValueError(f"the weights of extractor {NAME} cannot be read: {error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        raise ValueError(
            f"{weights} is not the file that was measured: SHA-256 {digest}, expected {expected}; "
            "restore it, or train it anew with python -m bench.fidelity.train_mnist_cnn"
        )
    with torch.device("meta"):  # the weights are read, so none are drawn from torch's global generator
        net = MnistCNN()
    net.load_state_dict(from_safetensors(data), assign=True)
    return net.eval()
