"""What is written as CSV beside the rows and their means: curves, and what every column is."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.report.metrics import METRICS
from bench.report.results import Cell, Results


def curves(results: Results) -> pd.DataFrame:
    """A row a cell, round and metric: the axes, seed, cell_id, round, metric, value.

    Metrics are those of metrics.jsonl, and ``drawn_fid`` and the like, of the images drawn along training.
    """
    rows = [row for cell in results.cells for row in _course(cell)]
    return pd.DataFrame(rows, columns=["cell_id", *results.axes, "seed", "round", "metric", "value"])


def _course(cell: Cell) -> list[dict[str, Any]]:
    about = {"cell_id": cell.cell_id, **cell.labels}
    found = [(line.round, key, value) for line in cell.rounds for key, value in line.numbers().items()]
    found += [(line.round, f"drawn_{key}", value) for line in cell.drawn for key, value in line.numbers().items()]
    return [about | {"round": number, "metric": key, "value": value} for number, key, value in found]


ABOUT = {
    "cell_id": "name of the cell's folder",
    "state": "done; running, partial (begun), todo; or how it failed: failed, diverged, timeout, killed",
    "strategy": "label of the strategy, with the hyper-parameters that are not its defaults",
    "n_clients": "number of clients; empty for centralized training",
    "beta": "concentration of the Dirichlet distribution of labels; empty where there is none",
    "seed": "of the repetition",
    "round": "number of the round, from 1",
    "metric": "key of a metric",
    "value": "its value",
    "participants": "clients drawn in the last round",
    "rounds": "of training",
    "n_generated": "number of generated images that scores are of",
    "time": "when the last round ended, in seconds since 1970 (UTC)",
    "fid_images_low": "lower end of the 95 % interval of the FID over resampled images",
    "fid_images_high": "upper end of the 95 % interval of the FID over resampled images",
    "n_reference": "number of real images that they are held against",
    "floor_n_images": "number of real images in a draw of the floor",
    "floor_n_pool": "number of real images that draws of the floor are from",
    "floor_n_draws": "number of draws that the floor is a mean of",
    "sample_seconds": "seconds of drawing the samples",
    "evaluate_seconds": "seconds of scoring and pictures",
    "likelihood_seconds": "seconds of the bits/dim",
    "cell_seconds": "seconds of the last attempt, from the data to the last picture",
    "autoencoder_seconds": "seconds of training the autoencoder",
    "autoencoder_bytes_up": "bytes of its tensors sent by clients",
    "autoencoder_bytes_down": "bytes of its tensors sent to clients",
    "weight_hash": "SHA-256 of the trained weights",
    "commit": "of the code that made the cell",
    "dirty": "whether the working tree had changes that were not committed",
    "device": "that the cell ran on",
    "error": "why the cell failed",
    "n": "finished seeds; of a comparison pairs of them; of a claim those that answer",
    "planned": "planned seeds",
    "unfinished": "what became of the other seeds",
    "baseline": "label of the strategy that the difference is to",
    "mean": "mean difference over pairs",
    "sd": "standard deviation of the differences, divisor n - 1",
    "low": "lower end of the 95 % t interval",
    "high": "upper end of the 95 % t interval",
    "axis": "along which rows are compared that are alike in all others and the seed",
    "reference": "value of that axis that the row's own is compared with",
    "reference_mean": "mean over the pairs of what is subtracted",
    "relative": "ratio of the two means, minus 1; empty where a value is not positive",
    "relative_low": "lower end of its 95 % interval (Fieller's)",
    "relative_high": "upper end of that",
    "p_sign": "exact two-sided test of all sign flips of the differences",
    "p_sign_holm": "p_sign after Holm's adjustment; empty where no p of so many pairs could be at most 0.05",
    "p_t": "two-sided paired t test",
    "p_t_holm": "p_t after Holm's adjustment over the comparisons of one metric and axis",
    "note": "why there is no p_sign_holm",
    "correlation": "between the two halves of the pairs, from three pairs on",
    "pairing": "standard error of the mean difference over that of unpaired seeds; below 1 pairing helps",
    "images_low": "lower end of what the images alone leave open of a FID's difference, 95 %",
    "images_high": "upper end of that",
    "seeds": "the fewest that all strategies share in one of the blocks",
    "blocks": "of one n_clients, beta and further axes in which all strategies have the number",
    "mean_rank": "over blocks; 1 is best, ties share",
    "wins": "blocks in which no other strategy is better",
    "claim": "number of the claim", "statement": "what is claimed",
    "measure": "paper: running training loss; fair: validation loss",
    "block": "n_clients, beta and further axes, by their titles; all for the pooled answer",
    "quantity": "what the value is", "verdict": "holds, does not hold, undecided, or why there is no answer",
}  # fmt: skip
ENDS = {
    "_sd": "standard deviation over seeds of {}",
    "_low": "lower end of the 95 % t interval of the mean of {}",
    "_high": "upper end of the 95 % t interval of the mean of {}",
}


def columns(files: Mapping[str, Sequence[str]]) -> str:
    """columns.md: for each file what its columns are, from the list of metrics."""
    parts = []
    for name, keys in files.items():
        over_seeds = [key for key in keys if not key.startswith("floor_") and key.endswith(tuple(ENDS))]
        spreads = [key for key in over_seeds if key.rpartition("_")[0] in keys]
        lines = [f"- `{key}`: {about(key)}\n" for key in keys if key not in spreads]
        lines += [f"- `METRIC{end}`: {text.format('METRIC')}\n" for end, text in ENDS.items() if spreads]
        parts.append(f"## {name}.csv\n\n{''.join(lines)}")
    return "\n".join(parts)


def about(key: str) -> str:
    """What a column is."""
    if key in ABOUT:
        return ABOUT[key]
    if key.startswith("floor_") and key.endswith("_sd"):
        return f"standard deviation over draws of {key.removesuffix('_sd')}"
    if key.startswith("floor_"):
        return f"the same score of other real images: {about(key.removeprefix('floor_'))}"
    metric = METRICS.get(key)
    if metric is None:
        return "a further axis of the grid" if "." in key or key in ("recipe", "partition") else key.replace("_", " ")
    return metric.about + (f"; tables show it times {metric.scale:g}" if metric.scale != 1 else "")
