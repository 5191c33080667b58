"""SCAFFOLD, FedNova, FedDyn and EWC: first steps by hand, fixed points in closed form, independent implementations."""

import copy
import itertools
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.federation.participation import draw_clients
from bench.federation.tasks import Diverged
from bench.federation.tensors import distance, nbytes
from strategies.base import Upload
from strategies.centralized import Centralized
from strategies.ewc import EWC
from strategies.fedavg import FedAvg
from strategies.feddyn import FedDyn
from strategies.fednova import STEPS, FedNova
from strategies.fedprox import FedProx
from strategies.scaffold import CONTROL, Scaffold
from tests.laws.conftest import finish, same, small_net
from tests.laws.quadratic import Quadratic, make_run, train

ALL = [Scaffold(), FedNova(), FedDyn(), EWC()]


def clients_of(sizes, centres, curvatures):
    """A client's images are all alike, so that each of its batches has the client's own gradient."""
    repeat = torch.tensor(sizes)
    return Quadratic(*(torch.tensor(rows).repeat_interleave(repeat, dim=0) for rows in (centres, curvatures)))


def local_state(run, client):
    """What the client remembers, as it lies on disk or waits to be written."""
    return run._states.take(client)["strategy"]


# Two clients in one dimension: 1 image with loss (w - 1)^2 / 2, 3 images with loss (w + 1)^2; p = 1/4, 3/4.
PAIR = clients_of((1, 3), [[1.0], [-1.0]], [[1.0], [2.0]])


def pair_run(folder, strategy, **settings):
    return make_run(folder, strategy, PAIR, (1, 3), **({"rounds": 2, "epochs": 2} | settings))


def approx(value):
    return pytest.approx(value, rel=1e-5, abs=1e-7)


def test_two_rounds_of_scaffold_by_hand(tmp_path):
    run = pair_run(tmp_path, Scaffold())
    rounds = run.rounds()
    next(rounds)
    # client 0: gradients -1, -0.9 lead to 0.19; client 1: 2, 1.6 lead to -0.36
    assert run.server["params"]["w"].item() == approx(0.25 * 0.19 + 0.75 * -0.36)
    assert [local_state(run, i)["control"]["w"].item() for i in (0, 1)] == approx([-0.95, 1.8])
    assert run.server["control"]["w"].item() == approx(0.25 * -0.95 + 0.75 * 1.8)
    next(rounds)
    # from -0.2225 with c = 1.1125; client 0: -1.2225 + 0.95 + 1.1125 = 0.84, then -1.3065 + 2.0625 = 0.756
    # client 1: 1.555 - 1.8 + 1.1125 = 0.8675, then 1.3815 - 0.6875 = 0.694
    assert run.server["params"]["w"].item() == approx(0.25 * -0.3821 + 0.75 * -0.37865)
    assert [local_state(run, i)["control"]["w"].item() for i in (0, 1)] == approx([-1.2645, 1.46825])
    assert run.server["control"]["w"].item() == approx(0.7850625)


def test_one_round_of_fednova_by_hand(tmp_path):
    """Batches of one image: client 0 does one step to 0.1, client 1 three over -0.2 and -0.36 to -0.488."""
    nova = train(pair_run(tmp_path / "a", FedNova(), rounds=1, epochs=1, batch_size=1))
    average = train(pair_run(tmp_path / "b", FedAvg(), rounds=1, epochs=1, batch_size=1))
    tau_eff = 0.25 * 1 + 0.75 * 3
    assert nova.item() == approx(tau_eff * (0.25 * 0.1 / 1 + 0.75 * -0.488 / 3))
    assert average.item() == approx(0.25 * 0.1 + 0.75 * -0.488)


def test_two_rounds_of_feddyn_by_hand(tmp_path):
    run = pair_run(tmp_path, FedDyn(alpha=0.5))
    rounds = run.rounds()
    next(rounds)
    # client 0: gradients -1, -0.9 + 0.05 lead to 0.185; client 1: 2, 1.6 - 0.1 lead to -0.35; their mean is -0.21625
    assert run.server["gradient"]["w"].item() == approx(0.5 * 0.21625)
    assert run.server["params"]["w"].item() == approx(-0.21625 - 0.108125 / 0.5)
    assert [local_state(run, i)["gradient"]["w"].item() for i in (0, 1)] == approx([-0.0925, 0.175])
    next(rounds)
    # client 0: -1.4325 + 0.0925 = -1.34, then -1.2985 + 0.0925 + 0.067 = -1.139: from -0.4325 to -0.1846
    # client 1: 1.135 - 0.175 = 0.96, then 0.943 - 0.175 - 0.048 = 0.72: from -0.4325 to -0.6005
    h = 0.108125 - 0.5 * (0.25 * 0.2479 + 0.75 * -0.168)
    assert run.server["gradient"]["w"].item() == approx(h)
    assert run.server["params"]["w"].item() == approx(0.25 * -0.1846 + 0.75 * -0.6005 - h / 0.5)


def test_two_rounds_of_ewc_by_hand(tmp_path):
    run = pair_run(tmp_path, EWC(lam=1.0))
    rounds = run.rounds()
    next(rounds)
    assert run.server["params"]["w"].item() == approx(0.25 * 0.19 + 0.75 * -0.36)  # FedAvg's
    assert [local_state(run, i)["fisher"]["w"].item() for i in (0, 1)] == approx([(1 + 0.81) / 2, (4 + 2.56) / 2])
    next(rounds)
    # from -0.2225; client 0: -1.2225, then -1.10025 + 0.905 * 0.12225; client 1: 1.555, then 1.244 - 3.28 * 0.1555
    ends = -0.10025 + 0.1 * 0.98961375, -0.378 - 0.1 * 0.73396
    assert run.server["params"]["w"].item() == approx(0.25 * ends[0] + 0.75 * ends[1])
    raw = (1.2225**2 + 1.10025**2) / 2, (1.555**2 + 1.244**2) / 2
    assert [local_state(run, i)["fisher"]["w"].item() for i in (0, 1)] == approx(raw)


# Three clients in two dimensions, unequal in size, centre and curvature.
COUNTS = (2, 6, 4)
CENTRES = torch.tensor([[4.0, -1.0], [-1.0, 2.0], [0.5, -3.0]]).double()
CURVATURES = torch.tensor([[2.0, 0.5], [0.5, 1.0], [1.0, 3.0]]).double()
TRIO = clients_of(COUNTS, CENTRES.tolist(), CURVATURES.tolist())
SHARES = (torch.tensor(COUNTS).double() / sum(COUNTS))[:, None]
OPTIMUM = TRIO.optimum()


def trio_run(folder, strategy, **settings):
    return make_run(folder, strategy, TRIO, COUNTS, **({"rounds": 35, "epochs": 4, "lr": 0.15} | settings))


def fixed_point_of_averages(lr, steps, mu=0.0):
    """Of w -> sum_i p_i (m_i w + s_i), where gradient steps on a (w - b)^2 / 2 + mu (w - w_0)^2 / 2 go from w_0 to
    z + r (w_0 - z) with z = (a b + mu w_0) / (a + mu) and r = (1 - lr (a + mu))^steps.
    """
    stiff = CURVATURES + mu
    r = (1 - lr * stiff) ** torch.as_tensor(steps).double().reshape(-1, 1)
    m = r + (1 - r) * mu / stiff
    s = (1 - r) * CURVATURES * CENTRES / stiff
    return (SHARES * s).sum(0) / (1 - (SHARES * m).sum(0))


@pytest.mark.parametrize(("strategy", "mu"), [(FedAvg(), 0.0), (FedProx(mu=0.5), 0.5)])
def test_fedavg_and_fedprox_stall_beside_the_optimum_at_the_fixed_point_of_their_averaged_maps(tmp_path, strategy, mu):
    end = train(trio_run(tmp_path, strategy))
    torch.testing.assert_close(end, fixed_point_of_averages(0.15, 4, mu), atol=1e-5, rtol=0)
    assert (end - OPTIMUM).norm() > 0.2


@pytest.mark.parametrize("strategy", [Scaffold(), Scaffold(server_lr=1.5), FedDyn(alpha=1.0)], ids=str)
def test_scaffold_and_feddyn_reach_the_optimum_with_several_local_steps(tmp_path, strategy):
    assert (train(trio_run(tmp_path, strategy)) - OPTIMUM).norm() < 1e-5


@pytest.mark.parametrize("sampling", ["fixed", "poisson"])
@pytest.mark.parametrize("strategy", [Scaffold(), FedDyn(alpha=2.0)], ids=str)
def test_they_reach_it_with_some_of_the_clients_in_each_round(tmp_path, strategy, sampling):
    some = {"participation": 0.67, "sampling": sampling, "failures": 0.2}
    assert (train(trio_run(tmp_path, strategy, rounds=80, epochs=3, lr=0.1, **some)) - OPTIMUM).norm() < 1e-5


TAUS = [size // 2 for size in COUNTS]  # batches of two images, one epoch: 1, 3 and 2 steps


def fixed_point_of_fednova(lr):
    """sum_i p_i s_i (x - b_i) = 0 with s_i = (1 - (1 - lr a_i)^tau_i) / tau_i."""
    tau = torch.tensor(TAUS).double()[:, None]
    s = SHARES * (1 - (1 - lr * CURVATURES) ** tau) / tau
    return (s * CENTRES).sum(0) / s.sum(0)


def optimum_weighted_by_steps():
    """What FedAvg minimises as the rate goes to 0: sum_i p_i tau_i L_i."""
    weights = SHARES * torch.tensor(TAUS).double()[:, None] * CURVATURES
    return (weights * CENTRES).sum(0) / weights.sum(0)


def unequal_run(folder, strategy, lr, rounds, at):
    return trio_run(folder, strategy, rounds=rounds, epochs=1, batch_size=2, lr=lr, at=at)


def test_fednova_and_fedavg_with_unequal_steps_converge_to_their_fixed_points(tmp_path):
    expected = {FedNova(): fixed_point_of_fednova(0.2), FedAvg(): fixed_point_of_averages(0.2, TAUS)}
    for i, (strategy, point) in enumerate(expected.items()):
        end = train(unequal_run(tmp_path / str(i), strategy, 0.2, 60, (0.0, 0.0)))
        torch.testing.assert_close(end, point, atol=1e-5, rtol=0)


@pytest.mark.parametrize("lr", [0.05, 0.002])
def test_with_a_falling_rate_fednova_tends_to_the_optimum_and_fedavg_to_that_of_a_loss_weighted_by_steps(tmp_path, lr):
    nova, average = fixed_point_of_fednova(lr), fixed_point_of_averages(lr, TAUS)
    assert (nova - OPTIMUM).norm() < 3 * lr
    assert (average - optimum_weighted_by_steps()).norm() < 3 * lr
    assert (average - OPTIMUM).norm() > 0.2
    for i, (strategy, own, other) in enumerate([(FedNova(), nova, average), (FedAvg(), average, nova)]):
        ends = [
            train(unequal_run(tmp_path / f"{i}{k}", strategy, lr, 5, at.tolist())) for k, at in enumerate((own, other))
        ]
        assert (ends[0] - own).norm() < 2e-6
        assert (ends[1] - other).norm() > 1e-3


def test_fednova_takes_stragglers_by_the_steps_they_did(tmp_path):
    settings = {"rounds": 1, "epochs": 12, "batch_size": 2, "lr": 0.02, "stragglers": 0.7}
    run = trio_run(tmp_path, FedNova(), **settings)
    end = train(run)
    tau = torch.tensor([visit.steps for visit in run.visits]).double()[:, None]
    assert len(set(tau.flatten().tolist())) == 3
    assert (tau.flatten() < 12 * torch.tensor(TAUS)).any()
    updates = (1 - (1 - 0.02 * CURVATURES) ** tau) * CENTRES  # from 0
    torch.testing.assert_close(end, (SHARES * tau).sum() * (SHARES * updates / tau).sum(0), atol=1e-6, rtol=1e-5)


# Independent implementations, as the papers write them, in float64 and without this project's loop.


def local_steps(start, a, b, lr, steps, extra):
    w = start.clone()
    for _ in range(steps):
        w = w - lr * (a * (w - b) + extra(w))
    return w


def plain_scaffold(problem, casts, lr, steps, server_lr):
    """Algorithm 1 with option II's own formula; p_i for 1 / |S| and N_i / N for 1 / N."""
    sizes, a, b = problem
    x, c, own = torch.zeros_like(b[0]), torch.zeros_like(b[0]), torch.zeros_like(b)
    for cast in casts:
        moves, changes = torch.zeros_like(x), torch.zeros_like(c)
        for i in cast:
            y = local_steps(x, a[i], b[i], lr, steps, lambda w, i=i, c=c: c - own[i])
            new = own[i] - c + (x - y) / (steps * lr)
            moves += sizes[i] / sizes[cast].sum() * (y - x)
            changes += sizes[i] / sizes.sum() * (new - own[i])
            own[i] = new
        x, c = x + server_lr * moves, c + changes
    return x, c, own


def plain_feddyn(problem, casts, lr, steps, alpha):
    """Algorithm 1 by gradient steps; p_i for 1 / |P| and N_i / N for 1 / m."""
    sizes, a, b = problem
    w, h, own = torch.zeros_like(b[0]), torch.zeros_like(b[0]), torch.zeros_like(b)
    for cast in casts:
        mean = torch.zeros_like(w)
        for i in cast:
            w_i = local_steps(w, a[i], b[i], lr, steps, lambda v, i=i, w=w: alpha * (v - w) - own[i])
            own[i] -= alpha * (w_i - w)
            h = h - alpha * sizes[i] / sizes.sum() * (w_i - w)
            mean += sizes[i] / sizes[cast].sum() * w_i
        w = mean - h / alpha
    return w, h, own


def plain_fednova(problem, casts, lr, steps):
    """With `steps` (n_clients,) for each client; p_i over the round's participants."""
    sizes, a, b = problem
    x = torch.zeros_like(b[0])
    for cast in casts:
        p = sizes[cast] / sizes[cast].sum()
        tau = steps[cast].double()
        d = torch.stack([(x - local_steps(x, a[i], b[i], lr, int(steps[i]), lambda w: 0.0)) / steps[i] for i in cast])
        x = x - (p * tau).sum() * (p[:, None] * d).sum(0)
    return x, None, None


def plain_ewc(problem, casts, lr, steps, lam):
    """FedAvg with (lam / 2) sum_k F_k (w_k - w_round,k)^2, F the mean of the raw g^2 over the client's last visit.

    Also the largest F that pulled: a step of rate lr is stable while lr lam F < 2.
    """
    sizes, a, b = problem
    w, fisher, largest = torch.zeros_like(b[0]), torch.zeros_like(b), 0.0
    for cast in casts:
        largest = max(largest, float(fisher[list(cast)].max()))
        mean, seen = torch.zeros_like(w), fisher.clone()
        for i in cast:
            squares = []

            def pull(v, i=i, w=w, squares=squares, fisher=fisher):
                squares.append((a[i] * (v - b[i])).square())
                return lam * fisher[i] * (v - w)

            mean += sizes[i] / sizes[cast].sum() * local_steps(w, a[i], b[i], lr, steps, pull)
            seen[i] = torch.stack(squares).mean(0)
        w, fisher = mean, seen
    return (w, None, fisher), largest


problems = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "n_clients": st.integers(1, 5),
        "steps": st.integers(1, 5),
        "lr": st.sampled_from([0.02, 0.1, 0.3]),
        "participation": st.sampled_from([0.3, 0.6, 1.0]),
    }
)


def drawn(seed, n_clients, steps, lr, participation):
    """A random problem of 3 dimensions, how to run it for 6 rounds, and who takes part."""
    stream = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 9, (n_clients,), generator=stream)
    a = 0.2 + torch.rand(n_clients, 3, generator=stream)
    b = torch.randn(n_clients, 3, generator=stream)
    task = Quadratic(*(rows.repeat_interleave(sizes, dim=0) for rows in (b, a)))
    run = {"rounds": 6, "epochs": steps, "lr": lr, "participation": participation}
    casts = [draw_clients(n_clients, participation, "fixed", 0, r) for r in range(6)]
    return (sizes, a.double(), b.double()), task, run, casts


def ends_as(strategy, plain, problem, task, settings, casts, names):
    """Whether the loop ends with the plain implementation's model and states, which have the name `names` here."""
    model, of_server, own = plain
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), strategy, task, problem[0].tolist(), **settings)
        torch.testing.assert_close(train(run), model, atol=1e-5, rtol=1e-4)
        if of_server is not None:
            torch.testing.assert_close(run.server[names]["w"].double(), of_server, atol=1e-5, rtol=1e-4)
        for i in set(itertools.chain(*casts)) if names else ():
            torch.testing.assert_close(local_state(run, i)[names]["w"].double(), own[i], atol=1e-5, rtol=1e-4)


@settings(max_examples=15, deadline=None)
@given(problems, st.sampled_from([0.5, 1.0, 1.7]))
def test_scaffold_is_algorithm_1_with_option_2(problem, server_lr):
    """So the mean of raw gradients is c_i - c + (x - y_i) / (K eta) for SGD at a constant rate, and states survive."""
    described, task, run, casts = drawn(**problem)
    plain = plain_scaffold(described, casts, run["lr"], run["epochs"], server_lr)
    ends_as(Scaffold(server_lr), plain, described, task, run, casts, "control")


@settings(max_examples=15, deadline=None)
@given(problems, st.sampled_from([0.1, 1.0, 3.0]))
def test_feddyn_is_algorithm_1(problem, alpha):
    described, task, run, casts = drawn(**problem)
    plain = plain_feddyn(described, casts, run["lr"], run["epochs"], alpha)
    ends_as(FedDyn(alpha), plain, described, task, run, casts, "gradient")


@settings(max_examples=15, deadline=None)
@given(problems, st.integers(1, 4))
def test_fednova_counts_every_visits_steps_anew(problem, batch_size):
    described, task, run, casts = drawn(**problem)
    steps = run["epochs"] * -(-described[0] // batch_size)
    plain = plain_fednova(described, casts, run["lr"], steps)
    ends_as(FedNova(), plain, described, task, run | {"batch_size": batch_size}, casts, None)


@settings(max_examples=15, deadline=None)
@given(problems, st.sampled_from([0.0, 0.3, 2.0]))
@example({"seed": 1, "n_clients": 5, "steps": 5, "lr": 0.3, "participation": 1.0}, 2.0)  # beyond the largest float
@example({"seed": 62, "n_clients": 5, "steps": 5, "lr": 0.3, "participation": 1.0}, 2.0)  # unstable, and still finite
def test_ewc_is_fedavg_with_its_penalty(problem, lam):
    """Where its steps are stable. Elsewhere the weights grow without end, and rounding with them: then all that the
    loop owes is to end as diverged where the loss leaves the range of float32.
    """
    (sizes, a, b), task, run, casts = drawn(**problem)
    plain, largest = plain_ewc((sizes, a, b), casts, run["lr"], run["epochs"], lam)
    if run["lr"] * lam * largest < 2:
        ends_as(EWC(lam), plain, (sizes, a, b), task, run, casts, "fisher" if lam > 0 else None)
        return
    finite = bool((a * (plain[0] - b).square()).sum() < torch.finfo(torch.float32).max)
    with tempfile.TemporaryDirectory() as folder, nullcontext() if finite else pytest.raises(Diverged):
        assert train(make_run(Path(folder), EWC(lam), task, sizes.tolist(), **run)).isfinite().all()


@pytest.mark.parametrize(("strategy", "name"), [(Scaffold(), "control"), (FedDyn(alpha=0.5), "gradient")])
def test_the_servers_state_is_the_weighted_mean_of_all_clients_whoever_takes_part(tmp_path, strategy, name):
    run = trio_run(tmp_path, strategy, rounds=25, participation=0.5, sampling="poisson", stragglers=0.3, failures=0.2)
    before, absences = torch.zeros(3, 2), 0
    for _ in run.rounds():
        states = [local_state(run, i) for i in range(3)]
        now = torch.stack([s[name]["w"] if name in s else torch.zeros(2) for s in states])
        arrived = {visit.client for visit in run.visits if visit.outcome == "arrived"}
        absent = [i for i in range(3) if i not in arrived]
        assert torch.equal(now[absent], before[absent])
        mean = run.server.get(name, {"w": torch.zeros(2)})["w"].double()
        torch.testing.assert_close(mean, (SHARES * now.double()).sum(0), atol=1e-5, rtol=0)
        before, absences = now, absences + len(absent)
    assert 15 < absences < 70


# On the small U-Net, through Adam and a cosine schedule as the harness has them.


class Watched(Scaffold):
    """Keeps what SCAFFOLD saw in each visit."""

    def correct_grads(self, params, down, local):
        SEEN[-1]["raw"].append({n: p.grad.clone() for n, p in params.items()})
        super().correct_grads(params, down, local)

    def start(self, down, local):
        own = {n: t.clone() for n, t in local.get("control", {}).items()}
        SEEN.append({"raw": [], "down": down, "own": own})
        return super().start(down, local)

    def upload(self, params, down, local):
        up = super().upload(params, down, local)
        SEEN[-1] |= {"end": {n: p.detach().clone() for n, p in params.items()}, "new": copy.deepcopy(local["control"])}
        return up


SEEN: list = []


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_clients_control_is_the_mean_of_its_raw_gradients_under_any_optimizer(make_training, optimizer):
    SEEN.clear()
    finish(make_training(Watched(), epochs=1, optimizer=optimizer, lr=2e-3))
    assert len(SEEN) == 9
    for visit in SEEN:
        means = {n: torch.stack([g[n] for g in visit["raw"]]).double().mean(0).float() for n in visit["new"]}
        torch.testing.assert_close(visit["new"], means, atol=1e-6, rtol=1e-4)


def test_that_mean_is_option_2_for_sgd_at_a_constant_rate(make_training):
    SEEN.clear()
    finish(make_training(Watched(), epochs=1, optimizer="sgd", lr=0.05, lr_schedule="constant"))
    for visit in SEEN:
        for name, new in visit["new"].items():
            x, c = visit["down"][name].double(), visit["down"][CONTROL + name].double()
            own = visit["own"].get(name, torch.zeros_like(new)).double()
            option_2 = own - c + (x - visit["end"][name].double()) / (len(visit["raw"]) * 0.05)
            torch.testing.assert_close(new.double(), option_2, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("state", ["keep", "reset"])
def test_scaffold_with_one_client_is_centralized_bit_for_bit(make_training, state):
    alone, pooled = (
        make_training(s, sizes=(40,), epochs=1, optimizer_state=state) for s in (Scaffold(), Centralized())
    )
    assert same(finish(alone), finish(pooled))
    control = alone.server["control"]
    assert sum(t.abs().sum() for t in control.values()) > 0
    assert same(control, local_state(alone, 0)["control"])


def test_fednova_with_one_client_is_centralized_to_rounding(make_training):
    kept = {"sizes": (40,), "epochs": 1, "optimizer_state": "keep"}
    alone, pooled = (finish(make_training(s, **kept)) for s in (FedNova(), Centralized()))
    for name, value in alone.items():
        torch.testing.assert_close(value, pooled[name], atol=1e-7, rtol=1e-6)


def test_ewc_without_strength_is_fedavg_bit_for_bit_and_keeps_nothing(make_training):
    run = make_training(EWC(lam=0.0), epochs=1)
    assert same(finish(run), finish(make_training(FedAvg(), epochs=1)))
    assert all(local_state(run, i) == {} for i in range(3))


@pytest.mark.parametrize("strategy", [*ALL, EWC(lam=100.0), FedDyn(alpha=1.0)], ids=str)
def test_every_strategy_differs_from_fedavg_from_its_second_round_on(make_training, strategy):
    plain, other = (finish(make_training(s, rounds=2, epochs=1, sizes=(7, 12))) for s in (FedAvg(), strategy))
    assert distance(plain, other) > 1e-5


def test_ewc_holds_the_clients_near_the_global_model_after_their_first_visit(make_training):
    runs = [list(make_training(EWC(lam), optimizer="sgd", lr=0.02, rounds=2).rounds()) for lam in (0.0, 100.0, 1000.0)]
    assert len({records[0].drift for records in runs}) == 1
    later = [records[1].drift for records in runs]
    assert later == sorted(later, reverse=True)
    assert later[2] < 0.9 * later[0]


def test_fednova_with_equal_numbers_of_steps_is_fedavg_to_rounding(make_training):
    nova, average = (
        finish(make_training(s, sizes=(9, 15, 16), epochs=1)) for s in (FedNova(), FedAvg())
    )  # 2 batches each
    for name, value in nova.items():
        torch.testing.assert_close(value, average[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("strategy", "down", "up"), [(Scaffold(), 2, 2), (FedNova(), 1, 1), (FedDyn(), 1, 1), (EWC(), 1, 1)]
)
def test_every_byte_that_travels_is_counted(make_training, strategy, down, up):
    size = nbytes(dict(small_net().named_parameters()))
    counts = 8 if isinstance(strategy, FedNova) else 0
    records = list(make_training(strategy, epochs=1).rounds())
    assert [r.bytes_down for r in records] == [3 * r * down * size for r in (1, 2, 3)]
    assert [r.bytes_up for r in records] == [3 * r * (up * size + counts) for r in (1, 2, 3)]


@pytest.mark.parametrize("strategy", ALL, ids=lambda s: type(s).__name__)
def test_a_run_goes_on_from_disk_bit_for_bit(make_training, strategy):
    whole = make_training(strategy, rounds=3, epochs=1, participation=0.67)
    first = make_training(strategy, rounds=3, epochs=1, participation=0.67)
    for _ in itertools.islice(first.rounds(), 2):
        pass
    stood = copy.deepcopy(first.snapshot())
    second = make_training(strategy, rounds=3, epochs=1, participation=0.67)
    second._states = type(first._states)(first.folder, torch.device("cpu"))
    second.restore(stood)
    for _ in second.rounds():
        pass
    assert same(finish(whole), second.server["params"])
    for name in {"control", "gradient"} & whole.server.keys():
        assert same(whole.server[name], second.server[name])


def tensors_in(tree):
    for value in tree.values():
        yield from tensors_in(value) if isinstance(value, dict) else [value] * isinstance(value, torch.Tensor)


@pytest.mark.parametrize("strategy", ALL, ids=lambda s: type(s).__name__)
def test_no_state_shares_memory_with_the_live_model_or_another(make_training, strategy):
    run = make_training(strategy, rounds=2, epochs=1, optimizer_state="keep")
    for _ in run.rounds():
        kept = [*tensors_in(run.server), *tensors_in(local_state(run, 2))]
        live = list(run.net.parameters())
        assert not any(t.requires_grad for t in kept)
        places = [t.data_ptr() for t in (*kept, *live, *(p.grad for p in live))]
        assert len(places) == len(set(places))


# What the hooks do, without the loop.


def random_tensors(seed, scale=1.0):
    stream = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(3, 2, generator=stream) for name in "ab"}


def learnable(tensors):
    made = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    for name, p in made.items():
        p.grad = torch.full_like(p, 0.5) if name == "a" else torch.zeros_like(p)
    return made


def corrections(strategy, params, down, local):
    """What the hook adds to the gradients."""
    before = {name: p.grad.clone() for name, p in params.items()}
    strategy.correct_grads(params, down, local)
    return [p.grad - before[name] for name, p in params.items()]


@given(st.floats(0, 1e4), st.integers(0, 1000))
def test_ewcs_pull_is_the_gradient_of_its_penalty(lam, seed):
    params, down = learnable(random_tensors(seed)), random_tensors(seed + 1)
    fisher = {name: t.square() for name, t in random_tensors(seed + 2, 0.1).items()}
    term = lam / 2 * sum((fisher[n] * (p - down[n]).square()).sum() for n, p in params.items())
    expected = torch.autograd.grad(term, list(params.values()))
    found = corrections(EWC(lam), params, down, {"fisher": fisher})
    torch.testing.assert_close(found, list(expected), atol=1e-4, rtol=1e-4)


@given(st.floats(0.01, 10), st.integers(0, 1000))
def test_feddyns_pull_is_the_gradient_of_its_two_terms(alpha, seed):
    params, down, own = learnable(random_tensors(seed)), random_tensors(seed + 1), random_tensors(seed + 2)
    term = sum(alpha / 2 * (p - down[n]).square().sum() - (own[n] * p).sum() for n, p in params.items())
    expected = torch.autograd.grad(term, list(params.values()))
    found = corrections(FedDyn(alpha), params, down, {"gradient": own})
    torch.testing.assert_close(found, list(expected), atol=1e-5, rtol=1e-5)


@given(st.integers(0, 1000))
def test_scaffolds_correction_is_the_difference_of_the_controls_wherever_the_weights_are(seed):
    own, control = random_tensors(seed), random_tensors(seed + 1)
    down = random_tensors(seed + 2) | {CONTROL + n: t for n, t in control.items()}
    for weights in (seed + 3, seed + 4):
        found = corrections(Scaffold(), learnable(random_tensors(weights)), down, {"control": copy.deepcopy(own)})
        torch.testing.assert_close(found, [control[n] - own[n] for n in own], atol=1e-5, rtol=1e-5)


def aggregated(strategy, server, uploads):
    server = copy.deepcopy(server) | {"n_samples": 100}
    strategy.aggregate(server, iter(uploads))
    return server


def extras(strategy, seed):
    """What the strategy's uploads hold beside the model."""
    if isinstance(strategy, Scaffold):
        return {CONTROL + n: t for n, t in random_tensors(seed).items()}
    return {STEPS: torch.tensor(1 + seed % 7)} if isinstance(strategy, FedNova) else {}


THREE = [Scaffold(), Scaffold(server_lr=0.3), FedNova(), FedDyn(0.2)]


@pytest.mark.parametrize("strategy", THREE, ids=str)
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_the_order_of_uploads_changes_nothing(strategy, sizes, seed):
    server = {"params": random_tensors(seed), "control": random_tensors(seed + 1), "gradient": random_tensors(seed + 2)}
    uploads = [Upload(i, n, random_tensors(seed + i) | extras(strategy, seed - i)) for i, n in enumerate(sizes)]
    forth, back = (aggregated(strategy, server, order) for order in (uploads, uploads[::-1]))
    torch.testing.assert_close(forth, back, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("strategy", THREE[:3], ids=str)
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_equal_models_are_a_fixed_point_of_scaffold_and_fednova(strategy, sizes, seed):
    params = random_tensors(seed)
    uploads = [Upload(i, n, params | extras(strategy, seed + i)) for i, n in enumerate(sizes)]
    after = aggregated(strategy, {"params": params}, uploads)["params"]
    torch.testing.assert_close(after, params, atol=0, rtol=1e-6)


def test_equal_models_move_on_by_the_memory_of_feddyn():
    params, h = random_tensors(1), random_tensors(2)
    after = aggregated(FedDyn(0.5), {"params": params, "gradient": h}, [Upload(0, 7, params)])
    torch.testing.assert_close(after["params"], {n: params[n] - h[n] / 0.5 for n in params})
    assert same(after["gradient"], h)


def test_the_servers_step_of_scaffold_is_a_share_of_the_way():
    x, y, z = ({"w": torch.tensor([v])} for v in (1.0, 5.0, -3.0))
    uploads = [Upload(i, n, up | {CONTROL + "w": torch.zeros(1)}) for i, (n, up) in enumerate([(30, y), (10, z)])]
    ends = [aggregated(Scaffold(s), {"params": x}, uploads)["params"]["w"].item() for s in (0.25, 1.0, 2.0)]
    assert ends == approx([1.5, 3.0, 5.0])


@pytest.mark.parametrize("strategy", THREE, ids=str)
def test_integers_are_the_first_uploads(strategy):
    params = {"a": torch.ones(1), "count": torch.tensor(0)}
    extra = {CONTROL + "a": torch.ones(1)} if isinstance(strategy, Scaffold) else extras(strategy, 3)
    uploads = [Upload(i, 5, {"a": torch.ones(1), "count": torch.tensor(n)} | extra) for i, n in enumerate((3, 8))]
    after = aggregated(strategy, {"params": params}, uploads)["params"]
    assert after["count"].item() == 3
    assert after["count"].dtype == torch.int64


@pytest.mark.parametrize("strategy", [Scaffold(), FedDyn(), EWC(), FedNova()], ids=str)
def test_parameters_without_gradient_are_left_alone(strategy):
    params = {"used": torch.ones(1, requires_grad=True), "unused": torch.ones(1, requires_grad=True)}
    params["used"].grad = torch.ones(1)
    down = {n: torch.zeros(1) for name in params for n in (name, CONTROL + name)}
    local = {}
    strategy.correct_grads(params, down, local)
    assert params["unused"].grad is None
    up = strategy.upload(params, strategy.start(down, {}) if isinstance(strategy, FedDyn) else down, local)
    assert up["unused"].item() == 1.0


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_hyper_parameters_that_make_no_sense_are_refused(value):
    for made, name in ((Scaffold, "server_lr"), (FedDyn, "alpha"), (EWC, "lam")):
        with pytest.raises(ValueError, match=f"{name} must be a finite number >"):
            made(value)


def test_scaffold_claims_to_be_a_mean_with_whole_steps_only():
    assert Scaffold().convex
    assert Scaffold().alone_is_centralized
    assert not Scaffold(server_lr=0.5).convex
    assert not Scaffold(server_lr=0.5).alone_is_centralized


def test_scaffold_and_feddyn_have_no_zero():
    for made in (Scaffold, FedDyn):
        with pytest.raises(ValueError, match="> 0, got 0"):
            made(0.0)
