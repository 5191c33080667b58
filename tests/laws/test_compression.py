"""Quantised and sparse updates: their bytes, their errors, and what error feedback brings back."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.federation.client_states import ClientStates
from bench.federation.tasks import Diverged
from strategies.base import Upload
from strategies.fedavg import FedAvg
from strategies.quantised import Quantised, compressed, expanded
from strategies.top_k import TopK, largest
from tests.laws.conftest import finish, same, small_net
from tests.laws.quadratic import Quadratic, make_run, train

PARAMS = {name: p.detach() for name, p in small_net().named_parameters()}
TENSORS, WEIGHTS = len(PARAMS), sum(p.numel() for p in PARAMS.values())
vectors = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40).map(torch.tensor)
everything = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40).map(
    torch.tensor
)
bits = st.sampled_from([4, 8])


def nbytes(tensors):
    return sum(t.numel() * t.element_size() for t in tensors.values())


def sent(strategy, n_samples=1, client=0, local=None, **values):
    """One client's upload of an update `values` from a model of zeros."""
    params = {name: torch.tensor(value) for name, value in values.items()}
    down = strategy.download({"params": {name: torch.zeros_like(p) for name, p in params.items()}, "round": 0}, client)
    return Upload(client, n_samples, strategy.upload(params, down, {} if local is None else local))


# ------------------------------------------------------------------------------------------------ the quantiser


@given(x=everything, bits=bits)
def test_a_decoded_value_is_within_half_a_step(x, bits):
    packed = compressed({"w": x}, bits)
    step = packed["w/step"].double()
    error = (expanded(packed, bits)["w"].double() - x.double()).abs()
    assert (error <= step / 2 * (1 + 1e-4) + 1e-6 * x.double().abs()).all()


@given(x=vectors, bits=bits)
def test_the_step_is_the_range_with_zero_shared_out_over_the_codes(x, bits):
    span = max(x.max().item(), 0) - min(x.min().item(), 0)
    step = compressed({"w": x}, bits)["w/step"].item()
    assert step == pytest.approx(span / (2**bits - 1), rel=1e-5, abs=2e-38)


@given(x=vectors, bits=bits, places=st.lists(st.integers(0, 39), max_size=5))
def test_zeros_are_exact_whatever_is_beside_them(x, bits, places):
    x[[i for i in places if i < len(x)]] = 0
    decoded = expanded(compressed({"w": x}, bits), bits)["w"]
    assert (decoded[x == 0] == 0).all()


@given(x=vectors, bits=bits)
def test_decoded_values_are_their_own_codes(x, bits):
    """What has been decoded once changes no more: rounding is to the nearest, without draws."""
    once = compressed({"w": x}, bits)
    assert same(once, compressed({"w": x.clone()}, bits))
    decoded = expanded(once, bits)["w"]
    again = expanded(compressed({"w": decoded}, bits), bits)["w"]
    torch.testing.assert_close(again, decoded, rtol=1e-5, atol=1e-5 * once["w/step"].item())


def test_codes_by_hand():
    """From -1 to 6.5 in 4 bits: a step of 0.5 and zero at code 2; 0.75 is in the middle and goes to the even multiple."""
    packed = compressed({"w": torch.tensor([-1.0, 6.5, 0.0, 1.0, 0.8, 0.74, 0.75])}, 4)
    assert packed["w/step"].item() == 0.5
    assert packed["w/zero"].item() == 2
    codes = [0, 15, 2, 4, 4, 3, 4]
    assert packed["w/codes"].tolist() == [0 + 16 * 15, 2 + 16 * 4, 4 + 16 * 3, 4]
    assert expanded(packed, 4)["w"].tolist() == [0.5 * (code - 2) for code in codes]


def test_eight_bits_by_hand():
    packed = compressed({"w": torch.tensor([[0.0, 2.55], [1.004, 1.006]])}, 8)
    assert packed["w/codes"].tolist() == [0, 255, 100, 101]
    torch.testing.assert_close(expanded(packed, 8)["w"], torch.tensor([[0.0, 2.55], [1.0, 1.01]]))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", [(), (1,), (2,), (3,), (3, 5), (2, 3, 1, 1), (7, 1, 3, 3)])
def test_every_shape_comes_back(shape, bits):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    packed = compressed({"w": x}, bits)
    back = expanded(packed, bits)["w"]
    assert back.shape == x.shape
    assert (back - x).abs().max() <= 0.51 * packed["w/step"]
    assert nbytes(packed) == math.ceil(x.numel() * bits / 8) + 5


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 1e-42, 3e38, -3e38])
@pytest.mark.parametrize("bits", [4, 8])
def test_constant_tensors_come_back(value, bits):
    x = torch.full((5,), value)
    packed = compressed({"w": x}, bits)
    assert packed["w/step"] > 0  # 0 / 0 has no code
    torch.testing.assert_close(expanded(packed, bits)["w"], x, rtol=1e-6, atol=1e-37)


def test_the_largest_numbers_do_not_overflow():
    x = torch.tensor([-3e38, 0.0, 3e38])
    torch.testing.assert_close(expanded(compressed({"w": x}, 8), 8)["w"], x, rtol=0.01, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_not_finite_stays_not_finite(bad, bits):
    assert not expanded(compressed({"w": torch.tensor([1.0, bad])}, bits), bits)["w"].isfinite().all()


def test_integers_travel_as_they_are():
    packed = compressed({"count": torch.tensor(300), "w": torch.ones(2)}, 4)
    assert packed["count"].item() == 300
    assert list(expanded(packed, 4)) == ["count", "w"]


# ------------------------------------------------------------------------------------------------ Quantised


@pytest.mark.parametrize(("bits", "down_bits"), [(8, 32), (4, 32), (8, 8), (4, 4)])
def test_the_ledger_counts_codes_steps_and_zero_points(make_training, bits, down_bits):
    def packed(bits):
        return sum(math.ceil(p.numel() * bits / 8) for p in PARAMS.values()) + 5 * TENSORS

    *_, last = make_training(Quantised(bits, down_bits)).rounds()
    assert last.bytes_up == 9 * packed(bits)  # 3 rounds of 3 clients
    assert last.bytes_down == 9 * (4 * WEIGHTS if down_bits == 32 else packed(down_bits))


@pytest.mark.parametrize(("bits", "share"), [(8, 1 / 4), (4, 1 / 8)])
def test_a_large_tensor_costs_a_quarter_or_an_eighth(bits, share):
    x = {"w": torch.randn(64, 64, 3, 3, generator=torch.Generator().manual_seed(0))}
    assert nbytes(compressed(x, bits)) == pytest.approx(share * nbytes(x), rel=1e-3)
    assert nbytes(compressed(PARAMS, bits)) == pytest.approx(share * nbytes(PARAMS), rel=0.15)  # many small tensors


def test_updates_are_added_by_their_weights():
    """Steps of 1 are exact in 8 bits: 10 images say +255 and 3, 30 images -1 and 254."""
    server = {"params": {"w": torch.tensor([1.0, 2.0])}}
    uploads = [sent(Quantised(), 10, 0, w=[255.0, 3.0]), sent(Quantised(), 30, 1, w=[-1.0, 254.0])]
    Quantised().aggregate(server, iter(uploads))
    assert server["params"]["w"].tolist() == [1 + (10 * 255 - 30) / 40, 2 + (10 * 3 + 30 * 254) / 40]


@given(sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=5), seed=st.integers(0, 100), bits=bits)
def test_the_new_model_is_within_the_mean_half_step_of_fedavgs(sizes, seed, bits):
    generator = torch.Generator().manual_seed(seed)
    down = {"a": torch.randn(3, 3, generator=generator), "b": torch.randn(4, generator=generator)}
    models = [{name: w + torch.randn(w.shape, generator=generator) for name, w in down.items()} for _ in sizes]
    server, plain, strategy = {"params": down}, {"params": down}, Quantised(bits)
    uploads = [Upload(i, n, strategy.upload(m, down, {})) for i, (n, m) in enumerate(zip(sizes, models, strict=True))]
    strategy.aggregate(server, iter(uploads))
    FedAvg().aggregate(plain, iter([Upload(i, n, m) for i, (n, m) in enumerate(zip(sizes, models, strict=True))]))
    for name in down:
        half = sum(u.n_samples * u.tensors[f"{name}/step"].item() / 2 for u in uploads) / sum(sizes)
        assert (server["params"][name] - plain["params"][name]).abs().max() <= half * (1 + 1e-5) + 1e-6


def test_clients_start_from_the_quantised_model_and_the_server_keeps_its_own():
    """Q'(w) of (0, 0.4, 15) in 4 bits is (0, 0, 15): an upload of what came down changes nothing, not even the 0.4."""
    server, strategy = {"params": {"w": torch.tensor([0.0, 0.4, 15.0])}, "round": 0}, Quantised(8, down_bits=4)
    down = strategy.download(server, 0)
    start = strategy.start(down, {})
    assert start["w"].tolist() == [0.0, 0.0, 15.0]
    strategy.aggregate(server, iter([Upload(0, 3, strategy.upload(start, down, {}))]))
    assert server["params"]["w"].tolist() == pytest.approx([0.0, 0.4, 15.0])
    trained = {"w": start["w"] + torch.tensor([255.0, 0.0, -0.0])}
    strategy.aggregate(server, iter([Upload(0, 3, strategy.upload(trained, down, {}))]))
    assert server["params"]["w"].tolist() == pytest.approx([255.0, 0.4, 15.0])


@pytest.mark.parametrize("strategy", [Quantised(8), Quantised(4), TopK(0.01), TopK(1.0)])
def test_uploads_of_the_global_model_leave_it_bit_for_bit(strategy):
    server = {"params": PARAMS, "round": 0}
    uploads = [Upload(i, n, strategy.upload(PARAMS, strategy.download(server, i), {})) for i, n in enumerate((3, 90))]
    strategy.aggregate(server, iter(uploads))
    assert same(server["params"], PARAMS)


def test_a_run_in_eight_bits_is_near_fedavg_and_one_in_four_is_farther(make_training):
    plain = finish(make_training(FedAvg()))
    errors = []
    for strategy in (Quantised(8), Quantised(4), Quantised(4, 8)):
        model = finish(make_training(strategy))
        difference = sum((model[name] - plain[name]).double().square().sum().item() for name in plain)
        errors.append(difference / sum((plain[name] - PARAMS[name]).double().square().sum().item() for name in plain))
    assert 0 < errors[0] < 0.01
    assert errors[0] < errors[1] < 0.5
    assert errors[0] < errors[2] < 1.0


def test_quantised_training_converges_where_the_range_shrinks_with_the_updates(tmp_path):
    """One tensor, w_k -> c: with the update its step shrinks, so that the error does not stay."""
    task = Quadratic(torch.tensor([[1.0, -0.3, 0.02], [1.0, -0.3, 0.02]]))
    for strategy in (Quantised(8), Quantised(4)):
        run = make_run(tmp_path / str(strategy.bits), strategy, task, (1, 1), rounds=40, lr=0.3)
        torch.testing.assert_close(train(run), task.optimum(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("settings", [{"bits": 2}, {"bits": 32}, {"down_bits": 16}, {"down_bits": 0}])
def test_other_numbers_of_bits_are_refused(settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=rf"^{name} must be one of 4, 8.*, got {value}"):
        Quantised(**settings)


# ------------------------------------------------------------------------------------------------ TopK


def dense(upload, n):
    x = torch.zeros(n)
    x[upload["indices"].long()] = upload["values"]
    return x


@given(x=vectors, old=st.integers(0, 1000), fraction=st.floats(0.01, 1))
def test_what_is_sent_and_what_stays_are_update_and_old_residual_together(x, old, fraction):
    residual = torch.randn(len(x), generator=torch.Generator().manual_seed(old))
    local = {"residual": residual.clone()}
    upload = TopK(fraction).upload({"w": x}, {"w": torch.zeros_like(x)}, local)
    assert torch.equal(dense(upload, len(x)) + local["residual"], x + residual)
    assert not (dense(upload, len(x)) * local["residual"]).any()


@given(x=vectors, fraction=st.floats(0.001, 1))
def test_as_many_as_asked_are_sent_and_none_that_stays_is_larger(x, fraction):
    local = {}
    upload = TopK(fraction).upload({"w": x}, {"w": torch.zeros_like(x)}, local)
    assert len(upload["values"]) == len(upload["indices"]) == max(1, math.ceil(fraction * len(x) - 1e-6))
    assert upload["indices"].tolist() == sorted(set(upload["indices"].tolist()))
    assert local["residual"].abs().max() <= upload["values"].abs().min()


@pytest.mark.parametrize(
    ("fraction", "n", "count"), [(0.07, 100, 7), (0.1, 10, 1), (0.11, 10, 2), (1e-9, 10, 1), (1, 3, 3)]
)
def test_the_number_of_coordinates_is_rounded_up_and_no_further(fraction, n, count):
    assert len(largest(torch.ones(n), fraction)) == count


@given(n=st.integers(1, 200), fraction=st.floats(0.01, 1), signs=st.integers(0, 2**20))
def test_of_equals_the_first_are_sent(n, fraction, signs):
    x = torch.tensor([1.0 if signs >> (i % 20) & 1 else -1.0 for i in range(n)])
    chosen = largest(x, fraction)
    assert chosen.tolist() == list(range(len(chosen)))


def test_ties_by_hand():
    assert largest(torch.tensor([2.0, -5.0, 2.0, 5.0, -2.0]), 0.8).tolist() == [0, 1, 2, 3]
    assert largest(torch.tensor([1.0, -5.0, 2.0, 5.0, -2.0]), 0.6).tolist() == [1, 2, 3]


def test_coordinates_compete_over_all_tensors_together():
    local = {}
    upload = sent(TopK(0.4), local=local, a=[[0.1, 0.2]], b=[3.0, -4.0, 0.3]).tensors
    assert upload["indices"].tolist() == [2, 3]
    assert upload["values"].tolist() == [3.0, -4.0]
    assert upload["indices"].dtype == torch.int32
    assert local["residual"].tolist() == pytest.approx([0.1, 0.2, 0, 0, 0.3])


def test_sparse_updates_are_added_by_their_weights():
    """Of (1, -4) and (8, 2), half a client's coordinates each: -4 from 10 images and 8 from 30."""
    server = {"params": {"a": torch.tensor([1.0]), "b": torch.tensor([[2.0]])}}
    uploads = [sent(TopK(0.5), 10, 0, a=[1.0], b=[[-4.0]]), sent(TopK(0.5), 30, 1, a=[8.0], b=[[2.0]])]
    TopK(0.5).aggregate(server, iter(uploads))
    assert server["params"]["a"].tolist() == [1 + 30 * 8 / 40]
    assert server["params"]["b"].tolist() == [[2 - 10 * 4 / 40]]


@pytest.mark.parametrize("fraction", [0.01, 0.1, 1.0])
def test_the_ledger_counts_eight_bytes_a_coordinate(make_training, fraction):
    *_, last = make_training(TopK(fraction)).rounds()
    assert last.bytes_up == 9 * 8 * math.ceil(fraction * WEIGHTS)
    assert last.bytes_down == 9 * 4 * WEIGHTS


def test_all_coordinates_are_fedavg_to_rounding(make_training):
    """By SGD: Adam's first steps are +-lr whatever the gradient's size, and make large differences of rounding ones."""
    settings = {"optimizer": "sgd", "lr": 0.02, "lr_schedule": "constant"}
    torch.testing.assert_close(
        finish(make_training(TopK(1.0), **settings)), finish(make_training(FedAvg(), **settings)), atol=1e-6, rtol=1e-4
    )


def test_residuals_wait_on_the_clients_disk(make_training, tmp_path):
    run = make_training(TopK(0.05), rounds=2)
    finish(run)
    states = ClientStates(run.folder, torch.device("cpu"))
    states.restore(run.snapshot()["clients"])
    for number in range(2):
        residual = states.take(number)["strategy"]["residual"]
        assert residual.shape == (WEIGHTS,)
        assert 0 < residual.count_nonzero() <= WEIGHTS - math.ceil(0.05 * WEIGHTS)


class Forgetful(TopK):
    """Top-k without error feedback."""

    def upload(self, params, down, local):
        return super().upload(params, down, {})


def test_a_residual_changes_what_is_sent_later(make_training):
    assert not same(finish(make_training(TopK(0.05), rounds=2)), finish(make_training(Forgetful(0.05), rounds=2)))
    assert same(finish(make_training(TopK(0.05), rounds=1)), finish(make_training(Forgetful(0.05), rounds=1)))


def test_error_feedback_converges_where_plain_top_k_stalls(tmp_path):
    """Centres (3, 1) and (-3, 1): the first coordinates are larger and cancel, so that plain top-1 never moves from 0.

    With the residual the second comes through once it adds up to more than lr * 3: to 1, by less than a step of 0.3.
    """
    task = Quadratic(torch.tensor([[3.0, 1.0], [-3.0, 1.0]]))
    plain, feedback = (
        train(make_run(tmp_path / type(s).__name__, s, task, (1, 1), rounds=60)) for s in (Forgetful(0.5), TopK(0.5))
    )
    assert plain.tolist() == [0.0, 0.0]
    assert (feedback - task.optimum()).abs().max() < 0.1


@given(
    seed=st.integers(0, 1000), fraction=st.floats(0.1, 0.9), sizes=st.lists(st.integers(1, 50), min_size=1, max_size=4)
)
def test_the_model_and_the_mean_residual_are_the_sum_of_all_updates(seed, fraction, sizes):
    """w_T + sum_i p_i e_i = w_0 + sum_t sum_i p_i u_i: nothing is lost, only late (Stich et al., the virtual sequence)."""
    generator, strategy = torch.Generator().manual_seed(seed), TopK(fraction)
    server, locals_ = {"params": {"a": torch.zeros(3, 2), "b": torch.zeros(5)}}, [{} for _ in sizes]
    total, pushed = sum(sizes), torch.zeros(11, dtype=torch.float64)
    for _ in range(4):
        uploads = []
        for i, n in enumerate(sizes):
            update = torch.randn(11, generator=generator)
            down = server["params"]
            params = {"a": down["a"] + update[:6].view(3, 2), "b": down["b"] + update[6:]}
            uploads.append(Upload(i, n, strategy.upload(params, down, locals_[i])))
            pushed += update.double() * n / total
        strategy.aggregate(server, iter(uploads))
    late = sum(local["residual"].double() * n / total for local, n in zip(locals_, sizes, strict=True))
    now = torch.cat([t.flatten() for t in server["params"].values()]).double()
    torch.testing.assert_close(now + late, pushed, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("strategy", [Quantised(8), Quantised(4), TopK(0.3), TopK(1.0)])
def test_uploads_and_what_is_kept_share_no_memory_with_live_weights(strategy):
    live = {"a": torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_(), "b": torch.ones(5)}
    server, local = {"params": {name: torch.zeros_like(t) for name, t in live.items()}, "round": 0}, {}
    upload = strategy.upload(live, strategy.download(server, 0), local)
    copies = {name: t.clone() for name, t in (upload | local).items()}
    with torch.no_grad():
        for tensor in live.values():
            tensor.fill_(7.0)
    assert same(upload | local, copies)
    assert not any(t.requires_grad for t in (upload | local).values())


@pytest.mark.parametrize("strategy", [Quantised(8), TopK(0.3)])
def test_integers_of_a_model_are_replaced(strategy):
    server = {"params": {"w": torch.zeros(2), "count": torch.tensor(3)}, "round": 0}
    params = {"w": torch.ones(2), "count": torch.tensor(8)}
    upload = strategy.upload(params, strategy.download(server, 0), {})
    strategy.aggregate(server, iter([Upload(0, 1, upload)]))
    assert server["params"]["count"].item() == 8


@pytest.mark.parametrize("strategy", [Quantised(8), Quantised(4), TopK(0.1)])
def test_a_client_that_diverges_ends_the_run(tmp_path, strategy):
    """The loss overflows after the last local step, where no training loss shows it."""

    class Broken(type(strategy)):
        def upload(self, params, down, local):
            params = {name: torch.full_like(p, math.nan) for name, p in params.items()}
            return super().upload(params, down, local)

    run = make_run(tmp_path, Broken(**vars(strategy)), Quadratic(torch.ones(3, 20)), (1, 2))
    with pytest.raises(Diverged, match="validation loss is nan after round 1"):
        train(run)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_fractions_that_make_no_sense_are_refused(fraction):
    with pytest.raises(ValueError, match=r"fraction must be in \(0, 1\], got"):
        TopK(fraction)
