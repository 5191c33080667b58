"""A grid's results as numbers: a row a cell, means over seeds, differences, ranks."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.config.names import AXES, CENTRALIZED, hashable, shared_key
from bench.fidelity.bootstrap import bootstrap_interval
from bench.report import curves, stats
from bench.report.metrics import FROM_CURVES, GOALS, PAIRED, SUMMARISED, TOTALS, Metric
from bench.report.results import Cell, Results


@dataclass(frozen=True)
class Rows:
    """A row a cell: its axes' values, seed, state and numbers.

    Attributes:
        extra_axes: names of the columns that are axes beside strategy, n_clients and beta.
    """

    frame: pd.DataFrame
    extra_axes: tuple[str, ...] = ()

    @property
    def axes(self) -> list[str]:
        """All axes but the seed."""
        return [*AXES, *self.extra_axes]

    @property
    def plain(self) -> pd.DataFrame:
        """The frame with hashable axis values."""
        return self.frame.assign(**{axis: self.frame[axis].map(hashable) for axis in self.extra_axes})


def cell_rows(results: Results) -> Rows:
    """Tidy results: one row a planned cell, that is a strategy, n_clients, beta, further axes and seed.

    Columns: cell_id, state, the labels, the result's metrics, weight_hash, `megabytes` (10^6 bytes up and down) and
    `seconds` (training, sampling and evaluation), both with the autoencoder's where there is one, those of
    `_curve_numbers`, `floor_*` (what other real images score), commit, dirty, device and error, each None where
    there is none, and the differences ``<metric>_minus_centralized``.
    """
    frame = pd.DataFrame([_scalars(cell) for cell in results.cells])
    frame["n_clients"] = frame["n_clients"].astype("Int64")
    axes = ["cell_id", "state", "seed", "weight_hash", *results.axes]
    for name in frame.columns.difference(axes):
        frame[name] = pd.to_numeric(frame[name])
    for total in TOTALS:
        every, some = list(total.parts), list(total.optional_parts)
        known = frame.reindex(columns=[*every, *some]).astype(float)
        frame[total.key] = (known[every].sum(axis=1, skipna=False) + known[some].sum(axis=1)) / total.unit
    numbers = [_curve_numbers(cell, results.partner(cell)) if cell.done else {} for cell in results.cells]
    of_curves = pd.DataFrame(numbers, index=frame.index, columns=list(FROM_CURVES), dtype=float)
    records = pd.DataFrame(map(_circumstances, results.cells))
    return _with_differences(Rows(pd.concat([frame, of_curves, records], axis=1), results.extra_axes))


def _scalars(cell: Cell) -> dict[str, Any]:
    made = {"cell_id": cell.cell_id, "state": cell.state, **cell.labels, **cell.metrics}
    return made | {"weight_hash": cell.result.weight_hash if cell.result else None}


def _circumstances(cell: Cell) -> dict[str, Any]:
    """What is known of a cell beside its scores."""
    if cell.result is None:
        error = cell.failure.error if cell.failure else None
        return {"commit": None, "dirty": None, "device": None, "error": error}
    made = cell.result.environment
    floor = {f"floor_{key}": value for key, value in cell.result.floor.items()}
    return floor | {"commit": made.commit, "dirty": made.dirty, "device": made.device, "error": None}


def _curve_numbers(cell: Cell, partner: Cell | None) -> dict[str, float]:
    """What a finished cell's curves say.

    Args:
        partner: the centralized training that it is compared with.
    Returns:
        validation_area: of the validation loss over images seen, see `curves.area`;  validation_roughness: of its
        values by round;  train_roughness: of the running training loss;  rounds_to_centralized,
        samples_to_centralized and megabytes_to_centralized: at the end of the first round whose validation loss is no
        higher than the partner's final one, NaN if none is;  reached_centralized: 1 or 0, NaN without a partner or a
        curve.
    """
    level = partner.metrics.get("validation_loss") if partner else None
    target = math.nan if level is None else level
    loss, paid = curves.column(cell.rounds, "validation_loss"), cell.costs
    reached = curves.first_reach(paid["round"], loss, target)
    return {
        "validation_area": curves.area(paid["samples"], loss),
        "validation_roughness": curves.roughness(loss),
        "train_roughness": curves.roughness(curves.running_mean(curves.step_losses(cell.steps))),
        "reached_centralized": float(reached > 0) if math.isfinite(target) and len(loss) else math.nan,
    } | {key: curves.first_reach(paid[cost], loss, target) for key, cost in GOALS.items()}


def fid_replicates(results: Results) -> dict[str, list[float | None]]:
    """The bootstrap's FIDs of every finished cell that has them, by cell id."""
    return {
        cell.cell_id: cell.result.bootstrap["fid"]
        for cell in results.cells
        if cell.result and "fid" in cell.result.bootstrap
    }


def baselines(results: Results) -> list[str]:
    """What differences may be to: centralized training, whether or not it was run, and the plan's strategies."""
    return list(dict.fromkeys([CENTRALIZED, *(cell.strategy for cell in results.cells)]))


# ------------------------------------------------------------------------------------------------ means over seeds


def summarise(rows: Rows) -> pd.DataFrame:
    """Means over seeds: one row a (strategy, n_clients, beta, further axes).

    Centralized training stands first; then come blocks of one (n_clients, beta), in which rows to be compared stand
    together, strategies in the plan's order.

    Columns: the axes, `n` (finished seeds), `planned` (seeds), `unfinished` (what became of the others, e.g.
    "1 failed, 1 missing"), for each metric its mean over the finished seeds, ``_sd``, their standard deviation, and
    ``_low`` and ``_high``, the mean's 95 % t interval (these three NaN below two seeds).
    ``<metric>_minus_centralized`` is the mean of the differences to centralized training of the same seed and further
    axes. What it costs to reach centralized training has a mean only where every finished seed reaches it. A row none
    of whose cells is finished has n = 0 and no numbers.
    """
    frame = _with_differences(rows).plain
    groups = frame.groupby(rows.axes, dropna=False, sort=False).ngroup().to_numpy()
    done = frame["state"] == "done"
    values = frame.reindex(columns=[*SUMMARISED]).astype(float).where(done)
    counts = {
        "n": done.groupby(groups).sum(),
        "planned": frame["state"].groupby(groups).size(),
        "unfinished": frame["state"].groupby(groups).agg(_unfinished),
    }
    heads = frame.loc[~pd.Series(groups, frame.index).duplicated(), rows.axes].reset_index(drop=True)
    table = pd.concat([heads, pd.DataFrame(counts), _spreads(values, groups, counts["n"])], axis=1)
    return _sorted(table, rows.extra_axes)


def _spreads(values: pd.DataFrame, groups: np.ndarray, finished: pd.Series) -> pd.DataFrame:
    """Mean, standard deviation and interval of each column by group."""
    grouped = values.groupby(groups)
    means, sds, counts = grouped.mean(), grouped.std(), grouped.count()
    for key in GOALS:
        never = counts[key] < finished
        means.loc[never, key], sds.loc[never, key] = math.nan, math.nan
    half = stats.half_width(sds, counts)
    parts = {"": means, "_sd": sds, "_low": means - half, "_high": means + half}
    return pd.DataFrame({f"{key}{end}": part[key] for key in values.columns for end, part in parts.items()})


def _sorted(table: pd.DataFrame, extra_axes: Sequence[str]) -> pd.DataFrame:
    """Centralized training first, then blocks of rows to be compared; further axes as they came."""
    order = {axis: {value: place for place, value in enumerate(table[axis].unique())} for axis in extra_axes}
    return table.sort_values(
        ["n_clients", "beta", *extra_axes],
        key=lambda column: column.map(order[column.name]) if column.name in order else column,
        kind="stable",
        na_position="first",
        ignore_index=True,
    )


def _unfinished(states: Iterable[str]) -> str:
    names = dict.fromkeys(("partial", "todo", "running"), "missing")
    counts = Counter(names.get(state, state) for state in states if state != "done")
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def _with_differences(rows: Rows) -> Rows:
    """Adds each federated row's differences to its centralized row; NaN where either is not finished."""
    metrics = [metric for metric in PAIRED if metric in rows.frame]
    found = _minus_partners(rows, metrics, CENTRALIZED)
    return replace(rows, frame=rows.frame.assign(**{PAIRED[metric]: found[metric] for metric in metrics}))


# ----------------------------------------------------------------------------------------------------- comparisons


def differences(
    rows: Rows,
    metrics: Sequence[str],
    baseline: str = CENTRALIZED,
    replicates: Mapping[str, Sequence[float | None]] | None = None,
) -> pd.DataFrame:
    """Differences to a baseline, paired by seed: a row a metric and (strategy, n_clients, beta, further axes).

    A row's partner is the baseline's of the same seed, n_clients, beta and further axes; centralized training's has the
    same seed and those further axes that mean something to it. Metrics that no cell has are left out, and what it costs
    to reach centralized training, which only those have that reach it. The family of
    Holm's adjustment are all comparisons of one metric that have a pair.

    Args:
        baseline: "centralized" or a strategy's label.
        replicates: of `fid_replicates`.
    Returns:
        The axes, metric, baseline, n (pairs), mean, sd, low, high (95 % t interval), p (exact two-sided sign-flip
        test), p_holm (None where no p that n pairs can give would be at most 0.05 after the adjustment), note (why
        there is none), and for FID images_low and images_high: what the images alone leave open, from the bootstrap
        over images paired between the two cells, the mean over seeds of each replicate; NaN without replicates.
    Raises:
        ValueError: for a baseline that is none of the rows' strategies, nor centralized training.
    """
    rows = replace(rows, frame=rows.frame.reset_index(drop=True))
    frame = rows.frame
    _check_baseline(frame, baseline)
    metrics = [m for m in metrics if m in frame and frame[m].notna().any() and m not in GOALS]
    deltas = _minus_partners(rows, metrics, baseline).to_numpy()
    pairs = list(zip(frame["cell_id"], frame["cell_id"].reindex(_partners(rows, baseline)), strict=True))
    groups = [
        (axes, places) for axes, places in _groups(rows, rows.axes) if axes["strategy"] not in (CENTRALIZED, baseline)
    ]
    families: list[dict[str, Any]] = []
    for metric, column in zip(metrics, deltas.T, strict=True):
        told, given = {"metric": metric, "baseline": baseline}, replicates if metric == "fid" else None
        families += _adjusted([axes | told | _comparison(column, pairs, places, given) for axes, places in groups])
    columns = [*rows.axes, "metric", "baseline", "n", "mean", "sd", "low", "high", "p", "p_holm", "note"]
    table = pd.DataFrame(families, columns=[*columns, "images_low", "images_high"])
    adjusted = table["p_holm"].astype(object).where(table["p_holm"].notna(), None)
    return table.assign(n_clients=table["n_clients"].astype("Int64"), p_holm=adjusted)


def _check_baseline(frame: pd.DataFrame, baseline: str) -> None:
    known = list(dict.fromkeys([CENTRALIZED, *frame["strategy"]]))
    if baseline not in known:
        raise ValueError(f"baseline: got {baseline!r}; there are {', '.join(known)}")


def _comparison(
    deltas: np.ndarray,
    pairs: Sequence[tuple[str, str]],
    places: np.ndarray,
    replicates: Mapping[str, Sequence[float | None]] | None,
) -> dict[str, Any]:
    """What the differences at `places`, of the pairs of cells there, say; what is no number is left out."""
    places = places[np.isfinite(deltas[places])]
    found = stats.t_interval(deltas[places])
    images = _image_interval([pairs[place] for place in places], replicates or {}, found.mean)
    return found._asdict() | {"p": stats.sign_flip_p(deltas[places])} | images


def _adjusted(family: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Comparisons of one family with `p_holm` and `note`.

    The adjusted p grows with every p of the family, so what the smallest p that there can be are adjusted to is the
    least that a comparison can reach.
    """
    m = sum(row["n"] > 0 for row in family)
    least = stats.holm([stats.smallest_p(row["n"]) for row in family])
    adjusted = stats.holm([row["p"] for row in family])
    told = []
    for row, p, reachable in zip(family, adjusted.tolist(), least <= stats.ALPHA, strict=True):
        note = "" if reachable else _why_no_p(row["n"], m)
        told.append(row | {"p_holm": p if reachable else None, "note": note})
    return told


def _why_no_p(n: int, comparisons: int) -> str:
    if n == 0:
        return "no seed has this number on both sides"
    needed = stats.seeds_for_holm(comparisons)
    seeds = "1 seed" if n == 1 else f"{n} seeds"
    need = "1 comparison needs" if comparisons == 1 else f"{comparisons} comparisons need"
    return f"{seeds}: the smallest p is {stats.smallest_p(n):.2g}; {need} {needed} seeds"


def _image_interval(
    pairs: Sequence[tuple[str, str]], replicates: Mapping[str, Sequence[float | None]], value: float
) -> dict[str, float]:
    """Of the mean difference `value` of pairs of cells; NaN unless each of them has the same number of replicates."""
    low, high = math.nan, math.nan
    if pairs and all(cell in replicates for pair in pairs for cell in pair):
        cells = [np.asarray(replicates[cell], dtype=float) for pair in pairs for cell in pair]
        if len({len(fids) for fids in cells}) == 1:
            ours, theirs = np.mean(cells[::2], axis=0), np.mean(cells[1::2], axis=0)
            low, high = bootstrap_interval(ours - theirs, value)
    return {"images_low": low, "images_high": high}


def ranks(rows: Rows, metric: str, better: int) -> pd.DataFrame:
    """How federated strategies stand over blocks of one (n_clients, beta, further axes), best mean rank first.

    Ranked are means over the seeds that all strategies of the grid have finished in the block, so blocks in which one
    has nothing do not count; a strategy that has finished nothing anywhere is not ranked, and one alone neither.

    Args:
        better: -1 if lower is better, 1 if higher is.
    Returns:
        strategy, blocks (that count), mean_rank (1 is best, ties share; NaN without a block), wins (blocks in which no
        other is better).
    """
    tables = [block for _, block in _blocks(rows, metric)]
    names = list(dict.fromkeys(name for block in tables for name in block.columns[block.notna().any()]))
    names = names if len(names) > 1 else []
    common = [block.reindex(columns=names).dropna() for block in tables]
    means = [block.mean() for block in common if names and len(block)]
    table = pd.DataFrame(means, columns=names, dtype=float).rank(axis=1, ascending=better < 0)
    first = table.eq(table.min(axis=1), axis=0)
    ranked = {"strategy": names, "blocks": len(table), "mean_rank": table.mean().array, "wins": first.sum().array}
    return pd.DataFrame(ranked).sort_values("mean_rank", kind="stable", ignore_index=True)


def marks(rows: Rows, means: pd.DataFrame, metric: Metric, digits: int) -> list[str]:
    """How each row of `summarise` stands in its block, the federated rows of one n_clients, beta and further axes.

    "best": no other row shows a better number, with so many `digits`; "tied": the 95 % t interval of the differences
    to a best one, paired by seed, includes 0; "untested": it shares fewer than two seeds with each of the best; ""
    otherwise, for centralized training, where fewer than two rows have the number, and where neither way is better.
    """
    found: dict[tuple[Any, ...], str] = {}
    for axes, block in _blocks(rows, metric.key) if metric.better else []:
        shown = (block.mean() * metric.scale).dropna().map(lambda mean: float(f"{mean:.{digits}f}")) * metric.better
        top = block[shown.index[shown == shown.max()]] if len(shown) > 1 else block.iloc[:, :0]
        for name in shown.index:
            pairs = [stats.paired_interval(block[name], top[best]) for best in top]
            tested = [pair for pair in pairs if pair.n > 1]
            tied = any(pair.low <= 0 <= pair.high for pair in tested)
            mark = "best" if name in top else "tied" if tied else "" if tested or not pairs else "untested"
            found[(name, *axes.values())] = mark
    plain = Rows(means, rows.extra_axes).plain
    keys = plain[rows.axes].astype(object).itertuples(index=False, name=None)
    return [found.get(key, "") for key in keys]


# --------------------------------------------------------------------------------------------------- pairs, blocks


def _groups(rows: Rows, axes: Sequence[str]) -> list[tuple[dict[str, Any], np.ndarray]]:
    """The values of `axes` and the positions of the rows that have them, in the order of `summarise`."""
    frame = rows.plain
    number = frame.groupby([*axes], dropna=False, sort=False).ngroup()
    order = _sorted(frame.loc[~number.duplicated(), [*axes]].assign(group=number), rows.extra_axes)
    places = number.groupby(number).indices
    values = order[[*axes]].astype(object).to_dict("records")
    return [(found, places[group]) for found, group in zip(values, order["group"], strict=True)]


def _blocks(rows: Rows, metric: str) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """(n_clients, beta, further axes) of federated rows, and the metric by seed (rows) and strategy (columns).

    Of what it costs to reach centralized training a strategy has nothing unless all its finished seeds reach it.
    """
    federated = replace(rows, frame=rows.frame[rows.frame["n_clients"].notna()])
    values = federated.frame.reindex(columns=["seed", "strategy", "state", metric]).astype({metric: float})
    made = []
    for found, places in _groups(federated, ["n_clients", "beta", *rows.extra_axes]):
        block = values.iloc[places]
        if metric in GOALS:
            never = block[metric].isna() & (block["state"] == "done")
            block = block.assign(**{metric: block[metric].mask(never.groupby(block["strategy"]).transform("any"))})
        made.append((found, block.pivot(index="seed", columns="strategy", values=metric)[block["strategy"].unique()]))
    return made


def _minus_partners(rows: Rows, metrics: Sequence[str], baseline: str) -> pd.DataFrame:
    """Federated rows' metrics minus those of their partners; NaN where either is not finished."""
    values = rows.frame[[*metrics]].astype(float)
    base = values.reindex(_partners(rows, baseline)).set_axis(rows.frame.index)
    return (values - base).where(rows.frame["n_clients"].notna())


def _partners(rows: Rows, baseline: str) -> pd.Series:
    """Index of the baseline's finished row that each row is to be compared with; NaN where there is none."""
    frame = rows.frame
    labels = frame[[*rows.axes, "seed"]].astype(object).to_dict("records")
    keys = pd.Series([shared_key(told, rows.extra_axes, baseline) for told in labels], index=frame.index)
    chosen = (frame["strategy"] == baseline) & (frame["state"] == "done")
    return keys.map(dict(zip(keys[chosen], frame.index[chosen], strict=True)))
