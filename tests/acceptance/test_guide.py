"""docs/writing_a_strategy.md is true: its code is the example's, its commands work, its claims are what the check says."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest

import strategies
from bench.check import __main__ as check
from bench.grid import main
from docs.example_strategy import Damped
from tests.laws.small import on_small_net

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "writing_a_strategy.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def test_the_code_is_the_examples():
    example = (ROOT / "docs" / "example_strategy.py").read_text(encoding="utf-8")
    (code,) = blocks("python")
    without_docstring = re.sub(r'    """.*?"""\n\n', "", example[example.index("@dataclass") :], flags=re.DOTALL)
    assert code[code.index("@dataclass") :] == without_docstring
    imports = code[: code.index("@dataclass")]
    assert imports.strip() in example


def test_the_example_keeps_its_claims(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert '"docs.example_strategy:Damped(rate=0.5)"' in blocks("sh")[0]
    with on_small_net():  # on the U-Net: `tests/laws/test_check.py`
        assert check.main(["docs.example_strategy:Damped(rate=0.5)"]) == 0
    assert "0 are broken" in capsys.readouterr().out


@dataclass(frozen=True)
class Overclaiming(Damped):
    convex: ClassVar[bool] = True
    alone_is_centralized: ClassVar[bool] = True


def test_with_all_claims_on_the_check_says_what_the_guide_says(capsys):
    with on_small_net():
        assert check.main([f"{__name__}:Overclaiming(rate=0.5)"]) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if "broken" in line and "│" in line]
    assert any("mean by images" in line for line in told)
    assert any("alone" in line for line in told)


@pytest.mark.usefixtures("here")
def test_the_example_runs_beside_others(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    (chosen,) = re.findall(r'--set "(strategy=.*?)"', blocks("sh")[0])
    tiny = [
        "data.limit=60",
        "data.validation=20",
        "data.test=20",
        "evaluation.n_samples=10",
        "training.rounds=1",
        "partition=iid",
    ]
    sets = [part for text in (chosen, *tiny) for part in ("--set", text)]
    arguments = [
        "--grid",
        "smoke",
        "--results",
        str(tmp_path),
        "--n-jobs",
        "1",
        "--no-mlflow",
        "--quiet",
        "--tables-only",
        *sets,
    ]
    assert main(arguments) == 0
    rows = pd.read_csv(tmp_path / "smoke" / "tables" / "cells.csv")
    assert len(rows) == 4
    assert rows["weight_hash"].nunique() == 4


def test_every_claim_is_in_the_guide():
    claims = {name for name, value in vars(strategies.Strategy).items() if isinstance(value, bool)} | {"zero"}
    table = GUIDE[GUIDE.index("## Claims and laws") :]
    assert set(re.findall(r"^\| `([a-z_]+)`", table, re.MULTILINE)) == claims - {
        "centralized",
        "matched",
        "any_network",
        "partial_work",
    }
