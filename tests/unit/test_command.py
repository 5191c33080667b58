"""What the commands share: exit codes, messages, and how little they import before there is anything to do."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as entry
from bench import __version__, command, grid
from bench.command import COMMANDS
from bench.config.errors import ConfigError
from bench.store.files import Damaged

HEAVY = ("torch", "torchvision", "pandas", "scipy", "matplotlib", "mlflow", "joblib", "optuna", "rich")
MISTAKES = {
    "run": [
        [],
        ["--grid", "nonesuch"],
        ["--grid", "smoke", "--n-jobs", "0"],
        ["--grid", "smoke", "--set", "training.rouns=3"],
        ["--grid", "smoke", "--set", "strategy=fedprox(mux=1)"],
        ["--grid", "smoke", "--set", "strategy=fedprox(mu=-1)"],
        ["--grid", "smoke", "--set", "partition=k-labels(k=0)"],
        ["--grid", "smoke", "--set", "diffusion.schedule=linear", "--set", "diffusion.T=5"],
        ["--grid", "smoke", "--scheduler", "tcp://127.0.0.1:1"],
    ],
    "tune": [
        [],
        ["--grid", "nonesuch"],
        ["--grid", "recipes"],
        ["--grid", "smoke", "--n-jobs", "0"],
        ["--grid", "smoke", "--scheduler", "tcp://127.0.0.1:1"],
    ],
    "report": [
        [],
        ["--grid", "nonesuch"],
        ["--grid", "smoke", "--figures", "none,costs"],
        ["--grid", "smoke", "--style", "nowhere"],
        ["--grid", "smoke", "--width", "page"],
    ],
    "compare": [[], ["nowhere"], ["nowhere", "nowhere"]],
    "verify": [[], ["nowhere", "--cells", "x"], ["nowhere"]],
    "check": [["nonesuch"], ["fedprox(mux=1)"], ["--kind", "nonesuch"]],
    "data": [[], ["nonesuch"]],
    "train-extractor": [[], ["--data-root", "nowhere", "--epochs", "0"]],
}
ANSWERED_AT_ONCE = [
    (["--help"], 0),
    (["--version"], 0),
    ([], 2),
    (["nonesuch"], 2),
    (["--nonesuch"], 2),
    (["--version", "x"], 2),
    *[([name, option], 0) for name in COMMANDS for option in ("--help", "--version")],
    *[([name, "--nonesuch"], 2) for name in COMMANDS],
    *[([name, *mistake], 2) for name, mistakes in MISTAKES.items() for mistake in mistakes],
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[tuple[str, ...], tuple[int, str, str, list[str]]]:
    """Of each of `ANSWERED_AT_ONCE`: exit code, what was printed, errors, and what is heavy and imported by then."""
    code = (
        "import contextlib, io, json, sys\nfrom bench.__main__ import main\n"
        f"for arguments in {[arguments for arguments, _ in ANSWERED_AT_ONCE]}:\n"
        "    out, err = io.StringIO(), io.StringIO()\n"
        "    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):\n"
        "        try: code = main(arguments)\n"
        "        except SystemExit as error: code = error.code\n"
        f"    heavy = [name for name in {HEAVY} if name in sys.modules]\n"
        "    print(json.dumps([arguments, code, out.getvalue(), err.getvalue(), heavy]))\n"
    )
    folder = tmp_path_factory.mktemp("empty")
    environment = os.environ | {"PYTHONPATH": str(Path(entry.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())
    return {tuple(arguments): tuple(said) for arguments, *said in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    ANSWERED_AT_ONCE,
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_help_and_mistakes_are_answered_before_anything_heavy_is_imported(answers, arguments, expected):
    code, out, err, heavy = answers[tuple(arguments)]
    assert (code, heavy) == (expected, [])
    if expected == 2:  # one line, which names the command that was meant
        assert out == ""
        assert err.count("\n") == err.count("error: ") == 1
    elif "--version" in arguments:
        assert out == f"federated-diffusion-bench {__version__}\n"
    else:
        assert out.startswith(f"usage: feddiff-bench {'COMMAND' if arguments == ['--help'] else arguments[0]} ")
        assert err == ""


def test_a_mistake_in_an_option_is_named_with_its_command_and_the_nearest_option(answers):
    told = answers["run", "--grid", "smoke", "--n-jobs", "0"][2]
    assert told == "feddiff-bench run: error: argument --n-jobs: must be at least 1, got 0; --help lists the options\n"
    told = answers["check", "--kind", "nonesuch"][2]
    assert told.endswith("argument --kind: got 'nonesuch'; allowed: strategy, partition; --help lists the options\n")
    assert answers["--version", "x"][2].startswith("feddiff-bench: error: --version stands alone; got 'x' after it; ")
    told = answers["nonesuch",][2]
    assert told.startswith("feddiff-bench: error: no command 'nonesuch'; allowed: run, tune, report, compare, ")


def test_misspelt_names_are_answered_with_the_nearest_ones(capsys):
    for arguments, hint in ((["verfy"], "verify"), (["run", "--grid", "smoke", "--njobs", "2"], "--n-jobs")):
        with pytest.raises(SystemExit):
            entry.main(arguments)
        assert f" (did you mean {hint!r}?)" in capsys.readouterr().err


def test_what_cannot_be_printed_is_shown_as_escapes(capsys):
    with pytest.raises(SystemExit):
        entry.main(["run", "--grid", "smoke", "--x\x1b]0;title"])
    assert "\x1b" not in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------- the console script


def modules_with_a_command_line() -> set[str]:
    """Modules below bench that ``python -m`` runs."""
    root = Path(entry.__file__).parent
    files = [path for path in root.rglob("*.py") if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")]
    return {".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__main__") for path in files}


def test_every_command_line_is_a_command():
    internal = {"bench", "bench.run.isolate"}  # the script itself, and a cell's process; programs are what speed runs
    found = {name for name in modules_with_a_command_line() if not name.startswith("bench.speed.programs.")}
    assert {about.module for about in COMMANDS.values()} == found - internal
    assert all(importlib.util.find_spec(about.module) for about in COMMANDS.values())


def test_the_options_of_the_time_before_commands_are_those_of_run(capsys):
    """The console script was ``python -m bench.grid`` before it had commands."""
    assert entry.main(["--grid", "nonesuch"]) == entry.main(["run", "--grid=nonesuch"]) == command.WRONG
    first, second = capsys.readouterr().err.splitlines()
    assert first == second.replace("--grid=", "--grid ")
    assert first.startswith("error: --grid nonesuch: unknown grid; ")


def test_a_strategy_in_the_working_folder_is_found(tmp_path):
    """As with ``python -m``, but after all that is installed: a folder of theirs called strategies hides no module."""
    (tmp_path / "mine.py").write_text("from strategies.fedavg import FedAvg\nclass Mine(FedAvg): pass\n")
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "__init__.py").write_text("raise ImportError('another one')")
    root = str(Path(entry.__file__).parents[1])
    script = (  # as an editable install, whose packages no folder of sys.path holds
        f"import sys\nsys.path[:1] = [{root!r}]\nfrom bench.__main__ import main\nsys.path.remove({root!r})\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    options = ["run", "--grid", "smoke", "--plan", "--set", "strategy=mine:Mine,mine:Mien"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script, *options], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert "module 'mine' has no 'Mien' (did you mean 'Mine'?)" in done.stderr
    assert done.returncode == command.WRONG


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        grid.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"federated-diffusion-bench {__version__}\n"


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("no such grid"), 2, "error: no such grid"),
        (KeyboardInterrupt(), 130, "stopped"),
        (Damaged("its checksum"), 1, "error: damaged: its checksum"),
        (FileNotFoundError("gone"), 1, "error: storage: gone"),
    ],
)
def test_what_a_person_can_mend_is_one_line_and_an_exit_code(error, code, line, capsys):
    known = {Damaged: lambda e: f"damaged: {e}", OSError: lambda e: f"storage: {e}"}
    assert command.run(raising(error), interrupted="stopped", known=known, code=command.FAILED) == code
    assert capsys.readouterr().err == f"{line}\n"


def test_any_other_error_is_a_fault_of_the_program_and_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        command.run(raising(ZeroDivisionError()), known={OSError: str})


@pytest.mark.parametrize("error", [KeyError("fid"), TypeError("x"), ZeroDivisionError("x")])
def test_an_odd_record_is_told_with_its_place(error, capsys):
    assert command.run(raising(error), known=command.odd_records("in results")) == command.WRONG
    told = capsys.readouterr().err
    assert told.startswith(f"error: a record in results is not as it should be: {type(error).__name__}: ")


def test_a_damaged_record_is_told_by_its_own_words(capsys):
    error = Damaged("r/grid.json is damaged (it has no checksum)")
    assert command.run(raising(error), known=command.odd_records("in results")) == command.WRONG
    told = capsys.readouterr().err
    assert told.startswith(
        "error: a record in results is not as it should be: r/grid.json is damaged (it has no checksum)"
    )


def test_a_cells_process_imports_neither_pandas_nor_reports_and_pictures_only_where_it_draws():
    code = (
        "import sys, bench.run.isolate, bench.cell.run\n"
        "from bench.config.names import cell_name\n"
        "cell_name({'strategy': 'fedavg', 'n_clients': 3, 'beta': 0.1, 'seed': 0, 'recipe': None})\n"
        "heavy = {'pandas', 'scipy', 'mlflow', 'plotly', 'matplotlib'}\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in heavy]\n"
        "assert not [name for name in sys.modules if name.startswith('bench.report')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
