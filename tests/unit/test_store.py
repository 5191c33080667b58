"""The store: atomic writes, what a cell's files say of it, and the frame of a grid."""

import json
import math
import os
import warnings

import pytest

from bench.store.cell_folder import CellFolder
from bench.store.files import Damaged, read_json, read_lines, write_bytes, write_json
from bench.store.grid_folder import PlannedCell, Store
from bench.store.locks import hold
from bench.store.records import RESULT_VERSION, Environment, Likelihood, Result, Round, Validation
from tests import reports

RESULT = {"cell_id": "abc", "config": {}, "metrics": {}, "finished": 0.0}


@pytest.fixture
def folder(tmp_path) -> CellFolder:
    return Store(tmp_path / "grid").cell("abc")


def test_a_cell_goes_through_its_states(folder):
    assert folder.state() == "todo"
    folder.begin({"attempt": "1"})
    assert folder.state() == "partial"
    with hold(folder.path, "run"):
        assert folder.state() == "running"
    for status in ("failed", "diverged", "timeout", "killed"):
        folder.fail(status, "x")
        assert folder.state() == status
        assert folder.ended()
    folder.forget_failure()
    assert folder.state() == "partial"
    folder.begin({"attempt": "2"})
    assert read_json(folder.path / "cell.json") == {"attempt": "2"}
    write_json(folder.path / "result.json", RESULT)
    assert folder.state() == "done"


def test_a_torn_last_line_is_left_out(folder):
    folder.begin({})
    folder.append("metrics.jsonl", [{"round": 1}])
    folder.append("metrics.jsonl", [{"round": 2}])
    with open(folder.path / "metrics.jsonl", "a") as file:
        file.write('{"round": 3, "tra')
    assert [line["round"] for line in read_lines(folder.path / "metrics.jsonl")] == [1, 2]


def test_no_rounds_before_the_first(folder):
    assert read_lines(folder.path / "metrics.jsonl") == []


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_files_can_be_read_by_others(tmp_path):
    write_bytes(tmp_path / "new" / "file", b"x")
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == 0o644


def test_what_json_cannot_hold_becomes_null(tmp_path):
    write_json(tmp_path / "x.json", {"a": float("nan"), "b": (1, float("inf")), "c": {"d": None}})
    assert read_json(tmp_path / "x.json") == {"a": None, "b": [1, None], "c": {"d": None}}
    assert "sha256" in json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("old", [b"1", b"2.5", b'"', b"{", b"\n", b"sha256"])
def test_a_record_that_was_changed_is_noticed(tmp_path, old):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1, "b": [2.5, "text"]})
    text = path.read_bytes()
    for bit in range(8):
        path.write_bytes(text.replace(old, bytes([old[0] ^ 1 << bit]) + old[1:], 1))
        with pytest.raises(Damaged):
            read_json(path)


def test_a_record_of_another_cell_is_not_believed(folder):
    folder.begin({})
    write_json(folder.path / "result.json", RESULT | {"cell_id": "another"})
    with pytest.warns(UserWarning, match="it is of cell another"):
        assert folder.read(Result) is None


def test_a_record_says_which_field_is_wrong(folder):
    write_json(folder.path / "result.json", RESULT | {"metrics": {"fid": "low"}})
    with pytest.warns(
        UserWarning, match=r"result\.json is damaged \(metrics\.fid.*: Input should be a valid .*\) and is not"
    ):
        assert folder.read(Result) is None
    write_json(folder.path / "result.json", {key: value for key, value in RESULT.items() if key != "finished"})
    with pytest.warns(UserWarning, match=r"\(finished: Field required\)"):
        assert folder.read(Result) is None


def test_what_an_older_version_did_not_write_has_a_default(folder):
    older = {"class_histogram": None, "metrics": {"fid": None, "rounds": 3}, "a field of then": 1}
    write_json(folder.path / "result.json", RESULT | older)
    found = folder.read(Result)
    assert (found.metrics, found.class_histogram, found.clients) == ({"fid": None, "rounds": 3}, (), ())
    assert "a field of then" not in found.known()
    assert Environment.checked({"commit": None, "device": "cpu"}).known() == {"commit": None, "device": "cpu"}


def test_numbers_that_were_not_finite_come_back_as_none(folder):
    write_json(folder.path / "likelihood.json", {"likelihood_id": "l", "bits_per_dim": math.nan, "terms": [math.inf]})
    found = folder.read(Likelihood)
    assert (found.bits_per_dim, found.terms) == (None, (None,))
    write_json(folder.path / "result.json", RESULT | {"bootstrap": {"fid": [1.0, math.nan]}})
    assert folder.read(Result).bootstrap == {"fid": [1.0, None]}
    assert folder.state() == "done"


def test_a_damaged_log_is_as_if_it_were_empty(folder):
    folder.begin({})
    folder.append("metrics.jsonl", [{"round": 1, "time": 5.0, "fid": 2.0}, {"round": "two", "time": 6.0}])
    with pytest.warns(UserWarning, match=r"metrics\.jsonl is damaged \(round: .*\) and is not used"):
        assert folder.read_log(Round) == []
    with pytest.raises(Damaged, match="round"):
        Round.read_log(folder.path)


def test_no_type_is_converted_but_a_list_to_a_tuple():
    line = {"round": 1, "class_loss": [1, None], "client_loss": []}
    assert Validation.checked(line).class_loss == (1.0, None)
    for key, wrong in {"round": "1", "class_loss": ["0.5"], "client_loss": [True]}.items():
        with pytest.raises(Damaged, match=key):
            Validation.checked(line | {key: wrong})


def test_cells_of_other_versions_are_counted(tmp_path):
    store = Store(tmp_path)
    store.write_plan({"cells": [PlannedCell("a", "t", {}, {})]})
    for name, version in [("a", 4), ("b", 3), ("c", 3), ("d", 4)]:
        store.cell(name).begin({"result_version": version})
    store.cell("e").path.mkdir()
    (store.cell("e").path / "cell.json").write_text('{"before": "seals"}')
    assert store.versions() == {"3": 2, "4": 1, "unknown": 1}


def test_trained_needs_both_files(folder):
    folder.begin({})
    trained = {"train_id": "t", "weight_hash": "h", "metrics": {"train_seconds": 2}, "files": {}}
    write_json(folder.path / "train.json", trained)
    assert folder.trained() is None
    write_bytes(folder.path / "weights.safetensors", b"x")
    assert folder.trained().known() == trained
    assert [found.cell_id for found in Store(folder.path.parent).find_trained("t")] == ["abc"]
    assert Store(folder.path.parent).find_trained("u") == []
    assert Store(folder.path.parent).trained_ids() == {"t"}


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}"])
def test_a_damaged_record_is_as_if_it_were_not_there_with_a_warning(folder, text):
    folder.begin({})
    write_bytes(folder.path / "weights.safetensors", b"x")
    for name in ("train.json", "likelihood.json"):
        write_bytes(folder.path / name, text.encode())
    with pytest.warns(UserWarning, match=r"train.json is damaged .* not used"):
        assert folder.trained() is None
    with pytest.warns(UserWarning, match=r"likelihood.json is damaged .* not used"):
        assert folder.read(Likelihood) is None


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}"])
def test_looking_for_trainings_damage_is_told_of_cells_of_this_version_alone(folder, text):
    store = Store(folder.path.parent)
    folder.begin({"result_version": RESULT_VERSION})
    for name in ("train.json", "likelihood.json"):
        write_bytes(folder.path / name, text.encode())
    with pytest.warns(UserWarning, match=r"train.json is damaged .* not used"):
        assert store.find_trained("t") == []
    with pytest.warns(UserWarning, match=r"likelihood.json is damaged .* not used"):
        assert store.find_likelihood("l") is None
    folder.begin({"result_version": RESULT_VERSION - 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.find_trained("t") == []
        assert store.find_likelihood("l") is None


def test_a_folder_without_a_grid_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no grid has been run into it"):
        Store(tmp_path).plan()


def test_the_frame_has_a_row_for_every_planned_cell(tmp_path):
    store = Store(tmp_path)
    labels = {"strategy": "fedavg", "n_clients": 3, "beta": 0.1, "seed": 0}
    cells = [PlannedCell(i, "t", labels | {"seed": n}, {}) for n, i in enumerate("ab")]
    store.write_plan({"name": "grid", "description": "", "extra_axes": [], "cells": cells})
    store.cell("a").begin({})
    write_json(store.cell("a").path / "result.json", RESULT | {"cell_id": "a", "metrics": {"fid": 2.5}})
    store.cell("c").begin({})
    frame = reports.rows_of(store).frame
    assert frame["state"].tolist() == ["done", "todo"]
    assert frame["fid"].tolist()[0] == 2.5
    assert frame["seed"].tolist() == [0, 1]
    assert store.strangers() == 1
