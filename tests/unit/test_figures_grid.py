"""The figures of a whole grid: all drawn at once, and what stands in each is what the records say."""

import itertools
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from scipy import stats

import strategies
from bench.pictures.axes import OTHER, key
from bench.pictures.film import save_film
from bench.pictures.sheets import coloured
from bench.pictures.style import COLOURS, FAMILIES, REFERENCE, NotApplicable, Style, strategy_styles
from bench.report.__main__ import main, parser
from bench.report.curves import running_loss
from bench.report.figures import NAMES, compared, every, layout, overview, quality
from bench.report.figures.captions import Picture
from bench.report.lines import Line
from bench.report.results import Cell, Group, Results
from bench.store.cell_folder import CellFolder
from bench.store.files import read_json, read_lines, write_json
from bench.store.grid_folder import PlannedCell, Store
from bench.store.records import Steps
from tests import fake_store, reports
from tests.unit.test_figures import picture, texts, titles_of
from tests.unit.test_figures_federated import LONG, MANY, boxes, folder_of, lines, rewrite

NEW = [name for name in every.FIGURES if name not in ("overview", "costs", "why")]
DRAWN = ["overview", *NEW]  # tests of costs and why stand elsewhere, and they take as long as all others
COMPARED = ["centralized", "fedavg", "fedprox(mu=0.1)"]
SPLITS = ["n = 3, β = 0.1", "n = 3, β = 1", "n = 5, β = 0.1", "n = 5, β = 1"]


def add_films(store: Store) -> None:
    """Twelve frames of two images each; every frame and cell has its own grey."""
    for number, cell in enumerate(store.planned()):
        if read_json(store.cell(cell.cell_id).path / "result.json"):
            frames = [torch.full((2, 1, 16, 16), 8 * (k + number % 8), dtype=torch.uint8) for k in range(12)]
            save_film(frames, store.cell(cell.cell_id).path / "film.gif")


def vary_skew(store: Store) -> None:
    for cell in store.planned():
        if cell.labels["n_clients"] is not None and read_json(store.cell(cell.cell_id).path / "result.json"):
            skew = 0.6 - 0.3 * cell.labels["beta"] + 0.01 * cell.labels["seed"]
            rewrite(store.cell(cell.cell_id), metrics={"skew_tv": skew})


def draw_figures(
    store: Store, names: list[str], saved: bool = False
) -> tuple[dict[str, list[Picture]], list[Path], list[str]]:
    """`draw_all`, of figures of these names, and the pages of each."""
    pages: dict[str, list[Picture]] = {}

    def watched(draw: Callable[[Results], list[Picture]], name: str) -> Callable[[Results], list[Picture]]:
        return lambda results: pages.setdefault(name, draw(results))

    with pytest.MonkeyPatch.context() as patch:
        if not saved:
            patch.setattr(Figure, "savefig", lambda *_, **__: None)
            patch.setattr(every, "settle", lambda _: None)  # `check` does it
        patch.setattr(every, "FIGURES", {name: watched(every.FIGURES[name], name) for name in names})
        made, untold = reports.draw_figures(store, store.root / "figures")
    return pages, made, untold


class Drawn:
    """One store, all of whose figures were drawn once."""

    def __init__(self, root: Path) -> None:
        axes = {"beta": [0.1, 1.0], "seed": [0, 1, 2]}
        self.store = fake_store.finished_store(root, axes, missing=[26])
        fake_store.tell_more(self.store)
        vary_skew(self.store)
        add_films(self.store)
        self.pages, self.made, self.untold = draw_figures(self.store, DRAWN, saved=True)
        self.figures = {name: pages[0].figure for name, pages in self.pages.items()}

    def seeds(self, strategy: str, **labels: object) -> list[CellFolder]:
        wanted = {"strategy": strategy, **labels}
        cells = [cell for cell in self.store.planned() if wanted.items() <= cell.labels.items()]
        return [folder for cell in cells if (folder := self.store.cell(cell.cell_id)).state() == "done"]


@pytest.fixture(scope="module")
def drawn_grid(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return Drawn(tmp_path_factory.mktemp("grid"))


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn, without the time that writing them takes."""
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
    monkeypatch.setattr(every, "settle", lambda _: None)


def draw(store: Store, name: str) -> Picture:
    """The only page of a figure, without the time that writing it takes."""
    (page,) = every.draw(name, reports.read(store), lambda _: [])
    check(page.figure)
    return page


def check(figure: Figure) -> None:
    """It fits a page of a paper, its letters are not too small, and nothing in it collides or stands over the edge."""
    assert is_of_a_paper(figure), figure.get_size_inches()
    assert colliding(figure) == []
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()) >= 7
    assert not figure.texts


def plain_text(text: Text) -> str:
    return text.get_text().replace("\N{NO-BREAK SPACE}", " ")


def panel(figure: Figure, title: str = "", y: str = "") -> Axes:
    """The one with the title and the name of its y axis."""
    found = [axes for axes in figure.axes if title in titles(axes) and y in axes.get_ylabel()]
    assert found, [titles(axes) for axes in figure.axes]
    return found[0]


def titles(axes: Axes) -> str:
    heads = [axes.get_title(loc) for loc in ("left", "center", "right")] + [
        text.get_text() for text in axes.texts if text.get_weight() == "bold"
    ]
    return " ".join(heads).replace("\N{NO-BREAK SPACE}", " ")


def row_of(figure: Figure, title: str) -> list[Axes]:
    """The panels at the height of the one with this title, from left to right."""
    top = panel(figure, title).get_position().y1
    return sorted((a for a in figure.axes if abs(a.get_position().y1 - top) < 1e-6), key=lambda a: a.get_position().x0)


def colliding(figure: Figure) -> list[tuple[str, str]]:
    """Texts that stand over one another or over the edge; ticks count within their axis."""
    figure.draw_without_rendering()
    found = boxes(shown_texts(figure))
    edge = figure.bbox.padded(1)
    over = [(name, "the edge") for name, box in found if not (edge.contains(*box.p0) and edge.contains(*box.p1))]
    pairs = list(itertools.combinations(found, 2))
    for axis in (axis for axes in figure.axes if axes.axison for axis in (axes.xaxis, axes.yaxis)):
        pairs += itertools.pairwise(boxes(axis.get_ticklabels()))
    return over + [(a, b) for (a, one), (b, other) in pairs if one.overlaps(other)]


def shown_texts(figure: Figure) -> list[Text]:
    """All but ticks and what stands in axes that are not shown."""
    axes = [axes for axes in figure.axes if axes.get_visible()]
    found = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    found += [text for a in axes for text in (*titles_of(a), *a.texts)]
    found += [axis.label for a in axes if a.axison for axis in (a.xaxis, a.yaxis)]
    return [text for text in found if text.get_text().strip()]


def is_of_a_paper(figure: Figure) -> bool:
    """Whether it is as wide as a column or as the text, and fits on a page."""
    wide, high = figure.get_size_inches()
    return min(abs(wide - layout.COLUMN), abs(wide - layout.TEXT)) < 0.01 and high <= 8.9


def alike_in_grey(lines: list[Line2D]) -> list[tuple[Line2D, Line2D]]:
    """Pairs with the same dash and marker whose luminances are near."""
    looks = [(line.get_linestyle(), str(line.get_marker()), luminance(line)) for line in lines]
    pairs = itertools.combinations(zip(lines, looks, strict=True), 2)
    return [(a, b) for (a, one), (b, other) in pairs if one[:2] == other[:2] and abs(one[2] - other[2]) < 0.15]


def luminance(line: Line2D) -> float:
    """Rec. 709's of the line's colour on white, from 0 to 1."""
    *rgb, alpha = to_rgba(line.get_color(), line.get_alpha())
    shown = 1 - alpha * (1 - np.array(rgb))
    return float(
        np.array([0.2126, 0.7152, 0.0722]) @ np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    )


def keys(figure: Figure) -> list[Line2D]:
    """Of its legends."""
    return [line for legend in figure.legends for line in legend.get_lines()]


def t_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the mean over seeds (seeds, R), by scipy."""
    low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(axis=0), scale=stats.sem(values, axis=0))
    return low, high


# ------------------------------------------------------------------------------------------ files


def test_every_figure_is_drawn_as_pdf_and_png(drawn_grid):
    assert drawn_grid.untold == []
    folder = drawn_grid.store.root / "figures"
    pages = [every.page_name(name, 1 + k) for name in DRAWN for k in range(len(drawn_grid.pages[name]))]
    wanted = [folder / f"{page}{kind}" for page in pages for kind in (".pdf", ".png")]
    assert drawn_grid.made == [*wanted, folder / "captions.tex", folder / "captions.md"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in drawn_grid.made)
    assert list(every.FIGURES) == ["overview", "costs", "why", *NEW]


@pytest.mark.parametrize("name", DRAWN)
def test_fonts_of_pdfs_are_truetype_and_no_date_is_written(drawn_grid, name):
    content = (drawn_grid.store.root / "figures" / f"{name}.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content
    assert picture(drawn_grid.store.root / "figures" / f"{name}.png").std() > 0
    assert mpl.rcParams["pdf.fonttype"] == mpl.rcParamsDefault["pdf.fonttype"] == 3


@pytest.mark.parametrize("name", ["partitions", "schemes"])
def test_the_same_store_gives_the_same_bytes(drawn_grid, tmp_path, name):
    for kind in ("pdf", "png"):
        again, first = tmp_path / f"again.{kind}", drawn_grid.store.root / "figures" / f"{name}.{kind}"
        every.draw(name, reports.read(drawn_grid.store), lambda _, again=again: [again])
        assert again.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("name", DRAWN)
def test_figures_fit_a_page_and_what_is_missing_stands_in_their_captions(drawn_grid, name):
    for page in drawn_grid.pages[name]:
        check(page.figure)
        assert "Mnist5k" not in page.caption
        unscored = name in ("partitions", "schemes", "clients", "long_run", "drift", "costs", "quality_cost")
        assert f"mnist5k at 16×16,{'' if unscored else ' 100 samples,'} 3 seeds." in page.caption
        assert "1 cell not finished." in page.caption


@pytest.mark.parametrize("kind", ["tex", "md"])
def test_every_page_has_its_caption(drawn_grid, kind):
    text = (drawn_grid.store.root / "figures" / f"captions.{kind}").read_text()
    for name in DRAWN:
        for number, page in enumerate(drawn_grid.pages[name], 1):
            stem, count = every.page_name(name, number), len(drawn_grid.pages[name])
            shown = f"\\includegraphics[width=\\linewidth]{{{stem}}}" if kind == "tex" else f"![{stem}]({stem}.png)"
            entry = text.split(shown)[1].split("\\end" if kind == "tex" else "###")[0]
            assert page.caption.split(".")[0] in entry
            assert (f"Part {number} of {count}." in entry) == (count > 1)
            if kind == "tex":
                assert f"\\label{{fig:fake-{stem.replace('_', '-')}}}" in entry
    assert text.count("begin{figure") + text.count("###") == sum(map(len, drawn_grid.pages.values()))


def test_captions_say_what_bands_are(drawn_grid):
    for name in ("overview", "schemes", "clients", "long_run"):
        assert "bands: 95 % t interval of the mean over seeds" in drawn_grid.pages[name][0].caption


@pytest.mark.parametrize("name", ["schemes", "clients", "long_run", "quality_cost", "skew", "drift"])
def test_lines_differ_in_dash_or_marker_too(drawn_grid, name):
    looks = [(line.get_linestyle(), line.get_marker(), line.get_linewidth()) for line in keys(drawn_grid.figures[name])]
    assert len(set(looks)) == len(looks) >= 2


@pytest.mark.parametrize("name", DRAWN)
def test_lines_of_a_figure_are_told_apart_in_grey(drawn_grid, name):
    assert alike_in_grey(keys(drawn_grid.figures[name])) == []


SHIPPED = [name for name in strategies.registry.names() if not strategies.load(name).centralized]


@pytest.mark.parametrize(
    "labels",
    [[*SHIPPED, "fedprox(mu=0.1)", "fedadam(lr=0.1)", "quantised(bits=4)"], [f"fedprox(mu={k})" for k in range(22)]],
    ids=["shipped", "of one family"],
)
def test_22_strategies_are_told_apart_in_grey_too(labels):
    assert len(labels) == compared.TOLD_APART
    styles = strategy_styles(labels)
    looks = [(style.colour, style.dash, style.marker) for style in styles.values()]
    assert len(set(looks)) == 22
    assert alike_in_grey([key(style) for style in (Style(REFERENCE, "-", ""), OTHER, *styles.values())]) == []


def test_a_strategy_has_the_colour_of_its_family():
    labels = ["fedavg", "fedprox(mu=0.1)", "strategies.fedprox:FedProx(mu=1)", "fedadam", "fedyogi", "mine.py:Own()"]
    averaging, proximal, same, adam, yogi, own = (style.colour for style in strategy_styles(labels).values())
    assert proximal == same
    assert adam == yogi
    assert len({averaging, proximal, adam, own}) == 4
    known = [name for names in FAMILIES.values() for name in names]
    assert sorted(known) == sorted(set(SHIPPED) - {"flower"})


def test_lines_of_one_grey_are_found_alike():
    central = {"strategy": "centralized", "n_clients": None, "beta": None, "seed": 0}
    labels = [central | {"recipe": f"{k}"} for k in range(10)]
    cells = [Cell(PlannedCell(f"{k}", "", told, {}), CellFolder(Path())) for k, told in enumerate(labels)]
    recipes = [Group((cell,)) for cell in cells]
    shown = compared.Compared(Results(Path(), "fake", "", ("recipe",), tuple(cells)), {})
    styles = overview.line_styles(recipes, shown)
    assert len(styles) == 10
    assert alike_in_grey([key(style) for style in styles.values()]) == []
    near = [key(Style(colour, "-", "o")) for colour in COLOURS[1:3]]  # of much the same grey
    assert len(alike_in_grey(near)) == 1


def test_what_does_not_apply_is_told_and_its_old_picture_goes(tmp_path, unsaved):
    store = fake_store.finished_store(tmp_path, {"strategy": ["centralized"], "seed": [0]})
    (store.root / "figures").mkdir()
    (store.root / "figures" / "clients.png").write_bytes(b"of an earlier plan")
    for name in ("steps.jsonl", "samples.safetensors"):
        (folder_of(store, "centralized").path / name).unlink()
    made, untold = reports.draw_figures(store, store.root / "figures")
    assert not (store.root / "figures" / "clients.png").exists()
    assert untold == [
        "partitions: no cell with clients is finished",
        "clients: no strategy has finished cells at two numbers of clients",
        "long_run: no cell with clients is finished",
        "samples: samples.safetensors was removed from every cell that would be shown",
        "samples_grid: samples.safetensors was removed from every cell that would be shown",
        "quality_cost: no FID of a strategy with clients is known with its costs",
        "skew: no finished cell with clients tells both its skew and its FID",
        "client_spread: no finished cell has losses or FID-mixes of its clients",
        "drift: no round of a finished cell tells how far its clients went",
        "film: no finished cell that would be shown has its film.gif",
    ]
    assert len(made) == 2 * (len(every.FIGURES) - len(untold)) + 2


def test_of_a_grid_not_run_nothing_is_drawn(tmp_path):
    store = fake_store.planned_store(tmp_path, {"seed": [0]})
    made, untold = reports.draw_figures(store, tmp_path / "figures")
    assert made == []
    assert untold == [f"{name}: no cell is finished, so there is nothing to draw" for name in every.FIGURES]
    assert list((tmp_path / "figures").iterdir()) == []


def test_what_is_damaged_is_told_and_costs_only_what_needs_it(tmp_path, unsaved):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    add_films(store)
    folder = folder_of(store, "fedavg")
    for name in ("partition.json", "samples.safetensors", "film.gif"):
        (folder.path / name).write_bytes(b"{}")
    with pytest.warns(UserWarning, match=r"partition\.json is damaged"):
        made, untold = reports.draw_figures(store, store.root / "figures")
    told = {line.split(":")[0] for line in untold}
    assert told == {"overview", "clients", "samples", "samples_grid", "skew", "film"}
    assert all(str(folder.path) in line for line in untold if line.split(":")[0] in ("overview", "samples", "film"))
    assert store.root / "figures" / "partitions.pdf" in made  # the other strategy has the same split


def test_one_figure_that_fails_costs_no_other(tmp_path, unsaved, monkeypatch):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})

    def broken(_: Results) -> list[Picture]:
        raise KeyError("samples")

    (store.root / "figures").mkdir()
    (store.root / "figures" / "broken.png").write_bytes(b"of an earlier version")
    monkeypatch.setattr(every, "FIGURES", {"broken": broken, "partitions": every.FIGURES["partitions"]})
    with pytest.warns(UserWarning, match="broken: could not be drawn"):
        made, untold = reports.draw_figures(store, store.root / "figures")
    assert untold == ["broken: could not be drawn: KeyError: 'samples'"]
    assert {path.stem for path in made} == {"partitions", "captions"}
    assert not (store.root / "figures" / "broken.png").exists()


def without(store: Store, *keys: str) -> None:
    """Take the keys out of all records, as if an older version had written them."""
    for cell in store.planned():
        folder = store.cell(cell.cell_id)
        lines(
            folder,
            "metrics.jsonl",
            [{k: v for k, v in r.items() if k not in keys} for r in read_lines(folder.path / "metrics.jsonl")],
        )
        result = read_json(folder.path / "result.json")
        metrics = {key: value for key, value in result["metrics"].items() if key not in keys}
        write_json(folder.path / "result.json", result | {"metrics": metrics})


@pytest.mark.filterwarnings("error:.*could not be drawn")
@pytest.mark.parametrize(
    ("keys", "lost"),
    [
        (["samples"], {"schemes", "clients"}),
        (["bytes_up", "sequential_steps"], set()),
        (["validation_loss", "fid"], {"costs", "quality_cost", "skew"}),
        (["seconds", "drift", "update_cosine"], {"drift"}),
    ],
)
def test_records_of_older_versions_cost_only_the_figures_that_need_them(tmp_path, keys, lost):
    axes = {"strategy": ["centralized", "fedavg"], "n_clients": [3, 5], "beta": [0.1, 1.0], "seed": [0]}
    store = fake_store.finished_store(tmp_path, axes)
    fake_store.tell_more(store, curve=False)
    vary_skew(store)
    without(store, *keys)
    names = ["overview", "costs", "why", "schemes", "clients", "long_run", "quality_cost", "skew", "drift"]
    _, _, untold = draw_figures(store, names)
    assert {line.split(":")[0] for line in untold} == lost


def test_each_centralized_training_has_a_level_line_of_its_own(tmp_path):
    axes = {"strategy": ["centralized", "centralized-matched", "fedavg"], "training.local_steps": [5], "seed": [0]}
    store = fake_store.finished_store(tmp_path, axes | {"n_clients": [3], "beta": [0.1, 1.0]})
    vary_skew(store)
    for cell in store.planned():
        if cell.labels["strategy"] != "fedavg":
            fid = 5.0 if cell.labels["strategy"] == "centralized" else 15.0
            rewrite(store.cell(cell.cell_id), metrics={"fid": fid})
    axes = draw(store, "skew").figure.axes[0]
    found = {line.get_ydata()[0]: line.get_linestyle() for line in axes.lines if list(line.get_xdata()) == [0, 1]}
    assert found == {5.0: "-", 15.0: "--"}


def test_scores_of_zero_have_no_place_on_a_logarithmic_axis(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "beta": [0.1, 1.0], "seed": [0]})
    vary_skew(store)
    for cell in store.planned():
        rewrite(
            store.cell(cell.cell_id),
            metrics={"fid": 0.0},
            diagnostics={"client_loss": [0.0], "class_loss": []},
            clients=[],
        )
    _, _, untold = draw_figures(store, ["quality_cost", "skew", "client_spread"])
    reasons = ["no FID is above 0", "no FID is above 0", "no finished cell has losses or FID-mixes of its clients"]
    assert [line.split(": ")[1] for line in untold] == reasons


# ------------------------------------------------------------------------------------------ losses


def test_schemes_show_means_and_intervals_of_both_losses(drawn_grid):
    figure = drawn_grid.figures["schemes"]
    validation, training = row_of(figure, SPLITS[0])
    assert (validation.get_ylabel(), training.get_ylabel()) == ("validation loss (log)", "running training\nloss (log)")
    assert [line.get_color() for line in validation.lines] == ["black", *COLOURS[:2]]
    folders = drawn_grid.seeds("fedavg", n_clients=3, beta=0.1)
    losses = np.array(
        [[line["validation_loss"] for line in read_lines(folder.path / "metrics.jsonl")] for folder in folders]
    )
    assert validation.lines[1].get_ydata() == pytest.approx(losses.mean(axis=0))
    assert list(validation.lines[1].get_xdata()) == [200, 400, 600]
    corners = validation.collections[1].get_paths()[0].vertices
    low, high = t_interval(losses)
    assert {round(y, 9) for y in corners[:, 1]} == {round(y, 9) for y in (*low, *high)}
    runs = [running_loss(folder.read_log(Steps), 600) for folder in folders]
    assert training.lines[1].get_xdata() == pytest.approx(runs[0][0])
    assert training.lines[1].get_ydata() == pytest.approx(np.mean([y for _, y in runs], axis=0))
    assert "Means of 2 to 3 seeds; bands: 95 % t interval" in drawn_grid.pages["schemes"][0].caption


def test_clients_are_compared_for_each_strategy_and_beta(drawn_grid):
    figure = drawn_grid.figures["clients"]
    assert len(drawn_grid.pages["clients"]) == 1
    names = [f"{strategy}, β = {beta}" for strategy in COMPARED[1:] for beta in ("0.1", "1")]
    assert [name for axes in figure.axes if (name := titles(axes).strip())] == names
    validation, _ = row_of(figure, "fedprox(mu=0.1), β = 1")
    for line, n in zip(validation.lines[1:], (3, 5), strict=True):
        folders = drawn_grid.seeds("fedprox(mu=0.1)", n_clients=n, beta=1.0)
        losses = [[line["validation_loss"] for line in read_lines(folder.path / "metrics.jsonl")] for folder in folders]
        assert line.get_ydata() == pytest.approx(np.mean(losses, axis=0))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["centralized", "3 clients", "5 clients"]


def test_the_longest_run_of_most_clients_is_shown_whole(tmp_path, drawn_grid):
    validation, training = drawn_grid.figures["long_run"].axes
    assert titles(validation).strip() == "fedavg, n = 5, β = 0.1"
    assert list(validation.lines[1].get_xdata()) == [1, 2, 3]
    assert (training.lines[1].get_xdata()[-1], training.get_xlabel()) == (3, "round")
    assert validation.get_xlim() == training.get_xlim()
    axes = {"strategy": ["centralized", "fedavg"], "n_clients": [5, 3], "seed": [0], "training.rounds": [3, 7]}
    figure = draw(fake_store.finished_store(tmp_path, axes), "long_run").figure
    assert titles(figure.axes[0]).strip() == "fedavg, n = 5, training.rounds = 7"
    assert len(figure.axes[0].lines) == 2


def test_without_steps_there_is_no_training_loss(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    for cell in store.planned():
        (store.cell(cell.cell_id).path / "steps.jsonl").unlink()
    page = draw(store, "schemes")
    assert [axes.get_ylabel() for axes in page.figure.axes] == ["validation loss (log)"]
    assert len(page.figure.axes[0].collections) == 0
    assert "No running training loss: the cells have no steps.jsonl." in page.caption


def test_a_seed_without_steps_is_left_out_of_the_mean(tmp_path):
    store = fake_store.finished_store(tmp_path, {"strategy": ["fedavg"], "n_clients": [3], "seed": [0, 1]})
    first, second = (folder_of(store, "fedavg", seed=seed) for seed in (0, 1))
    (second.path / "steps.jsonl").unlink()
    _, training = draw(store, "schemes").figure.axes
    assert training.lines[0].get_ydata() == pytest.approx(running_loss(first.read_log(Steps), 600)[1])


@pytest.mark.parametrize(("n_clients", "wide"), [([3], layout.COLUMN), ([3, 5], layout.TEXT)])
def test_a_single_row_stands_in_a_column(tmp_path, n_clients, wide):
    axes = {"strategy": ["centralized", "fedavg"], "n_clients": n_clients, "seed": [0]}
    store = fake_store.finished_store(tmp_path, axes)
    for name in ("schemes", "drift", "samples", "partitions"):
        assert draw(store, name).figure.get_size_inches()[0] == pytest.approx(wide), name


# ------------------------------------------------------------------------------------------ splits and images


def test_partitions_are_those_of_the_first_seed(drawn_grid):
    figure = drawn_grid.figures["partitions"]
    maps = [axes for axes in figure.axes if axes.images]
    assert [titles(axes).strip() for axes in maps] == [f"{split}\nTV 0.50" for split in SPLITS]
    wanted = [[20 if k == i % 4 else 2 for k in range(4)] for i in range(5)]
    assert maps[2].images[0].get_array().tolist() == wanted
    assert "The split of seed 0. TV: total variation distance" in drawn_grid.pages["partitions"][0].caption


def test_sheets_are_in_viridis_a_scheme_each(drawn_grid):
    sheets = [axes for axes in drawn_grid.figures["samples"].axes if axes.images]
    assert [titles(axes).strip() for axes in sheets[:3]] == [
        "centralized",
        *(f"{s}\n{SPLITS[0]}" for s in COMPARED[1:]),
    ]
    assert len(sheets) == 1 + 2 * 4
    cell = next(c for c in drawn_grid.store.planned() if c.labels["strategy"] == "fedavg")
    image = coloured(torch.from_numpy(fake_store.fake_images(cell)), "viridis")[5].permute(1, 2, 0)
    shown = sheets[1].images[0].get_array()  # 4 x 4 images, each pixel four times, lines of 4 between
    step = 16 * 4 + 4
    assert (shown[4 + step : 4 + step + 64 : 4, 4 + step : 4 + step + 64 : 4] == image.numpy()).all()


def test_samples_of_strategies_stand_below_one_another(drawn_grid):
    figure = drawn_grid.figures["samples_grid"]
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 3 * 4
    heights = sorted({round(axes.get_position().y0, 4) for axes in shown}, reverse=True)
    for cell in drawn_grid.store.planned():
        if cell.labels["seed"] == 0 and cell.labels["n_clients"] is not None:
            place = 2 * (cell.labels["n_clients"] == 5) + (cell.labels["beta"] == 1.0)
            row = [
                axes
                for axes in shown
                if round(axes.get_position().y0, 4) == heights[COMPARED.index(cell.labels["strategy"])]
            ]
            row.sort(key=lambda axes: axes.get_position().x0)
            image = fake_store.fake_images(cell)[0, 0]
            assert (row[place].images[0].get_array()[4:68:4, 4:68:4, 0] == image).all()
    assert "same noise; seed 0." in drawn_grid.pages["samples_grid"][0].caption


def test_samples_of_other_seeds_are_told(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3]}, missing=[2])  # fedavg's first seed
    assert "seed 0, 1: not all from the same noise." in draw(store, "samples_grid").caption


def test_a_film_runs_from_noise_to_image(drawn_grid):
    figure = drawn_grid.figures["film"]
    strips = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(strips) == 9
    assert strips[0].shape == (64 + 4, 10 * (64 + 4), 3)  # nine schemes: one image each
    greys = strips[0][10, 10::68, 0]
    assert (abs(greys - 8 * np.linspace(0, 11, 10).round()) <= 8).all()
    assert {"noise", "image"} <= set(texts(figure))


def test_schemes_without_a_film_are_told(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    add_films(store)
    (folder_of(store, "fedavg").path / "film.gif").unlink()
    page = draw(store, "film")
    assert len([axes for axes in page.figure.axes if axes.images]) == 2
    assert "Without film.gif: fedavg." in page.caption


# ------------------------------------------------------------------------------------------ quality


def curve(costs: list[float], fids: list[float]) -> Line:
    return Line(np.array(costs), np.array([fids]))


def test_the_pareto_front_is_of_what_no_other_beats_at_both():
    curves = {"a": curve([1, 2, 3], [9, 8, 8]), "b": curve([2, 4], [7, 3]), "c": curve([1, 5], [10, 3])}
    front = quality.pareto(curves)
    assert front == [(1, 9, "a"), (2, 7, "b"), (4, 3, "b")]


def test_quality_stands_over_its_costs_along_training(drawn_grid):
    figure = drawn_grid.figures["quality_cost"]
    megabytes, rounds, _ = figure.axes[:3]
    assert [axes.get_xlabel() for axes in figure.axes[-3:]] == ["MB up and down", "round", "seconds of training"]
    folder = drawn_grid.seeds("fedavg", n_clients=3, beta=0.1)[0]
    spent = [(line["bytes_up"] + line["bytes_down"]) / 1e6 for line in read_lines(folder.path / "metrics.jsonl")]
    line = next(line for line in megabytes.lines if line.get_color() == COLOURS[0])
    assert not megabytes.collections
    assert line.get_xydata() == pytest.approx(np.column_stack([spent, [92, 47, 32]]))
    level = next(line for line in megabytes.lines if line.get_color() == "black")
    assert set(level.get_ydata()) == {30.0}
    assert rounds.get_title() == "fedavg"
    assert megabytes.get_title() == "fedprox(mu=0.1), fedavg"
    assert "FID of 100 images along training." in drawn_grid.pages["quality_cost"][0].caption


def test_what_sends_nothing_stands_at_zero_of_a_logarithmic_axis(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    for name, factor in (("fedavg", 40), ("fedprox(mu=0.1)", 0)):
        folder = folder_of(store, name)
        changed = [
            line | {"bytes_up": factor * line["bytes_up"] * line["round"] ** 2, "bytes_down": 0}
            for line in read_lines(folder.path / "metrics.jsonl")
        ]
        lines(folder, "metrics.jsonl", changed)
    scores = [{"round": n, "fid": 9.0 - n, "n_generated": 5} for n in (1, 2, 3)]
    for cell in store.planned():
        write_json(store.cell(cell.cell_id).path / "curve.json", {"curve": scores})
    megabytes = draw(store, "quality_cost").figure.axes[0]
    assert megabytes.get_xscale() == "symlog"
    assert megabytes.get_xticklabels()[0].get_text() == "0"
    silent = next(line for line in megabytes.lines if line.get_color() == COLOURS[1])
    assert set(silent.get_xdata()) == {megabytes.get_xticks()[0]} == {0.0}


def test_finished_models_are_a_point_each_where_nothing_was_drawn_along_training(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    rounds = draw(store, "quality_cost").figure.axes[1]
    line = next(line for line in rounds.lines if line.get_color() == COLOURS[0])
    assert line.get_xydata().tolist() == [
        [3.0, read_json(folder_of(store, "fedavg").path / "result.json")["metrics"]["fid"]]
    ]


def test_skew_is_held_against_fid_seed_by_seed(drawn_grid):
    figure = drawn_grid.figures["skew"]
    axes = panel(figure, "n = 3")
    found = [drawn_grid.seeds("fedavg", n_clients=3, beta=beta) for beta in (0.1, 1.0)]
    values = [
        [[read_json(f.path / "result.json")["metrics"][key] for key in ("skew_tv", "fid")] for f in folders]
        for folders in found
    ]
    own = [line for line in axes.lines if line.get_color() == COLOURS[0]]
    for seeds, line in zip(values, own[:2], strict=True):
        assert line.get_xydata() == pytest.approx(np.array(seeds))
    means = sorted(np.mean(seeds, axis=0).tolist() for seeds in values)
    assert own[2].get_xydata() == pytest.approx(np.array(means))
    central = np.mean([read_json(f.path / "result.json")["metrics"]["fid"] for f in drawn_grid.seeds("centralized")])
    assert next(line for line in axes.lines if line.get_color() == "black").get_ydata()[0] == pytest.approx(central)


@pytest.mark.parametrize(
    ("values", "reason"),
    [([0.01, 0.03], "no partition is skewed"), ([0.5, 0.51], "equally skewed"), ([None, None], "its skew and its FID")],
)
def test_splits_of_one_skew_are_not_compared(tmp_path, values, reason):
    axes = {"strategy": ["fedavg"], "n_clients": [3], "beta": [0.1, 1.0], "seed": [0]}
    store = fake_store.finished_store(tmp_path, axes)
    for cell, value in zip(store.planned(), values, strict=True):
        rewrite(store.cell(cell.cell_id), metrics={"skew_tv": value})
    with pytest.raises(NotApplicable, match=reason):
        draw(store, "skew")


# ------------------------------------------------------------------------------------------ classes and clients


def test_generated_classes_stand_beside_the_data_s(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3]})
    shares = np.array([[0.1, 0.2, 0.3, 0.4], [0.3, 0.3, 0.1, 0.3]])
    for seed, own in enumerate(shares.tolist()):
        rewrite(folder_of(store, "fedavg", seed=seed), class_histogram=own)
    rewrite(folder_of(store, "fedprox(mu=0.1)"), class_histogram=None)
    rewrite(folder_of(store, "fedprox(mu=0.1)", seed=1), class_histogram=None)
    figure = draw(store, "class_histograms").figure
    _, fedavg, fedprox = sorted(figure.axes, key=lambda axes: -axes.get_position().y0)
    assert [bar.get_height() for bar in fedavg.patches] == pytest.approx([0.2, 0.25, 0.2, 0.35])
    low, high = t_interval(shares)
    assert fedavg.get_ylim()[1] >= 1  # which the intervals of two seeds reach
    ends = np.array([segment[:, 1] for segment in fedavg.collections[0].get_segments()])
    assert ends == pytest.approx(np.column_stack([low, high]))
    counts = np.array([24, 24, 24, 6]) / 78  # three clients hold 20 of one class and 2 of the others
    assert list(fedavg.lines[-1].get_ydata()) == pytest.approx([*counts, counts[-1]])
    assert len(fedprox.patches) == 0
    assert [text.get_text() for text in fedprox.texts] == ["not known"]
    assert [label.get_text() for label in fedprox.get_xticklabels()] == ["0", "1", "2", "3"]


def test_intervals_of_shares_stand_within_their_axis(tmp_path):
    store = fake_store.finished_store(tmp_path, {"strategy": ["fedavg"], "n_clients": [3]})
    shares = np.array([[0.26, 0.24, 0.27, 0.23], [0.24, 0.26, 0.23, 0.27]])
    for seed, own in enumerate(shares.tolist()):
        rewrite(folder_of(store, "fedavg", seed=seed), class_histogram=own)
    (axes,) = draw(store, "class_histograms").figure.axes
    _, high = t_interval(shares)
    assert 1.15 * 0.25 < high.max() <= axes.get_ylim()[1] <= 1.06 * high.max()


def test_clients_stand_on_their_strategy_s_row_with_their_spread(drawn_grid):
    figure = drawn_grid.figures["client_spread"]
    losses, fids = row_of(figure, SPLITS[0])
    folders = drawn_grid.seeds("fedavg", n_clients=3, beta=0.1)
    clients = [client["fid_mix"] for folder in folders for client in read_json(folder.path / "result.json")["clients"]]
    dots = next(line for line in fids.lines if line.get_marker() == "o" and line.get_ydata()[0] == 1)
    assert sorted(dots.get_xdata()) == pytest.approx(sorted(clients))
    assert f"{np.std(clients, ddof=1):#.3g}" in [text.get_text() for text in fids.texts]
    own = [loss for folder in folders for loss in read_json(folder.path / "result.json")["diagnostics"]["client_loss"]]
    dots = next(line for line in losses.lines if line.get_marker() == "o" and line.get_ydata()[0] == 1)
    assert sorted(dots.get_xdata()) == pytest.approx(sorted(own))
    assert [plain_text(label) for label in losses.get_yticklabels()] == COMPARED


def test_drift_and_cosine_are_drawn_by_round(drawn_grid):
    figure = drawn_grid.figures["drift"]
    drift, cosine = row_of(figure, SPLITS[3])
    assert [list(line.get_ydata()) for line in drift.lines] == [[2.0, 1.0, 2 / 3], [3.0, 1.5, 1.0]]
    assert cosine.lines[0].get_ydata() == pytest.approx([0.88, 0.43, 0.28])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == COMPARED[1:]


# ------------------------------------------------------------------------------------------ any grid


CASES: dict[str, dict] = {
    "as many strategies as are told apart": {"axes": {"strategy": [*MANY[:22], LONG], "n_clients": [3], "seed": [0]}},
    "more strategies than are told apart": {"axes": {"strategy": [*MANY[:24], LONG], "n_clients": [3], "seed": [0]}},
    "many splits": {"axes": {"strategy": ["fedavg"], "n_clients": [3, 10], "beta": [0.1 * k for k in range(1, 8)]}},
    "recipes": {"axes": fake_store.RECIPE_AXES, "recipes": fake_store.RECIPES},
    "many clients": {"axes": {"strategy": ["centralized", "fedavg"], "n_clients": [300], "seed": [0]}},
    "one client, unfinished": {"axes": {"n_clients": [1], "seed": [0]}, "missing": [0, 1]},
}


@pytest.mark.parametrize("case", CASES)
def test_figures_of_any_grid_are_readable(tmp_path, case):
    settings = dict(CASES[case])
    store = fake_store.finished_store(tmp_path, {"seed": [0], **settings.pop("axes")}, **settings)
    fake_store.tell_more(store)
    add_films(store)
    pages, _, untold = draw_figures(store, NEW)
    assert set(pages) | {line.split(":")[0] for line in untold} == set(NEW)
    for figure in (page.figure for found in pages.values() for page in found):
        check(figure)
        assert alike_in_grey(keys(figure)) == []
    told = {name: found[0].caption for name, found in pages.items()}
    if case == "more strategies than are told apart":
        assert "in grey: fedprox" in told["schemes"]
        assert "not shown: fedprox" in told["samples_grid"]
    if case == "many splits":
        assert len(pages["schemes"]) == layout.MOST_PAGES
        assert "more rows are not shown." in told["schemes"]
        assert len([axes for axes in pages["partitions"][0].figure.axes if axes.images]) == 14


def test_figures_with_titles_of_30_letters_are_readable(tmp_path):
    labels = ["centralized", "fedavg", "fedprox(mu=0.1)", "scaffold", "fednova", "median", "fedadam", "fedyogi"]
    axes = {"strategy": labels, "n_clients": [3, 5], "beta": [0.1, 1.0], "seed": [0, 1]}
    store = fake_store.finished_store(tmp_path, axes)
    fake_store.tell_more(store)
    add_films(store)
    vary_skew(store)
    found = {cell.labels["strategy"] for cell in store.planned()}
    names = {label: f"{label[:4]} {k} Wide Name, μ = 0.1 and more"[:30] for k, label in enumerate(sorted(found))}
    store.write_plan(store.plan() | {"titles": names})
    pages, _, untold = draw_figures(store, list(every.FIGURES))
    assert untold == []
    told = {text for found in pages.values() for page in found for text in texts(page.figure)}
    assert set(names.values()) <= told
    for page in (page for found in pages.values() for page in found):
        check(page.figure)
        assert "fedprox(" not in page.caption


HOSTILE = r"a$\frac{$ {x} %s <b>&amp; ^_# \$x$ " + "w" * 90


def test_names_of_a_grid_are_never_formulas(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3, 5], "seed": [0]})
    fake_store.tell_more(store)
    add_films(store)
    vary_skew(store)
    plan = store.plan()
    for cell in plan["cells"]:
        if cell["labels"]["strategy"] == "fedavg":
            cell["labels"]["strategy"] = HOSTILE
        cell["labels"]["recipe"] = "$r$_{"
    store.write_plan(plan | {"extra_axes": ["recipe"]})
    for cell in store.planned():
        rewrite(store.cell(cell.cell_id), data={"class_names": ["$a$", "$_$", "c", "d"]})
    pages, _, untold = draw_figures(store, list(every.FIGURES))
    assert [line.split(":")[0] for line in untold] == ["skew"]
    for name, figure in ((name, page.figure) for name, found in pages.items() for page in found):
        formulas = [
            text.get_text() for text in figure.findobj(Text) if text.get_parse_math() and "$" in text.get_text()
        ]
        assert [text for text in formulas if not text.startswith("drift")] == [], name
        if name in NEW:
            check(figure)


# ------------------------------------------------------------------------------------------ wishes


def test_figures_are_drawn_by_the_names_that_can_be_asked_for():
    assert tuple(every.FIGURES) == NAMES


def test_figures_formats_and_style_are_chosen(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    (tmp_path / "mine.mplstyle").write_text("font.size: 9  # larger\naxes.labelsize: 9\nsavefig.dpi: 100\n")
    style = layout.read_style(tmp_path / "mine.mplstyle")
    folder = store.root / "figures"
    every.draw_all(reports.read(store), folder, ["overview", "schemes"])
    made, captions, _ = every.draw_all(reports.read(store), folder, ["schemes", "film"], ["svg", "png"], style)
    names = ["schemes.svg", "schemes.png", "captions.tex", "captions.md"]
    assert [path.name for path in made] == names
    assert captions["schemes"].replace("\xa0", " ") in (folder / "captions.md").read_text().replace("\\", "")
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert picture(folder / "schemes.png").shape[1] == 330
    assert b"<dc:date>" not in (folder / "schemes.svg").read_bytes()
    assert mpl.rcParams["font.size"] == mpl.rcParamsDefault["font.size"]
    (page,) = every.draw("schemes", reports.read(store), lambda _: [], style)
    assert {axes.yaxis.label.get_fontsize() for axes in page.figure.axes} == {9}
    assert every.draw_all(reports.read(store), folder, []) == ([], {}, [])
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "there is no such file"),
        ("font.siz: 9", "line 1: 'font.siz: 9' is no setting"),
        ("font.size: 9\nnothing", "line 2: 'nothing' is no setting"),
        ("lines.linewidth: thick", "lines.linewidth"),
    ],
)
def test_a_bad_style_sheet_is_one_message_and_nothing_is_written(tmp_path, capsys, text, told):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    style = tmp_path / "mine.mplstyle"
    if text is not None:
        style.write_text(text)
    before = sorted(store.root.iterdir())
    assert main(["--grid", "fake", "--results", str(tmp_path), "--style", str(style)]) == 2
    said = capsys.readouterr()
    assert f"--style {style}" in said.err
    assert told in said.err
    assert {path.name for path in set(store.root.iterdir()) - set(before)} <= {".tables"}


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (["--figures", "overveiw"], "no figure 'overveiw' (did you mean 'overview'?)"),
        (["--figures", "costs,none"], "got 'costs,none'; none stands alone"),
        (["--formats", "jpg"], "no format 'jpg'"),
    ],
)
def test_an_unknown_figure_or_format_is_a_mistake(tmp_path, capsys, option, told):
    with pytest.raises(SystemExit) as stopped:
        main(["--grid", "fake", "--results", str(tmp_path), *option])
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


def test_names_of_figures_are_asked_for():
    options = parser().parse_args(["--grid", "fake", "--figures", "costs, why"])
    assert (options.figures, options.formats, options.style) == (("costs", "why"), ("pdf", "png"), None)
    assert parser().parse_args(["--grid", "fake", "--figures", "none"]).figures == ()
    assert parser().parse_args(["--grid", "fake"]).figures is None


def test_names_are_bounded_and_keep_their_lines_in_a_legend():
    assert layout.short_name("a" * 60 + "x" + "b" * 60) == f"{'a' * 15}…{'b' * 14}"
    assert layout.short_name("a" * 30) == "a" * 30
    line = Line2D([], [])
    figure, _ = layout.page(1, 1, 1.0, [("same", line), ("same", line)])
    assert len(figure.legends[0].get_texts()) == 2
