"""Whatever a grid file or a --set holds: a grid, or one clear ConfigError, never another exception."""

import copy
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.config.cell import field_names, flatten
from bench.config.errors import ConfigError
from bench.config.expand import MOST_CELLS
from bench.config.grid_file import Grid, load_grid, parse_grid
from bench.config.grids import FOLDER, shipped_grids
from tests.fake_store import SETTINGS

AXES = {"strategy": ["fedavg"], "n_clients": [2], "beta": [1.0]}
HEAD = '[axes]\nstrategy = ["fedavg"]\nn_clients = [2]\nbeta = [1.0]\n'
SECTIONS = sorted({name.partition(".")[0] for name in field_names() if "." in name})


def outcome(load: Callable[[], Grid]) -> str:
    """The error's text, "" for a grid; any exception but a ConfigError fails the test."""
    try:
        grid = load()
    except ConfigError as error:
        told = str(error)
        assert 10 < len(told) < 10_000
        assert "Traceback" not in told
        assert all(character.isprintable() or character == "\n" for character in told)
        return told
    assert grid.cells
    return ""


# ------------------------------------------------------------------------------------------- files on disk

BROKEN: dict[str, bytes] = {
    "no bytes": b"",
    "blanks alone": b" \n\t\n",
    "a comment alone": b"# nothing",
    "cut in a text": b'name = "sm',
    "cut in a list": b"[axes]\nseed = [0, 1",
    "cut in a header": b"[axes",
    "cut behind the equals sign": b"name =",
    "binary": bytes(range(256)),
    "an ELF file": b"\x7fELF\x02\x01\x01" + bytes(64),
    "zeros": bytes(4096),
    "a NUL in a text": b'name = "a\x00b"',
    "an escaped NUL in the name": b'name = "a\\u0000b"\n' + HEAD.encode(),
    "a byte order mark": b"\xef\xbb\xbf" + HEAD.encode(),
    "UTF-16": HEAD.encode("utf-16"),
    "Latin-1": 'name = "caf\xe9"'.encode("latin-1"),
    "half a surrogate": b'name = "\\ud800"',
    "a list 10,000 deep": b"x = " + b"[" * 10_000 + b"]" * 10_000,
    "a list 10,000 deep, cut": b"x = " + b"[" * 10_000,
    "a table 10,000 deep": b"x = " + b"{a=" * 10_000 + b"1" + b"}" * 10_000,
    "dotted 5,000 deep": b".".join([b"a"] * 5_000) + b" = 1",
    "a header 5,000 deep": b"[" + b".".join([b"a"] * 5_000) + b"]",
    "a list 100 deep in an axis": b"[axes]\nbeta = " + b"[" * 100 + b"]" * 100,
    "a key twice": b'name = "a"\nname = "b"',
    "a table twice": b"[data]\n[data]",
    "a key and a table": b"data = 1\n[data]\nsize = 16",
    "a date for a number": HEAD.replace("1.0", "1979-05-27").encode(),
    "a time for a name": b"name = 07:32:00\n" + HEAD.encode(),
    "a day that is not": b"name = 2023-02-30",
    "a date in a hyper-parameter": HEAD.replace('"fedavg"', '"fedprox(mu=1979-05-27)"').encode(),
    "an int of 5,000 digits": b"seed = " + b"9" * 5_000,
    "an int of 5,000 hexadecimal digits": b"seed = 0x" + b"f" * 5_000 + b"\n" + HEAD.encode(),
    "an int of 20,000 bits in a hyper-parameter": HEAD.replace(
        '"fedavg"', f'{{name = "fedprox", mu = 0x{"f" * 5_000}}}'
    ).encode(),
    "1e400": HEAD.replace("1.0", "1e400").encode(),
    "nan": HEAD.replace("1.0", "nan").encode(),
    "-inf": HEAD.replace("1.0", "-inf").encode(),
    "inf in a hyper-parameter": HEAD.replace("fedavg", "fedprox(mu=inf)").encode(),
    "nan in a list of a hyper-parameter": HEAD.replace(
        '"fedavg"', '{name = "flower", params = {settings = {a = [nan]}}}'
    ).encode(),
    "JSON": b'{"axes": {"strategy": ["fedavg"]}}',
    "YAML": b"axes:\n  strategy: [fedavg]\n",
    "an INI file": b"[axes]\nstrategy = fedavg\n",
    "HTML": b"<html><script>alert(1)</script></html>",
    "axes as a list": b"axes = [1, 2]",
    "axes as a text": b'axes = "strategy"',
    "an axis that is no list": HEAD.replace("[2]", "2").encode(),
    "an empty axis": HEAD.replace("[2]", "[]").encode(),
    "tables as an axis's values": HEAD.replace("[2]", "[{a = 1}]").encode(),
    "an unknown axis": HEAD.encode() + b"betas = [1]\n",
    "recipes as a list": b"recipes = [1]\n" + HEAD.encode(),
    "a recipe that is no table": b"recipes.a = 1\n" + HEAD.encode(),
    "a recipe with a path for a name": b'[recipes."../../x"]\nseed = 1\n' + HEAD.encode(),
    "exclude as a table": b"exclude = {a = 1}\n" + HEAD.encode(),
    "an empty exclusion": b"exclude = [{}]\n" + HEAD.encode(),
    "an exclusion of nothing there": HEAD.encode() + b"[[exclude]]\nseed = 77\n",
    "an exclusion of all": HEAD.encode() + b'[[exclude]]\nstrategy = "fedavg"\n',
    "a section that is no table": b"training = 3\n" + HEAD.encode() + b'"training.rounds" = [1, 2]\n',
    "hyper-parameters that are no table": HEAD.replace('"fedavg"', '{name = "fedavg", params = 3}').encode(),
    "more behind the brackets of a label": HEAD.replace('"fedavg"', '"fedprox(mu=0.1}\\ny={a=1)"').encode(),
    "a strategy that is a number": HEAD.replace('"fedavg"', "1").encode(),
    "a strategy that is a list": HEAD.replace('"fedavg"', '["fedavg"]').encode(),
    "a strategy of 10,000 letters": HEAD.replace("fedavg", "a" * 10_000).encode(),
    "a strategy of 10,001 letters": HEAD.replace("fedavg", "a" * 10_001).encode(),
    "a name in Cyrillic": 'name = "\u0430"\n'.encode() + HEAD.encode(),
    "a name that turns the line": 'name = "\u202eabc"\n'.encode() + HEAD.encode(),
    "the name of MLflow's database": b'name = "mlflow.db"\n' + HEAD.encode(),
    "escape codes": b'name = "\\u001b[31mred"\n' + HEAD.encode(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_one_clear_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(BROKEN[kind])
    assert str(path) in outcome(lambda: load_grid(str(path)))


def test_what_is_no_file_is_one_clear_error(tmp_path: Path) -> None:
    loop = tmp_path / "loop.toml"
    loop.symlink_to(loop)
    (tmp_path / "dangling.toml").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    names = ["loop.toml", "dangling.toml", "folder.toml", "pipe.toml", "n" * 10_000 + ".toml", "a\0b.toml", "smoke\n"]
    for name in [
        *(str(tmp_path / name) for name in names),
        "",
        ".",
        "..",
        "~",
        "/",
        "/dev/null",
        "/dev/zero",
        "[bold]",
    ]:
        assert outcome(lambda name=name: load_grid(name)).startswith("--grid ")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_file_without_permission_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "closed.toml"
    path.write_text(HEAD)
    path.chmod(0)
    assert "cannot be read" in outcome(lambda: load_grid(str(path)))


def test_a_file_that_cannot_be_opened_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "closed.toml"
    path.write_text(HEAD)

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert f"{path}: cannot be read" in outcome(lambda: load_grid(str(path)))


@pytest.mark.parametrize("name", shipped_grids())
def test_a_shipped_grid_cut_anywhere_is_a_grid_or_one_clear_error(name: str, tmp_path: Path) -> None:
    whole, path = (FOLDER / f"{name}.toml").read_bytes(), tmp_path / f"{name}.toml"
    for length in range(0, len(whole), max(1, len(whole) // 12)):
        path.write_bytes(whole[:length])
        outcome(lambda: load_grid(str(path)))


def test_a_grid_of_absurdly_many_cells_is_refused_with_its_number_before_it_is_expanded() -> None:
    many = {"client.lr": 0.001, "training.failures": 0.001, "training.stragglers": 0.001, "ema.decay": 0.001}
    many |= {"sampler.eta": 0.001, "model.dropout": 0.001, "diffusion.label_dropout": 0.001, "beta": 1, "seed": 1}
    axes = {key: [step * k for k in range(1, 101)] for key, step in many.items()} | {"n_clients": list(range(1, 101))}
    told = outcome(lambda: parse_grid({"strategy": "fedavg", "axes": axes}, "my.toml", "my"))
    assert f"{100**10:,} cells" in told
    assert f"{MOST_CELLS:,} are allowed" in told
    many_set = [
        "strategy=fedavg",
        *(f"{key}={','.join(map(str, range(1, 401)))}" for key in ("seed", "training.rounds")),
    ]
    assert f"{400**2:,} cells" in outcome(lambda: load_grid("smoke", many_set))


# ------------------------------------------------------------------------------------------------- random trees

TEXTS = st.one_of(
    st.sampled_from(["fedavg", "fedprox(mu=0.1)", "fedprox(mu=", "centralized", "dirichlet", "../../x", "[bold]", ""]),
    st.text(max_size=12),
)
SCALARS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, 2, 2**63, 2**4000, 1e300, 1e-300, 0.1]),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.datetimes(),
    st.times(),
    TEXTS,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(SECTIONS) | TEXTS, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([*field_names(), *SECTIONS, "axes", "recipes", "exclude", "name", "description"]) | TEXTS
TREES = st.dictionaries(KEYS, VALUES, max_size=4)


@given(TREES)
@settings(max_examples=150)
def test_any_tree_is_a_grid_or_one_clear_error(tree: dict[str, Any]) -> None:
    outcome(lambda: parse_grid(tree, "my.toml", "my"))


@given(TREES, st.dictionaries(st.sampled_from(field_names()), st.lists(VALUES, max_size=2) | VALUES, max_size=2))
@settings(max_examples=150)
def test_anything_added_to_a_good_grid_is_a_grid_or_one_clear_error(tree: dict[str, Any], axes: dict[str, Any]) -> None:
    outcome(lambda: parse_grid({**SETTINGS, **tree, "axes": AXES | axes}, "my.toml", "my"))


@given(st.sampled_from(shipped_grids()), st.data())
@settings(max_examples=120)
def test_a_shipped_grid_changed_at_one_place_is_a_grid_or_one_clear_error(name: str, data: st.DataObject) -> None:
    tree = copy.deepcopy(tomllib.loads((FOLDER / f"{name}.toml").read_text()))
    tree["axes"] = {key: values[:1] if isinstance(values, list) else values for key, values in tree["axes"].items()}
    tree.pop("exclude", None)
    path = data.draw(st.sampled_from([key for key, _ in flatten(tree)])).split(".")
    for part in path[:-1]:
        if not isinstance(tree.get(part), dict):  # a recipe's name may hold dots
            return
        tree = tree[part]
    root = copy.deepcopy(tree)
    root[path[-1]] = data.draw(VALUES)
    outcome(lambda: parse_grid(root if len(path) == 1 else {**SETTINGS, "axes": AXES, path[0]: root}, "my.toml", "my"))


@given(
    st.sampled_from(field_names()) | TEXTS, st.text(max_size=20) | st.text("[]{}()\"',=.0123456789einfa\n", max_size=20)
)
@settings(max_examples=300)
def test_any_override_is_a_grid_or_one_clear_error(key: str, value: str) -> None:
    outcome(lambda: parse_grid({**SETTINGS, "axes": AXES}, "my.toml", "my", [f"{key}={value}"]))


@pytest.mark.parametrize(
    "text",
    [
        "beta=" + "[" * 5_000 + "]" * 5_000,
        "beta=" + "[" * 5_000,
        "seed=" + "9" * 5_000,
        "seed=0x" + "f" * 5_000,
        "seed=1\nname='x'",
        "strategy=fedprox(mu=inf)",
        "strategy=fedprox(mu=0x" + "f" * 5_000 + ")",
        "strategy=fedprox(mu=" + "[" * 5_000 + "]" * 5_000 + ")",
        "strategy=" + "a" * 10_000,
        "a" * 10_000 + "=1",
        "=",
        "",
        "=1",
        "beta",
        "beta=",
        "beta=,",
        "beta=1,,2",
        "training={rounds=1}",
        "axes.beta=1",
        "name=../../x",
        "recipe=[bold]",
        "beta=\x1b[31m1",
        "evaluation.extractor_weights=" + "a" * 10_001,
    ],
    ids=lambda text: ascii(text[:25]),
)
def test_a_hostile_override_is_one_clear_error(text: str) -> None:
    assert outcome(lambda: parse_grid({**SETTINGS, "axes": AXES}, "my.toml", "my", [text]))
