"""``python -m bench.verify``: cells that are what they say, cells that are not, and what cannot be verified."""

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

import bench.cell.run
import bench.cell.setting
import bench.config.ids
import bench.run.again
from bench.cell.run import run_cell
from bench.config.grid_file import load_grid
from bench.config.ids import cell_id
from bench.run.plan import make_plan
from bench.store.files import read_json, write_json
from bench.store.grid_folder import PlannedCell, Store
from bench.verify import choose, main
from tests.fake_store import finished_store
from tests.shortcuts import blank_pictures

pytestmark = pytest.mark.xdist_group("verify")
SMALL = ["strategy=fedavg", "training.rounds=1", "evaluation.n_samples=20", "evaluation.curve_every=1"]


@pytest.fixture(scope="module", autouse=True)
def blank():
    """Pictures are not what is compared."""
    with blank_pictures():
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Store:
    """A grid of one small cell, done."""
    plan = make_plan(load_grid("smoke", [*SMALL, "evaluation.curve_samples=10"]), tmp_path_factory.mktemp("results"))
    plan.store.write_plan(plan.describe())
    for job in plan.jobs:
        run_cell(job)
    assert list(plan.states().values()) == ["done"]
    return plan.store


@pytest.fixture
def store(made, tmp_path) -> Store:
    """A copy of it, to tamper with."""
    return Store(shutil.copytree(made.root, tmp_path / "smoke"))


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def the_cell(store: Store) -> Path:
    (cell,) = store.planned()
    return store.cell(cell.cell_id).path


def tamper(store: Store, change) -> None:
    """Change result.json and seal it anew, as one does who knows how."""
    path = the_cell(store) / "result.json"
    result = read_json(path)
    change(result)
    write_json(path, result)


def contents(root: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()}


def test_a_good_cell_verifies_and_nothing_is_written(made, scratch, monkeypatch, capsys):
    before = contents(made.root.parent)
    monkeypatch.chdir(made.root)
    assert main(["."]) == 0
    told = capsys.readouterr().out
    assert "drawn with --seed 0" in told
    assert "same" in told
    assert "fedavg n=2 beta=1 seed=0" in told
    assert read_json(the_cell(made) / "result.json")["weight_hash"][:12] in told
    assert contents(made.root.parent) == before
    assert list(scratch.iterdir()) == []


def test_many_numbers_are_compared_but_none_of_times(made):
    keys = bench.run.again.measured(made.cell(the_cell(made).name))
    assert {"result.json metrics.fid", "result.json weight_hash", "result.json sample_hash"} <= keys.keys()
    assert {"result.json clients[0].fid", "result.json floor.fid", "result.json diagnostics.t_loss[0]"} <= keys.keys()
    assert {"metrics.jsonl[0].train_loss", "clients.jsonl[1].drift", "validation.jsonl[0].class_loss[9]"} <= keys.keys()
    assert {"curve.json curve[0].fid", "partition.json histogram[1][9]"} <= keys.keys()
    assert not [key for key in keys if "seconds" in key or "time" in key.split(".") or "environment" in key]


def test_a_number_that_was_changed_is_found_with_a_likely_cause(store, capsys):
    def change(result):
        result["metrics"]["fid"] += 1e-9
        result["environment"]["packages"]["torch"] = "1.0.0"
        result["environment"]["commit"] = "c0ffee"

    recorded = read_json(the_cell(store) / "result.json")["metrics"]["fid"]
    tamper(store, change)
    assert main([str(store.root)]) == 1
    told = capsys.readouterr().out
    assert f"result.json metrics.fid: recorded {recorded + 1e-9}, now {recorded}" in told
    assert "a likely cause:" in told
    assert f"torch 1.0.0, now {torch.__version__.partition('+')[0]}" in told
    assert "commit c0ffee, now " in told
    assert "different" in told


def test_hashes_and_logs_that_were_changed_are_found(store, capsys):
    def change(result):
        result["weight_hash"] = "0" * 64
        del result["metrics"]["drift"]

    tamper(store, change)
    log = the_cell(store) / "metrics.jsonl"
    record = json.loads(log.read_text())
    log.write_text(json.dumps(record | {"train_loss": 0.5}) + "\n")
    assert main([str(store.root), "--cell", the_cell(store).name]) == 1
    told = capsys.readouterr().out
    assert f"result.json weight_hash: recorded {'0' * 64}, now " in told
    assert "result.json metrics.drift: recorded missing, now " in told
    assert f"metrics.jsonl[0].train_loss: recorded 0.5, now {record['train_loss']}" in told
    assert f"{log}: its content is not what was written" in told
    assert told.count("000000000000 ") == 1  # the table's short hash


def test_a_broken_record_is_no_good_cell(store, capsys):
    path = the_cell(store) / "result.json"
    path.write_text(path.read_text().replace('"n_reference": 200', '"n_reference": 201'))
    assert main([str(store.root)]) == 1
    told = capsys.readouterr().out
    assert "holds a damaged file: result.json: its checksum is that of other content" in told
    assert "different" in told


def test_a_cell_that_does_not_run_any_more_is_told(made, monkeypatch, capsys):
    def refuse(*_):
        raise RuntimeError("no network today")

    monkeypatch.setattr(bench.cell.setting.Setting, "model", refuse)
    assert main([str(made.root)]) == 1
    assert "it does not run any more: RuntimeError: no network today" in capsys.readouterr().out


def test_cells_are_drawn_by_their_seed(tmp_path):
    store = finished_store(tmp_path, missing=[0, 1])
    finished = [cell.cell_id for cell in store.planned()][2:]
    drawn = [[cell.cell_id for cell in choose(store, [], 2, seed)] for seed in (1, 1, *range(40))]
    assert drawn[0] == drawn[1]
    assert {name for names in drawn for name in names} == set(finished)
    assert all(names == sorted(names, key=finished.index) and len(names) == 2 for names in drawn)
    assert [cell.cell_id for cell in choose(store, [], 99, 0)] == finished


def test_folders_without_a_finished_cell_are_mistakes(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no grid.json" in capsys.readouterr().err
    store = finished_store(tmp_path, {"seed": [0]}, missing=range(99))
    assert main([str(store.root)]) == 2
    assert "none of the grid's cells is finished" in capsys.readouterr().err
    (store.root / "grid.json").write_text('{"cells": []}')
    assert main([str(store.root)]) == 2
    assert "grid.json is damaged (it has no checksum); run the grid again" in capsys.readouterr().err


def test_a_cell_that_is_not_there_is_a_mistake(made, capsys):
    assert main([str(made.root), "--cell", "../../etc"]) == 2
    told = capsys.readouterr().err
    assert "--cell ../../etc: no finished cell of" in told
    assert the_cell(made).name in told


@pytest.mark.parametrize("arguments", [[], ["x", "--cells", "0"], ["x", "--cells", "2", "--cell", "y"]])
def test_wrong_options_end_with_code_2(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_other_data_are_told_as_the_reason(made, monkeypatch, capsys):
    data = bench.cell.setting.load_data(load_grid("smoke").cells[0], None)
    monkeypatch.setattr(bench.run.again, "load_data", lambda *_: dataclasses.replace(data, digest="other"))
    assert main([str(made.root)]) == 2
    assert f"its data (mnist5k) had the digest {data.digest}, those here have other" in capsys.readouterr().err


def test_another_extractor_is_told_as_the_reason(made, monkeypatch, capsys):
    extractor = bench.cell.setting.load_cell_extractor(load_grid("smoke").cells[0])
    monkeypatch.setattr(
        bench.run.again, "load_cell_extractor", lambda *_: dataclasses.replace(extractor, digest="other")
    )
    assert main([str(made.root)]) == 2
    assert f"its extractor (mnist-cnn) had the digest {extractor.digest}" in capsys.readouterr().err


def test_cells_of_another_result_version_are_told(made, monkeypatch, capsys):
    monkeypatch.setattr(bench.config.ids, "RESULT_VERSION", 99)
    monkeypatch.setattr(bench.run.again, "RESULT_VERSION", 99)
    assert main([str(made.root)]) == 2
    recorded = read_json(the_cell(made) / "result.json")["result_version"]
    assert f"its RESULT_VERSION is {recorded}, here it is 99" in capsys.readouterr().err


def test_cells_of_a_gpu_are_told_where_there_is_none(store, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (cell,) = store.planned()
    result = read_json(the_cell(store) / "result.json")
    config = load_grid("smoke", [*SMALL, "evaluation.curve_samples=10"]).cells[0]
    name = cell_id(config, result["data"]["digest"], result["extractor"]["digest"], "cuda")
    store.write_plan(store.plan() | {"cells": [dataclasses.replace(cell, cell_id=name)]})
    environment = result["environment"] | {"device": "NVIDIA H100"}
    write_json(store.cell(name).path / "result.json", result | {"environment": environment, "cell_id": name})
    assert main([str(store.root)]) == 2
    assert "it was made on NVIDIA H100, and this torch sees no CUDA device" in capsys.readouterr().err


def test_a_configuration_of_another_version_is_told(store, capsys):
    (cell,) = store.planned()
    changed = PlannedCell(cell.cell_id, cell.train_id, cell.labels, cell.config | {"flux": 1})
    store.write_plan(store.plan() | {"cells": [changed]})
    assert main([str(store.root)]) == 2
    assert "its configuration is not one of this version" in capsys.readouterr().err
