"""Captions of figures: what is shown, of which data and seeds, what bands are, what is missing."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from matplotlib.figure import Figure

from bench.report.figures.layout import COLUMN, left_out
from bench.report.results import Results
from bench.report.tables import latex, markdown
from bench.report.tables.caption import of_what

T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """A figure with its caption."""

    figure: Figure
    caption: str

    @property
    def wide(self) -> bool:
        """Whether it is as wide as the text."""
        return bool(self.figure.get_size_inches()[0] > COLUMN)


def paged(
    results: Results,
    about: tuple[str, Iterable[str]],
    rows: Sequence[T],
    parts: Sequence[Sequence[T]],
    draw: Callable[[Sequence[T]], Figure],
    what: str = "row",
) -> list[Picture]:
    """A picture a page, with one caption, which tells how many rows are left out.

    Args:
        about: a title and notes, see `caption`.
        parts: the rows of each page, which `draw` draws.
        what: a row's name.
    """
    title, notes = about
    text = caption(results, title, [*notes, left_out(len(rows) - sum(map(len, parts)), what)])
    return [Picture(draw(part), text) for part in parts]


def caption(results: Results, title: str, notes: Iterable[str] = ()) -> str:
    """A title, the data, the number of samples and the seeds, notes that are not "", and the cells not finished."""
    facts = of_what(results)
    further = filter(None, [*notes, "; ".join(results.unfinished())])
    return " ".join([_sentence(title), *([f"{facts}."] if facts else []), *map(_sentence, further)])


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def captions(grid: str, named: Sequence[tuple[str, Picture]], image: str | None) -> dict[str, str]:
    """Files by name: a float a figure in LaTeX, and its caption in Markdown.

    Args:
        image: suffix of the files that Markdown shows; None for none.
    """
    floats = [_float(latex.label(grid, name).replace("tab:", "fig:"), name, picture) for name, picture in named]
    parts = [_entry(name, picture, image) for name, picture in named]
    return {"captions.tex": "\n".join(floats), "captions.md": "\n".join(parts)} if named else {}


def _float(label: str, name: str, picture: Picture) -> str:
    kind = "figure*" if picture.wide else "figure"
    lines = [rf"\begin{{{kind}}}", r"\centering", rf"\includegraphics[width=\linewidth]{{{name}}}"]
    return "\n".join([*lines, latex.caption(picture.caption, label).rstrip(), rf"\end{{{kind}}}", ""])


def _entry(name: str, picture: Picture, image: str | None) -> str:
    shown = f"![{name}]({name}.{image})\n\n" if image else ""
    return f"### {name}\n\n{shown}{markdown.escape(picture.caption)}\n"
