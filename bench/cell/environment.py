"""What a result was made with: commit, package versions, processor. Recorded beside it, never part of its id."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from bench import __version__

_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "torch-fidelity", "mlflow", "joblib")


def describe(device: str) -> dict[str, Any]:
    """Commit and whether the tree is dirty (None outside a git checkout), versions, processor and device."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": commit,
        "dirty": None if commit is None else bool(changes),
        "python": platform.python_version(),
        "packages": {"federated-diffusion-bench": __version__} | {name: _version(name) for name in _PACKAGES},
        "device": device_name(device),
        "cpu": _cpu(),
        "platform": platform.platform(),
    }


def resolve_device(wanted: str) -> str:
    """ "cpu" or "cuda": `wanted`, or for "auto" what is there.

    Raises:
        ValueError: if "cuda" is wanted and there is none.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ValueError('device="cuda" but this torch sees no CUDA device; use device="cpu" or "auto"')
    return "cuda" if wanted != "cpu" and available else "cpu"


def device_name(device: str) -> str:
    """E.g. "NVIDIA H100 80GB HBM3" for "cuda" or "cuda:1", or "cpu"."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
