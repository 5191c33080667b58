"""The moving average of the weights in federated training, and what else clients remember and send."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.diffusion.config import EmaConfig
from bench.federation.tasks import DiffusionTask, mean_error
from strategies.centralized import Centralized
from strategies.fedavg import FedAvg
from tests.laws.conftest import finish, same, small_net

ON_SERVER, ON_CLIENTS = EmaConfig(mode="server", decay=0.9), EmaConfig(mode="client", decay=0.9)


@pytest.mark.parametrize("ema", [ON_SERVER, ON_CLIENTS], ids=["server", "client"])
def test_the_average_does_not_change_what_is_trained(make_training, ema):
    assert same(finish(make_training(ema=ema)), finish(make_training()))


@pytest.mark.parametrize("ema", [ON_SERVER, ON_CLIENTS], ids=["server", "client"])
def test_one_client_has_the_average_of_centralized_training_bit_for_bit(make_training, ema):
    runs = [make_training(s, sizes=(40,), optimizer_state="keep", ema=ema) for s in (FedAvg(), Centralized())]
    for run in runs:
        finish(run)
    assert same(runs[0].average, runs[1].average)
    assert not same(runs[0].average, runs[0].server["params"])


@pytest.mark.parametrize("participation", [1.0, 0.34])
def test_the_servers_average_is_a_loop_over_rounds_whose_decay_counts_gradient_steps(make_training, participation):
    run = make_training(ema=ON_SERVER, lr_schedule="constant", participation=participation)
    expected = {name: p.detach().double() for name, p in small_net().named_parameters()}
    steps = 0
    for record in run.rounds():
        decay = 1.0
        for k in range(steps, record.sequential_steps):
            decay *= min(0.9, (1 + k) / (10 + k))
        steps = record.sequential_steps
        expected = {n: decay * e + (1 - decay) * run.server["params"][n].double() for n, e in expected.items()}
    assert steps == 18 or participation < 1
    for name, value in run.average.items():
        torch.testing.assert_close(value.double(), expected[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("participation", [1.0, 0.67])
def test_clients_averages_are_taken_at_every_step_and_weighted_by_images(make_training, participation):
    """One round of one local step a client: the average is (d e + (1 - d) w_i), weighted as FedAvg weights."""
    settings = {"rounds": 1, "epochs": 1, "batch_size": 64, "lr_schedule": "constant", "participation": participation}
    run = make_training(ema=ON_CLIENTS, **settings)
    weights = finish(run)
    initial = dict(small_net().named_parameters())
    decay = ON_CLIENTS.decay_at(0)
    for name, value in run.average.items():
        torch.testing.assert_close(
            value, decay * initial[name].detach() + (1 - decay) * weights[name], atol=1e-6, rtol=1e-5
        )


class Partial(FedAvg):
    """Sends only the tensors of the upward path to the clients."""

    def download(self, server, client):
        return {name: t for name, t in server["params"].items() if name.startswith("up")}


@pytest.mark.parametrize("ema", [ON_SERVER, ON_CLIENTS], ids=["server", "client"])
def test_what_does_not_travel_starts_from_the_global_model_whatever_was_evaluated(make_training, ema):
    assert same(finish(make_training(Partial(), ema=ema)), finish(make_training(Partial())))


def test_a_decay_of_zero_averages_nothing(make_training):
    for mode in ("server", "client"):
        run = make_training(ema=EmaConfig(mode=mode, decay=0.0))
        weights = finish(run)
        for name, value in run.average.items():
            torch.testing.assert_close(value, weights[name], atol=1e-7, rtol=1e-6)


def test_the_average_is_what_is_left_to_be_evaluated(make_training):
    run = make_training(ema=ON_SERVER)
    for record in run.rounds():
        assert same(run.average, {name: p.detach() for name, p in run.net.named_parameters()})
        assert record.validation_loss == mean_error(run.task.heldout_errors(run.net))
        assert record.validation_loss != record.validation_loss_raw
    plain = make_training()
    assert all(record.validation_loss == record.validation_loss_raw for record in plain.rounds())


def test_averages_of_clients_travel_and_those_of_the_server_do_not(make_training):
    def travelled(**settings):
        *_, last = make_training(**settings).rounds()
        return last.bytes_down, last.bytes_up

    plain = travelled()
    assert travelled(ema=ON_SERVER) == plain
    assert travelled(ema=ON_CLIENTS) == (2 * plain[0], 2 * plain[1])
    assert travelled(strategy=Centralized(), sizes=(40,), ema=ON_CLIENTS) == (0, 0)


# ------------------------------------------------------------------------------------------------ tasks


def conditional(task, rate=0.0):
    labels = torch.arange(40) % 4
    return DiffusionTask(
        task.process, task.images, task.heldout, labels, torch.arange(10) % 4, null=4, label_dropout=rate
    )


def drawn(task, seed=0, memory=None):
    def streams(*labels):
        return torch.Generator().manual_seed(seed + 100 * len(labels))

    return list(task.batches(torch.arange(30), streams, 2, 8, {} if memory is None else memory))


def test_every_epoch_shows_every_image_once_and_drops_none(task):
    batches = drawn(task)
    assert [len(b.x0) for b in batches] == [8, 8, 8, 6] * 2
    for epoch in (batches[:4], batches[4:]):
        seen = [(task.images == x).flatten(1).all(dim=1).nonzero().item() for b in epoch for x in b.x0]
        assert sorted(seen) == list(range(30))
        assert seen != sorted(seen)


def test_classes_change_neither_timesteps_nor_noise(task):
    for plain, classed in zip(drawn(task), drawn(conditional(task, 0.5)), strict=True):
        assert torch.equal(plain.t, classed.t)
        assert torch.equal(plain.eps, classed.eps)
        assert torch.equal(plain.x0, classed.x0)
        assert plain.labels is None


def test_batches_carry_the_classes_of_their_images_some_hidden(task):
    whole, part = drawn(conditional(task)), drawn(conditional(task, 0.5))
    labels = torch.arange(40) % 4
    for batch in whole:
        places = [(task.images == image).flatten(1).all(dim=1).nonzero().item() for image in batch.x0]
        assert batch.labels.tolist() == labels[places].tolist()
    hidden = torch.cat([b.labels for b in part]) == 4
    assert 0.2 < hidden.float().mean() < 0.8
    assert torch.equal(torch.cat([b.labels for b in part])[~hidden], torch.cat([b.labels for b in whole])[~hidden])


def test_loss_aware_batches_learn_from_their_losses_and_remember(task):
    aware = DiffusionTask(task.process, task.images, task.heldout, loss_aware=True)
    net, memory = small_net(), {}
    for batch in drawn(aware, memory=memory):
        losses = aware.losses(net, batch)
        plain = task.losses(net, replace(batch, timesteps=None, weights=None))
        torch.testing.assert_close(losses, plain * batch.weights)
    assert memory["counts"].sum() == 60
    assert torch.equal(memory["losses"].count_nonzero(dim=1), memory["counts"].clamp(max=10))


class Remembering(DiffusionTask):
    """Notes how many losses its clients remember at the start of each visit."""

    def batches(self, indices, streams, epochs, batch_size, memory):
        seen = int(memory["counts"].sum()) if memory else 0
        REMEMBERED.append((len(indices), seen))
        return super().batches(indices, streams, epochs, batch_size, memory)


REMEMBERED: list = []


def test_each_client_keeps_its_own_losses_between_visits(task, make_training):
    REMEMBERED.clear()
    own = Remembering(task.process, task.images, task.heldout, loss_aware=True)
    finish(make_training(own_task=own, rounds=3))
    assert [(n, 2 * n * r) for r in range(3) for n in (7, 12, 21)] == REMEMBERED


@given(draws=st.integers(1, 5))
def test_held_out_draws_share_out_the_timesteps(task, draws):
    batches = list(task.heldout_batches(draws, batch_size=4))
    assert torch.cat([b.indices for b in batches]).tolist() == list(range(10)) * draws
    t = torch.cat([b.t for b in batches]).reshape(draws, 10)
    for draw in range(draws):
        low, high = draw * 50 / draws, (draw + 1) * 50 / draws
        assert low - 1 < t[draw].min() <= t[draw].max() < high
    assert torch.equal(torch.cat([b.eps for b in task.heldout_batches(draws, 7)]), torch.cat([b.eps for b in batches]))
