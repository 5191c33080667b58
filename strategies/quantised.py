"""FedAvg with quantised exchange: clients send their updates in 8 or 4 bits a weight.

Vora, Bouacida, Krishnan, Mohapatra: FedDM: Enhancing Communication Efficiency and Handling Data Heterogeneity in
Federated Diffusion Models, 2024 (arXiv 2407.14730), the variant FedDM-quant: updates are quantised after training. The
quantiser is the affine one of Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko: Quantization and Training of
Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018, equation 1 (arXiv 1712.05877).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from bench.plugins import Tensor, torch
from strategies.base import State, Tensors, Upload
from strategies.fedavg import FedAvg
from strategies.updates import add_mean, difference

UP_BITS, DOWN_BITS = (4, 8), (4, 8, 32)
FIELDS = ("codes", "step", "zero", "shape")


@dataclass(frozen=True)
class Quantised(FedAvg):
    """w <- w + sum_i (N_i / sum_j N_j) Q(w_i - Q'(w)), with clients that start from Q'(w).

    Every floating-point tensor, biases and norms too, has one step and one zero point: 5 bytes beside its codes. A
    weight that did not change stays exactly, and a change of less than half a step is lost, for there is no error
    feedback and rounding is to the nearest. The server keeps w in full precision, so that what the download loses does
    not add up over rounds.

    Attributes:
        bits: of a weight in the upload, 8 or 4. Sensible grid: both.
        down_bits: of a weight in the download; 32 sends it as it is. Sensible grid: 32, 8.

    Raises:
        ValueError: for other numbers of bits.
    """

    title: ClassVar[str] = "Quantised FedAvg"
    convex: ClassVar[bool] = False
    alone_is_centralized: ClassVar[bool] = False

    bits: int = 8
    down_bits: int = 32

    def __post_init__(self) -> None:
        for name, given, allowed in (("bits", self.bits, UP_BITS), ("down_bits", self.down_bits, DOWN_BITS)):
            if given not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {given}")

    def download(self, server: State, client: int) -> Tensors:
        params: Tensors = server["params"]
        return dict(params) if self.down_bits == 32 else compressed(params, self.down_bits)

    def start(self, down: Tensors, local: State) -> Tensors:
        return down if self.down_bits == 32 else expanded(down, self.down_bits)

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        return compressed(difference(params, self.start(down, local)), self.bits)

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        add_mean(server, ((expanded(upload.tensors, self.bits), upload.n_samples) for upload in uploads))


def compressed(tensors: Mapping[str, Tensor], bits: int) -> Tensors:
    """What travels: of floating-point tensors their codes, steps, zero points and shapes; others as they are."""
    packed: Tensors = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            fields = _quantised(tensor.detach(), bits)
            packed.update({f"{name}/{field}": value for field, value in zip(FIELDS, fields, strict=True)})
        else:
            packed[name] = tensor
    return packed


def expanded(packed: Mapping[str, Tensor], bits: int) -> Tensors:
    """The tensors that `compressed` stands for."""
    tensors: Tensors = {}
    for key, value in packed.items():
        name, _, field = key.rpartition("/")
        if field == FIELDS[0]:
            tensors[name] = _restored(bits, *(packed[f"{name}/{each}"] for each in FIELDS))
        elif field not in FIELDS:
            tensors[key] = value
    return tensors


def _quantised(x: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x ~ step (code - zero) with codes in 0 .. 2**bits - 1, off by at most step / 2 up to float32's rounding.

    The range of codes covers x and 0, and 0 is exact. The shape travels as a tensor without elements: all parties know
    the model, so it costs nothing.
    """
    top = 2**bits - 1
    low, high = x.float().aminmax()
    low, high = low.clamp(max=0), high.clamp(min=0)
    step = (high / top - low / top).clamp(min=torch.finfo(torch.float32).tiny)  # all zeros have no range
    zero = (-low / step).round()
    codes = ((x.float() / step).round() + zero).clamp(0, top).to(torch.uint8).flatten()
    return _packed(codes) if bits == 4 else codes, step, zero.to(torch.uint8), x.new_empty((0, *x.shape))


def _restored(bits: int, codes: Tensor, step: Tensor, zero: Tensor, like: Tensor) -> Tensor:
    shape = like.shape[1:]
    codes = _unpacked(codes, math.prod(shape)) if bits == 4 else codes
    return ((codes.float() - zero.float()) * step).view(shape).to(like.dtype)


def _packed(codes: Tensor) -> Tensor:
    """Codes (n,) below 16, two to a byte: (ceil(n / 2),)."""
    even = torch.nn.functional.pad(codes, (0, len(codes) % 2))
    return even[0::2] | even[1::2] << 4


def _unpacked(packed: Tensor, n: int) -> Tensor:
    return torch.stack((packed & 15, packed >> 4), dim=1).flatten()[:n]
