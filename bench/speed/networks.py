"""A training step and a denoising step of the U-Net beside other projects' U-Nets of its shape."""

from collections.abc import Mapping, Sequence

from bench.speed.measure import Program, Row, interleaved, milliseconds, rows

PEERS = {"labml": "labml's U-Net", "diffusers": "diffusers' UNet2DModel"}
SHAPES = {  # by name: widths, side of the images
    "small": ("32 64 128", 16),
    "paper": ("64 128 256 1024", 32),
}
BATCHES = {"small": (16, 64), "paper": (64,)}
WORK = {"step": "training", "sampling": "denoising"}  # by part


def measure(
    part: str, shapes: Sequence[str], interpreters: Mapping[str, str], device: str, repeats: int, timeout: float
) -> list[Row]:
    """Milliseconds of a step, of one thread; the reference is this harness, so a ratio above 1 is a slower peer."""
    found = []
    for shape in shapes:
        widths, side = SHAPES[shape]
        for batch in BATCHES[shape]:
            asked = ("--work", WORK[part], "--widths", *widths.split(), "--side", str(side), "--batch", str(batch))
            programs = [Program("this harness", "networks", ("--network", "harness", *asked, "--device", device))]
            programs += [
                Program(PEERS[name], "networks", ("--network", name, *asked, "--device", device), python)
                for name, python in interpreters.items()
            ]
            samples = interleaved(programs, repeats, timeout)
            what = f"{WORK[part]} step, widths {widths.replace(' ', '/')}, {side}x{side}, batch {batch}, {device}"
            found += rows(part, what, "ms", samples, milliseconds)
    return found
