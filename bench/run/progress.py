"""What a person sees while a grid runs: a live view on a terminal, plain lines elsewhere, or nothing.

Everything shown is read from the store, so it is the same whatever process or machine runs the cells.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from bench.cell.job import CellJob
from bench.config.names import cell_name
from bench.run.plan import Plan
from bench.store.cell_folder import CellFolder
from bench.store.files import Damaged
from bench.store.records import FAILURES, Failure, Result, Round

ENDED = ("done", *FAILURES)


@dataclass(frozen=True)
class CellView:
    """A cell as it stands: its fraction is of its network passes, training and sampling together."""

    job: CellJob
    state: str
    phase: str = ""
    fraction: float = 0.0
    rounds: int = 0
    last: Result | Failure | Round | None = None

    @property
    def running(self) -> bool:
        return self.state == "running" and bool(self.phase)


class Watcher:
    """Reads how far the jobs of this run are.

    Args:
        plan: the grid's plan.
        jobs: those that are run now.
    """

    def __init__(self, plan: Plan, jobs: Sequence[CellJob]) -> None:
        self._plan, self._jobs, self._started = plan, list(jobs), time.monotonic()
        self._ended: dict[str, CellView] = {}  # they are not read again
        self._passes = {job.cell_id: p for job, p in zip(jobs, plan.unpaid_passes(jobs), strict=True)}

    def look(self) -> list[CellView]:
        """One view a job, in the plan's order."""
        return [self._view(job) for job in self._jobs]

    def _view(self, job: CellJob) -> CellView:
        if job.cell_id in self._ended:
            return self._ended[job.cell_id]
        folder = self._plan.store.cell(job.cell_id)
        state = folder.state()
        if state in ENDED:
            last = folder.read(Result) if state == "done" else folder.read(Failure)
            self._ended[job.cell_id] = CellView(job, state, fraction=1.0, last=last)
            return self._ended[job.cell_id]
        progress, rounds, passes = folder.read_progress(), _rounds(folder), self._passes[job.cell_id]
        phase, order = progress.phase, [*passes, "evaluate"]
        before = sum(passes.get(name, 0.0) for name in order[: order.index(phase)]) if phase in order else 0.0
        fraction = (before + progress.done * passes.get(phase, 0.0)) / sum(passes.values())
        return CellView(job, state, phase, fraction, len(rounds), rounds[-1] if rounds else None)

    def remaining(self, views: Sequence[CellView]) -> float | None:
        """Seconds to the end at the pace so far; None while there is no pace."""
        sizes = [sum(self._passes[view.job.cell_id].values()) for view in views]
        total, done = sum(sizes), sum(view.fraction * size for view, size in zip(views, sizes, strict=True))
        elapsed = time.monotonic() - self._started
        return elapsed * (total - done) / done if done > 0.002 * total else None

    @property
    def elapsed(self) -> float:
        """Seconds since this run began."""
        return time.monotonic() - self._started


def _rounds(folder: CellFolder) -> list[Round]:
    """The rounds so far; none while what is there cannot be read: whoever runs the cell mends it."""
    try:
        return Round.read_log(folder.path)
    except Damaged:
        return []


class View(Protocol):
    """Shows the jobs' state, over and over."""

    def show(self, views: Sequence[CellView], watcher: Watcher) -> None: ...

    def warn(self, message: str) -> None: ...

    def close(self) -> None: ...


class QuietView:
    """Quiet mode: warnings only, on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def show(self, views: Sequence[CellView], watcher: Watcher) -> None:
        """Quiet mode shows no progress."""

    def warn(self, message: str) -> None:
        self._console.print(f"warning: {message}", markup=False)

    def close(self) -> None:
        """There is nothing to close."""


class PlainView:
    """A line when a cell starts, every round and at its end: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, tuple[str, str, int]] = {}

    def show(self, views: Sequence[CellView], watcher: Watcher) -> None:
        for view in views:
            key = (view.state, view.phase, view.rounds)
            if self._seen.get(view.job.cell_id, ("todo", "", 0)) != key:
                self._seen[view.job.cell_id] = key
                self._line(view, views, watcher)

    def _line(self, view: CellView, views: Sequence[CellView], watcher: Watcher) -> None:
        ended = sum(v.state in ENDED for v in views)
        self._console.print(
            f"[{clock(watcher.elapsed)}] {ended}/{len(views)}  {cell_name(view.job.labels)}: {told(view)}, "
            f"{clock(watcher.remaining(views))} left",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def warn(self, message: str) -> None:
        self._console.print(f"warning: {message}", markup=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing."""


class LiveView:
    """A bar for the grid and one for each running cell, with its losses."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._live.start()

    def show(self, views: Sequence[CellView], watcher: Watcher) -> None:
        bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[told]}", markup=False),
        )
        ended, failed = sum(v.state in ENDED for v in views), sum(v.state in FAILURES for v in views)
        head = f"{ended}/{len(views)} cells" + (f", {failed} failed" if failed else "")
        total = sum(view.fraction for view in views) / max(len(views), 1)
        bars.add_task(
            head,
            total=100,
            completed=round(100 * total),
            told=f"{clock(watcher.elapsed)} gone, {clock(watcher.remaining(views))} left",
        )
        for view in views:
            if view.running:
                bars.add_task(
                    f"  {cell_name(view.job.labels)}", total=100, completed=round(100 * view.fraction), told=told(view)
                )
        self._live.update(Group(bars, Text("Ctrl-C ends; what is done is kept", style="dim")))

    def warn(self, message: str) -> None:
        self._live.console.print(f"warning: {message}", markup=False)

    def close(self) -> None:
        self._live.stop()


def make_view(console: Console, quiet: bool) -> View:
    """The view for where the output goes."""
    if quiet:
        return QuietView()
    return LiveView(console) if console.is_terminal else PlainView(console)


def told(view: CellView) -> str:
    """One short line on what a cell does or found."""
    last = view.last
    if isinstance(last, Result):
        fid = last.metrics["fid"]
        score = "not finite" if fid is None else f"{fid:.2f}"
        return f"done, FID {score}, held-out loss {last.metrics['heldout_loss']:.4f}"
    if view.state in ENDED:
        return f"{view.state}: {last.error if isinstance(last, Failure) else ''}"
    rounds = view.job.config.training.rounds
    loss, heldout = (last.value(key) if isinstance(last, Round) else math.nan for key in ("train_loss", "heldout_loss"))
    losses = "" if math.isnan(loss) else f", loss {loss:.4f}, held-out {heldout:.4f}"  # no update may have arrived
    names = {
        "autoencoder": "training the autoencoder",
        "train": f"round {min(view.rounds + 1, rounds)}/{rounds}",
        "sample": "sampling",
        "likelihood": "bits/dim",
        "evaluate": "judging",
    }
    return names.get(view.phase, "preparing") + losses


def clock(seconds: float | None) -> str:
    """E.g. 02:05 or 1:02:05; --:-- for None."""
    if seconds is None:
        return "--:--"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
