"""Lets torchvision import beside a CPU-only torch. Import this before torchvision or torch_fidelity.

The torchvision wheel on PyPI for Linux is a CUDA build. Beside a CPU-only torch its compiled operators do
not load, and its Python side then fails on registering fake kernels for operators that nobody declared
("operator torchvision::nms does not exist", then qnms). Declaring both schemas first mends the import. No
detection operator is used here, so nothing ever calls them. Where torchvision loads, this does nothing.
"""

import importlib.util
from pathlib import Path

import torch

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _operators_load() -> bool:
    """Whether torchvision's compiled operators load into this torch."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return False
    for library in Path(spec.submodule_search_locations[0]).glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return True
    return False


def _declare() -> "torch.library.Library | None":
    if _operators_load():
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _SCHEMA)
    return library


_library = _declare()  # the schemas live as long as this object
