"""The chaos run in short, and what it would find."""

import random
import re
from itertools import islice
from pathlib import Path

import pytest

from bench.cell.run import run_cell
from bench.config.grid_file import load_grid
from bench.run.again import differences
from bench.run.plan import make_plan
from bench.store.files import read_json, write_json
from bench.store.grid_folder import Store
from tests import reports
from tests.fake_store import finished_store, tell_more
from tests.reliability.chaos import TARGETS, main, numbers, strikes
from tests.shortcuts import blank_pictures

SMALL = ["strategy=fedavg,fedprox(mu=0.1)", "training.rounds=3", "data.limit=100", "evaluation.n_samples=20"]


@pytest.fixture
def undisturbed(tmp_path) -> Path:
    """Results of the grid in which nothing is killed."""
    plan = make_plan(load_grid("smoke", SMALL), tmp_path / "undisturbed")
    plan.store.write_plan(plan.describe())
    with blank_pictures():
        for job in plan.jobs:
            run_cell(job)
    reports.write_tables(plan.store)
    return tmp_path / "undisturbed"


def test_three_kills_change_no_number(tmp_path, undisturbed, capsys):
    """By this seed a cell, the command and a worker are killed, and cells have a process of their own after that."""
    settings = [part for setting in SMALL for part in ("--set", setting)]
    where = ["--results", str(tmp_path / "chaos"), "--undisturbed", str(undisturbed), "--max-minutes", "8"]
    code = main(["--kills", "3", "--patience", "2", "--seed", "9", "--isolate", "0.3", *settings, *where])
    told = " ".join(capsys.readouterr().out.split())
    assert code == 0, told
    found = re.search(r"kills 3, restarts (\d+) .* cells compared (\d+), numbers compared (\d+), differences 0", told)
    assert found is not None, told
    assert int(found[1]) > 0
    assert int(found[2]) >= 2
    assert int(found[3]) > 400


@pytest.fixture
def store(tmp_path) -> Store:
    made = finished_store(tmp_path, {"seed": [0], "n_clients": [3]})
    tell_more(made)
    reports.write_tables(made)
    return made


def repeat_a_line(store, path):
    log = path / "clients.jsonl"
    log.write_text(log.read_text() + log.read_text().splitlines()[-1] + "\n")


def lose_a_line(store, path):
    log = path / "validation.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[1:]))


def change_a_number(store, path):
    result = read_json(path / "result.json")
    write_json(path / "result.json", result | {"floor": result["floor"] | {"kid_mean": 0.00040000000000000013}})


def change_the_weights(store, path):
    (path / "weights.safetensors").write_bytes(b"other weights")


def change_the_table(store, path):
    table = store.root / "tables" / "cells.csv"
    table.write_text(table.read_text().replace("centralized", "central"))


@pytest.mark.parametrize("change", [repeat_a_line, lose_a_line, change_a_number, change_the_weights, change_the_table])
def test_what_a_kill_could_change_would_be_found(change, store):
    before = numbers(store)
    change(store, store.cell(store.planned()[1].cell_id).path)
    assert differences(before, numbers(store))


def test_seconds_and_times_may_differ(store):
    before = numbers(store)
    path = store.cell(store.planned()[1].cell_id).path / "result.json"
    result = read_json(path)
    metrics = result["metrics"] | {"train_seconds": 77.0, "sample_seconds": 7.0}
    write_json(
        path, result | {"metrics": metrics, "finished": 1.0, "environment": result["environment"] | {"commit": None}}
    )
    reports.write_tables(store)
    assert differences(before, numbers(store)) == []


def test_kills_are_drawn_by_their_seed():
    drawn = [list(islice(strikes(random.Random(seed), 8.0), 60)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert {strike.targets[0] for strike in drawn[0]} == set(TARGETS)
    assert all(sorted(strike.targets) == sorted(TARGETS) for strike in drawn[0])
