"""A finished grid's files without any training: numbers are made up by formula, so goldens can hold them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from bench.config.cell import CellConfig
from bench.config.grid_file import Grid, parse_grid
from bench.config.ids import train_id
from bench.config.names import labels
from bench.store.cell_folder import LOGS, CellFolder
from bench.store.files import read_json, write_bytes, write_json
from bench.store.grid_folder import PlannedCell, Store

CLASSES = 4
STARTED = 1_700_000_000.0  # seconds since the epoch at which the first cell starts
ROUNDS = 3

# Every field that a caption names is written out: a change of a default must not change goldens.
SETTINGS: dict[str, Any] = {
    "name": "fake",
    "description": "A grid that nobody trained.",
    "partition": "dirichlet",
    "data": {"name": "mnist5k", "size": 16, "fit": "pad-pool", "validation": 100, "test": 100, "limit": 200},
    "training": {"rounds": ROUNDS, "local_epochs": 1, "batch_size": 32, "participation": 1.0},
    "client": {"optimizer": "adam", "lr": 2e-3, "lr_schedule": "cosine", "optimizer_state": "reset"},
    "model": {"widths": [8, 16], "attention": [False, True], "blocks": 1, "groups": 8},
    "diffusion": {
        "T": 100,
        "schedule": "cosine",
        "prediction": "eps",
        "variance": "small",
        "loss": "simple",
        "timesteps": "uniform",
    },
    "ema": {"mode": "off", "decay": 0.999},
    "latent": {"mode": "off"},
    "sampler": {"name": "ancestral", "steps": 5, "spacing": "fractional", "eta": 0.0, "guidance_scale": 1.0},
    "evaluation": {"n_samples": 100, "extractor": "mnist-cnn", "nll": 0},
}
AXES: dict[str, list[Any]] = {
    "strategy": ["centralized", "fedavg", "fedprox(mu=0.1)"],
    "n_clients": [3, 5],
    "beta": [0.1],
    "seed": [0, 1],
}
# A grid of recipes, as `finished_store(path, RECIPE_AXES, recipes=RECIPES)`: the first three share their training.
RECIPES: dict[str, dict[str, Any]] = {
    "linear-simple-ancestral": {"diffusion": {"schedule": "linear"}},
    "linear-simple-ddim": {"diffusion": {"schedule": "linear"}, "sampler": {"name": "ddim", "steps": 10}},
    "linear-simple-dpm": {"diffusion": {"schedule": "linear"}, "sampler": {"name": "dpm-solver++", "steps": 15}},
    "cosine_hybrid": {
        "diffusion": {"loss": "hybrid", "variance": "learned"},
        "evaluation": {"nll": 32, "nll_rounded": True},
    },
    "cosine-guided": {"model": {"class_conditional": True}, "sampler": {"guidance_scale": 2.0}},
    "cosine-latent": {"diffusion": {"prediction": "v"}, "latent": {"mode": "federated"}, "ema": {"mode": "server"}},
}
RECIPE_AXES: dict[str, list[Any]] = {"strategy": ["centralized", "fedavg"], "n_clients": [5], "seed": [0]}


def _drop(settings: dict[str, Any], key: str) -> None:
    """Take a dotted key out, without changing the sections that are shared."""
    section, _, rest = key.partition(".")
    if rest and section in settings:
        settings[section] = {name: value for name, value in settings[section].items() if name != rest}
    elif not rest:
        settings.pop(key, None)


def planned_store(results: Path, axes: Mapping[str, Sequence[Any]] | None = None, **settings: Any) -> Store:
    """A store at results/<name> (fake) with its grid.json and no cell begun; keywords override settings."""
    raw = {**SETTINGS, **settings, "axes": {**AXES, **(axes or {})}}
    for key in axes or {}:
        _drop(raw, key)
    grid = parse_grid(raw, "fake.toml", "fake")
    cells = [_planned(grid, number, cell) for number, cell in enumerate(grid.cells)]
    store = Store(results / grid.name)
    store.write_plan(
        {
            "name": grid.name,
            "description": grid.description,
            "axes": grid.axes,
            "extra_axes": grid.extra_axes,
            "cells": cells,
        }
    )
    return store


def finished_store(
    results: Path, axes: Mapping[str, Sequence[Any]] | None = None, missing: Sequence[int] = (), **settings: Any
) -> Store:
    """As `planned_store`, with all cells done but for the numbers in `missing`."""
    store = planned_store(results, axes, **settings)
    for number, cell in enumerate(store.planned()):
        if number not in missing:
            run_cell(store, cell)
    return store


def run_cell(store: Store, cell: PlannedCell, attempt: str = "", **result: Any) -> CellFolder:
    """Begin and finish a cell; keywords replace parts of its result."""
    folder = begin(store, cell, attempt)
    add_rounds(folder, cell, 1, ROUNDS)
    return finish(folder, cell, **result)


def begin(store: Store, cell: PlannedCell, attempt: str = "", started: float | None = None) -> CellFolder:
    """Begin a cell as a worker does: its manifest, and its partition where it has one."""
    folder = store.cell(cell.cell_id)
    for name in ("metrics.jsonl", "steps.jsonl"):
        (folder.path / name).unlink(missing_ok=True)
    manifest = {
        "cell_id": cell.cell_id,
        "train_id": cell.train_id,
        "attempt": attempt or f"attempt-{cell.cell_id}",
        "started": _started(cell) if started is None else started,
        "config": cell.config,
        "labels": cell.labels,
        "data": DATA,
        "extractor": EXTRACTOR,
        "environment": ENVIRONMENT,
    }
    folder.begin(manifest)
    if cell.labels["n_clients"] is not None:
        write_json(folder.path / "partition.json", _partition(cell))
        write_bytes(folder.path / "partition.png", b"a picture of the partition")
    return folder


def add_rounds(folder: CellFolder, cell: PlannedCell, first: int, last: int, later: float = 0.0) -> None:
    """Lines of metrics.jsonl for rounds `first` to `last`, ended `later` seconds later than usual."""
    for number in range(first, last + 1):
        record = round_record(cell, number)
        folder.append("metrics.jsonl", [record | {"time": record["time"] + later}])
        folder.append("steps.jsonl", steps(cell, number))


def finish(folder: CellFolder, cell: PlannedCell, **result: Any) -> CellFolder:
    """Samples, diagnostics and result.json; keywords replace parts of the result."""
    images = fake_images(cell)
    told = diagnostics(cell)
    write_json(folder.path / "diagnostics.json", told)
    write_bytes(folder.path / "diagnostics.png", b"a picture of the diagnostics")
    write_bytes(folder.path / "samples.safetensors", save({"images": torch.from_numpy(images)}))
    write_bytes(folder.path / "samples.png", b"a sheet of samples")
    last = round_record(cell, ROUNDS)
    metrics = {key: value for key, value in last.items() if key not in ("round", "seconds", "time")} | _scores(cell)
    write_json(
        folder.path / "result.json",
        {
            "cell_id": cell.cell_id,
            "train_id": cell.train_id,
            "config": cell.config,
            "metrics": metrics,
            "class_histogram": [0.1, 0.2, 0.3, 0.4],
            "bootstrap": {"fid": [metrics["fid"] + 0.8 + 0.4 * math.sin(k) for k in range(20)]},
            "diagnostics": told,
            "weight_hash": f"weights-{cell.cell_id}",
            "sample_hash": f"samples-{cell.cell_id}",
            "floor": FLOOR,
            "data": DATA,
            "extractor": EXTRACTOR,
            "environment": ENVIRONMENT,
            "finished": _started(cell) + 20.0,
        }
        | result,
    )
    return folder


def tell_more(store: Store, lost: Sequence[str] = (), curve: bool = True) -> None:
    """Add to every finished cell what cells tell beyond their tables: logs by client and class, a curve, clients' FIDs.

    Each strategy's numbers are its own, by its place in the plan: bytes, drift, cosine and losses.

    Args:
        lost: outcomes of visits that did not arrive, "dropped" or "failed": given in turn to every third visit.
        curve: whether images were drawn along training.
    """
    labels = list(dict.fromkeys(cell.labels["strategy"] for cell in store.planned()))
    for cell in store.planned():
        folder = store.cell(cell.cell_id)
        if (result := read_json(folder.path / "result.json")) is None:
            continue
        place = labels.index(cell.labels["strategy"])
        for name in LOGS:
            (folder.path / name).unlink(missing_ok=True)
        for number in range(1, ROUNDS + 1):
            folder.append("clients.jsonl", visits(cell, number, place, lost))
            folder.append("validation.jsonl", [groups(cell, number, place)])
            folder.append("steps.jsonl", steps(cell, number))
            folder.append("metrics.jsonl", [fuller_record(cell, number, place)])
        if curve:
            scores = [{"round": n, "fid": 90 / n + 2 * place, "n_generated": 100} for n in range(1, ROUNDS + 1)]
            write_json(folder.path / "curve.json", {"curve": scores})
        fid, n = result["metrics"]["fid"] + place, cell.labels["n_clients"] or 0
        clients = [{"client": i, "n_samples": 26, "fid_mix": fid + 1 + i, "test_loss": 0.2} for i in range(n)]
        more = {"fid": fid, "test_loss": loss_on_test(fuller_record(cell, ROUNDS, place))} | (
            {"fid_mix": fid + 1 + (n - 1) / 2} if n else {}
        )
        metrics = result["metrics"] | fuller_record(cell, ROUNDS, place) | more
        write_json(folder.path / "result.json", result | {"clients": clients, "metrics": metrics})


def fuller_record(cell: PlannedCell, number: int, place: int) -> dict[str, Any]:
    """A line of metrics.jsonl as rounds of several clients write it; strategies send 1, 1/2, 1/4 or 1/8 of the bytes."""
    record = round_record(cell, number)
    record["validation_loss"] *= 1 + 0.05 * place
    record["bytes_up"] = record["bytes_up"] >> place % 4
    record["seconds"] *= 1 + 0.02 * place
    if cell.labels["n_clients"] is not None:
        record |= {"drift": (1 + place) / number, "update_cosine": 0.9 / number - 0.02 * place}
    return record


def visits(cell: PlannedCell, number: int, place: int, lost: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A round's lines of clients.jsonl: every client takes part in two rounds of three, if there are many."""
    n = cell.labels["n_clients"] or 1
    made = []
    for client in range(n):
        if n > 4 and (client + number) % 3 == 0:
            continue
        which = client // 3 + number
        gone = lost[which % len(lost)] if lost and client % 3 == 0 else None
        arrived = {"outcome": "arrived", "samples": 26, "steps": 1, "drift": (1 + place + client) / number}
        told = {"round": number, "client": client, "n_samples": 26, "work": 1.0, "bytes_down": 400_000}
        if gone is None:
            made.append(told | arrived | {"bytes_up": 400_000 >> place % 4, "loss": (1 + 0.1 * client) / number})
        else:
            made.append(told | {"outcome": gone, "samples": 0, "steps": 0, "drift": 0.0, "bytes_up": 0, "loss": None})
    return made


def steps(cell: PlannedCell, number: int) -> list[dict[str, Any]]:
    """A round's lines of steps.jsonl: losses that fall on the whole, and rise at every other step of 7 in all."""
    n, loss = cell.labels["n_clients"] or 1, round_record(cell, number)["train_loss"]
    wave = [loss * (1.06 - 0.02 * k + 0.03 * (-1) ** k * (n - 0.5)) for k in range(7)]
    return [{"round": number, "client": client, "loss": wave[client::n]} for client in range(n)]


def groups(cell: PlannedCell, number: int, place: int) -> dict[str, Any]:
    """A line of validation.jsonl."""
    loss = fuller_record(cell, number, place)["validation_loss"]
    return {
        "round": number,
        "class_loss": [loss * (0.9 + 0.1 * k) for k in range(CLASSES)],
        "client_loss": [loss * (1 + 0.01 * i) for i in range(cell.labels["n_clients"] or 0)],
    }


def fail(folder: CellFolder, status: str = "failed", error: str = "ValueError: it broke & 100% so") -> None:
    """End a begun cell as one that raised."""
    write_json(
        folder.path / "error.json",
        {"status": status, "error": error, "traceback": "Traceback", "time": STARTED + 500.0},
    )


DATA = {
    "name": "mnist5k",
    "digest": "d" * 64,
    "size": 16,
    "fit": "pad-pool",
    "n_train": 200,
    "n_validation": 100,
    "n_test": 100,
    "class_names": ["0", "1", "2", "3"],
}
EXTRACTOR = {"name": "mnist-cnn", "digest": "0123456789abcdef", "feature_width": 64, "test_accuracy": 0.99}
ENVIRONMENT = {
    "commit": "c0ffee" + "0" * 34,
    "dirty": False,
    "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
    "python": "3.11.9",
    "device": "cpu",
    "cpu": "A processor",
}
FLOOR = {"fid": 1.25, "fid_bias": 0.75, "kid_mean": 0.0004, "is_mean": 3.9, "class_tv": 0.05, "n_generated": 100}


def round_record(cell: PlannedCell, number: int) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    worse = _worse(cell)
    traffic = 0 if cell.labels["n_clients"] is None else 400_000 * cell.labels["n_clients"] * number
    return {
        "round": number,
        "train_loss": 0.5 / number + 0.01 * worse,
        "validation_loss": 0.4 / number + 0.02 * worse,
        "drift": 0.5 * worse,
        "participants": cell.labels["n_clients"] or 1,
        "samples": 200 * number,
        "gradient_steps": 7 * number,
        "sequential_steps": 3 * number,
        "bytes_down": traffic,
        "bytes_up": traffic,
        "seconds": 1.5 * number,
        "time": _started(cell) + number,
    } | ({} if cell.config["ema"]["mode"] == "off" else {"validation_loss_raw": 0.5 / number + 0.02 * worse})


def loss_on_test(record: Mapping[str, Any]) -> float:
    """The loss on test images of a model whose last round has this record."""
    return float(record["validation_loss"]) + 0.001


def diagnostics(cell: PlannedCell) -> dict[str, Any]:
    """The content of diagnostics.json: the later the timestep, the smaller the loss; client i is i % worse."""
    loss = round_record(cell, ROUNDS)["validation_loss"]
    return {
        "draws": 8,
        "t_edges": list(range(0, 101, 10)),
        "t_loss": [loss * 2.0 ** (3 - k) for k in range(10)],
        "class_names": DATA["class_names"],
        "class_loss": [loss * (0.9 + 0.1 * k) for k in range(CLASSES)],
        "client_loss": [loss * (1 + 0.01 * i) for i in range(cell.labels["n_clients"] or 0)],
    }


def likelihood(bits: float = 3.0) -> dict[str, Any]:
    """The content of likelihood.json, over every other one of 100 timesteps: most bits are spent at the end."""
    kept = list(range(0, 100, 2))
    weights = np.exp(-0.1 * np.arange(50))
    terms = (bits - 0.001) * weights / weights.sum()
    return {
        "likelihood_id": "l" * 16,
        "bits_per_dim": bits,
        "prior": 0.001,
        "kept": kept,
        "terms": terms.tolist(),
        "images": [bits - 0.1, bits + 0.1],
    }


def fake_images(cell: PlannedCell, count: int = 12) -> np.ndarray:
    """Blurred rings (count, 1, 16, 16), uint8: the worse the cell, the noisier."""
    rows, columns = np.mgrid[:16, :16] - 7.5
    radii = 2 + np.arange(count)[:, None, None] % 5
    rings = np.exp(-((np.hypot(rows, columns) - radii) ** 2))
    noise = np.random.default_rng(int(cell.cell_id, 16)).normal(0, 0.05 * _worse(cell), rings.shape)
    return (255 * np.clip(rings + noise, 0, 1)).astype(np.uint8)[:, None]


def _planned(grid: Grid, number: int, cell: CellConfig) -> PlannedCell:
    trained = train_id(cell, DATA["digest"], "cpu")
    return PlannedCell(f"{number:016x}", trained, labels(grid, cell), cell.model_dump(mode="json"))


def _started(cell: PlannedCell) -> float:
    return STARTED + 30 * (int(cell.cell_id, 16) % 10**6)


def _worse(cell: PlannedCell) -> float:
    """How much worse than the best a cell is: made up, different for every strategy, n_clients, beta and seed.

    A recipe's share follows from its training.
    """
    labels = cell.labels
    recipe = 0.0 if labels.get("recipe") is None else int(cell.train_id[:2], 16) / 256
    if labels["n_clients"] is None:
        return 1.0 + 0.1 * labels["seed"] + recipe
    skew = 1.0 if labels["beta"] is None else 1.0 / (0.5 + labels["beta"])
    better = 0.8 if labels["strategy"].startswith("fedprox") else 1.0
    return 1.0 + better * (0.4 * labels["n_clients"] + skew) + 0.3 * labels["seed"] * (labels["n_clients"] - 2) + recipe


def _scores(cell: PlannedCell) -> dict[str, float]:
    worse = _worse(cell)
    return (
        _recipe_scores(cell)
        | {
            "test_loss": loss_on_test(round_record(cell, ROUNDS)),
            "fid": 4.0 * worse + math.sqrt(worse),
            "fid_bias": 0.75,
            "fid_infinity": 4.0 * worse + math.sqrt(worse) - 0.7,
            "fid_images_sd": 0.4,
            "fid_images_low": 4.0 * worse + math.sqrt(worse) - 0.8,
            "fid_images_high": 4.0 * worse + math.sqrt(worse) + 0.8,
            "fid_images_bias": 0.8,
            "is_mean": 3.8 / (1 + 0.1 * worse),
            "is_std": 0.1,
            "kid_mean": 0.002 * worse,
            "kid_std": 0.0005,
            "class_tv": 0.04 * worse,
            "mean_confidence": 0.95,
            "n_generated": 100,
            "n_reference": 200,
            "train_seconds": 4.5,
            "sample_seconds": 2.0,
            "evaluate_seconds": 0.25,
        }
        | ({} if cell.labels["n_clients"] is None else {"skew_tv": 0.5, **_client_scores(cell)})
    )


def _client_scores(cell: PlannedCell) -> dict[str, float]:
    losses = np.array(diagnostics(cell)["client_loss"])
    told = {"mean": losses.mean(), "sd": losses.std(), "max": losses.max()}
    return {f"test_loss_client_{key}": float(value) for key, value in told.items()}


def _recipe_scores(cell: PlannedCell) -> dict[str, float]:
    """What only some recipes are measured by."""
    worse, config = _worse(cell), cell.config
    scores: dict[str, float] = {}
    if config["evaluation"]["nll"]:
        scores["bits_per_dim"] = 3.0 + 0.1 * worse
    if config["model"]["class_conditional"]:
        scores["label_accuracy"] = 0.98 - 0.1 * worse
    if config["latent"]["mode"] != "off":
        traffic = {"autoencoder_bytes_down": 250_000.0, "autoencoder_bytes_up": 250_000.0}
        scores |= {"reconstruction_fid": 2.5, "reconstruction_mse": 0.01, "autoencoder_loss": 0.05} | traffic
        scores["autoencoder_seconds"] = 1.25
    return scores


def _partition(cell: PlannedCell) -> dict[str, Any]:
    """Client i holds mostly class i."""
    n = cell.labels["n_clients"]
    histogram = [[20 if k == i % CLASSES else 2 for k in range(CLASSES)] for i in range(n)]
    return {
        "sizes": [sum(row) for row in histogram],
        "histogram": histogram,
        "total_variation": [0.5] * n,
        "total_variation_mean": 0.5,
        "digest": "partition",
    }
