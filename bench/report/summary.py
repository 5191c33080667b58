"""A grid's results as numbers: a row a cell, means over seeds, ranks, which rows are the best."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.config.names import AXES, CENTRALIZED, LOCAL_STEPS, hashable, shared_key
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
    numeric = list(frame.columns.difference(axes, sort=False))
    frame[numeric] = frame[numeric].apply(pd.to_numeric)
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
    """Adds each row's differences to its centralized row; NaN where either is not finished."""
    metrics = [metric for metric in PAIRED if metric in rows.frame]
    found = _minus_partners(rows, metrics, CENTRALIZED)
    return replace(rows, frame=rows.frame.assign(**{PAIRED[metric]: found[metric] for metric in metrics}))


# ---------------------------------------------------------------------------------------------------- ranks, the best


def ranks(rows: Rows, metric: str, better: int) -> pd.DataFrame:
    """How federated strategies stand over blocks of one (n_clients, beta, further axes), best mean rank first.

    Ranked are means over the seeds that all strategies of the grid have finished in the block, so blocks in which one
    has nothing do not count; a strategy that has finished nothing anywhere is not ranked, and one alone neither.

    Args:
        better: -1 if lower is better, 1 if higher is.
    Returns:
        strategy, blocks (that count), seeds (the fewest that one of them has), mean_rank (1 is best, ties share; NaN
        without a block), wins (blocks in which no other is better).
    """
    tables = [block for _, block in _blocks(rows, metric)]
    names = list(dict.fromkeys(name for block in tables for name in block.columns[block.notna().any()]))
    names = names if len(names) > 1 else []
    common = [block.reindex(columns=names).dropna() for block in tables]
    counted = [block for block in common if names and len(block)]
    means, seeds = [block.mean() for block in counted], min(map(len, counted), default=0)
    table = pd.DataFrame(means, columns=names, dtype=float).rank(axis=1, ascending=better < 0)
    first = table.eq(table.min(axis=1), axis=0)
    ranked = {"strategy": names, "blocks": len(table), "seeds": seeds}
    ranked |= {"mean_rank": table.mean().array, "wins": first.sum().array}
    return pd.DataFrame(ranked).sort_values("mean_rank", kind="stable", ignore_index=True)


def marks(rows: Rows, means: pd.DataFrame, metric: Metric, digits: int) -> list[str]:
    """How each row of `summarise` stands in its block, the federated rows of one n_clients, beta and further axes.

    Rows are compared by the seeds that they have in common. "best": no other row has a better mean over these, with so
    many `digits`; "tied": it is not worse than the best by `stats.worse_than_best`; "untested": it is of fewer than
    `stats.LEAST_SEEDS` finished seeds, or the rows that are not have fewer in common, and then none of them is marked;
    "" otherwise, for centralized training, where fewer than two rows have the number, and where neither way is better.
    """
    found: dict[tuple[Any, ...], str] = {}
    for axes, block in _blocks(rows, metric.key) if metric.better else []:
        for name, mark in _block_marks(block.dropna(axis=1, how="all") * metric.better, metric.scale, digits).items():
            found[(name, *axes.values())] = mark
    plain = Rows(means, rows.extra_axes).plain
    keys = plain[rows.axes].astype(object).itertuples(index=False, name=None)
    return [found.get(key, "") for key in keys]


def _block_marks(block: pd.DataFrame, scale: float, digits: int) -> dict[str, str]:
    """Marks of a block's strategies (columns), of whose values by seed (rows) higher ones are better."""
    if block.shape[1] < 2:
        return {}
    told = dict.fromkeys(block.columns, "untested")
    compared = block.loc[:, block.notna().sum() >= stats.LEAST_SEEDS]
    common = compared.dropna()
    if compared.shape[1] < 2 or len(common) < stats.LEAST_SEEDS:
        return told
    shown = (common.mean() * scale).map(lambda mean: float(f"{mean:.{digits}f}"))
    worse = stats.worse_than_best(-common.to_numpy())
    return told | {
        name: "best" if number == shown.max() else "" if lost else "tied"
        for (name, number), lost in zip(shown.items(), worse, strict=True)
    }


# --------------------------------------------------------------------------------------------------- pairs, blocks


def groups(rows: Rows, axes: Sequence[str]) -> list[tuple[dict[str, Any], np.ndarray]]:
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
    for found, places in groups(federated, ["n_clients", "beta", *rows.extra_axes]):
        block = values.iloc[places]
        if metric in GOALS:
            never = block[metric].isna() & (block["state"] == "done")
            block = block.assign(**{metric: block[metric].mask(never.groupby(block["strategy"]).transform("any"))})
        made.append((found, block.pivot(index="seed", columns="strategy", values=metric)[block["strategy"].unique()]))
    return made


def _minus_partners(rows: Rows, metrics: Sequence[str], baseline: str) -> pd.DataFrame:
    """All rows' metrics but the baseline's minus those of their partners; NaN where either is not finished."""
    values = rows.frame[[*metrics]].astype(float)
    base = values.reindex(partners(rows, baseline)).set_axis(rows.frame.index)
    return (values - base).where(rows.frame["strategy"] != baseline)


def partners(rows: Rows, baseline: str) -> pd.Series:
    """Index of the baseline's finished row that each row is to be compared with; NaN where there is none."""
    frame = rows.frame
    theirs = frame["strategy"] == baseline
    central = bool(frame.loc[theirs, "n_clients"].isna().all())
    matched = LOCAL_STEPS in frame and bool(frame.loc[theirs, LOCAL_STEPS].notna().any())
    labels = frame[[*rows.axes, "seed"]].astype(object).to_dict("records")
    keys = [shared_key(told, rows.extra_axes, central, matched) for told in labels]
    return finished(pd.Series(keys, index=frame.index), frame, theirs)


def finished(keys: pd.Series, frame: pd.DataFrame, chosen: pd.Series) -> pd.Series:
    """Index of the chosen finished row that has each row's key, which no two of those share; NaN where none has."""
    chosen = chosen & (frame["state"] == "done")
    return keys.map(dict(zip(keys[chosen], frame.index[chosen], strict=True)))
