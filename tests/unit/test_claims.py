"""The paper's claims on grids in which effects are planted, so that the verdicts are known."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.report.claims import COLUMNS, CONFOUNDED, SATURATED, STATEMENTS, claims
from bench.report.results import Results
from bench.store.files import read_lines, write_json
from bench.store.grid_folder import Store
from tests import fake_store, reports

ROUNDS, BATCHES = 10, 400
SHORT = " (10 rounds; 50 were not run)"
AXES: dict[str, list[Any]] = {
    "strategy": ["centralized", "fedavg"],
    "n_clients": [3, 5],
    "beta": [0.1],
    "seed": [0, 1, 2],
}

Labels = dict[str, Any]


def loss(labels: Labels, t: np.ndarray, slow: float = 0.0, rough: float = 0.0, level: float = 0.0, until: float = 1.0):
    """A falling loss at shares t of a run; FedAvg's falls more slowly by `slow`, goes up and down every tenth of the run
    by `rough`, times (1 + seed / 10), until then, and ends higher by the share `level`."""
    fed = 1.0 if labels["n_clients"] else 0.0
    fall = np.exp(-(8 - fed * slow) * t) + 0.1 * (1 + fed * level)
    wave = (-1.0) ** np.floor(10 * t - 1e-9) * (t <= until)
    return fall + fed * rough * (1 + labels["seed"] / 10) * wave


def planted(
    results: Path,
    effects: Callable[[Labels], dict[str, float]] = lambda labels: {},
    axes: dict[str, list[Any]] | None = None,
    drawn: Callable[[Labels], list[float]] = lambda labels: [90.0, 20.0],
    fid: Callable[[Labels], float] = lambda labels: 20.0,
    missing: tuple[int, ...] = (),
    schedule: str = "constant",
) -> Store:
    """A grid whose losses are `loss` with the effects of a cell's labels, those of training and of validation alike."""
    training = fake_store.SETTINGS["training"] | {"rounds": ROUNDS}
    client = fake_store.SETTINGS["client"] | {"lr_schedule": schedule}
    store = fake_store.planned_store(results, AXES | (axes or {}), training=training, client=client)
    for number, cell in enumerate(store.planned()):
        if number in missing:
            continue
        labels, rounds = cell.labels, cell.config["training"]["rounds"]
        folder = store.cell(cell.cell_id)
        folder.path.mkdir()
        validation = loss(labels, np.arange(1, rounds + 1) / rounds, **effects(labels))
        folder.append("metrics.jsonl", [
            {"round": k, "samples": 200 * k, "validation_loss": value, "time": 0.0} for k, value in enumerate(validation.tolist(), start=1)
        ])  # fmt: skip
        n = labels["n_clients"] or 1
        visits = np.array_split(loss(labels, (np.arange(BATCHES) + 0.5) / BATCHES, **effects(labels)), rounds * n)
        folder.append("steps.jsonl", [
            {"round": 1 + k // n, "client": k % n, "loss": losses.tolist()} for k, losses in enumerate(visits)
        ])  # fmt: skip
        curve = [{"round": k, "fid": f} for k, f in enumerate(drawn(labels))]
        metrics = {"fid": fid(labels), "validation_loss": validation[-1]}
        write_json(folder.path / "curve.json", {"curve": curve}, sync=False)
        write_json(
            folder.path / "result.json", {"cell_id": cell.cell_id, "metrics": metrics, "finished": 0.0}, sync=False
        )
    return store


def verdicts(table: pd.DataFrame, claim: int) -> set[str]:
    return set(table.loc[table["claim"] == claim, "verdict"])


def row(table: pd.DataFrame, claim: int, measure: str) -> pd.Series:
    return table[(table["claim"] == claim) & (table["measure"] == measure)].iloc[0]


# ------------------------------------------------------------------------------------------------ planted effects


def test_every_claim_is_answered_by_both_measures(tmp_path):
    table = reports.answers(planted(tmp_path))
    assert list(table.columns) == list(COLUMNS)
    assert list(zip(table["claim"], table["measure"], strict=True)) == [
        (claim, measure) for claim in range(1, 6) for measure in ("paper", "fair")
    ]
    assert list(table["statement"].unique()) == list(STATEMENTS.values())
    assert all("running training loss" in q or "training loss of the last round" in q for q in table["quantity"][::2])
    assert all("validation loss" in q for q in table["quantity"][1::2])


@pytest.mark.parametrize(
    ("claim", "effects", "verdict"),
    [
        (1, lambda labels: {"slow": 3 + 0.1 * labels["seed"]}, "holds"),
        (1, lambda labels: {"slow": -3 - 0.1 * labels["seed"]}, "does not hold"),
        (1, lambda labels: {"slow": labels["seed"] - 1.0}, "undecided at 3 seeds"),
        (2, lambda labels: {"rough": 0.05}, "holds"),
        (2, lambda labels: {"rough": 0.05 * (labels["seed"] == 1)}, "undecided at 3 seeds"),
        (3, lambda labels: {"rough": 0.01 * (labels["n_clients"] or 0)}, "holds"),
        (3, lambda labels: {"rough": 0.1 / (labels["n_clients"] or 1)}, "does not hold"),
        (4, lambda labels: {"level": 0.02 + 0.001 * labels["seed"]}, "holds"),
        (4, lambda labels: {"level": -0.3 + 0.001 * labels["seed"]}, "holds"),
        (4, lambda labels: {"level": 0.2 + 0.001 * labels["seed"]}, "does not hold"),
        (4, lambda labels: {"level": 0.05 * labels["seed"]}, "undecided at 3 seeds"),
        (5, lambda labels: {"rough": 0.05, "until": 0.5}, "holds"),
    ],
)
def test_a_planted_effect_has_its_verdict(tmp_path, claim, effects, verdict):
    """But for claim 5 images are as good at the end as that claim says."""
    store = planted(tmp_path, effects, drawn=lambda labels: [90.0, 20.0 + labels["seed"]])
    assert {found.removesuffix(SHORT) for found in verdicts(reports.answers(store), claim)} == {verdict}


def test_a_centralized_curve_that_is_rougher_refutes_claim_2(tmp_path):
    store = planted(tmp_path)
    for cell in store.planned():
        if cell.labels["n_clients"] is None:
            folder = Store(store.root).cell(cell.cell_id)
            for name, key in (("metrics.jsonl", "validation_loss"), ("steps.jsonl", "loss")):
                lines = read_lines(folder.path / name)
                (folder.path / name).unlink()
                up = 0.02 + 0.001 * cell.labels["seed"]
                folder.append(name, [
                    line | {key: (np.array(line[key]) + up * (line["round"] % 2)).tolist()} for line in lines
                ])  # fmt: skip
    assert verdicts(reports.answers(store), 2) == {"does not hold"}


@pytest.mark.parametrize(
    ("last", "verdict"), [(90.0, "does not hold"), (20.0, "undecided at 3 seeds"), (10.0, "holds")]
)
def test_claim_5_asks_for_better_images_however_smooth_the_curve(tmp_path, last, verdict):
    calmer = {"rough": 0.05, "until": 0.5}
    drawn = lambda labels: [20.0, last + 1e-3 * (labels["seed"] - 1)]  # noqa: E731
    table = reports.answers(planted(tmp_path, lambda labels: calmer, {"n_clients": [3]}, drawn))
    assert verdicts(table, 5) == {verdict + SHORT}


def test_numbers_by_hand(tmp_path):
    """Seeds whose final losses are 10, 20 and 60 % above centralized training's in both blocks."""
    levels = [0.1, 0.2, 0.6]
    table = reports.answers(planted(tmp_path, lambda labels: {"level": levels[labels["seed"]]}))
    found = row(table, 4, "fair")
    end = 0.1 + math.exp(-8)
    ratios = np.array(levels) * 0.1 / end
    half = 4.302652729911275 * ratios.std(ddof=1) / math.sqrt(3)  # Student's with two degrees of freedom
    assert found[["value", "low", "high"]].to_list() == pytest.approx(
        [ratios.mean(), ratios.mean() - half, ratios.mean() + half]
    )
    assert (found["n"], found["verdict"]) == (3, "undecided at 3 seeds")
    assert found["quantity"].endswith("FedAvg over centralized, minus 1 (reached below +0.05)")


def test_the_beginning_is_the_first_fifth_of_the_run(tmp_path):
    slow = lambda labels: {"slow": 4.0}  # noqa: E731
    table = reports.answers(planted(tmp_path, slow))
    for measure, t in (("fair", np.array([0.1, 0.2])), ("paper", (np.arange(80) + 0.5) / 400)):
        assert row(table, 1, measure)["value"] == pytest.approx(np.mean(np.exp(-4 * t) - np.exp(-8 * t)), rel=1e-6)


# ----------------------------------------------------------------------------------------------- blocks and seeds


def test_a_seed_counts_with_its_mean_over_blocks(tmp_path):
    level = lambda labels: {"level": 0.5 if labels["n_clients"] == 3 else 0.1 * labels["seed"]}  # noqa: E731
    store = planted(tmp_path, level)
    pooled, blocks = row(reports.answers(store), 4, "fair"), claims(reports.read(store))
    of_block = blocks[(blocks["claim"] == 4) & (blocks["measure"] == "fair")].set_index("block")
    assert list(of_block.index) == ["all", "n = 3, β = 0.1", "n = 5, β = 0.1"]
    assert pooled["value"] == of_block.loc["all", "value"] == pytest.approx(of_block["value"].iloc[1:].mean())
    assert of_block.loc["n = 3, β = 0.1", "verdict"] == "does not hold"
    assert of_block.loc["n = 5, β = 0.1", "verdict"] == "undecided at 3 seeds"
    assert list(blocks.loc[blocks["claim"] == 3, "block"]) == ["all", "β = 0.1"] * 2


def test_one_seed_decides_nothing(tmp_path):
    table = reports.answers(
        planted(
            tmp_path,
            lambda labels: {"slow": 3, "rough": 0.01 * (labels["n_clients"] or 0), "level": 2.0},
            {"seed": [0]},
        )
    )
    assert {found.removesuffix(SHORT) for found in table["verdict"]} == {"undecided at 1 seed"}
    assert table["value"].notna().all()
    assert table[["low", "high"]].isna().all(axis=None)


def test_a_seed_that_lacks_a_block_is_left_out(tmp_path):
    """Else its mean would be of other splits than the others' means are."""
    level = lambda labels: {"level": 0.5 if labels["n_clients"] == 3 else 0.0}  # noqa: E731
    first = next(k for k, cell in enumerate(fake_store.planned_store(tmp_path / "plan", AXES).planned())
                 if (cell.labels["n_clients"], cell.labels["seed"]) == (5, 1))  # fmt: skip
    table = reports.answers(planted(tmp_path, level, missing=(first,)))
    found = row(table, 4, "fair")
    assert found["n"] == 2
    assert found["value"] == pytest.approx(0.5 * 0.5 * 0.1 / (0.1 + math.exp(-8)))


def test_a_block_that_is_finished_in_no_seed_is_left_out(tmp_path):
    gone = tuple(k for k, cell in enumerate(fake_store.planned_store(tmp_path / "plan", AXES).planned())
                 if cell.labels["n_clients"] == 5)  # fmt: skip
    store = planted(tmp_path, lambda labels: {"slow": 3.0}, missing=gone)
    for number in gone:
        fake_store.fail(fake_store.begin(Store(store.root), store.planned()[number]))
    table = reports.answers(store)
    assert row(table, 1, "fair")["n"] == 3
    assert row(table, 3, "fair")["verdict"] == "the finished cells have one value of n only, 3"


def test_the_blocks_and_seeds_without_a_gap_are_pooled_and_the_others_named(tmp_path):
    """Of three clients two seeds, of five one, which is another."""
    plan = fake_store.planned_store(tmp_path / "plan", AXES).planned()
    gone = [
        k for k, cell in enumerate(plan) if (cell.labels["n_clients"], cell.labels["seed"]) in ((3, 0), (5, 1), (5, 2))
    ]
    found = row(reports.answers(planted(tmp_path, missing=tuple(gone))), 1, "paper")
    assert found["n"] == 2
    assert found["quantity"].endswith("(1 of 2 blocks: too few seeds for n = 5, β = 0.1)")


def test_a_block_whose_curve_does_not_fall_is_named(tmp_path):
    """It is the roughest of all: leaving it out without a word would flatter."""
    rising = lambda labels: {"level": 30.0 if labels["n_clients"] == 5 else 0.0, "rough": 0.02}  # noqa: E731
    store = planted(tmp_path, rising)
    for cell in store.planned():
        if cell.labels["n_clients"] == 5:
            folder = Store(store.root).cell(cell.cell_id)
            lines = read_lines(folder.path / "metrics.jsonl")
            (folder.path / "metrics.jsonl").unlink()
            folder.append("metrics.jsonl", [line | {"validation_loss": float(line["round"])} for line in lines])
    found = row(reports.answers(store), 2, "fair")
    assert found["verdict"] == "holds"
    assert found["quantity"].endswith("(1 of 2 blocks: too few seeds for n = 5, β = 0.1)")


def test_of_curves_that_only_fall_roughness_is_not_measurable_whatever_their_rounding(tmp_path):
    """It is exactly 1 in both: it could not have told anything, and no noise of the last digit earns a verdict."""
    table = reports.answers(planted(tmp_path, lambda labels: {"slow": 0.3 + 0.1 * labels["seed"], "level": 0.013}))
    for claim in (2, 3):
        found = row(table, claim, "fair")
        assert (found["value"], found["low"], found["high"]) == (0.0, 0.0, 0.0)
        assert found["verdict"] == SATURATED
    assert row(table, 5, "fair")["verdict"] == SATURATED + SHORT  # smooth from the start


TOO_SHORT = "the validation loss does not fall, or has fewer than four values"


@pytest.mark.parametrize(("rounds", "verdict"), [(2, TOO_SHORT), (3, TOO_SHORT), (4, SATURATED)])
def test_a_few_rounds_do_not_show_how_smooth_a_curve_is(tmp_path, rounds, verdict):
    table = reports.answers(planted(tmp_path, axes={"training.rounds": [rounds]}))
    assert [row(table, claim, "fair")["verdict"] for claim in (2, 3)] == [verdict] * 2


def test_short_runs_leave_the_verdicts_of_long_ones_alone(tmp_path):
    rough = lambda labels: {"rough": 0.2}  # noqa: E731
    table = claims(Results.read(planted(tmp_path, rough, {"training.rounds": [3, 12]}).root))
    answers = table[(table["claim"] == 2) & (table["measure"] == "fair")].set_index("block")["verdict"]
    assert [verdict for block, verdict in answers.items() if "12" in block] == ["holds"] * 2
    assert answers["all"] == "holds"


def test_axes_and_fedavg_are_called_by_their_titles(tmp_path):
    store = planted(tmp_path, axes={"n_clients": [5]})
    titles = {"n_clients": "hospitals", "fedavg": "FedAvg"}
    table = claims(Results.read(store.root, titles))
    assert set(table.loc[table["claim"] == 3, "verdict"]) == {"the finished cells have one value of hospitals only, 5"}
    assert "hospitals = 5, β = 0.1" in set(table["block"])
    empty = claims(Results.read(fake_store.planned_store(tmp_path / "empty").root, titles))
    assert set(empty["verdict"]) == {"no cell of FedAvg is finished"}


def test_further_axes_are_paired_with_centralized_training_of_their_own(tmp_path):
    effects = lambda labels: {"level": 0.01 * labels["sampler.steps"]}  # noqa: E731
    store = planted(tmp_path, effects, {"sampler.steps": [10, 20], "training.participation": [0.5, 1.0], "seed": [0]})
    blocks = claims(reports.read(store))
    fair = blocks[(blocks["claim"] == 4) & (blocks["measure"] == "fair")]
    assert len(fair) == 1 + 2 * 2 * 2
    assert "n = 3, β = 0.1, sampler.steps = 10, training.participation = 0.5" in set(fair["block"])
    assert fair["value"].iloc[0] == pytest.approx(0.15, rel=0.01)


# -------------------------------------------------------------------------------------------------------- claim 5


def test_claim_5_says_how_long_the_runs_are(tmp_path):
    quantity = row(reports.answers(planted(tmp_path)), 5, "fair")["quantity"]
    assert quantity.startswith(
        "ups and downs of the validation loss over its fall, last half of 10 rounds minus first;"
    )
    assert "FID of the last images drawn along training minus the first: -70" in quantity


def test_long_runs_are_compared_with_short_ones_where_there_are_both(tmp_path):
    effects = lambda labels: {"rough": 0.05 if labels["training.rounds"] == 10 else 0.001}  # noqa: E731
    lengths = {"training.rounds": [10, 20, 50], "seed": [0, 1], "n_clients": [3]}
    fid = lambda labels: 30.0 - labels["training.rounds"] / 10 + 0.01 * labels["seed"] * labels["training.rounds"]  # noqa: E731
    table = reports.answers(planted(tmp_path, effects, lengths, fid=fid))
    quantity = row(table, 5, "fair")["quantity"]
    assert "validation loss, 50 rounds minus 10; FID, 50 rounds minus 10: -3.8" in quantity
    assert row(table, 5, "fair")["value"] < 0
    assert verdicts(table, 5) == {"holds"}


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_rate_that_falls_within_every_run_leaves_claim_5_without_an_answer(tmp_path, schedule):
    calmer = lambda labels: {"rough": 0.05, "until": 0.5}  # noqa: E731
    drawn = lambda labels: [90.0, 20.0 + labels["seed"]]  # noqa: E731
    table = reports.answers(planted(tmp_path, calmer, drawn=drawn, schedule=schedule))
    assert verdicts(table, 5) == {CONFOUNDED if schedule == "cosine" else "holds" + SHORT}
    assert not any("not answered" in verdict for claim in (1, 2, 3, 4) for verdict in verdicts(table, claim))


def test_of_both_schedules_claim_5_is_answered_by_the_constant_rate(tmp_path):
    effects = lambda labels: {"rough": 0.05, "until": 0.5 if labels["client.lr_schedule"] == "cosine" else 1.0}  # noqa: E731
    table = claims(reports.read(planted(tmp_path, effects, {"client.lr_schedule": ["cosine", "constant"]})))
    blocks = table.loc[(table["claim"] == 5) & (table["measure"] == "fair"), "block"]
    assert len(blocks) == 3
    assert all("client.lr_schedule = constant" in block for block in blocks if block != "all")


def test_at_a_falling_rate_two_lengths_answer_claim_5(tmp_path):
    effects = lambda labels: {"rough": 0.05 if labels["training.rounds"] == 10 else 0.001}  # noqa: E731
    lengths = {"training.rounds": [10, 50], "n_clients": [3]}
    fid = lambda labels: 30.0 - labels["training.rounds"] / 10 + 0.1 * labels["seed"] * labels["training.rounds"] / 50  # noqa: E731
    assert verdicts(reports.answers(planted(tmp_path, effects, lengths, fid=fid, schedule="cosine")), 5) == {"holds"}


# ------------------------------------------------------------------------------------------------------- controls

SKEW = {"beta": [0.1, 1.0, 100.0]}


def sawtooth(of_skew: float) -> Callable[[Labels], dict[str, float]]:
    """Ups and downs of every federated curve, and more of them the more labels are skewed."""

    def effects(labels: Labels) -> dict[str, float]:
        skew = {0.1: 1.0, 1.0: 0.5}.get(labels["beta"], 0.0)
        return {"rough": 0.05 + of_skew * skew + 0.002 * labels["seed"]}

    return effects


@pytest.mark.parametrize(
    ("of_skew", "told"), [(0.0, "not measurable: 0 in every seed"), (0.04, "holds"), (-0.04, "does not hold")]
)
def test_beside_a_curve_that_is_less_smooth_stands_what_skew_adds(tmp_path, of_skew, told):
    table = reports.answers(planted(tmp_path, sawtooth(of_skew), SKEW))
    found = row(table, 2, "fair")
    assert found["verdict"] == f"holds (β = 100: holds; by skew alone: {told})"
    assert "FedAvg minus centralized; the same at β = 100: +" in found["quantity"]
    assert found["n"] == 3


def test_numbers_of_skew_and_of_its_control_are_those_of_their_blocks(tmp_path):
    store = planted(tmp_path, sawtooth(0.04), SKEW)
    rows = reports.rows_of(store).frame
    fed, base = rows[rows["n_clients"].notna()], rows[rows["n_clients"].isna()]["validation_roughness"].mean()
    means = fed.groupby("beta")["validation_roughness"].mean()
    table = claims(reports.read(store))
    found = table[(table["claim"] == 2) & (table["measure"] == "fair")].set_index("block")
    assert list(found.index) == ["all", *(f"n = {n}, β = {beta}" for n in (3, 5) for beta in ("0.1", "1.0"))]
    assert found.loc["all", "value"] == pytest.approx((means[0.1] + means[1.0]) / 2 - base)
    beside = [text.split(": ")[1].split(" ")[0] for text in found.loc["all", "quantity"].split("; ")[1:]]
    wanted = [means[100.0] - base, (means[0.1] + means[1.0]) / 2 - means[100.0]]
    assert [float(text) for text in beside] == pytest.approx(wanted, rel=1e-2)
    assert found.loc["n = 3, β = 1.0", "verdict"] == "holds (β = 100: holds; by skew alone: holds)"


def test_with_more_clients_the_control_is_of_the_same_clients(tmp_path):
    """Ups and downs grow with n alike at every beta."""
    grow = lambda labels: {"rough": 0.01 * (labels["n_clients"] or 0) * (1 + 0.01 * labels["seed"])}  # noqa: E731
    table = reports.answers(planted(tmp_path, grow, SKEW))
    for measure in ("paper", "fair"):
        assert (
            row(table, 3, measure)["verdict"]
            == "holds (β = 100: holds; by skew alone: not measurable: 0 in every seed)"
        )


def test_a_control_that_is_not_finished_is_none(tmp_path):
    plan = fake_store.planned_store(tmp_path / "plan", AXES | SKEW).planned()
    gone = tuple(k for k, cell in enumerate(plan) if cell.labels["beta"] == 100.0)
    several = row(reports.answers(planted(tmp_path, sawtooth(0.0), SKEW, missing=gone)), 2, "fair")
    one = row(reports.answers(planted(tmp_path / "one", sawtooth(0.0))), 2, "fair")
    for found in (several, one):  # beta = 1 is skewed, too: it is no control, however few are left
        assert (found["verdict"], "β" in found["quantity"]) == ("holds", False)


def test_the_level_of_the_loss_is_judged_without_the_control(tmp_path):
    """FedAvg ends near centralized training on nearly IID labels, and far from it elsewhere."""
    high = lambda labels: {"level": {0.1: 0.5, 1.0: 0.25}.get(labels["beta"], 0.0) + 0.001 * labels["seed"]}  # noqa: E731
    table = claims(reports.read(planted(tmp_path, high, SKEW)))
    found = table[(table["claim"] == 4) & (table["measure"] == "fair")].set_index("block")
    assert list(found.index) == ["all", *(f"n = {n}, β = {beta}" for n in (3, 5) for beta in ("0.1", "1.0"))]
    assert found.loc["all", "value"] == pytest.approx(found.iloc[1:]["value"].mean())
    assert found.loc["all", "verdict"] == "does not hold"


# ----------------------------------------------------------------------------------------------------- no answers


def reasons(store: Store) -> dict[tuple[int, str], str]:
    table = reports.answers(store)
    unanswered = table[table["value"].isna()]
    assert (unanswered["n"] == 0).all()
    assert unanswered[["low", "high"]].isna().all(axis=None)
    return {(r.claim, r.measure): r.verdict for r in unanswered.itertuples()}


def test_without_fedavg_nothing_is_answered(tmp_path):
    store = planted(tmp_path, axes={"strategy": ["centralized", "fedprox(mu=0.1)"]})
    assert set(reasons(store).values()) == {"no cell of fedavg is finished"}
    assert len(reasons(store)) == 10


def test_nothing_is_answered_before_a_cell_is_finished(tmp_path):
    assert set(reasons(fake_store.planned_store(tmp_path)).values()) == {"no cell of fedavg is finished"}


def test_without_centralized_training_claims_about_it_are_not_answered(tmp_path):
    found = reasons(planted(tmp_path, axes={"strategy": ["fedavg"]}))
    assert {claim for claim, _ in found} == {1, 2, 4}
    assert set(found.values()) == {"no centralized training of the same seed is finished"}


def test_one_number_of_clients_does_not_answer_claim_3(tmp_path):
    found = reasons(planted(tmp_path, axes={"n_clients": [5]}))
    assert found == dict.fromkeys([(3, "paper"), (3, "fair")], "the finished cells have one value of n only, 5")


def test_without_local_losses_the_papers_measure_is_not_answered(tmp_path):
    store = planted(tmp_path)
    for cell in store.planned():
        (store.cell(cell.cell_id).path / "steps.jsonl").unlink()
    told = "there are no local losses to read (steps.jsonl)"
    assert reasons(store) == {(claim, "paper"): told for claim in range(1, 6)}


def test_without_images_along_training_claim_5_is_not_answered(tmp_path):
    store = planted(tmp_path, drawn=lambda labels: [])
    told = "no images were drawn along training (evaluation.curve_every)"
    assert reasons(store) == {(5, "paper"): told, (5, "fair"): told}


def test_a_curve_that_does_not_fall_has_no_roughness_to_compare(tmp_path):
    store = planted(tmp_path, lambda labels: {"level": 20.0} if labels["n_clients"] else {"slow": 0})
    plain = Store(store.root)
    for cell in plain.planned():
        folder = plain.cell(cell.cell_id)
        lines = read_lines(folder.path / "metrics.jsonl")
        (folder.path / "metrics.jsonl").unlink()
        folder.append("metrics.jsonl", [line | {"validation_loss": 1.0} for line in lines])
    found = reasons(store)
    assert found[2, "fair"] == found[3, "fair"] == TOO_SHORT
    assert found[5, "fair"].startswith("the validation loss does not fall")


def test_short_runs_have_no_round_at_their_beginning(tmp_path):
    store = fake_store.finished_store(tmp_path, AXES)
    assert reasons(store)[1, "fair"] == "no round ends within the first fifth of the run"


def test_a_log_that_cannot_be_read_is_told_and_costs_what_it_is_needed_for(tmp_path):
    store = planted(tmp_path, axes={"n_clients": [3]})
    broken = store.cell(next(c.cell_id for c in store.planned() if c.labels["n_clients"])).path
    (broken / "steps.jsonl").write_text("{]\n")
    with pytest.warns(UserWarning, match=f"{broken / 'steps.jsonl'} is damaged"):
        table = reports.answers(store)
    found = table[table["claim"].isin([1, 2, 4])]
    assert set(found.loc[found["measure"] == "paper", "n"]) == {2}
    assert set(found.loc[found["measure"] == "fair", "n"]) == {3}
