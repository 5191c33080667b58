"""What a person may give by mistake or by malice: exit code 2 with one clear message, or a correct run.

Never a traceback, and never a file outside the results folder.
"""

import gzip
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import partitions
from bench import grid
from bench.cell.setting import split
from bench.config.grid_file import parse_grid
from bench.data.config import DataConfig
from bench.data.sets import DataUnavailable, load_dataset
from bench.fidelity.extractors import load_extractor
from partitions.base import PartitionError, checked_split
from strategies.fedavg import FedAvg
from tests import reports
from tests.fake_store import SETTINGS, finished_store
from tests.unit.test_data import write_cifar, write_idx, write_mnist

SMALL = [
    "strategy=fedavg",
    "data.limit=40",
    "data.validation=20",
    "data.test=20",
    "training.rounds=1",
    "evaluation.n_samples=4",
]


def listing(folder: Path) -> set[tuple[str, int]]:
    """Every file under the folder with its size."""
    return {(str(path), path.lstat().st_size) for path in folder.rglob("*")}


@dataclass
class Command:
    """`python -m bench.grid` in this process, in a folder of its own whose surroundings are watched."""

    home: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, results: str | None = None) -> tuple[int, str, str]:
        results = str(self.home / "results") if results is None else results
        before = {found for found in listing(self.home) if not found[0].startswith(results)}
        code = grid.main([*arguments, "--results", results])
        captured = self.capture.readouterr()
        assert {found for found in listing(self.home) if not found[0].startswith(results)} == before
        assert "Traceback" not in captured.out + captured.err
        return code, captured.out, captured.err

    def refused(self, *arguments: str, results: str | None = None) -> str:
        """The one message of a command that must end with exit code 2, with nothing written."""
        before = listing(self.home)
        code, _, told = self(*arguments, results=results)
        assert code == 2, told
        assert told.startswith("error: ")
        assert told.count("error: ") == 1
        assert len(told) < 10_000
        assert listing(self.home) == before
        return told


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    home = tmp_path / "deep" / "home"
    home.mkdir(parents=True)
    monkeypatch.chdir(home)
    return Command(tmp_path, capsys)


def options(*sets: str) -> list[str]:
    return ["--grid", "smoke", "--plan", *(part for text in ("strategy=fedavg", *sets) for part in ("--set", text))]


# --------------------------------------------------------------------------------------------- absurd values

REFUSED = {
    "no clients": ["n_clients=0"],
    "less than no clients": ["n_clients=-1"],
    "half a client": ["n_clients=1.5"],
    "more clients than images": ["n_clients=201"],
    "as many clients as people": ["n_clients=1000000000"],
    "one image a client by Dirichlet": ["n_clients=200", "partition=dirichlet(min_size=1, max_retries=20)"],
    "beta 0": ["beta=0"],
    "beta below 0": ["beta=-0.5"],
    "beta inf": ["beta=inf"],
    "beta -inf": ["beta=-inf"],
    "beta NaN": ["beta=nan"],
    "beta 1e400": ["beta=1e400"],
    "T 0": ["diffusion.T=0"],
    "T below the steps": ["diffusion.T=1"],
    "T 10^9": ["diffusion.T=1000000000"],
    "more steps than T": ["sampler.steps=101"],
    "no steps": ["sampler.steps=0"],
    "an empty batch": ["training.batch_size=0"],
    "full batches beyond memory": ["training.local_steps=1", "training.batch_size=1000000000"],
    "no steps in a round": ["training.local_steps=0"],
    "a client's steps where none are told": ["strategy=centralized-matched"],
    "lr 0": ["client.lr=0"],
    "lr inf": ["client.lr=inf"],
    "lr NaN": ["client.lr=nan"],
    "no widths": ["model.widths=[]"],
    "width 0": ["model.widths=[0,8]"],
    "widths that groups do not divide": ["model.widths=[12,16]"],
    "a width of 10^9": ["model.widths=[8,1000000000]"],
    "widths beyond memory": ["model.widths=[16384,16384]"],
    "blocks beyond memory": ["model.blocks=1000000000"],
    "one sample": ["evaluation.n_samples=1"],
    "10^18 samples": ["evaluation.n_samples=1000000000000000000"],
    "a negative seed": ["seed=-1"],
    "a seed of 2^63": [f"seed={2**63}"],
    "a seed of 2^70": [f"seed={2**70}"],
    "nobody takes part": ["training.participation=0"],
    "more than all take part": ["training.participation=1.1"],
    "all images held out": ["data.test=5000"],
    "all but two held out": ["data.test=4000", "data.validation=998", "data.limit=3"],
    "none held out": ["data.validation=0"],
    "a reference without some classes": ["evaluation.reference=test", "data.test=5", "strategy=fedavg"],
    "more images than there are": ["data.limit=4901"],
    "one image for two clients": ["data.limit=1", "partition=iid"],
    "images of side 0": ["data.size=0"],
    "images of side 1": ["data.size=1"],
    "images beyond memory": ["data.size=16384", "data.fit=pad"],
    "10^9 threads": ["threads=1000000000"],
    "endless retries": ["partition=dirichlet(max_retries=1000000000000)"],
    "clients of no images": ["partition=dirichlet(min_size=0)"],
    "clients of 2^63 images": [f"partition=dirichlet(min_size={2**63 - 1})"],
    "an endless hyper-parameter": ["strategy=fedprox(mu=inf)"],
    "a negative hyper-parameter": ["strategy=fedprox(mu=-1)"],
    "10^9 shards": ["partition=shards(shards_per_client=1000000000)"],
    "no labels": ["partition=k-labels(k=0)"],
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_absurd_value_is_refused_in_one_message(kind: str, command: Command) -> None:
    told = command.refused(*options(*REFUSED[kind]))
    assert any(text.partition("=")[0].rpartition(".")[2].split("_")[0] in told for text in REFUSED[kind])


EXTREME = {
    "hardly any beta, T 1, a batch beyond the client, the largest seed, two samples": [
        "beta=1e-300", "diffusion.T=1", "sampler.steps=1", "training.batch_size=1000000000", "n_clients=2",
        "evaluation.n_samples=2", f"seed={2**63 - 1}",
    ],
    "one image a client, absent classes, nobody takes part": [
        "data.limit=4", "n_clients=4", "partition=iid", "training.participation=1e-300", "training.sampling=poisson",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", EXTREME)
def test_an_extreme_that_has_a_meaning_runs_and_stays_inside_its_results(kind: str, command: Command) -> None:
    sets = [part for text in [*SMALL, *EXTREME[kind]] for part in ("--set", text)]
    code, out, told = command(
        "--grid", "smoke", "--no-mlflow", "--tables-only", "--n-jobs", "1", "--backend", "threading", *sets
    )
    assert code == 0, told
    assert "report: " in out


@pytest.mark.parametrize("name", [name for name in partitions.registry.names() if name != "flower"])
def test_an_empty_class_and_a_class_of_one_image_are_split_or_refused(name: str) -> None:
    raw = {**SETTINGS, "partition": name, "axes": {"strategy": ["fedavg"], "n_clients": [3], "beta": [0.5]}}
    cell = parse_grid(raw, "my.toml", "my").cells[0]
    labels = torch.tensor([0] * 60 + [2] * 60 + [9])
    try:
        parts = split(cell, labels)
    except PartitionError:
        return
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))


@pytest.mark.parametrize("beta", [1e-300, 1e-5, 1e300])
@pytest.mark.parametrize("name", ["dirichlet", "dirichlet-plain"])
def test_beta_at_the_ends_of_its_range_splits_or_says_why_not(name: str, beta: float) -> None:
    partition = partitions.load(name)(beta=beta, min_size=1, max_retries=20)  # type: ignore[call-arg]
    labels = np.repeat(np.arange(10), 20)
    try:
        parts = checked_split(partition, labels, 3, np.random.default_rng(0))
    except PartitionError:
        return
    assert sum(map(len, parts)) == len(labels)


# --------------------------------------------------------------------------------------------- hostile names

NAMES = [
    "../../x", "/tmp/x", "~", "~root", ".", "..", "", " ", "x ", " x", "x\0", "x\ny", "a/b", "a\\b", ".hidden", "-rf",
    r"\input{/etc/passwd}", "$x$", "%", "_x", "<script>alert(1)</script>", "[bold]", "[/]", "x" * 10_000, "x" * 65,
    "\u202eabc", "caf\u00e9", "e\u0301", "\U0001f600", "\x1b[31m", "mlflow.db", "mlartifacts", "MLFLOW.DB-journal",
]  # fmt: skip
ids = [ascii(name[:20]) for name in NAMES]


def toml(text: str) -> str:
    """The text as TOML writes it."""
    return '"' + "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in text) + '"'


@pytest.mark.parametrize("name", NAMES, ids=ids)
def test_a_grid_of_a_hostile_name_is_refused(name: str, command: Command) -> None:
    path = command.home / "my.toml"
    path.write_text(f'name = {toml(name)}\nstrategy = "fedavg"\nn_clients = 2\nbeta = 1.0\n')
    told = command.refused("--grid", str(path), "--plan")
    assert all(character.isprintable() or character == "\n" for character in told)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.lower().startswith("ml")])
def test_a_recipe_of_a_hostile_name_is_refused(name: str, command: Command) -> None:
    path = command.home / "my.toml"
    path.write_text(f'strategy = "fedavg"\nn_clients = 2\nbeta = 1.0\n[recipes.{toml(name)}]\nseed = 1\n')
    assert "recipes" in command.refused("--grid", str(path), "--plan")


@pytest.mark.parametrize("name", NAMES, ids=ids)
@pytest.mark.parametrize("field", ["strategy", "partition"])
def test_a_strategy_or_partition_of_a_hostile_name_is_refused(field: str, name: str, command: Command) -> None:
    for written in (name, f"{name}:X", f"{name}(mu=1)"):
        assert field in command.refused(*options(f"{field}='{written}'"))


@pytest.mark.parametrize("name", ["../../x", "/", "~", "", "x" * 10_000, "caf\u00e9 \U0001f600", "[bold]", "/dev/null"])
def test_a_data_root_that_holds_no_data_is_refused(name: str, command: Command) -> None:
    for kind in ("mnist", "cifar10"):
        told = command.refused(*options(f"data.name={kind}", "data.size=16"), "--data-root", name)
        assert f"{kind}: files are missing or damaged" in told or "data-root" in told


@dataclass(frozen=True)
class Told(FedAvg):
    """FedAvg with a text that a person chose."""

    text: str = ""


HOSTILE = (
    r"\input{/etc/passwd} $x$ 100% a_b <script>alert(1)</script> [bold]x[/bold] [/red] & # ~ ^ " + "\u202e\U0001f600"
)


@pytest.fixture(scope="module")
def told_store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    strategy = {"name": f"{__name__}:Told", "text": HOSTILE}
    folder = tmp_path_factory.mktemp("results")
    return finished_store(folder, {"strategy": ["centralized", strategy], "n_clients": [3]})


def test_hostile_text_in_a_hyper_parameter_is_escaped_in_latex(told_store: Any) -> None:
    paths = reports.write_tables(told_store)
    latex = next(path for path in paths if path.name == "summary.tex").read_text()
    assert r"\input" not in latex.replace(r"\textbackslash{}input", "")
    assert r"\$x\$" in latex
    assert r"100\%" in latex
    assert latex.isascii()


def test_hostile_text_in_a_hyper_parameter_is_shown_letter_by_letter_in_the_terminal(told_store: Any) -> None:
    from rich.console import Console

    console = Console(width=2000, record=True, file=io.StringIO())
    console.print(reports.terminal_table(told_store))
    shown = console.export_text()
    assert "[bold]x[/bold] [/red]" in shown
    assert "\u202e" not in shown


def test_hostile_text_in_a_hyper_parameter_is_shown_by_the_plan(command: Command) -> None:
    path = command.home / "my.toml"
    path.write_text(
        "n_clients = 2\nbeta = 1.0\n[evaluation]\nn_samples = 2\n"
        f"[strategy]\nname = {toml(__name__ + ':Told')}\ntext = {toml('[bold]x[/bold] [/red]')}\n"
    )
    code, out, _ = command("--grid", str(path), "--plan")
    assert code == 0
    assert "[bold]x[/bold] [/red]" in out


# ------------------------------------------------------------------------------------------------ data files


def fill_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "three bytes": lambda path: path.write_bytes(b"\0\0\x08"),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "its last byte missing": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size)),
    "a folder": fill_folder,
    "gzip under the name of what it holds": lambda path: path.write_bytes(gzip.compress(path.read_bytes())),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path)),
    "words": lambda path: path.write_text("<html>404</html>"),
    "sides that would fill any memory": lambda path: path.write_bytes(b"\0\0\x08\x03" + b"\xff" * 12 + bytes(64)),
    "another type": lambda path: path.write_bytes(b"\0\0\x0e" + path.read_bytes()[3:]),
    "other counts": lambda path: write_idx(path, np.zeros((7, 28, 28) if "images" in path.name else 7)),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_damaged_mnist_file_is_one_clear_error(file: str, kind: str, command: Command) -> None:
    raw = write_mnist(command.home, "MNIST")
    DAMAGE[kind](raw / file)
    told = command.refused(*options("data.name=mnist", "data.test=10"), "--data-root", str(command.home))
    assert f"mnist: files are missing or damaged in {raw}" in told


class Payload:
    """Unpickled anywhere, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_pickle_that_is_not_the_published_file_is_refused_and_runs_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar(tmp_path, monkeypatch)
    mark, file = tmp_path / "ran", tmp_path / "cifar-10-batches-py" / name
    file.write_bytes(pickle.dumps({"data": Payload(mark), "labels": []}))
    with pytest.raises(DataUnavailable, match="cifar10: files are missing or damaged in"):
        load_dataset(DataConfig(name="cifar10", size=32, fit="none", test=10), tmp_path)
    assert not mark.exists()
    pickle.loads(file.read_bytes())
    assert mark.exists(), "the payload would have run"


WEIGHTS: dict[str, bytes] = {
    "empty": b"",
    "words": b"hello world",
    "lines with colons": b"root:x:0:0:root:/root:/bin/bash\n",
    "zeros": bytes(1000),
    "a zip of nothing": b"PK\x05\x06" + bytes(18),
    "a plain pickle": pickle.dumps({"a": 1}),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_file_that_holds_no_weights_is_one_clear_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(WEIGHTS[kind])
    with pytest.raises(ValueError, match="does not hold torch-fidelity's Inception weights"):
        load_extractor("inception-v3-compat", path)


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_weights_are_refused_and_run_nothing(zipped: bool, tmp_path: Path) -> None:
    path, mark = tmp_path / "weights.pth", tmp_path / "ran"
    torch.save({"a": Payload(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="does not hold torch-fidelity's Inception weights"):
        load_extractor("inception-v3-compat", path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["/", "../../x", "~/x", "x" * 10_000, "[bold]", "\u202e"])
def test_weights_that_are_not_there_are_one_clear_error(name: str, command: Command) -> None:
    told = command.refused(
        *options("evaluation.extractor=inception-v3-compat", f"evaluation.extractor_weights='{name}'")
    )
    assert "inception-v3-compat" in told


# -------------------------------------------------------------------------------------------- results folder

RUN = ["--grid", "smoke", "--no-mlflow", "--n-jobs", "1", "--set", "strategy=fedavg"]


def test_a_results_folder_that_cannot_be_is_refused(command: Command) -> None:
    file, loop = command.home / "file", command.home / "loop"
    file.write_text("kept")
    loop.symlink_to(loop)
    for results in (str(file), f"{file}/below", "/proc/nothing/here", "/dev/null/x", str(loop), f"{loop}/x"):
        assert "--results" in command.refused(*RUN, results=results)
    assert file.read_text() == "kept"


def test_a_sync_that_is_forbidden_at_once_is_refused(command: Command) -> None:
    told = command.refused(*RUN, "--sync-only")
    assert "--sync-only: it writes to MLflow, which --no-mlflow forbids; give one of them" in told


def test_a_results_folder_of_too_long_a_name_is_refused(command: Command) -> None:
    assert "--results" in command.refused(*RUN, results=str(command.home / ("x" * 10_000)))


def test_a_read_only_results_folder_is_refused(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = command.home / "results"
    folder.mkdir()
    make = Path.mkdir

    def read_only(path: Path, *arguments: Any, **named: Any) -> None:
        if folder in path.parents:
            raise OSError(30, "Read-only file system", str(path))
        make(path, *arguments, **named)

    monkeypatch.setattr(Path, "mkdir", read_only)
    assert "cannot be written" in command.refused(*RUN)


@pytest.mark.parametrize("name", ["with space", "caf\u00e9 \U0001f600", "[bold]x[", "-rf", "%s{}$HOME", "a\nb", "'\""])
def test_a_results_folder_of_an_odd_name_is_planned_in(name: str, command: Command) -> None:
    code, out, _ = command(*RUN, "--plan", results=str(command.home / name))
    assert code == 0
    assert "nothing was run" in out
