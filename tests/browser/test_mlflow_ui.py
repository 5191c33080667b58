"""MLflow's own user interface, served on this machine, shows what a sync sent.

Nothing may be asked of other hosts. Errors on MLflow's console are its own and let pass: it asks its server for a user
that a server without accounts does not have.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient
from playwright.sync_api import Locator, Page, expect
from safetensors.torch import save

from bench.report.tracking.tracker import Tracker
from bench.store.files import write_bytes
from bench.store.grid_folder import Store
from tests import fake_store
from tests.browser.conftest import WAIT

pytestmark = pytest.mark.xdist_group("browser")

START_WITHIN = 60  # seconds
MEANS = ("centralized (2 seeds)", "fedavg n=3 beta=0.1 (2 seeds)")
# The nearest list around an element that can be scrolled goes on by a few lines.
SCROLL = """element => {
    while (element.scrollHeight <= element.clientHeight + 1 || getComputedStyle(element).overflowY === "visible")
        element = element.parentElement;
    element.scrollBy(0, 200);
}"""


@dataclass(frozen=True)
class Served:
    """A grid's runs behind a server."""

    address: str
    experiment: str

    def runs(self, kind: str, mode: str = "TABLE") -> str:
        """Address of the page of the runs of one kind."""
        search = f"searchFilter=tags.kind%20%3D%20'{kind}'&compareRunsMode={mode}"
        return f"{self.address}/#/experiments/{self.experiment}/runs?workflowType=machine_learning&{search}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two strategies and two seeds, synced to a new store, and a server on it."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        uri = synced(fake_store.finished_store(folder, {"strategy": ["centralized", "fedavg"], "n_clients": [3]}))
    (experiment,) = MlflowClient(tracking_uri=uri).search_experiments(filter_string="name = 'fake'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start(folder, uri, port)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield Served(f"http://127.0.0.1:{port}", experiment.experiment_id)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def synced(store: Store) -> str:
    fake_store.tell_more(store)
    for cell in store.planned():
        images = torch.from_numpy(fake_store.fake_images(cell))
        write_bytes(store.cell(cell.cell_id).path / "curve.safetensors", save({"1": images // 3, "2": images // 2}))
    tracker = Tracker(store)
    tracker.sync(running=False)
    return tracker.uri


def start(folder: Path, uri: str, port: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(
            [*command, "--backend-store-uri", uri, "--default-artifact-root", str(folder / "mlartifacts")],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | settings,
        )


def wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until the server answers."""
    until = time.monotonic() + START_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"MLflow's server does not answer:\n{log.read_text()}")


def unfold(page: Page) -> None:
    """Close the assistant, which lies over the runs, and show those below the grid's."""
    page.get_by_role("button", name="Close").first.click()
    page.locator("[data-component-id*='runnamecellrenderer']").first.click()
    expect(row(page, "centralized")).to_be_visible(timeout=WAIT)


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has_text=name).first


def metrics(page: Page) -> set[str]:
    """The names in the list of metrics, of which only what is in sight is made."""
    names = page.get_by_title("Plot chart")
    found = set(names.all_inner_texts())
    for _ in range(25):
        names.first.evaluate(SCROLL)
        page.wait_for_timeout(50)  # the browser's next frame
        found |= set(names.all_inner_texts())
    return found


def test_the_means_of_two_strategies_are_compared(open_page, troubles, served, tmp_path):
    page = open_page(served.runs("summary"), width=1400)
    unfold(page)
    for name in MEANS:
        row(page, name).get_by_label("row selection").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    for text in ("Comparing 2 Runs from 1 Experiment", *MEANS):
        expect(page.get_by_text(text).first).to_be_visible(timeout=WAIT)
    expect(page.get_by_title("Plot chart").first).to_be_visible(timeout=WAIT)
    page.screenshot(path=tmp_path / "compare.png")
    assert {"fid", "fid_sd", "fid_low", "fid_high", "fid_minus_centralized", "test_loss", "n"} <= metrics(page)
    assert (troubles.outside, troubles.dialogs) == ([], [])


def test_charts_have_comparable_axes_and_there_is_a_grid_of_images(open_page, troubles, served):
    page = open_page(served.runs("cell", "CHART"), width=1400)
    unfold(page)
    for section in ("vs_samples", "vs_kilobytes"):
        expect(page.get_by_text(section, exact=True).first).to_be_visible(timeout=WAIT)
    page.get_by_placeholder("Search metric charts").fill("^generated$")
    expect(page.get_by_text("generated", exact=True).first).to_be_visible(timeout=WAIT)
    assert (troubles.outside, troubles.dialogs) == ([], [])
