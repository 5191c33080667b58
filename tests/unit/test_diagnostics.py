"""Losses on test images by timestep, class and client, against a network whose error is known."""

import numpy as np
import pytest
import torch
from torch import nn

from bench.cell.diagnostics import BINS, DRAWS, client_spread, diagnose
from bench.diffusion.process import Process
from bench.diffusion.schedule import linear
from bench.federation.tasks import DiffusionTask

LABELS = torch.tensor([0, 0, 1, 1, 1, 3])  # of four classes, the third without test images


@pytest.fixture
def task():
    pixels = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return DiffusionTask(Process(linear(100)), pixels, pixels, heldout_labels=LABELS)


class Zero(nn.Module):
    """Predicts no noise, so its error is the noise's mean square."""

    def __init__(self):
        super().__init__()
        self.modes = []

    def forward(self, x, t):
        self.modes.append(self.training)
        return torch.zeros_like(x)


def run(task, net=None, mixes=((1, 1, 0, 0), (0, 0, 5, 5), (0, 2, 0, 2))):
    return diagnose(task, net or Zero(), ("a", "b", "c", "d"), np.array(mixes).reshape(-1, 4))


def errors(task):
    batches = list(task.heldout_batches(DRAWS))
    squares = torch.cat([b.eps.square().flatten(1).mean(1) for b in batches]).double()
    return squares, torch.cat([b.t for b in batches]), LABELS[torch.cat([b.indices for b in batches])]


def test_groups_are_means_over_their_images(task):
    found, (squares, t, labels) = run(task), errors(task)
    for k in (0, 1, 3):
        assert found.class_loss[k] == pytest.approx(squares[labels == k].mean().item(), rel=1e-6)
    assert found.class_loss[2] is None
    for k in range(BINS):
        inside = (t >= 10 * k) & (t < 10 * (k + 1))
        assert found.t_loss[k] == (pytest.approx(squares[inside].mean().item(), rel=1e-6) if inside.any() else None)
    assert found.t_edges == tuple(range(0, 101, 10))


def test_a_clients_loss_is_that_of_its_classes(task):
    found = run(task)
    a, b, _, d = found.class_loss
    assert found.client_loss == pytest.approx(((a + b) / 2, d, (b + d) / 2))
    metrics = client_spread(found.client_loss)
    assert metrics["test_loss_client_mean"] == pytest.approx(np.mean(found.client_loss))
    assert metrics["test_loss_client_max"] == max(found.client_loss)
    assert metrics["test_loss_client_sd"] == pytest.approx(np.std(found.client_loss))


def test_a_client_whose_classes_are_not_held_out_has_no_loss(task):
    found = run(task, mixes=((0, 0, 5, 0), (1, 0, 3, 0)))
    assert found.client_loss == (None, found.class_loss[0])
    assert client_spread(found.client_loss)["test_loss_client_max"] == found.class_loss[0]
    assert client_spread(run(task, mixes=((0, 0, 5, 0),)).client_loss) == {}


def test_without_clients_there_is_nothing_to_say_of_them(task):
    found = run(task, mixes=())
    assert found.client_loss == ()
    assert client_spread(found.client_loss) == {}


def test_the_network_is_measured_in_evaluation_mode_and_put_back(task):
    net = Zero().train()
    assert run(task, net) == run(task)
    assert not any(net.modes)
    assert net.training


def test_eight_draws_an_image_in_ten_bins_of_time(task):
    found = run(task)
    assert found.draws == DRAWS == 8
    assert len(found.t_loss) == BINS == 10
