"""A run for each mean over seeds: MLflow can group runs, but knows neither standard deviations nor intervals.

What a summary run tells follows from the finished cells alone, and its tag `digest` is that of all of it. Points that
were logged cannot be taken back, so a mean that changed is a new run, and the one before goes to MLflow's bin.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.config.cell import flatten
from bench.config.names import axis_key, cell_name
from bench.report.metrics import FURTHER, SUMMARY
from bench.report.results import Group, Results
from bench.report.summary import cell_rows, summarise
from bench.report.tracking.send import Sender
from bench.report.tracking.values import course, course_metrics, filter_tags, is_finite, metrics
from bench.store.grid_folder import Store

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

SPREADS = ("_sd", "_low", "_high")
_DRAWN = ("validation_loss", "train_loss", "curve_fid", "samples", "megabytes")


@dataclass(frozen=True)
class Summary:
    """The content of the run of a mean over seeds.

    Attributes:
        key: the run's name without the number of seeds, by which its earlier runs are found.
        started, finished: seconds since the epoch, of the first and the last of its cells.
    """

    key: str
    name: str
    tags: dict[str, str]
    params: dict[str, Any]
    metrics: list["Metric"]
    started: float
    finished: float

    def digest(self) -> str:
        """SHA-256 of all of it."""
        points = [[m.key, repr(m.value), m.timestamp, m.step] for m in self.metrics]
        content = [self.name, self.tags, self.params, points, self.started, self.finished]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode(errors="surrogatepass")).hexdigest()


def summaries(results: Results) -> list[Summary]:
    """One for each (strategy, n_clients, beta, further axes) with a finished cell, in the tables' order."""
    groups = {_place(group.labels, results.axes): group for group in results.groups}
    rows = summarise(cell_rows(results)).to_dict("records")
    return [_summary(groups[_place(row, results.axes)], row) for row in rows if row["n"]]


def _place(values: Mapping[Any, Any], axes: Iterable[str]) -> tuple[Any, ...]:
    """Where a row stands on the axes, alike from labels and from a table."""
    return tuple(axis_key(axis, values[axis], central=False) for axis in axes)


def _summary(group: Group, row: Mapping[Any, Any]) -> Summary:
    """Of cells that differ in their seeds, and their row of the table."""
    done, key = group.done, cell_name(group.labels)
    name = cell_name(group.labels, titles=group.titles)
    finished = max(cell.result.finished for cell in done if cell.result)
    started = [cell.manifest.started for cell in done if cell.manifest]
    scalars, means = _scalars(row), course(group)
    last = max(means, default=0)
    points = metrics(scalars, finished, last)
    points += [m for m in course_metrics(group, means, _DRAWN) if not (m.step == last and m.key in scalars)]
    tags = _common([filter_tags(cell.planned) for cell in done]) | {
        "kind": "summary",
        "summary": key,
        "state": "partial" if row["unfinished"] else "done",
        "seeds": " ".join(str(cell.labels["seed"]) for cell in done),
    }
    return Summary(
        key,
        f"{name} ({len(done)} seed{'s' if len(done) > 1 else ''})",
        tags | ({"unfinished": row["unfinished"]} if row["unfinished"] else {}),
        _common([dict(flatten(cell.config)) for cell in done]),
        points,
        min(started, default=finished),
        finished,
    )


def _scalars(row: Mapping[Any, Any]) -> dict[str, float]:
    """Means, with the spreads of those that tables show, and the number of seeds, where they are finite.

    MLflow's comparison is a list of all metrics in the order of their names, so it has no others.
    """
    names = [name + end for name in SUMMARY for end in ("", *SPREADS)] + [*FURTHER, "n"]
    values = {name: float(row[name]) for name in names if row.get(name) is not None}
    return {name: value for name, value in values.items() if is_finite(value)}


def _common(several: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The items that are the same in all."""
    first, *others = several
    return {key: value for key, value in first.items() if all(key in one and one[key] == value for one in others)}


# ---------------------------------------------------------------------------------------------- their runs


@dataclass
class SummaryRun:
    """A run as MLflow has it; `digest` is None while it is not complete."""

    run_id: str
    digest: str | None


@dataclass
class SummaryRuns:
    """The runs of a grid's means, by their key."""

    sender: Sender
    store: Store
    runs: dict[str, SummaryRun]
    sent: Any = None  # what the cells were when they were sent last

    def update(self, seen: Any) -> None:
        """Send what changed, and put what no longer holds into MLflow's bin; `seen` tells whether any cell changed."""
        if seen == self.sent:
            return
        wanted = {summary.key: summary for summary in summaries(Results.read(self.store.root))}
        for key in list(self.runs.keys() - wanted.keys()):
            self._remove(key)
        for key, summary in wanted.items():
            if key not in self.runs or self.runs[key].digest != summary.digest():
                self._replace(key, summary)
        self.sent = seen

    def _remove(self, key: str) -> None:
        self.sender.client.delete_run(self.runs.pop(key).run_id)

    def _replace(self, key: str, summary: Summary) -> None:
        """The old run goes first: one that is interrupted between the two is completed by the next sync."""
        if key in self.runs:
            self._remove(key)
        digest = summary.digest()
        run_id = self.sender.create(summary.name, summary.tags | {"digest": digest}, summary.started)
        self.runs[key] = SummaryRun(run_id, None)
        self.sender.log(run_id, summary.metrics, summary.params)
        self.sender.status(run_id, "FINISHED", summary.finished)
        self.runs[key].digest = digest


def remember_all(runs: Iterable[tuple[str, "Run"]]) -> dict[str, SummaryRun]:
    """Runs as they are found in MLflow; one that was not ended is not complete."""
    return {
        key: SummaryRun(run.info.run_id, None if run.info.status == "RUNNING" else run.data.tags.get("digest"))
        for key, run in runs
    }
