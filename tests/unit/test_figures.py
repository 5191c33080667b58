"""Pictures: what stands in them, that it is right and that it fits."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image, ImageSequence

from bench.pictures.film import FILM_FRAMES, save_film
from bench.pictures.of_a_cell import COUNTED_CLIENTS, draw_diagnostics, partition_heatmap
from bench.pictures.sheets import class_sheet, coloured, pairs_sheet, sample_sheet, tile
from bench.pictures.style import COLOURS
from bench.report.figures import every, layout
from bench.report.figures.captions import Picture
from bench.store.files import read_json, read_lines, write_json
from bench.store.grid_folder import Store
from bench.store.records import Diagnostics, Likelihood
from tests import fake_store, reports


def texts(figure: Figure) -> list[str]:
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    return [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in found]


def titles_of(axes: Axes) -> tuple[Text, ...]:
    return axes._left_title, axes.title, axes._right_title


def outside(figure: Figure) -> list[str]:
    """Texts that stand over the edge; tick labels beyond an axis's limits are not drawn and do not count."""
    figure.draw_without_rendering()
    edge = figure.bbox.padded(1)
    named = [text for axes in figure.findobj(Axes) for text in (*titles_of(axes), axes.yaxis.label, *axes.texts)]
    named += [text for part in (figure, *figure.subfigs) for text in part.texts]
    named += [text for part in (figure, *figure.subfigs) for legend in part.legends for text in legend.get_texts()]
    boxes = {text.get_text(): text.get_window_extent() for text in named if text.get_text().strip()}
    return [name for name, box in boxes.items() if not (edge.contains(*box.p0) and edge.contains(*box.p1))]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Names of rows, titles and other texts that stand over one another."""
    figure.draw_without_rendering()
    told = [text for axes in figure.findobj(Axes) for text in (*titles_of(axes), axes.yaxis.label, *axes.texts)]
    told += [label for axes in figure.findobj(Axes) for label in axes.get_yticklabels()]
    boxes = [
        (text.get_text(), text.get_window_extent()) for text in told if text.get_text().strip() and text.get_visible()
    ]
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]
    return [(a[0], b[0]) for a, b in pairs if a[1].padded(-1).overlaps(b[1].padded(-1))]


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(path.read_bytes())))


# ------------------------------------------------------------------------------------------ samples


def test_tiles_lie_where_they_should():
    images = torch.arange(3, dtype=torch.uint8).mul(50).add(10)[:, None, None, None].expand(3, 1, 2, 2)
    tiled = tile(images, columns=2, scale=1, line=1, colour=7)
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
    sample_sheet(images, tmp_path / "sheet.png", columns=3, scale=4)
    sheet = picture(tmp_path / "sheet.png")
    assert sheet.shape == (2 * (4 * 4 + 1) + 1, 3 * (6 * 4 + 1) + 1, 3)
    second = sheet[1 : 1 + 16, 26 : 26 + 24]
    assert (second[::4, ::4, 0] == images[1, 0].numpy()).all()
    assert (second == np.kron(images[1, 0].numpy(), np.ones((4, 4), np.uint8))[..., None]).all()
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_colours_stay_colours(tmp_path):
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    images[0, 2] = 200
    sample_sheet(images, tmp_path / "sheet.png", scale=1)
    assert picture(tmp_path / "sheet.png")[1, 1].tolist() == [0, 0, 200]


def test_viridis_is_imshow_s(tmp_path):
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    sample_sheet(images, tmp_path / "sheet.png", columns=1, scale=1, colours="viridis")
    wanted = colormaps["viridis"](np.arange(256) / 255, bytes=True)[:, :3].reshape(16, 16, 3)
    assert (picture(tmp_path / "sheet.png")[1:17, 1:17] == wanted).all()
    rgb = images.expand(1, 3, 16, 16)
    assert coloured(rgb, "viridis") is rgb
    with pytest.raises(ValueError, match="'plasma'"):
        coloured(images, "plasma")


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def named_rows(path: Path, rows: int, columns: int, side: int) -> np.ndarray:
    """(rows, columns, side, side, 3): the images right of the names, drawn at scale 1 with lines of 1."""
    sheet = picture(path)[..., :3]
    assert sheet.shape[0] == rows * (side + 1) + 1
    sheet = sheet[1:, -columns * (side + 1) :].reshape(rows, side + 1, columns, side + 1, 3)
    return sheet[:, :side, :, :side].transpose(0, 2, 1, 3, 4)


def test_a_row_a_class(tmp_path, drawn):
    images, labels = random_images(6, 1, 12, 12), torch.tensor([1, 0, 1, 1, 1, 2])
    class_sheet(images, labels, ("cat", "dog", "ox"), tmp_path / "c.png", per_class=3, scale=1)
    rows = named_rows(tmp_path / "c.png", 3, 3, 12)
    assert (rows[..., 0] == rows[..., 2]).all()
    assert (rows[1, :, :, :, 0] == images[[0, 2, 3], 0].numpy()).all()
    assert (rows[0, 0, :, :, 0] == images[1, 0].numpy()).all()
    assert (rows[0, 1:] == 255).all()
    assert (rows[2, 1:] == 255).all()
    assert texts(drawn[0]) == ["cat", "dog", "ox"]
    assert outside(drawn[0]) == []
    with pytest.raises(ValueError, match="6 images, but 5 labels"):
        class_sheet(images, labels[:5], ("cat", "dog", "ox"), tmp_path / "c.png")


def test_originals_stand_above_their_reconstructions(tmp_path, drawn):
    originals, decoded = random_images(9, 3, 12, 12), random_images(9, 3, 12, 12, seed=1)
    pairs_sheet(originals[:7], decoded[:7], tmp_path / "p.png", columns=4, scale=1)
    rows = named_rows(tmp_path / "p.png", 4, 4, 12).transpose(0, 1, 4, 2, 3)
    assert (rows[0] == originals[:4].numpy()).all()
    assert (rows[1] == decoded[:4].numpy()).all()
    assert (rows[2, :3] == originals[4:7].numpy()).all()
    assert (rows[3, :3] == decoded[4:7].numpy()).all()
    assert (rows[2:, 3] == 255).all()
    assert texts(drawn[0]) == ["real", "decoded"] * 2
    with pytest.raises(ValueError, match="shape"):
        pairs_sheet(originals, decoded[:8], tmp_path / "p.png")


# ------------------------------------------------------------------------------------------ film


def shots(path: Path) -> list[tuple[np.ndarray, int]]:
    """Frames as they are seen, with their milliseconds."""
    with Image.open(path) as gif:
        assert (gif.format, gif.info["loop"]) == ("GIF", 0)
        return [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(gif)]


@pytest.mark.parametrize(("count", "shown"), [(2, 2), (7, 7), (FILM_FRAMES, FILM_FRAMES), (333, FILM_FRAMES)])
def test_a_film_takes_as_long_whatever_its_frames(tmp_path, count, shown):
    frames = [random_images(3, 1, 8, 8, seed=number) for number in range(count)]
    save_film(frames, tmp_path / "film.gif", columns=2, scale=2)
    seen = shots(tmp_path / "film.gif")
    assert len(seen) == shown
    assert (sum(duration for _, duration in seen), seen[-1][1]) == (3500, 1500)
    assert min(duration for _, duration in seen) >= 50
    for frame, (shot, _) in ((frames[0], seen[0]), (frames[-1], seen[-1])):
        assert np.abs(shot.astype(int) - tile(frame, 2, 2)).max() <= 8
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]


def test_a_film_of_colours(tmp_path):
    frames = [random_images(2, 3, 4, 4, seed=number) for number in range(3)]
    save_film(frames, tmp_path / "film.gif", columns=2, scale=3)
    for frame, (shot, _) in zip(frames, shots(tmp_path / "film.gif"), strict=True):
        assert np.abs(shot.astype(int) - tile(frame, 2, 3)).max() <= 8


def test_a_film_is_the_same_again(tmp_path):
    frames = [random_images(2, 1, 8, 8, seed=number) for number in range(30)]
    for name in ("a.gif", "b.gif"):
        save_film(frames, tmp_path / name)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    with pytest.raises(ValueError, match="frame"):
        save_film([], tmp_path / "c.gif")


# ------------------------------------------------------------------------------------------ diagnostics


def steps(axes: Axes) -> np.ndarray:
    (patch,) = axes.patches
    return patch.get_data().values


def test_diagnostics_show_time_classes_clients_and_likelihood(tmp_path, drawn):
    cell = fake_store.planned_store(tmp_path, {"seed": [0]}).planned()[-1]
    told, likelihood = fake_store.diagnostics(cell), fake_store.likelihood(3.25)
    draw_diagnostics(Diagnostics.checked(told), tmp_path / "d.png", "fedavg, seed 0", Likelihood.checked(likelihood))
    time, classes, clients, bits = drawn[0].axes
    assert steps(time).tolist() == told["t_loss"]
    assert time.get_yscale() == "log"
    assert [bar.get_height() for bar in classes.patches] == told["class_loss"]
    assert list(clients.lines[-1].get_ydata()) == told["client_loss"]
    assert len(told["client_loss"]) == 5
    assert steps(bits).sum() == pytest.approx(3.25 - likelihood["prior"])
    assert steps(bits)[0] == pytest.approx(sum(likelihood["terms"][:5]))
    assert "3.250 bits/dim by timestep" in texts(drawn[0])
    assert "fedavg, seed 0" in texts(drawn[0])
    assert outside(drawn[0]) == []


def test_diagnostics_leave_out_what_there_is_not(tmp_path, drawn):
    cell = fake_store.planned_store(tmp_path, {"seed": [0]}).planned()[0]
    told = fake_store.diagnostics(cell)
    told["t_loss"][2] = told["class_loss"][1] = None
    draw_diagnostics(Diagnostics.checked(told), tmp_path / "d.png", "centralized, seed 0")
    time, classes = drawn[0].axes
    assert np.isnan(steps(time)).tolist() == [k == 2 for k in range(10)]
    assert np.isnan(classes.patches[1].get_height())


def test_bits_that_are_not_finite_are_told(tmp_path, drawn):
    cell = fake_store.planned_store(tmp_path, {"seed": [0]}).planned()[0]
    odd = fake_store.likelihood() | {"bits_per_dim": None, "prior": None}
    draw_diagnostics(Diagnostics.checked(fake_store.diagnostics(cell)), tmp_path / "d.png", "", Likelihood.checked(odd))
    assert "not finite: bits/dim by timestep" in texts(drawn[0])


def test_a_bin_without_a_term_is_a_gap(tmp_path, drawn):
    cell = fake_store.planned_store(tmp_path, {"seed": [0]}).planned()[0]
    few = fake_store.likelihood() | {"kept": [0, 50, 99], "terms": [2.0, 0.5, 0.25]}
    draw_diagnostics(Diagnostics.checked(fake_store.diagnostics(cell)), tmp_path / "d.png", "", Likelihood.checked(few))
    bits = steps(drawn[0].axes[2])
    assert (bits[0], bits[5], bits[9]) == (2.0, 0.5, 0.25)
    assert np.isnan(bits).sum() == 7


# ------------------------------------------------------------------------------------------ partition


def test_the_heat_map_tells_every_count_and_size(tmp_path, drawn):
    histogram = np.array([[5, 0, 1200], [0, 30, 7]])
    partition_heatmap(histogram, ("cat", "automobile", "ship"), tmp_path / "p.png", "dirichlet, seed 0")
    told = texts(drawn[0])
    assert {"5", "0", "1200", "30", "7", "1,205", "37", "cat", "automobile", "ship", "client", "class"} <= set(told)
    assert "dirichlet, seed 0" in told
    assert drawn[0].findobj(Axes)[0].images[0].get_array().tolist() == histogram.tolist()
    assert outside(drawn[0]) == []
    assert picture(tmp_path / "p.png").shape[2] in (3, 4)


@pytest.mark.parametrize("n", [1, 25, 26, 200])
def test_the_heat_map_stays_readable_for_any_number_of_clients(tmp_path, drawn, n):
    histogram = np.full((n, 10), 12345)
    partition_heatmap(histogram, tuple("0123456789"), tmp_path / "p.png", f"{n} clients")
    assert ("12345" in texts(drawn[0])) == (n <= COUNTED_CLIENTS)
    assert ("images of a class" in texts(drawn[0])) == (n > COUNTED_CLIENTS)
    assert picture(tmp_path / "p.png").shape[0] < 1600


def test_the_same_data_give_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        partition_heatmap(np.eye(3, dtype=int), ("a", "b", "c"), tmp_path / name, "split")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


# ------------------------------------------------------------------------------------------ overview


def draw(store: Store, name: str = "overview") -> list[Picture]:
    """The pages of a figure, written."""
    pages = every.draw(name, reports.read(store), lambda number: [store.root / f"{name}{number}.png"])
    assert all(picture(store.root / f"{name}{number}.png").std() > 0 for number in range(1, len(pages) + 1))
    for page in pages:
        assert outside(page.figure) == []
        assert overlapping(page.figure) == []
    return pages


def curves_of(figure: Figure) -> dict[str, Axes]:
    """The panels of curves by their titles."""
    found = [axes for axes in figure.subfigs[0].axes if axes.get_visible()]
    return {axes.get_title().replace("\N{NO-BREAK SPACE}", " "): axes for axes in found}


def rows_of(figure: Figure) -> list[tuple[str, Axes, Axes]]:
    """Name, samples and classes of each row."""
    axes = figure.subfigs[-1].axes
    names = [a.get_ylabel().replace("\N{NO-BREAK SPACE}", " ") for a in axes[::2]]
    return list(zip(names, axes[::2], axes[1::2], strict=True))


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in figure.legends[0].get_texts()]


def test_the_overview_shows_every_split_beside_centralized_training(tmp_path):
    store = fake_store.finished_store(tmp_path, {"beta": [0.1, 1.0], "seed": [0]})
    (page,) = draw(store)
    panels = curves_of(page.figure)
    assert list(panels) == ["n = 3, β = 0.1", "n = 3, β = 1", "n = 5, β = 0.1", "n = 5, β = 1"]
    curves = [
        line["validation_loss"] for line in read_lines(store.cell(store.planned()[1].cell_id).path / "metrics.jsonl")
    ]
    for axes in panels.values():
        assert [line.get_color() for line in axes.lines] == ["black", *COLOURS[:2]]
    assert list(panels["n = 3, β = 0.1"].lines[1].get_ydata()) == curves
    assert legend_of(page.figure) == ["centralized", "fedavg", "fedprox(mu=0.1)"]


def test_the_overview_shows_samples_score_and_classes_of_every_experiment(tmp_path):
    store = fake_store.finished_store(tmp_path, {"seed": [0]})
    (page,) = draw(store)
    rows = rows_of(page.figure)
    assert [name.split("\nFID")[0] for name, *_ in rows] == [
        "centralized",
        "fedavg\nn = 3",
        "fedprox(mu=0.1)\nn = 3",
        "fedavg\nn = 5",
        "fedprox(mu=0.1)\nn = 5",
    ]
    for cell in store.planned():
        fid = read_json(store.cell(cell.cell_id).path / "result.json")["metrics"]["fid"]
        assert sum(name.endswith(f"FID {fid:#.3g}") for name, *_ in rows) == 1
    _, samples, classes = rows[0]
    assert [bar.get_height() for bar in classes.patches] == [0.1, 0.2, 0.3, 0.4]
    tiled = samples.images[0].get_array()
    assert (tiled[4:68:4, 4:68:4, 0] == fake_store.fake_images(store.planned()[0])[0, 0]).all()


def test_seeds_are_one_curve_with_its_interval(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0, 1, 2]})
    (page,) = draw(store)
    (axes,) = curves_of(page.figure).values()
    assert len(axes.lines) == len(axes.collections) == 3
    cells = [cell for cell in store.planned() if cell.labels["strategy"] == "fedavg"]
    losses = [
        [line["validation_loss"] for line in read_lines(store.cell(cell.cell_id).path / "metrics.jsonl")]
        for cell in cells
    ]
    assert list(axes.lines[1].get_ydata()) == pytest.approx(np.mean(losses, axis=0))
    assert all("±" in name for name, *_ in rows_of(page.figure)[1:])
    assert "Means of 3 seeds; bands: 95 % t interval" in page.caption


def test_rounds_are_placed_by_their_number(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    cell = store.planned()[0]
    fake_store.add_rounds(store.cell(cell.cell_id), cell, 2, 2)
    (axes,) = curves_of(draw(store)[0].figure).values()
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3]


def test_the_data_s_classes_are_drawn_where_known(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [4], "seed": [0]})
    (page,) = draw(store)
    assert "classes (line: data)" in texts(page.figure)
    assert "line: of the data" in page.caption
    assert rows_of(page.figure)[0][2].lines[0].get_ydata()[0] == pytest.approx(0.25)


def test_further_axes_and_long_names_fit(tmp_path):
    strategies = ["centralized", "fedavg", *(f"fedprox(mu={mu})" for mu in (0.123456789, 0.2, 0.3, 0.4, 0.5, 0.6))]
    store = fake_store.finished_store(
        tmp_path,
        {"strategy": strategies, "n_clients": [3], "seed": [0], "sampler.steps": [5, 10], "client.lr": [0.002]},
    )
    figure = draw(store)[0].figure
    assert len(curves_of(figure)) == 2
    assert legend_of(figure)[:2] == [f"centralized, sampler.steps = {n}" for n in (5, 10)]
    lines = figure.subfigs[0].axes[0].lines
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == len(lines)


def test_what_is_left_out_is_told(tmp_path):
    store = fake_store.finished_store(tmp_path, {"seed": [0]}, missing=[1, 2, 3])
    fake_store.fail(fake_store.begin(store, store.planned()[1]))
    assert "1 cell failed; 2 cells not finished." in draw(store)[0].caption


def test_a_grid_of_many_experiments_goes_on_and_what_is_cut_is_told(tmp_path, monkeypatch):
    axes = {"strategy": ["fedavg", "fedprox(mu=0.1)"], "n_clients": [3], "seed": [0]}
    store = fake_store.finished_store(tmp_path, axes | {"beta": [0.1 * k for k in range(1, 11)]})
    first, second = draw(store)
    assert len(curves_of(first.figure)) == 10
    assert len(rows_of(first.figure)) + len(rows_of(second.figure)) == 20
    assert not second.figure.legends
    monkeypatch.setattr(layout, "MOST_PAGES", 1)
    (only,) = draw(store)
    assert f"{20 - len(rows_of(only.figure))} more rows are not shown" in only.caption


def test_centralized_training_alone_has_a_panel(tmp_path):
    store = fake_store.finished_store(tmp_path, {"strategy": ["centralized"], "seed": [0]})
    assert len(curves_of(draw(store)[0].figure)) == 1


def test_results_without_classes_or_samples_are_drawn(tmp_path):
    store = fake_store.finished_store(tmp_path, {"n_clients": [3], "seed": [0]})
    folder = store.cell(store.planned()[0].cell_id)
    result = read_json(folder.path / "result.json") | {"class_histogram": None}
    result["metrics"]["fid"] = None
    write_json(folder.path / "result.json", result)
    (folder.path / "samples.safetensors").unlink()
    told = texts(draw(store)[0].figure)
    assert {"centralized\nFID unknown", "samples were removed", "not known"} <= set(told)


def test_there_is_nothing_to_draw_of_a_grid_not_run(tmp_path):
    with pytest.raises(ValueError, match="no cell is finished"):
        draw(fake_store.planned_store(tmp_path))


# ------------------------------------------------------------------------------------------ overview of recipes


def recipes_store(results: Path, **settings: object) -> Store:
    return fake_store.finished_store(results, fake_store.RECIPE_AXES, recipes=fake_store.RECIPES, **settings)


def axes_with(figure: Figure, kind: str) -> list[Axes]:
    """From top to bottom: those of "losses" or of "samples"."""
    if kind == "samples":
        return [axes for axes in figure.axes if axes.images]
    return sorted((a for a in figure.axes if a.get_yscale() == "log"), key=lambda a: -a.get_position().y0)


def names_of(figure: Figure) -> list[str]:
    """Of the rows."""
    return [label.get_text().replace("\N{NO-BREAK SPACE}", " ") for label in figure.axes[0].get_yticklabels()]


def test_recipes_have_a_row_each_with_what_is_compared(tmp_path):
    store = recipes_store(tmp_path)
    (page,) = draw(store)
    told = texts(page.figure)
    assert names_of(page.figure) == list(fake_store.RECIPES)
    assert all(told.count(title) >= 1 for title in ("centralized", "fedavg"))
    assert "1 seed, n = 5, β = 0.1." in page.caption.replace("\N{NO-BREAK SPACE}", " ")
    assert len(axes_with(page.figure, "samples")) == 2 * len(fake_store.RECIPES)
    for cell in store.planned():
        fid = read_json(store.cell(cell.cell_id).path / "result.json")["metrics"]["fid"]
        assert f"{fid:#.3g}".rstrip(".") in told
    assert page.figure.get_size_inches()[0] == pytest.approx(layout.TEXT)


def test_a_few_recipes_have_rows_too(tmp_path):
    chosen = ["linear-simple-ddim", "cosine_hybrid"]
    axes = fake_store.RECIPE_AXES | {"recipe": chosen}
    (page,) = draw(fake_store.finished_store(tmp_path, axes, recipes=fake_store.RECIPES))
    assert names_of(page.figure) == chosen


def test_a_curve_of_one_round_is_a_point(tmp_path):
    store = recipes_store(tmp_path)
    for cell in store.planned():
        file = store.cell(cell.cell_id).path / "metrics.jsonl"
        file.write_text(file.read_text().splitlines()[0] + "\n")
    curves = [axes.lines for axes in axes_with(draw(store)[0].figure, "losses") if axes.lines]
    markers = [line.get_marker() for lines in curves for line in lines if len(line.get_xdata()) == 1]
    assert markers
    assert set(markers) == {"o"}


def test_samples_of_a_recipe_stand_in_its_row(tmp_path):
    store = recipes_store(tmp_path)
    figure = draw(store)[0].figure
    strips = axes_with(figure, "samples")
    for cell, axes in zip(store.planned(), strips, strict=True):  # plan and picture: centralized, then fedavg
        image = fake_store.fake_images(cell)[0, 0]
        assert (axes.images[0].get_array()[4 : 4 + 64 : 4, 4 : 4 + 64 : 4, 0] == image).all()
    heights = [axes.get_window_extent().get_points()[:, 1].mean() for axes in strips]
    assert heights[:6] == pytest.approx(heights[6:])
    named = figure.axes[0].transData.transform([(1, k) for k in range(6)])[:, 1]
    assert heights[:6] == pytest.approx(named, abs=0.1 * (named[0] - named[1]))


def test_the_scores_of_a_recipe_stand_on_its_line(tmp_path):
    store = recipes_store(tmp_path)
    dots = draw(store)[0].figure.axes[0]
    marks = {"D": [], "o": [], "|": []}
    for line in dots.lines:
        if line.get_marker() in marks and len(line.get_xdata()):
            marks[line.get_marker()].append((line.get_ydata()[0], line.get_xdata()[0]))
    fids = [read_json(store.cell(cell.cell_id).path / "result.json")["metrics"]["fid"] for cell in store.planned()]
    assert marks["D"] == list(enumerate(fids[:6]))
    assert marks["o"] == list(enumerate(fids[6:]))
    assert marks["|"] == [(5, 2.5)]  # what the autoencoder keeps
    assert fake_store.FLOOR["fid"] in {x for line in dots.lines for x in line.get_xdata()}


def test_losses_of_shared_training_are_drawn_once(tmp_path):
    store = recipes_store(tmp_path)
    (page,) = draw(store)
    losses = axes_with(page.figure, "losses")
    assert [len(axes.lines) for axes in losses] == [2] * 4
    heights = [axes.get_position().height for axes in losses]
    assert heights[0] > 2.9 * heights[1]
    assert heights[1] == pytest.approx(heights[3])
    curves = [
        line["validation_loss"] for line in read_lines(store.cell(store.planned()[3].cell_id).path / "metrics.jsonl")
    ]
    assert list(losses[1].lines[0].get_ydata()) == curves
    assert losses[1].get_ylim() == losses[2].get_ylim()
    assert "not between pixels and latents" in page.caption


def test_training_shared_by_rows_apart_is_named(tmp_path):
    axes = {"strategy": ["fedavg"], "n_clients": [3], "seed": [0], "sampler.steps": [1, 2, 3], "client.lr": [0.1, 0.2]}
    (page,) = draw(fake_store.finished_store(tmp_path, axes))
    assert [len(axes.lines) for axes in axes_with(page.figure, "losses")] == [1, 1]
    told = texts(page.figure)
    assert told.count("as\nsampler.steps = 1\nclient.lr = 0.1") == 2
    assert told.count("as\nsampler.steps = 1\nclient.lr = 0.2") == 2


def test_recipes_without_a_result_are_told(tmp_path):
    store = fake_store.planned_store(tmp_path, fake_store.RECIPE_AXES, recipes=fake_store.RECIPES)
    for number, cell in enumerate(store.planned()):
        if number == 7:
            fake_store.fail(fake_store.begin(store, cell), "diverged")
        elif number != 2:
            fake_store.run_cell(store, cell)
    (page,) = draw(store)
    assert {"diverged", "not finished"} <= set(texts(page.figure))
    assert "1 cell not finished; 1 cell diverged." in page.caption
    assert len(axes_with(page.figure, "samples")) == 10


def test_seeds_and_several_strategies_fit_beside_recipes(tmp_path):
    axes = fake_store.RECIPE_AXES | {"strategy": ["centralized", "fedavg", "fedprox(mu=0.123456789)"], "seed": [0, 1]}
    (page,) = draw(fake_store.finished_store(tmp_path, axes, recipes=fake_store.RECIPES))
    assert [len(a.lines) for a in axes_with(page.figure, "losses")] == [3] * 4
    assert sum("\n±" in text for text in texts(page.figure)) == 18


def test_centralized_training_stands_in_every_row_of_an_axis_it_does_not_know(tmp_path):
    axes = {"n_clients": [3], "seed": [0], "strategy": ["centralized", "fedavg"]}
    store = fake_store.finished_store(tmp_path, axes | {"training.participation": [0.2, 0.4, 0.6, 0.8, 1.0]})
    (page,) = draw(store)
    assert texts(page.figure).count("5.00") == 5
    assert [len(a.lines) for a in axes_with(page.figure, "losses")] == [2] * 5


def test_few_values_of_a_further_axis_keep_their_panels(tmp_path):
    axes = {"strategy": ["centralized", "fedavg"], "n_clients": [3], "seed": [0]}
    few = fake_store.finished_store(tmp_path, axes | {"sampler.steps": [1, 2, 3, 4]})
    assert draw(few)[0].figure.subfigs
    many = fake_store.finished_store(tmp_path, axes | {"sampler.steps": [1, 2, 3, 4, 5]}, name="many")
    assert not draw(many)[0].figure.subfigs


def test_more_recipes_than_fit_on_a_page_go_on_and_what_is_cut_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "HIGHEST", 3.0)
    store = recipes_store(tmp_path)
    pages = draw(store)
    assert [len(axes_with(page.figure, "samples")) for page in pages] == [6, 6]
    monkeypatch.setattr(layout, "MOST_PAGES", 1)
    (page,) = draw(store)
    assert f"{6 - len(names_of(page.figure))} more rows are not shown" in page.caption


def test_no_global_state_of_matplotlib_is_used():
    code = "import bench.report.figures.every, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
