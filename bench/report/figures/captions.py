"""Captions of figures: what is shown, of which data and seeds, what bands are, what is missing."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from matplotlib.figure import Figure

from bench.config.names import split_name
from bench.report.figures.compared import fixed_labels
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


@dataclass(frozen=True)
class Caption:
    """What stands below a figure.

    Attributes:
        title: its first sentence.
        notes: further sentences, without their points; those that are "" do not count.
        what: name of a row.
        samples: whether the figure shows generated images or their scores.
    """

    title: str
    notes: Iterable[str] = ()
    what: str = "row"
    samples: bool = True

    def text(self, results: Results, rows_left: int = 0) -> str:
        """The title, the data, axes of one value, the notes, and how many rows and cells are missing."""
        data = of_what(results, self.samples)
        facts = ", ".join(filter(None, [data, split_name(fixed_labels(results), results.titles)]))
        notes = filter(None, [*self.notes, left_out(rows_left, self.what), "; ".join(results.unfinished())])
        return " ".join([_sentence(self.title), *([f"{facts}."] if facts else []), *map(_sentence, notes)])


def paged(
    results: Results,
    caption: Caption,
    rows: Sequence[T],
    parts: Sequence[Sequence[T]],
    draw: Callable[[Sequence[T]], Figure],
) -> list[Picture]:
    """A picture a page, each with the same caption.

    Args:
        parts: those of the rows that are on each page, which `draw` draws.
    """
    text = caption.text(results, len(rows) - sum(map(len, parts)))
    return [Picture(draw(part), text) for part in parts]


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
