"""The setting of a grid's finished cells as text for an appendix: a paragraph a section of their configuration."""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from bench.config.cell import flatten
from bench.config.names import MISSING, value_text
from bench.config.plugin import Plugin, symbol
from bench.config.toml import write_value
from bench.diffusion.config import LOSSES, SAMPLERS, LatentConfig
from bench.report.results import Cell, Results
from bench.store.cell_folder import WEIGHTS
from bench.store.records import Environment, Result

SECTIONS = {
    "data": "Data", "training": "Training", "client": "Local optimizer", "model": "Network", "diffusion": "Diffusion",
    "ema": "Moving average of weights", "latent": "Autoencoder", "sampler": "Sampling", "evaluation": "Evaluation",
    "extractor": "Extractor", "computation": "Hardware and software",
}  # fmt: skip
WORDS = {
    "name": "", "mode": "", "optimizer": "", "lr": "learning rate", "lr_schedule": "learning rate schedule",
    "kl_weight": "KL weight", "fit": "fitted by", "validation": "validation images", "test": "test images",
    "n_train": "training images",
    "min_snr_gamma": "min-SNR γ", "n_samples": "generated images", "nll": "images for bits/dim",
    "nll_steps": "timesteps for bits/dim", "nll_rounded": "bits/dim of rounded images",
    "curve_every": "rounds between images along training", "curve_samples": "images along training",
    "bootstrap": "bootstrap resamples", "dtype": "precision", "threads": "threads of a cell",
}  # fmt: skip
# Settings that mean nothing while another one, or they themselves, have one of these values.
IDLE: dict[str, tuple[str, tuple[Any, ...]]] = {
    "training.sampling": ("training.participation", (1.0,)),
    "client.optimizer_state": ("client.optimizer", ("sgd",)),
    "diffusion.min_snr_gamma": ("diffusion.loss", tuple(loss for loss in LOSSES if loss != "min-snr")),
    "diffusion.label_dropout": ("model.class_conditional", (False,)),
    "ema.decay": ("ema.mode", ("off",)),
    "ema.warmup": ("ema.mode", ("off",)),
    **{f"latent.{name}": ("latent.mode", ("off",)) for name in LatentConfig.model_fields if name != "mode"},
    "sampler.eta": ("sampler.name", tuple(name for name in SAMPLERS if name != "ddim")),
    "sampler.guidance_scale": ("model.class_conditional", (False,)),
    "evaluation.nll": ("evaluation.nll", (0,)),
    "evaluation.nll_steps": ("evaluation.nll", (0,)),
    "evaluation.nll_rounded": ("evaluation.nll", (0,)),
    "evaluation.curve_every": ("evaluation.curve_every", (0,)),
    "evaluation.curve_samples": ("evaluation.curve_every", (0,)),
}
# In the tables or in paragraphs of their own, or of a machine and not of an experiment.
ELSEWHERE = ("strategy", "partition", "n_clients", "beta", "seed", "recipe", "device")
LEFT_OUT = ("data.limit", "evaluation.extractor", "evaluation.extractor_weights")  # the record's own fields say these
DIGITS = 12  # of digests and commits

Values = list[tuple[bool, str]]  # whether a cell is centralized, and its value


def setting(results: Results) -> list[tuple[str, str]]:
    """All settings of the finished cells: a title and a text a section, the strategies, and what recipes differ in.

    Settings of parts that are switched off are left out. Where cells differ all values stand, "reset / keep
    (centralized)". Of a grid of recipes a section says what more than half of them have, and the last text what is
    otherwise in each. Numbers of clients, betas and seeds stand in the tables.
    """
    cells = [(cell, _settings(cell, cell.result)) for cell in results.cells if cell.result]
    recipes = list(dict.fromkeys(_recipe(cell) for cell, _ in cells))
    common: dict[str, list[str]] = {section: [] for section in SECTIONS}
    own: dict[str, list[str]] = {recipe: [] for recipe in recipes}
    for key in dict.fromkeys(key for _, settings in cells for key in settings):
        section, _, name = key.partition(".")
        word = WORDS.get(name, name.rpartition(".")[2].replace("_", " "))
        texts = _by_recipe(key, cells)
        usual = next((text for text, count in Counter(texts.values()).items() if 2 * count > len(recipes)), None)
        common[section] += [f"{word} {usual}".strip()] if usual else []
        for recipe in (recipe for recipe, text in texts.items() if text != usual):
            own[recipe].append(" ".join(filter(None, [SECTIONS[section].lower(), word, texts[recipe]])))
    parts = [(SECTIONS[section], ", ".join(texts)) for section, texts in common.items()]
    parts.insert(0, ("Strategies", "; ".join(_strategies(results))))
    otherwise = [f"{results.title(recipe)}: {', '.join(texts)}" for recipe, texts in own.items() if texts]
    parts.append(("Recipes, where they differ from this", "; ".join(otherwise)))
    return [(title, f"{text}.") for title, text in parts if text]


def _recipe(cell: Cell) -> str:
    return str(cell.labels.get("recipe", ""))


def _by_recipe(key: str, cells: Iterable[tuple[Cell, Mapping[str, Any]]]) -> dict[str, str]:
    """A setting's text in each recipe in which it means something and any cell has it."""
    values: dict[str, Values] = {}
    for cell, settings in cells:
        switch, idle = IDLE.get(key, ("", ()))
        if settings.get(switch) not in idle and not (key == "data.partition" and cell.central):
            values.setdefault(_recipe(cell), []).append((cell.central, value_text(settings.get(key))))
    known = {recipe: pairs for recipe, pairs in values.items() if any(text != MISSING for _, text in pairs)}
    return {recipe: _joined(pairs) for recipe, pairs in known.items()}


def _joined(values: Values) -> str:
    """The different values; of several each that centralized training alone has is marked as its own."""
    by_text: dict[str, set[bool]] = {}
    for central, text in values:
        by_text.setdefault(text, set()).add(central)
    alone = len(by_text) > 1 and any(False in owners for owners in by_text.values())
    return " / ".join(
        f"{text} (centralized)" if alone and owners == {True} else text for text, owners in by_text.items()
    )


def _settings(cell: Cell, result: Result) -> dict[str, Any]:
    """A finished cell's settings by dotted name, its section's first."""
    config = result.config
    flat = {key if "." in key else f"computation.{key}": value for key, value in flatten(config)
            if key.partition(".")[0] not in ELSEWHERE and key not in LEFT_OUT}  # fmt: skip
    data, extractor = result.data, result.extractor
    flat["data.partition"] = Plugin.model_validate(config["partition"]).label if config.get("partition") else None
    flat["data.n_train"] = data and data.n_train
    flat["data.digest"] = data and data.digest and data.digest[:DIGITS]
    flat["model.parameters"] = parameters(cell.folder.path / WEIGHTS)
    known = extractor.known() if extractor else {}
    flat |= {f"extractor.{key}": value[:DIGITS] if key == "digest" else value for key, value in known.items()}
    return flat | {f"computation.{key}": value for key, value in _machine(result.environment).items()}


def _machine(environment: Environment) -> dict[str, Any]:
    """Hardware and software."""
    changes = " with uncommitted changes" if environment.dirty else ""
    code = environment.commit and f"{environment.commit[:DIGITS]}{changes}"
    hardware = {"device": environment.device, "processor": environment.cpu, "platform": environment.platform}
    return hardware | {"Python": environment.python} | environment.packages | {"commit": code}


def parameters(file: Path) -> str | None:
    """The number of the scalars in a file of tensors, e.g. "394,401"; None if there is no file or it is damaged."""
    try:
        with safe_open(file, framework="numpy") as tensors:
            shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError) as error:
        warnings.warn(f"{file} is damaged ({error}); its parameters are not counted", stacklevel=2)
        return None
    return f"{sum(math.prod(shape) for shape in shapes):,}"


def _strategies(results: Results) -> list[str]:
    """Each strategy by its title, with those hyper-parameters that the title lacks."""
    texts = {}
    for cell in results.cells:
        if cell.result and cell.result.config:
            title, plugin = results.title(cell.strategy), Plugin.model_validate(cell.result.config["strategy"])
            values = [f"{symbol(key)} = {write_value(value)}" for key, value in plugin.params.items()]
            further = [value for value in values if value not in title and title != plugin.label]
            texts[cell.strategy] = f"{title} ({', '.join(further)})" if further else title
    return list(texts.values())
