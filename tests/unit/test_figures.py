"""Pictures: what stands in them, that it is right and that it fits."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from bench import figures
from bench.store import Store, write_json
from tests import fake_store


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved, to look into."""
    kept: list[Figure] = []
    save = figures._save

    def keep(figure: Figure, path: Path) -> None:
        kept.append(figure)
        save(figure, path)

    monkeypatch.setattr(figures, "_save", keep)
    return kept


def texts(figure: Figure) -> list[str]:
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    return [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in found]


def outside(figure: Figure) -> list[str]:
    """Texts that stand over the edge; tick labels beyond an axis's limits are not drawn and do not count."""
    figure.draw_without_rendering()
    edge = figure.bbox.padded(1)
    named = [text for axes in figure.findobj(figures.Axes) for text in (axes.title, *axes.texts)]
    named += [text for part in (figure, *figure.subfigs) for text in part.texts]
    named += [text for part in figure.subfigs for legend in part.legends for text in legend.get_texts()]
    boxes = {text.get_text(): text.get_window_extent() for text in named if text.get_text()}
    return [name for name, box in boxes.items() if not (edge.contains(*box.p0) and edge.contains(*box.p1))]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Names of rows that stand over one another."""
    figure.draw_without_rendering()
    boxes = [
        (text.get_text(), text.get_window_extent()) for axes in figure.findobj(figures.Axes) for text in axes.texts
    ]
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]
    return [(a[0], b[0]) for a, b in pairs if a[1].padded(-1).overlaps(b[1].padded(-1))]


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(path.read_bytes())))


# ------------------------------------------------------------------------------------------ samples


def test_tiles_lie_where_they_should():
    images = torch.arange(3, dtype=torch.uint8).mul(50).add(10)[:, None, None, None].expand(3, 1, 2, 2)
    tiled = figures.tile(images, columns=2, scale=1, line=1, colour=7)
    assert (tiled == tiled[..., :1]).all()
    assert tiled[..., 0].tolist() == [
        [7, 7, 7, 7, 7, 7, 7],
        [7, 10, 10, 7, 60, 60, 7],
        [7, 10, 10, 7, 60, 60, 7],
        [7, 7, 7, 7, 7, 7, 7],
        [7, 110, 110, 7, 7, 7, 7],
        [7, 110, 110, 7, 7, 7, 7],
        [7, 7, 7, 7, 7, 7, 7],
    ]


def test_pixels_are_enlarged_without_being_smoothed(tmp_path):
    images = torch.randint(0, 256, (5, 1, 4, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    figures.sample_sheet(images, tmp_path / "sheet.png", columns=3, scale=4)
    sheet = picture(tmp_path / "sheet.png")
    assert sheet.shape == (2 * (4 * 4 + 1) + 1, 3 * (6 * 4 + 1) + 1, 3)
    second = sheet[1 : 1 + 16, 26 : 26 + 24]
    assert (second[::4, ::4, 0] == images[1, 0].numpy()).all()
    assert (second == np.kron(images[1, 0].numpy(), np.ones((4, 4), np.uint8))[..., None]).all()
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_colours_stay_colours(tmp_path):
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    images[0, 2] = 200
    figures.sample_sheet(images, tmp_path / "sheet.png", scale=1)
    assert picture(tmp_path / "sheet.png")[1, 1].tolist() == [0, 0, 200]


# ------------------------------------------------------------------------------------------ partition


def test_the_heat_map_tells_every_count_and_size(tmp_path, drawn):
    histogram = np.array([[5, 0, 1200], [0, 30, 7]])
    figures.partition_heatmap(histogram, ("cat", "automobile", "ship"), tmp_path / "p.png", "dirichlet, seed 0")
    told = texts(drawn[0])
    assert {"5", "0", "1200", "30", "7", "1,205", "37", "cat", "automobile", "ship", "client", "class"} <= set(told)
    assert "dirichlet, seed 0" in told
    assert drawn[0].findobj(figures.Axes)[0].images[0].get_array().tolist() == histogram.tolist()
    assert outside(drawn[0]) == []
    assert picture(tmp_path / "p.png").shape[2] in (3, 4)


@pytest.mark.parametrize("n", [1, 25, 26, 200])
def test_the_heat_map_stays_readable_for_any_number_of_clients(tmp_path, drawn, n):
    histogram = np.full((n, 10), 12345)
    figures.partition_heatmap(histogram, tuple("0123456789"), tmp_path / "p.png", f"{n} clients")
    assert ("12345" in texts(drawn[0])) == (n <= figures.COUNTED_CLIENTS)
    assert ("images of a class" in texts(drawn[0])) == (n > figures.COUNTED_CLIENTS)
    assert picture(tmp_path / "p.png").shape[0] < 1600


def test_the_same_data_give_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        figures.partition_heatmap(np.eye(3, dtype=int), ("a", "b", "c"), tmp_path / name, "split")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


# ------------------------------------------------------------------------------------------ overview


def panels_of(figure: Figure) -> dict[str, figures.Axes]:
    found = [axes for axes in figure.subfigs[0].axes if axes.get_visible()]
    return {axes.get_title().replace("\N{NO-BREAK SPACE}", " "): axes for axes in found}


def draw(store: Store, drawn: list[Figure]) -> Figure:
    figures.overview(store, store.root / "overview.png")
    assert picture(store.root / "overview.png").std() > 0
    return drawn[-1]


def test_the_overview_shows_every_split_beside_centralized_training(tmp_path, drawn):
    store = fake_store.finished_store(tmp_path, {"beta": [0.1, 1.0], "seed": [0]})
    figure = draw(store, drawn)
    panels = panels_of(figure)
    assert list(panels) == ["n = 3, β = 0.1", "n = 3, β = 1", "n = 5, β = 0.1", "n = 5, β = 1"]
    curves = [line["heldout_loss"] for line in store.cell(store.planned()[1].cell_id).rounds()]
    for axes in panels.values():
        assert [line.get_color() for line in axes.lines] == ["black", *figures.COLOURS[:2]]
    assert list(panels["n = 3, β = 0.1"].lines[1].get_ydata()) == curves
    assert [text.get_text() for text in figure.subfigs[0].legends[0].get_texts()] == [
        "centralized",
        "fedavg",
        "fedprox(mu=0.1)",
    ]
    assert outside(figure) == []
    assert overlapping(figure) == []


def test_the_overview_shows_samples_score_and_classes_of_every_experiment(tmp_path, drawn):
    store = fake_store.finished_store(tmp_path, {"seed": [0]})
    figure = draw(store, drawn)
    rows = figure.subfigs[1].axes
    names = [
        [text.get_text().split("\n")[0].replace("\N{NO-BREAK SPACE}", " ") for text in axes.texts] for axes in rows[::2]
    ]
    assert names == [
        ["centralized", "FID 5.00"],
        ["fedavg", "n = 3, β = 0.1"],
        ["fedprox(mu=0.1)", "n = 3, β = 0.1"],
        ["fedavg", "n = 5, β = 0.1"],
        ["fedprox(mu=0.1)", "n = 5, β = 0.1"],
    ]
    told = texts(figure)
    for cell in store.planned():
        fid = store.cell(cell.cell_id).result()["metrics"]["fid"]
        assert sum(f"FID {fid:#.3g}" in text for text in told) == 1
    assert [bar.get_height() for bar in rows[1].patches] == [0.1, 0.2, 0.3, 0.4]
    tiled = rows[0].images[0].get_array()
    assert (tiled[4:68:4, 4:68:4, 0] == fake_store.fake_images(store.planned()[0])[0, 0]).all()


def test_seeds_are_one_curve_with_its_range(tmp_path, drawn):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0, 1, 2]})
    figure = draw(store, drawn)
    (axes,) = panels_of(figure).values()
    assert len(axes.lines) == len(axes.collections) == 3
    cells = [cell for cell in store.planned() if cell.labels["strategy"] == "fedavg"]
    losses = [[line["heldout_loss"] for line in store.cell(cell.cell_id).rounds()] for cell in cells]
    assert list(axes.lines[1].get_ydata()) == pytest.approx(np.mean(losses, axis=0))
    assert any("FID" in text and "±" in text for text in texts(figure))


def test_rounds_are_placed_by_their_number(tmp_path, drawn):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    cell = store.planned()[0]
    fake_store.add_rounds(store.cell(cell.cell_id), cell, 2, 2)
    (axes,) = panels_of(draw(store, drawn)).values()
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3]


def test_the_data_s_classes_are_drawn_where_known(tmp_path, drawn):
    store = fake_store.finished_store(tmp_path, {"n_clients": [4], "seed": [0]})
    figure = draw(store, drawn)
    assert "classes (line: data)" in texts(figure)
    assert figure.subfigs[1].axes[1].lines[0].get_ydata()[0] == pytest.approx(0.25)


def test_further_axes_and_long_names_fit(tmp_path, drawn):
    strategies = ["centralized", "fedavg", *(f"fedprox(mu={mu})" for mu in (0.123456789, 0.2, 0.3, 0.4, 0.5, 0.6))]
    store = fake_store.finished_store(
        tmp_path,
        {"strategy": strategies, "n_clients": [3], "seed": [0], "sampler.steps": [5, 10], "client.lr": [0.002]},
    )
    figure = draw(store, drawn)
    assert len(panels_of(figure)) == 2
    legend = [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in figure.subfigs[0].legends[0].get_texts()]
    assert legend[:2] == [f"centralized, sampler.steps = {n}, client.lr = 0.002" for n in (5, 10)]
    lines = figure.subfigs[0].axes[0].lines
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == len(lines)
    assert outside(figure) == []
    assert overlapping(figure) == []


def test_what_is_left_out_is_told(tmp_path, drawn):
    store = fake_store.finished_store(tmp_path, {"seed": [0]}, missing=[1, 2, 3])
    fake_store.fail(fake_store.begin(store, store.planned()[1]))
    figure = draw(store, drawn)
    assert "1 cell failed; 2 cells not finished" in texts(figure)


def test_a_grid_of_many_experiments_is_cut_and_says_so(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(figures, "ROWS_SHOWN", 2)
    monkeypatch.setattr(figures, "PANELS_SHOWN", 3)
    axes = {"strategy": ["fedavg"], "n_clients": [3], "beta": [0.1, 0.2, 0.3, 0.4, 0.5], "seed": [0]}
    figure = draw(fake_store.finished_store(tmp_path, axes), drawn)
    assert len(figure.subfigs[1].axes) == 2 * 2
    assert len(panels_of(figure)) == 3
    assert "3 more experiments are not shown" in texts(figure)


def test_centralized_training_alone_has_a_panel(tmp_path, drawn):
    store = fake_store.finished_store(tmp_path, {"strategy": ["centralized"], "seed": [0]})
    assert len(panels_of(draw(store, drawn))) == 1


def test_results_without_classes_or_samples_are_drawn(tmp_path, drawn):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    folder = store.cell(store.planned()[0].cell_id)
    result = folder.result() | {"class_histogram": None}
    result["metrics"]["fid"] = None
    write_json(folder.path / "result.json", result)
    (folder.path / "samples.safetensors").unlink()
    told = texts(draw(store, drawn))
    assert {"FID unknown", "samples.safetensors was removed"} <= set(told)


def test_there_is_nothing_to_draw_of_a_grid_not_run(tmp_path):
    with pytest.raises(ValueError, match="no cell is finished"):
        figures.overview(fake_store.planned_store(tmp_path), tmp_path / "overview.png")


def test_no_global_state_of_matplotlib_is_used():
    code = "import bench.figures, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
