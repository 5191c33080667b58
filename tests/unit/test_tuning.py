"""Tables of strategies, [tune] and [tuned]: what they make of a grid, and what every mistake is answered with."""

import math
import re
import tomllib
from types import SimpleNamespace

import pytest

from bench.config.errors import ConfigError
from bench.config.grid_file import parse_grid
from bench.config.tuning import Space
from bench.report.results import Results
from bench.report.tables.caption import of_what
from bench.report.tables.setting import setting
from bench.tune.contenders import contenders, trial_cells
from bench.tune.search import CHOSEN, DIVERGED, STOPPED, Search, Unfinished, search
from bench.tune.tables import summary
from bench.tune.trials import Cost, Tuning
from bench.tune.tuned_grid import tuned_grid, write_grid
from tests.fake_store import finished_store

TUNE = """
trials = 4
seeds = [100, 101]
rungs = [2, 5]
fields.client.lr = {low = 1e-3, high = 1e-2, log = true}
strategies.fedprox.mu = {low = 1e-4, high = 1e-1, log = true}
where = {n_clients = 5, beta = 100.0}
"""


def raw_grid(tune: str | dict | None = TUNE, **changes):
    axes = {
        "strategy": ["centralized", "fedavg", "fedprox(mu=0.01)"],
        "n_clients": [3, 5],
        "beta": [0.1, 1.0],
        "seed": [0, 1],
    }
    table = {} if tune is None else {"tune": tomllib.loads(tune) if isinstance(tune, str) else tune}
    return {"axes": axes} | table | changes


def grid_of(tune: str | dict | None = TUNE, sets=(), **changes):
    return parse_grid(raw_grid(tune, **changes), "my.toml", "my", sets)


# ------------------------------------------------------------------------------------------- tables of strategies


def lrs(grid) -> dict[str, set[float]]:
    found: dict[str, set[float]] = {}
    for cell in grid.cells:
        found.setdefault(cell.strategy_label, set()).add(cell.client.lr)
    return found


def test_a_strategys_table_gives_its_cells_fields_over_those_of_the_grid():
    tables = {"fedprox(mu=0.01)": {"client": {"lr": 4e-3}}, "centralized": {"client.lr": 8e-3}}
    assert lrs(grid_of(strategies=tables)) == {"centralized": {8e-3}, "fedavg": {2e-3}, "fedprox(mu=0.01)": {4e-3}}
    assert lrs(grid_of(strategies=tables, client={"lr": 1e-3}))["fedavg"] == {1e-3}


def test_set_has_the_last_word_over_a_strategys_table():
    tables = {"fedavg": {"client": {"lr": 4e-3, "lr_schedule": "constant"}}}
    grid = grid_of(sets=["client.lr=1e-3"], strategies=tables)
    assert set.union(*lrs(grid).values()) == {1e-3}
    assert {cell.client.lr_schedule for cell in grid.cells if cell.strategy_label == "fedavg"} == {"constant"}
    assert lrs(grid_of(sets=["client.lr=1e-3,3e-3"], strategies=tables))["fedavg"] == {1e-3, 3e-3}


def test_a_table_of_a_strategy_that_set_took_out_is_no_mistake():
    assert lrs(grid_of(sets=["strategy=fedavg"], strategies={"fedprox(mu=0.01)": {"client": {"lr": 1.0}}})) == {
        "fedavg": {2e-3}
    }


def test_a_strategys_table_and_a_recipe_go_together():
    recipes = {"slow": {"sampler": {"steps": 50}}, "fast": {"sampler": {"steps": 10}}}
    grid = grid_of(None, strategies={"fedavg": {"client": {"lr": 4e-3}}}, recipes=recipes)
    seen = {(cell.strategy_label, cell.recipe, cell.sampler.steps, cell.client.lr) for cell in grid.cells}
    assert {("fedavg", "slow", 50, 4e-3), ("fedavg", "fast", 10, 4e-3), ("centralized", "fast", 10, 2e-3)} <= seen


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"strategies": {"fedprx(mu=0.01)": {}}}, "my.toml: strategies.\"fedprx(mu=0.01)\": no strategy of this grid (did you mean 'fedprox(mu=0.01)'?)"),
        ({"strategies": {"fedprox": {}}}, "strategies.\"fedprox\": no strategy of this grid"),
        ({"strategies": {"fedavg": {"client": {"lrr": 1.0}}}}, "strategies.fedavg.client.lrr: unknown field (did you mean 'client.lr'?)"),
        ({"strategies": {"fedavg": {"client": {"lr": -1.0}}}}, 'my.toml: strategies."fedavg": client.lr: got -1.0; it must be greater than 0'),
        ({"strategies": {"fedavg": {"beta": 3.0}}}, 'beta: given both in strategies."fedavg" and as axes.beta; take one out'),
        ({"strategies": {"fedavg": {"seed": 3}}}, 'strategies."fedavg".seed: a strategy\'s cells share it with the others\'; take it out'),
        ({"strategies": {"fedavg": {"client": {"lr": 1.0}}}, "recipes": {"r": {"client": {"lr": 1.0}}}},
         'client.lr: given both in strategies."fedavg" and in recipes.r; take one out'),
        ({"strategies": {"fedavg": {}, "fedavg()": {}}, "axes": {"strategy": ["fedavg()"], "n_clients": [3], "beta": [1.0]}},
         "the strategy has a table by another name, too; take one out"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_strategys_table_is_told(changes, told):
    with pytest.raises(ConfigError) as caught:
        grid_of(None, **changes)
    assert told in str(caught.value)
    assert str(caught.value).count("\n") == 0


# -------------------------------------------------------------------------------------------------------- trials


def test_every_strategy_of_the_grid_contends_with_its_own_values():
    found = {
        each.label: (each.own, {key: str(space) for key, space in each.spaces.items()})
        for each in contenders(grid_of())
    }
    rate = "0.001 to 0.01 (log)"
    assert found == {
        "centralized": ({"client.lr": 2e-3}, {"client.lr": rate}),
        "fedavg": ({"client.lr": 2e-3}, {"client.lr": rate}),
        "fedprox(mu=0.01)": ({"client.lr": 2e-3, "strategy.mu": 0.01}, {"client.lr": rate, "strategy.mu": "0.0001 to 0.1 (log)"}),
    }  # fmt: skip


def test_the_cells_of_a_trial_are_the_grids_with_its_values_tunings_seeds_and_where():
    grid = grid_of(strategies={"fedprox(mu=0.01)": {"client": {"lr": 4e-3, "lr_schedule": "constant"}}})
    central, _, prox = contenders(grid)
    assert prox.own == {"client.lr": 4e-3, "strategy.mu": 0.01}
    cells = trial_cells(grid, prox, {"client.lr": 3e-3, "strategy.mu": 0.05})
    assert [(c.strategy_label, c.n_clients, c.beta, c.seed, c.client.lr, c.client.lr_schedule) for c in cells] == [
        ("fedprox(mu=0.05)", 5, 100.0, seed, 3e-3, "constant") for seed in (100, 101)
    ]
    assert {(c.n_clients, c.beta) for c in trial_cells(grid, central, central.own)} == {(None, None)}
    everywhere = grid_of(TUNE.replace("where", "#"))
    assert len(trial_cells(everywhere, contenders(everywhere)[1], {})) == 2 * 2 * 2


def test_what_the_grid_excludes_no_trial_has():
    grid = grid_of(TUNE.replace("where", "#"), exclude=[{"strategy": "fedprox(mu=0.01)", "beta": 0.1}])
    prox = contenders(grid)[2]
    assert {cell.beta for cell in trial_cells(grid, prox, {"strategy.mu": 0.05})} == {1.0}


def test_a_strategy_may_have_a_space_of_its_own_beside_that_of_its_name():
    strategies = [
        'feddiffuse(mode="usplit")',
        'feddiffuse(mode="udec")',
        "top-k(fraction=0.1)",
        "top-k(fraction=0.1, error_feedback=false)",
    ]
    tune = {"trials": 2, "seeds": [9], "strategies": {"feddiffuse": {"mode": {"choices": ["usplit", "udec"]}}, "top-k": {"fraction": {"low": 0.05, "high": 0.2}},
            "top-k(fraction=0.1)": {"fraction": {"low": 0.01, "high": 0.5}}}}  # fmt: skip
    axes = {"strategy": [strategies[0], strategies[2]], "n_clients": [3], "beta": [1.0]}
    assert [list(map(str, each.spaces.values())) for each in contenders(grid_of(tune, axes=axes))] == [
        ["usplit, udec"],
        ["0.01 to 0.5"],
    ]
    with pytest.raises(ConfigError, match="differ in what is tuned alone; take one out"):
        contenders(grid_of(tune, axes=axes | {"strategy": strategies[:3]}))


def test_numbers_are_of_the_kind_that_the_grid_has():
    tune = {
        "trials": 2,
        "seeds": [9],
        "fields": {"client.lr": {"choices": [1, 2e-3]}, "training.batch_size": {"low": 16, "high": 64}},
    }
    first = contenders(grid_of(tune))[0]
    assert first.spaces["client.lr"].choices == [1.0, 2e-3]
    assert type(first.spaces["client.lr"].choices[0]) is float
    assert type(first.spaces["training.batch_size"].low) is int


def changed(**changes) -> dict:
    return tomllib.loads(TUNE) | changes


@pytest.mark.parametrize(
    ("tune", "told"),
    [
        (changed(trials=1), "my.toml: tune.trials: got 1; it must be greater than or equal to 2"),
        (changed(trial=3), "my.toml: tune.trial: unknown key (did you mean 'trials'?)"),
        (changed(seeds=[]), "my.toml: tune.seeds: got []; it must be a list of at least one value"),
        (changed(seeds=[7, 7]), "my.toml: tune: seeds: got [7, 7]; each must stand once"),
        (changed(seeds=[1, 9]), "my.toml: seed: 1 is of tune.seeds, too; results need seeds that chose nothing"),
        (changed(rungs=[5, 2]), "rungs: got [5, 2]; each must be more rounds than the one before"),
        (changed(rungs=[10]), "my.toml: tune.rungs: got [10]; each must be fewer than training.rounds = 10"),
        (changed(keep=1.0), "my.toml: tune.keep: got 1.0; it must be less than 1"),
        (changed(fields={}, strategies={}), "nothing is tuned: give tune.fields, or tune.strategies.NAME"),
        (changed(fields={}), "my.toml: tune: nothing is tuned of centralized; give tune.fields, or tune.strategies.centralized"),
        (changed(fields={"client": {"lrr": {"low": 1.0, "high": 2.0}}}), "my.toml: tune.fields.client.lrr: unknown field (did you mean 'client.lr'?)"),
        (changed(fields={"client": {"lr": {"low": 1.0, "hig": 2.0}}}), "tune.fields.client.lr.hig: unknown key (did you mean 'high'?)"),
        (changed(fields={"client": {"lr": {"low": 1.0}}}), "tune.fields.client.lr: a range has two ends: give low and high"),
        (changed(fields={"client": {"lr": {"low": 0.01, "high": 0.001}}}), "low = 0.01 must be less than high = 0.001"),
        (changed(fields={"client": {"lr": {"low": 0.0, "high": 1.0, "log": True}}}), "low = 0.0 must be above 0, as log = true"),
        (changed(fields={"client": {"lr": {}}}), "write either {low = 1e-4, high = 1e-1, log = true} or {choices = [1, 2]}"),
        (changed(fields={"client": {"lr": {"choices": [0.1, 0.1]}}}), "choices: got [0.1, 0.1]; each must stand once"),
        (changed(fields={"client": {"lr": {"low": 3e-3, "high": 1.0}}}), "my.toml: tune.fields: client.lr: got 0.003 to 1; the grid's own value 0.002 is the first trial, and must be of it"),
        (changed(fields={"client": {"lr": {"low": -1.0, "high": 1.0}}}), "my.toml: tune.fields: client.lr: got -1.0; it must be greater than 0"),
        (changed(fields={"client": {"optimizer": {"low": 1, "high": 2}}}), "client.optimizer: got 1 to 2; the grid's own value is 'adam', and they must be of its kind"),
        (changed(fields={"client": {"optimizer": {"choices": ["adam", "sdg"]}}}), "my.toml: tune.fields: client.optimizer: got \"sdg\"; it must be 'adam' or 'sgd' (did you mean 'sgd'?)"),
        (changed(strategies={}, fields={"client": {"optimizer": {"choices": ["adam", "sgd"]}}}), "my.toml: tune.trials: got 4; what is tuned of centralized has 2 settings only"),
        (changed(strategies={}, fields={"training": {"batch_size": {"low": 31, "high": 33}}}), "my.toml: tune.trials: got 4; what is tuned of centralized has 3 settings only"),
        (changed(fields={"seed": {"choices": [1, 2]}}), "my.toml: tune: fields.seed: it cannot be tuned: only an axis gives it"),
        (changed(where={"strategy": "fedavg"}), "where.strategy: it cannot stand there; take it out"),
        (changed(where={"client": {"lr": 0.1}}), "client.lr: given both in tune.fields and in tune.where; take one out"),
        (changed(where={"beta": -1.0}), "my.toml: tune.where: beta: got -1.0; it must be greater than 0"),
        (changed(fields={"beta": {"choices": [0.1]}}, where={}), "fields.beta: it cannot be tuned: it says what strategies are compared on"),
        (changed(fields={"data": {"validation": {"low": 50, "high": 200}}}), "fields.data.validation: it cannot be tuned: it says what strategies are compared on"),
        (changed(fields={"diffusion": {"schedule": {"choices": ["linear", "cosine"]}}}), "fields.diffusion.schedule: it cannot be tuned: validation losses do not compare over it"),
        (changed(fields={"training": {"rounds": {"low": 2, "high": 9}}}), "fields.training.rounds: it cannot be tuned: trials would not cost the same"),
        (changed(fields={"evaluation": {"n_samples": {"low": 50, "high": 150}}}), "fields.evaluation.n_samples: it cannot be tuned: no training depends on it"),
        (changed(strategies={"fedprx": {"mu": {"low": 1.0, "high": 2.0}}}), "my.toml: tune.strategies.fedprx: no strategy of this grid (did you mean 'fedprox'?)"),
        (changed(strategies={"fedprox": {"mux": {"low": 1.0, "high": 2.0}}}), "my.toml: tune.strategies.fedprox.mux: unknown hyper-parameter (did you mean 'mu'?)"),
        (changed(strategies={"fedavg": {"mu": {"low": 1.0, "high": 2.0}}}), "my.toml: tune.strategies.fedavg.mu: unknown hyper-parameter; it has no hyper-parameters"),
        (changed(strategies={"fedprox": {"mu": {"low": -1.0, "high": 2.0}}}), "my.toml: tune.strategies: strategy: fedprox: mu must be"),
        (None, "my.toml: it has no table [tune] of what is tuned; docs/tuning.md has an example"),
    ],
)  # fmt: skip
def test_a_mistake_in_tune_is_one_message(tune, told):
    with pytest.raises(ConfigError) as caught:
        contenders(grid_of(tune))
    assert told in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_a_field_that_recipes_give_is_tuned_in_none_or_one_of_them():
    recipes = {"slow": {"client": {"lr_schedule": "constant"}}, "fast": {"training": {"rounds": 20}}}
    tune = changed(fields={"client": {"lr_schedule": {"choices": ["constant", "cosine"]}}})
    with pytest.raises(ConfigError, match=r"tune\.fields\.client\.lr_schedule: the grid's recipes\.slow gives it, too"):
        contenders(grid_of(tune, recipes=recipes))
    recipes = {"slow": {"client": {"optimizer": "sgd"}}, "fast": {"ema": {"decay": 0.9}}}
    tune = changed(fields={"ema": {"decay": {"low": 0.5, "high": 0.999}}})
    with pytest.raises(ConfigError, match=r"tune\.fields\.ema\.decay: the grid's recipes\.fast gives it, too"):
        contenders(grid_of(tune, recipes=recipes))


def test_what_is_predicted_and_minimised_can_be_tuned():
    """Validation losses are errors of the noise all the same."""
    fields = {"diffusion": {"prediction": {"choices": ["eps", "v"]}, "loss": {"choices": ["simple", "min-snr"]}}}
    assert list(contenders(grid_of(changed(fields=fields)))[0].spaces) == ["diffusion.loss", "diffusion.prediction"]


def test_batches_of_another_size_see_other_numbers_of_images_where_steps_are_given():
    tune = changed(fields={"training": {"batch_size": {"low": 16, "high": 64}}})
    assert contenders(grid_of(tune))
    with pytest.raises(ConfigError, match=r"tune\.fields\.training\.batch_size: trials would not cost the same, as "):
        contenders(grid_of(tune, training={"local_steps": 20}))


def test_a_share_of_the_trials_goes_on_after_each_rung():
    assert grid_of(changed(trials=8)).file.tune.counts() == [8, 4, 2]
    assert grid_of(changed(trials=9, keep=1 / 3)).file.tune.counts() == [9, 3, 1]
    assert grid_of(changed(trials=2, keep=0.1)).file.tune.counts() == [2, 1, 1]


def test_a_space_says_what_it_holds():
    assert str(Space(choices=["a", 1, True])) == "a, 1, True"
    assert not Space(choices=[1, 2]).holds(True)
    assert Space(low=1, high=3).holds(3)


# ---------------------------------------------------------------------------------------------------- the outcome


@pytest.mark.parametrize(
    ("finite_until", "told"),
    [
        (0, "fedavg: every trial diverged; give tune.fields or tune.strategies smaller values"),
        (
            2,
            "fedavg: every trial that went on diverged before its last round; give tune.fields or tune.strategies smaller values, or let more go on by tune.keep",
        ),
    ],
)
def test_where_nothing_can_be_chosen_it_is_told_which_trials_diverged(finite_until, told):
    with pytest.raises(Unfinished, match=re.escape(told)):
        search(
            [Search(contenders(grid_of())[1], 4, 0)],
            [(2, 4), (5, 2)],
            lambda asked, rounds: [1.0 if rounds <= finite_until else math.inf for _ in asked],
        )


def log_of(*rounds: int) -> list[SimpleNamespace]:
    """Lines of a cell's log."""
    numbers = {"gradient_steps": 10, "seconds": 0.5}
    return [SimpleNamespace(round=n, value=lambda key, n=n: n * numbers[key]) for n in rounds]


def test_a_cell_that_two_trials_have_is_paid_once_and_one_that_diverges_when_it_does():
    logs = {"a": log_of(1, 2, 3, 4), "b": log_of(1, 2), "c": log_of(1, 2)}
    store = SimpleNamespace(cell=lambda cell_id: SimpleNamespace(read_log=lambda kind: logs[cell_id]))
    first, second, third, _ = Search(contenders(grid_of())[1], 4, 0).trials
    cells = {first: "ab", second: "a", third: "ac"}
    jobs = {trial: tuple(SimpleNamespace(cell_id=each) for each in ids) for trial, ids in cells.items()}
    tuning = Tuning(None, [], SimpleNamespace(store=store), jobs)
    for trial, rounds in ((first, 4), (second, 1), (third, 3)):
        trial.scores[rounds] = 1.0
    third.outcome = DIVERGED
    assert tuning.cost([second]) == Cost(10, 0.5)
    assert tuning.cost([first]) == Cost(40 + 20, 2.0 + 1.0)
    assert tuning.cost([second, first]) == Cost(40 + 20, 2.0 + 1.0)
    assert tuning.cost([first, second, third]) == Cost(40 + 20 + 20, 2.0 + 1.0 + 1.0)
    assert [tuning.trained(trial) for trial in (first, second, third)] == [4, 1, 2]


def test_a_value_near_an_end_of_its_range_is_named():
    """In the outer fourth, as there are four trials, of the logarithm of 0.001 to 0.01: below 0.00178, above 0.0056."""
    found = [summary(outcome_of(grid_of(), {"fedavg": {"client.lr": rate}})).notes for rate in (1.7e-3, 1.9e-3, 6e-3)]
    told = [[note for note in notes if "an end of its range" in note] for notes in found]
    assert told == [
        ["Near an end of its range: FedAvg (learning rate, the lower)."], [],
        ["Near an end of its range: FedAvg (learning rate, the upper)."],
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------- the tuned grid


class Ended(Tuning):
    """A tuning without folders of cells."""

    def losses(self, trial, rounds):
        return [trial.score - 0.05, trial.score + 0.05]

    def cost(self, trials):
        return Cost(sum(20 * trial.rounds for trial in trials), sum(float(trial.rounds) for trial in trials))


def outcome_of(grid, values: dict[str, dict]) -> Tuning:
    """A tuning that chose these values, by the strategy's label."""
    searches = [Search(each, 2, 0) for each in contenders(grid)]
    for one in searches:
        first, best = one.trials
        first.scores, first.outcome = {2: 0.35}, STOPPED
        best.values = one.contender.own | values.get(one.contender.label, {})
        best.scores, best.outcome = {10: 0.15}, CHOSEN
    return Ended(grid, searches, SimpleNamespace(jobs=grid.cells), {})


VALUES = {"fedavg": {"client.lr": 3e-3}, "fedprox(mu=0.01)": {"client.lr": 4.5e-3, "strategy.mu": 0.00105}}


def tuned_text(grid) -> str:
    return write_grid(tuned_grid(outcome_of(grid, VALUES)), "Written by a test.")


def test_the_tuned_grid_has_the_grids_axes_and_seeds_and_the_chosen_values():
    grid = grid_of(description="Of a test.", data={"limit": 300}, labels={"fedprox(mu=0.01)": "Prox"}, report={"claims": True},
                   exclude=[{"strategy": "fedprox(mu=0.01)", "beta": 0.1}])  # fmt: skip
    tuned = parse_grid(tomllib.loads(tuned_text(grid)), "tuned.toml", "x")
    assert (tuned.name, tuned.description, tuned.claims) == ("my-tuned", "Of a test.", True)
    assert lrs(tuned) == {"centralized": {2e-3}, "fedavg": {3e-3}, "fedprox(mu=0.00105)": {4.5e-3}}
    assert tuned.labels == {"fedprox(mu=0.00105)": "Prox"}
    assert {cell.data.limit for cell in tuned.cells} == {300}
    before = [(c.strategy.name, c.n_clients, c.beta, c.seed) for c in grid.cells]
    assert [(c.strategy.name, c.n_clients, c.beta, c.seed) for c in tuned.cells] == before


def test_the_tuned_grid_says_how_it_was_tuned_and_keeps_tunings_seeds_out():
    text = tuned_text(grid_of())
    tuned = parse_grid(tomllib.loads(text), "tuned.toml", "x").tuned
    assert tuned is not None
    assert (tuned.trials, tuned.seeds, tuned.rungs, tuned.kept) == (4, [100, 101], [2, 5], [4, 2, 1])
    assert (tuned.gradient_steps, tuned.seconds) == (3 * 240, 3 * 12.0)
    assert tuned.space == {"client.lr": "0.001 to 0.01 (log)", "fedprox mu": "0.0001 to 0.1 (log)"}
    assert tuned.where == {"n_clients": 5, "beta": 100.0}
    with pytest.raises(ConfigError, match=r"--set seed=5,101: seed: 101 is of tuned\.seeds, too"):
        parse_grid(tomllib.loads(text), "tuned.toml", "x", ["seed=5,101"])


def test_spaces_of_two_strategies_of_one_name_are_both_told():
    slow, quick = "fedavgm(momentum=0.5, server_lr=0.5)", "fedavgm(momentum=0.5)"
    spaces = {slow: {"momentum": {"low": 0.5, "high": 0.9}}, quick: {"momentum": {"low": 0.1, "high": 0.5}}}
    axes = {"strategy": [slow, quick], "n_clients": [3], "beta": [1.0]}
    tree = tuned_grid(outcome_of(grid_of({"trials": 2, "seeds": [9], "strategies": spaces}, axes=axes), {}))
    told = {"fedavgm momentum": "0.5 to 0.9", f"{quick} momentum": "0.1 to 0.5"}
    assert tree["tuned"]["space"] == told
    assert parse_grid(tomllib.loads(write_grid(tree, "")), "tuned.toml", "x").tuned.space == told


def test_what_set_gave_is_in_the_tuned_grid():
    grid = grid_of(sets=["training.rounds=20", "beta=0.5", "seed=7"], exclude=[{"beta": 0.1}])
    tuned = parse_grid(tomllib.loads(tuned_text(grid)), "tuned.toml", "x")
    assert {(c.training.rounds, c.beta, c.seed) for c in tuned.cells if not c.centralized} == {(20, 0.5, 7)}


def test_fields_that_a_strategy_had_before_stay():
    grid = grid_of(strategies={"fedavg": {"client": {"lr": 5e-3, "lr_schedule": "constant"}}})
    tuned = parse_grid(tomllib.loads(tuned_text(grid)), "tuned.toml", "x")
    assert {(c.client.lr, c.client.lr_schedule) for c in tuned.cells if c.strategy.name == "fedavg"} == {
        (3e-3, "constant")
    }


def test_names_that_toml_would_read_otherwise_are_quoted():
    recipes = {"a.b": {"sampler": {"steps": 10}}, "c": {"sampler": {"steps": 20}}}
    grid = grid_of(recipes=recipes, labels={"a.b": 'a "b"\t\\'})
    again = parse_grid(tomllib.loads(tuned_text(grid)), "tuned.toml", "x")
    assert again.axes["recipe"] == ["a.b", "c"]
    assert again.labels == {"a.b": 'a "b"\t\\'}


@pytest.mark.parametrize(
    ("sets", "still"),
    [
        (["seed=5,6", "n_clients=2", "beta=0.3", "partition=iid"], True),
        (["strategy=fedavg", "evaluation.n_samples=200", "sampler.steps=20", "threads=2"], True),
        (["strategy=fedavg,feddyn(alpha=1)"], False),
        (["strategy=fedprox(mu=0.01)"], False),
        (["client.lr=0.05"], False),
        (["training.rounds=1"], False),
        (["model.widths=[8,8,8]"], False),
        (["data.limit=300"], False),
    ],
)
def test_a_grid_is_tuned_as_long_as_set_changes_nothing_of_it(sets, still):
    raw = tomllib.loads(tuned_text(grid_of()))
    assert (parse_grid(raw, "tuned.toml", "x", sets).tuned is not None) == still


# -------------------------------------------------------------------------------------------------------- reports


TUNED = {"trials": 8, "seeds": [100, 101], "metric": "validation_loss", "rungs": [2], "kept": [8, 4], "where": {"beta": 100.0},
         "space": {"client.lr": "0.001 to 0.01 (log)"}, "cells": 24, "gradient_steps": 12345, "seconds": 99.0}  # fmt: skip


def test_a_report_says_that_the_grid_was_tuned_and_where_strategies_differ(tmp_path):
    tables = {"fedprox(mu=0.1)": {"client": {"lr": 4e-3}}}
    store = finished_store(tmp_path, strategies=tables)
    store.write_plan(store.plan() | {"tuned": TUNED})
    results = Results.read(store.root)
    assert of_what(results).endswith("2 seeds, tuned (k = 8)")
    told = dict(setting(results))
    assert "learning rate 0.002, " in told["Local optimizer"]  # of more than half of the strategies
    assert told["Strategies, where they differ from this"] == "fedprox(mu=0.1): local optimizer learning rate 0.004."
    assert told["Tuning"] == (
        "8 settings of each strategy, by the mean of validation_loss over seeds 100, 101 at beta = 100. Searched: client.lr 0.001 to 0.01 (log). "
        "Trained on: 4 after round 2. Cost: 24 trainings, 12,345 gradient steps, 99 s."
    )


def test_a_grid_that_was_not_tuned_says_nothing_of_it(tmp_path):
    results = Results.read(finished_store(tmp_path).root)
    assert "tuned" not in of_what(results)
    assert {"Tuning", "Strategies, where they differ from this"}.isdisjoint(dict(setting(results)))
