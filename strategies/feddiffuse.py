"""FedDiffuse: federated training in which only parts of the U-Net travel.

de Goede, Cox, Decouchant: Training Diffusion Models with Federated Learning: A Communication-Efficient Model for
Cross-Silo Federated Image Generation, 2024 (arXiv 2406.12575), with the variants FULL, USPLIT, ULATDEC and UDEC.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.plugins import torch
from strategies.base import State, Tensors, Upload, WeightedMean
from strategies.fedavg import FedAvg

PARTS = {
    **dict.fromkeys(("image_proj", "time_emb", "class_emb", "down"), "encoder"),
    "middle": "bottleneck",
    **dict.fromkeys(("up", "norm", "final"), "decoder"),
}
LOADS: dict[
    str, tuple[tuple[str, ...], ...]
] = {  # which parts an upload holds; where there are two, clients take turns
    "full": (("encoder", "bottleneck", "decoder"),),
    "usplit": (("encoder",), ("bottleneck", "decoder")),
    "ulatdec": (("bottleneck", "decoder"),),
    "udec": (("decoder",),),
}
TURN = "turn"


@dataclass(frozen=True)
class FedDiffuse(FedAvg):
    """w_part <- sum_i (N_i / sum_j N_j) w_i,part over the clients that sent the part; what nobody sent stays.

    The encoder are `image_proj`, `time_emb`, `class_emb` and `down` of `bench.diffusion.unet.UNet`, the bottleneck is
    `middle`, the decoder `up`, `norm` and `final`. Which part weighs most depends on the widths, and so does what is
    saved: the paper's 74 % are its own U-Net's.

    Attributes:
        mode: one of "full" (FedAvg bit for bit, for any network); "usplit" (everything travels down, and each client
            sends either the encoder or the rest, in turns from round to round and from number to number, as one byte
            of the download tells it); "ulatdec" (bottleneck and decoder travel, the encoder stays with its client);
            "udec" (the decoder travels). Sensible grid: all four.

    Raises:
        ValueError: for another mode; in a run but for "full", if a parameter's name is in no part of a U-Net.
    """

    title: ClassVar[str] = "FedDiffuse"
    convex: ClassVar[bool] = False
    any_network: ClassVar[bool] = False
    zero: ClassVar[Mapping[str, Any]] = {"mode": "full"}

    mode: str = "usplit"

    def __post_init__(self) -> None:
        if self.mode not in LOADS:
            raise ValueError(f"mode must be one of {', '.join(LOADS)}, got {self.mode!r}")

    @property
    def personal(self) -> bool:
        return self.mode in ("ulatdec", "udec")

    def download(self, server: State, client: int) -> Tensors:
        loads = self._loads(server["params"])
        if len(loads) == 1:
            return loads[0]
        turn = torch.tensor((client + server["round"]) % len(loads), dtype=torch.uint8)
        return {**server["params"], TURN: turn}

    def start(self, down: Tensors, local: State) -> Tensors:
        return {name: tensor for name, tensor in {**local.get("kept", {}), **down}.items() if name != TURN}

    def upload(self, params: Tensors, down: Tensors, local: State) -> Tensors:
        load = self._loads(params)[int(down.get(TURN, 0))]
        if self.personal:
            local["kept"] = {name: p.detach().clone() for name, p in params.items() if name not in load}
        return load

    def aggregate(self, server: State, uploads: Iterator[Upload]) -> None:
        loads = self._loads(server["params"])
        means: dict[int, WeightedMean] = {}
        for upload in uploads:
            turn = next((i for i, load in enumerate(loads) if upload.tensors.keys() <= load.keys()), 0)
            if turn not in means:
                means[turn] = WeightedMean(loads[turn])
            means[turn].add(upload.tensors, upload.n_samples)
        for mean in means.values():
            server["params"] = {**server["params"], **mean.result()}

    def model(self, server: State, local: State) -> Tensors:
        return {**server["params"], **local.get("kept", {})}

    def _loads(self, params: Tensors) -> list[Tensors]:
        """What an upload holds of these parameters, at each turn."""
        if self.mode == "full":
            return [dict(params)]
        parts = {name: _part(name) for name in params}
        return [{name: p for name, p in params.items() if parts[name] in load} for load in LOADS[self.mode]]


def _part(name: str) -> str:
    try:
        return PARTS[name.split(".")[0]]
    except KeyError:
        raise ValueError(
            f"FedDiffuse is for U-Nets only: parameter {name!r} is in none of its parts {', '.join(PARTS)}"
        ) from None
