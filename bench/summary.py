"""A grid's results as tables of numbers: a row a cell, and means over seeds. Pure functions of the results' files."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from bench.grid_file import FEDERATED_ONLY
from bench.store import Store

AXES = ("strategy", "n_clients", "beta")
# What tables show; then what is summarised beside it.
SHOWN = (
    "fid", "fid_minus_centralized", "fid_avg", "reconstruction_fid", "kid_mean", "is_mean", "class_tv",
    "label_accuracy", "bits_per_dim", "heldout_loss", "heldout_loss_minus_centralized", "train_loss", "epsilon",
    "megabytes", "seconds",
)  # fmt: skip
_DIFFERENCES = ("fid", "heldout_loss")
_ALSO_SUMMARISED = (
    "fid_bias",
    "is_std",
    "kid_std",
    "mean_confidence",
    "drift",
    "skew_tv",
    "samples",
    "train_seconds",
    "heldout_loss_raw",
    "heldout_client_mean",
    "heldout_client_sd",
    "heldout_client_max",
    "fid_client_sd",
    "fid_client_max",
    "update_cosine",
    "stragglers",
    "dropped",
    "failed",
    "gradient_steps",
    "sequential_steps",
    "bytes_up",
    "bytes_down",
    "reconstruction_mse",
)
# What a total is made of, in its unit: what every cell has, and what only latent diffusion has.
_TOTALS = {
    "megabytes": (1e6, ["bytes_up", "bytes_down"], ["autoencoder_bytes_up", "autoencoder_bytes_down"]),
    "seconds": (
        1.0,
        ["train_seconds", "sample_seconds", "evaluate_seconds"],
        ["autoencoder_seconds", "likelihood_seconds"],
    ),
}


def cell_rows(store: Store) -> pd.DataFrame:
    """Tidy results: one row a planned cell, that is a strategy, n_clients, beta, further axes and seed.

    Columns: those of `Store.frame`, then `megabytes` (10^6 bytes up and down) and `seconds` (training, sampling and
    evaluation), both with the autoencoder's where there is one, `floor_*` (what real held-out images score), and
    commit, dirty, device and error, each None where there is none.
    """
    frame = store.frame()
    frame["n_clients"] = frame["n_clients"].astype("Int64")
    axes = {"cell_id", "state", "seed", "weight_hash", *AXES, *store.plan()["extra_axes"]}
    for name in frame.columns.difference(list(axes)):
        frame[name] = pd.to_numeric(frame[name])
    for total, (unit, parts, further) in _TOTALS.items():
        known = frame.reindex(columns=[*parts, *further]).astype(float)
        frame[total] = (known[parts].sum(axis=1, skipna=False) + known[further].sum(axis=1)) / unit
    records = pd.DataFrame([_record(store, cell_id) for cell_id in frame["cell_id"]])
    return pd.concat([frame, records], axis=1)


def _record(store: Store, cell_id: str) -> dict[str, Any]:
    """What is known of a cell beside its scores."""
    folder = store.cell(cell_id)
    result = folder.result() or {}
    environment = result.get("environment") or {}
    error = None if result else (folder.error() or {}).get("error")
    floor = {f"floor_{key}": value for key, value in (result.get("floor") or {}).items()}
    return floor | {key: environment.get(key) for key in ("commit", "dirty", "device")} | {"error": error}


def summarise(rows: pd.DataFrame, extra_axes: Sequence[str] = ()) -> pd.DataFrame:
    """Means over seeds: one row a (strategy, n_clients, beta, further axes).

    Centralized training stands first; then come blocks of one (n_clients, beta), in which rows to be compared stand
    together, strategies in the plan's order.

    Columns: the axes, `n` (finished seeds), `planned` (seeds), `unfinished` (what became of the others, e.g.
    "1 failed, 1 missing"), for each metric its mean over the finished seeds and ``_sd``, their standard deviation
    (NaN below two). ``<metric>_minus_centralized`` is the mean of the differences to centralized training of the
    same seed and further axes. A row none of whose cells is finished has n = 0 and no numbers.
    """
    axes = [*AXES, *extra_axes]
    rows = rows.assign(**{axis: rows[axis].map(_hashable) for axis in extra_axes})
    rows = _with_differences(rows, extra_axes)
    keys = [*SHOWN, *_ALSO_SUMMARISED]
    rows = rows.reindex(columns=[*rows.columns, *(key for key in keys if key not in rows)])
    made = []
    for values, group in rows.groupby(axes, dropna=False, sort=False):
        done = group.loc[group["state"] == "done", keys].astype(float)
        row = dict(zip(axes, values, strict=True))
        row |= {"n": len(done), "planned": len(group), "unfinished": _unfinished(group["state"])}
        for key in keys:
            row |= {key: done[key].mean(), f"{key}_sd": done[key].std()}
        made.append(row)
    table = pd.DataFrame(made)
    order = {axis: {value: place for place, value in enumerate(table[axis].unique())} for axis in extra_axes}
    return table.sort_values(
        ["n_clients", "beta", *extra_axes],
        key=lambda column: column.map(order[column.name]) if column.name in order else column,
        kind="stable",
        na_position="first",
        ignore_index=True,
    )


def _hashable(value: Any) -> Any:
    """Lists (widths, say) as texts, to group by."""
    return json.dumps(value) if isinstance(value, list) else value


def _unfinished(states: Iterable[str]) -> str:
    told = {"partial": "missing", "todo": "missing", "running": "missing"}
    counts = Counter(told.get(state, state) for state in states if state != "done")
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def _with_differences(rows: pd.DataFrame, extra_axes: Sequence[str]) -> pd.DataFrame:
    """Adds each federated row's differences to its centralized row; NaN where either is not finished."""
    by = ["seed", *(axis for axis in extra_axes if axis not in FEDERATED_ONLY)]
    rows = rows.copy()
    keys = pd.Series(list(rows[by].itertuples(index=False, name=None)), index=rows.index)
    central = rows["n_clients"].isna() & (rows["state"] == "done")
    for metric in _DIFFERENCES:
        if metric in rows:
            base = keys.map(dict(zip(keys[central], rows.loc[central, metric], strict=True)))
            rows[f"{metric}_minus_centralized"] = (rows[metric] - base).where(rows["n_clients"].notna())
    return rows
