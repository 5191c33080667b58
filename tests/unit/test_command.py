"""What the commands share: exit codes, messages, and how little they import before there is anything to do."""

import subprocess
import sys

import pytest

from bench import __version__, command, grid
from bench.config.errors import ConfigError
from bench.store.files import Damaged

HEAVY = ("torch", "torchvision", "pandas", "scipy", "matplotlib", "mlflow", "joblib", "rich")
ANSWERED_AT_ONCE = [
    (["--help"], 0),
    (["--version"], 0),
    (["--grid", "smoke", "--nonesuch"], 2),
    (["--grid", "nonesuch"], 2),
    (["--grid", "smoke", "--set", "training.rouns=3"], 2),
    (["--grid", "smoke", "--set", "strategy=fedprox(mux=1)"], 2),
    (["--grid", "smoke", "--set", "strategy=fedprox(mu=-1)"], 2),
    (["--grid", "smoke", "--set", "partition=k-labels(k=0)"], 2),
    (["--grid", "smoke", "--set", "diffusion.schedule=linear", "--set", "diffusion.T=5"], 2),
    (["--grid", "smoke", "--scheduler", "tcp://127.0.0.1:1"], 2),
]


def test_help_and_mistakes_are_answered_before_anything_heavy_is_imported():
    code = (
        "import sys\nfrom bench import grid\n"
        f"for arguments, expected in {ANSWERED_AT_ONCE}:\n"
        "    try: code = grid.main(arguments)\n"
        "    except SystemExit as error: code = error.code\n"
        f"    found = [name for name in {HEAVY} if name in sys.modules]\n"
        "    assert (code, found) == (expected, []), (arguments, code, found)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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


def test_a_cells_process_imports_neither_pandas_nor_reports():
    code = (
        "import sys, bench.run.isolate, bench.cell.run\n"
        "from bench.config.names import cell_name\n"
        "cell_name({'strategy': 'fedavg', 'n_clients': 3, 'beta': 0.1, 'seed': 0, 'recipe': None})\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('pandas', 'scipy', 'mlflow', 'plotly')]\n"
        "assert not [name for name in sys.modules if name.startswith('bench.report')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
