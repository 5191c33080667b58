"""A grid's results as numbers: a row a cell, means over seeds, differences, ranks. Pure functions of the files."""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.config.grid_file import FEDERATED_ONLY
from bench.config.names import AXES, CENTRALIZED, axis_key, hashable
from bench.fidelity.bootstrap import bootstrap_interval
from bench.report import curves, stats
from bench.report.lines import costs
from bench.report.metrics import FROM_CURVES, GOALS, PAIRED, SUMMARISED, TOTALS
from bench.report.results import cell_frame
from bench.store.cell_folder import CellFolder
from bench.store.files import Damaged
from bench.store.grid_folder import Store


def cell_rows(store: Store) -> pd.DataFrame:
    """Tidy results: one row a planned cell, that is a strategy, n_clients, beta, further axes and seed.

    Columns: those of `cell_frame`, then `megabytes` (10^6 bytes up and down) and `seconds` (training, sampling and
    evaluation), both with the autoencoder's where there is one, those of `_curve_numbers`, `floor_*` (what real
    held-out images score), commit, dirty, device and error, each None where there is none, and the differences
    ``<metric>_minus_centralized``.
    """
    frame, extra_axes = cell_frame(store), store.plan()["extra_axes"]
    frame["n_clients"] = frame["n_clients"].astype("Int64")
    axes = {"cell_id", "state", "seed", "weight_hash", *AXES, *extra_axes}
    for name in frame.columns.difference(list(axes)):
        frame[name] = pd.to_numeric(frame[name])
    for total in TOTALS:
        every, some = list(total.parts), list(total.optional_parts)
        known = frame.reindex(columns=[*every, *some]).astype(float)
        frame[total.key] = (known[every].sum(axis=1, skipna=False) + known[some].sum(axis=1)) / total.unit
    records = pd.DataFrame([_record(store, cell_id) for cell_id in frame["cell_id"]])
    made = pd.concat([frame, _curve_columns(store, frame, extra_axes), records], axis=1)
    return _with_differences(made, extra_axes)


def _record(store: Store, cell_id: str) -> dict[str, Any]:
    """What is known of a cell beside its scores."""
    folder = store.cell(cell_id)
    result = folder.result() or {}
    environment = result.get("environment") or {}
    error = None if result else (folder.error() or {}).get("error")
    floor = {f"floor_{key}": value for key, value in (result.get("floor") or {}).items()}
    return floor | {key: environment.get(key) for key in ("commit", "dirty", "device")} | {"error": error}


def _curve_columns(store: Store, frame: pd.DataFrame, extra_axes: Sequence[str]) -> pd.DataFrame:
    """`_curve_numbers` of every finished cell, NaN for others."""
    losses = frame.reindex(columns=["heldout_loss"])["heldout_loss"].astype(float)
    partners = _partners(frame, extra_axes, CENTRALIZED)
    targets = losses.reindex(partners).to_numpy()
    numbers = [
        _curve_numbers(store.cell(cell_id), target) if state == "done" else {}
        for cell_id, state, target in zip(frame["cell_id"], frame["state"], targets, strict=True)
    ]
    return pd.DataFrame(numbers, index=frame.index, columns=list(FROM_CURVES), dtype=float)


def _curve_numbers(folder: CellFolder, target: float) -> dict[str, float]:
    """What a finished cell's curves say; a log that cannot be read says nothing, with a warning.

    Args:
        target: final held-out loss of the centralized cell of the same seed and own further axes; NaN without one.
    Returns:
        heldout_area: of the held-out loss over images seen, see `curves.area`;  heldout_roughness: of its values by
        round;  train_roughness: of the running training loss;  rounds_to_centralized, samples_to_centralized and
        megabytes_to_centralized: at the end of the first round whose held-out loss is no higher than the target, NaN if
        none is;  reached_centralized: 1 or 0, NaN without a target or a curve.
    """
    try:
        lines, steps = folder.rounds(), folder.lines("steps.jsonl")
        loss = curves.column(lines, "heldout_loss")
        spent = costs(lines, (folder.result() or {}).get("metrics", {}))
        smooth = curves.running_mean(curves.step_losses(steps))
    except (Damaged, KeyError, TypeError, ValueError) as error:
        warnings.warn(f"the logs of {folder.path} are broken ({error}) and are not used", stacklevel=2)
        return {}
    axes = (spent["round"], spent["samples"], spent["megabytes"])
    reached = curves.first_reach(spent["round"], loss, target)
    return {
        "heldout_area": curves.area(spent["samples"], loss),
        "heldout_roughness": curves.roughness(loss),
        "train_roughness": curves.roughness(smooth),
        "reached_centralized": float(reached > 0) if math.isfinite(target) and len(lines) else math.nan,
    } | {key: curves.first_reach(x, loss, target) for key, x in zip(GOALS, axes, strict=True)}


def fid_replicates(store: Store) -> dict[str, list[float]]:
    """The bootstrap's FIDs of every finished cell that has them, by cell id."""
    results = {cell.cell_id: store.cell(cell.cell_id).result() or {} for cell in store.planned()}
    found = {cell: (result.get("bootstrap") or {}).get("fid") for cell, result in results.items()}
    return {cell: fids for cell, fids in found.items() if fids}


def baselines(store: Store) -> list[str]:
    """What differences may be to: centralized training, whether or not it was run, and the plan's strategies."""
    return list(dict.fromkeys([CENTRALIZED, *(cell.labels["strategy"] for cell in store.planned())]))


# ------------------------------------------------------------------------------------------------ means over seeds


def summarise(rows: pd.DataFrame, extra_axes: Sequence[str] = ()) -> pd.DataFrame:
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
    axes, keys = [*AXES, *extra_axes], [*SUMMARISED]
    rows = _with_differences(_plain_axes(rows, extra_axes), extra_axes)
    groups = rows.groupby(axes, dropna=False, sort=False).ngroup().to_numpy()
    done = rows["state"] == "done"
    values = rows.reindex(columns=keys).astype(float).where(done)
    told = {
        "n": done.groupby(groups).sum(),
        "planned": rows["state"].groupby(groups).size(),
        "unfinished": rows["state"].groupby(groups).agg(_unfinished),
    }
    heads = rows.loc[~pd.Series(groups, rows.index).duplicated(), axes].reset_index(drop=True)
    return _sorted(pd.concat([heads, pd.DataFrame(told), _spreads(values, groups, told["n"])], axis=1), extra_axes)


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


def _plain_axes(rows: pd.DataFrame, extra_axes: Sequence[str]) -> pd.DataFrame:
    """The rows with hashable axis values."""
    return rows.assign(**{axis: rows[axis].map(hashable) for axis in extra_axes})


def _unfinished(states: Iterable[str]) -> str:
    told = {"partial": "missing", "todo": "missing", "running": "missing"}
    counts = Counter(told.get(state, state) for state in states if state != "done")
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def _with_differences(rows: pd.DataFrame, extra_axes: Sequence[str]) -> pd.DataFrame:
    """Adds each federated row's differences to its centralized row; NaN where either is not finished."""
    metrics = [metric for metric in PAIRED if metric in rows]
    found = _minus_partners(rows, extra_axes, metrics, CENTRALIZED)
    return rows.assign(**{PAIRED[metric]: found[metric] for metric in metrics})


# ----------------------------------------------------------------------------------------------------- comparisons


def differences(
    rows: pd.DataFrame,
    extra_axes: Sequence[str],
    metrics: Sequence[str],
    baseline: str = CENTRALIZED,
    replicates: Mapping[str, Sequence[float]] | None = None,
) -> pd.DataFrame:
    """Differences to a baseline, paired by seed: a row a metric and (strategy, n_clients, beta, further axes).

    A row's partner is the baseline's of the same seed, n_clients, beta and further axes; centralized training's has the
    same seed and those further axes that mean something to it. Metrics that no cell has are left out, and what it costs
    to reach centralized training, which only those have that reach it. The family of
    Holm's adjustment are all comparisons of one metric that have a pair.

    Args:
        rows: of `cell_rows`.
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
    rows = _plain_axes(rows, extra_axes).reset_index(drop=True)
    _check_baseline(rows, baseline)
    metrics = [m for m in metrics if m in rows and rows[m].notna().any() and m not in GOALS]
    deltas = _minus_partners(rows, extra_axes, metrics, baseline).to_numpy()
    pairs = list(zip(rows["cell_id"], rows["cell_id"].reindex(_partners(rows, extra_axes, baseline)), strict=True))
    groups = [
        (axes, places)
        for axes, places in _groups(rows, [*AXES, *extra_axes], extra_axes)
        if axes["strategy"] not in (CENTRALIZED, baseline)
    ]
    families: list[dict[str, Any]] = []
    for metric, column in zip(metrics, deltas.T, strict=True):
        told, given = {"metric": metric, "baseline": baseline}, replicates if metric == "fid" else None
        families += _adjusted([axes | told | _comparison(column, pairs, places, given) for axes, places in groups])
    columns = [*AXES, *extra_axes, "metric", "baseline", "n", "mean", "sd", "low", "high", "p", "p_holm", "note"]
    table = pd.DataFrame(families, columns=[*columns, "images_low", "images_high"])
    adjusted = table["p_holm"].astype(object).where(table["p_holm"].notna(), None)
    return table.assign(n_clients=table["n_clients"].astype("Int64"), p_holm=adjusted)


def _check_baseline(rows: pd.DataFrame, baseline: str) -> None:
    known = list(dict.fromkeys([CENTRALIZED, *rows["strategy"]]))
    if baseline not in known:
        raise ValueError(f"baseline: got {baseline!r}; there are {', '.join(known)}")


def _comparison(
    deltas: np.ndarray,
    pairs: Sequence[tuple[str, str]],
    places: np.ndarray,
    replicates: Mapping[str, Sequence[float]] | None,
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
    pairs: Sequence[tuple[str, str]], replicates: Mapping[str, Sequence[float]], value: float
) -> dict[str, float]:
    """Of the mean difference `value` of pairs of cells; NaN unless each of them has the same number of replicates."""
    low, high = math.nan, math.nan
    if pairs and all(cell in replicates for pair in pairs for cell in pair):
        cells = [np.asarray(replicates[cell], dtype=float) for pair in pairs for cell in pair]
        if len({len(fids) for fids in cells}) == 1:
            ours, theirs = np.mean(cells[::2], axis=0), np.mean(cells[1::2], axis=0)
            low, high = bootstrap_interval(ours - theirs, value)
    return {"images_low": low, "images_high": high}


def ranks(rows: pd.DataFrame, extra_axes: Sequence[str], metric: str, better: int) -> pd.DataFrame:
    """How federated strategies stand over blocks of one (n_clients, beta, further axes), best mean rank first.

    Ranked are means over the seeds that all strategies of the grid have finished in the block, so blocks in which one
    has nothing do not count; a strategy that has finished nothing anywhere is not ranked, and one alone neither.

    Args:
        better: -1 if lower is better, 1 if higher is.
    Returns:
        strategy, blocks (that count), mean_rank (1 is best, ties share; NaN without a block), wins (blocks in which no
        other is better).
    """
    tables = [block for _, block in _blocks(rows, extra_axes, metric)]
    names = list(dict.fromkeys(name for block in tables for name in block.columns[block.notna().any()]))
    names = names if len(names) > 1 else []
    common = [block.reindex(columns=names).dropna() for block in tables]
    means = [block.mean() for block in common if names and len(block)]
    table = pd.DataFrame(means, columns=names, dtype=float).rank(axis=1, ascending=better < 0)
    first = table.eq(table.min(axis=1), axis=0)
    ranked = {"strategy": names, "blocks": len(table), "mean_rank": table.mean().array, "wins": first.sum().array}
    return pd.DataFrame(ranked).sort_values("mean_rank", kind="stable", ignore_index=True)


def best_and_ties(rows: pd.DataFrame, extra_axes: Sequence[str], metric: str, better: int) -> pd.DataFrame:
    """Which federated row of each (n_clients, beta, further axes) is best, and which the seeds cannot tell from it.

    Args:
        better: -1 if lower is better, 1 if higher is.
    Returns:
        The axes, `best` (the best mean over finished seeds; none where fewer than two rows have one) and `tied`: the
        95 % t interval of the differences to the best, paired by seed, includes 0. Below two common seeds nothing ties.
    """
    found = []
    for axes, block in _blocks(rows, extra_axes, metric):
        means = block.mean() * better
        compared = means.notna().sum() > 1
        top = means.idxmax() if compared else None
        for name in block.columns:
            best = compared and bool(means[name] == means[top])
            apart = stats.paired_interval(block[name], block[top]) if compared and not best else None
            tied = apart is not None and apart.low <= 0 <= apart.high
            found.append({"strategy": name, **axes, "best": best, "tied": tied})
    table = pd.DataFrame(found, columns=[*AXES, *extra_axes, "best", "tied"])
    return table.astype({"n_clients": "Int64", "best": bool, "tied": bool})


# --------------------------------------------------------------------------------------------------- pairs, blocks


def _groups(
    rows: pd.DataFrame, axes: Sequence[str], extra_axes: Sequence[str]
) -> list[tuple[dict[str, Any], np.ndarray]]:
    """The values of `axes` and the positions of the rows that have them, in the order of `summarise`."""
    number = rows.groupby([*axes], dropna=False, sort=False).ngroup()
    order = _sorted(rows.loc[~number.duplicated(), [*axes]].assign(group=number), extra_axes)
    places = number.groupby(number).indices
    values = order[[*axes]].astype(object).to_dict("records")
    return [(told, places[group]) for told, group in zip(values, order["group"], strict=True)]


def _blocks(rows: pd.DataFrame, extra_axes: Sequence[str], metric: str) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """(n_clients, beta, further axes) of federated rows, and the metric by seed (rows) and strategy (columns).

    Of what it costs to reach centralized training a strategy has nothing unless all its finished seeds reach it.
    """
    rows = _plain_axes(rows, extra_axes)
    rows = rows[rows["n_clients"].notna()]
    axes = ["n_clients", "beta", *extra_axes]
    values = rows.reindex(columns=["seed", "strategy", metric]).astype({metric: float})
    made = []
    for told, places in _groups(rows, axes, extra_axes):
        block = values.iloc[places]
        if metric in GOALS:
            never = block[metric].isna() & (rows["state"].iloc[places] == "done")
            block = block.assign(**{metric: block[metric].mask(never.groupby(block["strategy"]).transform("any"))})
        made.append((told, block.pivot(index="seed", columns="strategy", values=metric)[block["strategy"].unique()]))
    return made


def _minus_partners(
    rows: pd.DataFrame, extra_axes: Sequence[str], metrics: Sequence[str], baseline: str
) -> pd.DataFrame:
    """Federated rows' metrics minus those of their partners; NaN where either is not finished."""
    values = rows[[*metrics]].astype(float)
    base = values.reindex(_partners(rows, extra_axes, baseline)).set_axis(rows.index)
    return (values - base).where(rows["n_clients"].notna())


def _partners(rows: pd.DataFrame, extra_axes: Sequence[str], baseline: str) -> pd.Series:
    """Index of the baseline's finished row that each row is to be compared with; NaN where there is none."""
    own = [axis for axis in extra_axes if axis not in FEDERATED_ONLY]
    by = ["seed", *own] if baseline == CENTRALIZED else ["seed", "n_clients", "beta", *extra_axes]
    columns = [[axis_key(axis, value, baseline) for value in rows[axis]] for axis in by]
    keys = pd.Series(list(zip(*columns, strict=True)), index=rows.index)
    chosen = (rows["strategy"] == baseline) & (rows["state"] == "done")
    return keys.map(dict(zip(keys[chosen], rows.index[chosen], strict=True)))
