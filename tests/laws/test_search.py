"""Tuning finds values that are known to be best, favours nobody by chance, and its best score is better than it is."""

import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState
from scipy import stats

from bench.config.tuning import Space
from bench.seeds import numpy_stream
from bench.tune.search import Asked, Search, search, write_studies
from strategies.fedavg import FedAvg
from tests.laws.quadratic import Quadratic, make_run

RATES = Space(low=0.5, high=64.0, log=True)
TRIALS = 8


@dataclass(frozen=True)
class Stretched(FedAvg):
    """The average's step, `rate` times as long."""

    rate: float = 1.0

    def aggregate(self, server, uploads):
        before = {name: tensor.clone() for name, tensor in server["params"].items()}
        super().aggregate(server, uploads)
        server["params"] = {
            name: before[name] + self.rate * (new - before[name]) for name, new in server["params"].items()
        }


def run_search(
    names: Sequence[str],
    score: Callable[[Asked, int], float],
    stages: Sequence[tuple[int, int]],
    seed: int = 0,
    space: Space = RATES,
) -> dict[str, Search]:
    """A search of each name over one value, whose scores are a function's."""
    searches = [Search(name, {"rate": space}, {"rate": space.low}, stages[0][1], seed) for name in names]
    search(searches, stages, lambda asked, rounds: [score(each, rounds) for each in asked])
    return {one.name: one for one in searches}


# ---------------------------------------------------------------------------------------------------- planted values


def test_the_best_value_of_planted_strategies_is_found(tmp_path):
    """By one step of SGD at rate lr on quadratics of curvature 1, `rate` = 1 / lr ends in the optimum, and no other."""
    clients = Quadratic(torch.tensor([[1.0], [3.0], [5.0], [-2.0]]))
    steps = {"quick": 0.5, "slow": 0.1, "slowest": 0.03}  # lr, so that the best values are 2, 10 and 33

    def loss(each: Asked, rounds: int) -> float:
        run = make_run(
            tmp_path / each.who / f"{each.number}-{rounds}",
            Stretched(each.values["rate"]),
            clients,
            (1, 3),
            rounds=rounds,
            lr=steps[each.who],
        )
        return [record.validation_loss for record in run.rounds()][-1]

    for stages in ([(2, TRIALS)], [(1, TRIALS), (2, 4)]):
        for name, one in run_search(list(steps), loss, stages).items():
            tried = [trial.params["rate"] for trial in one.trials]
            best = one.best.params["rate"]
            assert best == min(tried, key=lambda rate, lr=steps[name]: abs(1 - lr * rate))
            assert 1 / 2 < best * steps[name] < 2  # as near as eight points of seven octaves come


def test_all_contenders_are_proposed_the_same_values_of_what_they_share():
    spaces = {"client.lr": Space(low=1e-3, high=1e-2, log=True), "strategy.mu": Space(low=0.1, high=0.9)}
    own = {"client.lr": 2e-3, "strategy.mu": 0.5}
    more = Search("fedprox", spaces, own, TRIALS, 3)
    less = Search("fedavg", {"client.lr": spaces["client.lr"]}, {"client.lr": 2e-3}, TRIALS, 3)
    rates = [each.values["client.lr"] for each in more.asked()]
    assert rates == [each.values["client.lr"] for each in less.asked()]
    assert rates[0] == 2e-3
    assert len(set(rates)) == TRIALS
    assert all(value == float(f"{value:.3g}") for each in more.asked() for value in each.values.values())


@pytest.mark.parametrize(
    "space",
    [Space(low=1, high=9), Space(low=1, high=90, log=True), Space(low=-1.0, high=1.0), Space(choices=["a", "b", 3, True]), Space(low=0.12345, high=0.12349)],
)  # fmt: skip
def test_every_proposal_is_of_its_space_and_proposed_again(space):
    first, again, other = (Search("s", {"x": space}, {"x": space.ends[0]}, 12, seed) for seed in (1, 1, 2))
    values = [each.values["x"] for each in first.asked()]
    assert all(space.holds(value) for value in values)
    assert values == [each.values["x"] for each in again.asked()]
    if str(space) == "-1 to 1":
        assert values[1:] != [each.values["x"] for each in other.asked()][1:]


# ----------------------------------------------------------------------------------------------------------- halving


def test_the_better_part_goes_on_and_a_trial_that_diverges_never_does():
    seen: list[tuple[int, list[int]]] = []
    scores = [5.0, math.inf, 1.0, math.nan, 4.0, 2.0, 2.0, 3.0]  # by number, at every rung

    def measure(asked: Sequence[Asked], rounds: int) -> list[float]:
        seen.append((rounds, [each.number for each in asked]))
        return [scores[each.number] for each in asked]

    one = Search("s", {"x": RATES}, {"x": 1.0}, TRIALS, 0)
    search([one], [(1, 8), (3, 4), (9, 2)], measure)
    assert seen == [(1, list(range(8))), (3, [2, 5, 6, 7]), (9, [2, 5])]
    assert one.best.number == 2
    states = {state.name: [trial.number for trial in one.trials if trial.state == state] for state in TrialState}
    assert states == {"RUNNING": [], "WAITING": [], "FAIL": [1, 3], "PRUNED": [0, 4, 6, 7], "COMPLETE": [2, 5]}
    assert one.trials[5].intermediate_values == {1: 2.0, 3: 2.0, 9: 2.0}


def test_nothing_is_best_where_every_trial_diverges():
    assert run_search(["s"], lambda *_: math.inf, [(1, 4), (2, 2)])["s"].best is None


def test_studies_are_a_file_for_optunas_own_tools(tmp_path):
    found = run_search(
        ["fedavg", "fedprox(mu=0.1)"], lambda each, rounds: each.values["rate"] / rounds, [(1, 4), (2, 2)]
    )
    write_studies(list(found.values()), tmp_path / "studies.db")
    with sqlite3.connect(tmp_path / "studies.db") as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again = optuna.load_study(study_name="fedprox(mu=0.1)", storage=f"sqlite:///{tmp_path / 'studies.db'}")
    assert [(t.params, t.state, t.intermediate_values) for t in again.trials] == [
        (t.params, t.state, t.intermediate_values) for t in found["fedprox(mu=0.1)"].trials
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["studies.db"]


# ------------------------------------------------------------------------------------------------ what chance does

NOISE = 0.05  # standard deviation of a score over seeds
BEST = 6.0


def score(rate: float, noise: np.random.Generator) -> float:
    """A bowl over the rate's logarithm, flat against the noise near its bottom, and noise."""
    return 0.1 * math.log(rate / BEST) ** 2 + NOISE * noise.standard_normal()


def tuned(table: int, copies: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """Of each copy, with its number of trials: the score by which it was chosen, and one with a fresh seed."""
    found = {}
    for place, (name, trials) in enumerate(copies.items()):
        one = run_search(
            [name], lambda each, rounds, who=name: score(each.values["rate"], numpy_stream(table, "tuning", who, each.number)),
            [(1, trials)], seed=100 * table + place,
        )[name]  # fmt: skip
        found[name] = one.best.value, score(one.best.params["rate"], numpy_stream(table, "fresh", name))
    return found


TABLES = 200


@pytest.fixture(scope="module")
def tables() -> list[dict[str, tuple[float, float]]]:
    """Tables of three copies of one strategy, tuned by the same number of trials."""
    return [tuned(table, dict.fromkeys("abc", 6)) for table in range(TABLES)]


def wins(tables: Sequence[Mapping[str, tuple[float, float]]]) -> Counter[str]:
    """How often each has the best fresh score."""
    return Counter(min(table, key=lambda name: table[name][1]) for table in tables)


def test_copies_of_one_strategy_win_no_more_often_than_chance(tables):
    count = wins(tables)
    low, high = stats.binom.interval(1 - 0.01 / 3, TABLES, 1 / 3)  # of three names together 1 % lie outside by chance
    assert all(low <= count[name] <= high for name in "abc"), count
    assert stats.chisquare([count[name] for name in "abc"]).pvalue > 0.01


def test_a_copy_that_has_more_trials_wins_more_often_than_chance():
    """Else the test above would show nothing: what is equal is the number of trials."""
    _, high = stats.binom.interval(1 - 0.01 / 3, TABLES // 2, 1 / 3)
    assert wins([tuned(table, {"a": 2, "b": 2, "c": 16}) for table in range(TABLES // 2)])["c"] > high


def test_the_winners_curse_is_on_tuning_seeds_and_not_on_fresh_ones(tables):
    """The least of six scores is too low; a fresh score of what was chosen is right in the mean."""
    pairs = np.array([pair for table in tables for pair in table.values()])
    curse = pairs[:, 0] - pairs[:, 1]
    error = curse.std(ddof=1) / math.sqrt(len(curse))
    assert curse.mean() < -5 * error
    again = np.array([tuned_again(table) for table in range(TABLES)])
    unbiased = pairs[::3, 1] - again
    assert abs(unbiased.mean()) < 3 * unbiased.std(ddof=1) / math.sqrt(TABLES)


def tuned_again(table: int) -> float:
    """The score of what copy a has chosen with yet another seed."""
    one = run_search(
        ["a"], lambda each, _: score(each.values["rate"], numpy_stream(table, "tuning", "a", each.number)), [(1, 6)], seed=100 * table
    )["a"]  # fmt: skip
    return score(one.best.params["rate"], numpy_stream(table, "fresher", "a"))
