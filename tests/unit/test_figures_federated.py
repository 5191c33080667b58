"""Pictures of federation: costs.png and why.png of a grid, rounds.png of a cell; the numbers that stand in them."""

import itertools
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from bench.federation.mixture import spread
from bench.pictures import of_a_cell as rounds_data
from bench.pictures.axes import OTHER, apart, distinct, log_ticks, short
from bench.pictures.of_a_cell import draw_rounds
from bench.pictures.style import COLOURS, Style
from bench.report import stats
from bench.report.figures import compared, every, layout, rows, why
from bench.report.figures.captions import Picture
from bench.report.figures.compared import fid_images
from bench.report.figures.panels import label_ends
from bench.report.figures.panels import lines as panels_of_lines
from bench.report.lines import Line, final_point, round_line
from bench.report.metrics import COSTS
from bench.report.results import Group, Split
from bench.store.cell_folder import CellFolder
from bench.store.files import read_json, read_lines, write_json
from bench.store.grid_folder import Store
from bench.store.records import Validation, Visit
from tests import fake_store, reports
from tests.unit.test_figures import outside, picture, texts, titles_of

MANY = ["centralized", "fedavg", *(f"fedprox(mu={mu})" for mu in np.linspace(0.01, 2, 23).round(4))]
LONG = "strategies.fedprox:FedProx(mu=0.123456789012345678901234567890)"


def folder_of(store: Store, strategy: str, **labels: object) -> CellFolder:
    wanted = {"strategy": strategy, **labels}
    return next(
        store.cell(cell.cell_id) for cell in store.planned() if wanted.items() <= cell.labels.items()
    )  # the first seed


def splits_of(store: Store) -> list[Split]:
    return compared.compared(reports.read(store)).splits


def rewrite(folder: CellFolder, **changed: object) -> None:
    """Replace parts of result.json; a dict is laid over what is there."""
    result = read_json(folder.path / "result.json")
    for key, value in changed.items():
        result[key] = result[key] | value if isinstance(value, dict) and isinstance(result.get(key), dict) else value
    write_json(folder.path / "result.json", result)


def lines(folder: CellFolder, name: str, records: list[dict]) -> None:
    (folder.path / name).write_text("".join(json.dumps(record) + "\n" for record in records))


def crowded(figure: Figure) -> list[tuple[str, str]]:
    """Texts that stand over one another: headings, names, numbers, notes, and the ticks of each axis."""
    figure.draw_without_rendering()
    told = [*figure.texts, *(text for axes in figure.axes for text in (*titles_of(axes), *axes.texts))]
    told += [text for legend in figure.legends for text in legend.get_texts()]
    pairs = list(itertools.combinations(boxes(told), 2))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            pairs += itertools.pairwise(boxes(axis.get_ticklabels()))
    return [(a, b) for (a, one), (b, other) in pairs if one.overlaps(other)]


def boxes(shown: Iterable[Text]) -> list[tuple[str, Bbox]]:
    return [(t.get_text(), t.get_window_extent().padded(-1)) for t in shown if t.get_text().strip() and t.get_visible()]


# ------------------------------------------------------------------------------------------ splits


def test_centralized_training_stands_in_every_split(tmp_path):
    store = fake_store.finished_store(tmp_path, {"beta": [0.1, 1.0]})
    splits = splits_of(store)
    assert [split.name.replace("\N{NO-BREAK SPACE}", " ") for split in splits] == [
        "n = 3, β = 0.1",
        "n = 3, β = 1",
        "n = 5, β = 0.1",
        "n = 5, β = 1",
    ]
    for split in splits:
        assert [group.strategy for group in split.groups] == ["centralized", "fedavg", "fedprox(mu=0.1)"]
        assert [len(group.done) for group in split.groups] == [2, 2, 2]


def test_centralized_training_of_another_recipe_stands_elsewhere(tmp_path):
    axes = {"strategy": ["centralized", "fedavg"], "n_clients": [3], "seed": [0], "sampler.steps": [5, 10]}
    store = fake_store.finished_store(tmp_path, axes | {"training.participation": [0.5, 1.0]})
    splits = splits_of(store)
    assert len(splits) == 4
    steps = [[group.labels["sampler.steps"] for group in split.groups] for split in splits]
    assert steps == [[5, 5], [5, 5], [10, 10], [10, 10]]


def test_centralized_training_without_a_counterpart_stands_alone(tmp_path):
    axes = {"strategy": ["centralized", "fedavg"], "n_clients": [3], "seed": [0], "sampler.steps": [5, 10]}
    store = fake_store.finished_store(tmp_path, axes, missing=[3])
    (alone, both) = splits_of(store)
    assert [group.strategy for group in alone.groups] == ["centralized"]
    assert "10" in alone.name
    assert [group.strategy for group in both.groups] == ["centralized", "fedavg"]


def test_centralized_training_with_a_clients_steps_stands_beside_those_of_as_many_in_a_dash_of_its_own(tmp_path):
    axes = {"strategy": ["centralized", "centralized-matched", "fedavg"], "training.local_steps": [5, 10]}
    shown = compared.compared(reports.read(fake_store.finished_store(tmp_path, axes | {"n_clients": [3], "seed": [0]})))
    told = [[(g.strategy, g.labels["training.local_steps"]) for g in split.groups] for split in shown.splits]
    assert told == [[("centralized", None), ("centralized-matched", steps), ("fedavg", steps)] for steps in (5, 10)]
    plain, matched = shown.styles["centralized"], shown.styles["centralized-matched"]
    assert (plain.colour, plain.dash) == (matched.colour, "-")
    assert matched.dash != "-"


def test_the_best_of_every_split_and_score_lead(tmp_path):
    names = [f"fedprox(mu={mu})" for mu in (1, 2, 3, 4, 5)]
    store = fake_store.finished_store(tmp_path, {"strategy": names, "n_clients": [3, 5], "seed": [0]})
    labels = [f"fedprox(mu={mu}.0)" for mu in (1, 2, 3, 4, 5)]
    losses = {3: [5, 4, 3, 2, 1], 5: [1, 4, 3, 2, 5]}
    fids = {3: [5, 4, 1, 2, 3], 5: [None, None, None, None, None]}
    for n in (3, 5):
        for label, loss, fid in zip(labels, losses[n], fids[n], strict=True):
            rewrite(folder_of(store, label, n_clients=n), metrics={"test_loss": loss, "fid": fid})
    splits = splits_of(store)
    assert compared.leaders(splits, 2) == [labels[2], labels[4]]  # winners of n = 3, by FID and by loss
    assert compared.leaders(splits, 3) == [labels[0], labels[2], labels[4]]  # and of n = 5
    assert compared.leaders(splits, 4) == [labels[0], labels[2], labels[3], labels[4]]  # a second one
    assert compared.leaders(splits, 99) == labels


# ------------------------------------------------------------------------------------------ curves


def record(number: int, loss: float, up: int = 3_000_000, **more: float) -> dict:
    told = {"samples": 100 * number, "sequential_steps": 7 * number, "seconds": 2.0 * number, "time": 0.0}
    traffic = {"bytes_up": up * number, "bytes_down": 1_000_000 * number}
    return {"round": number, "validation_loss": loss} | told | traffic | more


@pytest.fixture
def two_seeds(tmp_path) -> tuple[Store, list[CellFolder]]:
    """FedAvg with losses 4, 2, 1 and 8, 4 (its third round is missing), and two thirds of the bytes."""
    store = fake_store.finished_store(tmp_path, {"strategy": ["fedavg"], "n_clients": [3], "seed": [0, 1]})
    folders = [store.cell(cell.cell_id) for cell in store.planned()]
    lines(folders[0], "metrics.jsonl", [record(1, 4.0), record(2, 2.0), record(3, 1.0)])
    lines(folders[1], "metrics.jsonl", [record(1, 8.0, up=1_000_000), record(2, 4.0, up=1_000_000)])
    return store, folders


def fedavg_of(store: Store) -> Group:
    (split,) = splits_of(store)
    return split.groups[0]


def loss_over(store: Store, cost: str) -> list[float] | None:
    line = round_line(fedavg_of(store), "validation_loss", cost)
    return None if line is None else line.x.tolist()


def test_curves_are_means_over_seeds_at_common_rounds(two_seeds):
    store, _ = two_seeds
    line = round_line(fedavg_of(store), "validation_loss")
    assert line.mean.tolist() == [6.0, 3.0]
    assert [end.tolist() for end in line.band] == [[4.0, 2.0], [8.0, 4.0]]
    assert {cost: loss_over(store, cost) for cost in COSTS} == {
        "megabytes": [3.0, 6.0],  # of (3 + 1) and (1 + 1) a round
        "round": [1.0, 2.0],
        "samples": [100.0, 200.0],
        "sequential_steps": [7.0, 14.0],
        "seconds": [2.0, 4.0],
    }


def test_an_autoencoder_is_paid_before_the_first_round(two_seeds):
    store, folders = two_seeds
    for folder in folders:
        paid = {"autoencoder_bytes_up": 250_000, "autoencoder_bytes_down": 250_000, "autoencoder_seconds": 9.0}
        rewrite(folder, metrics=paid)
    assert loss_over(store, "megabytes") == [3.5, 6.5]
    assert loss_over(store, "seconds") == [11.0, 13.0]
    assert loss_over(store, "samples") == [100.0, 200.0]


def test_fids_along_training_stand_at_their_rounds_costs(two_seeds):
    store, folders = two_seeds
    assert round_line(fedavg_of(store), "drawn fid") is None
    assert fid_images(splits_of(store)) == (False, [100])
    lines(folders[1], "metrics.jsonl", [record(n, 1.0) for n in (1, 2, 3)])
    scores = [{"round": 1, "fid": 9.0, "n_generated": 50}, {"round": 3, "fid": 5.0, "n_generated": 50}]
    write_json(folders[0].path / "curve.json", {"curve": scores})
    line = round_line(fedavg_of(store), "drawn fid", "megabytes")  # the other seed has none
    assert (line.x.tolist(), line.mean.tolist(), line.band) == ([4.0, 12.0], [9.0, 5.0], None)
    other = [{"round": n, "fid": fid, "n_generated": 50} for n, fid in ((1, None), (2, 6.0), (3, 7.0))]
    write_json(folders[1].path / "curve.json", {"curve": other})
    line = round_line(fedavg_of(store), "drawn fid")
    assert (line.mean.tolist(), line.x.tolist()) == ([6.0], [3.0])
    assert round_line(fedavg_of(store), "drawn fid", "megabytes").x.tolist() == [12.0]
    assert fid_images(splits_of(store)) == (True, [50])


def test_a_finished_model_s_fid_is_one_point_at_its_whole_cost(two_seeds):
    store, folders = two_seeds
    lines(folders[1], "metrics.jsonl", [record(n, 1.0) for n in (1, 2, 3)])
    for folder, fid in zip(folders, (10.0, 14.0), strict=True):
        rewrite(folder, metrics={"fid": fid})
    point = final_point(fedavg_of(store), "sequential_steps")
    assert (point.mean.tolist(), [end.tolist() for end in point.band]) == ([12.0], [[10.0], [14.0]])
    assert point.x.tolist() == [21.0]
    rewrite(folders[0], metrics={"fid": None})
    assert final_point(fedavg_of(store), "round").mean.tolist() == [14.0]
    rewrite(folders[1], metrics={"fid": None})
    assert final_point(fedavg_of(store), "round") is None


def test_without_a_common_round_there_is_no_curve(two_seeds):
    store, folders = two_seeds
    lines(folders[0], "metrics.jsonl", [record(3, 1.0)])
    assert loss_over(store, "round") is None
    (folders[0].path / "metrics.jsonl").unlink()  # then it is that of the other seed
    assert loss_over(store, "round") == [1.0, 2.0]


# ------------------------------------------------------------------------------------------ rows of why.png


@pytest.fixture
def told(tmp_path) -> tuple[Store, list[CellFolder]]:
    """Centralized training and FedAvg over 3 clients of 4 classes, two seeds, with numbers written here."""
    store = fake_store.finished_store(tmp_path, {"strategy": ["centralized", "fedavg"], "n_clients": [3]})
    cells = [folder_of(store, name, seed=seed) for name in ("centralized", "fedavg") for seed in (0, 1)]
    for folder in cells[2:]:
        part = {"histogram": [[10, 0, 2, 0], [0, 6, 2, 0], [0, 0, 0, 20]], "noise": [0.0, 0.0, 0.0]}
        write_json(folder.path / "partition.json", part)
    return store, cells


def rows_of(store: Store) -> list[rows.Row]:
    (split,) = splits_of(store)
    return rows.read_rows(split)


def test_drift_and_cosine_are_means_of_the_seeds_that_have_them(told):
    store, cells = told
    lines(cells[2], "metrics.jsonl", [record(1, 1.0, drift=2.0, update_cosine=0.5), record(2, 1.0, drift=4.0)])
    lines(cells[3], "metrics.jsonl", [record(1, 1.0, drift=6.0, update_cosine=None), record(2, 1.0)])
    _, fedavg = rows_of(store)
    assert (fedavg.drift.x.tolist(), fedavg.drift.mean.tolist()) == ([1.0, 2.0], [4.0, 4.0])  # the second of one
    assert (fedavg.cosine.x.tolist(), fedavg.cosine.mean.tolist()) == ([1.0], [0.5])  # of the one that has it


def test_losses_by_class_are_means_of_what_is_known(told):
    store, cells = told
    rewrite(cells[2], diagnostics={"class_loss": [1.0, 2.0, None, None]})
    rewrite(cells[3], diagnostics=None)
    lines(cells[3], "validation.jsonl", [{"round": n, "class_loss": [n, None, 7.0, None]} for n in (1, 3)])
    _, fedavg = rows_of(store)
    assert fedavg.class_loss[:3].tolist() == [2.0, 2.0, 7.0]  # of the last round
    assert math.isnan(fedavg.class_loss[3])
    (cells[3].path / "validation.jsonl").unlink()
    assert rows_of(store)[1].class_loss[:2].tolist() == [1.0, 2.0]


def test_classes_generated_are_held_against_the_data_s(told):
    store, cells = told
    for folder, shares in zip(cells, ([0.5, 0.5, 0, 0], None, [1, 0, 0, 0], [0, 1, 0, 0]), strict=True):
        rewrite(folder, class_histogram=shares)
    centralized, fedavg = rows_of(store)  # the data's are 0.25, 0.15, 0.1, 0.5
    assert fedavg.share_gap == pytest.approx([0.25, 0.35, -0.1, -0.5])
    assert centralized.share_gap == pytest.approx([0.25, 0.35, -0.1, -0.5])
    for folder in cells[2:]:
        (folder.path / "partition.json").unlink()
    assert [len(row.share_gap) for row in rows_of(store)] == [0, 0]


def test_clients_losses_are_those_of_all_seeds_that_are_known(told):
    store, cells = told
    rewrite(cells[2], diagnostics={"client_loss": [1.0, None, 3.0]})
    rewrite(cells[3], diagnostics={"client_loss": []})
    assert rows_of(store)[1].client_loss.tolist() == [1.0, 3.0]


def test_centralized_training_is_held_against_the_clients_mixes(told):
    store, cells = told
    rewrite(cells[0], diagnostics={"class_loss": [1.0, 2.0, 4.0, None]})
    rewrite(cells[1], diagnostics={"class_loss": [5.0, 5.0, 7.0, 8.0]})
    second = [(10 * 5 + 2 * 7) / 12, (6 * 5 + 2 * 7) / 8, 8.0]
    assert rows_of(store)[0].client_loss == pytest.approx([1.5, 2.5, *second])  # class 3 of the first has no test image
    for folder in cells[2:]:
        part = json.loads((folder.path / "partition.json").read_text())
        write_json(folder.path / "partition.json", part | {"noise": [0.0, 0.1, 0.2]})
    assert rows_of(store)[0].client_loss.tolist() == []  # it was not measured on noisy images


def test_fids_to_all_and_to_clients(told):
    store, cells = told
    rewrite(
        cells[2],
        metrics={"fid": 10.0},
        clients=[{"client": 0, "fid": 35.0, "fid_mix": 15.0}, {"client": 1, "fid_mix": 25.0}],
    )
    rewrite(
        cells[3],
        metrics={"fid": 20.0},
        clients=[{"client": 0, "fid_mix": 40.0}, {"client": 1, "fid_mix": None}],
    )
    centralized, fedavg = rows_of(store)
    assert fedavg.fid == 15.0
    assert fedavg.client_fid.tolist() == [15.0, 25.0, 40.0]
    assert centralized.client_fid.tolist() == []


def test_scales_span_all_rows(told):
    store, cells = told
    for folder in cells:
        rewrite(folder, diagnostics={"class_loss": [1.0, 2.0, 3.0, 4.0], "client_loss": []}, clients=[])
        rewrite(folder, metrics={"fid": 7.0}, class_histogram=[0.25, 0.15, 0.1, 0.5])
    rewrite(cells[2], metrics={"fid": 30.0}, class_histogram=[0.05, 0.15, 0.1, 0.7])
    scales = why.find_scales(rows_of(store))
    assert scales.class_loss == (1.0, 4.0)
    assert scales.fid == (7.0, 18.5)
    assert scales.share_gap == pytest.approx(0.1)
    assert scales.client_loss == pytest.approx((4 / 3, 4.0))  # centralized training's, on the clients' mixes


# ------------------------------------------------------------------------------------------ tables of rounds.png


def visit(number: int, client: int, outcome: str = "arrived", work: float = 1.0, **more: object) -> dict:
    told = {"drift": 2.0 * client, "loss": 1.0, "bytes_down": 2_000_000, "bytes_up": 1_000_000}
    lost = {"drift": 0.0, "loss": None, "bytes_up": 0}
    visit = {"round": number, "client": client, "outcome": outcome, "work": work} | told
    return visit | ({} if outcome == "arrived" else lost) | more


VISITS = [
    Visit.checked(told)
    for told in (
        visit(1, 0), visit(1, 2, "failed"), visit(2, 1, work=0.5), visit(2, 2), visit(3, 2, "dropped", work=0.5)
    )
]  # fmt: skip


def test_what_did_not_arrive_has_no_drift():
    table = rounds_data.by_client(VISITS, 4, "drift")
    expected = np.full((3, 4), np.nan)
    expected[0, 0], expected[1, 1], expected[1, 2] = 0.0, 2.0, 4.0
    assert np.array_equal(table, expected, equal_nan=True)
    assert np.isfinite(rounds_data.by_client(VISITS, 4, "loss")).sum() == 3


def test_outcomes_tell_full_from_partial_work():
    assert tuple(rounds_data.OUTCOMES) == ("arrived", "part of its steps", "dropped", "failed")
    assert rounds_data.outcomes(VISITS, 4).tolist() == [[1, 0, 4, 0], [0, 2, 1, 0], [0, 0, 3, 0]]


def test_bytes_are_sums_over_rounds():
    assert rounds_data.megabytes(VISITS, 4).tolist() == [[2.0, 2.0, 6.0, 0.0], [1.0, 1.0, 1.0, 0.0]]


def test_groups_without_members_are_left_out():
    groups = [
        Validation(round=1, class_loss=(1.0, None), client_loss=()),
        Validation(round=3, class_loss=(0.5, 0.25)),
    ]
    table = rounds_data.by_member(groups, "class_loss")
    assert np.array_equal(table, [[1.0, np.nan], [np.nan, np.nan], [0.5, 0.25]], equal_nan=True)
    assert rounds_data.by_member(groups, "client_loss").size == 0
    assert rounds_data.by_member([], "class_loss").size == 0


@pytest.mark.parametrize("n", [1, 100, 101, 1000])
def test_few_clients_are_shown_and_many_are_sampled_evenly(n):
    shown = spread(n, rounds_data.CLIENTS_SHOWN)
    assert (shown[0], shown[-1], len(shown)) == (0, n - 1, min(n, rounds_data.CLIENTS_SHOWN))
    assert len({b - a for a, b in itertools.pairwise(shown)}) <= 2


@pytest.mark.parametrize("heights", [[0.5] * 10, [0.0, 0.01, 0.9], [1.0, 1.0, 0.99], list(np.linspace(0, 1, 12))])
def test_names_are_moved_apart_in_their_order(heights):
    placed = apart(dict(enumerate(heights)), 0.08)
    order = sorted(placed, key=placed.__getitem__)
    assert [heights[k] for k in order] == sorted(heights)
    assert min(np.diff([placed[k] for k in order])) > 0.08 - 1e-9
    assert 0 <= min(placed.values()) <= max(placed.values()) <= 1


def test_names_with_room_stay_where_they_are():
    assert apart({0: 0.1, 1: 0.9, 2: 0.5}, 0.08) == {0: 0.1, 2: 0.5, 1: 0.9}


# ------------------------------------------------------------------------------------------ lines and axes


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0.01, 0.9),
        (0.21, 0.45),
        (0.030, 0.033),
        (1e-6, 1e3),
        (0.19, 0.51),
        (64.5, 73.0),
        (4.9, 60),
        (1, 8000),
        (0.046, 0.2),
        (0.07, 0.19),
    ],
)
def test_a_log_axis_has_a_few_ticks_however_near_its_ends(low, high):
    ticks = log_ticks(low, high)
    assert 3 <= len(ticks) <= 7
    assert low <= min(ticks) < max(ticks) <= high
    assert math.log(max(ticks) / min(ticks)) > 0.4 * math.log(high / low)


@pytest.mark.parametrize(
    ("value", "text"), [(0.02, "0.02"), (500, "500"), (20_000, "20k"), (1_500_000, "1.5M"), (0, "0"), (-0.25, "-0.25")]
)
def test_ticks_are_short(value, text):
    assert short(value) == text


def test_24_lines_are_told_apart():
    assert len({(style.colour, style.dash) for style in map(distinct, range(24))}) == 24


def test_of_many_strategies_the_best_stand_out(tmp_path):
    store = fake_store.finished_store(tmp_path, {"strategy": MANY, "n_clients": [3], "seed": [0]})
    fake_store.tell_more(store)  # the later in the plan, the worse
    shown = compared.compared(reports.read(store))
    assert shown.leading == MANY[: 1 + compared.LEADERS]
    assert len(shown.styles) == len(MANY)
    assert all(label in shown.grey() for label in MANY[1 + compared.LEADERS :])
    some = {"strategy": MANY[: compared.TOLD_APART + 1], "n_clients": [3], "seed": [0]}
    shown = compared.compared(reports.read(fake_store.finished_store(tmp_path, some, name="some")))
    assert len(shown.leading) == compared.TOLD_APART + 1
    assert shown.grey() == ""


# ------------------------------------------------------------------------------------------ pictures of a grid


def draw(store: Store, name: str) -> list[Picture]:
    """Draw costs or why, and look for what is wrong in any picture."""
    pages = every.draw(name, reports.read(store), lambda number: [store.root / f"{name}{number}.png"])
    for number, page in enumerate(pages, 1):
        assert picture(store.root / f"{name}{number}.png").std() > 0
        assert outside(page.figure) == []
        assert crowded(page.figure) == []
        width, height = page.figure.get_size_inches()
        assert width == pytest.approx(layout.TEXT)
        assert height <= layout.HIGHEST
    return pages


def panels(pages: list[Picture]) -> list[list[Axes]]:
    """Of costs: two rows of five a split."""
    axes = [axes for page in pages for axes in page.figure.axes]
    return [axes[start : start + 5] for start in range(0, len(axes), 5)]


def front(axes: Axes) -> np.ndarray:
    """The Pareto front's points (F, 2)."""
    return next(line for line in axes.lines if line.get_drawstyle() == "steps-post").get_xydata()


def curves(axes: Axes) -> list:
    """Of strategies and centralized training."""
    return [line for line in axes.lines if line.get_drawstyle() == "default"]


def test_costs_show_loss_and_fid_over_all_that_is_paid(tmp_path):
    store = fake_store.finished_store(tmp_path, {"seed": [0]})
    fake_store.tell_more(store)
    (page,) = draw(store, "costs")
    rows = panels([page])
    assert len(rows) == 4
    names = ["MB up and down", "round", "images seen", "sequential steps", "seconds of training"]
    assert [axes.get_xlabel() for axes in rows[-1]] == names
    assert (rows[0][0].get_ylabel(), rows[1][0].get_ylabel()) == ("validation loss (log)", "FID (log)")
    assert "FID of 100 images along training." in page.caption
    fedavg = read_lines(folder_of(store, "fedavg", n_clients=3).path / "metrics.jsonl")
    for row, quality in ((0, [line["validation_loss"] for line in fedavg]), (1, [92.0, 47.0, 32.0])):
        for axes, key in zip(rows[row], ("bytes", "round", "samples", "sequential_steps", "seconds"), strict=True):
            spent = [(line["bytes_up"] + line["bytes_down"]) / 1e6 if key == "bytes" else line[key] for line in fedavg]
            (drawn,) = (line for line in curves(axes) if line.get_color() == COLOURS[0])
            assert drawn.get_xydata() == pytest.approx(np.column_stack([spent, quality]))
    names = [text.get_text() for text in page.figure.legends[0].get_texts()]
    assert names == ["centralized", "fedavg", "fedprox(mu=0.1)", "Pareto front"]


def test_costs_have_the_front_of_federated_strategies(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    for name, losses in (("centralized", [0.1, 0.1, 0.1]), ("fedavg", [9, 7, 7]), ("fedprox(mu=0.1)", [8, 8, 1])):
        folder = folder_of(store, name)
        told = zip(read_lines(folder.path / "metrics.jsonl"), losses, strict=True)
        lines(folder, "metrics.jsonl", [line | {"validation_loss": loss} for line, loss in told])
    over_rounds = panels(draw(store, "costs"))[0][1]
    assert front(over_rounds).tolist() == [[1, 8], [2, 7], [3, 1]]


def test_what_exchanges_nothing_stands_at_no_bytes_and_centralized_training_is_level(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    silent = folder_of(store, "fedprox(mu=0.1)")
    lines(
        silent,
        "metrics.jsonl",
        [line | {"bytes_up": 0, "bytes_down": 0} for line in read_lines(silent.path / "metrics.jsonl")],
    )
    pages = draw(store, "costs")
    over_bytes, over_rounds, *_ = panels(pages)[0]
    level = next(line for line in curves(over_bytes) if line.get_color() == "black")
    last = read_lines(folder_of(store, "centralized").path / "metrics.jsonl")[-1]["validation_loss"]
    assert set(level.get_ydata()) == {last}
    (still,) = (line for line in curves(over_bytes) if line.get_color() == COLOURS[1])
    assert set(still.get_xdata()) == {0.0}
    assert [len(line.get_xdata()) for line in curves(over_rounds)] == [3, 3, 3]
    assert "over MB is a level line at its last value" in pages[0].caption


def test_without_curves_the_finished_models_fid_is_shown(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    rewrite(folder_of(store, "fedprox(mu=0.1)"), metrics={"fid": None})
    pages = draw(store, "costs")
    row = panels(pages)[1]
    fid = read_json(folder_of(store, "fedavg").path / "result.json")["metrics"]["fid"]
    assert [line.get_xydata().tolist() for line in curves(row[1])][1:] == [[[3.0, fid]]]
    assert "Without FID: fedprox(mu=0.1)." in pages[0].caption


def test_seeds_are_a_mean_with_its_interval(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0, 1, 2]})
    pages = draw(store, "costs")
    over_rounds = panels(pages)[0][1]
    assert len(curves(over_rounds)) == len(over_rounds.collections) == 3
    losses = [
        [line["validation_loss"] for line in read_lines(folder_of(store, "fedavg", seed=s).path / "metrics.jsonl")]
        for s in (0, 1, 2)
    ]
    assert curves(over_rounds)[1].get_ydata() == pytest.approx(np.mean(losses, axis=0))
    half = stats.half_width(np.std(losses, axis=0, ddof=1), np.full(3, 3))
    low, high = (np.mean(losses, axis=0) + sign * half for sign in (-1, 1))
    edges = over_rounds.collections[1].get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == pytest.approx((low.min(), high.max()))
    assert "Means of 3 seeds; bands: 95 % t interval" in pages[0].caption


def test_splits_share_their_scales(tmp_path):
    store = fake_store.finished_store(tmp_path, {"beta": [0.1, 1.0], "seed": [0]})
    fake_store.tell_more(store)
    pages = draw(store, "costs")
    assert len(pages) == 2
    rows = panels(pages)
    for column in range(5):
        assert len({row[column].get_xlim() for row in rows}) == 1
    assert len({axes.get_ylim() for row in rows[::2] for axes in row}) == 1
    assert len({axes.get_ylim() for row in rows[1::2] for axes in row}) == 1


def test_why_shows_every_strategy_in_a_row(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    fake_store.tell_more(store)
    (page,) = draw(store, "why")
    numbers, loss, gap, clients, fid, *_ = [axes for axes in page.figure.axes if axes.get_ylim() == (2.5, -0.5)]
    rows = rows_of(store)
    assert loss.images[0].get_array().tolist() == [row.class_loss.tolist() for row in rows]
    assert np.asarray(gap.images[0].get_array()) == pytest.approx(np.array([row.share_gap for row in rows]))
    assert [label.get_text() for label in loss.get_xticklabels()] == ["0", "1", "2", "3"]
    dots = {int(line.get_ydata()[0]): sorted(line.get_xdata()) for line in clients.lines if line.get_marker() == "o"}
    assert dots == {number: sorted(row.client_loss) for number, row in enumerate(rows)}
    marks = {marker: [line.get_xdata()[0] for line in fid.lines if line.get_marker() == marker] for marker in "D"}
    assert marks["D"] == [row.fid for row in rows]
    assert [label.get_text() for label in numbers.get_yticklabels()] == ["centralized", "fedavg", "fedprox(mu=0.1)"]
    told = [text.get_text() for text in numbers.texts]
    assert told == ["–", "–", "0.667", "0.28", "1.00", "0.26"]  # (1 + place) / 3 and 0.3 - 0.02 place
    assert "to all images (diamond)" in page.caption


def test_why_shows_drift_and_cosine_by_round(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    fake_store.tell_more(store)
    by_name = {axes.get_ylabel(): axes for axes in draw(store, "why")[0].figure.axes}
    drift, cosine = by_name[r"drift $\|w_i - w\|$ (log)"], by_name["cosine of updates"]
    assert [list(line.get_ydata()) for line in drift.lines] == [[2.0, 1.0, 2 / 3], [3.0, 1.5, 1.0]]
    assert [line.get_color() for line in drift.lines] == list(COLOURS[:2])
    assert cosine.lines[0].get_ydata() == pytest.approx([0.88, 0.43, 0.28])


CASES: dict[str, dict] = {
    "usual": {"axes": {"n_clients": [3]}, "more": True},
    "old results": {"axes": {"seed": [0]}},
    "unfinished": {"axes": {"seed": [0]}, "missing": [0, 2, 3], "more": True},
    "centralized only": {"axes": {"strategy": ["centralized"]}, "more": True},
    "old and centralized only": {"axes": {"strategy": ["centralized"]}},
    "federated only": {"axes": {"strategy": ["fedavg"], "n_clients": [3]}, "more": True},
    "one client": {"axes": {"strategy": ["centralized", "fedavg"], "n_clients": [1]}, "more": True},
    "many strategies": {"axes": {"strategy": MANY, "n_clients": [3, 10], "seed": [0]}, "more": True},
    "22 strategies": {"axes": {"strategy": MANY[:23], "n_clients": [3], "seed": [0]}, "more": True},
    "long names": {"axes": {"strategy": ["centralized", LONG], "n_clients": [3], "client.lr": [0.002]}, "more": True},
    "many clients": {"axes": {"strategy": ["centralized", "fedavg"], "n_clients": [1000], "seed": [0]}, "more": True},
    "recipes": {"axes": fake_store.RECIPE_AXES, "recipes": fake_store.RECIPES},
}


@pytest.mark.parametrize("case", CASES)
def test_pictures_of_any_grid_are_whole_and_readable(tmp_path, case):
    settings = dict(CASES[case])
    more = settings.pop("more", False)
    store = fake_store.finished_store(tmp_path, settings.pop("axes"), **settings)
    if more:
        fake_store.tell_more(store)
    for name in ("costs", "why"):
        assert draw(store, name)


@pytest.mark.parametrize("name", ["costs", "why"])
def test_what_a_picture_leaves_out_is_told(tmp_path, name, monkeypatch):
    monkeypatch.setattr(layout, "MOST_PAGES", 1)
    axes = {"strategy": ["centralized", "fedavg", "fedprox(mu=0.1)"], "n_clients": [3], "seed": [0]}
    betas = [0.1, 0.2, 0.3, 0.4, 0.5]
    store = fake_store.finished_store(tmp_path, axes | {"beta": betas}, missing=[1])
    fake_store.fail(fake_store.begin(store, store.planned()[1]))
    (page,) = draw(store, name)
    assert "1 cell failed." in page.caption
    shown = sum("β" in text for text in texts(page.figure))
    assert f"{5 - shown} more splits are not shown." in page.caption


def test_a_class_without_held_out_images_leaves_a_gap(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    rewrite(folder_of(store, "fedavg"), diagnostics={"class_loss": [None, 1.0, 2.0, None]}, class_histogram=None)
    figure = draw(store, "why")[0].figure
    loss, gap = (axes for axes in figure.axes if axes.images and len(axes.images[0].get_array()) == 3)
    assert loss.images[0].get_array().mask.tolist()[1] == [True, False, False, True]
    assert gap.images[0].get_array().mask.tolist() == [[False] * 4, [True] * 4, [False] * 4]


def test_classes_have_their_names(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    for cell in store.planned():
        rewrite(store.cell(cell.cell_id), data={"class_names": ["airplane", "automobile", "bird", "cat"]})
    assert {"airplane", "automobile", "bird", "cat"} <= set(texts(draw(store, "why")[0].figure))


@pytest.mark.parametrize("name", ["costs", "why"])
def test_there_is_nothing_to_draw_of_a_grid_not_run(tmp_path, name):
    store = fake_store.planned_store(tmp_path)
    with pytest.raises(ValueError, match="no cell is finished"):
        draw(store, name)
    assert not list(store.root.glob("*.png"))


# ------------------------------------------------------------------------------------------ the picture of a cell


def rounds_panels(folder: CellFolder, drawn: list[Figure]) -> dict[str, Axes]:
    """The panels by the first line of their titles."""
    assert draw_rounds(folder, folder.path / "rounds.png", "fedavg n=5 beta=0.1 seed=0")
    assert picture(folder.path / "rounds.png").std() > 0
    assert outside(drawn[-1]) == []
    assert crowded(drawn[-1]) == []
    return {axes.get_title().split("\n")[0]: axes for axes in drawn[-1].axes if axes.get_title()}


def federated_cell(tmp_path: Path, n: int = 5, **settings: object) -> CellFolder:
    store = fake_store.finished_store(tmp_path, {"strategy": ["fedavg"], "n_clients": [n], "seed": [0]})
    fake_store.tell_more(store, **settings)
    return store.cell(store.planned()[0].cell_id)


TITLES = [r"drift $\|w_i - w\|$", "local loss", "MB by client", "validation loss by class", "validation loss by client"]


def test_rounds_show_what_every_client_did(tmp_path, drawn):
    folder = federated_cell(tmp_path)
    told = rounds_panels(folder, drawn)
    assert list(told) == TITLES
    visits = read_lines(folder.path / "clients.jsonl")
    for client, line in enumerate(told[TITLES[0]].lines):
        own = [(visit["round"], visit["drift"]) for visit in visits if visit["client"] == client]
        assert line.get_xydata().tolist() == [list(pair) for pair in own]
    heights = [bar.get_height() for bar in told["MB by client"].patches]
    count = [sum(visit["client"] == client for visit in visits) for client in range(5)]
    assert heights == pytest.approx([0.4 * k for k in count] * 2)
    last = read_lines(folder.path / "validation.jsonl")[-1]
    for key, title in (("class_loss", TITLES[3]), ("client_loss", TITLES[4])):
        assert [line.get_ydata()[-1] for line in told[title].lines] == last[key]
    assert [text.get_text() for text in drawn[-1].legends[0].get_texts()] == ["client 0", "1", "2", "3", "4"]


def test_lost_updates_have_a_map(tmp_path, drawn):
    folder = federated_cell(tmp_path, lost=["dropped", "failed"])
    axes = rounds_panels(folder, drawn)["what became of updates"]
    assert axes.images[0].get_array().T.tolist() == rounds_data.outcomes(folder.read_log(Visit), 5).tolist()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["arrived", "dropped", "failed"]


def test_partial_work_has_a_map_too(tmp_path, drawn):
    folder = federated_cell(tmp_path)
    lines(folder, "clients.jsonl", [visit | {"work": 0.5} for visit in read_lines(folder.path / "clients.jsonl")])
    axes = rounds_panels(folder, drawn)["what became of updates"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["part of its steps"]


def test_clients_without_held_out_losses_have_no_panel_of_them(tmp_path, drawn):
    folder = federated_cell(tmp_path)
    lines(
        folder,
        "validation.jsonl",
        [line | {"client_loss": []} for line in read_lines(folder.path / "validation.jsonl")],
    )
    assert list(rounds_panels(folder, drawn)) == TITLES[:4]


def test_either_log_may_be_missing(tmp_path, drawn):
    folder = federated_cell(tmp_path)
    text = (folder.path / "clients.jsonl").read_text()
    (folder.path / "clients.jsonl").unlink()
    assert list(rounds_panels(folder, drawn)) == TITLES[3:]
    (folder.path / "clients.jsonl").write_text(text)
    (folder.path / "validation.jsonl").unlink()
    assert list(rounds_panels(folder, drawn)) == TITLES[:3]


def test_a_cell_of_before_the_logs_has_no_picture(tmp_path):
    store = fake_store.finished_store(tmp_path, {"strategy": ["fedavg"], "n_clients": [3], "seed": [0]})
    folder = store.cell(store.planned()[0].cell_id)
    assert not draw_rounds(folder, folder.path / "rounds.png", "fedavg")
    assert not (folder.path / "rounds.png").exists()


@pytest.mark.parametrize("n", [1, 12, 13, 1000])
def test_rounds_of_any_number_of_clients_are_readable(tmp_path, drawn, n):
    folder = federated_cell(tmp_path, n, lost=["failed"])
    told = rounds_panels(folder, drawn)
    few = n <= 12
    drift = told[TITLES[0]]
    assert len(drift.lines) == (n if few else 1)
    assert (f"{n:,} clients" in drift.get_title()) == (not few)
    assert bool(drawn[-1].legends) == few
    assert ("100 of 1,000 clients" in told["MB by client"].get_title()) == (n == 1000)
    assert len(told["what became of updates"].images[0].get_array()) == min(n, rounds_data.CLIENTS_SHOWN)
    if not few:
        drifts = rounds_data.by_client(folder.read_log(Visit), n, "drift")
        assert drift.lines[0].get_ydata() == pytest.approx(np.nanmedian(drifts, axis=1))


def test_nothing_arrived_and_nothing_travels(tmp_path, drawn):
    folder = federated_cell(tmp_path)
    lost = {"outcome": "failed", "drift": 0.0, "loss": None, "bytes_up": 0, "bytes_down": 0}
    lines(folder, "clients.jsonl", [visit | lost for visit in read_lines(folder.path / "clients.jsonl")])
    rounds_panels(folder, drawn)
    assert texts(drawn[-1]).count("nothing arrived") == 2
    assert "nothing travels" in texts(drawn[-1])


def test_the_names_of_classes_stand_at_their_lines(tmp_path, drawn):
    folder = federated_cell(tmp_path)
    manifest = read_json(folder.path / "cell.json")
    manifest["data"] = manifest["data"] | {"class_names": ["airplane", "automobile", "bird", "cat"]}
    write_json(folder.path / "cell.json", manifest)
    axes = rounds_panels(folder, drawn)["validation loss by class"]
    heights = {text.get_text(): text.xy[1] for text in axes.texts}
    assert sorted(heights, key=heights.__getitem__) == ["airplane", "automobile", "bird", "cat"]


def test_the_same_files_give_the_same_pictures(tmp_path):
    folder = federated_cell(tmp_path)
    store = Store(folder.path.parent)
    for name in ("a.png", "b.png"):
        draw_rounds(folder, folder.path / name, "fedavg")
    assert (folder.path / "a.png").read_bytes() == (folder.path / "b.png").read_bytes()
    for kind in ("costs", "why"):
        for name in ("a.png", "b.png"):
            every.draw(kind, reports.read(store), lambda _, name=name: [store.root / name])
        assert (store.root / "a.png").read_bytes() == (store.root / "b.png").read_bytes()


def test_lines_in_one_place_are_all_seen():
    axes = Figure().add_subplot()
    labels = ["centralized", "fedavg", "fedprox(mu=0.0)", "apart"]
    styles = {label: distinct(k) for k, label in enumerate(labels)} | {"centralized": Style("black", "-", "")}
    one = Line(np.array([1.0, 2.0]), np.array([[2.0, 1.0]]))
    lines = dict.fromkeys(labels, one) | {"apart": Line(one.x, 2 * one.values)}
    panels_of_lines(axes, lines, styles)
    widths = [line.get_linewidth() for line in axes.lines]
    assert widths[0] > widths[1] > widths[2] == widths[3]


def test_a_style_sheet_sets_the_width_of_lines():
    line = Line(np.array([1.0, 2.0]), np.array([[2.0, 1.0]]))
    widths = []
    for width in (1.0, 2.5):
        with rc_context({"lines.linewidth": width}):
            panels_of_lines(axes := Figure().add_subplot(), {"fedavg": line}, {"fedavg": distinct(0)})
        widths.append(axes.lines[0].get_linewidth())
    assert widths == [1.0, 2.5]


def test_a_style_of_many_is_drawn_behind_the_leaders():
    axes = Figure().add_subplot()
    styles = {"leader": distinct(0), "other": OTHER, "centralized": Style("black", "-", "")}
    lines = {
        label: Line(np.array([1.0, 2.0]), k + np.array([[1.0, 2.0], [2.0, 3.0]])) for k, label in enumerate(styles)
    }
    panels_of_lines(axes, lines, styles)
    leader, other, central = axes.lines
    assert other.get_zorder() < central.get_zorder() < leader.get_zorder()
    assert other.get_linewidth() < leader.get_linewidth() < central.get_linewidth()
    assert len(axes.collections) == 2  # bands, but none of the grey line


def test_names_stand_at_the_lines_ends_where_there_is_room():
    axes = Figure().add_subplot()
    found = {label: Line(np.array([1.0, 2.0]), np.array([[1.0, end]])) for label, end in (("a", 2.0), ("b", 2.01))}
    axes.set_ylim(1, 3)
    label_ends(axes, found, {label: distinct(k) for k, label in enumerate(found)}, str.upper)
    assert [text.get_text() for text in axes.texts] == ["A", "B"]
    heights = [text.xy[1] for text in axes.texts]
    assert heights[0] == pytest.approx(0.5)
    assert heights[1] - heights[0] > 0.1
    label_ends(axes, found, {label: distinct(k) for k, label in enumerate(found)}, lambda name: name * 30)
    assert len(axes.texts) == 2
