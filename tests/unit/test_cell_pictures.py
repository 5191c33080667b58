"""A cell's pictures are functions of its files: drawn at its end, and again at any time, to the same bytes."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bench.cell.run import find_timeout, record_failure, run_cell
from bench.pictures import of_a_cell
from bench.pictures.of_a_cell import PICTURES, draw, draw_again, draw_partition
from bench.report.__main__ import draw_cells, main
from bench.store import locks
from bench.store.cell_folder import HANG, CellFolder
from bench.store.files import file_hash, read_json, write_json
from bench.store.records import Failure, Manifest, Result, Trained
from tests.reliability.tiny import folder_of, jobs_of

SETTINGS = [
    'strategy=feddiffuse(mode="udec")', "latent.mode=central", "latent.epochs=1", "latent.width=16",
    "model.class_conditional=true", "training.failures=0.2",
]  # fmt: skip
PASSING = ("film.gif", "reconstructions.png", "samples_clients.png")  # drawn of what is not kept


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The job of a finished cell with every kind of picture."""
    (job,) = jobs_of(tmp_path_factory.mktemp("finished") / "results", *SETTINGS)
    run_cell(job)
    return job


@pytest.fixture
def folder(finished, tmp_path) -> CellFolder:
    """A copy of the finished cell in a grid's folder of its own."""
    shutil.copytree(finished.root.parent, tmp_path / "results")
    return folder_of(replace(finished, root=tmp_path / "results" / finished.root.name))


def contents(folder: CellFolder) -> dict[str, bytes]:
    return {str(p.relative_to(folder.path)): p.read_bytes() for p in folder.path.rglob("*") if p.is_file()}


def sound(folder: CellFolder) -> bool:
    """Whether the next run would leave the cell alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder.mend()
    return folder.state() == "done"


def report(folder: CellFolder) -> int:
    root = folder.path.parent
    return main(["--grid", root.name, "--results", str(root.parent), "--cells", "--figures", "none"])


def test_pictures_drawn_again_have_the_same_bytes(folder):
    before = contents(folder)
    assert {*PICTURES, *PASSING} <= before.keys()
    assert draw_again(folder) is None
    assert contents(folder) == before
    for name in PICTURES:
        (folder.path / name).unlink()
    assert sorted(draw(folder)) == sorted(PICTURES)
    assert contents(folder) == before


def test_centralized_training_has_no_picture_of_clients(folder):
    for name in ("partition.json", "clients.jsonl", "partition.png", "rounds.png"):
        (folder.path / name).unlink()
    assert draw(folder) == ["diagnostics.png", "samples.png", "samples_viridis.png"]
    assert not (folder.path / "rounds.png").exists()


def test_a_partition_is_named_after_its_cell(folder):
    manifest = folder.read(Manifest)
    assert of_a_cell.partition_title(manifest) == "iid, 2 clients, seed 0"
    skewed = manifest.model_copy(update={"config": manifest.config | {"beta": 0.25}})
    assert of_a_cell.partition_title(skewed) == "iid, 2 clients, beta = 0.25, seed 0"


def test_a_cell_that_diverges_shows_its_split(tmp_path):
    (job,) = jobs_of(tmp_path / "results", 'strategy=tests.reliability.odd:Odd(way="diverges")')
    run_cell(job)
    folder = folder_of(job)
    assert folder.state() == "diverged"
    shown = (folder.path / "partition.png").read_bytes()
    assert [path.name for path in folder.path.glob("*.png")] == ["partition.png"]
    assert draw_partition(folder)
    assert (folder.path / "partition.png").read_bytes() == shown


def test_a_cell_whose_time_is_over_shows_its_split(folder):
    shown = (folder.path / "partition.png").read_bytes()
    for name in ("result.json", "partition.png"):
        (folder.path / name).unlink()
    (folder.path / HANG).write_text("Timeout (0:00:05)!\nThread ...\n")
    assert find_timeout(folder)
    assert folder.state() == "timeout"
    assert (folder.path / "partition.png").read_bytes() == shown


def test_a_failure_before_the_split_has_no_picture(tmp_path):
    (job,) = jobs_of(tmp_path / "results", "training.rounds=1")
    record_failure(folder_of(job), "failed", "no data")
    assert [path.name for path in folder_of(job).path.iterdir()] == ["error.json"]


@pytest.mark.parametrize("error", [MemoryError("no room"), ImportError("no matplotlib"), RuntimeError("no font")])
def test_a_split_that_cannot_be_drawn_costs_no_record(folder, monkeypatch, error):
    def failing(_: CellFolder) -> bool:
        raise error

    (folder.path / "result.json").unlink()
    monkeypatch.setattr(of_a_cell, "draw_partition", failing)
    with pytest.warns(UserWarning, match=rf"partition\.png is not drawn \({type(error).__name__}: {error}\)"):
        record_failure(folder, "failed", "on purpose", "trace")
    failure = folder.read(Failure)
    assert (failure.status, failure.error, failure.traceback) == ("failed", "on purpose", "trace")


def test_the_command_draws_the_pictures_of_finished_cells_again(folder, capsys):
    before = contents(folder)
    for name in PICTURES[:3]:
        (folder.path / name).write_bytes(b"damaged")
    assert report(folder) == 0
    assert "pictures of 1 of 1 finished cells drawn again" in capsys.readouterr().out
    assert contents(folder) == before
    assert sound(folder)


def test_pictures_that_are_drawn_otherwise_now_are_recorded_as_they_are(folder, monkeypatch):
    trained = read_json(folder.path / Trained.FILE)  # as older versions wrote it
    result = read_json(folder.path / Result.FILE)
    listed = trained["files"] | {"partition.png": result["files"]["partition.png"]}
    write_json(folder.path / Trained.FILE, trained | {"files": listed})
    digest = file_hash(folder.path / Trained.FILE)
    write_json(folder.path / Result.FILE, result | {"files": result["files"] | {"train.json": digest}})
    before = folder.read(Result)
    assert sound(folder)
    monkeypatch.setattr(of_a_cell, "partition_title", lambda _: "another title")
    assert draw_again(folder) is None
    after = folder.read(Result)
    assert {name for name in after.files if after.files[name] != before.files[name]} == {"partition.png", "train.json"}
    assert after.known() | {"files": {}} == before.known() | {"files": {}}
    assert folder.read(Trained).files == trained["files"]
    assert sound(folder)


def test_drawing_that_is_killed_leaves_a_cell_that_is_sound(folder, monkeypatch):
    before = folder.read(Result)

    def killed(folder: CellFolder) -> list[str]:
        Image.new("L", (1, 1)).save(folder.path / "samples.png")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(of_a_cell, "draw", killed)
        with pytest.raises(KeyboardInterrupt):
            draw_again(folder)
    assert sound(folder)
    assert draw_again(folder) is None
    assert folder.read(Result).files == before.files


@pytest.mark.parametrize("name", ["samples.safetensors", "clients.jsonl", "cell.json"])
def test_nothing_is_drawn_from_damaged_files(folder, name):
    path: Path = folder.path / name
    path.write_bytes(path.read_bytes()[:-3])
    before = contents(folder)
    drawn: list[str] = []
    warning, count = draw_cells(folder.path.parent, drawn.append)
    assert drawn == [f"pictures of cell {folder.cell_id}"]
    assert f"{folder.path}: {name} is damaged (its content is not what was written); its pictures are left" in warning
    assert count == "pictures of 0 of 1 finished cells drawn again"
    assert contents(folder) == before


def test_a_cell_that_a_process_works_at_is_left_alone(folder):
    before = contents(folder)
    with locks.hold(folder.path, "a run"):
        assert draw_again(folder) == "another process works at it"
    assert contents(folder) == before
