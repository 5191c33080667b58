"""Comparisons of rows with others, paired by seed: with a baseline, and along every axis.

Both are tables of one kind, a row a metric and (strategy, n_clients, beta, further axes): what is compared, the
numbers of `bench.report.stats.Paired`, both p after Holm's adjustment, and why there is none. A family of Holm's are
the comparisons of one metric and axis that have a pair.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bench.config.names import CENTRALIZED, hashable
from bench.fidelity.bootstrap import bootstrap_interval
from bench.report import stats
from bench.report.metrics import GOALS
from bench.report.results import Results
from bench.report.summary import Rows, finished, groups, partners

FEDAVG = "fedavg"
NUMBERS = (*stats.Paired._fields, "p_sign_holm", "p_t_holm", "note", "images_low", "images_high")

Replicates = Mapping[str, Sequence[float | None]]  # of FID, by cell id
Group = tuple[dict[str, Any], np.ndarray]  # values of the axes, and places of the rows that have them


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


def differences(
    rows: Rows, metrics: Sequence[str], baseline: str = CENTRALIZED, replicates: Replicates | None = None
) -> pd.DataFrame:
    """Differences of all other rows to a baseline, but for centralized training's.

    A row's partner is the baseline's of the same seed, n_clients, beta and further axes; one that is trained centrally
    has the same seed and those further axes that mean something to it. Metrics that no cell has are left out, and what
    it costs to reach centralized training, which only those have that reach it.

    Args:
        baseline: "centralized" or a strategy's label.
        replicates: of `fid_replicates`.
    Returns:
        The axes, metric, baseline and `NUMBERS`: p_sign_holm is None where no p that n pairs can give would be at most
        0.05 after the adjustment, which the note says; images_low and images_high are, for FID, what the images alone
        leave open, from the bootstrap over images paired between the two cells, the mean over seeds of each replicate,
        NaN without replicates.
    Raises:
        ValueError: for a baseline that is none of the rows' strategies, nor centralized training.
    """
    rows = replace(rows, frame=rows.frame.reset_index(drop=True))
    known = list(dict.fromkeys([CENTRALIZED, *rows.frame["strategy"]]))
    if baseline not in known:
        raise ValueError(f"baseline: got {baseline!r}; there are {', '.join(known)}")
    federated = [group for group in groups(rows, rows.axes) if group[0]["strategy"] not in (CENTRALIZED, baseline)]
    made = _compared(rows, metrics, partners(rows, baseline), federated, {"baseline": baseline}, replicates or {})
    return _table(rows, made, "baseline")


def contrasts(
    rows: Rows,
    metrics: Sequence[str],
    references: Mapping[str, Any] | None = None,
    replicates: Replicates | None = None,
) -> pd.DataFrame:
    """Along every axis, its values against one of them: a row's partner differs from it in that alone.

    That one is, of the strategies, FedAvg, or the first federated one where it is not there; the smallest n_clients;
    the largest beta, the nearest to equal shares of labels; of a further axis the first value of the plan. A row that
    differs from no planned one in that axis alone is not compared along it.

    Args:
        references: other values to compare with, by axis.
    Returns:
        As `differences`, with axis, the one that is contrasted, and reference, its value, in place of the baseline.
    Raises:
        ValueError: for a reference that no row has.
    """
    rows = replace(rows, frame=rows.frame.reset_index(drop=True))
    made: list[dict[str, Any]] = []
    everyone = groups(rows, rows.axes)
    for axis in rows.axes:
        values = _values(rows, axis)
        known = list(dict.fromkeys(values.dropna()))
        reference = _reference(axis, known, references or {})
        keys, held = _keys(rows, axis), values == reference
        planned = set(keys[held])
        beside = (keys.map(lambda key, planned=planned: key in planned) & values.notna() & ~held).to_numpy(dtype=bool)
        chosen = [(axes, places) for axes, places in everyone if beside[places].any()]
        told = {"axis": axis, "reference": reference}
        made += _compared(rows, metrics, finished(keys, rows.frame, held), chosen, told, replicates or {})
    return _table(rows, made, "axis", "reference")


def _values(rows: Rows, axis: str) -> pd.Series:
    """An axis's value of each row; None where it has none, and of centralized strategies, which have no clients."""
    values = rows.plain[axis].astype(object)
    there = values.notna() & (rows.frame["n_clients"].notna() if axis == "strategy" else True)
    return values.where(there, None)


def _keys(rows: Rows, axis: str) -> pd.Series:
    """What a row has in common with those that differ from it in one axis alone: the other axes and the seed."""
    others = rows.plain[[other for other in (*rows.axes, "seed") if other != axis]].astype(object)
    keys = others.where(others.notna(), None).itertuples(index=False, name=None)
    return pd.Series(list(keys), index=rows.frame.index)


def _reference(axis: str, known: Sequence[Any], asked: Mapping[str, Any]) -> Any:
    """What an axis's values are compared with; None without any."""
    if axis in asked:
        if hashable(asked[axis]) not in known:
            raise ValueError(f"reference of {axis}: got {asked[axis]!r}; there are {', '.join(map(str, known))}")
        return hashable(asked[axis])
    if not known:
        return None
    if axis in ("n_clients", "beta"):
        return min(known) if axis == "n_clients" else max(known)
    return FEDAVG if axis == "strategy" and FEDAVG in known else known[0]


def _compared(
    rows: Rows,
    metrics: Sequence[str],
    partner: pd.Series,
    chosen: Sequence[Group],
    told: Mapping[str, Any],
    replicates: Replicates,
) -> list[dict[str, Any]]:
    """Comparisons of the chosen groups' rows with their partners, a family a metric."""
    frame = rows.frame
    pairs = np.array(list(zip(frame["cell_id"], frame["cell_id"].reindex(partner), strict=True)), dtype=object)
    made: list[dict[str, Any]] = []
    for metric in [m for m in metrics if m in frame and frame[m].notna().any() and m not in GOALS]:
        ours = frame[metric].astype(float)
        theirs = ours.reindex(partner).to_numpy()
        family = []
        for axes, places in chosen:
            found = stats.paired(ours.to_numpy()[places], theirs[places])
            there = places[np.isfinite(ours.to_numpy()[places] - theirs[places])]
            images = _image_interval(pairs[there], replicates if metric == "fid" else {}, found.mean)
            family.append(axes | {"metric": metric, **told} | found._asdict() | images)
        made += _adjusted(family)
    return made


def _table(rows: Rows, made: Sequence[Mapping[str, Any]], *told: str) -> pd.DataFrame:
    table = pd.DataFrame(made, columns=[*rows.axes, "metric", *told, *NUMBERS])
    adjusted = table["p_sign_holm"].astype(object).where(table["p_sign_holm"].notna(), None)
    return table.assign(n_clients=table["n_clients"].astype("Int64"), p_sign_holm=adjusted)


def _adjusted(family: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Comparisons of one family with both p adjusted, and a note where that of the sign flips is left out.

    The adjusted p grows with every p of the family, so what the smallest p that there can be are adjusted to is the
    least that a comparison can reach.
    """
    m = sum(row["n"] > 0 for row in family)
    least = stats.holm([stats.smallest_p(row["n"]) for row in family])
    signs, ts = (stats.holm([row[p] for row in family]).tolist() for p in ("p_sign", "p_t"))
    made = []
    for row, sign, t, reachable in zip(family, signs, ts, least <= stats.ALPHA, strict=True):
        note = "" if reachable else _why_no_p(row["n"], m)
        made.append(row | {"p_sign_holm": sign if reachable else None, "p_t_holm": t, "note": note})
    return made


def _why_no_p(n: int, comparisons: int) -> str:
    if n == 0:
        return "no seed has this number on both sides"
    needed = stats.seeds_for_holm(comparisons)
    seeds = "1 seed" if n == 1 else f"{n} seeds"
    need = "1 comparison needs" if comparisons == 1 else f"{comparisons} comparisons need"
    return f"{seeds}: the smallest p is {stats.smallest_p(n):.2g}; {need} {needed} seeds"


def _image_interval(pairs: np.ndarray, replicates: Replicates, value: float) -> dict[str, float]:
    """Of the mean difference `value` of pairs of cells; NaN unless each of them has the same number of replicates."""
    low, high = math.nan, math.nan
    if len(pairs) and all(cell in replicates for pair in pairs for cell in pair):
        cells = [np.asarray(replicates[cell], dtype=float) for pair in pairs for cell in pair]
        if len({len(fids) for fids in cells}) == 1:
            ours, theirs = np.mean(cells[::2], axis=0), np.mean(cells[1::2], axis=0)
            low, high = bootstrap_interval(ours - theirs, value)
    return {"images_low": low, "images_high": high}
