"""MLflow as a mirror of the store, asked what its user interface asks."""

import contextlib
import html
import io
import json
import math
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient
from mlflow.utils import validation
from PIL import Image
from safetensors.torch import save

from bench.config.cell import flatten
from bench.pictures.sheets import tile
from bench.report.summary import summarise
from bench.report.tracking import databases, send
from bench.report.tracking.grid import escape, shorten
from bench.report.tracking.tracker import Tracker, TrackingError
from bench.report.tracking.values import course, course_metrics, final_values
from bench.store import locks
from bench.store.cell_folder import CellFolder
from bench.store.files import read_json, read_lines, write_bytes, write_json
from bench.store.grid_folder import Store
from bench.store.records import Manifest, Record, Result
from tests import fake_store, reports

pytestmark = pytest.mark.xdist_group("mlflow")  # one worker makes the empty store once

ROUND_METRICS = ("train_loss", "validation_loss", "drift", "samples", "gradient_steps", "bytes_up", "bytes_down")


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new MLflow store, made once: that takes seconds, and is done in silence."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with contextlib.redirect_stderr(io.StringIO()) as told, databases.quiet():
        databases.create_database(f"sqlite:///{path}")
    assert told.getvalue() == ""
    return path


@pytest.fixture
def results(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder with an empty MLflow store in it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "my results"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def small(results: Path) -> Store:
    """Three cells that are not begun: centralized, fedavg and fedprox."""
    return fake_store.planned_store(results, {"n_clients": [3], "seed": [0]})


@pytest.fixture
def held() -> Iterator[contextlib.ExitStack]:
    """What is held until the test ends."""
    with contextlib.ExitStack() as stack:
        yield stack


def work_at(store: Store, number: int, held: contextlib.ExitStack, attempt: str = "") -> CellFolder:
    """Begin a planned cell and hold its lock, as a worker does."""
    cell = store.planned()[number]
    held.enter_context(locks.hold(store.cell(cell.cell_id).path, "a run"))
    return fake_store.begin(store, cell, attempt)


def client_of(store: Store) -> MlflowClient:
    return MlflowClient(tracking_uri=Tracker(store).uri)


def search(store: Store, filter_string: str = "", view: int = ViewType.ACTIVE_ONLY, **options) -> list[Run]:
    client = client_of(store)
    experiments = client.search_experiments(filter_string="name = 'fake'")
    assert len(experiments) == 1
    return list(client.search_runs([experiments[0].experiment_id], filter_string, view, **options))


def children(store: Store, filter_string: str = "", **options) -> list[Run]:
    joined = " and ".join(part for part in ("tags.cell_id != ''", filter_string) if part)
    return search(store, joined, **options)


def points(store: Store) -> dict[str, list[tuple[int, int, float]]]:
    """Every point of every metric of every run."""
    client = client_of(store)
    keys = [(run.info.run_id, key) for run in search(store, view=ViewType.ALL) for key in run.data.metrics]
    return {
        f"{run_id}/{key}": [(p.step, p.timestamp, p.value) for p in client.get_metric_history(run_id, key)]
        for run_id, key in keys
    }


@pytest.fixture(scope="module")
def finished(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A finished grid of five cells after its last sync; tests only read it."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(empty_database, folder / "mlflow.db")
    store = fake_store.finished_store(folder, {"seed": [0]})
    for name in (
        "tables/summary.tex",
        "figures/losses.pdf",
        "figures/losses.png",
        "figures/captions.tex",
        "figures/notes.txt",
        "report.html",
    ):
        write_bytes(store.root / name, b"made of all cells")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Tracker(store).sync(running=False)
        yield store


# ------------------------------------------------------------------------------------------ a finished grid


def test_runs_are_found_by_tags_and_metrics(finished):
    found = children(finished, "tags.strategy = 'fedavg' and metrics.fid < 1000", order_by=["metrics.fid ASC"])
    assert [run.info.run_name for run in found] == ["fedavg n=3 beta=0.1 seed=0", "fedavg n=5 beta=0.1 seed=0"]
    fids = [run.data.metrics["fid"] for run in found]
    assert fids == sorted(fids)
    assert all(run.info.status == "FINISHED" for run in found)
    assert len(children(finished, "tags.n_clients = '5' and tags.beta = '0.1' and tags.seed = '0'")) == 2
    assert len(children(finished, "params.`training.rounds` = '3' and tags.state = 'done'")) == 5


def test_centralized_has_no_tag_for_what_it_has_not(finished):
    (run,) = children(finished, "tags.strategy = 'centralized'")
    assert run.info.run_name == "centralized seed=0"
    assert not {"n_clients", "beta"} & run.data.tags.keys()


def test_runs_are_nested_below_one_for_the_grid(finished):
    (parent,) = search(finished, "tags.grid = 'fake'")
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["cells_done"] == "5 of 5"
    assert parent.data.tags["mlflow.note.content"] == "A grid that nobody trained."
    assert {run.data.tags["mlflow.parentRunId"] for run in children(finished)} == {parent.info.run_id}


def test_a_run_holds_the_whole_configuration(finished):
    (run,) = children(finished, "tags.strategy = 'fedprox(mu=0.1)' and tags.n_clients = '3'")
    params = run.data.params
    assert params["strategy.name"] == "fedprox"
    assert params["strategy.params.mu"] == "0.1"
    assert params["model.widths"] == "[8, 16]"
    assert params["data.limit"] == "200"
    assert params["evaluation.extractor_weights"] == "null"
    cell = next(cell for cell in finished.planned() if cell.cell_id == run.data.tags["cell_id"])
    assert len(params) == len(dict(flatten(cell.config)))


def test_rounds_are_steps_at_the_time_they_ended(finished):
    (run,) = children(finished, "tags.strategy = 'centralized'")
    lines = read_lines(finished.cell(run.data.tags["cell_id"]).path / "metrics.jsonl")
    for key in ROUND_METRICS:
        history = client_of(finished).get_metric_history(run.info.run_id, key)
        assert [(p.step, p.timestamp, p.value) for p in history] == [
            (line["round"], round(line["time"] * 1000), line[key]) for line in lines
        ]


def test_scores_stand_at_the_last_round(finished):
    (run,) = children(finished, "tags.strategy = 'centralized'")
    result = read_json(finished.cell(run.data.tags["cell_id"]).path / "result.json")
    (fid,) = client_of(finished).get_metric_history(run.info.run_id, "fid")
    assert (fid.step, fid.value) == (fake_store.ROUNDS, result["metrics"]["fid"])
    metrics = run.data.metrics
    assert [metrics[f"class_share_{k}"] for k in range(4)] == [0.1, 0.2, 0.3, 0.4]
    assert metrics["floor_fid"] == fake_store.FLOOR["fid"]
    assert {"is_mean", "kid_mean", "class_tv", "train_seconds"} <= metrics.keys()
    assert run.info.end_time == round(result["finished"] * 1000)


def test_artifacts_are_attached(finished):
    client = client_of(finished)
    for run in children(finished):
        wanted = {"samples.png", "diagnostics.json", "diagnostics.png", "result.json", "images"}
        wanted |= {"partition.png"} if "n_clients" in run.data.tags else set()
        assert {item.path for item in client.list_artifacts(run.info.run_id)} == wanted
    path = client.download_artifacts(run.info.run_id, "result.json")
    assert json.loads(Path(path).read_text())["cell_id"] == run.data.tags["cell_id"]


def test_diagnostics_are_metrics(finished):
    for run in children(finished):
        told = read_json(finished.cell(run.data.tags["cell_id"]).path / "result.json")["diagnostics"]
        metrics = run.data.metrics
        assert [metrics[f"test_loss_t_{k}"] for k in range(10)] == told["t_loss"]
        assert [metrics[f"test_loss_class_{k}"] for k in range(4)] == told["class_loss"]
        clients = [key for key in metrics if key.removeprefix("test_loss_client_").isdigit()]
        assert len(clients) == int(run.data.tags.get("n_clients", 0))
        assert [metrics[f"test_loss_client_{i}"] for i in range(len(clients))] == told["client_loss"]
        if clients:
            assert metrics["test_loss_client_mean"] == pytest.approx(sum(told["client_loss"]) / len(clients))


def test_a_loss_of_no_image_is_no_metric():
    told = {"t_loss": [0.5, None], "class_loss": [None, 0.25], "client_loss": []}
    result = {"cell_id": "a", "metrics": {"fid": 1.0}, "finished": 0.0}
    values = final_values(Result.checked(result | {"diagnostics": told}))
    assert values == {"fid": 1.0, "test_loss_t_0": 0.5, "test_loss_class_1": 0.25}
    assert final_values(Result.checked(result)) == {"fid": 1.0}


def test_recipes_are_tags_and_their_pictures_are_attached(results):
    axes = {**fake_store.RECIPE_AXES, "strategy": ["fedavg"], "recipe": ["cosine-latent", "cosine_hybrid"]}
    store = fake_store.finished_store(results, axes, recipes=fake_store.RECIPES)
    pictures = {"samples_viridis.png", "film.gif", "reconstructions.png", "likelihood.json"}
    for name in (*pictures, "autoencoder.safetensors", "weights.safetensors"):
        write_bytes(store.cell(store.planned()[0].cell_id).path / name, b"a file")
    Tracker(store).sync(running=False)
    (run,) = children(store, "tags.recipe = 'cosine-latent'")
    named = {item.path for item in client_of(store).list_artifacts(run.info.run_id)}
    assert pictures <= named
    assert not {"autoencoder.safetensors", "weights.safetensors"} & named
    assert run.data.metrics["reconstruction_fid"] == 2.5
    assert len(client_of(store).get_metric_history(run.info.run_id, "validation_loss_raw")) == fake_store.ROUNDS
    before = points(store)
    Tracker(store).sync(running=False)
    assert points(store) == before


def test_the_data_set_is_the_runs_input(finished):
    for run in children(finished):
        (used,) = run.inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == ("mnist5k", "d" * 36)
        assert json.loads(used.dataset.profile)["num_rows"] == 200
        assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]


def test_syncing_again_changes_nothing(finished):
    before, known = len(search(finished, view=ViewType.ALL)), points(finished)
    again = Tracker(finished)
    for running in (True, False, True, False):
        again.sync(running)
    assert len(search(finished, view=ViewType.ALL)) == before
    assert points(finished) == known
    assert {run.info.status for run in search(finished)} == {"FINISHED"}


def test_a_sync_with_nothing_new_is_cheap(finished):
    tracker = Tracker(finished)
    tracker.sync(running=False)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        tracker.sync(running=False)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.05


def test_a_cell_is_read_again_only_when_its_files_change(small, held, monkeypatch):
    tracker = Tracker(small)
    for number in range(3):
        work_at(small, number, held)
    tracker.sync(running=True)
    read: list[str] = []
    read_one = CellFolder.read

    def read_told(folder: CellFolder, kind: type[Record]) -> Record | None:
        if kind is Manifest:
            read.append(folder.cell_id)
        return read_one(folder, kind)

    monkeypatch.setattr(CellFolder, "read", read_told)
    tracker.sync(running=True)
    assert read == []
    cell = small.planned()[1]
    fake_store.add_rounds(small.cell(cell.cell_id), cell, 1, 1)
    tracker.sync(running=True)
    assert read == [cell.cell_id]


# ------------------------------------------------------------------------------------------ comparing


@pytest.fixture(scope="module")
def seeds(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A finished grid of two strategies and two seeds, with images drawn after each round, after its last sync."""
    folder = tmp_path_factory.mktemp("seeds")
    shutil.copy(empty_database, folder / "mlflow.db")
    store = fake_store.finished_store(folder, {"strategy": ["centralized", "fedavg"], "n_clients": [3]})
    fake_store.tell_more(store)
    for cell in store.planned():
        drawn = {str(n): torch.full((20, 1, 16, 16), 40 * n, dtype=torch.uint8) for n in (1, 2)}
        write_bytes(store.cell(cell.cell_id).path / "curve.safetensors", save(drawn))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Tracker(store).sync(running=False)
        yield store


def means(store: Store, filter_string: str = "", **options) -> list[Run]:
    joined = " and ".join(part for part in ("tags.kind = 'summary'", filter_string) if part)
    return search(store, joined, **options)


def history(store: Store, run: Run, key: str) -> list[tuple[int, float]]:
    return [(p.step, p.value) for p in client_of(store).get_metric_history(run.info.run_id, key)]


def test_each_mean_over_seeds_is_a_run_below_the_grids(seeds):
    (parent,) = search(seeds, "tags.kind = 'grid'")
    assert {run.info.run_name for run in means(seeds)} == {"centralized (2 seeds)", "fedavg n=3 beta=0.1 (2 seeds)"}
    assert {run.data.tags["mlflow.parentRunId"] for run in means(seeds)} == {parent.info.run_id}
    assert {run.info.status for run in means(seeds)} == {"FINISHED"}
    (run,) = means(seeds, "tags.strategy = 'fedavg' and tags.n_clients = '3' and tags.beta = '0.1'")
    tags = run.data.tags
    assert (tags["seeds"], tags["state"], tags["partition"], tags["rounds"]) == ("0 1", "done", "dirichlet", "3")
    assert not {"seed", "cell_id", "attempt"} & tags.keys()


def test_a_mean_has_the_parameters_that_its_seeds_share(seeds):
    (run,) = means(seeds, "tags.strategy = 'fedavg'")
    (cell, _) = (cell for cell in seeds.planned() if cell.labels["strategy"] == "fedavg")
    assert run.data.params.keys() == dict(flatten(cell.config)).keys() - {"seed"}
    assert run.data.params["strategy.name"] == "fedavg"


def test_a_mean_carries_the_numbers_of_the_tables(seeds):
    table = summarise(reports.rows_of(seeds)).set_index("strategy")
    for run in means(seeds):
        row, metrics = table.loc[run.data.tags["strategy"]], run.data.metrics
        for key in ("fid", "test_loss", "train_loss", "is_mean", "fid_minus_centralized"):
            told = [key, *(key + end for end in ("_sd", "_low", "_high") if key + end in row)]
            assert {name: metrics.get(name) for name in told} == {
                name: None if math.isnan(row[name]) else pytest.approx(row[name]) for name in told
            }
        assert metrics["n"] == 2
    assert metrics.keys() >= {"fid_sd", "validation_area"}


def test_a_means_curves_are_means_over_seeds(seeds):
    (run,) = means(seeds, "tags.strategy = 'fedavg'")
    cells = [seeds.cell(cell.cell_id) for cell in seeds.planned() if cell.labels["strategy"] == "fedavg"]
    for key in ("validation_loss", "train_loss"):
        losses = [[line[key] for line in read_lines(cell.path / "metrics.jsonl")] for cell in cells]
        mean = [pytest.approx(sum(several) / 2) for several in zip(*losses, strict=True)]
        assert history(seeds, run, key) == list(zip((1, 2, 3), mean, strict=True))


def test_losses_stand_on_axes_of_images_seen_and_of_bytes(seeds):
    for run in (*means(seeds, "tags.strategy = 'fedavg'"), *children(seeds, "tags.strategy = 'fedavg'")):
        for key in ("validation_loss", "curve_fid"):
            values = [value for _, value in history(seeds, run, key)]
            samples, kilobytes = history(seeds, run, f"vs_samples/{key}"), history(seeds, run, f"vs_kilobytes/{key}")
            assert samples == list(zip((200, 400, 600), values, strict=True))
            assert kilobytes == list(zip((1800, 3600, 5400), values, strict=True))
        assert history(seeds, run, "megabytes") == [(1, 1.8), (2, 3.6), (3, 5.4)]


def test_an_autoencoders_bytes_travelled_before_the_first_round(tmp_path):
    store = fake_store.planned_store(tmp_path, {"strategy": ["fedavg"], "n_clients": [3], "seed": [0]})
    (planned,) = store.planned()
    folder = fake_store.begin(store, planned)
    line = {"round": 1, "time": 1.0, "samples": 5, "bytes_up": 1000, "bytes_down": 2000, "validation_loss": None}
    folder.append("metrics.jsonl", [line])
    before = {"autoencoder_bytes_up": 500.0, "autoencoder_bytes_down": 500.0}
    write_json(folder.path / "result.json", {"cell_id": planned.cell_id, "metrics": before, "finished": 2.0})
    (group,) = reports.read(store).groups
    assert course(group) == {1: {"samples": 5.0, "megabytes": 0.004}}
    sent = course_metrics(group, {1: {"validation_loss": 0.5, "megabytes": 0.0065}}, ["megabytes"])
    assert [(m.key, m.value, m.step, m.timestamp) for m in sent] == [
        ("megabytes", 0.0065, 1, 1000),
        ("vs_kilobytes/validation_loss", 0.5, 6, 1000),  # a half is rounded to the even
    ]


def test_centralized_training_has_no_axis_of_bytes(seeds):
    for run in search(seeds, "tags.strategy = 'centralized'"):
        assert "vs_samples/validation_loss" in run.data.metrics
        assert "vs_kilobytes/validation_loss" not in run.data.metrics


def test_the_image_grid_has_a_sheet_of_the_same_images_by_round(seeds):
    client = client_of(seeds)
    for run in children(seeds):
        assert run.data.tags["mlflow.loggedImages"] == "True"
        paths = [item.path for item in client.list_artifacts(run.info.run_id, "images")]
        whole = {int(path.split("+")[2]): path for path in paths if path.endswith(".png")}
        small = {int(path.split("+")[2]) for path in paths if path.endswith("+compressed.webp")}
        assert small == whole.keys() == {1, 2, 3}
        assert len(paths) == 6
        sheets = {n: np.asarray(Image.open(client.download_artifacts(run.info.run_id, whole[n]))) for n in whole}
        assert len({sheet.shape for sheet in sheets.values()}) == 1  # 12 images: no more were drawn at the end
        assert [(sheets[n] == 40 * n).any() for n in (1, 2)] == [True, True]
        images = fake_store.fake_images(next(c for c in seeds.planned() if c.cell_id == run.data.tags["cell_id"]))
        assert np.array_equal(sheets[3], tile(torch.from_numpy(images), 8, 3))


def test_syncing_means_and_images_again_changes_nothing(seeds):
    def everything() -> tuple[object, ...]:
        runs = search(seeds, view=ViewType.ALL)
        images = [i.path for run in runs for i in client_of(seeds).list_artifacts(run.info.run_id, "images")]
        return sorted(str(run.data.tags) + run.info.run_id for run in runs), points(seeds), sorted(images)

    before = everything()
    Tracker(seeds).sync(running=False)
    assert everything() == before


def test_another_seed_makes_another_mean_and_the_old_one_goes_to_the_bin(results):
    store = fake_store.finished_store(results, {"strategy": ["fedavg"], "n_clients": [3]}, missing=[1])
    tracker = Tracker(store)
    tracker.sync(running=False)
    (old,) = means(store)
    assert (old.info.run_name, old.data.metrics["n"]) == ("fedavg n=3 beta=0.1 (1 seed)", 1)
    assert (old.data.tags["state"], old.data.tags["unfinished"]) == ("partial", "1 missing")
    assert "fid_sd" not in old.data.metrics
    fake_store.run_cell(store, store.planned()[1])
    tracker.sync(running=True)
    assert [run.info.run_id for run in means(store)] == [old.info.run_id]
    tracker.sync(running=False)
    (new,) = means(store)
    assert (new.info.run_name, new.data.tags["state"]) == ("fedavg n=3 beta=0.1 (2 seeds)", "done")
    assert [run.info.run_id for run in means(store, view=ViewType.DELETED_ONLY)] == [old.info.run_id]
    assert len(history(store, new, "fid")) == 1


def test_what_the_plan_names_no_more_is_tagged_and_its_mean_goes_to_the_bin(results):
    axes = {"n_clients": [3], "seed": [0]}
    store = fake_store.finished_store(results, axes | {"strategy": ["centralized", "fedavg"]})
    Tracker(store).sync(running=False)
    assert {run.data.tags["in_plan"] for run in children(store)} == {"true"}
    for run in children(store):  # as an earlier version made them
        client_of(store).delete_tag(run.info.run_id, "in_plan")
        client_of(store).delete_tag(run.info.run_id, "kind")
    fake_store.planned_store(results, axes | {"strategy": ["centralized"]})
    Tracker(store).sync(running=False)
    told = {run.data.tags["strategy"]: run.data.tags["in_plan"] for run in children(store, "tags.kind = 'cell'")}
    assert told == {"centralized": "true", "fedavg": "false"}
    assert [run.info.run_name for run in means(store)] == ["centralized (1 seed)"]
    fake_store.planned_store(results, axes | {"strategy": ["centralized", "fedavg"]})
    Tracker(store).sync(running=False)
    assert {run.data.tags["in_plan"] for run in children(store)} == {"true"}
    assert len(means(store)) == 2


def test_tables_figures_and_page_are_artifacts_of_the_grids_run(finished):
    (parent,) = search(finished, "tags.grid = 'fake'")
    client = client_of(finished)
    named = [item.path for top in ("", "tables", "figures") for item in client.list_artifacts(parent.info.run_id, top)]
    assert {path for path in named if "." in path} == {
        "grid.json", "report.html", "tables/summary.tex", "figures/losses.pdf", "figures/losses.png",
        "figures/captions.tex",
    }  # fmt: skip


def test_the_grids_run_is_described_by_its_tables(small):
    tracker = Tracker(small)
    for rows in (2, 3):
        table = "\n".join(["| strategy | FID |", "|---|---|", *["| fedavg | 1.0 |"] * rows])
        write_bytes(small.root / "tables" / "summary.md", table.encode())
        write_bytes(
            small.root / "tables" / "claims.md", rb"It <script>holds</script> \<b\> \& \$ <ins>so</ins> ![x](y)."
        )
        tracker.sync(running=False)
        note = search(small, "tags.kind = 'grid'")[0].data.tags["mlflow.note.content"]
        claims = r"It &lt;script>holds&lt;/script> &lt;b\> &amp; $ <ins>so</ins> &#33;[x](y)."
        assert note == f"A grid that nobody trained.\n\n{table}\n\n{claims}"


def test_a_description_means_nothing_to_markdown_or_html():
    hostile = "a *b* _c_ <img src=x onerror=alert(1)>\n# d\n| e | [f](javascript:g) `h` :octocat: ~~i~~ é"
    escaped = escape(hostile)
    assert html.unescape(escaped) == " ".join(hostile.split())
    assert not set(re.sub(r"&#\d+;", "", escaped)) & set("*_<>#|[]`:~!\\\n\"'")


def test_a_long_table_is_cut_at_a_line_and_says_so():
    table = "\n".join(f"| row {k} |" for k in range(2000))
    short = shorten(table, 8000)
    assert len(short) <= 8000
    *rows, told = short.splitlines()
    assert rows[-2:] == [f"| row {len(rows) - 2} |", ""]
    assert told == f"({2000 - len(rows) + 1} more lines: see the artifacts in the folder tables)"
    assert shorten(table[:8000], 8000) == table[:8000]


# ------------------------------------------------------------------------------------------ while it runs


def test_a_running_cell_is_followed_round_by_round(small, held):
    tracker = Tracker(small)
    tracker.sync(running=True)
    assert children(small) == []
    cell = small.planned()[1]
    folder = work_at(small, 1, held)
    for number in (1, 2):
        fake_store.add_rounds(folder, cell, number, number)
        tracker.sync(running=True)
        (run,) = children(small)
        assert (run.info.status, run.data.tags["state"]) == ("RUNNING", "running")
        assert len(client_of(small).get_metric_history(run.info.run_id, "validation_loss")) == number
    (parent,) = search(small, "tags.grid = 'fake'")
    assert parent.info.status == "RUNNING"
    fake_store.add_rounds(folder, cell, 3, 3)
    fake_store.finish(folder, cell)
    tracker.sync(running=True)
    (run,) = children(small)
    assert (run.info.status, run.data.tags["state"]) == ("FINISHED", "done")
    assert len(client_of(small).get_metric_history(run.info.run_id, "validation_loss")) == 3
    assert search(small, "tags.grid = 'fake'")[0].data.tags["cells_done"] == "1 of 3"


def test_another_process_goes_on_without_doubling_points(small):
    cell = small.planned()[1]
    tracker = Tracker(small)
    folder = fake_store.begin(small, cell)
    fake_store.add_rounds(folder, cell, 1, 2)
    tracker.sync(running=True)
    fake_store.add_rounds(folder, cell, 3, 3)
    fake_store.finish(folder, cell)
    Tracker(small).sync(running=False)
    (run,) = children(small)
    assert [p.step for p in client_of(small).get_metric_history(run.info.run_id, "train_loss")] == [1, 2, 3]


@pytest.mark.parametrize("status", ["failed", "diverged", "timeout", "killed"])
def test_a_failed_cell(small, status):
    tracker = Tracker(small)
    folder = fake_store.begin(small, small.planned()[1])
    fake_store.fail(folder, status)
    fake_store.run_cell(small, small.planned()[0])
    tracker.sync(running=False)
    (run,) = children(small, f"tags.state = '{status}'")
    assert run.info.status == "FAILED"
    assert run.data.tags["error"] == "ValueError: it broke & 100% so"
    assert "error.json" in {item.path for item in client_of(small).list_artifacts(run.info.run_id)}
    assert search(small, "tags.grid = 'fake'")[0].info.status == "FAILED"


def test_a_new_attempt_takes_the_place_of_the_failed_one(small):
    cell = small.planned()[1]
    fake_store.fail(fake_store.begin(small, cell, "first"))
    Tracker(small).sync(running=False)
    tracker = Tracker(small)
    fake_store.run_cell(small, cell, "second")
    tracker.sync(running=True)
    (run,) = children(small)
    assert run.data.tags["attempt"] == "second"
    (old,) = search(small, view=ViewType.DELETED_ONLY)
    assert (old.data.tags["attempt"], old.data.tags["superseded_by"]) == ("first", "second")
    Tracker(small).sync(running=False)
    assert len(search(small, view=ViewType.ALL)) == 4


def test_a_round_that_was_written_twice_is_one_point(small):
    """As where a worker outlived its parent and wrote beside the next one."""
    cell = small.planned()[1]
    tracker = Tracker(small)
    folder = fake_store.begin(small, cell)
    fake_store.add_rounds(folder, cell, 2, 2, later=0.5)
    tracker.sync(running=True)
    fake_store.add_rounds(folder, cell, 1, 3, later=5)
    tracker.sync(running=True)
    fake_store.finish(folder, cell)
    Tracker(small).sync(running=False)
    (run,) = children(small)
    history = client_of(small).get_metric_history(run.info.run_id, "train_loss")
    assert sorted(p.step for p in history) == [1, 2, 3]
    assert client_of(small).get_metric_history(run.info.run_id, "fid")[0].step == 3


def test_lines_of_reused_training_are_taken(small):
    cell = small.planned()[1]
    folder = fake_store.begin(small, cell, started=fake_store.STARTED + 1000)
    fake_store.add_rounds(folder, cell, 1, 3)
    trained = {"train_id": cell.train_id, "weight_hash": "h", "metrics": {}, "files": {}}
    write_json(folder.path / "train.json", trained)
    write_bytes(folder.path / "weights.safetensors", b"weights")
    Tracker(small).sync(running=False)
    (run,) = children(small)
    assert len(client_of(small).get_metric_history(run.info.run_id, "train_loss")) == 3


def test_what_a_killed_parent_left_running_is_ended(small, held):
    with contextlib.ExitStack() as killed:
        work_at(small, 0, killed)
        Tracker(small).sync(running=True)
        assert children(small)[0].info.status == "RUNNING"

    tracker = Tracker(small)  # the next process; it runs another cell first
    work_at(small, 1, held)
    tracker.sync(running=True)
    assert children(small, "tags.strategy = 'centralized'")[0].info.status == "KILLED"
    assert children(small, "tags.strategy = 'fedavg'")[0].info.status == "RUNNING"
    held.close()
    tracker.sync(running=False)
    assert {run.info.status for run in search(small)} == {"KILLED"}


def test_a_run_of_a_cell_that_is_planned_no_more_is_ended(small, results, held):
    tracker = Tracker(small)
    work_at(small, 1, held)
    tracker.sync(running=True)
    assert children(small)[0].info.status == "RUNNING"
    held.close()
    fake_store.planned_store(results, {"strategy": ["centralized"], "seed": [0]})
    tracker.sync(running=True)
    assert children(small)[0].info.status == "KILLED"


def test_an_interrupted_grid_goes_on(small):
    tracker = Tracker(small)
    fake_store.run_cell(small, small.planned()[0])
    tracker.sync(running=False)
    assert search(small, "tags.grid = 'fake'")[0].info.status == "KILLED"
    tracker = Tracker(small)
    tracker.sync(running=True)
    assert search(small, "tags.grid = 'fake'")[0].info.status == "RUNNING"
    for cell in small.planned()[1:]:
        fake_store.run_cell(small, cell)
    tracker.sync(running=False)
    (parent,) = search(small, "tags.grid = 'fake'")
    assert (parent.info.status, parent.data.tags["cells_done"]) == ("FINISHED", "3 of 3")


def test_what_is_not_finite_is_nan_and_tagged(small):
    cell = small.planned()[1]
    folder = fake_store.begin(small, cell)
    for number, loss in enumerate((0.5, math.inf, math.nan), start=1):
        when = {"time": fake_store.STARTED + 100 + number}
        folder.append("metrics.jsonl", [fake_store.round_record(cell, number) | when | {"train_loss": loss}])
    fake_store.finish(folder, cell, metrics={"fid": None, "is_mean": 2.0})
    Tracker(small).sync(running=False)
    (run,) = children(small)
    history = client_of(small).get_metric_history(run.info.run_id, "train_loss")
    assert [p.value for p in history if not math.isnan(p.value)] == [0.5]
    assert math.isnan(run.data.metrics["fid"])
    assert (run.data.tags["not_finite"], run.data.tags["not_finite_rounds"]) == ("fid", "train_loss")
    assert children(small, "metrics.fid < 1000") == []


def test_long_values_are_cut_to_what_mlflow_takes(small):
    cell = small.planned()[1]
    cell.config["evaluation"]["extractor_weights"] = "x" * 10_000
    plan = small.plan()
    plan["cells"][1]["config"] = cell.config
    small.write_plan(plan)
    fake_store.fail(fake_store.begin(small, cell), error="y" * 10_000)
    Tracker(small).sync(running=False)
    (run,) = children(small)
    assert run.data.params["evaluation.extractor_weights"] == "x" * 6000
    assert run.data.tags["error"] == "y" * 5000


def test_runs_are_called_by_titles_and_found_by_labels(results):
    store = fake_store.finished_store(results, {"n_clients": [3], "seed": [0], "strategy": ["fedprox(mu=0.1)"]})
    store.write_plan(store.plan() | {"titles": {"fedprox(mu=0.1)": "FedProx, μ = 0.1"}})
    Tracker(store).sync(running=False)
    (run,) = children(store, "tags.strategy = 'fedprox(mu=0.1)'")
    assert run.info.run_name == "FedProx, μ = 0.1 n=3 beta=0.1 seed=0"
    (mean,) = means(store)
    assert mean.info.run_name == "FedProx, μ = 0.1 n=3 beta=0.1 (1 seed)"


def test_extra_axes_are_tags(results):
    axes = {"n_clients": [3], "seed": [0], "strategy": ["fedavg"]}
    store = fake_store.finished_store(results, axes | {"sampler.steps": [5, 10], "model.widths": [[8, 16]]})
    Tracker(store).sync(running=False)
    (run,) = children(store, "tags.`sampler.steps` = '10' and tags.`model.widths` = '[8, 16]'")
    assert run.info.run_name == "fedavg n=3 beta=0.1 seed=0 sampler.steps=10 model.widths=[8, 16]"
    (mean,) = means(store, "tags.`sampler.steps` = '10' and tags.`model.widths` = '[8, 16]'")
    assert mean.info.run_name == "fedavg n=3 beta=0.1 sampler.steps=10 model.widths=[8, 16] (1 seed)"
    assert mean.data.metrics["fid"] == run.data.metrics["fid"]


def test_two_results_folders_may_share_one_mlflow(small, tmp_path):
    other = fake_store.planned_store(tmp_path / "elsewhere", {"n_clients": [3], "seed": [0]})
    for store, attempt in ((small, "here"), (other, "there")):
        fake_store.run_cell(store, store.planned()[0], attempt)
        Tracker(store, Tracker(small).uri).sync(running=False)
    assert {run.data.tags["attempt"] for run in children(small)} == {"here", "there"}
    assert len(search(small, "tags.grid = 'fake'")) == 2


# ------------------------------------------------------------------------------------------ MLflow's own trouble


def test_a_deleted_store_is_rebuilt(small, empty_database, results):
    fake_store.run_cell(small, small.planned()[0])
    Tracker(small).sync(running=False)
    before = [run.data.metrics for run in children(small)]
    shutil.copy(empty_database, results / "fresh.db")
    uri = f"sqlite:///{results / 'fresh.db'}"
    Tracker(small, uri).sync(running=False)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("fake")
    assert [r.data.metrics for r in client.search_runs([experiment.experiment_id], "tags.kind = 'cell'")] == before


def test_a_new_store_is_put_in_place_whole_or_not_at_all(results, monkeypatch):
    (results / "mlflow.db").unlink()

    def killed(tracking_uri: str) -> None:
        Path(tracking_uri.removeprefix("sqlite:///")).write_bytes(b"half a store")
        raise KeyboardInterrupt

    monkeypatch.setattr("mlflow.tracking.MlflowClient", killed)
    with pytest.raises(KeyboardInterrupt):
        databases.create_database(f"sqlite:///{results / 'mlflow.db'}")
    assert [path.name for path in results.iterdir()] == [".mlflow.db.lock"]


def test_a_broken_store_is_one_clear_error(small, results):
    (results / "mlflow.db").write_bytes(b"not a database, though it is long enough to be taken for one" * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db.*not a database"):
        Tracker(small).sync(running=True)


def test_an_absent_server_is_an_error_soon(small, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = Tracker(small, "http://someone:secret@127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9") as error:
        tracker.sync(running=True)
    assert "secret" not in str(error.value) + tracker.hint()


def test_after_an_error_the_next_sync_sends_everything(small, monkeypatch):
    tracker = Tracker(small)
    tracker.sync(running=True)
    fake_store.run_cell(small, small.planned()[0])

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifact", full)
        with pytest.raises(TrackingError, match="No space left"):
            tracker.sync(running=True)
    assert children(small)[0].info.status == "RUNNING"
    tracker.sync(running=True)
    (run,) = children(small)
    assert run.info.status == "FINISHED"
    assert len(client_of(small).get_metric_history(run.info.run_id, "train_loss")) == 3


def test_a_run_whose_making_was_not_confirmed_is_found_again(small, monkeypatch):
    tracker = Tracker(small)
    tracker.sync(running=True)
    fake_store.run_cell(small, small.planned()[0])
    create = MlflowClient.create_run

    def unconfirmed(*arguments: object, **options: object) -> None:
        create(*arguments, **options)
        raise ConnectionError("the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", unconfirmed)
        with pytest.raises(TrackingError, match="the answer was lost"):
            tracker.sync(running=True)
    tracker.sync(running=True)
    assert len(children(small)) == 1


def test_a_store_nobody_ran_into_is_not_mlflows_fault(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"grid\.json"):
        Tracker(Store(tmp_path / "nothing")).sync(running=False)


def test_where_the_runs_are_seen(small, monkeypatch):
    assert Tracker(small).hint() == f"mlflow ui --host 127.0.0.1 --backend-store-uri '{Tracker(small).uri}'"
    assert Tracker(small).uri == f"sqlite:///{small.root.parent}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example")
    assert Tracker(small).hint() == "http://tracking.example"
    assert Tracker(small, "sqlite:////else.db").uri == "sqlite:////else.db"


def test_requests_are_as_large_as_mlflow_takes():
    limits = {
        "metrics": validation.MAX_METRICS_PER_BATCH,
        "params": validation.MAX_PARAMS_TAGS_PER_BATCH,
        "tags": validation.MAX_PARAMS_TAGS_PER_BATCH,
    }
    assert limits == send.BATCH
