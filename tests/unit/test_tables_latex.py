"""LaTeX tables: what stands in them, and that pdflatex sets them, for grids that are whole, broken, odd and long."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.report.paging import evened
from bench.report.tables import latex
from bench.report.tables.caption import setup
from bench.report.tables.table import Place, Row
from bench.report.tables.write import _latex, tables
from bench.store.files import read_json, write_json
from bench.store.grid_folder import Store
from tests import fake_store, reports
from tests.golden.test_tables import change_score, golden_store

HOSTILE = (
    "[x]*\\input{/etc/passwd}",
    "$x^2_1$ & 50% #1 ~ {unbalanced",
    "\\\\[3cm] \n\n\\par \x00\x1b]0;title\x07\x7f",
    "ü ç Ø ÿ ß “β” – θ Ω 漢 <script>|</script> \u202e--",
    "-1.5",
)


def hostile_store(results: Path) -> Store:
    """Every text of the plan and the results is made of what LaTeX obeys."""
    store = fake_store.planned_store(results, {"seed": [0]}, name="hostile")
    names = iter(HOSTILE * 20)
    plan = store.plan() | {"name": HOSTILE[1], "extra_axes": ["recipe", HOSTILE[0]]}
    for cell in plan["cells"]:
        cell["labels"] |= {"recipe": next(names), HOSTILE[0]: next(names)}
        if cell["labels"]["n_clients"] is not None:
            cell["labels"]["strategy"] = f"{next(names)} {cell['cell_id']}"
    store.write_plan(plan)
    data = fake_store.DATA | {"name": HOSTILE[3], "fit": HOSTILE[2]}
    for cell in store.planned():
        fake_store.run_cell(store, cell, data=data, extractor=fake_store.EXTRACTOR | {"name": HOSTILE[1]})
    return store


def all_failed_but_one(results: Path) -> Store:
    store = fake_store.planned_store(results, name="failed")
    cells = store.planned()
    for cell in cells[:-1]:
        fake_store.fail(fake_store.begin(store, cell))
    fake_store.run_cell(store, cells[-1])
    return store


def stores(results: Path) -> list[Store]:
    """A grid of each kind that tables have to cope with."""
    many = ["centralized", *(f"fedprox(mu={mu})" for mu in range(1, 41))]
    wide = {"strategy": ["centralized", "fedavg"], "n_clients": [2, 3, 5], "beta": [0.1, 0.5, 1.0], "seed": [0, 1]}
    steps = {"sampler.steps": [5, 10], "training.participation": [0.5], "seed": [0], "n_clients": [3]}
    return [
        golden_store(results),
        fake_store.finished_store(results, wide, name="wide"),
        all_failed_but_one(results),
        fake_store.planned_store(results, name="nothing"),
        fake_store.finished_store(results, {"strategy": ["centralized"], "seed": [0, 1]}, name="central"),
        hostile_store(results),
        fake_store.finished_store(results, fake_store.RECIPE_AXES, recipes=fake_store.RECIPES, name="recipes"),
        fake_store.finished_store(results, steps, name="axes"),
        fake_store.finished_store(results, {"strategy": many, "seed": [0], "n_clients": [3]}, name="long"),
    ]


WAYS = [("text", False), ("column", False), ("column", True)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], list[Path]]:
    """Tables of all stores, by their width and whether siunitx is used."""
    results = tmp_path_factory.mktemp("results")
    found: dict[tuple[str, bool], list[Path]] = {way: [] for way in WAYS}
    for store in stores(results):
        contents = reports.contents_of(store)
        parts = tables(contents), setup(contents)
        for (width, siunitx), known in found.items():
            known.append(store.root / f"tables-{width}-{siunitx}")
            known[-1].mkdir()
            for name, text in _latex(contents, *parts, width, siunitx).items():
                (known[-1] / name).write_text(text)
    return found


def bodies_of(folder: Path) -> list[Path]:
    return [
        path for path in sorted(folder.glob("*.tex")) if path.stem != "setup" and not path.stem.endswith("_caption")
    ]


def pdflatex(folder: Path, sources: Sequence[Path], width: float, packages: Sequence[str]) -> str:
    """Set all tables as a paper does, each in a float of that width with its caption; returns what pdflatex said."""
    assert shutil.which("pdflatex"), (
        "pdflatex is not installed; on Debian: apt-get install texlive-latex-base texlive-latex-extra texlive-science"
    )
    inputs = []
    for number, source in enumerate(sources):
        shutil.copy(source, folder / f"{number}.tex")
        shutil.copy(source.with_name(f"{source.stem}_caption.tex"), folder / f"{number}_caption.tex")
        inputs.append(rf"\begin{{table}}\input{{{number}_caption}}\input{{{number}}}\end{{table}}\clearpage")
    for number, source in enumerate(sorted({path.with_name("setup.tex") for path in sources})):
        shutil.copy(source, folder / f"setup{number}.tex")
        inputs.append(rf"\sloppy\input{{setup{number}}}\clearpage")
    head = rf"\documentclass{{article}}\usepackage[textwidth={width}pt]{{geometry}}\usepackage{{{','.join(packages)}}}"
    (folder / "document.tex").write_text(head + r"\begin{document}" + "\n".join(inputs) + r"\end{document}")
    done = subprocess.run(
        ["pdflatex", "-interaction=batchmode", "-halt-on-error", "-no-shell-escape", "-recorder", "document.tex"],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    told = (folder / "document.log").read_text(errors="replace")
    assert done.returncode == 0, told[-3000:]
    return told


@pytest.mark.parametrize("way", WAYS)
def test_all_tables_of_all_grids_are_set_by_pdflatex_in_their_width(folders, way, tmp_path):
    """At the size of letters that they say: nothing is scaled."""
    sources = [path for folder in folders[way] for path in bodies_of(folder)]
    needed = {name for path in sources for name in re.findall(r"\\usepackage\{(.+)\}", path.read_text())[0].split(",")}
    assert needed == {"array", "booktabs", "graphicx", *(["siunitx"] if way[1] else [])}
    told = pdflatex(tmp_path, sources, latex.WIDTHS[way[0]], sorted(needed))
    assert "Overfull" not in told
    assert "too large for page" not in told
    assert "/etc/passwd" not in (tmp_path / "document.fls").read_text()
    assert not any("resizebox" in path.read_text() for path in sources)


def test_every_row_has_the_columns_that_are_declared(folders):
    """pdflatex says nothing of rows that are too short."""
    for path in (path for known in folders.values() for folder in known for path in folder.glob("*.tex")):
        for types, body in re.findall(
            r"\\begin\{tabular\}\{([^\n]+)\}\n\\toprule\n(.*?)\\bottomrule", path.read_text(), re.S
        ):
            declared = len(re.sub(r"\[[^]]*\]|@\{\}|>\{[^}]*\}|\{[^}]*\}", "", types))
            for line in (line for line in body.splitlines() if line.endswith(r"\\")):
                spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
                assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) == declared, (path, line)


def test_braces_are_balanced(folders):
    for path in (path for known in folders.values() for folder in known for path in folder.glob("*.tex")):
        plain = re.sub(r"\\[{}\\]", "", path.read_text())
        assert plain.count("{") == plain.count("}")


# ------------------------------------------------------------------------------------------------ what stands in them


def lines_of(store: Store, name: str, **settings) -> list[str]:
    reports.write_tables(store, **settings)
    return (store.root / "tables" / name).read_text().splitlines()


def row_of(lines: Sequence[str], first: str) -> list[str]:
    (found,) = [line for line in lines if line.startswith(f"{first} &")]
    return [cell.strip() for cell in found.removesuffix(r"\\").split(" &")]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of the golden grid."""
    store = golden_store(tmp_path_factory.mktemp("golden"))
    reports.write_tables(store)
    return store.root / "tables"


@pytest.fixture
def disputed(tmp_path) -> Store:
    """One split of three strategies: fedavg's seeds are far off the best, fedprox(mu=1.0)'s on both sides of it."""
    strategies = ["centralized", "fedavg", "fedprox(mu=0.1)", "fedprox(mu=1.0)"]
    store = fake_store.finished_store(tmp_path, {"strategy": strategies, "n_clients": [3], "seed": [0, 1, 2]})
    for cell in store.planned():
        if cell.labels["strategy"] == "fedprox(mu=1.0)":
            change_score(store, cell, fid=1.0 - cell.labels["seed"] * 0.5)
    return store


def test_the_best_is_bold_and_what_the_seeds_cannot_tell_from_it_is_underlined(disputed):
    lines = lines_of(disputed, "fid.tex")
    assert [row_of(lines, name)[1][:7] for name in ("fedavg", "fedprox(mu=0.1)", "fedprox(mu=1.0)")] == [
        "18.71", r"\textbf", r"\underl",
    ]  # fmt: skip
    tables = disputed.root / "tables"
    assert "underlined: not distinguishable from it" in (tables / "fid_caption.tex").read_text()
    assert "nderlined" not in (tables / "seconds_caption.tex").read_text()
    assert "<ins>16.77</ins> ± " in (disputed.root / "tables" / "summary.md").read_text()


TOO_FEW = "Nothing is marked as the best by fewer than 3 seeds."


def test_where_seeds_are_too_few_nothing_is_marked_and_it_is_said(disputed, golden):
    assert TOO_FEW in (golden / "setup.tex").read_text()
    for path in golden.iterdir():
        assert not any(mark in path.read_text() for mark in (r"\textbf", r"\underline", r"\bfseries", "<ins>")), path
    text = "".join(lines_of(disputed, "setup.tex"))
    assert "strategies are compared within it" in text
    assert "Tukey's range test over all of the split's strategies, with seeds as blocks" in text
    assert TOO_FEW not in text


def test_rows_that_share_too_few_seeds_are_not_told_apart(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0, 1, 2, 3, 4]}, missing=[5, 6, 13, 14])
    text = "".join(lines_of(store, "setup.tex"))
    assert TOO_FEW in text
    assert "Tukey" not in text


def test_bias_of_fid_is_told_by_the_closed_form_and_by_the_bootstrap(golden):
    told = (
        "At this number of images: bias of FID by the closed form for Gaussian features with the reference's "
        "covariance (0.75), bias of FID by a bootstrap over images (0.8), standard deviation of FID over resampled "
        "images (0.4)."
    )
    text = (golden / "setup.tex").read_text()
    assert told in text
    assert told in (golden / "setup.md").read_text().replace("\\", "")
    assert "with the bias of the finite reference" in text


def test_training_losses_have_their_deviation_in_the_summary(golden):
    assert r"0.1772 & \,{\scriptsize $\pm$ 0.0007}" in (golden / "summary.tex").read_text()
    assert "| 0.1772 ± 0.0007 |" in (golden / "summary.md").read_text()


def test_with_siunitx_numbers_are_its_own_and_all_else_is_in_braces(disputed):
    lines = lines_of(disputed, "fid.tex", siunitx=True)
    cells = [row_of(lines, name)[1] for name in ("centralized", "fedavg", "fedprox(mu=0.1)", "fedprox(mu=1.0)")]
    assert cells == ["5.45", "18.71", r"\bfseries 16.27", r"{\underline{16.77}}"]
    assert any("S[table-format=2.2]@{}l" in line for line in lines)
    assert latex._table_format(["+12.43", "-0.5", ""]) == "+2.2"
    assert latex._table_format([]) == "1.0"


def test_what_is_not_finished_says_why(golden):
    lines = (golden / "fid.tex").read_text().splitlines()
    assert row_of(lines, "fedavg")[1:6:2] == ["17.43", "13.80", "failed"]
    assert row_of(lines, "fedavg")[2] == r"\textsuperscript{1/2}"
    assert "k/m: k of the m planned seeds." in (golden / "setup.tex").read_text()


def test_centralized_training_spans_all_splits_of_which_it_knows_nothing(golden):
    lines = (golden / "kid.tex").read_text().splitlines()
    assert row_of(lines, "centralized")[1] == r"\multicolumn{8}{c}{2.10\,{\scriptsize $\pm$ 0.14}}"
    assert any(r"\multicolumn{4}{c}{n = 3} & \multicolumn{4}{c}{n = 5}" in line for line in lines)
    assert any(line.startswith(r"\cmidrule(lr){2-5}\cmidrule(lr){6-9}") for line in lines)


def test_further_axes_stand_once_for_their_rows(tmp_path):
    recipes = {"a_1": {"ema": {"mode": "server"}}, "b": {"latent": {"mode": "federated"}}}
    store = fake_store.finished_store(tmp_path, fake_store.RECIPE_AXES, recipes=recipes)
    lines = lines_of(store, "fid.tex")
    assert [line.split(" &")[:2] for line in lines if line.endswith(r"\\")][1:] == [
        [r"a\_1", " centralized"], ["", " fedavg"], ["b", " centralized"], ["", " fedavg"],
    ]  # fmt: skip
    only = (store.root / "tables" / "reconstruction_fid.tex").read_text()
    assert r"a\_1" not in only


def test_a_p_stands_where_the_seeds_can_reach_it_and_else_a_mark_of_the_reason(tmp_path):
    axes = {"strategy": ["centralized", "fedavg"], "n_clients": [3], "beta": [0.1, 1.0], "seed": list(range(8))}
    store = fake_store.finished_store(tmp_path, axes, missing=[8, 9, 10, 11, 12, 13])
    lines = lines_of(store, "differences.tex")
    few, enough = ([line for line in lines if line.startswith(f"fedavg & 3 & {beta} ")] for beta in ("0.1", "1"))
    assert "".join(few).count(r"\textsuperscript{a}") == 3
    assert "".join(enough).count("& 0.016") == 3
    why = "(a) No p of sign flips: 2 seeds: the smallest p is 0.5; 2 comparisons need 7 seeds."
    assert any(why in line for line in lines)
    assert "p (flips): exact, by sign flips" in "".join(lines)
    assert "p (flips) is the exact one of all sign flips" in (store.root / "tables" / "setup.tex").read_text()


def test_where_no_p_of_sign_flips_can_be_reached_there_is_no_column_but_the_reasons(golden):
    text = (golden / "differences.tex").read_text()
    assert "flips)" not in text
    assert (
        "No p of sign flips: 1 seed: the smallest p is 1; 7 comparisons need 9 seeds. "
        "No p of sign flips: 2 seeds: the smallest p is 0.5; 7 comparisons need 9 seeds. "
        "No p of sign flips: no seed has this number on both sides."
    ) in text
    assert "p: paired t test, after Holm over all comparisons of a metric." in text
    rows = [line.removesuffix(r" \\") for line in text.splitlines() if line.startswith("fed")]
    assert r" & +10.40 & \,{\scriptsize {[}+5.118, +15.690{]}} & +199.1 & 0.153" in rows[1]
    assert rows[0].endswith("& +12.43 &  & +248.7 & --")


def test_contrasts_are_a_block_an_axis_and_columns_of_a_metric_stay_together(disputed):
    lines = lines_of(disputed, "contrasts.tex")
    heads = [line for line in lines if line.startswith("strategy")]
    assert len(heads) == 3
    columns = [head.split("pairs & ")[1] for head in heads]  # differences in TV and loss are the same in every seed
    assert columns == [rf"\multicolumn{{2}}{{c}}{{$\Delta$}} & \% & {more}r \\" for more in ("p & ", "", "")]
    assert sum("addlinespace" in line for line in lines) == 0  # strategies alone are contrasted
    assert [line.split(" &")[0] for line in lines if line.startswith("fedprox")] == [
        "fedprox(mu=0.1) $-$ fedavg", "fedprox(mu=1.0) $-$ fedavg",
    ] * 3  # fmt: skip
    text = (disputed.root / "tables" / "contrasts.md").read_text()
    assert "| fedprox(mu=0.1) − fedavg | 3 | 0.1 | 3 | −2.44 " in text.replace("\\", "")
    assert "Standard errors over those of unpaired seeds: " in text
    assert "after Holm over the comparisons of a metric along an axis" in text


def test_a_small_p_is_no_number_to_be_set(disputed):
    for siunitx in (False, True):
        assert r"\textless{}0.001" in "".join(lines_of(disputed, "contrasts.tex", siunitx=siunitx))


def test_what_compares_is_told_only_where_it_stands(golden, tmp_path):
    told = dict(setup(reports.contents_of(fake_store.planned_store(tmp_path))))
    assert "t intervals" not in told["Comparisons"].split("Claims")[0]
    text = (golden / "setup.tex").read_text()
    assert "Differences are means over seeds with 95 \\% t intervals." in text
    assert "p is of the paired t test, with Holm's adjustment over all comparisons of a metric" in text
    assert "flips" not in text


def test_differences_are_to_the_baseline_asked_for(disputed):
    lines = lines_of(disputed, "differences.tex", baseline="fedavg")
    text = (disputed.root / "tables" / "differences_caption.tex").read_text()
    assert "Differences to fedavg, paired by seed" in text
    names = dict.fromkeys(line.split(" &")[0] for line in lines if line.startswith("fed"))
    assert list(names) == ["fedprox(mu=0.1)", "fedprox(mu=1.0)"]
    with pytest.raises(ValueError, match="baseline: got 'nobody'"):
        reports.write_tables(disputed, baseline="nobody")


def test_what_reaches_the_centralized_loss_by_some_seeds_only_says_how_many(disputed):
    for cell in disputed.planned():
        folder = disputed.cell(cell.cell_id)
        if cell.labels["strategy"] == "fedavg" and cell.labels["seed"] == 2:
            (folder.path / "metrics.jsonl").unlink()
            folder.append("metrics.jsonl", [{**fake_store.round_record(cell, 1), "validation_loss": 0.0, "time": 1.0}])
    lines = lines_of(disputed, "rounds_to_centralized.tex")
    assert [row_of(lines, name)[1] for name in ("fedavg", "fedprox(mu=1.0)")] == ["1 of 3", "never"]


def test_of_seeds_without_centralized_training_nobody_knows_whether_they_reach_it(tmp_path):
    strategies = ["centralized", "fedavg", "fedprox(mu=0.1)", "fedprox(mu=1.0)"]
    axes = {"strategy": strategies, "n_clients": [3], "seed": [0, 1, 2]}
    store = fake_store.finished_store(tmp_path, axes, missing=[2])
    reach = {("fedavg", 0), ("fedavg", 1), ("fedprox(mu=0.1)", 1)}
    for cell in store.planned():
        if (cell.labels["strategy"], cell.labels["seed"]) in reach:
            folder = store.cell(cell.cell_id)
            (folder.path / "metrics.jsonl").unlink()
            folder.append("metrics.jsonl", [{**fake_store.round_record(cell, 1), "validation_loss": 0.0, "time": 1.0}])
    lines = lines_of(store, "rounds_to_centralized.tex")
    assert [row_of(lines, name)[1] for name in strategies[1:]] == ["2 of 2 known", "1 of 2 known", "0 of 2 known"]
    told = "Known are seeds whose centralized training is finished."
    assert told in (store.root / "tables" / "setup.tex").read_text()


def test_ranks_say_how_many_blocks_are_won(golden, disputed):
    lines = (golden / "ranks.tex").read_text().splitlines()
    assert row_of(lines, "fedprox(mu=0.1)")[1:3] == ["1.00", r"\,{\scriptsize (3/3)}"]  # two seeds: no bold
    assert row_of(lines, "fedavg")[1:3] == ["2.00", r"\,{\scriptsize (0/3)}"]
    assert row_of(lines_of(disputed, "ranks.tex"), "fedprox(mu=0.1)")[1] == r"\textbf{1.00}"


def test_one_strategy_is_not_ranked_and_an_earlier_table_of_ranks_does_not_stay(tmp_path):
    store = fake_store.finished_store(tmp_path, {"strategy": ["centralized", "fedavg"], "n_clients": [3]})
    stale = store.root / "tables" / "ranks.tex"
    stale.parent.mkdir()
    stale.write_text("fedavg won")
    text = "".join(lines_of(store, "ranks.tex"))
    assert "Nothing to show." in text
    assert "fedavg" not in text
    assert "In parentheses" not in text
    assert (store.root / "tables" / "ranks.csv").read_text() == "metric,strategy,blocks,seeds,mean_rank,wins\n"


def test_claims_say_that_their_intervals_are_not_adjusted_for_their_number(golden):
    for name, percent in (("setup.tex", r"\%"), ("setup.md", "%")):
        told = f"Each of the 10 answers has a 95 {percent} t interval over seeds, not adjusted for their number."
        assert told in (golden / name).read_text()


def test_every_claim_is_answered_by_both_measures(golden):
    text = (golden / "claims.tex").read_text()
    found = re.findall(
        r"\\multicolumn\{3\}\{>\{\\raggedright\\arraybackslash\}p\{[\d.]+pt\}\}\{(\d\.|paper|fair)", text
    )
    assert found == [part for claim in "12345" for part in (f"{claim}.", "paper", "fair")]


# --------------------------------------------------------------------------------------------------- long, wide, texts


def test_a_long_table_goes_on_in_files_that_fit_a_page(folders):
    folder = folders["text", False][-1]
    files = [path for path in bodies_of(folder) if path.stem.startswith("summary")]
    assert [path.stem for path in files] == [
        f"summary{end}" for end in ("", *(f"_{k}" for k in range(2, len(files) + 1)))
    ]
    assert len(files) > 3
    assert max(path.read_text().count(r"\\" + "\n") for path in files) <= latex.MOST_LINES + 1
    assert "All metrics, continued." in (folder / "summary_2_caption.tex").read_text()
    assert {path.read_text().count("fedprox") for path in files} == {39, 1, 40} or sum(
        path.read_text().count("fedprox") for path in files
    ) % 40 == 0


def test_what_is_too_wide_goes_below(folders):
    text = (folders["text", False][1] / "fid.tex").read_text()
    assert text.count(r"\begin{tabular}") == 2
    assert [text.count(f"n = {n}") for n in (2, 3, 5)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("sizes", "room", "lengths"),
    [
        ([1.0] * 7, 7, [7]),
        ([1.0] * 7, 6, [4, 3]),
        ([1.0] * 9, 4, [3, 3, 3]),
        ([3.0, 1, 1, 1], 3, [1, 3]),
        ([5.0, 1], 3, [1, 1]),
    ],
)
def test_panels_are_as_few_as_can_be_and_of_about_one_size(sizes, room, lengths):
    found = evened(sizes, room)
    assert [place for run in found for place in run] == list(range(len(sizes)))
    assert [len(run) for run in found] == lengths


def test_pages_keep_blocks_together_if_they_can():
    most, row = 32, Row((Place("x"),))  # of one line
    blocks = [(row,) * length for length in (most - 10, 20, most + 5, 1)]
    found = [[len(block) for block in page] for page in latex.pages(blocks, most, lambda row: len(row.places))]
    assert found == [[most - 10], [20], [32], [5, 1]]


def test_symbols_of_tables_are_set_and_others_are_not():
    assert latex.typeset("Δ_1 ± β 漢") == r"$\Delta$\_1 $\pm$ $\beta$ ?"
    assert latex.typeset("Fédération, θ = 1 – “x”") == r"Fédération, $\theta$ = 1 -- ``x''"


def test_a_hostile_grid_name_gives_a_plain_label(folders):
    (hostile,) = [folder for folder in folders["text", False] if "hostile" in folder.parts]
    assert r"\label{tab:x21501unbalanced-fid-infinity}" in (hostile / "fid_infinity_caption.tex").read_text()


def test_results_without_a_digest_of_the_data_that_all_share_say_so(tmp_path):
    store = fake_store.finished_store(tmp_path, {"seed": [0]})
    folder = store.cell(store.planned()[0].cell_id)
    result = read_json(folder.path / "result.json")
    write_json(folder.path / "result.json", result | {"data": result["data"] | {"digest": "e" * 64}})
    digests = ("e" * 12, "d" * 12)
    assert f"digest {digests[0]} (centralized) / {digests[1]}" in reports.setting_of(store)["Data"]
