"""What a trained cell is worth: scores of its samples, bits/dim of held-out images, its autoencoder's floor."""

import time
from pathlib import Path
from typing import Any

from bench import figures
from bench.config import CellConfig
from bench.data import Dataset, to_model_range
from bench.diffusion.likelihood import bits_per_dim
from bench.diffusion.samplers import timesteps
from bench.fidelity import Extractor, evaluate, fixed_draw, real_floor, reference
from bench.sampling import Generated, Model
from bench.seeds import derive
from bench.store import CellFolder, Heartbeat


def judge(
    made: Generated, model: Model, data: Dataset, extractor: Extractor, cell: CellConfig, results: Path, device: str
) -> dict[str, Any]:
    """Scores of the samples and the floor that real images reach, against the reference kept under `results`.

    For latent diffusion also what the autoencoder's reconstructions of held-out images reach: its own floor.
    """
    known = reference(data.train_images, data.digest, extractor, results / ".cache" / "references", device)
    shares, seed, n = data.class_shares, derive(0, "fidelity"), len(made.images)
    scores = evaluate(made.images, known, shares, extractor, seed, device, made.labels)
    floor = real_floor(data.heldout_images, n, known, shares, extractor, seed, device)
    histogram = scores.pop("class_histogram")
    floor.pop("class_histogram")
    if model.space is not None:
        originals = data.heldout_images[fixed_draw(len(data.heldout_images), n)]
        decoded = model.reconstruct(originals, cell.data.range, device)
        scores["reconstruction_fid"] = evaluate(decoded, known, shares, extractor, seed, device)["fid"]
        scores["reconstruction_mse"] = (decoded.double() - originals.double()).div(255).square().mean().item()
    return {"metrics": scores, "floor": floor, "class_histogram": histogram}


def draw_reconstructions(model: Model, data: Dataset, cell: CellConfig, folder: Path) -> None:
    """Write reconstructions.png: held-out images and what the autoencoder makes of them."""
    originals = data.heldout_images[fixed_draw(len(data.heldout_images), 16)]
    device = str(next(model.net.parameters()).device)
    decoded = model.reconstruct(originals, cell.data.range, device)
    figures.pairs_sheet(originals, decoded, folder / "reconstructions.png")


def bound(cell: CellConfig, folder: CellFolder, model: Model, data: Dataset, device: str) -> dict[str, Any]:
    """Bits/dim with its terms, as likelihood.json has them."""
    started, e, T = time.perf_counter(), cell.evaluation, cell.diffusion.T
    kept = timesteps(T, e.nll_steps or T)
    chosen = fixed_draw(len(data.heldout_images), e.nll)
    images = data.heldout_images[chosen].to(device)
    labels = data.heldout_labels[chosen] if cell.model.class_conditional else None
    heartbeat = Heartbeat(folder, "likelihood", len(images) * len(kept))
    x0, size = to_model_range(images, cell.data.range), cell.sampler.batch_size
    found = bits_per_dim(
        model.net, cell.process(), x0, labels, kept.tolist(), cell.pixel_range, size, tick=heartbeat.tick
    )
    return {
        "bits_per_dim": found.total.mean().item(),
        "likelihood_seconds": time.perf_counter() - started,
        "prior": found.prior.mean().item(),
        "kept": list(found.kept),
        "terms": found.terms.mean(dim=0).tolist(),
        "images": found.total.tolist(),
    }
