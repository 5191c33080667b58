"""What is recorded of where a result was made, and that torchvision imports beside any torch."""

import subprocess
import sys

import pytest
import torch

import bench
from bench.cell import environment
from bench.data import torchvision_compat


def test_the_record_names_commit_packages_and_processor():
    told = environment.describe("cpu")
    assert told["packages"]["torch"].startswith(torch.__version__.split("+")[0])
    assert told["packages"]["federated-diffusion-bench"] == bench.__version__
    assert told["device"] == "cpu"
    assert told["cpu"]
    assert told["commit"] is None or len(told["commit"]) == 40


def test_outside_a_checkout_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    told = environment.describe("cpu")
    assert told["commit"] is None
    assert told["dirty"] is None


@pytest.mark.parametrize(
    ("wanted", "there", "resolved"), [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu")]
)
def test_devices_are_resolved(monkeypatch, wanted, there, resolved):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert environment.resolve_device(wanted) == resolved


def test_a_device_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match='device="cuda" but this torch sees no CUDA device'):
        environment.resolve_device("cuda")


def test_torchvision_imports_after_the_schemas_are_declared():
    code = "import bench.data.torchvision_compat, torchvision; print(torchvision.transforms.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_declared_where_torchvision_loads(monkeypatch):
    monkeypatch.setattr(torchvision_compat, "_operators_load", lambda: True)
    assert torchvision_compat._declare() is None
