"""The setting of a grid's finished cells as text for an appendix: a paragraph a section of their configuration, and
how it was tuned.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from bench.config.cell import flatten
from bench.config.names import MISSING, value_text
from bench.config.plugin import Plugin, symbol
from bench.config.toml import write_value
from bench.config.tuning import Tuned
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
    "n_train": "training images", "reference": "reference images",
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
    """All settings of the finished cells: a title and a text a section, the strategies, what recipes and strategies
    differ in, and how it was tuned.

    Settings of parts that are switched off are left out. Where cells differ all values stand, "reset / keep
    (centralized)". Of recipes or strategies that differ a section says what more than half of them have, and a text at
    the end what is otherwise in each. Numbers of clients, betas and seeds stand in the tables.
    """
    cells = [(cell, _settings(cell, cell.result)) for cell in results.cells if cell.result]
    common: dict[str, list[str]] = {section: [] for section in SECTIONS}
    of_recipes: dict[str, list[str]] = {_recipe(cell): [] for cell, _ in cells}
    of_strategies: dict[str, list[str]] = {cell.strategy: [] for cell, _ in cells}
    for key in dict.fromkeys(key for _, settings in cells for key in settings):
        section, _, name = key.partition(".")
        word = WORDS.get(name, name.rpartition(".")[2].replace("_", " "))
        varies = _varies(key, cells)
        own, texts = (of_strategies if varies else of_recipes), _by(_strategy if varies else _recipe, key, cells)
        usual = next((text for text, count in Counter(texts.values()).items() if 2 * count > len(own)), None)
        common[section] += [f"{word} {usual}".strip()] if usual else []
        for name in (name for name, text in texts.items() if text != usual):
            own[name].append(" ".join(filter(None, [SECTIONS[section].lower(), word, texts[name]])))
    parts = [(SECTIONS[section], ", ".join(texts)) for section, texts in common.items()]
    parts.insert(0, ("Strategies", "; ".join(_strategies(results))))
    for title, own in (("Recipes", of_recipes), ("Strategies", of_strategies)):
        otherwise = [f"{results.title(name)}: {', '.join(texts)}" for name, texts in own.items() if texts]
        parts.append((f"{title}, where they differ from this", "; ".join(otherwise)))
    parts.append(("Tuning", _tuning(results.tuned) if results.tuned else ""))
    return [(title, f"{text}.") for title, text in parts if text]


def _recipe(cell: Cell) -> str:
    return str(cell.labels.get("recipe", ""))


def _strategy(cell: Cell) -> str:
    return cell.strategy


def _varies(key: str, cells: Iterable[tuple[Cell, Mapping[str, Any]]]) -> bool:
    """Whether strategies with clients differ in a setting, each of which has one value in a recipe."""
    values: dict[str, dict[str, set[str]]] = {}
    for cell, settings in cells:
        if not cell.central:
            of_recipe = values.setdefault(_recipe(cell), {})
            of_recipe.setdefault(cell.strategy, set()).add(value_text(settings.get(key)))
    single = all(len(texts) == 1 for of_recipe in values.values() for texts in of_recipe.values())
    return single and any(len(set.union(*of_recipe.values())) > 1 for of_recipe in values.values())


def _tuning(tuned: Tuned) -> str:
    """How values were chosen, and what that cost."""
    seeds = f"seed{'' if len(tuned.seeds) == 1 else 's'} {', '.join(map(str, tuned.seeds))}"
    where = ", ".join(f"{key} = {value_text(value)}" for key, value in tuned.where.items())
    rungs = [f"{count} after round {rung}" for rung, count in zip(tuned.rungs, tuned.kept[1:], strict=True)]
    of = f"over {seeds} at {where}" if where else f"over {seeds}"
    parts = [
        f"{tuned.trials} settings of each strategy, by the mean of {tuned.metric} {of}",
        f"searched: {'; '.join(f'{name} {space}' for name, space in tuned.space.items())}",
        f"trained on: {', '.join(rungs)}" if rungs else "",
        f"cost: {tuned.cells:,} trainings, {tuned.gradient_steps:,} gradient steps, {tuned.seconds:,.0f} s",
    ]
    return ". ".join(part[0].upper() + part[1:] if number else part for number, part in enumerate(filter(None, parts)))


def _by(name: Callable[[Cell], str], key: str, cells: Iterable[tuple[Cell, Mapping[str, Any]]]) -> dict[str, str]:
    """A setting's text in each recipe or strategy, in which it means something and any cell has it."""
    values: dict[str, Values] = {}
    for cell, settings in cells:
        switch, idle = IDLE.get(key, ("", ()))
        if settings.get(switch) not in idle and not (key == "data.partition" and cell.central):
            values.setdefault(name(cell), []).append((cell.central, value_text(settings.get(key))))
    known = {each: pairs for each, pairs in values.items() if any(text != MISSING for _, text in pairs)}
    return {each: _joined(pairs) for each, pairs in known.items()}


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
    if flat.get("training.local_steps") is not None:
        flat["training.local_epochs"] = None
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
