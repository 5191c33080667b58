"""Tuning finds values that are known to be best, favours nobody by chance, and its best score is better than it is."""

import math
import sqlite3
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState
from scipy import stats

from bench.config.grid_file import Grid, parse_grid
from bench.config.tuning import Space
from bench.seeds import numpy_stream
from bench.tune.contenders import Contender, contenders, tune_of
from bench.tune.search import Search, Trial, Unfinished, search, write_studies
from bench.tune.trials import Cost, Tuning, searches_of
from bench.tune.tuned_grid import tuned_grid, write_grid
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


def search_of(name: str, spaces: dict[str, Space], own: dict[str, Any], trials: int, seed: int) -> Search:
    """A search of what need not be a strategy."""
    return Search(SimpleNamespace(label=name, spaces=spaces, own=own), trials, seed)


def run_search(
    names: Sequence[str],
    score: Callable[[Trial, int], float],
    stages: Sequence[tuple[int, int]],
    seed: int = 0,
    space: Space = RATES,
) -> dict[str, Search]:
    """A search of each name over one value, whose scores are a function's."""
    searches = [search_of(name, {"rate": space}, {"rate": space.low}, stages[0][1], seed) for name in names]
    search(searches, stages, lambda asked, rounds: [score(each, rounds) for each in asked])
    return {one.contender.label: one for one in searches}


# ---------------------------------------------------------------------------------------------------- planted values


def test_the_best_value_of_planted_strategies_is_found(tmp_path):
    """By one step of SGD at rate lr on quadratics of curvature 1, `rate` = 1 / lr ends in the optimum, and no other."""
    clients = Quadratic(torch.tensor([[1.0], [3.0], [5.0], [-2.0]]))
    steps = {"quick": 0.5, "slow": 0.1, "slowest": 0.03}  # lr, so that the best values are 2, 10 and 33

    def final_loss(each: Trial, rounds: int) -> float:
        run = make_run(
            tmp_path / each.contender.label / f"{each.number}-{rounds}",
            Stretched(each.values["rate"]),
            clients,
            (1, 3),
            rounds=rounds,
            lr=steps[each.contender.label],
        )
        return [record.validation_loss for record in run.rounds()][-1]

    for stages in ([(2, TRIALS)], [(1, TRIALS), (2, 4)]):
        for name, one in run_search(list(steps), final_loss, stages).items():
            tried = [trial.values["rate"] for trial in one.trials]
            best = one.best.values["rate"]
            assert best == min(tried, key=lambda rate, lr=steps[name]: abs(1 - lr * rate))
            assert 1 / 2 < best * steps[name] < 2  # as near as eight points of seven octaves come


def test_all_contenders_are_proposed_the_same_values_of_what_they_share():
    spaces = {"client.lr": Space(low=1e-3, high=1e-2, log=True), "strategy.mu": Space(low=0.1, high=0.9)}
    own = {"client.lr": 2e-3, "strategy.mu": 0.5}
    more = search_of("fedprox", spaces, own, TRIALS, 3)
    less = search_of("fedavg", {"client.lr": spaces["client.lr"]}, {"client.lr": 2e-3}, TRIALS, 3)
    rates = [each.values["client.lr"] for each in more.trials]
    assert rates == [each.values["client.lr"] for each in less.trials]
    assert rates[0] == 2e-3
    assert len(set(rates)) == TRIALS
    assert all(value == float(f"{value:.3g}") for each in more.trials for value in each.values.values())


@pytest.mark.parametrize(
    ("space", "trials"),
    [(Space(low=1, high=9), 9), (Space(low=1, high=90, log=True), 12), (Space(low=-1.0, high=1.0), 12), (Space(choices=["a", "b", 3, True]), 4), (Space(low=0.12345, high=0.12349), 12)],
)  # fmt: skip
def test_every_proposal_is_of_its_space_and_no_other_and_proposed_again(space, trials):
    first, again, other = (search_of("s", {"x": space}, {"x": space.ends[0]}, trials, seed) for seed in (1, 1, 2))
    values = [trial.values["x"] for trial in first.trials]
    assert all(space.holds(value) for value in values)
    assert len(set(map(repr, values))) == trials
    assert values == [trial.values["x"] for trial in again.trials]
    if str(space) == "-1 to 1":
        assert values[1:] != [trial.values["x"] for trial in other.trials][1:]


def test_a_proposal_that_is_the_grids_own_value_is_left_out_and_the_others_are_the_same():
    space = Space(low=1e-3, high=8e-3, log=True)
    usual, *others = (
        [trial.values["x"] for trial in search_of("s", {"x": space}, {"x": own}, 8, 3).trials] for own in (2e-3, 4e-3)
    )
    assert 4e-3 in usual
    assert others[0][1:-1] == [value for value in usual[1:] if value != 4e-3]


# ----------------------------------------------------------------------------------------------------------- halving


def test_the_better_part_goes_on_and_a_trial_that_diverges_never_does():
    seen: list[tuple[int, list[int]]] = []
    scores = [5.0, math.inf, 1.0, math.nan, 4.0, 2.0, 2.0, 3.0]  # by number, at every rung

    def measure(asked: Sequence[Trial], rounds: int) -> list[float]:
        seen.append((rounds, [each.number for each in asked]))
        return [scores[each.number - 1] for each in asked]

    one = search_of("s", {"x": RATES}, {"x": 1.0}, TRIALS, 0)
    search([one], [(1, 8), (3, 4), (9, 2)], measure)
    assert seen == [(1, list(range(1, 9))), (3, [3, 6, 7, 8]), (9, [3, 6])]
    assert one.best.number == 3
    outcomes = ["stopped", "diverged", "chosen", "diverged", "stopped", "finished", "stopped", "stopped"]
    assert [trial.outcome for trial in one.trials] == outcomes
    assert one.trials[5].scores == {1: 2.0, 3: 2.0, 9: 2.0}


def test_nothing_is_chosen_where_every_trial_diverges():
    with pytest.raises(Unfinished, match="s: every trial diverged"):
        run_search(["s"], lambda *_: math.inf, [(1, 4), (2, 2)])


def test_studies_are_a_file_for_optunas_own_tools(tmp_path):
    def score(each: Trial, rounds: int) -> float:
        return math.inf if each.number == 2 else each.values["rate"] / rounds

    found = run_search(["fedavg", "fedprox(mu=0.1)"], score, [(1, 4), (2, 2)])
    write_studies(list(found.values()), tmp_path / "studies.db")
    with sqlite3.connect(tmp_path / "studies.db") as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again = optuna.load_study(study_name="fedprox(mu=0.1)", storage=f"sqlite:///{tmp_path / 'studies.db'}")
    states = {
        "chosen": TrialState.COMPLETE,
        "finished": TrialState.COMPLETE,
        "stopped": TrialState.PRUNED,
        "diverged": TrialState.FAIL,
    }
    tried = found["fedprox(mu=0.1)"].trials
    assert {trial.outcome for trial in tried} == set(states)
    assert [(t.params, t.state, t.intermediate_values, t.value) for t in again.trials] == [
        (t.values, states[t.outcome], t.scores, t.score if t.outcome in ("chosen", "finished") else None) for t in tried
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["studies.db"]


# ------------------------------------------------------------------------------------------------ what chance does

COPIES = tuple(f"fedprox(mu={mu})" for mu in (0.1, 0.2, 0.3))  # of one strategy: `loss` knows no mu
ROUNDS, TABLES = 9, 200
NOISE = 0.05  # standard deviation of a loss over seeds
BEST = 12e-3  # learning rate


def bowl(rate: float) -> float:
    """A bowl over the rate's logarithm, flat against the noise near its bottom."""
    return 0.1 * math.log(rate / BEST) ** 2


def loss(table: int, who: str, rate: float, seed: int, rounds: int = ROUNDS) -> float:
    """Of a training: the bowl, what is still to be learned, luck of the seed, and luck of the round, less and less."""
    lucks = numpy_stream(table, who, rate, seed), numpy_stream(table, who, rate, seed, rounds)
    of_seed, of_round = (NOISE * stream.standard_normal() for stream in lucks)
    return bowl(rate) + 1 / rounds - 1 / ROUNDS + of_seed + of_round * 6 / rounds


@cache
def copies(trials: int) -> tuple[Grid, list[Contender]]:
    """A grid of the copies."""
    rates = {"low": 1e-3, "high": 0.128, "log": True}
    tune = {"trials": trials, "seeds": [100], "rungs": [1, 3], "fields": {"client": {"lr": rates}}}
    axes = {"strategy": list(COPIES), "n_clients": [2], "beta": [1.0], "seed": [0, 1]}
    tables = {"axes": axes, "client": {"lr": 1e-3}, "training": {"rounds": ROUNDS}, "tune": tune}
    grid = parse_grid(tables, "copies.toml", "copies")
    return grid, contenders(grid)


def tuned(table: int, trials: int, more: int = 0) -> list[Search]:
    """A tuning of the copies as the command makes it; the first copy has so many `more` trials."""
    grid, found = copies(trials)
    tune = tune_of(grid).model_copy(update={"seeds": [1000 + table]})
    searches = searches_of(tune, found)
    if more:
        searches[0] = searches_of(tune.model_copy(update={"trials": trials + more}), found)[0]

    def measure(asked: Sequence[Trial], rounds: int) -> list[float]:
        return [loss(table, trial.contender.label, trial.values["client.lr"], tune.seeds[0], rounds) for trial in asked]

    search(searches, tune.stages(ROUNDS), measure)
    return searches


def chosen_rates(tables: Sequence[Sequence[Search]]) -> np.ndarray:
    """Of each table and copy."""
    return np.array([[one.best.values["client.lr"] for one in searches] for searches in tables])


def wins(rates: np.ndarray) -> list[int]:
    """How often each copy has the best loss with a fresh seed."""
    scores = [
        [loss(table, who, rate, 0) for who, rate in zip(COPIES, row, strict=True)] for table, row in enumerate(rates)
    ]
    return np.bincount(np.argmin(scores, axis=1), minlength=len(COPIES)).tolist()


def advantages(rates: np.ndarray) -> list[float]:
    """How much nearer each copy is to the bowl's bottom than the others, in standard errors over tables."""
    heights = np.vectorize(bowl)(rates)
    pairs = [np.delete(heights, copy, axis=1).mean(axis=1) - heights[:, copy] for copy in range(len(COPIES))]
    return [errors_from_0(pair) for pair in pairs]


def errors_from_0(numbers: np.ndarray) -> float:
    """Their mean in standard errors."""
    return float(numbers.mean() / numbers.std(ddof=1) * math.sqrt(numbers.size))


@pytest.mark.parametrize("trials", [2, 6])
def test_copies_of_one_strategy_win_no_more_often_than_chance(trials):
    tables = [tuned(table, trials) for table in range(TABLES)]
    for searches in tables:
        first, *others = ([trial.values for trial in one.trials] for one in searches)
        assert all(values == first for values in others)
    rates = chosen_rates(tables)
    assert stats.chisquare(wins(rates)).pvalue > 0.01
    assert max(map(abs, advantages(rates))) < 3


def test_a_copy_that_has_one_more_trial_is_seen():
    """Else the test above would show nothing: what is equal is the number of trials."""
    rates = chosen_rates([tuned(table, 2, more=1) for table in range(TABLES)])
    assert stats.chisquare(wins(rates)).pvalue < 1e-6
    assert advantages(rates)[0] > 5


def test_the_winners_curse_is_on_tuning_seeds_and_not_on_those_of_the_tuned_grid():
    """The least of six losses is too low; that of a cell of the tuned grid is right in the mean."""
    grid, _ = copies(6)
    curse, fresh = [], []
    for table in range(TABLES // 4):
        searches = tuned(table, 6)
        curse += [one.best.score - bowl(one.best.values["client.lr"]) for one in searches]
        tree = tuned_grid(Free(grid, searches, SimpleNamespace(jobs=grid.cells), {}))
        for cell in parse_grid(tomllib.loads(write_grid(tree, "")), "tuned.toml", "tuned").cells:
            rate = cell.client.lr
            fresh.append(loss(table, cell.strategy_label, rate, cell.seed) - bowl(rate))
    assert len(fresh) == 2 * len(curse)
    assert errors_from_0(np.array(curse)) < -5
    assert abs(errors_from_0(np.array(fresh))) < 3


class Free(Tuning):
    """A tuning without folders of cells."""

    def cost(self, trials: Iterable[Trial]) -> Cost:
        return Cost(1, 1.0)
