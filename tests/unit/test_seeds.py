"""Named streams: the same name always, another for everything else."""

import subprocess
import sys

import pytest
import torch

from bench.seeds import derive, numpy_stream, torch_stream


def test_a_name_has_one_seed_in_every_process():
    code = "from bench.seeds import derive; print(derive(3, 'client', 1, 2))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == derive(3, "client", 1, 2) == 4373176404533433117


def test_names_do_not_run_together():
    names = [(0,), (1,), (0, "a"), (0, "a", 1), (0, "a", "1"), (0, "a1"), (0, 1, "a"), (0, "a", 1.0)]
    assert len({derive(*name) for name in names}) == len(names)


def test_seeds_are_what_generators_take():
    assert all(0 <= derive(0, i) < 2**63 for i in range(1000))


def test_streams_do_not_touch_the_global_generator():
    before = torch.get_rng_state()
    first = torch.randn(3, generator=torch_stream(0, "x"))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, torch.randn(3, generator=torch_stream(0, "x")))
    assert not torch.equal(first, torch.randn(3, generator=torch_stream(0, "y")))
    assert numpy_stream(0, "x").random() == numpy_stream(0, "x").random() != numpy_stream(0, "y").random()


@pytest.mark.parametrize("label", [float("nan"), float("inf")])
def test_names_that_are_no_numbers_are_refused(label):
    with pytest.raises(ValueError, match="not JSON compliant"):
        derive(0, label)
