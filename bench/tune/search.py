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
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import QMCSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from bench.config.tuning import Space, Value
from bench.store.files import write_bytes

DIGITS = 3  # of proposed numbers: more would say nothing, and stand in labels and tables


@dataclass(frozen=True)
class Asked:
    """A trial as Optuna asks for it: whose, its number from 0, and its values."""

    who: str
    number: int
    values: dict[str, Any]


Measure = Callable[[Sequence[Asked], int], Sequence[float]]  # scores of trials after so many rounds; less is better


class _Rounded(QMCSampler):
    """Proposes numbers of few digits."""

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        proposed = super().sample_relative(study, trial, search_space)
        return {name: _rounded(value, search_space[name]) for name, value in proposed.items()}


def _rounded(value: Any, distribution: BaseDistribution) -> Any:
    if not isinstance(distribution, FloatDistribution):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), distribution.low), distribution.high)


class Search:
    """The trials of one strategy.

    Args:
        name: of the strategy.
        spaces: where values are looked for, by name.
        own: the values of the first trial.
        trials: how many there are.
        seed: of the sequence that the others are taken from.
    """

    def __init__(
        self, name: str, spaces: Mapping[str, Space], own: Mapping[str, Value], trials: int, seed: int
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = _Rounded(qmc_type="halton", scramble=True, seed=seed)
        self.name = name
        self.storage = optuna.storages.InMemoryStorage()
        self.study = optuna.create_study(storage=self.storage, study_name=name, sampler=sampler)
        self.study.enqueue_trial(dict(own))
        distributions = {key: distribution(spaces[key]) for key in sorted(spaces)}
        self._alive: list[Trial] = [self.study.ask(distributions) for _ in range(trials)]
        self._scores: dict[int, float] = {}

    def asked(self) -> list[Asked]:
        """The trials that go on."""
        return [Asked(self.name, trial.number, trial.params) for trial in self._alive]

    def hear(self, scores: Mapping[int, float], rounds: int) -> None:
        """Take the scores, by trial, after so many rounds; a trial whose score is not finite has failed."""
        for trial in list(self._alive):
            score = self._scores[trial.number] = scores[trial.number]
            trial.report(score, rounds)
            if not math.isfinite(score):
                self._end(trial, TrialState.FAIL)

    def stop_worst(self, kept: int) -> None:
        """Let only so many of the best go on; of equal ones the first."""
        for trial in sorted(self._alive, key=lambda trial: (self._scores[trial.number], trial.number))[kept:]:
            self._end(trial, TrialState.PRUNED)

    def finish(self) -> None:
        """Those that are left have been measured to the end."""
        for trial in list(self._alive):
            self._end(trial, TrialState.COMPLETE)

    def _end(self, trial: Trial, state: TrialState) -> None:
        value = self._scores[trial.number] if state == TrialState.COMPLETE else None
        self.study.tell(trial, value, state=state)
        self._alive.remove(trial)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All, by number."""
        return self.study.get_trials(deepcopy=False)

    @property
    def best(self) -> FrozenTrial | None:
        """The one with the least score of those that were measured to the end, of equal ones the first."""
        finished = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return min(finished, key=lambda trial: (trial.value, trial.number), default=None)


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
    """
    for (rounds, _), (_, kept) in zip(stages, [*stages[1:], (0, 0)], strict=True):
        asked = [each for one in searches for each in one.asked()]
        scores = dict(zip(((each.who, each.number) for each in asked), measure(asked, rounds), strict=True))
        for one in searches:
            one.hear({number: score for (who, number), score in scores.items() if who == one.name}, rounds)
            one.stop_worst(kept) if kept else one.finish()


def write_studies(searches: Sequence[Search], path: Path) -> None:
    """Write all studies as one SQLite file for Optuna's own tools, whole or not at all; nothing reads it here."""
    from sqlalchemy import URL

    with TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        storage = optuna.storages.RDBStorage(URL.create("sqlite", database=str(draft)).render_as_string())
        for one in searches:
            optuna.copy_study(
                from_study_name=one.name, from_storage=one.storage, to_storage=storage, to_study_name=one.name
            )
        storage.engine.dispose()
        write_bytes(path, draft.read_bytes())
