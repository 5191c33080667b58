"""Measuring: what is told of programs that run, fail or take too long. Nothing here depends on how fast they are."""

import json
import sys
from pathlib import Path

import pytest

from bench.speed import measure
from bench.speed.__main__ import main
from bench.speed.measure import Failed, Program, Row, Sample, interleaved, milliseconds, rows, run, seconds
from bench.speed.programs import rounds_bare

SHAPES = ("--shapes", "[[4, 4], [4], []]", "--clients", "3", "--rounds", "2")


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """A folder for programs of a test's own."""
    monkeypatch.setattr(measure, "PROGRAMS", tmp_path)
    return tmp_path


def write(programs: Path, name: str, *lines: str) -> Program:
    (programs / f"{name}.py").write_text("\n".join(lines))
    return Program(name, name)


@pytest.mark.parametrize("name", ["bare", "harness"])
def test_rounds_without_training_tell_a_time_for_each(name):
    sample = run(Program(name, "rounds", ("--program", name, *SHAPES)), 120)
    assert len(sample.seconds) == 2
    assert min(sample.seconds) > 0
    assert sample.peak > 10


def test_the_bare_loop_tells_a_time_for_each_round():
    assert len(rounds_bare.seconds([[4, 4], [4], []], 3, 2)) == 2


def test_memory_is_of_all_processes_of_a_program(programs):
    child = "import time; x = bytearray(60_000_000); time.sleep(1.5)"
    both = write(
        programs, "both", "import subprocess, sys",
        f"children = [subprocess.Popen([sys.executable, '-c', {child!r}]) for _ in range(2)]",
        "[child.wait() for child in children]", "print('{\"seconds\": [1.0]}')",
    )  # fmt: skip
    assert run(both, 60).peak > 120


def test_other_lines_of_a_program_are_no_numbers(programs):
    loud = write(programs, "loud", "print('{\"seconds\": [2.0, 3]}')", "print('bye')")
    assert run(loud, 60).seconds == (2.0, 3.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("raise SystemExit('no torch here')", "exit code 1: no torch here"),
        ("print('nothing')", "printed no numbers: nothing"),
        ("import time; time.sleep(60)", "took more than 0.5 s"),
    ],
)
def test_a_program_that_fails_is_told_and_not_run_again(programs, line, message):
    with open(programs / "count", "w"):
        pass
    count = "open(__import__('pathlib').Path(__file__).parent / 'count', 'a').write('x')"
    bad, good = write(programs, "bad", count, line), write(programs, "good", "print('{\"seconds\": [1]}')")
    with pytest.raises(Failed, match=message):
        run(bad, 0.5 if "sleep" in line else 60)
    found = interleaved([bad, good], 2, 0.5 if "sleep" in line else 60)
    assert isinstance(found["bad"], str)
    assert message in found["bad"]
    assert (programs / "count").read_text() == "xx"
    told = rows("part", "what", "s", found, seconds)
    assert [(row.failed != "", row.value, row.ratio) for row in told] == [(True, None, None), (False, 1.0, None)]


def test_ratios_are_of_the_same_repetition():
    samples = {
        "ours": [Sample((9.0, 1.0, 1.0), 10, 0.01), Sample((9.0, 2.0, 2.0), 10, 0.02)],
        "theirs": [Sample((9.0, 3.0, 3.0), 10, 0.03), Sample((9.0, 4.0, 4.0), 10, 0.0)],
    }
    ours, theirs = rows("part", "what", "ms", samples, milliseconds)
    assert (ours.value, ours.low, ours.high, ours.ratio) == (1500.0, 1000.0, 2000.0, None)
    assert (theirs.value, theirs.ratio, theirs.ratio_low, theirs.ratio_high) == (3500.0, 2.5, 2.0, 3.0)
    assert (ours.others, theirs.others) == (0.02, 0.03)


def test_a_run_that_others_disturbed_is_done_again(monkeypatch):
    shares = iter([0.5, 0.2, 0.3, 0.01])
    monkeypatch.setattr(measure, "run", lambda *_: Sample((1.0,), 1.0, next(shares)))
    assert measure.quiet_run(Program("a", "a"), 1).others == 0.2
    assert measure.quiet_run(Program("a", "a"), 1).others == 0.01


def test_numbers_are_kept_and_set_beside_later_ones(monkeypatch, tmp_path, capsys):
    made = iter([2.0, 3.0])
    monkeypatch.setattr(
        "bench.speed.commands.scores", lambda *_: [Row("scores", "of images", "this harness", "ms", next(made))]
    )
    file = tmp_path / "before.json"
    assert main(["--only", "scores", "--json", str(file)]) == 0
    told = json.loads(file.read_text())
    assert told["rows"][0]["value"] == 2.0
    assert {"commit", "cpu", "packages", "cores", "time"} <= told["machine"].keys()
    assert main(["--only", "scores", "--against", str(file)]) == 0
    assert " 1.5 " in capsys.readouterr().out


def test_a_failure_is_the_exit_code(monkeypatch, capsys):
    row = Row("scores", "of images", "FedLab", "ms", failed="no fedlab")
    monkeypatch.setattr("bench.speed.commands.scores", lambda *_: [row])
    assert main(["--only", "scores"]) == 1
    assert "FedLab failed: no fedlab" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "round"], "no 'round' (did you mean 'rounds'?)"),
        (["--peer", "pfl"], "'pfl': not NAME=PYTHON"),
        (["--peer", f"plf={sys.executable}"], "no 'plf' (did you mean 'pfl'?)"),
        (["--clients", "5,0"], "must be at least 1, got 0"),
        (["--shapes", "large"], "no 'large'"),
    ],
)
def test_wrong_options_are_told(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{}", "[", '{"format": 0, "rows": []}', '{"format": 1, "rows": [{"odd": 1}]}'])
def test_a_file_that_is_no_measurement_is_refused(text, tmp_path, capsys):
    file = tmp_path / "odd.json"
    file.write_text(text)
    assert main(["--only", "scores", "--against", str(file)]) == 2
    assert f"--against {file}" in capsys.readouterr().err


def test_a_peers_python_must_be_there(capsys):
    assert main(["--only", "scores", "--peer", "pfl=/nowhere/python"]) == 2
    assert "--peer pfl=/nowhere/python: there is no such file" in capsys.readouterr().err


def test_where_nothing_can_be_written_nothing_is_measured(tmp_path, capsys):
    assert main(["--only", "scores", "--json", str(tmp_path / "no" / "file.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err
