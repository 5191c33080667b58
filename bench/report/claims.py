"""Five claims of `PAPER` about FedAvg, from which this harness starts: each a number, an interval and a verdict, twice.

Once by the paper's own measure, the running training loss (local losses in the order in which batches are executed, one
client after another), and once by the fair one, the global model's loss on validation images with common noise after
every round. The answers are of plain FedAvg, paired with centralized training of the same seed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bench.config.names import CENTRALIZED, hashable
from bench.report import curves, stats
from bench.report.curves import Array
from bench.report.results import Cell, Results

PAPER = "Federated Diffusion Model with Non-IID Data"
STRATEGY = "fedavg"
EARLY = 0.2  # the share of a run that is its beginning
MARGIN = 0.05  # of the centralized loss, within which it is reached
ROUNDS = "training.rounds"
CLAIMED_ROUNDS = 50  # of claim 5
CONTROL = 10.0  # beta from which on clients' labels are nearly those of the data (of ten classes to a TV of 0.1)
LEAST = 4  # values of a curve whose ups and downs are judged; fewer hardly show any
UNDECIDED = "undecided"
SATURATED = "not measurable: 0 in every seed"
COLUMNS = ("claim", "statement", "measure", "quantity", "value", "low", "high", "n", "verdict")
ALL = "all"  # the block of a claim's pooled answer
MEASURES = ("paper", "fair")
_LOSS = {"paper": "running training loss", "fair": "validation loss"}
CONFOUNDED = (
    "not answered: the learning rate falls within each run, whose end is smoother by that alone; "
    "two values of training.rounds or client.lr_schedule = constant would tell"
)
STATEMENTS = {
    1: "FedAvg's loss falls more slowly than centralized training's at first",
    2: "FedAvg's loss curve is less smooth than centralized training's",
    3: "FedAvg's loss curve is less smooth with more clients",
    4: "FedAvg's loss reaches the centralized level in the end",
    5: "50 rounds give FedAvg a smooth curve and better samples",
}


class Unanswered(Exception):
    """A claim that these results cannot answer; the message says why."""


@dataclass(frozen=True)
class Run:
    """A finished cell, in numbers.

    Attributes:
        axes: seed, n_clients, beta and further axes.
        rounds: how many it trained.
        constant: whether its learning rate was.
        numbers: by name, NaN where there is none; those of curves begin with the measure.
        why: there is none, by the same names.
        partner: its centralized training, if that is finished.
    """

    axes: dict[str, Any]
    rounds: int
    constant: bool
    numbers: dict[str, float]
    why: dict[str, str]
    partner: "Run | None" = None


@dataclass(frozen=True)
class Evidence:
    """The finished cells of plain FedAvg, and the results that they are of."""

    runs: list[Run]
    results: Results

    @property
    def skewed(self) -> "Evidence":
        """Without the runs of a control, unless there are no others."""
        runs = [run for run in self.runs if not _is_control(run)]
        return replace(self, runs=runs or self.runs)

    @property
    def nothing(self) -> Unanswered:
        """Why there is no answer without any run."""
        return Unanswered(f"no cell of {self.results.title(STRATEGY)} is finished")


@dataclass(frozen=True)
class Part:
    """What a claim says of one number.

    Attributes:
        quantity: what the number is.
        values: by seed (rows) and block (columns).
        sign: 1 if the claim is that it is above the threshold, -1 if below.
        scope: of what the verdict is, where that is not what is claimed.
        control: what it is where it says how far skewed labels are the reason; then it is no part of the claim, but
            has a verdict of its own that stands beside the claim's, after these words.
    """

    quantity: str
    values: pd.DataFrame
    sign: int = 1
    threshold: float = 0.0
    scope: str = ""
    control: str = ""

    def side(self, interval: stats.Interval) -> int:
        """1 where the whole interval agrees with the claim, -1 where it refutes it, else 0."""
        ends = sorted(self.sign * (end - self.threshold) for end in (interval.low, interval.high))
        return 1 if ends[0] > 0 else -1 if ends[1] < 0 else 0

    def saturated(self, interval: stats.Interval) -> bool:
        """Whether the number is the threshold in every seed, so that it could not have told anything."""
        return interval.n > 0 and interval.mean == self.threshold and not interval.sd > 0


Values = Sequence[tuple[tuple[Run, ...], float]]  # each of one or two runs


def pooled(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers over all blocks."""
    return answers[answers["block"] == ALL]


def claims(results: Results) -> pd.DataFrame:
    """A row a claim, measure and block: first all blocks of one (n_clients, beta, further axes) together, then each.

    Over all blocks a seed counts with its mean over them. Where numbers are missing, those blocks and seeds are pooled
    that have the most without a gap; `quantity` names the blocks left out. Intervals are t intervals over those seeds.

    Returns:
        `COLUMNS` and, after measure, block ("all" or its text): claim (1 to 5), statement, measure ("paper" or "fair"),
        quantity (what number is given), value, low, high (95 %), n (seeds), verdict: "holds" or "does not hold" where
        the interval lies on one side of the threshold, "undecided at n seeds" where it does not or there is one seed,
        with its scope where that is not the claim's, `SATURATED` where a number is the threshold in every seed, and
        beside it the verdict on a control; or why there is no answer, with NaN.
    """
    evidence = _evidence(results)
    rows = [row for claim in STATEMENTS for measure in MEASURES for row in _rows(evidence, claim, measure)]
    return pd.DataFrame(rows, columns=["claim", "statement", "measure", "block", *COLUMNS[3:]])


def _rows(evidence: Evidence, claim: int, measure: str) -> list[dict[str, Any]]:
    asked = {"claim": claim, "statement": STATEMENTS[claim], "measure": measure}
    nothing = {"block": ALL, "quantity": "", "value": math.nan, "low": math.nan, "high": math.nan, "n": 0}
    try:
        parts = _QUESTIONS[claim](evidence, measure)
        pooled = _answer(parts, *zip(*(_pooled(part.values) for part in parts), strict=True))
    except Unanswered as why:
        return [asked | nothing | {"verdict": str(why)}]
    single = []
    for block in parts[0].values:
        known = [part for part in parts if block in part.values]
        if all(part in known for part in parts if not part.control):
            single.append({"block": block} | _answer(known, [part.values[block] for part in known], [""] * len(known)))
    return [asked | row for row in ({"block": ALL} | pooled, *single)]


def _pooled(values: pd.DataFrame) -> tuple[pd.Series, str]:
    """Means by seed over the blocks and seeds with the most numbers without a gap, and which blocks are left out."""
    counts = values.notna().sum()
    choices = [values.loc[:, counts >= least].dropna() for least in sorted(set(counts) - {0}, reverse=True)]
    complete = max(choices, key=lambda table: table.size)  # of equals the first, which has the most seeds
    left = [str(block) for block in values.columns if block not in complete]
    note = f" ({complete.shape[1]} of {len(counts)} blocks: too few seeds for {'; '.join(left)})" if left else ""
    return complete.mean(axis=1), note


def _answer(parts: Sequence[Part], values: Sequence[pd.Series], notes: Sequence[str]) -> dict[str, Any]:
    """Number, interval and verdict; of several parts those of the first, with the others in the text of `quantity`."""
    intervals = [stats.t_interval(seeds) for seeds in values]
    verdict = _verdict(parts, intervals)
    named = [
        (part.quantity + note, interval)
        for part, note, interval in zip(parts, notes, intervals, strict=True)
        if not (part.control and verdict == SATURATED)
    ]
    (quantity, first), *others = named
    also = [f"; {name}: {interval_text(i.mean, i.low, i.high)}" for name, i in others]
    return {
        "quantity": quantity + "".join(also),
        "value": first.mean,
        "low": first.low,
        "high": first.high,
        "n": min(interval.n for part, interval in zip(parts, intervals, strict=True) if not part.control),
        "verdict": verdict,
    }


def interval_text(value: float, low: float, high: float) -> str:
    """E.g. "+0.5 [+0.1, +0.9]", without what is NaN."""
    if math.isnan(value):
        return ""
    return f"{value:+.3g}" + ("" if math.isnan(low) else f" [{low:+.3g}, {high:+.3g}]")


def _verdict(parts: Sequence[Part], intervals: Sequence[stats.Interval]) -> str:
    """Of the claim's own parts, and of each control beside it, which says nothing more of what cannot be measured."""
    judged = list(zip(parts, intervals, strict=True))
    own = [pair for pair in judged if not pair[0].control]
    verdict, n = _judge(own), min(interval.n for _, interval in own)
    at = [f"at {n} seed{'' if n == 1 else 's'}"] if verdict == UNDECIDED else []
    scopes = dict.fromkeys(part.scope for part in parts if part.scope)
    beside = [pair for pair in judged if pair[0].control and verdict != SATURATED]
    controls = [f"{part.control}: {_judge([(part, interval)])}" for part, interval in beside]
    return " ".join([verdict, *at, *scopes, *([f"({'; '.join(controls)})"] if controls else [])])


def _judge(judged: Sequence[tuple[Part, stats.Interval]]) -> str:
    """All parts must hold; one that does not is enough for the claim not to, and each must be measurable."""
    if any(part.saturated(interval) for part, interval in judged):
        return SATURATED
    sides = [part.side(interval) for part, interval in judged]
    return "does not hold" if -1 in sides else "holds" if set(sides) == {1} else UNDECIDED


# ----------------------------------------------------------------------------------------------------- the claims


def _slower(evidence: Evidence, measure: str) -> list[Part]:
    quantity = f"mean {_LOSS[measure]} over the first fifth of the run, FedAvg minus centralized"
    name = f"{measure} early"
    return [Part(quantity, _table(evidence, _against_centralized(evidence.skewed, name), name))]


def _rougher(evidence: Evidence, measure: str) -> list[Part]:
    name = f"{measure} roughness"
    return _beside_control(evidence, measure, "FedAvg minus centralized", _against_centralized(evidence, name))


def _rougher_with_clients(evidence: Evidence, measure: str) -> list[Part]:
    few, many = _ends(evidence, "n_clients")
    values = _contrast(evidence, "n_clients", f"{measure} roughness")
    return _beside_control(evidence, measure, f"{many:g} clients minus {few:g}", values, "n_clients")


def _reaches(evidence: Evidence, measure: str) -> list[Part]:
    last = {
        "paper": "training loss of the last round (mean of its local batches)",
        "fair": "validation loss after the last round",
    }[measure]
    quantity = f"{last}, FedAvg over centralized, minus 1 (reached below {MARGIN:+g})"
    name = f"{measure} end"
    values = _against_centralized(evidence.skewed, name, lambda ours, theirs: ours / theirs - 1 if theirs else math.nan)
    return [Part(quantity, _table(evidence, values, name), sign=-1, threshold=MARGIN)]


def _longer(evidence: Evidence, measure: str) -> list[Part]:
    """Long runs against short ones where there are both, else the second half of runs against their first.

    That only at a constant learning rate: where the rate falls to 0 within a run its end is smooth and its images are
    better, whatever its length.
    """
    evidence = evidence.skewed
    lengths = sorted({run.rounds for run in evidence.runs})
    rounds = "/".join(map(str, lengths)) + " rounds"
    short = not lengths or lengths[-1] < CLAIMED_ROUNDS
    scope = f"({rounds}; {CLAIMED_ROUNDS} were not run)" if short else ""
    if len({run.axes.get(ROUNDS) for run in evidence.runs}) > 1:
        few, many = _ends(evidence, ROUNDS)
        which = f"{many:g} rounds minus {few:g}"
        name = f"{measure} roughness"
        smooth = _table(evidence, _contrast(evidence, ROUNDS, name), name, ROUNDS)
        better = _table(evidence, _contrast(evidence, ROUNDS, "fid"), "fid", ROUNDS)
        return [Part(_roughness(measure, which), smooth, -1, scope=scope), Part(f"FID, {which}", better, -1)]
    if evidence.runs and not any(run.constant for run in evidence.runs):
        raise Unanswered(CONFOUNDED)
    steady = replace(evidence, runs=[run for run in evidence.runs if run.constant])
    quantity = f"ups and downs of the {_LOSS[measure]} over its fall, last half of {rounds} minus first"
    return [
        Part(quantity, _within(steady, f"{measure} unrest"), -1, scope=scope),
        Part("FID of the last images drawn along training minus the first", _within(steady, "drawn fid"), -1),
    ]


_QUESTIONS: dict[int, Callable[[Evidence, str], list[Part]]] = {
    1: _slower,
    2: _rougher,
    3: _rougher_with_clients,
    4: _reaches,
    5: _longer,
}


def _roughness(measure: str, which: str) -> str:
    return f"roughness (total variation over fall) of the {_LOSS[measure]}, {which}"


def _beside_control(evidence: Evidence, measure: str, which: str, values: Values, without: str = "") -> list[Part]:
    """A roughness where labels are skewed, and beside it that of the control, the largest beta, and how they differ.

    Clients that begin from the server's weights make a saw-tooth of the curve whatever their labels: what skew adds to
    it is the difference alone. Where no beta is as large as `CONTROL`, the number of all runs.
    """
    name, quantity = f"{measure} roughness", _roughness(measure, which)
    betas = {run.axes["beta"] for (run, *_), _ in values} - {None}
    largest = max((run.axes["beta"] for (run, *_), _ in values if _is_control(run)), default=None)
    controls = {_others(runs[0], "beta"): found for runs, found in values if runs[0].axes["beta"] == largest}
    skewed = [(runs, found, controls.get(_others(runs[0], "beta"), math.nan))
              for runs, found in values if runs[0].axes["beta"] != largest]  # fmt: skip
    beside = [(runs, control) for runs, _, control in skewed if math.isfinite(control)]
    if len(betas) < 2 or not beside:
        return [Part(quantity, _table(evidence, values, name, without))]
    added = [(runs, found - control) for runs, found, control in skewed]
    control, at = _table(evidence, beside, name, without), f"β = {largest:g}"
    return [
        Part(quantity, _table(evidence, [(runs, found) for runs, found, _ in skewed], name, without)),
        Part(f"the same at {at}", control, control=at),
        Part("of it by skew alone", _table(evidence, added, name, without), control="by skew alone"),
    ]


# ----------------------------------------------------------------------------------------- numbers by seed and block


def _against_centralized(
    evidence: Evidence, name: str, compare: Callable[[float, float], float] = lambda ours, theirs: ours - theirs
) -> Values:
    pairs = [(run, run.partner) for run in evidence.runs if run.partner is not None]
    if evidence.runs and not pairs:
        raise Unanswered("no centralized training of the same seed is finished")
    return [(pair, compare(*(run.numbers[name] for run in pair))) for pair in pairs]


def _within(evidence: Evidence, name: str) -> pd.DataFrame:
    return _table(evidence, [((run,), run.numbers[name]) for run in evidence.runs], name)


def _contrast(evidence: Evidence, axis: str, name: str) -> Values:
    """The runs of the axis's largest value minus those of its smallest that are like them but for it."""
    low, high = _ends(evidence, axis)
    others = {_others(run, axis): run for run in evidence.runs if run.axes[axis] == low}
    highest = [run for run in evidence.runs if run.axes[axis] == high]
    pairs = [(run, others[_others(run, axis)]) for run in highest if _others(run, axis) in others]
    if not pairs:
        results = evidence.results
        raise Unanswered(f"no two finished cells of {results.title(STRATEGY)} differ in {results.heading(axis)} alone")
    return [(pair, pair[0].numbers[name] - pair[1].numbers[name]) for pair in pairs]


def _ends(evidence: Evidence, axis: str) -> tuple[float, float]:
    values = sorted({run.axes[axis] for run in evidence.runs})
    if not values:
        raise evidence.nothing
    if len(values) == 1:
        raise Unanswered(f"the finished cells have one value of {evidence.results.heading(axis)} only, {values[0]:g}")
    return values[0], values[-1]


def _is_control(run: Run) -> bool:
    return run.axes["beta"] is not None and run.axes["beta"] >= CONTROL


def _others(run: Run, axis: str) -> tuple[Any, ...]:
    return tuple(value for key, value in run.axes.items() if key != axis)


def _table(evidence: Evidence, values: Values, name: str, without: str = "") -> pd.DataFrame:
    """Values by seed (rows) and block (columns) of their first run, but for an axis that is no part of its name."""
    if not values:
        raise evidence.nothing
    columns: dict[str, dict[Any, float]] = {}
    for (run, *_), value in values:
        columns.setdefault(_block(evidence, run, without), {})[run.axes["seed"]] = value
    table = pd.DataFrame(columns)
    if table.isna().all(axis=None):
        reasons = (run.why[name] for runs, _ in values for run in runs if name in run.why)
        raise Unanswered(next(reasons, "centralized training has a loss of 0"))
    return table


def _block(evidence: Evidence, run: Run, without: str) -> str:
    named = {axis: at for axis, at in run.axes.items() if axis not in ("seed", without) and at is not None}
    return ", ".join(f"{evidence.results.heading(axis)} = {at}" for axis, at in named.items()) or "every run"


# ------------------------------------------------------------------------------------------------------- evidence


def _evidence(results: Results) -> Evidence:
    """The finished cells of plain FedAvg, each beside its centralized training."""
    axes = results.extra_axes
    central: dict[Cell | None, Run] = {
        cell: _run(cell, axes) for cell in results.cells if cell.strategy == CENTRALIZED and cell.done
    }
    fedavg = [cell for cell in results.cells if cell.strategy == STRATEGY and cell.done]
    return Evidence([_run(cell, axes, central.get(results.partner(cell))) for cell in fedavg], results)


def _run(cell: Cell, extra_axes: Sequence[str], partner: Run | None = None) -> Run:
    axes = {axis: hashable(cell.labels[axis]) for axis in ("n_clients", "beta", *extra_axes, "seed")}
    numbers = _numbers(cell)
    why = {name: _why_none(name, bool(cell.steps)) for name, number in numbers.items() if math.isnan(number)}
    constant = cell.config["client"]["lr_schedule"] == "constant"
    return Run(axes, cell.config["training"]["rounds"], constant, numbers, why, partner)


_WHATS = ("early", "roughness", "unrest", "end")


def _numbers(cell: Cell) -> dict[str, float]:
    """Numbers of a finished cell by name, NaN where there is none."""
    samples, loss = cell.costs["samples"], curves.column(cell.rounds, "validation_loss")
    x, y = curves.running_loss(cell.steps, samples[-1] if len(samples) else math.nan)
    numbers = _of_curve("paper", x, y, curves.last_round_loss(cell.steps))
    numbers |= _of_curve("fair", samples, loss, loss[-1] if len(loss) else math.nan)
    fid = cell.metrics.get("fid")
    return numbers | {"fid": math.nan if fid is None else fid, "drawn fid": _drawn(cell)}


def _of_curve(measure: str, x: Array, y: Array, end: float) -> dict[str, float]:
    roughness = curves.roughness(y) if len(y) >= LEAST else math.nan
    values = (curves.early_mean(x, y, EARLY), roughness, curves.unrest(y), float(end))
    return {f"{measure} {what}": value for what, value in zip(_WHATS, values, strict=True)}


def _drawn(cell: Cell) -> float:
    """FID of the last images drawn along training minus that of the first."""
    fids = [scores.value("fid") for scores in sorted(cell.drawn, key=lambda scores: scores.round)]
    return fids[-1] - fids[0] if len(fids) > 1 else math.nan


def _why_none(name: str, steps: bool) -> str:
    if name == "drawn fid":
        return "no images were drawn along training (evaluation.curve_every)"
    if name == "fid":
        return "there is no FID"
    measure, what = name.split()
    if measure == "paper" and not steps:
        return "there are no local losses to read (steps.jsonl)"
    reasons = {"early": "no round ends within the first fifth of the run", "end": f"there is no {_LOSS[measure]}"}
    return reasons.get(what, f"the {_LOSS[measure]} does not fall, or has fewer than four values")
