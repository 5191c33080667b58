"""A budget in gradient steps: every client makes as many, of full batches, whatever it holds."""

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.config.cell import TrainingConfig
from bench.diffusion.gaussian import noised
from bench.federation.tasks import chosen_images
from bench.seeds import torch_stream
from strategies.centralized_matched import CentralizedMatched
from strategies.fedavg import FedAvg
from strategies.fednova import FedNova
from strategies.fedprox import FedProx
from tests.laws.conftest import finish, same, small_net

SIZES = (3, 12, 25)  # in batches of 8: less than one, one and a half, three and an image
STEPS = 5
BYTES = sum(p.numel() * 4 for p in small_net().parameters())


@given(n=st.integers(1, 60), size=st.integers(1, 40), steps=st.integers(1, 30), seed=st.integers(0, 5))
def test_batches_are_full_and_all_images_are_seen_equally_often_to_one(n, size, steps, seed):
    indices, stream = torch.arange(100, 100 + n), torch.Generator().manual_seed(seed)
    batches = list(itertools.islice(chosen_images(indices, stream, None, size), steps))
    assert [len(batch) for batch in batches] == [size] * steps
    seen = torch.cat(batches).tolist()
    assert set(seen) <= set(indices.tolist())
    for first in range(0, len(seen), n):  # pass by pass, and the batches know nothing of where one ends
        once = seen[first : first + n]
        assert len(set(once)) == len(once)
    counts = Counter(seen)
    assert {counts[i] for i in indices.tolist()} <= {len(seen) // n, math.ceil(len(seen) / n)}


def test_where_batches_divide_the_images_steps_are_epochs_bit_for_bit(make_training):
    by_epochs = make_training(FedAvg(), sizes=(16, 16), rounds=2, epochs=2)
    by_steps = make_training(FedAvg(), sizes=(16, 16), rounds=2, steps=4)
    assert same(finish(by_steps), finish(by_epochs))


def test_all_clients_make_the_same_steps_of_full_batches_in_every_round(make_training):
    run = make_training(FedAvg(), sizes=SIZES, steps=STEPS)
    for number, record in enumerate(run.rounds(), start=1):
        assert [(v.client, v.steps, v.samples) for v in run.visits] == [(i, STEPS, 8 * STEPS) for i in range(3)]
        assert all(len(visit.step_losses) == STEPS for visit in run.visits)
        assert record.samples == number * 3 * 8 * STEPS
        assert record.gradient_steps == number * 3 * STEPS
        assert record.sequential_steps == number * STEPS
        assert record.bytes_up == record.bytes_down == number * 3 * BYTES


@pytest.mark.parametrize("sizes", [SIZES, (40,), (1, 1, 1, 37)])
def test_what_is_expected_of_a_round_is_what_it_does(make_training, sizes):
    settings = TrainingConfig(local_steps=STEPS, batch_size=8)
    *_, last = make_training(FedAvg(), sizes=sizes, steps=STEPS).rounds()
    assert last.samples == 3 * settings.images_a_round(40, len(sizes))
    by_epochs = TrainingConfig(local_epochs=2, batch_size=8, participation=0.5)
    assert by_epochs.images_a_round(40, 4) == 40
    assert TrainingConfig(local_steps=STEPS, batch_size=8, participation=0.5).images_a_round(40, 4) == 2 * 8 * STEPS


def test_clients_of_a_round_make_their_steps_however_few_they_are(make_training):
    run = make_training(FedAvg(), sizes=(3, 12, 20, 5), steps=STEPS, participation=0.5)
    records, who = [], set()
    for record in run.rounds():
        records.append(record)
        who |= {visit.client for visit in run.visits}
        assert [visit.steps for visit in run.visits] == [STEPS, STEPS]
    assert len(who) > 2
    assert [record.gradient_steps for record in records] == [10, 20, 30]
    assert [record.bytes_up for record in records] == [2 * BYTES, 4 * BYTES, 6 * BYTES]


def test_stragglers_make_their_share_of_the_steps_or_are_dropped(make_training):
    kept = make_training(FedProx(mu=0.1), sizes=SIZES, steps=20, stragglers=1.0, rounds=2)
    dropped = make_training(FedAvg(), sizes=SIZES, steps=20, stragglers=1.0, rounds=2)
    for record, other in zip(kept.rounds(), dropped.rounds(), strict=True):
        assert record.dropped == 0
        assert other.dropped == other.stragglers == record.stragglers > 0
        for visit, lost in zip(kept.visits, dropped.visits, strict=True):
            assert (visit.client, visit.work) == (lost.client, lost.work)
            assert visit.steps == max(1, math.floor(20 * visit.work))
            assert visit.samples == 8 * visit.steps
            assert (lost.outcome, lost.steps) == (("dropped", 0) if visit.work < 1 else ("arrived", 20))


def test_the_learning_rate_takes_all_through_the_same_course(make_training):
    """The cosine's course is the run's, whatever a client holds and whoever trains."""
    wanted = [0.5e-3 * (1 + math.cos(math.pi * (r + k / STEPS) / 3)) for r in range(3) for k in range(STEPS)]
    for strategy, sizes in ((FedAvg(), SIZES), (CentralizedMatched(), (40,))):
        run, rates = make_training(strategy, sizes=sizes, steps=STEPS, lr=1e-3), [[] for _ in sizes]
        step = run._step

        def noting(batch, down, local, run=run, rates=rates, step=step):
            rates[run.visits[-1].client].append(run._optimizer.param_groups[0]["lr"])
            return step(batch, down, local)

        run._step = noting
        finish(run)
        assert rates == [pytest.approx(wanted)] * len(sizes)


def plain_steps(task, rounds, seed, lr=2e-3):
    """Training in one place by steps of full batches with one optimizer throughout, without this project's loop."""
    net = small_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    for r in range(rounds):
        stream, order = torch_stream(seed, "client", 0, r), []
        for k in range(STEPS):
            while len(order) < 16:
                order += torch.randperm(40, generator=stream).tolist()
            chosen, order = torch.tensor(order[:16]), order[16:]
            t = torch.randint(0, 50, (16,), generator=stream)
            eps = torch.randn(16, 1, 8, 8, generator=stream)
            x_t = noised(task.process.schedule, task.images[chosen].float() / 127.5 - 1, t, eps)
            optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * (r + k / STEPS) / rounds))
            optimizer.zero_grad()
            (net(x_t, t) - eps).square().flatten(1).mean(dim=1).mean().backward()
            optimizer.step()
    return {name: p.detach() for name, p in net.named_parameters()}


def test_centralized_training_with_a_clients_steps_is_a_plain_loop_bit_for_bit(task, make_training):
    """40 images in batches of 16: batches reach from one pass into the next."""
    run = make_training(CentralizedMatched(), sizes=(40,), steps=STEPS, batch_size=16, optimizer_state="keep")
    assert same(finish(run), plain_steps(task, 3, 11))


@pytest.mark.parametrize("strategy", [FedAvg(), FedProx(mu=0.0)])
def test_one_client_with_everything_is_centralized_training_with_its_steps_bit_for_bit(make_training, strategy):
    alone = make_training(strategy, sizes=(40,), steps=STEPS, optimizer_state="keep")
    central = make_training(CentralizedMatched(), sizes=(40,), steps=STEPS, optimizer_state="keep")
    for record, other in zip(alone.rounds(), central.rounds(), strict=True):
        assert (record.validation_loss, record.train_loss) == (other.validation_loss, other.train_loss)
        assert (record.samples, record.sequential_steps) == (other.samples, other.sequential_steps)
        assert record.bytes_up > other.bytes_up == other.bytes_down == 0
    assert same(alone.server["params"], central.server["params"])


def test_fedprox_without_strength_is_fedavg_bit_for_bit(make_training):
    weak, plain, strong = (
        finish(make_training(strategy, sizes=SIZES, rounds=2, steps=STEPS))
        for strategy in (FedProx(mu=0.0), FedAvg(), FedProx())
    )
    assert same(weak, plain)
    assert not same(strong, plain)


def test_at_equal_steps_fednova_is_fedavg_and_at_equal_epochs_it_is_not(make_training):
    def distance(**budget):
        runs = (make_training(strategy, sizes=SIZES, rounds=1, **budget) for strategy in (FedNova(), FedAvg()))
        nova, plain = map(finish, runs)
        return max((nova[name] - plain[name]).abs().max().item() for name in plain)

    assert distance(steps=STEPS) < 1e-6
    assert distance(epochs=2) > 1e-4
