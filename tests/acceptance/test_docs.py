"""README and docs/ are true: each example in them is run or parsed, links lead somewhere, no name is left out.

A fence says what it holds. ``sh``: commands of ours are parsed by their own parsers; reports and comparisons are really
written, on results made up by formula; `NOT_RUN` names all others. ``toml``: a grid, or a part that belongs to
default.toml, or a part of pyproject.toml. ``python`` is executed. ``latex``: the files that it reads are there.
``text`` is no example, but what a command prints, or a tree of files.
"""

import contextlib
import functools
import importlib
import io
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

import partitions
import strategies
from bench import __main__ as entry
from bench.check.candidates import find
from bench.command import COMMANDS
from bench.config.fields import sections
from bench.config.grid_file import load_grid, parse_grid
from bench.config.grids import FOLDER, shipped_grids
from bench.report import write
from bench.tune.contenders import contenders
from tests.fake_store import finished_store
from tests.guard import ROOT
from tests.shortcuts import blank_pictures

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "results" / "README.md", *DOCS]
LANGUAGES = ("sh", "toml", "python", "latex", "text")
NOT_RUN = {  # lines of shell by their first words, and why
    "python3 -m venv": "makes an environment",
    "pip install": "installs",
    ".venv/bin/pip install": "installs",
    "../pfl/bin/pip install": "installs",
    ".venv/bin/pytest": "the tests",
    ".venv/bin/tox": "the tests",
    ".venv/bin/mlflow ui": "a server; tests/browser/ starts it",
    "sbatch": "a cluster's",
    "python tests/reliability/chaos.py": "an hour; tests/reliability/test_chaos.py runs it",
}
OF_OTHERS = {"--hypothesis-profile", "--nthreads"}  # options that pages name, of pytest and of Dask
MODULES = {command.module: name for name, command in COMMANDS.items()}


@dataclass(frozen=True)
class Example:
    """A fence of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def fences(page: Path) -> Iterator[Example]:
    text = page.read_text(encoding="utf-8")
    for fence in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Example(page, text[: fence.start()].count("\n") + 1, fence[1], fence[2])


EXAMPLES = [example for page in PAGES for example in fences(page)]


def examples(language: str) -> "pytest.MarkDecorator":
    chosen = [example for example in EXAMPLES if example.language == language]
    return pytest.mark.parametrize("example", chosen, ids=[example.name for example in chosen])


def lines(example: Example) -> list[str]:
    """Commands of a shell example, one each."""
    joined = example.text.replace("\\\n", " ").splitlines()
    return [part for line in joined for part in line.split(" && ") if shlex.split(part, comments=True)]


def ours(line: str) -> list[str] | None:
    """What of a line of shell are the arguments of ``feddiff-bench``; None if it is no command of ours."""
    words = shlex.split(line, comments=True)
    words = words[1:] if words[0] == "srun" else words
    if words[0] == "feddiff-bench":
        return words[1:]
    is_python = words[0] in ("python", ".venv/bin/python") and words[1] == "-m"
    return [MODULES[words[2]], *words[3:]] if is_python else None


def not_run(line: str) -> str | None:
    return next((words for words in NOT_RUN if line.startswith(words)), None)


# ------------------------------------------------------------------------------------------------------- none is left


def test_every_fence_says_what_it_holds_and_none_is_missed():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("```") == 2 * len(list(fences(page))), page
        outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        assert not re.search(r"\n\n {4,}\S", outside), f"{page}: an example without a fence"
    assert {example.language for example in EXAMPLES} == set(LANGUAGES)


def test_every_line_of_shell_is_run_or_named_as_not_run():
    every = [line for example in EXAMPLES if example.language == "sh" for line in lines(example)]
    run = [line for line in every if ours(line) is not None]
    written = [line for line in every if line.startswith("printf")]
    left = [line for line in every if not_run(line)]
    assert len(every) == len(run) + len(written) + len(left)
    assert {not_run(line) for line in left} == set(NOT_RUN)
    assert len(run) > 2 * len(left)
    assert {(ours(line) or [""])[0] for line in run} == {*COMMANDS, "--fields", "--version"}


# ------------------------------------------------------------------------------------------------------------- sh


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A working folder as the examples need it: finished results with tables, others beside them, a grid's file."""
    root = tmp_path_factory.mktemp("docs")
    for folder, name in (("here", "default"), ("here", "mnist"), ("other", "default")):
        finished_store(root / folder / "results", {"n_clients": [3]}, name=name)
    write.write_report(root / "here" / "results" / "default", write.Wishes(pictures=False))
    for page, file in (("grids.md", "my_grid.toml"), ("tuning.md", "my_tuning.toml")):
        (grid, *_) = (example for example in fences(ROOT / "docs" / page) if example.language == "toml")
        (root / "here" / file).write_text(grid.text, encoding="utf-8")
    return root / "here"


@pytest.fixture(autouse=True)
def search_path(monkeypatch) -> None:
    """The entry adds working folders to it."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def quick(monkeypatch) -> Iterator[None]:
    """Reports are tables and an empty page: figures are other tests'."""
    monkeypatch.setattr(write, "draw_all", lambda *_, **__: ([], {}, []))
    monkeypatch.setattr(write, "write_page", lambda contents, path, *_: path.touch() or path)
    with blank_pictures():
        yield


@examples("sh")
@pytest.mark.usefixtures("quick")
def test_a_shell_example_is_right(example, place, monkeypatch):
    monkeypatch.chdir(place)
    for line in lines(example):
        arguments = ours(line)
        if arguments is not None:
            assert feddiff_bench(arguments, monkeypatch) == 0, line
        elif line.startswith("printf"):
            subprocess.run(["bash", "-c", line], check=True)


def feddiff_bench(arguments: list[str], monkeypatch) -> int:
    """Run it, but for work that takes long: there what was asked is looked at."""
    name, *rest = arguments
    if name in ("run", "tune", "verify", "data", "speed", "train-extractor") or (
        name == "check" and "--list" not in rest
    ):
        monkeypatch.setattr(module(name), "work", functools.partial(look, name))
    try:
        return entry.main(arguments)
    except SystemExit as ended:  # --version, or a mistake
        return ended.code


def module(name: str):
    found = importlib.import_module(COMMANDS[name].module)
    return importlib.import_module(f"{COMMANDS[name].module}.__main__") if hasattr(found, "__path__") else found


def look(name: str, options) -> int:
    """In the place of a command's work: what its options name is there."""
    if name == "run":
        assert load_grid(options.grid, options.set).cells
    if name == "tune":
        assert contenders(load_grid(options.grid, options.set))
    if name == "check":
        assert all(find(text, options.kind) for text in options.names)
    if name == "verify":
        assert (options.results / "grid.json").is_file()
    return 0


def test_a_wrong_example_is_seen(monkeypatch, place, capsys):
    """Else the test above would show nothing."""
    monkeypatch.chdir(place)
    for wrong in ("run --grid default --set training.round=3", "run --grid other", "report --grid default --metrics fid,nll",
                  "check fedprox(nu=1)", "data mnist --download-all"):  # fmt: skip
        assert feddiff_bench(shlex.split(wrong, posix=True), monkeypatch) == 2, wrong
    capsys.readouterr()


# --------------------------------------------------------------------------------------------- toml, python, latex


@examples("toml")
def test_a_toml_example_is_a_grid_or_a_part_of_one(example):
    raw = tomllib.loads(example.text)
    if "project" in raw:
        assert raw["project"]["entry-points"].keys() <= {"bench.strategies", "bench.partitions"}
        return
    base = {} if "axes" in raw else tomllib.loads((FOLDER / "default.toml").read_text(encoding="utf-8"))
    assert parse_grid(base | raw, example.name, "example").cells


@examples("python")
def test_a_python_example_runs(example, place, monkeypatch):
    monkeypatch.chdir(place)
    names: dict = {"__name__": "example"}
    exec(compile(example.text, example.name, "exec"), names)
    for made in names.values():
        if isinstance(made, type) and made.__module__ == "example":
            assert issubclass(made, strategies.Strategy | partitions.Partition)
            made()


@examples("latex")
def test_a_latex_example_reads_files_that_a_report_writes(example, place):
    files = re.findall(r"\\input\{(.*?)\}", example.text)
    assert files
    for file in files:
        assert (place / "results" / "default" / f"{file}.tex").is_file(), file


# --------------------------------------------------------------------------------------------------------- options


@functools.cache
def options_of(name: str) -> set[str]:
    """Options of a command, by its --help; of the entry itself for ""."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        entry.main([name, "--help"] if name else ["--help"])
    return set(re.findall(r"--[a-z][a-z-]*", said.getvalue()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_between_backticks_exist(page):
    known = set().union(OF_OTHERS, *map(options_of, ["", *COMMANDS]))
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`\n]+)`", text):
        asked = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", code))
        if code.startswith("feddiff-bench ") and not code.startswith("feddiff-bench --"):
            assert asked <= options_of(code.split()[1]), code
        assert asked <= known, code
        for name in re.findall(r"python -m ([\w.]+)", code):
            assert find_spec(name) is not None, code


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "train-extractor"])  # nobody needs that one's
def test_every_option_is_in_a_page(name):
    told = " ".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert options_of(name) - set(re.findall(r"(?<!\S)`?(--[a-z][a-z-]*)", told)) == set()


# ----------------------------------------------------------------------------------------------------------- names


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def rows(text: str) -> set[str]:
    """What stands between backticks in the first column of tables, without parameters."""
    first = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for column in first for name in re.findall(r"`([\w.-]+)", column)}


def test_every_shipped_strategy_partition_grid_and_section_has_a_row():
    assert set(strategies.registry.names()) <= rows(page("strategies.md"))
    assert set(partitions.registry.names()) <= rows(page("partitions.md"))
    assert set(shipped_grids()) <= rows(page("grids.md"))
    assert set(sections()) <= rows(page("grids.md"))


# ----------------------------------------------------------------------------------------------------------- README


def test_readme_is_a_front_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 160
    assert text.count("![") == 1
    onward = text[text.index("## Where to go next") :]
    assert set(re.findall(r"\]\((docs/\w+\.md)\)", onward)) == {f"docs/{page.name}" for page in DOCS}


def test_the_commands_of_readme_are_those_that_ci_runs():
    main_job, tests = list(fences(ROOT / "README.md"))[:2]
    assert main_job.text.endswith("&& .venv/bin/python -m bench.grid --grid default\n")
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == tests.text.strip()


# ------------------------------------------------------------------------------------------------------------ links


def headings(page: Path) -> set[str]:
    """Anchors as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        assert not anchor or anchor in headings(file), target


REGISTRIES = r"(pypi|pythonhosted|anaconda|npmjs|crates|conda-forge)\.(org|com|io)|download\.pytorch\.org"
WHERE = (".ci", "bench", "docs", "partitions", "results/record", "strategies", "tests")


def test_no_file_names_a_registrys_host():
    """But for tox.ini, which says what `audit` asks."""
    files = [path for path in ROOT.iterdir() if path.is_file()] + [ROOT / "results" / "README.md"]
    files += [path for folder in WHERE for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = {path: path.read_bytes().decode(errors="replace") for path in files if path.suffix != ".pyc"}
    assert [str(path.relative_to(ROOT)) for path, text in texts.items() if re.search(REGISTRIES, text)] == ["tox.ini"]
