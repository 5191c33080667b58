"""What travels and what stays: partial exchange, none at all, and the server's average over rounds."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.diffusion.unet import UNet
from bench.federation.tasks import DiffusionTask, mean_error
from bench.seeds import torch_stream
from strategies.base import Upload, weighted_mean
from strategies.centralized import Centralized
from strategies.fedavg import FedAvg
from strategies.fedavg_ema import FedAvgEMA
from strategies.feddiffuse import FedDiffuse
from strategies.local_only import LocalOnly
from tests.laws.conftest import SIZES, finish, same, small_net, split_of
from tests.laws.quadratic import Quadratic, make_run, train
from tests.laws.test_rounds import plain_epoch

MODES = ("full", "usplit", "ulatdec", "udec")


def parts_of(net):
    """Names by part, read off the modules that a U-Net's forward pass goes through."""
    encoder = {"image_proj": net.image_proj, "time_emb": net.time_emb, "class_emb": net.class_emb, "down": net.down}
    decoder = {"up": net.up, "norm": net.norm, "final": net.final}
    return {
        part: {f"{root}.{name}" for root, m in modules.items() if m is not None for name, _ in m.named_parameters()}
        for part, modules in (("encoder", encoder), ("bottleneck", {"middle": net.middle}), ("decoder", decoder))
    }


def size_of(*parts):
    """Bytes of these parts of the small net in float32."""
    names = set().union(*(parts_of(small_net())[part] for part in parts))
    return sum(4 * p.numel() for name, p in small_net().named_parameters() if name in names)


ENCODER, BOTTLENECK, DECODER = (parts_of(small_net())[part] for part in ("encoder", "bottleneck", "decoder"))
TRAVELS = {"full": ENCODER | BOTTLENECK | DECODER, "ulatdec": BOTTLENECK | DECODER, "udec": DECODER}


def weights(net):
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def filled(value, names=None):
    return {
        name: torch.full_like(p, value) for name, p in weights(small_net()).items() if names is None or name in names
    }


def snapshots(run):
    """The global model and each client's after every round."""
    seen = []
    for _ in run.rounds():
        seen.append([{name: t.clone() for name, t in model.items()} for model in (run.server["params"], *run.models())])
    return seen


class SameBatches(DiffusionTask):
    """Every client draws the same batches of the same images."""

    def batches(self, indices, streams, epochs, batch_size, memory):
        return super().batches(torch.arange(9), lambda *_: torch_stream(0, "shared"), epochs, batch_size, memory)


# ------------------------------------------------------------------------------------------------ FedDiffuse


@pytest.mark.parametrize("classes", [None, 10])
def test_every_parameter_of_a_unet_is_in_one_part(classes):
    net = UNet(1, (8, 16, 16), (False, True, False), blocks=2, groups=8, classes=classes, learned_variance=True)
    params = weights(net)
    server = {"params": params, "round": 0}
    parts = parts_of(net)
    assert set(FedDiffuse("udec").download(server, 0)) == parts["decoder"]
    assert set(FedDiffuse("ulatdec").download(server, 0)) == parts["decoder"] | parts["bottleneck"]
    assert set(params) == parts["encoder"] | parts["bottleneck"] | parts["decoder"]


def test_feddiffuse_in_full_is_fedavg_bit_for_bit(make_training):
    full, plain = make_training(FedDiffuse("full")), make_training(FedAvg())
    losses = [[r.validation_loss for r in run.rounds()] for run in (full, plain)]
    assert losses[0] == losses[1]
    assert same(full.server["params"], plain.server["params"])


@pytest.mark.parametrize(
    ("mode", "down", "up"),
    [
        ("full", 3 * size_of("encoder", "bottleneck", "decoder"), 3 * size_of("encoder", "bottleneck", "decoder")),
        ("ulatdec", 3 * size_of("bottleneck", "decoder"), 3 * size_of("bottleneck", "decoder")),
        ("udec", 3 * size_of("decoder"), 3 * size_of("decoder")),
    ],
)
def test_the_ledger_counts_the_parts_that_travel(make_training, mode, down, up):
    records = list(make_training(FedDiffuse(mode)).rounds())
    assert [r.bytes_down for r in records] == [down, 2 * down, 3 * down]
    assert [r.bytes_up for r in records] == [up, 2 * up, 3 * up]


def test_the_ledger_of_usplit_counts_the_whole_model_down_and_a_part_up(make_training):
    """Clients 0 and 2 send the encoder in rounds 0 and 2, client 1 in round 1; one byte tells each its turn."""
    records = list(make_training(FedDiffuse("usplit")).rounds())
    whole, encoder, rest = (
        size_of("encoder", "bottleneck", "decoder"),
        size_of("encoder"),
        size_of("bottleneck", "decoder"),
    )
    assert [r.bytes_down for r in records] == [3 * (whole + 1), 6 * (whole + 1), 9 * (whole + 1)]
    assert [r.bytes_up for r in records] == [2 * encoder + rest, 3 * encoder + 3 * rest, 5 * encoder + 4 * rest]


def plain_partial(task, parts, rounds, seed, travels):
    """A model for each client, of which the tensors in `travels` are replaced by their mean after each round."""
    nets, total = [small_net() for _ in parts], sum(map(len, parts))
    for r in range(rounds):
        for i, (net, part) in enumerate(zip(nets, parts, strict=True)):
            optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
            stream = torch_stream(seed, "client", i, r)
            plain_epoch(net, optimizer, task, part.sort().values, stream, 2, 8, lambda _: 1e-3)
        models = [weights(net) for net in nets]
        for name in travels:
            mean = sum(m[name].double() * len(p) for m, p in zip(models, parts, strict=True)).div(total).float()
            for net in nets:
                net.get_parameter(name).data.copy_(mean)
    return [weights(net) for net in nets]


@pytest.mark.parametrize("mode", ["ulatdec", "udec"])
def test_partial_exchange_is_a_loop_that_averages_those_tensors_bit_for_bit(task, make_training, mode):
    run = make_training(FedDiffuse(mode), lr_schedule="constant", lr=1e-3)
    finish(run)
    expected = plain_partial(task, split_of(SIZES), 3, 11, TRAVELS[mode])
    for model, own in zip(run.models(), expected, strict=True):
        assert same(model, own)


@pytest.mark.parametrize("mode", ["ulatdec", "udec"])
def test_what_stays_never_changes_on_the_server_and_differs_between_clients(make_training, mode):
    initial = weights(small_net())
    stays, last = TRAVELS["full"] - TRAVELS[mode], initial
    for server, *models in snapshots(make_training(FedDiffuse(mode))):
        assert all(torch.equal(server[name], initial[name]) for name in stays)
        assert not any(torch.equal(server[name], last[name]) for name in ("up.0.res.conv1.weight", "final.weight"))
        for model in models:
            assert all(torch.equal(model[name], server[name]) for name in TRAVELS[mode])
        assert len({model["image_proj.weight"].sum().item() for model in (server, *models)}) == 4
        last = server


@pytest.mark.parametrize("mode", ["ulatdec", "udec"])
def test_a_client_that_was_never_visited_has_the_initial_parts_and_those_that_travelled(make_training, mode):
    run = make_training(FedDiffuse(mode), participation=0.34, rounds=1)
    ((server, *models),) = snapshots(run)
    (chosen,) = (visit.client for visit in run.visits)
    assert [same(model, server) for model in models] == [number != chosen for number in range(3)]


@pytest.mark.parametrize("strategy", [LocalOnly(), FedDiffuse("ulatdec"), FedDiffuse("udec")])
def test_the_only_client_has_the_centralized_model_bit_for_bit(make_training, strategy):
    alone = make_training(strategy, sizes=(40,), optimizer_state="keep")
    central = make_training(Centralized(), sizes=(40,), optimizer_state="keep")
    assert [r.validation_loss for r in alone.rounds()] == [r.validation_loss for r in central.rounds()]
    (model,) = alone.models()
    assert same(model, central.server["params"])


@pytest.mark.parametrize("strategy", [*(FedDiffuse(mode) for mode in MODES), LocalOnly()])
def test_clients_with_the_same_batches_all_have_fedavgs_model_bit_for_bit(task, make_training, strategy):
    shared = SameBatches(task.process, task.images, task.heldout)
    run = make_training(strategy, sizes=(9, 9, 9), own_task=shared)
    finish(run)
    expected = finish(make_training(FedAvg(), sizes=(9,), own_task=shared))
    for model in run.models():
        assert same(model, expected)


@pytest.mark.parametrize("strategy", [*(FedDiffuse(mode) for mode in MODES), LocalOnly()])
def test_where_clients_keep_parts_their_models_are_evaluated_one_by_one(strategy):
    assert strategy.personal == (strategy in (LocalOnly(), FedDiffuse("ulatdec"), FedDiffuse("udec")))


def turns(strategy, n_clients, index):
    """What each client uploads in a round."""
    params = weights(small_net())
    server = {"params": params, "round": index}
    return [set(strategy.upload(params, strategy.download(server, i), {})) for i in range(n_clients)]


def test_the_halves_of_usplit_are_complementary_and_take_turns():
    now, then = turns(FedDiffuse("usplit"), 6, 4), turns(FedDiffuse("usplit"), 6, 5)
    assert now == [ENCODER, BOTTLENECK | DECODER] * 3
    assert then == [BOTTLENECK | DECODER, ENCODER] * 3


def test_clients_of_usplit_train_from_the_whole_global_model():
    server = {"params": weights(small_net()), "round": 1}
    strategy = FedDiffuse("usplit")
    assert same(strategy.start(strategy.download(server, 0), {}), server["params"])


def test_usplit_averages_each_part_over_its_senders():
    server = {"params": filled(9.0), "round": 0}
    sent = [(10, filled(1.0, ENCODER)), (30, filled(5.0, BOTTLENECK | DECODER)), (30, filled(3.0, ENCODER))]
    FedDiffuse("usplit").aggregate(server, iter([Upload(i, n, up) for i, (n, up) in enumerate(sent)]))
    encoder = (10 * 1.0 + 30 * 3.0) / 40  # 2.5
    assert same(server["params"], {**filled(encoder), **filled(5.0, BOTTLENECK | DECODER)})


@pytest.mark.parametrize("sent", [ENCODER, BOTTLENECK | DECODER])
def test_a_part_that_nobody_sent_stays(sent):
    server = {"params": filled(9.0), "round": 0}
    FedDiffuse("usplit").aggregate(server, iter([Upload(0, 7, filled(1.0, sent)), Upload(2, 7, filled(2.0, sent))]))
    assert same(server["params"], {**filled(9.0), **filled(1.5, sent)})
    assert list(server["params"]) == list(filled(9.0))


def test_a_lone_client_of_usplit_moves_one_part_a_round(make_training):
    run = make_training(FedDiffuse("usplit"), sizes=(40,), rounds=2)
    last = weights(small_net())
    for moved, (server, _) in zip((ENCODER, BOTTLENECK | DECODER), snapshots(run), strict=True):
        assert {name for name in server if not torch.equal(server[name], last[name])} == moved
        last = server


@pytest.mark.parametrize("mode", MODES)
def test_uploads_of_the_global_model_leave_it_bit_for_bit(mode):
    params = {name: p + 0.1 for name, p in weights(small_net()).items()}
    server, strategy = {"params": params, "round": 0}, FedDiffuse(mode)
    uploads = [
        Upload(i, n, strategy.upload(params, strategy.download(server, i), {})) for i, n in enumerate((3, 7, 90))
    ]
    strategy.aggregate(server, iter(uploads))
    assert same(server["params"], params)


@pytest.mark.parametrize("mode", ["usplit", "ulatdec", "udec"])
@pytest.mark.parametrize("odd", [{"up.0.res.conv1.weight"}, {"image_proj.weight", "final.weight"}, {"other"}])
def test_uploads_that_are_no_part_are_refused(mode, odd):
    server = {"params": filled(0.0), "round": 0}
    upload = Upload(0, 1, {name: torch.zeros(1) for name in odd})
    with pytest.raises(ValueError, match="these differ"):
        FedDiffuse(mode).aggregate(server, iter([upload]))


@pytest.mark.parametrize("mode", ["usplit", "ulatdec", "udec"])
def test_a_network_without_the_parts_of_a_unet_is_refused(tmp_path, mode):
    run = make_run(tmp_path, FedDiffuse(mode), Quadratic(torch.zeros(2, 1)), (1, 1))
    with pytest.raises(
        ValueError, match="FedDiffuse is for U-Nets only: parameter 'w' is in none of its parts image_proj"
    ):
        train(run)


def test_unknown_modes_are_refused():
    with pytest.raises(ValueError, match="mode must be one of full, usplit, ulatdec, udec, got 'half'"):
        FedDiffuse("half")


# ------------------------------------------------------------------------------------------------ LocalOnly


class OnlyOne(FedAvg):
    """FedAvg that takes one client's uploads and no other's: that client trains alone, under its own number."""

    def aggregate(self, server, uploads):
        server["params"] = weighted_mean(server["params"], (u for u in uploads if u.client == CHOSEN))


CHOSEN = 0


@pytest.mark.parametrize("settings", [{}, {"optimizer_state": "keep"}], ids=["reset", "keep"])
def test_local_only_is_each_client_training_alone_bit_for_bit(monkeypatch, make_training, settings):
    run = make_training(LocalOnly(), rounds=2, **settings)
    finish(run)
    for number, model in enumerate(run.models()):
        monkeypatch.setattr(f"{__name__}.CHOSEN", number)
        assert same(model, finish(make_training(OnlyOne(), rounds=2, **settings)))
    assert same(run.server["params"], weights(small_net()))


def test_the_first_client_of_local_only_is_fedavg_with_one_client(make_training):
    run = make_training(LocalOnly())
    finish(run)
    assert same(next(run.models()), finish(make_training(FedAvg(), sizes=None, clients=split_of(SIZES)[:1])))


def test_nothing_travels_in_local_training(make_training):
    records = list(make_training(LocalOnly()).rounds())
    assert [(r.bytes_down, r.bytes_up) for r in records] == [(0, 0)] * 3
    assert [r.samples for r in records] == [80, 160, 240]


def test_local_clients_go_to_their_own_optima(tmp_path):
    """Centres 1 and -3: after k steps from 0 a client is at c (1 - (1 - lr)^k); the mean of all would be -1."""
    run = make_run(tmp_path, LocalOnly(), Quadratic(torch.tensor([[1.0], [-3.0]])), (1, 1), rounds=20, epochs=2)
    assert train(run).item() == 0.0
    reached = 1 - 0.9**40
    assert [model["w"].item() for model in run.models()] == pytest.approx([reached, -3 * reached], rel=1e-5)


@pytest.mark.parametrize("strategy", [LocalOnly(), FedDiffuse("ulatdec"), FedDiffuse("udec")])
def test_what_clients_keep_is_theirs(strategy):
    params, local = weights(small_net()), {}
    before = {name: p.clone() for name, p in params.items()}
    server = {"params": filled(0.0), "round": 0}
    strategy.upload(params, strategy.download(server, 0), local)
    for p in params.values():
        p.fill_(7.0)
    assert same(strategy.model(server, local), {**before, **strategy.download(server, 0)})


# ------------------------------------------------------------------------------------------------ FedAvgEMA


def test_the_average_over_rounds_has_its_closed_form(tmp_path):
    """One centre at 4, lr 0.25: w_k = 4 (1 - 0.75^k) after k rounds, so that the average is known in numbers.

    d_k = 1/10, 2/11, 3/12, then 0.3 for 4/13 and all later ones.
    """
    run = make_run(tmp_path, FedAvgEMA(0.3), Quadratic(torch.full((2, 1), 4.0)), (1, 1), rounds=6, lr=0.25)
    decays = [1 / 10, 2 / 11, 3 / 12, 0.3, 0.3, 0.3]
    for done, _ in enumerate(run.rounds(), start=1):
        expected = sum(
            (1 - decays[k]) * math.prod(decays[k + 1 : done]) * 4 * (1 - 0.75 ** (k + 1)) for k in range(done)
        )  # the initial weights are 0
        assert run.strategy.model(run.server, {})["w"].item() == pytest.approx(expected, rel=1e-5)
        assert run.server["params"]["w"].item() == pytest.approx(4 * (1 - 0.75**done), rel=1e-6)
        assert run.net.w.item() == run.server["average"]["w"].item()


@given(decay=st.floats(0, 0.999), k=st.integers(0, 10_000))
def test_the_warm_up_ends_where_the_docstring_says(decay, k):
    warm = FedAvgEMA(decay).decay_at(k)
    assert 0 <= warm <= decay
    if k < (10 * decay - 1) / (1 - decay) * (1 - 1e-9):
        assert warm == (1 + k) / (10 + k)
    if k > (10 * decay - 1) / (1 - decay) * (1 + 1e-9):
        assert warm == decay


def test_the_initial_weights_count_by_the_product_of_all_decays(make_training):
    run = make_training(FedAvgEMA(0.9))
    initial, done = weights(small_net()), []
    for _ in run.rounds():
        done.append({name: t.double() for name, t in run.server["params"].items()})
    d = [1 / 10, 2 / 11, 3 / 12]
    shares = [d[0] * d[1] * d[2], (1 - d[0]) * d[1] * d[2], (1 - d[1]) * d[2], 1 - d[2]]
    assert sum(shares) == pytest.approx(1)
    for name, value in run.server["average"].items():
        models = [initial[name].double(), *(model[name] for model in done)]
        expected = sum(share * model for share, model in zip(shares, models, strict=True))
        torch.testing.assert_close(value.double(), expected, atol=1e-7, rtol=1e-5)


def test_training_goes_on_from_the_plain_mean(make_training):
    assert same(finish(make_training(FedAvgEMA(0.9))), finish(make_training(FedAvg())))


def test_the_average_is_what_is_evaluated(make_training):
    run = make_training(FedAvgEMA(0.9))
    for record in run.rounds():
        assert same(run.server["average"], weights(run.net))
        assert record.validation_loss == mean_error(run.task.heldout_errors(run.net))
        assert record.validation_loss != record.validation_loss_raw


def test_a_decay_of_zero_is_fedavg_bit_for_bit(make_training):
    averaged, plain = make_training(FedAvgEMA(0.0)), make_training(FedAvg())
    losses = [[(r.validation_loss, r.bytes_up, r.bytes_down) for r in run.rounds()] for run in (averaged, plain)]
    assert losses[0] == losses[1]
    assert same(averaged.strategy.model(averaged.server, {}), plain.server["params"])


def test_averaging_writes_into_no_model_of_before():
    first, second = {"w": torch.zeros(2)}, {"w": torch.ones(2)}
    server, strategy = {"params": first}, FedAvgEMA(0.9)
    strategy.aggregate(server, iter([Upload(0, 1, second)]))
    after = server["average"]["w"]
    strategy.aggregate(server, iter([Upload(0, 1, {"w": torch.full((2,), 5.0)})]))
    assert (first["w"].tolist(), second["w"].tolist()) == ([0.0, 0.0], [1.0, 1.0])
    assert after.tolist() == pytest.approx([0.9, 0.9])
    assert server["average"]["w"].tolist() == pytest.approx([2 / 11 * 0.9 + 9 / 11 * 5] * 2)


def test_counts_of_a_model_are_not_averaged():
    server = {"params": {"w": torch.zeros(1), "count": torch.tensor(3)}}
    FedAvgEMA(0.9).aggregate(server, iter([Upload(0, 1, {"w": torch.ones(1), "count": torch.tensor(8)})]))
    assert server["average"]["count"].item() == 8
    assert server["average"]["count"].dtype == torch.int64


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_decays_that_make_no_average_are_refused(decay):
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got"):
        FedAvgEMA(decay)
