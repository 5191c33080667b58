"""How wide texts are, in inches, before they are drawn: names are cut and notes broken where they would not fit."""

import textwrap
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font

_SLACK = 1.03  # letters are placed at whole pixels


def inches(text: str, size: float, bold: bool = False) -> float:
    """Width of a line in points of `size`, in the font that pictures have."""
    return _SLACK * sum(_advance(letter, bold) for letter in text) * size / 72


@cache
def _advance(letter: str, bold: bool) -> float:
    """Of a letter at 1 point, without kerning."""
    font = get_font(findfont(FontProperties(weight="bold" if bold else "normal")))
    font.set_size(64, 72)
    return float(font.load_char(ord(letter)).linearHoriAdvance) / 65536 / 64


def shorten(text: str, width: float, size: float, bold: bool = False) -> str:
    """A text without its middle, if it is wider than `width` inches."""
    if inches(text, size, bold) <= width:
        return text
    for kept in range(len(text) - 1, 2, -1):
        cut = f"{text[: kept - kept // 2]}…{text[-(kept // 2) :]}"
        if inches(cut, size, bold) <= width:
            return cut
    return "…"


def wrap(text: str, width: float, size: float) -> list[str]:
    """Lines that are no wider than `width` inches, broken at spaces, and in words that are too long."""
    letters = len(text)
    while letters > 1:
        lines = textwrap.wrap(text, letters)
        widest = max((inches(line, size) for line in lines), default=0.0)
        if widest <= width:
            return lines
        letters = min(letters - 1, int(letters * max(0.5, width / widest)))
    return textwrap.wrap(text, 1)
