"""The page of a grid in a real browser."""

import json

import pytest
from playwright.sync_api import expect

from bench.store.grid_folder import Store
from tests import fake_store, reports
from tests.browser.conftest import Troubles, open_in

pytestmark = pytest.mark.xdist_group("browser")

HOSTILE = "<img src=x onerror=alert(1)>"
WORSE = "</script><script>alert(2)</script><!--<script>\u2028{{ 7 * 7 }}<b>bold</b>&amp;%{x}"
BOLD = "<b>&amp;</b>"  # plotly's own markup
FEDAVG, FEDPROX = "fedavg, n 3, beta 0.1, seed 0", "fedprox(mu=0.1), n 3, beta 0.1, seed 0"


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """A grid's folder with tables and a page: 10 cells, the last of which failed and the one before not begun."""
    store = fake_store.finished_store(tmp_path_factory.mktemp("results"), missing=[8, 9])
    fake_store.tell_more(store)
    fake_store.fail(fake_store.begin(store, store.planned()[9]), error="ValueError: the loss is a pear")
    reports.write_tables(store, store.root / "tables")
    reports.write_page(store, store.root / "report.html", store.root / "tables", store.root / "figures")
    return store.root


@pytest.fixture
def page(open_page, grid, troubles: Troubles):
    yield open_page(grid / "report.html")
    assert troubles.none(), troubles


@pytest.fixture(scope="module")
def still_page(chromium, grid):
    """One page for the tests that leave it as it was."""
    troubles = Troubles()
    page = open_in(chromium, troubles, grid / "report.html")
    yield page
    assert troubles.none(), troubles
    page.context.close()


def rows(page, table):
    """Texts of the fields of a table's rows."""
    read = "rows => rows.map(row => [...row.cells].map(field => field.textContent))"
    return page.locator(f"#{table} tbody tr").evaluate_all(read)


def column(page, table, key):
    """Texts of a column."""
    heads = page.locator(f"#{table} thead th").evaluate_all("heads => heads.map(head => head.dataset.key)")
    return [row[heads.index(key)] for row in rows(page, table)]


def lines(page):
    """The curves that are drawn, by name."""
    drawn = page.evaluate("document.getElementById('curves-chart').data.map(({name, x, y}) => ({name, x, y}))")
    return {line["name"]: line for line in drawn}


def test_words_comparisons_and_axes_filter_the_results(still_page):
    assert len(rows(still_page, "results-table")) == 5
    still_page.get_by_label("Filter").first.fill("fedprox")
    assert column(still_page, "results-table", "strategy") == ["fedprox(mu=0.1)"] * 2
    still_page.get_by_label("Filter").first.fill("fid < 20")
    found = [float(text.split()[0]) for text in column(still_page, "results-table", "fid")]
    assert 0 < len(found) < 5
    assert all(fid < 20 for fid in found)
    for minus in ("-", "−"):
        still_page.get_by_label("Filter").first.fill(f"fid_minus_centralized > {minus}1000")
        assert len(rows(still_page, "results-table")) == 3  # all that have one
    still_page.get_by_label("Filter").first.fill("")
    still_page.locator("#results-axes select").nth(1).select_option("5")
    assert column(still_page, "results-table", "n_clients") == ["5", "5"]
    expect(still_page.locator("#results-count")).to_have_text("2 of 5 rows")
    still_page.locator("#results-axes select").nth(1).select_option("")
    assert len(rows(still_page, "results-table")) == 5


def test_few_columns_are_seen_at_first_and_all_when_asked_for(page):
    """The test loss is among them, without scrolling on a small laptop's screen."""
    heads = page.locator("#results-table thead th")
    few = heads.count()
    assert few <= 12
    box = page.locator("#results-table th[data-key=test_loss]").bounding_box()
    assert box["x"] + box["width"] <= 1280
    page.get_by_label("all metrics").check()
    assert heads.count() > few + 10
    assert "bytes_up" in heads.evaluate_all("heads => heads.map(head => head.dataset.key)")


def test_at_first_some_sheets_are_shown_and_nothing_is_null(page):
    assert 0 < page.locator("#samples-sheets figure").count() <= 6
    page.get_by_label("equal settings, too").check()
    page.get_by_label("all metrics").check()
    page.get_by_role("radio", name="every seed").check()
    assert "null" not in page.locator("body").inner_text()


def test_a_head_sorts_up_then_down_then_not_at_all_and_missing_numbers_stand_last(page):
    page.get_by_role("radio", name="every seed").check()
    before = column(page, "results-table", "fid")
    head = page.locator("#results-table th[data-key=fid]")
    head.get_by_role("button").click()
    upwards = column(page, "results-table", "fid")
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    downwards = column(page, "results-table", "fid")
    assert head.get_attribute("aria-sort") == "descending"
    numbers = [[float(text) for text in texts[:-2]] for texts in (upwards, downwards)]
    assert numbers == [sorted(numbers[0]), sorted(numbers[0], reverse=True)]
    assert set(upwards[-2:]) == set(downwards[-2:]) == {"todo", "failed"}
    head.get_by_role("button").click()
    assert column(page, "results-table", "fid") == before
    assert head.get_attribute("aria-sort") is None


def test_a_table_is_sorted_and_a_curve_switched_off_with_the_keyboard_alone(page):
    page.keyboard.press("Tab")
    expect(page.locator("a.skip")).to_be_focused()
    page.keyboard.press("Enter")
    head = page.locator("#results-table th[data-key=test_loss]")
    tab_to(page, "#results-table th[data-key=test_loss] button")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert FEDAVG in lines(page)
    box = page.locator("#curves-cells li", has_text=FEDAVG).locator("input")
    tab_to(page, f"#curves-cells input[value='{box.get_attribute('value')}']")
    page.keyboard.press("Space")
    assert FEDAVG not in lines(page)


def tab_to(page, selector):
    """Press Tab until the element has the focus."""
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} cannot be reached with Tab")


def test_every_control_has_a_name(still_page):
    nameless = """controls => controls.filter(control => !(control.labels && control.labels.length
        || control.getAttribute("aria-label") || control.tagName === "BUTTON" && control.textContent)).length"""
    controls = still_page.locator("main input, main select, main button")
    assert controls.count() > 50
    assert controls.evaluate_all(nameless) == 0


def test_curves_follow_cell_axis_measure_and_smoothing(page):
    first = lines(page)[FEDAVG]
    assert first["x"] == [1, 2, 3]
    page.locator("#curves-x").select_option("images")
    assert lines(page)[FEDAVG]["x"] == [200, 400, 600]
    page.locator("#curves-x").select_option("megabytes")
    assert lines(page)[FEDAVG]["x"] == pytest.approx([1.8, 3.6, 5.4])
    page.locator("#curves-smooth").fill("0.5")
    a, b = first["y"][:2]
    assert lines(page)[FEDAVG]["y"][:2] == pytest.approx([a, (a / 4 + b / 2) / 0.75])
    page.locator("#curves-smooth").fill("0")
    page.locator("#curves-y").select_option("steps")
    assert len(lines(page)[FEDAVG]["y"]) > 3
    page.locator("#curves-y").select_option("fid")
    assert lines(page)[FEDAVG]["y"][0] == pytest.approx(92.0)
    page.locator("#curves-cells").get_by_role("button", name="none").click()
    assert lines(page) == {}
    page.locator("#curves-cells").get_by_role("searchbox").fill("fedprox n 3")
    page.locator("#curves-cells").get_by_role("button", name="all found").click()
    assert set(lines(page)) == {FEDPROX, FEDPROX.replace("seed 0", "seed 1")}


def test_curves_of_several_seeds_make_a_mean(page):
    page.locator("#curves-cells").get_by_role("button", name="all found").click()
    two = [lines(page)[FEDAVG.replace("seed 0", f"seed {seed}")]["y"] for seed in (0, 1)]
    page.get_by_label("mean over seeds", exact=True).last.check()
    mean = lines(page)[FEDAVG.replace(", seed 0", "")]["y"]
    assert mean == pytest.approx([sum(pair) / 2 for pair in zip(*two, strict=True)])


def test_a_cell_that_stopped_is_left_out_of_its_mean_and_named(open_page, tmp_path, troubles):
    store = fake_store.finished_store(
        tmp_path, {"strategy": ["fedavg"], "n_clients": [3], "seed": [0, 1, 2]}, missing=[2]
    )
    stopped = store.planned()[2]
    fake_store.add_rounds(fake_store.begin(store, stopped), stopped, 1, 1)
    path = reports.write_page(store, store.root / "report.html", store.root / "no", store.root / "no")
    page = open_page(path)
    page.locator("#curves-cells").get_by_role("button", name="all found").click()
    page.locator("#curves-y").select_option("steps")
    each = list(lines(page).values())
    assert [line["x"][-1] for line in each] == [3, 3, 1]
    page.get_by_label("mean over seeds", exact=True).last.check()
    [mean] = lines(page).values()
    assert mean["y"] == pytest.approx([(a + b) / 2 for a, b in zip(each[0]["y"], each[1]["y"], strict=True)])
    assert mean["x"] == each[0]["x"]
    expect(page.locator("#curves-told")).to_have_text(
        "1 curve; not in a mean, as their rounds are not those of the other seeds: fedavg, n 3, beta 0.1, seed 2"
    )
    page.locator("#curves-x").select_option("seconds")
    assert len(next(iter(lines(page).values()))["y"]) == 200
    assert troubles.none(), troubles


def test_contrasts_are_a_table_to_sort(page):
    shown = rows(page, "contrasts-table")
    assert [row[:3] for row in shown[:2]] == [
        ["fedprox(mu=0.1) − fedavg", "3", "0.1"],
        ["fedprox(mu=0.1) − fedavg", "5", "0.1"],
    ]
    page.locator("#contrasts-table").get_by_role("button", name="FID Δ").click()
    assert sorted(map(str, rows(page, "contrasts-table"))) == sorted(map(str, shown))
    expect(page.locator("#contrasts")).to_contain_text("Δ: mean difference with its 95 % t interval; %: of what is")


def test_settings_of_two_cells_show_what_differs(page):
    page.locator("#differences-a").select_option(label=FEDAVG)
    page.locator("#differences-b").select_option(label=FEDPROX)
    assert ["strategy.name", "fedavg", "fedprox"] in rows(page, "differences-table")
    few = len(rows(page, "differences-table"))
    page.get_by_label("equal settings, too").check()
    assert ["training.batch_size", "32", "32"] in rows(page, "differences-table")
    assert ["of the run.data.name", "mnist5k", "mnist5k"] in rows(page, "differences-table")
    assert len(rows(page, "differences-table")) > few + 20


def test_sheets_of_chosen_cells_stand_side_by_side(page):
    page.locator("#samples-cells").get_by_role("button", name="none").click()
    for label in (FEDAVG, FEDPROX):
        page.get_by_role("group", name="Cells").last.get_by_label(label).check()
    figures = page.locator("#samples-sheets figure")
    expect(figures).to_have_count(2)
    boxes = [figures.nth(k).bounding_box() for k in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] < boxes[1]["x"]
    sizes = page.locator("#samples-sheets img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert sizes == [137, 137]  # 8 images of 16 pixels with a line around each


def test_heat_maps_show_how_many_images_of_a_class_a_client_holds(still_page):
    found = still_page.locator("#partitions-maps .map").first.evaluate("map => map.data[0].z")
    assert found == [[20, 2, 2, 2], [2, 20, 2, 2], [2, 2, 20, 2]]


def test_every_cell_has_its_state_and_what_went_wrong(still_page):
    still_page.locator("#status-filter").fill("pear")
    [row] = rows(still_page, "status-table")
    still_page.locator("#status-filter").fill("")
    assert {"failed", "ValueError: the loss is a pear"} <= set(row)
    assert column(still_page, "status-table", "state").count("done") == 8
    assert column(still_page, "status-table", "round")[0] == "3/3"


def test_a_table_is_downloaded_byte_by_byte(still_page, grid):
    with still_page.expect_download() as caught:
        still_page.get_by_role("link", name="cells.csv").click()
    assert caught.value.suggested_filename == "cells.csv"
    with open(caught.value.path(), "rb") as file:
        assert file.read() == (grid / "tables" / "cells.csv").read_bytes()


def test_on_a_phone_only_tables_scroll_sideways(open_page, grid, troubles):
    page = open_page(grid / "report.html", width=360, height=740, has_touch=True)
    for box in page.get_by_label("mean over seeds").all():
        box.check()
    widths = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
    assert max(widths) <= 360
    inside = page.locator(".scroll:has(#results-table)").evaluate("place => [place.scrollWidth, place.clientWidth]")
    assert inside[0] > inside[1]
    assert troubles.none(), troubles


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory):
    """A page whose texts all want to be code."""
    store = fake_store.finished_store(tmp_path_factory.mktemp("hostile"), {"seed": [0]}, missing=[4])
    for cell in store.planned()[:4]:
        data = fake_store.DATA | {"class_names": [HOSTILE, BOLD, WORSE, "3"]}
        environment = fake_store.ENVIRONMENT | {"cpu": HOSTILE, "packages": {WORSE: HOSTILE}}
        fake_store.run_cell(store, cell, data=data, environment=environment)
    fake_store.fail(fake_store.begin(store, store.planned()[4]), error=f"{HOSTILE} {WORSE}")
    plan = store.plan()
    for cell in plan["cells"][1:]:
        cell["labels"]["strategy"] += f" {HOSTILE} {WORSE}"
    plan |= {"name": WORSE, "description": HOSTILE}
    store.write_plan(plan)
    tables = store.root / "tables"
    tables.mkdir()
    (tables / "<img src=x onerror=alert(3)>.csv").write_text("a")
    return reports.write_page(Store(store.root), store.root / "report.html", tables, store.root / "figures")


def test_hostile_texts_are_shown_as_they_are_and_do_nothing(open_page, hostile_page, troubles):
    page = open_page(hostile_page)
    expect(page.locator("h1")).to_have_text(WORSE)
    expect(page.locator("p.lead")).to_have_text(HOSTILE)
    assert f"fedavg {HOSTILE} {WORSE}" in column(page, "results-table", "strategy")
    assert f"{HOSTILE} {WORSE}" in column(page, "status-table", "reason")
    assert HOSTILE in column(page, "environment-table", "cpu")
    page.locator("#curves-cells input[type=checkbox]").nth(1).hover()
    ticks = page.locator("#partitions-maps .xtick text").all_text_contents()
    assert {HOSTILE, BOLD} <= set(ticks)
    assert page.locator("img[src=x], b, main script").count() == 0
    assert page.locator("#curves-chart").evaluate("chart => chart.data.length") == 4
    assert troubles.none(), troubles


def test_a_script_that_got_into_the_page_would_not_run(open_page, hostile_page, troubles, tmp_path):
    text = hostile_page.read_text(encoding="utf-8")
    assert "<main>" in text
    broken_in = tmp_path / "page.html"
    broken_in.write_text(text.replace("<main>", f"<main>{HOSTILE}<script>alert(4)</script>"), encoding="utf-8")
    page = open_page(broken_in)
    expect(page.locator("#results-table tbody tr").first).to_be_visible()
    assert troubles.dialogs == []


def test_the_page_of_a_grid_without_any_result_says_so(open_page, tmp_path, troubles):
    store = fake_store.planned_store(tmp_path)
    path = reports.write_page(store, store.root / "report.html", store.root / "tables", store.root / "figures")
    page = open_page(path)
    for told in (
        "no cell is finished",
        "There are no tables yet.",
        "There are no figures as PNG or SVG.",
        "nothing was split",
    ):
        expect(page.get_by_text(told).first).to_be_visible()
    assert column(page, "status-table", "state") == ["todo"] * 10
    assert json.loads(page.locator("#data").text_content())["states"] == {"todo": 10}
    assert troubles.none(), troubles
