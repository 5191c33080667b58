"""Aggregation and the proximal term against hand-computed values."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies.base import Upload, WeightedMean
from strategies.fedavg import FedAvg
from strategies.fedprox import FedProx


def tensors(*values):
    return {"w": torch.tensor(values, dtype=torch.float32)}


def aggregated(uploads, like=None):
    server = {"params": like or uploads[0][1]}
    FedAvg().aggregate(server, iter([Upload(i, n, up) for i, (n, up) in enumerate(uploads)]))
    return server["params"]


def test_weights_are_numbers_of_samples():
    mean = aggregated([(10, tensors(1.0, 0.0)), (30, tensors(5.0, 4.0))])
    assert mean["w"].tolist() == [4.0, 3.0]


clients = st.lists(
    st.tuples(st.integers(1, 5000), st.lists(st.floats(-1e3, 1e3, width=32), min_size=4, max_size=4)),
    min_size=1,
    max_size=8,
)


@given(clients)
def test_the_order_of_clients_changes_nothing(drawn):
    uploads = [(n, tensors(*values)) for n, values in drawn]
    torch.testing.assert_close(aggregated(uploads), aggregated(uploads[::-1]), atol=1e-6, rtol=1e-6)


@given(clients, st.integers(2, 50))
def test_scaling_all_sizes_changes_nothing(drawn, factor):
    uploads = [(n, tensors(*values)) for n, values in drawn]
    scaled = [(n * factor, up) for n, up in uploads]
    torch.testing.assert_close(aggregated(uploads), aggregated(scaled), atol=1e-6, rtol=1e-6)


@given(clients)
def test_the_mean_lies_between_the_clients(drawn):
    stacked = torch.tensor([values for _, values in drawn])
    mean = aggregated([(n, tensors(*values)) for n, values in drawn])["w"]
    assert (mean >= stacked.min(0).values - 1e-3).all()
    assert (mean <= stacked.max(0).values + 1e-3).all()


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=20), st.floats(-1e30, 1e30))
def test_equal_models_are_a_fixed_point_bit_for_bit(sizes, value):
    assert aggregated([(n, tensors(value)) for n in sizes])["w"].item() == torch.tensor(value).item()


def test_many_small_clients_lose_no_precision():
    """In float32 the running sum of 100,000 equal terms is off in the fourth digit."""
    mean = WeightedMean(tensors(0.1))
    for _ in range(100_000):
        mean.add(tensors(0.1), 1)
    assert mean.result()["w"].item() == torch.tensor(0.1).item()


def test_integers_are_copied_not_averaged():
    first, second = ({"w": torch.ones(1), "count": torch.tensor(n)} for n in (3, 8))
    mean = aggregated([(1, first), (1, second)])
    assert mean["count"].item() == 3
    assert mean["count"].dtype == torch.int64


def test_the_mean_shares_no_memory_with_uploads():
    live = tensors(1.0)
    mean = aggregated([(5, live)])
    live["w"].fill_(9.0)
    assert mean["w"].item() == 1.0


@pytest.mark.parametrize(
    ("names", "weight", "message"),
    [
        (("w", "x"), 1, r"these differ: \['x'\]"),
        (("v",), 1, r"these differ: \['v', 'w'\]"),
        (("w",), 0, "must be positive"),
    ],
)
def test_wrong_uploads_are_refused(names, weight, message):
    with pytest.raises(ValueError, match=message):
        WeightedMean(tensors(1.0)).add({name: torch.ones(1) for name in names}, weight)


def test_nothing_to_average_is_an_error():
    with pytest.raises(ValueError, match="nothing to average"):
        WeightedMean(tensors(1.0)).result()


def penalised_gradients(mu, params, down):
    """Gradients of (mu / 2) ||w - w_round||^2 by autograd."""
    term = mu / 2 * sum((p - down[name]).square().sum() for name, p in params.items())
    return torch.autograd.grad(term, list(params.values()))


def corrected(strategy, params, down):
    for p in params.values():
        p.grad = torch.zeros_like(p)
    strategy.correct_grads(params, down, {})
    return [p.grad for p in params.values()]


@given(st.floats(0, 10), st.integers(0, 100))
def test_the_proximal_gradient_is_that_of_the_squared_norm(mu, seed):
    generator = torch.Generator().manual_seed(seed)
    params = {name: torch.randn(3, 2, generator=generator).requires_grad_() for name in "ab"}
    down = {name: torch.randn(3, 2, generator=generator) for name in "ab"}
    torch.testing.assert_close(corrected(FedProx(mu), params, down), list(penalised_gradients(mu, params, down)))


def test_the_proximal_term_is_zero_at_the_global_model_and_not_beside_it():
    down = {"w": torch.tensor([1.0, 2.0])}
    at_start = {"w": down["w"].clone().requires_grad_()}
    assert corrected(FedProx(3.0), at_start, down)[0].tolist() == [0.0, 0.0]
    assert corrected(FedProx(3.0), {"w": (down["w"] + 0.5).requires_grad_()}, down)[0].tolist() == [1.5, 1.5]


def test_parameters_without_gradient_are_left_alone():
    params = {"used": torch.ones(1, requires_grad=True), "unused": torch.ones(1, requires_grad=True)}
    params["used"].grad = torch.zeros(1)
    FedProx(1.0).correct_grads(params, {"used": torch.zeros(1), "unused": torch.zeros(1)}, {})
    assert params["used"].grad.item() == 1.0
    assert params["unused"].grad is None


@pytest.mark.parametrize("mu", [-0.1, float("nan"), float("inf")])
def test_strengths_that_make_no_sense_are_refused(mu):
    with pytest.raises(ValueError, match="mu must be a finite number >= 0"):
        FedProx(mu)
