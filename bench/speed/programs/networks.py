"""A U-Net's training step, or its denoising step, of this harness, labml's annotated DDPM, or diffusers."""

import argparse
import json
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

T = 1000
Network = Callable[[Tensor, Tensor], Any]  # noisy images and timesteps -> noise


def harness(widths: list[int], side: int) -> tuple[nn.Module, Network]:
    """This harness's network, in labml's shape: two blocks a level, attention at the last, no GroupNorm before it."""
    from bench.diffusion.unet import UNet

    net = UNet(1, tuple(widths), (*[False] * (len(widths) - 1), True), dropout=0.1, attention_norm=False)
    return net, net


def labml(widths: list[int], side: int) -> tuple[nn.Module, Network]:
    """labml's, whose multipliers are of the level before."""
    from labml_nn.diffusion.ddpm.unet import UNet

    ratios = [1, *(b // a for a, b in pairwise(widths))]
    attention = (*[False] * (len(widths) - 1), True)
    net = UNet(image_channels=1, n_channels=widths[0], ch_mults=ratios, is_attn=attention)
    return net, net


def diffusers(widths: list[int], side: int) -> tuple[nn.Module, Network]:
    """diffusers', at the nearest shape: the same widths, two blocks a level, one head."""
    with suppress(ImportError):  # where this harness is installed, a torchvision of another build does no harm
        import bench.data.torchvision_compat  # noqa: F401
    from diffusers import UNet2DModel

    more = len(widths) - 1
    net = UNet2DModel(
        sample_size=side,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=tuple(widths),
        norm_num_groups=min(32, widths[0] // 2),
        dropout=0.1,
        attention_head_dim=widths[-1],
        down_block_types=(*["DownBlock2D"] * more, "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", *["UpBlock2D"] * more),
    )
    made: Any = net
    return made, lambda x, t: made(x, t).sample


def training(net: nn.Module, predict: Network, x0: Tensor) -> Callable[[], None]:
    """One step of Adam on the simple loss, each with the optimizer that its project uses."""
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-4, fused=True)
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, T), 0)

    def step() -> None:
        t, eps = torch.randint(0, T, (len(x0),)), torch.randn_like(x0)
        a = alpha_bar[t][:, None, None, None]
        optimizer.zero_grad()
        F.mse_loss(predict(a.sqrt() * x0 + (1 - a).sqrt() * eps, t), eps).backward()
        optimizer.step()

    return step


def denoising(net: nn.Module, predict: Network, x0: Tensor) -> Callable[[], None]:
    """One evaluation of the network, of which a sampler makes one a step."""
    net.eval()
    t = torch.full((len(x0),), T // 2)

    @torch.no_grad()
    def step() -> None:
        predict(x0, t)

    return step


def main() -> None:
    """Print the seconds of each of some steps."""
    p = argparse.ArgumentParser()
    p.add_argument("--network", choices=("harness", "labml", "diffusers"), required=True)
    p.add_argument("--work", choices=("training", "denoising"), required=True)
    p.add_argument("--widths", type=int, nargs="+", required=True)
    p.add_argument("--side", type=int, required=True)
    p.add_argument("--batch", type=int, required=True)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--device", default="cpu")
    p.add_argument("--for-seconds", type=float, default=4.0)
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    torch.set_default_device(o.device)
    torch.manual_seed(0)
    net, predict = {"harness": harness, "labml": labml, "diffusers": diffusers}[o.network](o.widths, o.side)
    step = {"training": training, "denoising": denoising}[o.work](net, predict, torch.randn(o.batch, 1, o.side, o.side))
    seconds: list[float] = []
    step()  # memory is taken and kernels are chosen
    while sum(seconds) < o.for_seconds or len(seconds) < 3:
        began = time.perf_counter()
        step()
        if o.device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
