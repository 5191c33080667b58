"""The search for one strategy's values: Optuna proposes, and the better ones are trained on (successive halving).

What a trial is does not matter here: whoever searches gives a function that measures trials after so many rounds.

Proposals are a scrambled Halton sequence, which depends on no score. With 6 to 12 trials a model of scores (TPE) has
not begun to help; evenly spread points cover each dimension better than random ones (Bousquet et al., 2017, Critical
Hyper-Parameters: No Random, No Cry); all trials of a rung can run at once; and a search that is begun anew proposes the
same. Halving is that of Jamieson and Talwalkar (2016), Non-stochastic Best Arm Identification and Hyperparameter
Optimization.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import QMCSampler
from optuna.trial import TrialState, create_trial

from bench.config.cell import short_strategy
from bench.config.tuning import Space, Value
from bench.store.files import write_bytes
from bench.tune.contenders import Contender

DIGITS = 3  # of proposed numbers: more would say nothing, and stand in labels and tables
CHOSEN, FINISHED, STOPPED, DIVERGED = "chosen", "finished", "stopped", "diverged"
_COMPLETE, _PRUNED, _FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL
_STATES = {CHOSEN: _COMPLETE, FINISHED: _COMPLETE, STOPPED: _PRUNED, DIVERGED: _FAIL}


class Unfinished(Exception):
    """Trials that have no score, or a strategy none of whose trials can be chosen."""


@dataclass(eq=False)
class Trial:
    """Values of a strategy that are tried.

    Attributes:
        number: from 1; the first has the grid's own values.
        scores: by the number of rounds after which it was measured; less is better.
        outcome: `CHOSEN`, `FINISHED`, `STOPPED` or `DIVERGED`; "" while it goes on.
    """

    contender: Contender
    number: int
    values: dict[str, Value]
    scores: dict[int, float] = field(default_factory=dict)
    outcome: str = ""

    @property
    def label(self) -> str:
        """The strategy with these values, as a grid has it."""
        return short_strategy(self.contender.with_values(self.values)).label

    @property
    def rounds(self) -> int:
        """After which it was measured last."""
        return max(self.scores)

    @property
    def score(self) -> float:
        """The last one."""
        return self.scores[self.rounds]

    @property
    def whole(self) -> bool:
        """Whether it was trained to the end."""
        return self.outcome in (CHOSEN, FINISHED)


Measure = Callable[[Sequence[Trial], int], Sequence[float]]  # scores of trials after so many rounds


class Search:
    """The trials of one strategy.

    Args:
        trials: how many there are, no more than the strategy's spaces have points.
        seed: of the sequence that all but the first are taken from.
    """

    def __init__(self, contender: Contender, trials: int, seed: int) -> None:
        self.contender = contender
        self.distributions = {key: distribution(space) for key, space in sorted(contender.spaces.items())}
        values = _proposals(self.distributions, contender.own, trials, seed)
        self.trials = [Trial(contender, number, each) for number, each in enumerate(values, 1)]

    @property
    def going(self) -> list[Trial]:
        """The trials that go on, the best first, of equal ones the one that was proposed first."""
        return sorted((trial for trial in self.trials if not trial.outcome), key=lambda trial: trial.score)

    @property
    def best(self) -> Trial:
        """The trial that was chosen, of a search that has ended."""
        return next(trial for trial in self.trials if trial.outcome == CHOSEN)


def _proposals(
    distributions: dict[str, BaseDistribution], own: Mapping[str, Value], trials: int, seed: int
) -> list[dict[str, Value]]:
    """The grid's own values, and others of few digits; what was proposed before is left out."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study = optuna.create_study(sampler=QMCSampler(qmc_type="halton", scramble=True, seed=seed))
    study.enqueue_trial(dict(own))
    found = {repr(values): values for values in [study.ask(distributions).params]}
    repeats = 0
    while len(found) < trials:
        values = study.ask(distributions).params
        if repeats < trials:  # else the range is too narrow for numbers of few digits
            values = {key: _rounded(value, distributions[key]) for key, value in values.items()}
        repeats += repr(values) in found
        found.setdefault(repr(values), values)
    return list(found.values())


def _rounded(value: Any, distribution: BaseDistribution) -> Any:
    if not isinstance(distribution, FloatDistribution):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), distribution.low), distribution.high)


def distribution(space: Space) -> BaseDistribution:
    """A space as Optuna has it."""
    if space.choices is not None:
        return CategoricalDistribution(space.choices)
    assert space.low is not None
    assert space.high is not None
    if isinstance(space.low, int) and isinstance(space.high, int):
        return IntDistribution(space.low, space.high, log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)


def search(searches: Sequence[Search], stages: Sequence[tuple[int, int]], measure: Measure) -> None:
    """Measure all trials stage by stage; after each the worse ones of every strategy stop.

    Args:
        stages: numbers of rounds, each with how many trials of a strategy are measured after it.
    Raises:
        Unfinished: if no trial of a strategy is measured to the end, as all diverged that went on.
    """
    asked = [trial for one in searches for trial in one.trials]
    for (rounds, _), (_, kept) in zip(stages, [*stages[1:], stages[-1]], strict=True):
        for trial, score in zip(asked, measure(asked, rounds), strict=True):
            trial.scores[rounds] = score
            trial.outcome = "" if math.isfinite(score) else DIVERGED
        for trial in (trial for one in searches for trial in one.going[kept:]):
            trial.outcome = STOPPED
        asked = [trial for trial in asked if not trial.outcome]
    for one in searches:
        if not one.going:
            every = all(trial.outcome == DIVERGED for trial in one.trials)
            what = "every trial diverged" if every else "every trial that went on diverged before its last round"
            also = "" if every else ", or let more go on by tune.keep"
            raise Unfinished(f"{one.contender.label}: {what}; give tune.fields or tune.strategies smaller values{also}")
        for place, trial in enumerate(one.going):
            trial.outcome = FINISHED if place else CHOSEN


def write_studies(searches: Sequence[Search], path: Path) -> None:
    """Write all trials as one SQLite file for Optuna's own tools, whole or not at all; nothing reads it here."""
    from sqlalchemy import URL

    with TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        storage = optuna.storages.RDBStorage(URL.create("sqlite", database=str(draft)).render_as_string())
        for one in searches:
            study = optuna.create_study(storage=storage, study_name=one.contender.label)
            study.add_trials(_frozen(trial, one) for trial in one.trials)
        storage.engine.dispose()
        write_bytes(path, draft.read_bytes())


def _frozen(trial: Trial, one: Search) -> optuna.trial.FrozenTrial:
    """A trial as Optuna has it."""
    return create_trial(
        state=_STATES[trial.outcome], value=trial.score if trial.whole else None, params=trial.values,
        distributions=one.distributions, intermediate_values=trial.scores,
    )  # fmt: skip
