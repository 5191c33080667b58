"""Whatever happens to a cell's files: it is noticed, the file is put aside with a warning, and made anew."""

import errno
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cell.job import CellJob, How
from bench.cell.run import run_cell
from bench.config.ids import RESULT_VERSION
from bench.grid import main
from bench.store import files
from bench.store.files import QUARANTINE, read_json, write_bytes, write_json
from bench.store.grid_folder import Store
from tests import reports
from tests.reliability.test_resume import DAMAGE
from tests.reliability.tiny import SETTINGS, folder_of, jobs_of, numbers
from tests.shortcuts import blank_pictures, no_workers

CELL = ["strategy=feddiffuse(mode=\"udec\")", "latent.mode=central", "latent.epochs=1", "latent.width=16",
        "evaluation.curve_every=2", "evaluation.curve_samples=10"]  # fmt: skip
TRAINED = ("partition.json", "metrics.jsonl", "clients.jsonl", "steps.jsonl", "validation.jsonl", "autoencoder.safetensors",
           "curve.safetensors", "weights.safetensors", "personal/0.safetensors", "train.json")  # fmt: skip
JUDGED = ("samples.safetensors", "samples.png", "samples_viridis.png", "samples_clients.png", "film.gif", "reconstructions.png",
          "partition.png", "diagnostics.json", "diagnostics.png", "rounds.png", "closest.png", "curve.json", "cell.json", "result.json")  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[CellJob, dict]:
    """A finished cell with every kind of file, and its numbers."""
    (job,) = jobs_of(tmp_path_factory.mktemp("finished") / "results", *CELL)
    run_cell(job)
    return job, numbers(folder_of(job))


@pytest.fixture
def blank():
    """For tests that compare numbers and not pictures."""
    with blank_pictures():
        yield


@pytest.fixture
def copy(finished, tmp_path) -> CellJob:
    job, _ = finished
    shutil.copytree(job.root.parent, tmp_path / "results")
    return replace(job, root=tmp_path / "results" / job.root.name)


def test_the_files_that_are_damaged_here_are_all_that_a_cell_has(finished):
    folder = folder_of(finished[0])
    there = {str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file()}
    assert there == {*TRAINED, *JUDGED, "personal/1.safetensors"}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", [*TRAINED, *JUDGED])
def test_damage_is_noticed_and_put_aside(name, damage, copy):
    folder = folder_of(copy)
    DAMAGE[damage](folder.path / name)
    with pytest.warns(UserWarning, match=f"{Path(name).name} is damaged"):
        folder.mend()
    assert (folder.path.parent / QUARANTINE / copy.cell_id / Path(name).name).exists()
    assert not (folder.path / name).exists()
    assert folder.state() == ("todo" if name == "cell.json" else "partial")
    assert (folder.trained() is None) == (name in TRAINED)


@pytest.mark.parametrize("name", [*TRAINED[2:5], TRAINED[-1], "samples.safetensors", "film.gif", "result.json"])
def test_what_was_damaged_is_made_anew_with_the_same_numbers(name, copy, finished):
    folder = folder_of(copy)
    before = read_json(folder.path / "result.json")["files"]
    DAMAGE["flipped at the end"](folder.path / name)
    with pytest.warns(UserWarning, match="is damaged"):
        run_cell(copy)
    assert numbers(folder) == finished[1]
    after = read_json(folder.path / "result.json")["files"]
    assert after.keys() == before.keys()
    same = {n for n in after if after[n] == before[n]}
    assert same >= {"weights.safetensors", "samples.safetensors", "curve.safetensors", "partition.png", "samples.png"}


def test_a_sound_cell_is_left_alone(copy):
    folder = folder_of(copy)
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder.mend()
        run_cell(copy)
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*") if path.name != ".locks"} == before


def test_the_command_line_tells_of_damage_and_mends_it(copy, capsys):
    folder = folder_of(copy)
    DAMAGE["flipped at the end"](folder.path / "samples.png")
    arguments = [part for setting in [*SETTINGS, *CELL] for part in ("--set", setting)]
    results = str(folder.path.parents[1])
    line = ["--grid", "smoke", "--results", results, "--no-mlflow", "--tables-only", *arguments]
    with no_workers():
        assert main(line) == 0
    told = capsys.readouterr()
    assert "0 ended before, 1 to run" in told.out
    assert "samples.png is damaged (its content is not what was written); it is kept as" in " ".join(told.out.split())
    assert main([*line, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize("damage", ["truncated", "flipped at the end", "a folder"])
def test_caches_are_mended(damage, copy, finished):
    folder = folder_of(copy)
    caches = list((folder.path.parents[1] / ".cache").rglob("*.safetensors"))
    assert len(caches) == 3  # an autoencoder, and statistics of the training images, whole and by class
    digest = read_json(folder.path / "result.json")["data"]["digest"]
    assert all(path.name.startswith(f"{digest}-train-") for path in caches if path.parent.name == "references")
    for path in caches:
        DAMAGE[damage](path)
    for name in ("train.json", "result.json"):
        (folder.path / name).unlink()
    with pytest.warns(UserWarning, match="is damaged"):
        run_cell(copy)
    assert numbers(folder) == finished[1]


def test_a_result_of_another_version_is_named_and_not_mixed_in(copy, capsys):
    root = folder_of(copy).path.parent
    other = Store(root).cell("0123456789abcdef")
    shutil.copytree(root / copy.cell_id, other.path)
    write_json(other.path / "cell.json", {"cell_id": other.cell_id, "result_version": 3})
    for record in ("train.json", "likelihood.json"):  # as they were before they had checksums
        (other.path / record).write_text('{"train_id": "0123"}')
    arguments = [part for setting in [*SETTINGS, *CELL] for part in ("--set", setting)]
    assert main(["--grid", "smoke", "--results", str(root.parent), "--no-mlflow", "--tables-only", *arguments]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "damaged" not in told
    assert f"were made by another RESULT_VERSION than {RESULT_VERSION} (1 by 3): they are kept, and not used" in told
    assert reports.rows_of(Store(root)).frame["cell_id"].tolist() == [copy.cell_id]


# ------------------------------------------------------------------------------------------ a full disk


@pytest.fixture
def full(monkeypatch):
    """From the write of a file of that name on the disk is full."""

    def fill(name: str) -> None:
        write, over = os.fdopen, []

        class Full:
            def __init__(self, file):
                self.file = file

            def __enter__(self):
                return self

            def __exit__(self, *_):
                self.file.close()

            def write(self, data):
                self.file.write(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def make(prefix=None, **options):
            over.extend([1] if prefix == f".{name}." else [])
            return temporary(prefix=prefix, **options)

        temporary = files.tempfile.mkstemp
        monkeypatch.setattr(files.tempfile, "mkstemp", make)
        monkeypatch.setattr(files.os, "fdopen", lambda *a: Full(write(*a)) if over else write(*a))

    return fill


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "checkpoint.safetensors", "weights.safetensors", "samples.png", "result.json"]
)
@pytest.mark.usefixtures("blank")
def test_a_full_disk_ends_the_run_and_leaves_nothing_half_written(name, tmp_path, full, monkeypatch, finished):
    (job,) = jobs_of(tmp_path, *CELL)
    folder = folder_of(job)
    with monkeypatch.context():
        full(name)
        if name == "metrics.jsonl":  # grows by lines: a torn last one is left out
            monkeypatch.setattr(
                "bench.store.cell_folder.open",
                lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "x")),
                raising=False,
            )
        with pytest.raises(OSError, match=r"space|x") as ended:
            run_cell(job)
    assert ended.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert not folder.ended()
    assert not (folder.path / name).exists()
    assert not [path for path in folder.path.rglob(".*") if path.is_file()]
    run_cell(job)
    assert numbers(folder) == finished[1]


def test_a_full_disk_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results/x")

    monkeypatch.setattr("bench.run.pool.run", fail)
    assert main(["--grid", "smoke", "--results", str(tmp_path), "--no-mlflow", "--tables-only"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "No space left on device" in told
    assert "what is done is kept" in told
    assert "Traceback" not in told


def test_files_that_are_whole_are_written_whole(tmp_path):
    write_bytes(tmp_path / "x", b"old")
    (tmp_path / "y" / "inside").mkdir(parents=True)
    with pytest.warns(UserWarning, match="a folder stands in its place"):
        write_bytes(tmp_path / "y", b"new")
    assert (tmp_path / "y").read_bytes() == b"new"
    assert (tmp_path / QUARANTINE / "y" / "inside").is_dir()


def test_mending_that_is_killed_leaves_nothing_that_relies_on_what_is_gone(copy, monkeypatch):
    """At whichever of its moves it is killed, the next one finds the rest."""
    folder = folder_of(copy)
    DAMAGE["flipped at the end"](folder.path / "weights.safetensors")
    for moves in (0, 1, 1):  # the result, then the training's record
        left = iter(range(moves))
        move = files.shutil.move

        def one_more(*places, left=left, move=move):
            if next(left, None) is None:
                raise KeyboardInterrupt
            move(*places)

        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patch.setattr(files.shutil, "move", one_more)
            with pytest.raises(KeyboardInterrupt):
                folder.mend()
        if moves:
            assert folder.state() != "done"
    folder.mend()
    assert folder.state() == "partial"
    assert folder.trained() is None


@pytest.mark.parametrize("what", ["a folder", "a file"])
@pytest.mark.usefixtures("blank")
def test_whatever_stands_in_the_place_of_passing_files_is_no_obstacle(what, copy, finished):
    folder = folder_of(copy)
    for record in ("result.json", "train.json"):
        (folder.path / record).unlink()
    for name in ("progress.json", "hang.txt", "error.json", "lock.json", "clients", "checkpoint.safetensors"):
        if what == "a folder":
            (folder.path / name / "inside").mkdir(parents=True)
        else:
            (folder.path / name).write_bytes(b"\x00\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_cell(replace(copy, how=How(timeout=300)))
    assert read_json(folder.path / "error.json") is None
    assert numbers(folder) == finished[1]


def test_a_reason_that_is_no_text_is_recorded(tmp_path):
    folder = Store(tmp_path).cell("abc")
    folder.fail("failed", "no such file: caf\udce9")
    assert read_json(folder.path / "error.json")["error"] == "no such file: caf\udce9"


@pytest.mark.usefixtures("blank")
def test_what_writes_left_that_were_killed_is_removed(copy):
    folder = folder_of(copy)
    (folder.path / "result.json").unlink()
    (folder.path / ".weights.safetensors.abc").write_bytes(b"half")
    run_cell(copy)
    assert not (folder.path / ".weights.safetensors.abc").exists()
