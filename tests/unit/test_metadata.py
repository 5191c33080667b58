"""License, citation and the package's metadata agree with each other and with the code."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import bench
from bench.config.ids import TRAINING_VERSION
from bench.store.records import RESULT_VERSION

ROOT = Path(__file__).parents[2]
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # SHA-256 of the published text


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_license_is_the_published_text_and_goes_with_the_package(project):
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE", "NOTICE"]
    assert "Copyright 2026 The federated-diffusion-bench authors" in (ROOT / "NOTICE").read_text(encoding="utf-8")


def test_the_citation_is_of_this_version(project):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what the schema requires
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["title"] == project["name"]
    assert citation["abstract"] == project["description"]
    assert citation["version"] == bench.__version__
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]


def test_the_changelog_says_what_every_version_of_results_changed():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d*) ?\| [0-9a-f]{7} \| \S", text, re.MULTILINE)
    assert [int(result) for result, _ in rows] == list(range(1, RESULT_VERSION + 1))
    assert int(rows[-1][1]) == TRAINING_VERSION
    assert bench.__version__ in text


def test_the_pythons_that_are_promised_are_those_that_tox_can_try(project):
    promised = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    assert promised == ["3.11", "3.12", "3.13"]
    assert project["requires-python"] == f">={promised[0]}"
    tried = ", ".join(f"py{version.replace('.', '')}" for version in promised)
    assert f"labels = pythons = {tried}\n" in (ROOT / "tox.ini").read_text(encoding="utf-8")
