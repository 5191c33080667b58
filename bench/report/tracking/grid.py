"""The parent run of a grid: how many cells are done, its tables, figures and page, and a description with the table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.report.figures import FORMATS
from bench.report.tracking.send import LONGEST_NOTE, NOTE, Sender
from bench.report.tracking.values import signature
from bench.store.grid_folder import Store
from bench.store.records import FAILURES

GRID_ARTIFACTS = (
    "grid.json",
    "report.html",
    "tables/*",
    *(f"figures/*.{kind}" for kind in FORMATS),
    "figures/captions.*",
)
_TABLES = ("summary.md", "claims.md")  # of the folder tables: what the description shows
_ROOM = 120  # characters kept for the line that tells of what was left out


@dataclass
class GridRun:
    """A grid's parent run, with the status and count, note and files that MLflow has of it.

    Those are not sent again.
    """

    sender: Sender
    store: Store
    said: tuple[str, str | None]
    note: str
    sent: dict[Path, Any] = field(default_factory=dict)

    def update(self, states: Sequence[str], running: bool) -> None:
        """Send how far the grid is, and at the end its tables and figures."""
        status = "RUNNING" if running or "running" in states else _status(states)
        count = f"{states.count('done')} of {len(states)}"
        if not running:
            self._send_files()
            self._describe()
        if (status, count) == self.said:
            return
        self.sender.log(self.sender.parent, tags={"cells_done": count})
        self.sender.status(self.sender.parent, status)
        self.said = status, count

    def _send_files(self) -> None:
        root = self.store.root
        for path in (path for pattern in GRID_ARTIFACTS for path in sorted(root.glob(pattern))):
            if self.sent.get(path) != (now := signature(path)):
                folder = path.parent.relative_to(root).as_posix()
                self.sender.file(self.sender.parent, path, None if folder == "." else folder)
                self.sent[path] = now

    def _describe(self) -> None:
        note = description(self.store)
        if note != self.note:
            self.sender.log(self.sender.parent, tags={NOTE: note})
            self.note = note


def description(store: Store) -> str:
    """The grid's description and its Markdown tables, of the length that MLflow takes."""
    parts = [escape(store.plan().get("description") or "")]
    for name in _TABLES:
        path = store.root / "tables" / name
        if path.is_file():
            parts.append(_harmless(path.read_text(encoding="utf-8", errors="replace").strip()))
    return shorten("\n\n".join(part for part in parts if part), LONGEST_NOTE)


def escape(text: str) -> str:
    """Text that Markdown and HTML show as it is: whatever may mean something to them is written by its number."""
    kept = " ".join(text.split())
    return re.sub(r"[^\w ,.()=\u0080-\U0010ffff]", lambda found: f"&#{ord(found[0])};", kept).replace("_", "&#95;")


def _harmless(markdown: str) -> str:
    """Markdown as tables write it, for MLflow's reader, which takes fewer escapes: the only tags in it underline."""
    escaped = re.sub(r"\\?<(?!/?ins>)", "&lt;", markdown)
    return escaped.replace(r"\&", "&amp;").replace(r"\$", "$").replace("![", "&#33;[")


def shorten(markdown: str, longest: int) -> str:
    """Whole lines of it, of no more characters than that, and how many were left out."""
    if len(markdown) <= longest:
        return markdown
    lines, kept, length = markdown.splitlines(), 0, 0
    while kept < len(lines) and length + len(lines[kept]) + 1 <= longest - _ROOM:
        length += len(lines[kept]) + 1
        kept += 1
    return "\n".join([*lines[:kept], "", f"({len(lines) - kept} more lines: see the artifacts in the folder tables)"])


def _status(states: Sequence[str]) -> str:
    if any(state in FAILURES for state in states):
        return "FAILED"
    return "FINISHED" if set(states) <= {"done"} else "KILLED"
