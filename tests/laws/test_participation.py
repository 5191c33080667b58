"""Who takes part, who is slow and who fails: the draws' laws, and what the loop makes of them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.config.cell import TrainingConfig
from bench.federation.participation import Participant, draw_clients, draw_round
from strategies.centralized import Centralized
from strategies.fedavg import FedAvg
from strategies.fedprox import FedProx
from tests.laws.conftest import SIZES, finish, same, small_net, split_of
from tests.laws.quadratic import Quadratic, make_run, train

BYTES = sum(p.numel() * 4 for p in small_net().parameters())


def settings(**values):
    return TrainingConfig(**values)


@given(n=st.integers(1, 300), fraction=st.floats(0.01, 1), seed=st.integers(0, 5), index=st.integers(0, 20))
def test_poisson_sampling_draws_rising_numbers_repeatably(n, fraction, seed, index):
    drawn = draw_clients(n, fraction, "poisson", seed, index)
    assert drawn == sorted(set(drawn)) == draw_clients(n, fraction, "poisson", seed, index)
    assert all(0 <= number < n for number in drawn)


def test_poisson_sampling_takes_each_client_with_the_same_probability():
    drawn = [draw_clients(50, 0.2, "poisson", 3, index) for index in range(2000)]
    shares = torch.bincount(torch.tensor([i for one in drawn for i in one]), minlength=50) / 2000
    assert ((shares - 0.2).abs() < 4.5 * math.sqrt(0.2 * 0.8 / 2000)).all()
    sizes = torch.tensor([len(one) for one in drawn]).double()
    assert abs(sizes.var().item() - 50 * 0.2 * 0.8) < 1.0  # binomial, not fixed
    assert any(not one for one in (draw_clients(3, 0.1, "poisson", 0, i) for i in range(50)))


def test_stragglers_and_failures_have_the_asked_shares():
    cast = [p for i in range(300) for p in draw_round(20, settings(stragglers=0.3, failures=0.1), 1, i)]
    slow, lost = (sum(flags) / len(cast) for flags in ([p.work < 1 for p in cast], [p.fails for p in cast]))
    assert abs(slow - 0.3) < 0.03
    assert abs(lost - 0.1) < 0.02
    work = torch.tensor([p.work for p in cast if p.work < 1])
    assert abs(work.mean().item() - 0.5) < 0.03  # uniform in (0, 1)


def test_switching_stragglers_or_failures_on_changes_nothing_else():
    def clients(**values):
        return [[p.client for p in draw_round(20, settings(participation=0.4, **values), 5, i)] for i in range(20)]

    plain = clients()
    assert plain == clients(stragglers=0.5) == clients(failures=0.5) == clients(stragglers=0.5, failures=0.9)
    lone = [draw_round(20, settings(failures=0.5), 5, i) for i in range(20)]
    both = [draw_round(20, settings(failures=0.5, stragglers=0.5), 5, i) for i in range(20)]
    assert [[p.fails for p in one] for one in lone] == [[p.fails for p in one] for one in both]


def test_without_them_everybody_works_and_arrives():
    assert draw_round(3, settings(), 0, 0) == [Participant(0), Participant(1), Participant(2)]


def test_fedavg_drops_stragglers_and_fedprox_keeps_their_steps(make_training):
    dropped = make_training(FedAvg(), stragglers=1.0, rounds=2)
    records = list(dropped.rounds())
    late = [v for v in dropped.visits if v.work < 1]
    assert {v.client for v in late} >= {1, 2}  # client 0 has two steps, of which one may be all it is asked for
    assert all(v.outcome == "dropped" and v.steps == 0 and v.bytes_up == 0 and v.bytes_down == BYTES for v in late)
    assert records[-1].dropped == records[-1].stragglers > 0

    kept = make_training(FedProx(mu=0.1), stragglers=1.0, rounds=2)
    records = list(kept.rounds())
    assert records[-1].dropped == 0
    assert records[-1].stragglers > 0
    for visit in kept.visits:
        planned = 2 * math.ceil(SIZES[visit.client] / 8)
        assert visit.outcome == "arrived"
        assert visit.steps == (planned if visit.work == 1 else max(1, math.floor(visit.work * planned)))
    assert sum(v.steps for v in kept.visits) < 12


def test_partial_work_is_the_first_steps_of_the_whole(tmp_path):
    """A straggler of FedProx ends where it would have been after as many steps."""
    task = Quadratic(torch.tensor([[3.0]]))
    run = make_run(tmp_path / "a", FedProx(mu=0.5), task, (1,), epochs=40, stragglers=1.0, lr=0.1)
    found = train(run).item()
    steps = run.visits[0].steps
    assert 1 <= steps < 40
    w = 0.0
    for _ in range(steps):
        w -= 0.1 * ((w - 3.0) + 0.5 * w)
    assert found == pytest.approx(w, rel=1e-5)


def test_a_lost_update_is_lost_and_the_round_goes_on(make_training):
    run = make_training(FedAvg(), failures=0.5, rounds=4)
    records, outcomes = [], []
    for record in run.rounds():
        records.append(record)
        outcomes.append([v.outcome for v in run.visits])
        arrived = [v for v in run.visits if v.outcome == "arrived"]
        assert all(v.bytes_up == BYTES for v in arrived)
        assert all(v.bytes_up == v.steps == 0 and v.bytes_down == BYTES for v in run.visits if v.outcome == "failed")
    failed = sum(outcome == "failed" for one in outcomes for outcome in one)
    assert 0 < failed < 12
    assert records[-1].failed == failed
    assert records[-1].bytes_down == 12 * BYTES
    assert records[-1].bytes_up == (12 - failed) * BYTES
    assert [r.participants for r in records] == [3] * 4


def test_what_arrives_is_averaged_as_if_nobody_else_had_been_asked(make_training):
    """The survivors of a round give what they give alone: their draws do not depend on the others' fate."""
    run = make_training(FedAvg(), failures=0.7, rounds=1)
    finish(run)
    survivors = [v.client for v in run.visits if v.outcome == "arrived"]
    assert 0 < len(survivors) < 3
    alone = []
    for number in survivors:
        only = make_training(FedAvg(), rounds=1)
        only._begin_visit = lambda who, down, number=number, run=only: one_visit(run, who, down, number)
        alone.append((SIZES[number], finish(only)))
    total = sum(size for size, _ in alone)
    for name, value in run.server["params"].items():
        mean = sum(size * params[name].double() for size, params in alone) / total
        torch.testing.assert_close(value.double(), mean, atol=1e-7, rtol=1e-6)


def one_visit(run, who, down, number):
    visit = type(run)._begin_visit(run, who, down)
    visit.outcome = "arrived" if who.client == number else "failed"
    return visit


@pytest.mark.parametrize("strategy", [FedAvg(), FedProx(mu=0.1)])
def test_a_round_without_any_update_leaves_the_model(make_training, strategy):
    run = make_training(strategy, failures=1.0, rounds=3)
    before = {name: tensor.clone() for name, tensor in run.server["params"].items()}
    records = list(run.rounds())
    assert same(before, run.server["params"])
    assert [r.failed for r in records] == [3, 6, 9]
    assert all(math.isnan(r.train_loss) and math.isnan(r.drift) and math.isnan(r.update_cosine) for r in records)
    assert "train_loss" not in records[0].as_dict()
    assert len({r.validation_loss for r in records}) == 1
    assert records[-1].bytes_up == records[-1].samples == records[-1].sequential_steps == 0


def test_nobody_fails_in_centralized_training_as_grids_make_it():
    from bench.config.grid_file import load_grid

    (cell,) = load_grid("smoke", ["strategy=centralized", "training.failures=0.5", "training.stragglers=0.5"]).cells
    assert (cell.training.failures, cell.training.stragglers, cell.training.sampling) == (0.0, 0.0, "fixed")


def test_the_ledger_of_centralized_training_is_empty(make_training):
    run = make_training(Centralized(), sizes=(40,))
    finish(run)
    assert [(v.bytes_down, v.bytes_up, v.outcome) for v in run.visits] == [(0, 0, "arrived")]


def test_the_mean_cosine_is_that_of_all_pairs(make_training):
    kept = {}

    class Keeping(FedAvg):
        def upload(self, params, down, local):
            kept[len(kept)] = torch.cat([(params[n].detach() - down[n]).flatten() for n in params])
            return params

    run = make_training(Keeping(), rounds=1)
    (record,) = run.rounds()
    units = torch.stack([update / update.norm() for update in kept.values()]).double()
    cosines = units @ units.T
    wanted = (cosines.sum() - cosines.trace()) / 6
    assert record.update_cosine == pytest.approx(wanted.item(), abs=1e-5)
    assert record.drift == pytest.approx(sum(u.norm().item() for u in kept.values()) / 3, rel=1e-5)


def test_opposite_updates_have_a_cosine_of_minus_one(tmp_path):
    run = make_run(tmp_path / "a", FedAvg(), Quadratic(torch.tensor([[1.0, 2.0], [-1.0, -2.0]])), (1, 1))
    (record,) = run.rounds()
    assert record.update_cosine == pytest.approx(-1)


def test_one_update_has_no_cosine(make_training):
    (record,) = make_training(sizes=(40,), rounds=1).rounds()
    assert math.isnan(record.update_cosine)
    assert "update_cosine" not in record.as_dict()


def test_visits_tell_every_client_of_the_round(make_training):
    run = make_training(rounds=1)
    (record,) = run.rounds()
    told = [visit.as_dict() for visit in run.visits]
    assert [t["client"] for t in told] == [0, 1, 2]
    assert [t["n_samples"] for t in told] == list(SIZES) == [len(part) for part in split_of(SIZES)]
    assert sum(t["loss"] * t["samples"] for t in told) / 80 == pytest.approx(record.train_loss)
    assert sum(t["bytes_up"] for t in told) == record.bytes_up
