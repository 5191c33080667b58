"""The evaluation of a trained cell: loss on test images, scores of samples and of real images, copies, bits/dim.

Nothing before it sees the test images.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import partitions
from bench.cell.copies import judge_copies
from bench.cell.diagnostics import client_spread, diagnose
from bench.cell.sample import Generated
from bench.cell.setting import Model, Setting
from bench.config.ids import likelihood_id
from bench.data.pixels import to_model_range
from bench.data.sets import Part
from bench.diffusion.likelihood import bits_per_dim
from bench.diffusion.schedule import timesteps
from bench.federation.mixture import judged
from bench.fidelity.extractors import Array, Extractor
from bench.fidelity.floor import RealImages, client_floors, client_mix_floors, real_floor
from bench.fidelity.references import Reference, class_moments, fixed_draw, reference
from bench.fidelity.scores import client_fids, evaluate, fid_of_mix, fid_spread, score
from bench.seeds import numpy_stream
from bench.store.cell_folder import CURVE, Heartbeat
from bench.store.files import write_json
from bench.store.grid_folder import Store
from bench.store.records import Curve, Diagnostics, Likelihood
from bench.store.states import read_tensors

REFERENCES = Path(".cache") / "references"  # under the results: statistics of real images


@dataclass(frozen=True)
class Shown:
    """What is judged, and what it is judged by.

    Attributes:
        samples: the generated images.
        features, logits: (N, D) and (N, K'), what the extractor sees in them.
        reference: statistics of the real images that scores compare with.
        real: images that are neither trained on nor the reference.
    """

    samples: Generated
    features: Tensor
    logits: Tensor
    reference: Reference
    real: RealImages


def judge(setting: Setting, model: Model, samples: Generated, extractor: Extractor) -> dict[str, Any]:
    """Scores of the samples and the floor that real images reach, as the result has them.

    For latent diffusion also what the autoencoder's reconstructions of test images reach: its own floor. Losses on test
    images are written to diagnostics.json, and scores of the images drawn along training to curve.json; closest.png
    shows what comes closest to copies.

    Raises:
        Damaged: if the images drawn along training are not what was written.
    """
    folder = setting.folder.path
    diagnostics = _diagnose(setting, model)
    write_json(folder / Diagnostics.FILE, diagnostics.known())
    compared: set[Part] = {setting.config.evaluation.reference, setting.early_part, "train"}
    references = {part: _statistics(setting, part, extractor) for part in compared}
    shown = _shown(setting, samples, references[setting.config.evaluation.reference], extractor)
    result = _judge_samples(setting, model, shown, extractor)
    by_client, spread = _judge_clients(setting, shown, extractor)
    copies = judge_copies(setting, samples.images, shown.features, references["train"], shown.real, extractor)
    if curve := _judge_curve(setting, references[setting.early_part], extractor):
        write_json(folder / Curve.FILE, {"curve": curve})
    losses = {"test_loss": diagnostics.loss} | client_spread(diagnostics.client_loss)
    result["metrics"] |= losses | spread | copies.metrics
    result["floor"] |= copies.floor
    clients = _clients(setting.mixes, by_client, diagnostics.client_loss, copies.by_client)
    return result | {"clients": clients, "diagnostics": diagnostics.known()}


def _diagnose(setting: Setting, model: Model) -> Diagnostics:
    """The losses on test images."""
    views = setting.test_task if any(setting.noise) else None
    names, mixes = setting.data.class_names, setting.mixes
    return diagnose(setting.test_task(), model.net, names, mixes, model.personal, views)


def _shown(setting: Setting, samples: Generated, to: Reference, extractor: Extractor) -> Shown:
    """The samples as the extractor sees them, and the real images that they are held against."""
    features, logits = extractor.features(samples.images, setting.device)
    other = setting.data.part(setting.floor_part)
    real = RealImages.of(*other, len(samples.images), extractor, setting.device)
    return Shown(samples, features, logits, to, real)


def _statistics(setting: Setting, part: Part, extractor: Extractor) -> Reference:
    """Statistics of the images of that part of the data."""
    images, _ = setting.data.part(part)
    return reference(images, setting.cached_as(part), extractor, setting.results / REFERENCES, setting.device)


def _judge_samples(setting: Setting, model: Model, shown: Shown, extractor: Extractor) -> dict[str, Any]:
    """Scores, floor, classes and bootstrap; writes reconstructions.png where there is an autoencoder."""
    cell, data, device, to = setting.config, setting.data, setting.device, shown.reference
    shares, n = data.class_shares, len(shown.features)
    seen, replicates = (shown.features, shown.logits), cell.evaluation.bootstrap
    scores = score(seen, to, shares, extractor, shown.samples.labels, replicates)
    histogram, bootstrap = scores.pop("class_histogram"), scores.pop("bootstrap", {})
    if model.space is not None:
        _draw_reconstructions(setting, model)
        originals = _originals(setting, n)
        decoded = model.reconstruct(originals, cell.data.range, device)
        scores["reconstruction_fid"] = evaluate(decoded, to, shares, extractor, device)["fid"]
        scores["reconstruction_mse"] = (decoded.double() - originals.double()).div(255).square().mean().item()
    floor = real_floor(shown.real, n, to, shares, extractor.classes)
    return {"metrics": scores, "floor": floor, "class_histogram": histogram, "bootstrap": bootstrap}


def _judge_clients(
    setting: Setting, shown: Shown, extractor: Extractor
) -> tuple[dict[int, dict[str, float]], dict[str, float]]:
    """FIDs to each judged client's images, ``fid`` of all samples and ``fid_mix`` at its mix of classes, and the scores
    made of them with their floors. Those at the mixes are known where the extractor knows the classes; of centralized
    training there are none.
    """
    references, shares, n = _client_references(setting, extractor), setting.data.class_shares, len(shown.features)
    own = shown.samples.by_client
    seen = {
        i: extractor.features(own[i], setting.device) if own else (shown.features, shown.logits) for i in references
    }
    fids, floors = client_fids(seen, references), client_floors(shown.real, n, references, shares)
    spread = fid_spread(list(fids.values()), list(floors.values()))
    by_client = {i: {"fid": fid} for i, fid in fids.items()}
    if references and extractor.classes == setting.data.n_classes:
        mixes = {i: setting.mixes[i].astype(float) for i in references}
        of_mixes = {i: fid_of_mix(seen[i], mixes[i], reference) for i, reference in references.items()}
        by_client = {i: scores | {"fid_mix": of_mixes[i]} for i, scores in by_client.items()}
        floor = client_mix_floors(shown.real, n, references, shares, mixes)
        found = {"fid_mix": of_mixes, "fid_mix_floor": floor}
        spread |= {name: float(np.mean(list(each.values()))) for name, each in found.items()}
    return by_client, spread


def _client_references(setting: Setting, extractor: Extractor) -> dict[int, tuple[Array, Array]]:
    """Mean and covariance by judged client: of its mix of classes, with its noise where the partition gives it some."""
    data, device, mixes, levels = setting.data, setting.device, setting.mixes, setting.noise
    part = setting.config.evaluation.reference
    real, labels = data.part(part)
    references = {}
    for number in judged(len(mixes)):
        level, name, images = float(levels[number]), setting.cached_as(part), real
        if level:
            name = f"{name}-noise{level!r}"
            everyone = [np.arange(len(images))]
            images = partitions.add_noise(images, everyone, [level], numpy_stream(0, "reference-noise", repr(level)))
        moments = class_moments(images, labels, data.n_classes, name, extractor, setting.results / REFERENCES, device)
        reference_of_mix = moments.of_mix(mixes[number].astype(float))
        if reference_of_mix is not None:
            references[number] = reference_of_mix
    return references


def _clients(
    mixes: np.ndarray, scores: Mapping[int, dict[str, float]], losses: Sequence[float | None], copies: Sequence[int]
) -> list[dict[str, Any]]:
    """What is known of each judged client, from all clients' mixes of classes (n, K), scores, losses and copies."""
    return [
        {
            "client": i,
            "n_samples": int(mixes[i].sum()),
            "fid": None,
            "fid_mix": None,
            **scores.get(i, {}),
            "test_loss": losses[i],
            "copies": copies[i],
        }
        for i in judged(len(mixes))
    ]


def _judge_curve(setting: Setting, real: Reference, extractor: Extractor) -> list[dict[str, Any]]:
    """Scores of the images drawn after some rounds, in the rounds' order; [] where none were drawn."""
    data, device = setting.data, setting.device
    drawn = read_tensors(setting.folder.path / CURVE, sealed=False)
    if drawn is None:
        return []
    return [
        {"round": number} | evaluate(images, real, data.class_shares, extractor, device)
        for number, images in sorted((int(name), images) for name, images in drawn.items())
    ]


def _originals(setting: Setting, count: int) -> Tensor:
    """Some real images that the autoencoder was not trained on, by a fixed draw."""
    images, _ = setting.data.part(setting.floor_part)
    return images[fixed_draw(len(images), count)]


def _draw_reconstructions(setting: Setting, model: Model) -> None:
    """Write reconstructions.png: real images and what the autoencoder makes of them."""
    from bench.pictures.sheets import pairs_sheet  # matplotlib: half a second

    originals = _originals(setting, 16)
    decoded = model.reconstruct(originals, setting.config.data.range, setting.device)
    pairs_sheet(originals, decoded, setting.folder.path / "reconstructions.png")


def judge_likelihood(setting: Setting, model: Model, store: Store) -> Likelihood | None:
    """Bits/dim of test images, where the cell asks for them, also written to likelihood.json.

    Cells that differ in the sampler alone have the same: the first writes the file and the others copy it.
    """
    if not setting.config.evaluation.nll:
        return None
    wanted = likelihood_id(setting.config, setting.data.digest, setting.device)
    record = store.find_likelihood(wanted) or Likelihood(likelihood_id=wanted, **_bound(setting, model))
    write_json(setting.folder.path / Likelihood.FILE, record.known())
    return record


def _bound(setting: Setting, model: Model) -> dict[str, Any]:
    """Bits/dim with its terms, as likelihood.json has them."""
    started, cell, data = time.perf_counter(), setting.config, setting.data
    e, T = cell.evaluation, cell.diffusion.T
    kept = timesteps(T, e.nll_steps or T)
    chosen = fixed_draw(len(data.test_images), e.nll)
    images = data.test_images[chosen].to(setting.device)
    labels = data.test_labels[chosen] if cell.model.class_conditional else None
    heartbeat = Heartbeat(setting.folder, "likelihood", len(images) * len(kept))
    x0, size = to_model_range(images, cell.data.range), cell.sampler.batch_size
    bound = bits_per_dim(
        model.net, setting.process, x0, labels, kept.tolist(), cell.pixel_range, size, tick=heartbeat.tick
    )
    return {
        "bits_per_dim": bound.total.mean().item(),
        "likelihood_seconds": time.perf_counter() - started,
        "prior": bound.prior.mean().item(),
        "kept": list(bound.kept),
        "terms": bound.terms.mean(dim=0).tolist(),
        "images": bound.total.tolist(),
    }
