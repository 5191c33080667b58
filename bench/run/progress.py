"""What a person sees while a grid runs: a live view on a terminal, plain lines elsewhere, or nothing.

Everything shown is read from the store, so it is the same whatever process or machine runs the cells.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from bench import command
from bench.cell.job import CellJob
from bench.cell.run import ended, rounds_so_far
from bench.config.names import cell_name
from bench.run import cost
from bench.run.plan import Plan
from bench.store.records import FAILURES, Failure, Result, Round

TRAINED = "trained"  # as far as the job asks for, see `bench.cell.job.How.until`
ENDED = ("done", TRAINED, *FAILURES)
PHASES = {
    "autoencoder": "training the autoencoder",
    "train": "training",
    "sample": "sampling",
    "likelihood": "bits/dim",
    "evaluate": "judging",
}


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


class Monitor:
    """Reads how far the jobs of this run are.

    Args:
        plan: the grid's plan.
        jobs: those that are run now.
    Attributes:
        first: the jobs as they stood at the beginning.
    """

    def __init__(self, plan: Plan, jobs: Sequence[CellJob]) -> None:
        self._plan, self._jobs, self._started = plan, list(jobs), time.monotonic()
        self._ended: dict[str, CellView] = {}  # they are not read again
        self._passes = {job.cell_id: p for job, p in zip(jobs, plan.unpaid_passes(jobs), strict=True)}
        self.first = self.look()

    def look(self) -> list[CellView]:
        """One view a job, in the plan's order."""
        return [self._view(job) for job in self._jobs]

    def _view(self, job: CellJob) -> CellView:
        if job.cell_id in self._ended:
            return self._ended[job.cell_id]
        folder = self._plan.store.cell(job.cell_id)
        state: str = folder.state()
        if job.how.until is not None and state not in ENDED and ended(job):
            state = TRAINED
        if state in ENDED:
            rounds = rounds_so_far(folder) if state == TRAINED else []
            last = rounds[-1] if rounds else folder.read(Result) if state == "done" else folder.read(Failure)
            self._ended[job.cell_id] = CellView(job, state, fraction=1.0, last=last)
            return self._ended[job.cell_id]
        progress, rounds, passes = folder.read_progress(), rounds_so_far(folder), self._passes[job.cell_id]
        phase, order = progress.phase, list(passes)
        before = sum(passes.get(name, 0.0) for name in order[: order.index(phase)]) if phase in order else 0.0
        share = cost.share(job) if phase == "train" else 1.0  # the phase counts all rounds
        fraction = (before + min(1.0, progress.done / share) * passes.get(phase, 0.0)) / (sum(passes.values()) or 1.0)
        return CellView(job, state, phase, fraction, len(rounds), rounds[-1] if rounds else None)

    def remaining(self, views: Sequence[CellView]) -> float | None:
        """Seconds to the end at the pace of this run; None until a cell has ended in it or has had two rounds."""
        if not any(v.rounds - b.rounds >= 2 or v.state in ENDED for v, b in zip(views, self.first, strict=True)):
            return None
        sizes = [sum(self._passes[view.job.cell_id].values()) for view in views]
        before, now = (
            sum(view.fraction * size for view, size in zip(each, sizes, strict=True)) for each in (self.first, views)
        )
        return self.elapsed * (sum(sizes) - now) / (now - before) if now > before else None

    @property
    def elapsed(self) -> float:
        """Seconds since this run began."""
        return time.monotonic() - self._started


class View:
    """Shows warnings alone."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, views: Sequence[CellView], monitor: Monitor) -> None:
        """Show the jobs as they stand; called over and over."""

    def warn(self, message: str) -> None:
        """Print a warning."""
        self._console.print(f"warning: {message}")

    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainView(View):
    """For logs and pipes: a line when what is said of a cell changes."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._said: dict[str, str] = {}

    def show(self, views: Sequence[CellView], monitor: Monitor) -> None:
        """Print a line for each cell of which there is something new to say."""
        ended, left = sum(v.state in ENDED for v in views), monitor.remaining(views)
        for view in views:
            text = status_line(view)
            if text == self._said.get(view.job.cell_id, ""):
                continue
            self._said[view.job.cell_id] = text
            line = f"[{clock(monitor.elapsed)}] {ended}/{len(views)}  {cell_name(view.job.labels)}: {text}"
            estimate = "" if left is None else f", {clock(left)} left"
            self._console.print(line + estimate)


class LiveView(View):
    """For terminals: a bar for the grid and one for each running cell, with its losses."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            transient=True,
            refresh_per_second=4,
        )
        self._tasks: dict[str, TaskID] = {}
        console.print("Ctrl-C ends; what is done is kept", style="dim")
        self._bars.start()

    def show(self, views: Sequence[CellView], monitor: Monitor) -> None:
        """Bring the bars up to date."""
        ended, failed = sum(v.state in ENDED for v in views), sum(v.state in FAILURES for v in views)
        head = f"{ended}/{len(views)} cells" + (f", {failed} failed" if failed else "")
        whole = sum(view.fraction for view in views) / max(len(views), 1)
        self._bar("grid", head, whole, f"{clock(monitor.elapsed)} gone, {clock(monitor.remaining(views))} left")
        for view in views:
            if view.running:
                self._bar(view.job.cell_id, f"  {cell_name(view.job.labels)}", view.fraction, status_line(view))
            elif view.job.cell_id in self._tasks:
                self._bars.remove_task(self._tasks.pop(view.job.cell_id))

    def _bar(self, key: str, description: str, fraction: float, text: str) -> None:
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(description, total=1.0, text=text)
        self._bars.update(self._tasks[key], description=description, completed=fraction, text=text)

    def close(self) -> None:
        """Take the bars away."""
        self._bars.stop()


def make_view(console: Console, quiet: bool) -> View:
    """The view for where the output goes; quiet, it is of warnings on standard error."""
    if quiet:
        return View(command.console(stderr=True))
    return LiveView(console) if console.is_terminal else PlainView(console)


def status_line(view: CellView) -> str:
    """What a cell does or found, in a few words; "" before it begins. A round is named with its own losses."""
    last = view.last
    if isinstance(last, Result):
        fid = last.metrics["fid"]
        score = "not finite" if fid is None else f"{fid:.2f}"
        return f"done, FID {score}, test loss {last.metrics['test_loss']:.4f}"
    if view.state in FAILURES:
        return f"{view.state}: {last.error if isinstance(last, Failure) else ''}"
    if (view.phase == "train" or view.state == TRAINED) and isinstance(last, Round):
        loss, validation = last.value("train_loss"), last.value("validation_loss")
        losses = "" if math.isnan(loss) else f", loss {loss:.4f}, validation {validation:.4f}"  # NaN: no update came
        return f"round {last.round}/{view.job.config.training.rounds}{losses}"
    return PHASES.get(view.phase, "preparing" if view.phase or view.state == "running" else "")


def clock(seconds: float | None) -> str:
    """E.g. 02:05 or 1:02:05; --:-- for None."""
    if seconds is None:
        return "--:--"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
