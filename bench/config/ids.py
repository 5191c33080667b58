"""Ids of cells: hashes of everything that changes their numbers."""

import hashlib
import json
from typing import Any

from bench.config.cell import CellConfig, LatentConfig
from bench.store.records import RESULT_VERSION

TRAINING_VERSION = 6  # as RESULT_VERSION, of training alone: a change of evaluation alone re-uses old trainings


def _unused(cell: CellConfig) -> list[str]:
    """Fields that change no number of this cell, as other fields stand."""
    d, s = cell.diffusion, cell.sampler
    uses = {
        "training.local_epochs": cell.training.local_steps is None,
        "training.local_steps": cell.training.local_steps is not None,
        "training.sampling": cell.training.sampling != "fixed",
        "training.stragglers": cell.training.stragglers > 0,
        "training.failures": cell.training.failures > 0,
        "diffusion.min_snr_gamma": d.loss == "min-snr",
        "diffusion.label_dropout": cell.model.class_conditional,
        "sampler.guidance_scale": cell.model.class_conditional,
        "sampler.eta": s.name == "ddim",
        **{f"ema.{key}": cell.ema.mode != "off" for key in ("decay", "warmup")},
        **{f"latent.{key}": cell.is_latent for key in LatentConfig.model_fields if key != "mode"},
        "evaluation.nll_steps": cell.evaluation.nll > 0,
        "evaluation.curve_every": cell.evaluation.curve_every > 0,
        "evaluation.curve_samples": cell.evaluation.curve_every > 0,
        "diffusion.variance": d.variance == "learned"
        or d.loss == "vlb"
        or s.name == "ancestral"
        or cell.evaluation.nll > 0,
    }
    return [name for name, used in uses.items() if not used]


def identity(cell: CellConfig) -> dict[str, Any]:
    """What the cell's id is made of, but for the digests: every field that changes its numbers."""
    left_out = {"evaluation": {"extractor_weights", "nll_rounded"}, "device": True, "recipe": True}
    fields = cell.model_dump(mode="json", exclude=left_out)  # type: ignore[arg-type]
    for name in _unused(cell):
        section, _, key = name.partition(".")
        del fields[section][key]
    if cell.evaluation.nll:
        fields["evaluation"]["nll_steps"] = cell.evaluation.nll_steps or cell.diffusion.T
    return fields | {"result_version": RESULT_VERSION}


def digest(value: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of the value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cell_id(cell: CellConfig, data_digest: str, extractor_digest: str, device: str) -> str:
    """The name of the cell's results: equal if and only if all that changes its numbers is equal."""
    return digest(identity(cell) | {"data_digest": data_digest, "extractor_digest": extractor_digest, "device": device})


def train_id(cell: CellConfig, data_digest: str, device: str) -> str:
    """As `cell_id` without what happens after training: cells that share it share their weights.

    The images of `evaluation.curve_every` are drawn while training, so there its sampler is a part of it.
    """
    fields, e = identity(cell), cell.evaluation
    kept = {key: value for key, value in fields.items() if key not in ("evaluation", "sampler", "result_version")}
    kept["training_version"] = TRAINING_VERSION
    if e.curve_every:
        kept["curve"] = [e.curve_every, e.curve_samples, fields["sampler"], fields["diffusion"].get("variance")]
    if cell.diffusion.variance != "learned" and cell.diffusion.loss != "vlb":  # a fixed variance trains nothing then
        kept["diffusion"].pop("variance", None)
    return digest(kept | {"data_digest": data_digest, "device": device})


def likelihood_id(cell: CellConfig, data_digest: str, device: str) -> str:
    """Cells that share it share their bits/dim: training, the variance, and `evaluation.nll*`."""
    e = cell.evaluation
    steps = e.nll_steps or cell.diffusion.T
    where, _, _ = device.partition(":")  # a cell is dealt to any of several GPUs
    return digest([train_id(cell, data_digest, where), cell.diffusion.variance, e.nll, steps, cell.sampler.batch_size])
