"""Tables of a made-up grid against files that were looked at; `python -m tests.golden.test_tables` writes them anew."""

import io
import math
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from bench.config.cell import field_names
from bench.report import summary
from bench.report.metrics import Metric
from bench.report.results import Results
from bench.report.summary import Rows, marks
from bench.report.tables import markdown
from bench.report.tables.caption import of_what
from bench.report.tables.compared import contrasts
from bench.report.tables.contents import digits_of, number
from bench.report.tables.latex import escape
from bench.report.tables.setting import ELSEWHERE, IDLE, LEFT_OUT, SECTIONS, WORDS, setting
from bench.report.tables.table import Place
from bench.store.files import read_json, write_json
from bench.store.grid_folder import PlannedCell, Store
from bench.store.states import write_tensors
from tests import fake_store, reports

GOLDEN = Path(__file__).parent / "tables"
COMPARED = ("summary", "differences", "contrasts", "ranks", "claims")
METRICS = (
    "fid", "fid_infinity", "kid", "is", "class_tv", "test_loss", "train_loss", "validation_area", "validation_roughness",
    "train_roughness", "rounds_to_centralized", "samples_to_centralized", "megabytes_to_centralized", "megabytes",
    "seconds",
)  # fmt: skip
TABLES = {f"{name}.csv" for name in ("cells", "curves", *COMPARED)}
BODIES = {*COMPARED, *METRICS, "contrasts_2"}
TEXTS = {f"{name}{end}.tex" for name in BODIES for end in ("", "_caption")} | {
    "summary.md", "contrasts.md", "claims.md", "setup.md", "setup.tex", "columns.md",
}  # fmt: skip
WITH_SIUNITX = ("summary.tex", "fid.tex", "differences.tex")


def golden_store(results: Path) -> Store:
    """Two seeds, two splits; one cell is missing, one failed and one diverged, and in one split seeds disagree."""
    store = fake_store.planned_store(results, {"beta": [0.1, 1.0]}, name="fake")
    for place, cell in enumerate(store.planned()):
        if place == 6:
            fake_store.fail(fake_store.begin(store, cell))
        elif place == 7:
            fake_store.fail(fake_store.begin(store, cell), "diverged", "Diverged: validation loss is nan after round 2")
        elif place != 3:
            fake_store.run_cell(store, cell)
    change_score(store, store.planned()[-1], fid=4.0)
    return store


def change_score(store: Store, cell: PlannedCell, **more: float) -> None:
    """Add to scores of a finished cell."""
    folder = store.cell(cell.cell_id)
    result = read_json(folder.path / "result.json")
    assert result is not None
    changed = {key: result["metrics"][key] + value for key, value in more.items()}
    write_json(folder.path / "result.json", result | {"metrics": result["metrics"] | changed})


def write_golden(store: Store, folder: Path) -> None:
    """All tables, and some with siunitx in a folder of their own."""
    reports.write_tables(store, folder)
    with tempfile.TemporaryDirectory() as other:
        reports.write_tables(store, Path(other), siunitx=True)
        (folder / "siunitx").mkdir(exist_ok=True)
        for name in WITH_SIUNITX:
            shutil.copy(Path(other) / name, folder / "siunitx")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = golden_store(tmp_path_factory.mktemp("results"))
    write_golden(made, made.root / "tables")
    return made


def one_seed(results: Path, **axes) -> Store:
    return fake_store.finished_store(results, {"seed": [0], "n_clients": [3], **axes})


def table_of(store: Store) -> pd.DataFrame:
    return summary.summarise(Rows(reports.rows_of(store).frame, tuple(store.plan()["extra_axes"])))


def latex(store: Store, name: str = "summary.tex") -> str:
    reports.write_tables(store)
    return (store.root / "tables" / name).read_text()


def printed(store: Store, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(reports.terminal_table(store))
    return [line.rstrip() for line in console.export_text().splitlines()]


# ------------------------------------------------------------------------------------------ goldens


@pytest.mark.parametrize("name", sorted({*TEXTS, *(f"siunitx/{name}" for name in WITH_SIUNITX)}))
def test_texts_are_as_they_were(store, name):
    assert (store.root / "tables" / name).read_text() == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", sorted(TABLES))
def test_numbers_are_as_they_were(store, name):
    """To twelve digits: how a mean is summed differs between versions of NumPy in the last one."""
    new, old = (pd.read_csv(path / name) for path in (store.root / "tables", GOLDEN))
    pd.testing.assert_frame_equal(new, old, rtol=1e-12)


def test_all_tables_are_written_and_nothing_else(store, tmp_path):
    written = reports.write_tables(store, tmp_path)
    assert {path.name for path in written} == TABLES | TEXTS
    assert set(tmp_path.iterdir()) == set(written)
    assert {path.name for path in GOLDEN.iterdir()} == TABLES | TEXTS | {"siunitx"}


# ------------------------------------------------------------------------------------------ numbers


def test_rows_keep_every_digit(store):
    rows = pd.read_csv(store.root / "tables" / "cells.csv", dtype=str, keep_default_na=False)
    assert len(rows) == len(store.planned())
    for text, cell in zip(rows["fid"], store.planned(), strict=True):
        result = read_json(store.cell(cell.cell_id).path / "result.json")
        assert text == (repr(result["metrics"]["fid"]) if result else "")
    assert list(rows["n_clients"].unique()) == ["", "3", "5"]
    assert rows.loc[6, "error"] == "ValueError: it broke & 100% so"
    assert rows.loc[0, "floor_fid"] == "1.25"


def test_means_and_deviations_are_over_finished_seeds(store):
    rows, table = reports.rows_of(store).frame, table_of(store)
    row = table[(table["strategy"] == "fedprox(mu=0.1)") & (table["n_clients"] == 3) & (table["beta"] == 0.1)].iloc[0]
    fids = rows[(rows["strategy"] == "fedprox(mu=0.1)") & (rows["n_clients"] == 3) & (rows["beta"] == 0.1)]["fid"]
    a, b = fids
    assert (row["n"], row["planned"], row["unfinished"]) == (2, 2, "")
    assert row["fid"] == pytest.approx((a + b) / 2)
    assert row["fid_sd"] == pytest.approx(abs(a - b) / math.sqrt(2))
    assert row["megabytes"] == pytest.approx(2 * 400_000 * 3 * fake_store.ROUNDS / 1e6)
    assert row["seconds"] == pytest.approx(4.5 + 2.0 + 0.25)


def test_differences_to_centralized_are_paired_by_seed(store):
    """fedavg with n = 3 and beta = 0.1 has finished seed 0 only: it is compared with seed 0 alone."""
    rows, table = reports.rows_of(store).frame, table_of(store)
    central = rows[rows["n_clients"].isna()].set_index("seed")
    row = table[(table["strategy"] == "fedavg") & (table["n_clients"] == 3) & (table["beta"] == 0.1)].iloc[0]
    for metric in ("fid", "test_loss"):
        assert row[f"{metric}_minus_centralized"] == pytest.approx(row[metric] - central.loc[0, metric])
        assert row[metric] - central[metric].mean() != pytest.approx(row[f"{metric}_minus_centralized"])
    assert math.isnan(row["fid_sd"])
    assert math.isnan(table.loc[0, "fid_minus_centralized"])


def test_rows_without_results_do_not_vanish(store):
    table = table_of(store)
    assert len(table) == 9
    lost = table[table["n"] < table["planned"]]
    assert list(lost["unfinished"]) == ["1 missing", "1 diverged, 1 failed"]
    lines = printed(store, 120)
    assert any(re.search(r"fedavg +3 +0\.1 +1/2 +17\.43", line) for line in lines)
    assert any(re.search(r"fedavg +5 +0\.1 +0/2 +failed +--", line) for line in lines)


def test_centralized_stands_first_and_once(store):
    table = table_of(store)
    assert list(table["strategy"]).count("centralized") == 1
    assert table.loc[0, "strategy"] == "centralized"
    assert list(zip(table["n_clients"][1:], table["beta"][1:], strict=True)) == [
        (n, beta) for n in (3, 5) for beta in (0.1, 1.0) for _ in range(2)
    ]


def test_a_grid_of_which_nothing_is_finished_still_has_tables(tmp_path):
    store = fake_store.planned_store(tmp_path)
    reports.write_tables(store)
    assert "missing" in (store.root / "tables" / "summary.tex").read_text()
    assert sum("missing" in line for line in printed(store, 120)) == 5


def test_differences_are_within_one_value_of_a_further_axis(tmp_path):
    store = one_seed(tmp_path, **{"sampler.steps": [5, 10]})
    for cell in store.planned():
        folder = store.cell(cell.cell_id)
        worse = 100.0 if cell.labels["sampler.steps"] == 10 else 0.0
        result = read_json(folder.path / "result.json")
        result["metrics"]["fid"] = worse + (cell.labels["n_clients"] or 0)
        write_json(folder.path / "result.json", result)
    table = table_of(store)
    assert list(table["sampler.steps"]) == [5, 10, 5, 5, 10, 10]
    assert list(table["fid_minus_centralized"])[2:] == [3.0] * 4
    assert latex(store, "fid.tex").count(r"103.0") == 2
    assert "steps 5 / 10," in reports.setting_of(store)["Sampling"]


def test_axes_that_mean_nothing_to_centralized_training_have_its_one_row(tmp_path):
    store = one_seed(tmp_path, **{"training.participation": [0.5, 1.0], "client.optimizer_state": ["reset", "keep"]})
    table = table_of(store)
    assert list(table["strategy"]).count("centralized") == 1
    assert table["fid_minus_centralized"][1:].notna().all()
    assert "participation 1 / 0.5," in reports.setting_of(store)["Training"]


def test_axes_of_lists_and_plugins(tmp_path):
    store = one_seed(tmp_path, **{"model.widths": [[8, 16], [16, 16]], "partition": ["iid", "dirichlet"]})
    table = table_of(store)
    assert set(table["model.widths"]) == {"[8, 16]", "[16, 16]"}
    assert table["fid_minus_centralized"][2:].notna().all()
    assert r"model.widths & partition" in latex(store)
    assert any("[16, 16]" in line for line in printed(store, 160))


# ------------------------------------------------------------------------------------------ best, digits


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three seeds, from which on the best is marked; with three clients they disagree on which it is."""
    store = fake_store.finished_store(tmp_path_factory.mktemp("marked"), {"seed": [0, 1, 2]}, name="marked")
    change_score(store, store.planned()[11], fid=9.0)
    return store


def test_the_best_of_each_split_is_bold(marked):
    bold = [line for line in latex(marked).splitlines() if r"\textbf" in line]
    assert [re.match(r"(\S+) & (\S+) & (\S+)", line).groups() for line in bold] == [
        ("fedavg", "3", "0.1"),  # by FID alone
        ("fedprox(mu=0.1)", "3", "0.1"),
        ("fedprox(mu=0.1)", "5", "0.1"),
        ("fedprox(mu=0.1)", "3", "0.1"),  # further metrics below
        ("fedprox(mu=0.1)", "5", "0.1"),
    ]
    assert [line.count(r"\textbf") for line in bold] == [1, 1, 2, 3, 3]


def test_below_three_seeds_nothing_is_bold_nor_underlined(store):
    """Neither in a file nor on the terminal; the page has the same marks."""
    assert all(mark in ("", "untested") for marks in reports.contents_of(store).marks.values() for mark in marks)
    for name in ("summary.tex", "fid.tex", "ranks.tex", "summary.md"):
        text = (store.root / "tables" / name).read_text()
        assert not any(mark in text for mark in (r"\textbf", r"\underline", "<ins>", "| **"))
    told = reports.page_data(store)["results"]
    assert {place[3] for row in told["means"] for place in row} <= {"", "state"}


@pytest.mark.parametrize(
    ("better", "digits", "found"),
    [(-1, 2, "bb-"), (-1, 3, "b--"), (1, 2, "--b"), (0, 2, "---")],
)
def test_higher_is_better_for_some_and_what_shows_equal_ties(better, digits, found):
    means = pd.DataFrame(
        {
            "strategy": ["centralized", "a", "b", "c"], "n_clients": pd.array([None, 3, 3, 3], dtype="Int64"),
            "beta": [None, 1.0, 1.0, 1.0], "m": [0.0, 1.001, 1.002, 2.0],
        }
    )  # fmt: skip
    seeds = [means.assign(seed=k, state="done", m=means["m"] + 1e-6 * (k - 1) * means.index) for k in range(3)]
    frame = pd.concat(seeds, ignore_index=True)
    made = marks(Rows(frame), means, Metric("m", "m", "m", better=better), digits)
    assert made == ["", *({"b": "best", "-": ""}[letter] for letter in found)]


@pytest.mark.parametrize(("shift", "mark"), [(0.05, "tied"), (2.0, "")])
def test_what_the_seeds_cannot_tell_from_the_best_is_tied(shift, mark):
    seeds = [{"seed": seed, "strategy": name, "m": noise + more} for name, more in (("a", 0.0), ("b", shift))
             for seed, noise in enumerate((1.0, 1.3, 0.8) if name == "a" else (1.2, 0.9, 1.1))]  # fmt: skip
    frame = pd.DataFrame(seeds).assign(n_clients=pd.array([3] * 6, dtype="Int64"), beta=1.0, state="done")
    means = frame.groupby(["strategy", "n_clients", "beta"], as_index=False)["m"].mean()
    assert marks(Rows(frame), means, Metric("m", "m", "m", better=-1), 3) == ["best", mark]


@pytest.mark.parametrize(
    ("values", "digits"),
    [((5.2, 19.6), 2), ((0.9, 150.3), 1), ((0.00012, 0.004), 6), ((1234.0, 150.0), 1), ((math.nan, 0.0), 2)],
)
def test_digits_follow_the_values(values, digits):
    frame = pd.DataFrame({"fid": values})
    assert digits_of(frame, Metric("fid", "FID", "FID")) == digits


def test_numbers():
    assert number(1.005, 1, signed=True) == "+1.0"
    assert number(-1.26, 1, signed=True) == "-1.3"
    assert number(-0.04, 1) == "0.0"
    assert number(0.04, 1, signed=True) == "0.0"


def test_a_negative_number_has_a_printers_sign_and_an_exponent_that_of_grids():
    numbers = [Place(text, float(text)) for text in ("-2.7", "1e-05", "-1e-05", "0.3")]
    assert [place.printed for place in numbers] == ["−2.7", "1e-05", "−1e-05", "0.3"]
    assert [Place("--").printed, Place("-2.7", "-2.7").printed] == ["--", "-2.7"]


# ------------------------------------------------------------------------------------------ terminal


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_the_terminal_table_fits(tmp_path, seeds):
    lines = printed(fake_store.finished_store(tmp_path, {"seed": seeds}), 120)
    assert not any("…" in line for line in lines)
    assert max(map(len, lines)) <= (105 if len(seeds) == 1 else 118)
    assert any(re.match(r"100 real images +1\.25 +0\.40 +3\.90 +0\.050", line) for line in lines)


def test_the_terminal_marks_best_and_tied_and_says_so(store, marked):
    console = Console(width=120, file=(out := io.StringIO()), force_terminal=True, color_system="standard", _environ={})
    console.print(reports.terminal_table(marked))
    assert "\x1b[1m18.71\x1b[0m±1.27" in out.getvalue()
    assert "\x1b[4m19.27\x1b[0m±6.34" in out.getvalue()
    assert "\x1b[4munderlined\x1b[0m: not distinguishable from it" in out.getvalue()
    assert "fewer than 3 seeds" not in out.getvalue()
    assert "Nothing is marked as the best by fewer than 3 seeds." in "".join(printed(store, 120))
    assert "underlined" not in "".join(printed(fake_store.planned_store(store.root / "empty"), 120))


def test_contrasts_are_a_line_an_axis_on_the_terminal(marked, tmp_path):
    lines = reports.contrast_lines(marked)
    assert [line.split(", paired by seed: ")[0] for line in lines] == ["strategy against fedavg", "n against 3"]
    assert lines[1].count(" of 2 told apart") == 3
    assert lines[0].endswith("; test loss −6.0 % to −5.3 %, untested")  # the same difference in every seed
    single = reports.contrast_lines(one_seed(tmp_path))
    assert single == [
        "strategy against fedavg, paired by seed: FID −14.0 %, untested; TV −14.8 %, untested; test loss −5.4 %, untested"
    ]
    assert reports.contrast_lines(one_seed(tmp_path / "alone", strategy=["centralized", "fedavg"])) == []


def test_what_no_pair_has_takes_no_columns_of_the_contrasts(tmp_path):
    """The classes of poor digits have no TV, while those of centralized training have one."""
    store = one_seed(tmp_path)
    for cell in store.planned():
        if cell.labels["n_clients"] is not None:
            path = store.cell(cell.cell_id).path / "result.json"
            result = read_json(path)
            write_json(path, result | {"metrics": result["metrics"] | {"class_tv": None}})
    table = contrasts(reports.contents_of(store))
    assert {head.group for head in table.heads} == {"", "FID", "test loss"}
    assert "No pair has TV." in table.notes
    assert "; TV in no pair; " in reports.contrast_lines(store)[0]


def test_the_claims_are_a_line_each_on_the_terminal(store):
    lines = reports.claim_lines(store)
    assert [line.split(",")[0] for line in lines] == [f"claim {number}" for number in (1, 2, 3, 4, 5)]
    assert all("(paper" in line and "fair)" in line for line in lines)
    assert lines[0].startswith("claim 1, FedAvg's loss falls more slowly than centralized training's at first: ")


def test_a_floor_that_differs_is_not_shown(tmp_path):
    store = one_seed(tmp_path)
    fake_store.run_cell(store, store.planned()[0], floor={**fake_store.FLOOR, "fid": 9.0})
    assert not any("real" in line for line in printed(store, 120))
    assert "other real" not in latex(store)


# ------------------------------------------------------------------------------------------ LaTeX


def test_text_is_escaped():
    assert escape(r"50% of a_b & {c} #1 $5 \x ~^<>|") == (
        r"50\% of a\_b \& \{c\} \#1 \$5 \textbackslash{}x \textasciitilde{}\textasciicircum{}"
        r"\textless{}\textgreater{}\textbar{}"
    )
    assert escape("β") == "?"


# ------------------------------------------------------------------------------------------ Markdown


def cells_of(text: str) -> list[list[str]]:
    """Rows of a table as a renderer of Markdown reads them."""
    made, inside = [], False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "tr_open":
            made.append([])
        inside = {"th_open": True, "td_open": True, "th_close": False, "td_close": False}.get(token.type, inside)
        if inside and token.type == "inline":
            assert {child.type for child in token.children} <= {
                "text",
                "text_special",
                "strong_open",
                "strong_close",
                "html_inline",
            }
            made[-1].append("".join(child.content for child in token.children if child.type != "html_inline"))
    return made


@given(st.text())
@example("a | b \\| c \\\\| *d* _e_ `f` [g](http://h) <b>i</b> &amp; $j$ ~~k~~ ![l](m) #1 www.n.org")
@example("\n\n# heading\n- list\x1b]0;title\x07")
@example("- no list")
def test_text_in_markdown_is_read_and_not_obeyed(text):
    head, row = cells_of(f"| a | b |\n| --- | --- |\n| {markdown.escape(text)} | last |\n")
    assert head == ["a", "b"]
    plain = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
    assert [cell.strip() for cell in row] == [plain.strip(), "last"]


def test_addresses_in_markdown_are_no_links():
    assert markdown.escape("https://a.b www.c.d") == r"https\://a.b www\.c.d"


def test_markdown_has_a_row_for_each_of_the_summary(store):
    head, *rows = cells_of((store.root / "tables" / "summary.md").read_text())
    assert head[:5] == ["strategy", "n", "β", "seeds", "FID ↓"]
    assert [row[0] for row in rows] == list(table_of(store)["strategy"])
    assert rows[2][4] == "15.63 ± 0.91"
    assert rows[5][3:6] == ["0/2", "failed", "--"]


def test_markdown_marks_best_and_tied(marked):
    lines = latex(marked, "summary.md").splitlines()
    assert any("| **18.71** ± 1.27 |" in line for line in lines)
    assert any("| <ins>19.27</ins> ± 6.34 |" in line for line in lines)


# ------------------------------------------------------------------------------------------ caption


def test_a_caption_says_what_of_which_data_and_seeds_and_what_marks_are(marked):
    text = latex(marked, "fid_caption.tex")
    assert text == (
        "\\caption{FID, lower is better. mnist5k at 16$\\times$16, 100 samples, 3 seeds (mean $\\pm$ sd). "
        "Bold: best federated strategy of its split; underlined: not distinguishable from it.}\n"
        "\\label{tab:marked-fid}\n"
    )


def test_a_caption_takes_three_lines_of_a_column(store):
    """About 75 letters each."""
    captions = {path.name: path.read_text() for path in (store.root / "tables").glob("*_caption.tex")}
    texts = {name: text.split("\n")[0].removeprefix("\\caption{") for name, text in captions.items()}
    assert len(texts) > 15
    assert {name: len(text) for name, text in texts.items() if len(text.replace("$", "")) > 225} == {}


def test_a_caption_can_do_without_the_number_of_samples(store):
    results = reports.read(store)
    assert of_what(results) == "mnist5k at 16×16, 100 samples, 2 seeds"
    assert of_what(results, samples=False) == "mnist5k at 16×16, 2 seeds"


def test_the_setting_is_told_whole_and_once(store):
    told = reports.setting_of(store)
    assert told["Training"] == "rounds 3, local epochs 1, batch size 32, participation 1, stragglers 0, failures 0."
    assert told["Data"].startswith(
        "mnist5k, size 16, fitted by pad-pool, validation images 100, test images 100, sampling stratified, range symmetric"
    )
    assert told["Data"].endswith(
        "partition dirichlet(min_size=10, max_retries=1000), training images 200, digest dddddddddddd."
    )
    assert told["Local optimizer"].endswith("optimizer state keep (centralized) / reset.")
    assert told["Extractor"].endswith("test accuracy 0.99.")
    assert told["Hardware and software"] == (
        "threads of a cell 1, precision float32, device cpu, processor A processor, Python 3.11.9, torch 2.13.0, "
        "numpy 2.4.6, commit c0ffee000000."
    )
    text = (store.root / "tables" / "setup.md").read_text()
    assert "**Data.** mnist5k, size 16" in text
    assert "Seeds: 0, 1." in text
    assert "ΔFID: FID minus that of centralized training of the same seed." in text


def test_every_field_is_told_where_nothing_is_switched_off(tmp_path):
    on = {
        "training": {"rounds": 3, "participation": 0.5, "local_steps": 7}, "model": fake_store.SETTINGS["model"] | {"class_conditional": True},
        "diffusion": {"T": 100, "loss": "min-snr"}, "ema": {"mode": "server"}, "latent": {"mode": "federated"},
        "sampler": {"name": "ddim", "steps": 5}, "evaluation": {"n_samples": 100, "curve_every": 1},
    }  # fmt: skip
    made = {section: fake_store.SETTINGS[section] | settings for section, settings in on.items()}
    told = reports.setting_of(fake_store.finished_store(tmp_path, {"seed": [0]}, **made))
    shown = {section: text.removesuffix(".") for section, text in told.items()}
    for name in field_names():
        section, _, key = name.rpartition(".")
        if name not in (*LEFT_OUT, *ELSEWHERE) and not key.startswith("nll"):  # there are no bits/dim of latents
            word = WORDS.get(key, key.replace("_", " "))
            assert any(part.startswith(word) for part in shown[SECTIONS[section or "computation"]].split(", ")), name
    assert set(IDLE) <= set(field_names())
    assert {switch for switch, _ in IDLE.values()} <= set(field_names())


def test_settings_of_what_is_switched_off_are_not_told(store):
    told = reports.setting_of(store)
    assert (told["Moving average of weights"], told["Autoencoder"]) == ("off.", "off.")
    text = " ".join(told.values())
    for word in (
        "min-SNR",
        "label dropout",
        "decay",
        "eta",
        "guidance",
        "sampling fixed",
        "KL weight",
        "timesteps for",
    ):
        assert word not in text


def test_strategies_are_told_with_the_hyper_parameters_that_their_titles_lack(tmp_path):
    axes = {"strategy": ["centralized", "fedavg", "fedadam(server_lr=0.1)"], "seed": [0], "n_clients": [3]}
    store = fake_store.finished_store(tmp_path, axes)
    assert reports.setting_of(store)["Strategies"] == (
        "centralized; fedavg; fedadam(server_lr=0.1) (server lr = 0.1, β1 = 0.5, τ = 0.001, initial v = 0.0, β2 = 0.99, "
        "bias correction = true)."
    )
    titles = {"fedadam(server_lr=0.1)": "FedAdam, server lr = 0.1", "fedavg": "FedAvg"}
    told = dict(setting(Results.read(store.root, titles)))["Strategies"]
    assert told.startswith("centralized; FedAvg; FedAdam, server lr = 0.1 (β1 = 0.5, τ = 0.001, ")


def test_the_networks_parameters_are_those_of_the_weights(tmp_path):
    store = one_seed(tmp_path)
    assert "parameters" not in reports.setting_of(store)["Network"]
    for cell in store.planned():
        tensors = {"a.weight": torch.zeros(10, 123), "a.bias": torch.zeros(10)}
        write_tensors(store.cell(cell.cell_id).path / "weights.safetensors", tensors)
    assert "parameters 1,240." in reports.setting_of(store)["Network"]
    file = store.cell(store.planned()[0].cell_id).path / "weights.safetensors"
    file.write_bytes(b"odd")
    with pytest.warns(UserWarning, match=f"{file} is damaged"):
        assert "parameters -- (centralized) / 1,240." in reports.setting_of(store)["Network"]


def without(tree: dict, *paths: str) -> dict:
    """A record as an earlier version wrote it, which had nothing at these paths."""
    for path in paths:
        *sections, last = path.split(".")
        found = tree
        for section in sections:
            found = found.get(section, {})
        found.pop(last, None)
    return tree


def older(store: Store, *paths: str) -> Store:
    for cell in store.planned():
        folder = store.cell(cell.cell_id)
        write_json(folder.path / "result.json", without(read_json(folder.path / "result.json"), *paths))
    return store


def test_records_of_an_earlier_version_are_told_as_far_as_they_go(tmp_path):
    store = older(one_seed(tmp_path), "floor", "extractor", "config.ema", "config.training.stragglers")
    told = reports.setting_of(store)
    assert "Moving average of weights" not in told
    assert "Extractor" not in told
    assert "stragglers" not in told["Training"]
    assert "rounds 3" in told["Training"]
    assert "other real" not in latex(store, "setup.tex")
    assert not any("real" in line for line in printed(store, 120))


def test_of_epochs_and_steps_the_setting_tells_what_each_cell_trained_by(tmp_path):
    training = fake_store.SETTINGS["training"] | {"local_steps": 7, "local_epochs": 2}
    store = fake_store.finished_store(tmp_path, {"seed": [0]}, training=training)
    assert (
        "local epochs 2 (centralized) / --, local steps -- (centralized) / 7" in reports.setting_of(store)["Training"]
    )


def test_without_any_setting_there_are_tables(tmp_path):
    store = older(one_seed(tmp_path), "data", "extractor", "config")
    assert set(reports.setting_of(store)) == {"Hardware and software"}
    assert "FID, lower is better" in latex(store, "fid_caption.tex")


def test_a_setting_that_some_records_lack_is_not_told_as_common(tmp_path):
    store = one_seed(tmp_path)
    folder = store.cell(store.planned()[0].cell_id)
    write_json(folder.path / "result.json", without(read_json(folder.path / "result.json"), "config.training.rounds"))
    assert "rounds -- (centralized) / 3" in reports.setting_of(store)["Training"]


def test_a_floor_of_an_unknown_number_of_images_is_shown(tmp_path):
    store = older(one_seed(tmp_path), "floor.n_generated")
    assert "For comparison, other real images score FID 1.25" in latex(store, "setup.tex")
    assert any(line.startswith("real images") for line in printed(store, 120))


def test_what_may_not_be_compared_is_told(recipes, store):
    text = latex(recipes, "setup.tex")
    assert "Validation and test losses are comparable within one noise schedule only." in text
    assert "Validation and test losses of images and of latents are not comparable." in text
    assert "no published numbers compare with them" in text
    text = (store.root / "tables" / "setup.tex").read_text()
    assert "comparable" not in text
    assert "published" not in text


def test_what_recipes_differ_in_is_told_by_recipe(recipes):
    told = reports.setting_of(recipes)
    assert told["Local optimizer"].endswith("optimizer state keep (centralized) / reset.")
    by_recipe = dict(text.split(": ") for text in told["Recipes, where they differ from this"].split("; "))
    assert (
        by_recipe["linear-simple-ddim"] == "diffusion schedule linear, sampling ddim, sampling steps 10, sampling eta 0"
    )
    assert "variance small, loss simple" in told["Diffusion"]
    assert "diffusion variance learned, diffusion loss hybrid" in by_recipe["cosine_hybrid"]
    assert (
        "network class conditional true, diffusion schedule cosine, diffusion label dropout 0.1"
        in by_recipe["cosine-guided"]
    )
    assert "autoencoder central (centralized) / federated, autoencoder channels 4" in by_recipe["cosine-latent"]


# ------------------------------------------------------------------------------------------ recipes


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Store:
    results = tmp_path_factory.mktemp("recipes")
    axes = fake_store.RECIPE_AXES | {"strategy": ["centralized", "fedavg", "fedprox(mu=0.1)"]}
    return fake_store.finished_store(results, axes, recipes=fake_store.RECIPES)


def test_columns_stand_where_any_row_has_a_number(store, recipes):
    new = {"bits_per_dim", "label_accuracy", "reconstruction_fid"}
    made = reports.contents_of(recipes)
    assert new <= {metric.key for metric in made.metrics}
    assert not new & {metric.key for metric in reports.contents_of(store).metrics}
    head = " ".join(printed(recipes, 180)[1:3])
    assert all(part in head for part in ("rec.", "asked", "bits/"))
    for recipe, key in (("cosine_hybrid", "bits_per_dim"), ("cosine-guided", "label_accuracy")):
        block = made.means[(made.means["recipe"] == recipe) & made.means["n_clients"].notna()]
        assert block[key].notna().all()
        wanted = block[key].idxmin() if key == "bits_per_dim" else block[key].idxmax()
        assert made.marks[key][wanted] == "untested"
        assert made.means[key].notna().sum() == 3
    assert set(made.marks["reconstruction_fid"]) == {""}
    assert (made.digits["bits_per_dim"], made.digits["label_accuracy"]) == (3, 3)


def test_totals_include_the_autoencoder(recipes):
    rows = reports.rows_of(recipes).frame.set_index(["recipe", "strategy"])
    plain, latent = rows.loc[("cosine-guided", "fedavg")], rows.loc[("cosine-latent", "fedavg")]
    assert latent["megabytes"] - plain["megabytes"] == pytest.approx(0.5)
    assert (latent["seconds"], plain["seconds"]) == (pytest.approx(8.0), pytest.approx(6.75))


def test_clients_losses_and_those_without_averaging_are_summarised(recipes):
    table = table_of(recipes).set_index(["recipe", "strategy"])
    row = table.loc[("cosine-latent", "fedavg")]
    metrics = next(
        read_json(recipes.cell(cell.cell_id).path / "result.json")["metrics"]
        for cell in recipes.planned()
        if (cell.labels["recipe"], cell.labels["strategy"]) == ("cosine-latent", "fedavg")
    )
    for key in ("test_loss_client_mean", "test_loss_client_sd", "test_loss_client_max", "validation_loss_raw"):
        assert row[key] == metrics[key]
    assert math.isnan(table.loc[("cosine-guided", "fedavg")]["validation_loss_raw"])


def test_names_of_recipes_are_escaped(recipes):
    text = latex(recipes)
    assert r"cosine\_hybrid &" in text
    assert r"strategy & n & $\beta$ & recipe & seeds" in text


def test_bold_is_not_announced_where_nothing_is_compared(tmp_path):
    store = one_seed(tmp_path, strategy=["centralized", "fedavg"])
    text = latex(store)
    assert "bold" not in text
    assert r"\textbf" not in text


# ------------------------------------------------------------------------------------------ warnings


def test_rows_that_came_about_alike_need_no_warning(store):
    assert reports.warnings_of(store) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"commit": "f" * 40}, "commits of the code: c0ffee0000 (2 cells), ffffffffff (1 cell)"),
        ({"dirty": True}, "working tree (dirty): False (2 cells), True (1 cell)"),
        ({"packages": {"torch": "2.14.0", "numpy": "2.4.6"}}, "versions of torch: 2.13.0 (2 cells), 2.14.0 (1 cell)"),
        ({"packages": {"torch": "2.13.0"}}, "versions of numpy: 2.4.6 (2 cells), unknown (1 cell)"),
        ({"python": "3.12.1"}, "versions of Python"),
        ({"device": "NVIDIA H100"}, "devices, so seconds do not compare"),
        ({"cpu": "Another"}, "processors, so seconds do not compare"),
    ],
)
def test_rows_that_came_about_otherwise_are_told(tmp_path, change, told):
    store = one_seed(tmp_path)
    fake_store.run_cell(store, store.planned()[0], environment=fake_store.ENVIRONMENT | change)
    (warning,) = reports.warnings_of(store)
    assert told in warning


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        shutil.rmtree(GOLDEN, ignore_errors=True)
        write_golden(golden_store(Path(folder)), GOLDEN)
    sys.exit("written; look at `git diff tests/golden` before you commit")
