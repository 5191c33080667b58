"""What makes foreign texts and files safe to stand in one HTML file."""

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bench.store.files import plain

TYPES = {".csv": "text/csv", ".tex": "application/x-tex", ".md": "text/markdown"}
PICTURES = {".png": "image/png", ".svg": "image/svg+xml"}
PICTURES_BYTES = 12_000_000  # of all pictures together; a page is to be sent by mail

# Inside a script these would end it or begin a comment, and as line ends they would cut texts of older JavaScript.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class File:
    """A file in the page.

    Attributes:
        name: its file name.
        address: its content, as a data: address.
        size: its bytes.
    """

    name: str
    address: str
    size: int


def json_text(value: Any) -> Markup:
    """`value` as JSON that can stand in a script element; NaN and infinity are null."""
    text = json.dumps(plain(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_ESCAPES))


def script_hash(text: str) -> str:
    """How a content security policy names a script that it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def downloads(folder: Path) -> list[File]:
    """The CSV, LaTeX and Markdown files of a folder, which need not exist."""
    return [_file(path, TYPES[path.suffix]) for path in _files(folder) if path.suffix in TYPES]


def pictures(folder: Path) -> tuple[list[File], list[str]]:
    """The PNG files of a folder, or SVG instead, and the names of what no longer fits into `PICTURES_BYTES`."""
    shown: list[File] = []
    left_out: list[str] = []
    files = {path.stem: path for kind in (".svg", ".png") for path in _files(folder) if path.suffix == kind}
    for _, path in sorted(files.items()):
        if sum(file.size for file in shown) + path.stat().st_size > PICTURES_BYTES:
            left_out.append(path.name)
        else:
            shown.append(_file(path, PICTURES[path.suffix]))
    return shown, left_out


def data_address(content: bytes, kind: str) -> str:
    """The content as a data: address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _file(path: Path, kind: str) -> File:
    content = path.read_bytes()
    return File(path.name, data_address(content, kind), len(content))
