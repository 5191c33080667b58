"""The DDPM U-Net (Ho et al. 2020, appendix B) in the block layout of labml's annotated implementation.

Per resolution: `blocks` residual blocks on the way down, `blocks` + 1 on the way up (each takes one skip
connection), attention where asked; residual-attention-residual in the middle. With `groups=32` and two blocks
the parameters are, name for name and shape for shape, those of labml's ``UNet``, so checkpoints of code built
on it load here (`UNet.from_labml`) and ours load there (`UNet.to_labml`). The layout is theirs, the code is not; the
file NOTICE names its origin.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FINAL_GROUPS = 8  # groups of the last GroupNorm in labml's code, whatever the others have


class TimeEmbedding(nn.Module):
    """Sinusoidal features of the timestep (Vaswani et al. 2017, section 3.5) through a two-layer MLP."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = channels // 4
        self.lin1 = nn.Linear(self.features, channels)
        self.lin2 = nn.Linear(channels, channels)

    def forward(self, t: Tensor) -> Tensor:
        """Timesteps (B,) -> embedding (B, channels)."""
        half = self.features // 2
        rate = -math.log(10_000) / max(half - 1, 1)
        angle = t[:, None].float() * torch.exp(torch.arange(half, device=t.device) * rate)
        return self.lin2(F.silu(self.lin1(torch.cat((angle.sin(), angle.cos()), dim=1))))


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice, with the timestep added in between."""

    def __init__(self, cin: int, cout: int, time_channels: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, cin), nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, cout), nn.Conv2d(cout, cout, 3, padding=1)
        self.shortcut = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()
        self.time_emb = nn.Linear(time_channels, cout)
        self.dropout = dropout

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time_emb(time)[:, :, None, None]
        h = F.dropout(F.silu(self.norm2(h)), self.dropout, self.training) if self.dropout else F.silu(self.norm2(h))
        return self.conv2(h) + self.shortcut(x)


class AttentionBlock(nn.Module):
    """Single-head self-attention over the pixels, with a residual connection.

    labml declares `norm` and never applies it; `normalise` applies it, as DDPM's own code does. The
    parameters are kept in both cases, so that counts and checkpoints agree.
    """

    def __init__(self, channels: int, groups: int, normalise: bool) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.projection = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)
        self.normalise = normalise

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2).transpose(1, 2)
        source = self.norm(x).flatten(2).transpose(1, 2) if self.normalise else pixels
        q, k, v = self.projection(source).chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return (self.output(mixed) + pixels).transpose(1, 2).reshape(x.shape)


class Block(nn.Module):
    """A residual block and, where the level has it, attention."""

    def __init__(self, res: ResidualBlock, attn: AttentionBlock | None) -> None:
        super().__init__()
        self.res = res
        self.attn = attn if attn is not None else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.attn(self.res(x, time))


class Downsample(nn.Module):
    """Halves the side by a strided 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Doubles the side by a transposed 4x4 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Middle(nn.Module):
    """The bottleneck: residual block, attention, residual block."""

    def __init__(self, res1: ResidualBlock, attn: AttentionBlock, res2: ResidualBlock) -> None:
        super().__init__()
        self.res1, self.attn, self.res2 = res1, attn, res2

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.res2(self.attn(self.res1(x, time)), time)


class UNet(nn.Module):
    """From a noisy image and its timestep to what was added to it, or what `Process.prediction` else asks for.

    Args:
        channels: image channels, 1 for MNIST.
        widths: feature channels at each resolution, absolute (not multipliers), from the full side down; each
            level after the first halves the side.
        attention: for each level, whether its blocks are followed by attention.
        blocks: residual blocks a level on the way down (one more on the way up).
        groups: groups of every GroupNorm but the last, which has 8. Must divide every width.
        dropout: rate inside the residual blocks, in [0, 1).
        attention_norm: apply GroupNorm before attention (DDPM) or leave it unused (labml, the paper's code).
        learned_variance: give as many channels again, for the variance (Nichol & Dhariwal 2021, section 3.1).
        classes: K for a network that is shown classes, None for one that is not. An embedding of the class is added to
            that of the timestep; class K stands for "none".
    Raises:
        ValueError: if the widths and the attention flags differ in number or a width is not divisible.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        attention: Sequence[bool],
        *,
        blocks: int = 2,
        groups: int = 32,
        dropout: float = 0.0,
        attention_norm: bool = True,
        learned_variance: bool = False,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        _check_levels(widths, attention, groups)
        self.settings = {"channels": channels, "widths": tuple(widths), "attention": tuple(attention), "blocks": blocks,
                         "groups": groups, "dropout": dropout, "attention_norm": attention_norm,
                         "learned_variance": learned_variance, "classes": classes}  # fmt: skip
        self.halvings = len(widths) - 1
        base, time_channels = widths[0], 4 * widths[0]

        def res(cin: int, cout: int) -> ResidualBlock:
            return ResidualBlock(cin, cout, time_channels, groups, dropout)

        def attn(width: int, wanted: bool = True) -> AttentionBlock | None:
            return AttentionBlock(width, groups, attention_norm) if wanted else None

        self.image_proj = nn.Conv2d(channels, base, 3, padding=1)
        self.time_emb = TimeEmbedding(time_channels)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, last = base, len(widths) - 1
        for level, out in enumerate(widths):
            for _ in range(blocks):
                self.down.append(Block(res(width, out), attn(out, attention[level])))
                width = out
            if level < last:
                self.down.append(Downsample(width))
        self.middle = Middle(res(width, width), AttentionBlock(width, groups, attention_norm), res(width, width))
        for level in range(last, -1, -1):
            below = widths[level - 1] if level else base
            for out, skip in [(width, width)] * blocks + [(below, below)]:
                self.up.append(Block(res(width + skip, out), attn(out, attention[level])))
                width = out
            if level:
                self.up.append(Upsample(width))
        self.norm = nn.GroupNorm(FINAL_GROUPS, base)
        self.final = nn.Conv2d(base, channels * (2 if learned_variance else 1), 3, padding=1)
        self.class_emb = None if classes is None else nn.Embedding(classes + 1, time_channels)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Noisy images (B, C, H, W), timesteps (B,) in [0, T) and classes (B,) in 0 .. K -> output (B, C or 2C, H, W).

        Where H or W is not divisible by 2 ** (levels - 1), zeros are added at the right and below, and cut off again.

        Raises:
            ValueError: if classes are missing or the network takes none.
        """
        if (y is None) != (self.class_emb is None):
            raise ValueError("classes y must be given to a class-conditional network, and to no other")
        embedded = self.time_emb(t)
        time = F.silu(embedded if self.class_emb is None else embedded + self.class_emb(y))
        height, width = x.shape[-2:]
        multiple = 2**self.halvings
        if height % multiple or width % multiple:
            x = F.pad(x, (0, -width % multiple, 0, -height % multiple))
        x = self.image_proj(x)
        skips = [x]
        for module in self.down:
            x = module(x, time) if isinstance(module, Block) else module(x)
            skips.append(x)
        x = self.middle(x, time)
        for module in self.up:
            x = module(torch.cat((x, skips.pop()), dim=1), time) if isinstance(module, Block) else module(x)
        return self.final(F.silu(self.norm(x)))[..., :height, :width]

    @classmethod
    def from_labml(cls, state: dict[str, Tensor]) -> "UNet":
        """The network of a labml ``UNet.state_dict()``, its shape read off the tensors.

        Args:
            state: names and tensors as labml's model saves them (an ``eps_model.`` prefix is taken off).
        Raises:
            ValueError: if the names or shapes are not those of labml's layout (with dropout and two blocks a level).
        """
        state = {name.removeprefix("eps_model."): tensor for name, tensor in state.items()}
        try:
            widths, attention = _labml_levels(state)
            net = cls(state["image_proj.weight"].shape[1], widths, attention, attention_norm=False)
            net.load_state_dict(state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"not a checkpoint in labml's U-Net layout: {error}") from error
        return net

    def to_labml(self) -> dict[str, Tensor]:
        """A state dict that labml's ``UNet`` with the same widths loads.

        Raises:
            ValueError: if this network is one that labml's code cannot express.
        """
        s = self.settings
        fixed = {"blocks": 2, "groups": 32, "attention_norm": False, "learned_variance": False, "classes": None}
        odd = {key: s[key] for key, value in fixed.items() if s[key] != value}
        if odd:
            raise ValueError(f"labml's U-Net has {_told(fixed)}; this one has {_told(odd)}")
        return {name: tensor.detach().clone() for name, tensor in self.state_dict().items()}


def _check_levels(widths: Sequence[int], attention: Sequence[bool], groups: int) -> None:
    """Raises ValueError unless there is a flag a width and every width can be normalised."""
    if len(widths) != len(attention):
        raise ValueError(f"{len(widths)} widths but {len(attention)} attention flags; give one flag a level")
    for width in widths:
        if width % groups:
            raise ValueError(f"width {width} is not divisible by groups={groups}")
    if widths[0] % FINAL_GROUPS:
        raise ValueError(f"the first width must be divisible by {FINAL_GROUPS}, got {widths[0]}")


def _told(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def _labml_levels(state: dict[str, Tensor]) -> tuple[list[int], list[bool]]:
    """Widths and attention flags: two residual blocks a level, then (but for the last) a downsampling layer."""
    size = 1 + max(int(m[1]) for name in state if (m := re.match(r"down\.(\d+)\.", name)))
    firsts = range(0, size, 3)
    widths = [state[f"down.{i}.res.conv1.weight"].shape[0] for i in firsts]
    return widths, [f"down.{i}.attn.projection.weight" in state for i in firsts]


def count_parameters(module: nn.Module) -> int:
    """Trainable scalars."""
    return sum(p.numel() for p in module.parameters())
