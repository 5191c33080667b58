"""What can be told of the page's file without opening it in a browser."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from bench.pictures.style import strategy_styles
from bench.report.curves import STRETCHES, running_loss
from bench.report.page.data import Distinct, cell_data, curves, looks, rounded, thinned
from bench.report.page.embed import json_text, pictures
from bench.report.page.sheets import images_each, sheet
from bench.report.results import Cell
from bench.store.cell_folder import CellFolder
from bench.store.files import write_json
from bench.store.grid_folder import PlannedCell
from tests import fake_store, reports


class Addresses(HTMLParser):
    """Collects what a page asks for, and its style and scripts."""

    def __init__(self):
        super().__init__()
        self.asked, self.styles, self.inside = [], [], None

    def handle_starttag(self, tag, attributes):
        self.inside = tag
        found = dict(attributes)
        self.asked += [found[name] for name in ("src", "href", "srcset", "data", "action", "poster") if name in found]
        self.styles.append(found.get("style") or "")

    def handle_data(self, text):
        if self.inside == "style":
            self.styles.append(text)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = fake_store.finished_store(tmp_path_factory.mktemp("results"), {"seed": [0]})
    fake_store.tell_more(made)
    return made


def test_the_page_asks_for_nothing_outside_of_itself(store, tmp_path):
    (tmp_path / "one.png").write_bytes(b"\x89PNG")
    (tmp_path / "two.csv").write_bytes(b"a,b\n")
    path = reports.write_page(store, tmp_path / "report.html", tmp_path, tmp_path)
    page = Addresses()
    page.feed(path.read_text(encoding="utf-8"))
    assert len(page.asked) > 10
    assert [address[:60] for address in page.asked if not address.startswith(("#", "data:"))] == []
    assert not re.search(r"@import|url\(", "".join(page.styles))
    assert path.stat().st_size < 6_000_000


def test_the_same_results_make_the_same_page(store, tmp_path):
    first, second = (reports.write_page(store, tmp_path / name, tmp_path / "no", tmp_path / "no") for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_json_in_the_page_ends_no_script_and_says_the_same():
    value = {"a": "</script><!-- \u2028\u2029 & 'é'", "b": [float("nan"), 1.5, "\ud800"]}
    text = str(json_text(value))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {**value, "b": [None, 1.5, "\ud800"]}


def test_curves_are_thinned_to_their_ends_and_rounded():
    assert thinned(list(range(1000)), 5) == [0, 250, 500, 749, 999]
    assert thinned([1, 2], 5) == [1, 2]
    assert rounded([0.123456789, float("inf"), 123456.789]) == [0.12346, None, 123460.0]


def test_a_broken_log_is_told_and_left_out(tmp_path):
    store = fake_store.planned_store(tmp_path, {"strategy": ["fedavg"], "n_clients": [3], "seed": [0]})
    folder = fake_store.begin(store, store.planned()[0])
    (folder.path / "metrics.jsonl").write_text("no json\n")
    with pytest.warns(UserWarning, match=r"metrics.jsonl is damaged"):
        assert curves(reports.read(store).cells[0])["rounds"] == []


def cell_in(folder: Path) -> Cell:
    return Cell(PlannedCell("a", "t", {}, {}), CellFolder(folder))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_shows_the_first_images_with_few_colours(tmp_path, channels):
    images = torch.randint(0, 256, (100, channels, 16, 16), dtype=torch.uint8, generator=torch.manual_seed(0))
    (tmp_path / "samples.safetensors").write_bytes(save({"images": images}))
    found = sheet(cell_in(tmp_path), 3)
    assert (found["count"], found["width"]) == (64, 8 * 17 + 1)
    assert found["address"].startswith("data:image/png;base64,")


def test_a_sheets_grey_levels_are_those_of_the_images(tmp_path):
    import base64
    import io

    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    (tmp_path / "samples.safetensors").write_bytes(save({"images": images}))
    content = base64.b64decode(sheet(cell_in(tmp_path), 1)["address"].split(",")[1])
    shown = np.asarray(Image.open(io.BytesIO(content)).convert("L")).astype(int)[1:17, 1:17]
    assert abs(shown - images[0, 0].numpy().astype(int)).max() <= 5


def test_the_more_cells_the_fewer_images_a_sheet_has():
    assert [images_each(cells, 32 * 32) for cells in (1, 100, 500, 10_000)] == [64, 64, 16, 8]


def test_missing_and_broken_samples_are_told(tmp_path):
    assert sheet(cell_in(tmp_path), 1) == {"missing": "samples.safetensors is not there"}
    (tmp_path / "samples.safetensors").write_bytes(b"no tensors")
    assert "is damaged" in sheet(cell_in(tmp_path), 1)["missing"]


def test_pictures_too_large_together_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.report.page.embed.PICTURES_BYTES", 10)
    for name, size in (("a.png", 6), ("a.svg", 2), ("b.png", 6), ("c.svg", 4), ("d.pdf", 1)):
        (tmp_path / name).write_bytes(b"x" * size)
    shown, left_out = pictures(tmp_path)
    assert ([file.name for file in shown], left_out) == (["a.png", "c.svg"], ["b.png"])


def test_a_picture_stands_with_its_caption(tmp_path):
    (tmp_path / "schemes.png").write_bytes(b"a picture")
    (tmp_path / "why.png").write_bytes(b"another")
    path = reports.write_page(
        fake_store.planned_store(tmp_path), tmp_path / "a.html", tmp_path / "no", tmp_path, schemes="Loss & <rounds>."
    )
    text = path.read_text()
    assert "<figcaption>schemes.png: Loss &amp; &lt;rounds&gt;.</figcaption>" in text
    assert "<figcaption>why.png</figcaption>" in text


def test_seeds_share_a_look_and_centralized_training_has_no_colour(tmp_path):
    cells = reports.read(fake_store.planned_store(tmp_path)).cells
    found = looks(cells)
    by_labels = {(c.labels["strategy"], c.labels["n_clients"], c.labels["seed"]): found[c.cell_id] for c in cells}
    assert by_labels["fedavg", 3, 0] == by_labels["fedavg", 3, 1]
    assert by_labels["fedavg", 3, 0]["colour"] == by_labels["fedavg", 5, 0]["colour"]
    assert by_labels["fedavg", 3, 0]["dash"] != by_labels["fedavg", 5, 0]["dash"]
    assert by_labels["fedavg", 3, 0]["colour"] != by_labels["fedprox(mu=0.1)", 3, 0]["colour"]
    assert by_labels["fedavg", 3, 0]["symbol"] != by_labels["fedprox(mu=0.1)", 3, 0]["symbol"]
    assert by_labels["centralized", None, 0]["colour"] == ""


def test_centralized_strategies_have_a_dash_each(tmp_path):
    axes = {"strategy": ["centralized", "centralized-matched", "fedavg"], "training.local_steps": [5], "seed": [0]}
    cells = reports.read(fake_store.planned_store(tmp_path, axes)).cells
    found = [look["dash"] for cell, look in zip(cells, looks(cells).values(), strict=True) if cell.central]
    assert found == ["solid", "dash"]


def test_curves_have_the_colours_of_figures(tmp_path):
    strategies = ["fedavg", "fednova", "fedprox(mu=0.1)", "local-only"]
    cells = reports.read(fake_store.planned_store(tmp_path, {"strategy": strategies, "seed": [0]})).cells
    styles = looks(cells)
    found = {cell.strategy: styles[cell.cell_id] for cell in cells}
    assert {label: look["colour"] for label, look in found.items()} == {
        label: style.colour for label, style in strategy_styles(strategies).items()
    }
    assert found["fedavg"]["symbol"] != found["fednova"]["symbol"]  # of one family


def test_settings_of_one_strategy_have_a_colour_each(tmp_path):
    axes = {"strategy": ["fedavg"], "n_clients": [3], "beta": [0.1], "seed": [0, 1], "client.lr": [0.1, 0.2, 0.3]}
    cells = reports.read(fake_store.planned_store(tmp_path, axes)).cells
    styles = looks(cells)
    assert len({styles[cell.cell_id]["colour"] for cell in cells}) == 3
    assert len({tuple(styles[cell.cell_id].values()) for cell in cells}) == 3


def test_equal_records_have_one_place():
    places = Distinct()
    assert [places.place(value) for value in ({"a": 1}, {"b": 2}, {"a": 1}, None, {})] == [0, 1, 0, None, None]


def test_the_running_loss_is_that_of_the_tables_and_figures(store):
    cell = reports.read(store).cells[1]
    x, y = curves(cell)["steps"]
    wanted = running_loss(cell.steps, fake_store.ROUNDS)
    assert len(x) == len(y) == STRETCHES
    assert x == pytest.approx(wanted[0].tolist(), rel=1e-4)
    assert y == pytest.approx(wanted[1].tolist(), rel=1e-4)


def test_keys_that_a_cell_s_records_lack_show_as_missing(tmp_path):
    store = fake_store.planned_store(tmp_path, {"strategy": ["fedavg"], "n_clients": [3], "seed": [0]})
    (cell,) = store.planned()
    folder = fake_store.begin(store, cell)
    folder.append("metrics.jsonl", [{"round": 1, "time": 0.0}])
    for name in ("partition.json", "curve.json"):
        write_json(folder.path / name, {"of": "another version"})
    with pytest.warns(UserWarning, match=r"partition\.json is damaged \(histogram: Field required\)"):
        told = cell_data(reports.read(store).cells[0], 1, Distinct(), Distinct())
    assert [told[key] for key in ("round", "seconds", "partition")] == [1, None, None]
    assert told["time"] == "1970-01-01 00:00:00"
    assert told["curves"]["validation"] == told["curves"]["axes"]["images"] == [None]
    assert told["curves"]["fid"] == [[], []]
    assert told["config"]["of the run.extractor.name"] == "mnist-cnn"
