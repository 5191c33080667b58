"""The training loop against independent loops, and the reductions that every strategy must keep."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.diffusion.gaussian import noised
from bench.federation.participation import draw_clients
from bench.federation.tasks import Batch, DiffusionTask, Diverged
from bench.federation.tensors import distance, weight_hash
from bench.seeds import torch_stream
from strategies.base import Strategy
from strategies.centralized import Centralized
from strategies.fedavg import FedAvg
from strategies.fedprox import FedProx
from tests.laws.conftest import SIZES, finish, same, small_net, split_of


def plain_epoch(net, optimizer, task, indices, stream, epochs, batch_size, lr_at):
    """Local training as anyone would write it, for comparison."""
    steps = epochs * math.ceil(len(indices) / batch_size)
    k = 0
    for _ in range(epochs):
        for chosen in indices[torch.randperm(len(indices), generator=stream)].split(batch_size):
            t = torch.randint(0, 50, (len(chosen),), generator=stream)
            eps = torch.randn(len(chosen), 1, 8, 8, generator=stream)
            x_t = noised(task.process.schedule, task.images[chosen].float() / 127.5 - 1, t, eps)
            optimizer.param_groups[0]["lr"] = lr_at(k / steps)
            optimizer.zero_grad()
            (net(x_t, t) - eps).square().flatten(1).mean(dim=1).mean().backward()
            optimizer.step()
            k += 1


def plain_centralized(task, rounds, seed, lr=2e-3):
    """Centralized training with one optimizer throughout, without this project's loop."""
    net = small_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    for r in range(rounds):
        plain_epoch(
            net,
            optimizer,
            task,
            torch.arange(40),
            torch_stream(seed, "client", 0, r),
            2,
            8,
            lambda done, r=r: lr * 0.5 * (1 + math.cos(math.pi * (r + done) / rounds)),
        )
    return dict(net.named_parameters())


def plain_fedavg(task, parts, rounds, seed, keep, lr=1e-3):
    """FedAvg with a model and an optimizer of its own for every client, at a constant rate."""
    server = {name: p.detach().clone() for name, p in small_net().named_parameters()}
    nets = [small_net() for _ in parts]
    optimizers = [torch.optim.Adam(net.parameters(), lr=lr, fused=True) for net in nets]
    for r in range(rounds):
        for i, (net, part) in enumerate(zip(nets, parts, strict=True)):
            net.load_state_dict(server)
            optimizer = optimizers[i] if keep else torch.optim.Adam(net.parameters(), lr=lr, fused=True)
            plain_epoch(
                net, optimizer, task, part.sort().values, torch_stream(seed, "client", i, r), 2, 8, lambda _: lr
            )
        total = sum(map(len, parts))
        models = [dict(net.named_parameters()) for net in nets]
        server = {
            name: sum(m[name].detach().double() * len(p) for m, p in zip(models, parts, strict=True)).div(total).float()
            for name in server
        }
    return server


def test_centralized_is_a_plain_training_loop_bit_for_bit(task, make_training):
    trained = finish(make_training(Centralized(), sizes=(40,), optimizer_state="keep"))
    assert same(trained, {name: p.detach() for name, p in plain_centralized(task, 3, 11).items()})


def test_one_client_is_centralized_bit_for_bit(make_training):
    one_client = make_training(FedAvg(), sizes=(40,), optimizer_state="keep")
    assert same(finish(one_client), finish(make_training(Centralized(), sizes=(40,), optimizer_state="keep")))


@pytest.mark.parametrize("keep", [False, True])
def test_fedavg_is_a_loop_with_a_model_for_each_client(task, make_training, keep):
    run = make_training(optimizer_state="keep" if keep else "reset", lr_schedule="constant", lr=1e-3)
    assert same(finish(run), plain_fedavg(task, split_of(SIZES), 3, 11, keep))


def test_keeping_and_resetting_the_optimizer_differ(make_training):
    assert not same(finish(make_training(optimizer_state="keep")), finish(make_training(optimizer_state="reset")))


def test_fedprox_without_strength_is_fedavg_bit_for_bit(make_training):
    assert same(finish(make_training(FedProx(mu=0.0))), finish(make_training(FedAvg())))


def test_fedprox_with_strength_is_not_fedavg(make_training):
    assert not same(finish(make_training(FedProx(mu=0.1))), finish(make_training(FedAvg())))


def test_runs_are_repeatable_and_seeds_matter(make_training):
    first = finish(make_training())
    assert same(first, finish(make_training()))
    assert not same(first, finish(make_training(seed=12)))
    assert weight_hash(first) == weight_hash(finish(make_training()))


def test_the_order_in_which_a_client_stores_its_images_changes_nothing(make_training):
    flipped = [indices.flip(0) for indices in split_of(SIZES)]
    assert same(finish(make_training()), finish(make_training(clients=flipped)))


class SampleTied(DiffusionTask):
    """One full batch whose timesteps and noise belong to the images, not to the client that draws them."""

    def batches(self, indices, streams, epochs, batch_size, memory):
        order = indices.sort().values
        noise = [torch_stream(0, "image", int(i)) for i in order]
        t = torch.stack([torch.randint(0, self.process.schedule.T, (), generator=g) for g in noise])
        yield Batch(self.images[order], t, torch.stack([torch.randn(1, 8, 8, generator=g) for g in noise]))


def test_one_full_batch_step_a_client_is_one_step_on_the_union(task, make_training):
    settings = {
        "rounds": 1,
        "epochs": 1,
        "batch_size": 64,
        "optimizer": "sgd",
        "lr": 0.05,
        "lr_schedule": "constant",
        "own_task": SampleTied(task.process, task.images, task.heldout),
    }
    federated = finish(make_training(FedAvg(), **settings))
    centralized = finish(make_training(Centralized(), sizes=(40,), **settings))
    initial = dict(small_net().named_parameters())
    for name, value in federated.items():
        torch.testing.assert_close(value, centralized[name], atol=2e-7, rtol=1e-5)
    assert distance(centralized, initial) > 1e-3


def test_clients_with_the_same_data_order_and_noise_are_any_one_of_them(task, make_training):
    class SameBatches(DiffusionTask):
        def batches(self, indices, streams, epochs, batch_size, memory):
            first = torch.arange(9)
            return super().batches(first, lambda *labels: torch_stream(0, "shared"), epochs, batch_size, memory)

    shared = SameBatches(task.process, task.images, task.heldout)
    settings = {"rounds": 1, "lr_schedule": "constant", "own_task": shared}
    together = finish(make_training(sizes=(9, 9, 9), **settings))
    alone = finish(make_training(sizes=(9,), **settings))
    assert same(together, alone)


def test_strength_holds_the_clients_near_the_global_model(make_training):
    drifts = [next(make_training(FedProx(mu=mu), optimizer="sgd", lr=0.02).rounds()).drift for mu in (0, 1, 10, 40)]
    assert drifts == sorted(drifts, reverse=True)
    assert drifts[-1] < 0.6 * drifts[0]


class ProxByPenalty(FedAvg):
    """The proximal term through the other hook, its gradient by autograd."""

    def penalty(self, params, down):
        return 0.05 * sum((p - down[name]).square().sum() for name, p in params.items())


def test_the_penalty_hook_trains_as_the_exact_gradient_does(make_training):
    by_penalty, by_gradient = (
        finish(make_training(s, optimizer="sgd", lr=0.02)) for s in (ProxByPenalty(), FedProx(mu=0.1))
    )
    for name, value in by_penalty.items():
        torch.testing.assert_close(value, by_gradient[name], atol=1e-6, rtol=1e-4)


class Spy(FedAvg):
    """Keeps what it was given, to look for shared memory."""

    def download(self, server, client):
        down = super().download(server, client)
        SEEN.append((down, {name: t.clone() for name, t in down.items()}))
        return down


SEEN: list = []


def test_training_never_writes_to_what_was_downloaded(make_training):
    SEEN.clear()
    run = make_training(Spy())
    for _ in run.rounds():
        live = {t.data_ptr() for t in dict(run.net.named_parameters()).values()}
        assert live.isdisjoint(t.data_ptr() for t in run.server["params"].values())
    assert len(SEEN) == 9
    assert all(same(down, copy) for down, copy in SEEN)


def test_the_ledger_counts_every_byte_and_every_image(make_training):
    records = list(make_training(epochs=2, batch_size=8).rounds())
    size = sum(p.numel() * 4 for p in small_net().parameters())
    assert [r.bytes_down for r in records] == [r.bytes_up for r in records] == [3 * size, 6 * size, 9 * size]
    assert [r.samples for r in records] == [80, 160, 240]
    assert [r.gradient_steps for r in records] == [12, 24, 36]  # 2 epochs of 1 + 2 + 3 batches
    assert [r.sequential_steps for r in records] == [6, 12, 18]
    assert [r.round for r in records] == [1, 2, 3]


def test_nothing_travels_in_centralized_training(make_training):
    *_, last = make_training(Centralized(), sizes=(40,)).rounds()
    assert last.bytes_up == last.bytes_down == 0
    assert last.samples == 240


def test_the_model_holds_the_global_weights_after_each_round(make_training):
    run = make_training()
    for _ in run.rounds():
        assert same(run.server["params"], {name: p.detach() for name, p in run.net.named_parameters()})


@given(n=st.integers(1, 200), fraction=st.floats(0.001, 1), seed=st.integers(0, 10), index=st.integers(0, 50))
def test_participants_are_as_many_as_asked_different_and_repeatable(n, fraction, seed, index):
    drawn = draw_clients(n, fraction, "fixed", seed, index)
    assert len(drawn) == max(1, math.floor(fraction * n + 0.5))
    assert drawn == sorted(set(drawn))
    assert 0 <= drawn[0] <= drawn[-1] < n
    assert drawn == draw_clients(n, fraction, "fixed", seed, index)


def test_participants_differ_between_rounds():
    assert len({tuple(draw_clients(20, 0.3, "fixed", 0, r)) for r in range(10)}) > 1


def test_only_participants_are_trained_and_weighted(make_training):
    run = make_training(participation=0.34, rounds=4)
    chosen = [len(split_of(SIZES)[draw_clients(3, 0.34, "fixed", 11, r)[0]]) * 2 for r in range(4)]
    samples = [r.samples for r in run.rounds()]
    assert samples == [sum(chosen[: r + 1]) for r in range(4)]


def test_the_heldout_loss_uses_the_same_numbers_every_time(task):
    net = small_net()
    assert torch.equal(task.heldout_errors(net), task.heldout_errors(net))
    assert net.training


def test_timesteps_of_the_heldout_loss_cover_the_schedule(task):
    (batch,) = task.heldout_batches(1)
    assert sorted(batch.t.tolist()) == [2, 7, 12, 17, 22, 27, 32, 37, 42, 47]


def test_a_run_that_diverges_says_where(make_training):
    run = make_training(optimizer="sgd", lr=1e30, lr_schedule="constant")
    with pytest.raises(Diverged, match=r"client \d is (nan|inf) in round 1|validation loss is (nan|inf) after round 1"):
        finish(run)


class Lazy(FedAvg):
    def aggregate(self, server, uploads):
        next(uploads)


class Idle(Strategy):
    def aggregate(self, server, uploads):
        pass


@pytest.mark.parametrize("strategy", [Lazy(), Idle()])
def test_a_strategy_that_leaves_uploads_is_told(make_training, strategy):
    with pytest.raises(RuntimeError, match=f"{type(strategy).__name__}.aggregate left uploads"):
        finish(make_training(strategy))


class Counting(FedAvg):
    """Remembers its visits in the client's own state."""

    def upload(self, params, down, local):
        local["visits"] = local.get("visits", 0) + 1
        local["mean"] = local.get("mean", torch.zeros(3)) + 1.5
        VISITS.append((local["visits"], local["mean"].tolist()))
        return params


VISITS: list = []


def test_clients_remember_their_state_between_visits(make_training):
    VISITS.clear()
    finish(make_training(Counting(), rounds=3))
    assert [(r, [1.5 * r] * 3) for r in (1, 2, 3) for _ in SIZES] == VISITS


def test_dropout_draws_from_the_clients_own_stream(make_training):
    def net():
        net = small_net()
        for module in net.modules():
            if hasattr(module, "dropout"):
                module.dropout = 0.5
        return net

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = finish(make_training(net=net()))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert same(first, finish(make_training(net=net())))
    assert not same(first, finish(make_training()))
