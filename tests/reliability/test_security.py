"""What lies in results, checkpoints, grids and names cannot run code, be seen by others, or reach the network."""

import ast
import hashlib
import io
import pickle
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from rich.console import Console
from safetensors import SafetensorError

from bench.cell.setting import Setting, load_data
from bench.command import terminal_text
from bench.config.grid_file import load_grid
from bench.federation.client_states import ClientStates
from bench.fidelity import mnist_cnn as mnist
from bench.fidelity.extractors import load_extractor
from bench.report.tables.latex import escape
from bench.report.tracking.tracker import Tracker
from bench.store.cell_folder import CellFolder
from bench.store.files import Damaged
from bench.store.grid_folder import Store
from bench.store.states import load_state, read_tensors
from tests import reports
from tests.fake_store import DATA, EXTRACTOR, finished_store, run_cell
from tests.guard import ROOT, run_guarded

ROOMS = ("bench", "strategies", "partitions")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
CPU = torch.device("cpu")

# ------------------------------------------------------------------------------------------ what the source may call

NEVER = {  # the name that is called, and why
    "pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "dill.loads", "cloudpickle.load",
    "cloudpickle.loads", "marshal.load", "marshal.loads", "shelve.open", "joblib.load", "pandas.read_pickle",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec", "compile", "os.system", "os.popen",
    "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter",
}  # fmt: skip
UNLESS = {  # calls that are safe with this keyword alone
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
}


def offences(source, file="bench/some.py"):
    """Calls and uses in the source by which data become code, or texts become commands.

    Data that are published as pickles are torchvision's to read: it compares MD5 sums first.
    """
    tree = ast.parse(source)
    names = _imported(tree)
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name | ast.Attribute):
            continue
        name = _dotted(node, names)
        if name in NEVER:
            yield f"{file}:{node.lineno}: {name}"
        if name in UNLESS and not _has(called.get(id(node)), *UNLESS[name]):
            yield f"{file}:{node.lineno}: {name} without {UNLESS[name][0]}={UNLESS[name][1]}"
    for call in called.values():
        given_here = {keyword.arg: keyword.value for keyword in call.keywords}
        if "shell" in given_here and not _has(call, "shell", False):
            yield f"{file}:{call.lineno}: shell"


def _imported(tree):
    """What names in the module stand for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                (a.asname or a.name.split(".")[0]): (a.name if a.asname else a.name.split(".")[0]) for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            names |= {(a.asname or a.name): f"{node.module}.{a.name}" for a in node.names}
    return names


def _dotted(node, names):
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def _has(call, keyword, value):
    found = [k.value for k in call.keywords if k.arg == keyword] if call is not None else []
    return bool(found) and isinstance(found[0], ast.Constant) and found[0].value is value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_makes_code_of_data(path):
    assert list(offences(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.loads(b'')",
        "from pickle import loads as f\nf(b'')",
        "import pickle as p\nread = p.load",
        "import pickle\nclass Reader(pickle.Unpickler): pass",
        "import torch\ntorch.load(path)",
        "import torch as t\nt.load(path, weights_only=False)",
        "from torch import load\nread = load",
        "import torch\ntorch.load(path, weights_only=flag)",
        "import numpy as np\nnp.load(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import joblib\njoblib.load(path)",
        "import pandas as pd\npd.read_pickle(path)",
        "import yaml\nyaml.load(text)",
        "import marshal, shelve\nshelve.open(path)",
        "eval(text)",
        "exec(text)",
        "import os\nos.system(text)",
        "import subprocess\nsubprocess.run(text, shell=True)",
    ],
)
def test_the_audit_sees(source):
    assert list(offences(source))


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path, weights_only=True)",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import subprocess\nsubprocess.run(['a'], shell=False)",
        "net.eval()\nimport re\nre.compile('a')",
    ],
)
def test_the_audit_lets_pass(source):
    assert not list(offences(source))


# ------------------------------------------------------------------------------------------ what writes files


WRITERS = {  # what may write a file other than by `bench.store.files.write_bytes`, and why
    "bench/store/files.py": {"os.fdopen"},  # the writer itself
    "bench/store/cell_folder.py": {"open a", "open r+b"},  # logs grow by lines, and are cut to what a checkpoint knows
    "bench/cell/run.py": {"open w"},  # where threads stood when time was up; a log for people
    "bench/fidelity/train_mnist_cnn.py": {
        ".write_bytes",
        ".write_text",
    },  # makes the shipped extractor; no part of a run
}
SAVERS = ("torch.save", "safetensors.torch.save_file", "numpy.save", "numpy.savez", "numpy.savetxt", "os.fdopen")


def writes(source):
    """Every call in the source that puts bytes into a file by its name."""
    tree = ast.parse(source)
    names = _imported(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = _dotted(call.func, names)
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        modes = [a.value for a in (*call.args, *(k.value for k in call.keywords)) if isinstance(a, ast.Constant)]
        if name in SAVERS:
            yield name
        elif method in ("write_text", "write_bytes"):
            yield f".{method}"
        elif "open" in (name, method) and (
            found := [m for m in modes if re.fullmatch("[rwax+bt]*[wax+][bt+]*", str(m))]
        ):
            yield f"open {found[0]}"
        elif method in ("savefig", "save", "to_csv", "to_json") and call.args and not _is_buffer(call.args[0]):
            yield f".{method}"


def _is_buffer(node):
    """A file in memory by its name here, or something that is saved elsewhere: a run, by its checkpoint."""
    target = node.target if isinstance(node, ast.NamedExpr) else node
    return isinstance(target, ast.Name) and target.id in ("buffer", "run")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_written_whole_by_one_function(path):
    found = set(writes(path.read_text(encoding="utf-8")))
    assert found <= WRITERS.get(path.relative_to(ROOT).as_posix(), set())


@pytest.mark.parametrize(
    "source",
    [
        "path.write_text('a')",
        "open(path, 'w')",
        "path.open(mode='ab')",
        "from safetensors.torch import save_file as s\ns({}, path)",
        "figure.savefig(path)",
        "image.save(path)",
        "frame.to_csv(path)",
    ],
)
def test_half_written_files_are_seen(source):
    assert list(writes(source))


# ------------------------------------------------------------------------------------------ hostile files


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def hostile(kind, path, mark):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Payload(mark)))
    else:
        torch.save({"weight": Payload(mark)}, path, _use_new_zipfile_serialization=kind == "torch zip")
    return path


HOSTILE = ["pickle", "torch zip", "torch"]


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_payload_would_run(tmp_path, kind):
    """Else the tests below would pass whatever is loaded."""
    path = hostile(kind, tmp_path / "file", tmp_path / "mark")
    if kind == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert (tmp_path / "mark").exists()


@pytest.fixture(scope="module")
def cell():
    small = [
        "data.limit=60",
        "data.validation=20",
        "data.test=20",
        "latent.mode=central",
        "latent.width=16",
        "strategy=fedavg",
    ]
    (made,) = load_grid("smoke", small).cells
    return made, load_data(made, None)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_weights_are_refused_and_do_not_run(tmp_path, cell, kind):
    hostile(kind, tmp_path / "weights.safetensors", tmp_path / "mark")
    with pytest.raises(Damaged, match="SafetensorError"):
        Setting(*cell, "cpu", CellFolder(tmp_path), tmp_path).model()
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["autoencoder.safetensors", "samples.safetensors", "curve.safetensors"])
def test_other_hostile_tensors_are_refused_and_do_not_run(tmp_path, kind, name):
    with pytest.raises(Damaged, match="SafetensorError"):
        read_tensors(hostile(kind, tmp_path / name, tmp_path / "mark"), sealed=False)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_caches_are_refused_and_do_not_run(tmp_path, kind):
    with pytest.raises(Damaged):
        read_tensors(hostile(kind, tmp_path / "cache.safetensors", tmp_path / "mark"))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_checkpoints_and_clients_states_are_refused_and_do_not_run(tmp_path, kind):
    path = hostile(kind, tmp_path / "0-0.safetensors", tmp_path / "mark")
    with pytest.raises((ValueError, SafetensorError)):
        load_state(path, CPU)
    with pytest.raises((ValueError, SafetensorError)):
        ClientStates(tmp_path, CPU).restore({"0": path.name})
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_extractors_are_refused_and_do_not_run(tmp_path, kind):
    path = hostile(kind, tmp_path / "extractor.pth", tmp_path / "mark")
    with pytest.raises(ValueError, match=r"extractor\.pth"):
        load_extractor("inception-v3-compat", path)
    with pytest.raises(SafetensorError):
        mnist.load(path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert not (tmp_path / "mark").exists()


# ------------------------------------------------------------------------------------------ who can see the servers


DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
SERVERS = re.compile(r"\bmlflow (ui|server)\b|\bdask (scheduler|worker)\b|\bray start\b|\bhttp\.server\b")


def open_servers(text):
    """Commands in a document, in code blocks or between backticks, that start a server others can reach."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, re.M | re.S)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    indented = re.findall(r"^ {4}(.*)", text, re.M)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()] + inline + indented
    return [
        line for line in lines if SERVERS.search(line) and not re.search(r"--host[ =](127\.0\.0\.1|localhost)\b", line)
    ]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_servers_that_documents_start_are_seen_by_this_machine_alone(name):
    assert open_servers((ROOT / name).read_text(encoding="utf-8")) == []


def test_an_open_server_in_a_document_is_seen():
    text = "Say `mlflow server`.\n```sh\nmlflow ui --host 0.0.0.0\nmlflow ui \\\n --host 127.0.0.1\n```\n    ray start --head\n"
    assert open_servers(text) == ["mlflow ui --host 0.0.0.0", "mlflow server", "ray start --head"]


def test_the_hint_after_a_run_is_for_this_machine_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    hint = Tracker(Store(tmp_path / "grid")).hint()
    assert hint.startswith("mlflow ui")
    assert open_servers(f"`{hint}`") == []


# ------------------------------------------------------------------------------------------ the network


def test_the_guard_sees_and_refuses(tmp_path):
    """Else a grid under guard would show nothing: `tests/acceptance/test_grid.py`."""
    done = run_guarded(tmp_path, "-c", "import socket; socket.create_connection(('127.0.0.1', 9))")
    assert "the network is forbidden" in done.stderr
    assert "socket.getaddrinfo" in (tmp_path / "tried").read_text()


# ------------------------------------------------------------------------------------------ names that are code elsewhere


# What `escape` may leave of TeX: commands without arguments that print one character, and groups around one.
TOKEN = re.compile(r"\\(?:text\w+)\{\}|\\[&%$#_{}]|\{[\[\]*]\}|[^\\{}$&#^_~%\[\]*<>|]")
PRINTED = {
    r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^",
    r"\textless{}": "<", r"\textgreater{}": ">", r"\textbar{}": "|",
}  # fmt: skip


def is_latin_letter(character):
    """Whether pdflatex prints this letter of Latin-1 in any font: an ASCII letter with an accent, or one of five."""
    accented = unicodedata.normalize("NFD", character)
    return "À" <= character <= "ÿ" and ((len(accented) == 2 and accented[0].isascii()) or character in "ÆØßæø")


@given(st.text())
@example("\\input{/etc/passwd}")
@example("\\\\[3cm]*%\n\n\\par}{$^_~#&")
@example("\x00\x1b]0;title\x07\x7f\f\v\t\r")
@example("".join(map(chr, range(256))))
def test_escaped_text_has_no_active_character_and_reads_as_it_was(text):
    escaped = escape(text)
    tokens = TOKEN.findall(escaped)
    assert "".join(tokens) == escaped
    assert escaped.isprintable()
    assert all(c.isascii() or is_latin_letter(c) for c in escaped)
    read = "".join(PRINTED.get(t) or t.strip("{}" if len(t) == 3 else "").removeprefix("\\") for t in tokens)
    blank = text.translate(dict.fromkeys(map(ord, "\t\n\v\f\r"), " "))
    assert read.replace("{", "").replace("}", "") == "".join(
        c if (c.isascii() and c.isprintable()) or is_latin_letter(c) else "?" for c in blank
    ).replace("{", "").replace("}", "")


@given(st.text())
@example("[bold]loud[/bold] [/nothing] [link=http://x]here[/link]")
@example("\x1b[2J\x1b]0;title\x07 \u202eright to left")
@example("ends in a backslash\\")
def test_text_in_a_terminal_table_is_read_and_not_obeyed(text):
    shown = terminal_text(text)
    assert shown.plain == "".join(c if c.isprintable() else "?" for c in text)
    assert not shown.spans
    Console(file=(out := io.StringIO()), force_terminal=True, color_system=None).print(shown, soft_wrap=True)
    assert out.getvalue().rstrip("\n").replace(" ", "").isprintable()


HOSTILE_NAMES = (
    "[x]*\\input{/etc/passwd}",
    "$x^2_1$ & 50% #1 ~ {unbalanced",
    "\\\\[3cm] \n\n\\par \x00\x1b]0;title\x07\x7f",
    "[bold]β ü 漢 <script>|</script> [/x]",
)


@pytest.fixture(scope="module")
def hostile_store(tmp_path_factory):
    """Results in whose every text there are commands."""
    names = iter(HOSTILE_NAMES * 20)
    store = finished_store(tmp_path_factory.mktemp("hostile"), {"seed": [0]})
    plan = store.plan() | {"name": HOSTILE_NAMES[2] + "é٣", "extra_axes": ["recipe", HOSTILE_NAMES[0]]}
    for cell in plan["cells"]:
        cell["labels"] |= {"recipe": next(names), HOSTILE_NAMES[0]: next(names)}
        if cell["labels"]["n_clients"] is not None:
            cell["labels"]["strategy"] = next(names)
    store.write_plan(plan)
    for cell in store.planned():
        data = DATA | {"name": HOSTILE_NAMES[3]}
        run_cell(store, cell, data=data, extractor=EXTRACTOR | {"name": HOSTILE_NAMES[1], "digest": HOSTILE_NAMES[0]})
    return store


def test_a_hostile_stores_terminal_table_is_text(hostile_store):
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=1000, color_system=None).print(reports.terminal_table(hostile_store))
    assert r"[x]*\input{/etc/passwd}" in out.getvalue()
    assert "[bold]β ü 漢" in out.getvalue()
    assert "\x1b]0" not in out.getvalue()
    assert "\x00" not in out.getvalue()


def test_a_hostile_stores_latex_compiles_and_obeys_nothing(hostile_store, tmp_path):
    reports.write_tables(hostile_store)
    shutil.copy(hostile_store.root / "tables" / "summary.tex", tmp_path / "table.tex")
    packages = r"\usepackage{array,booktabs,graphicx}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}\input{{table.tex}}\end{{document}}"
    (tmp_path / "document.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-recorder", "document.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "/etc/passwd" not in (tmp_path / "document.fls").read_text()
    assert (tmp_path / "document.pdf").stat().st_size > 0
