"""What a reader must know of a grid's numbers, told from its cells' configs and results."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.report.metrics import Metric
from bench.report.results import Results
from bench.report.tables.shown import Shown


def row_warnings(results: Results) -> list[str]:
    """What makes rows of one table doubtful to compare: other code, other package versions, other machines."""
    made = [result.environment for result in results.done if result.environment.model_fields_set]
    packages = sorted({name for environment in made for name in environment.packages})
    found = {
        "commits of the code": _different(str(environment.commit)[:10] for environment in made),
        "states of the working tree (dirty)": _different(environment.dirty for environment in made),
        "versions of Python": _different(environment.python for environment in made),
        **{
            f"versions of {name}": _different(environment.packages.get(name) for environment in made)
            for name in packages
        },
        "devices, so seconds do not compare": _different(environment.device for environment in made),
        "processors, so seconds do not compare": _different(environment.cpu for environment in made),
    }
    return [f"the rows come from different {what}: {values}" for what, values in found.items() if values]


def _different(values: Iterable[Any]) -> str:
    """The values with how many rows have each, if there are several."""
    counts = Counter("unknown" if value is None else str(value) for value in values)
    told = [f"{value} ({n} cell{'' if n == 1 else 's'})" for value, n in counts.most_common()]
    return ", ".join(told) if len(told) > 1 else ""


def floor_of(results: Results) -> dict[str, Any] | None:
    """The scores of real held-out images, where all finished cells were judged by the same ones; else None."""
    floors = {json.dumps(result.floor, sort_keys=True): result.floor for result in results.done}
    (floor, *others) = floors.values() or [None]
    return floor if floor and not others else None


DATA = (
    "{data.name}", " ({data.digest})", " at {data.size}x{data.size}", " ({config.data.fit})",
    ", {data.n_train} training and {data.n_heldout} held-out images",
)  # fmt: skip
TRAINING = (
    "{config.training.rounds} rounds", " of {config.training.local_epochs} local epochs",
    ", batch {config.training.batch_size}", ", {config.client.optimizer}", ", lr {config.client.lr}",
    " ({config.client.lr_schedule})",
)  # fmt: skip
FEATURES = ("features of {extractor.name}", " ({extractor.digest}, test accuracy {extractor.test_accuracy})")


def caption(results: Results) -> str:
    """What a reader must know of the numbers: data, budget, optimizer, diffusion, sampler, extractor, samples, seeds.

    Settings in which the finished cells differ read "several", those of the diffusion are named as such. What no cell's
    record tells, as those of an earlier version may not, is left out.
    """
    made = [result.model_dump(include={"config", "data", "extractor"}) for result in results.done]
    if not made:
        return "no cell is finished"
    training = _phrases(TRAINING, made).replace(" of 1 local epochs", " of 1 local epoch")
    parts = [
        _phrases(DATA, made),
        training + _client_policy(made),
        _recipe(made, "recipe" in results.extra_axes),
        _phrases(["{config.evaluation.n_samples} samples"], made) + _samplers(made),
        _likelihoods(made),
        _phrases(FEATURES, made),
        _seeds({seed for result in made if (seed := _at(result, "config.seed")) is not None}),
        _loss_scales(made),
    ]
    return "; ".join(part.strip(" ,;") for part in parts if part) or "no setting is recorded"


def _phrases(templates: Sequence[str], trees: Sequence[Mapping[str, Any]]) -> str:
    """The templates whose {paths} all lead somewhere, filled with what is there."""
    values = {
        path: _common(_at(tree, path) for tree in trees) for template in templates for path in _PATHS.findall(template)
    }
    known = [t for t in templates if all(values[path] is not None for path in _PATHS.findall(t))]
    return _PATHS.sub(lambda found: _text(found[1], values[found[1]]), "".join(known))


_PATHS = re.compile(r"\{([\w.]+)\}")


def _text(path: str, value: Any) -> str:
    if path.endswith("digest") and value != SEVERAL:
        return str(value)[:8]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _seeds(seeds: Iterable[int]) -> str:
    """The seeds in order, many that follow one another as "0 to 9"."""
    known = sorted(seeds)
    if not known:
        return ""
    if len(known) > 3 and known == list(range(known[0], known[-1] + 1)):
        return f"seeds {known[0]} to {known[-1]}"
    return f"seed{'' if len(known) == 1 else 's'} {', '.join(map(str, known))}"


def _loss_scales(results: Sequence[Mapping[str, Any]]) -> str:
    """A warning where held-out losses of rows are on different scales."""
    scales = {
        (_at(result, "config.diffusion.schedule"), _at(result, "config.diffusion.T"), _first_stage(result) == "")
        for result in results
    }
    told = "held-out losses compare within one noise schedule, and not between pixels and latents"
    return told if len(scales) > 1 else ""


def _client_policy(results: Sequence[Mapping[str, Any]]) -> str:
    """How clients take part, which is nothing to centralized training."""
    federated = [result["config"] for result in results if _at(result, "config.n_clients") is not None]

    def used(path: str, *usual: Any) -> str:
        found = {value for config in federated if (value := _at(config, path)) is not None}
        return " and ".join(_text(path, value) for value in sorted(found - set(usual)))

    states, names, shares = used("client.optimizer_state"), used("partition.name"), used("training.participation", 1.0)
    told = f", clients' optimizer state: {states}" if states else ""
    told += f"; {names} partition" if names else ""
    told += f", participation {shares}" if shares else ""
    if shares and used("training.sampling") == "poisson":
        told += " by Poisson sampling"
    losses = {name: used(f"training.{name}", 0.0) for name in ("stragglers", "failures")}
    return told + "".join(f", {name} {found}" for name, found in losses.items() if found)


SEVERAL = "several"


def _common(values: Iterable[Any]) -> Any:
    """The one value that all have, else `SEVERAL`."""
    found = {json.dumps(value) for value in values}
    return json.loads(found.pop()) if len(found) == 1 else SEVERAL


def _recipe(results: Sequence[Mapping[str, Any]], named: bool) -> str:
    """What is diffused and learned: first what all cells have in common, then the names of what differs.

    Guidance, latents and importance sampling are told where any cell uses them. `named`: whether cells
    belong to recipes, which tell them apart.
    """
    told: dict[str, list[str]] = {}
    for result in results:
        for name, text in _recipe_parts(result["config"]).items():
            told.setdefault(name, []).append(text)
    common = {name: _common(texts) for name, texts in told.items()}
    parts = [text for text in common.values() if text not in ("", SEVERAL)]
    differing = [name for name, text in common.items() if text == SEVERAL]
    if differing:
        parts.append(f"{'by recipe' if named else 'several values of'}: {', '.join(differing)}")
    return ", ".join(parts)


def _recipe_parts(config: Mapping[str, Any]) -> dict[str, str]:
    """A cell's diffusion by name of the setting; "" for what it does not use, and for what is not known."""

    def told(template: str) -> str:
        return _phrases([template], [config])

    conditional, first_stage = _at(config, "model.class_conditional"), _first_stage({"config": config})
    gamma = told(" (gamma {diffusion.min_snr_gamma})") if _at(config, "diffusion.loss") == "min-snr" else ""
    no_ema, uniform = _at(config, "ema.mode") == "off", _at(config, "diffusion.timesteps") == "uniform"
    federated = {} if config.get("n_clients") is None else {"autoencoder": first_stage}  # centralized has one way
    return {
        "steps of the diffusion": told("T = {diffusion.T}"),
        "noise schedule": told("{diffusion.schedule} noise"),
        "prediction": told("{diffusion.prediction}-prediction"),
        "loss": told("{diffusion.loss} loss") + gamma,
        "variance": told("{diffusion.variance} variance"),
        "timesteps": "" if uniform else told("{diffusion.timesteps} timesteps"),
        "EMA": "no EMA" if no_ema else told("EMA ({ema.mode}, decay {ema.decay})"),
        "classes": "class-conditional" if conditional else "",
        "guidance": told("guidance scale {sampler.guidance_scale}") if conditional else "",
        "latents": "diffusion of latents" if first_stage else "",
    } | federated


def _first_stage(result: Mapping[str, Any]) -> str:
    """Whose autoencoder makes a cell's latents; "" where it diffuses pixels."""
    mode = _at(result, "config.latent.mode")
    return "" if mode in (None, "off") else f"{mode} autoencoder"


def _samplers(results: Sequence[Mapping[str, Any]]) -> str:
    """Each sampler with its steps, eta where DDIM is used, and the spacing where it is not the usual one."""
    samplers = [sampler for result in results if (sampler := _at(result, "config.sampler"))]
    if not samplers:
        return ""
    used = list(dict.fromkeys((sampler.get("name"), sampler.get("steps")) for sampler in samplers))
    (first, steps), rest = used[0], used[1:]
    names = f" by {first} sampling in {steps} steps" + "".join(f", {name} in {number}" for name, number in rest)
    etas = sorted({sampler["eta"] for sampler in samplers if sampler.get("name") == "ddim" and "eta" in sampler})
    spacings = sorted({sampler.get("spacing", "fractional") for sampler in samplers})
    told = [f"DDIM's eta {' and '.join(f'{eta:g}' for eta in etas)}"] if etas else []
    told += [f"{' and '.join(spacings)} spacing"] if spacings != ["fractional"] else []
    return names + (f" ({', '.join(told)})" if told else "")


def _likelihoods(results: Sequence[Mapping[str, Any]]) -> str:
    """Of what bits/dim are, where any cell has them."""
    configs = [result["config"] for result in results if _at(result, "config.evaluation.nll")]
    if not configs:
        return ""
    images = " or ".join(f"{count}" for count in sorted({config["evaluation"]["nll"] for config in configs}))
    steps = sorted({_at(config, "evaluation.nll_steps") or _at(config, "diffusion.T") for config in configs})
    told = f"bits/dim of {images} held-out images over {' or '.join(map(str, steps))} timesteps"
    if any(_at(c, "evaluation.nll_rounded") and _at(c, "data.fit") not in ("none", "pad") for c in configs):
        told += ", of images rounded to 8 bits after resizing: they compare with nothing published"
    return told


def _at(tree: Any, path: str) -> Any:
    """What lies at a dotted path; None where nothing does."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


# ------------------------------------------------------------------------------------------------------------- notes


def notes(shown: Shown, columns: Sequence[Metric], floor: Mapping[str, Any] | None) -> list[str]:
    """Sentences on what stands in these columns: marks, differences and names, each where it occurs.

    Args:
        floor: of `floor_of`.
    """
    table = shown.table
    told = ["Means ± standard deviations over seeds."] if (table["n"] > 1).any() else []
    if (table["n"] < table["planned"]).any():
        told.append("Seeds as k/m: only k of m are finished.")
    told += _marks(shown, columns) + untested_note(shown, columns)
    if any(column.signed for column in columns):
        told.append("Δ: mean difference to centralized training of the same seed.")
    told += [f"{column.name}: {column.about}." for column in columns if column.about]
    if any(column.goal for column in columns):
        told.append("A row has a mean where all its seeds get there, else it says how many do.")
        told += _unknown_note(shown)
    told += _image_notes(shown, columns)
    return told + _floor_note(columns, floor)


def _marks(shown: Shown, columns: Sequence[Metric]) -> list[str]:
    """What bold and underlined numbers are."""
    told = []
    if any(shown.best[column.key] for column in columns):
        further = "".join(f" and {axis}" for axis in shown.extra_axes)
        told.append(f"Best federated strategy of each (n, β){further} in bold.")
    if any(shown.tied[column.key] for column in columns):
        told.append(
            "Underlined: not told apart from the best, as the 95 % interval of the differences by seed includes 0."
        )
    return told


def untested_note(shown: Shown, columns: Sequence[Metric]) -> list[str]:
    """Where too few seeds are shared to tell the best from others."""
    if not any(shown.untested[column.key] for column in columns):
        return []
    if (shown.table["n"] <= 1).all():
        return ["One seed: nothing tells whether the best is better than the others."]
    return ["Where a row shares fewer than two seeds with the best, nothing tells whether the best is better."]


def _unknown_note(shown: Shown) -> list[str]:
    pairs = zip(shown.rows, shown.reach_known, strict=True)
    told = "Known: of seeds whose centralized training is finished."
    return [told] if any(0 < known < row["n"] for row, known in pairs) else []


IMAGES = {
    "fid_bias": "bias by the closed form for Gaussian features with the reference's covariance",
    "fid_images_bias": "bias by a bootstrap over images",
    "fid_images_sd": "standard deviation over resampled images",
}


def _image_notes(shown: Shown, columns: Sequence[Metric]) -> list[str]:
    """How far FIDs can be trusted, for the number of images that they are of."""
    if not any(column.key == "fid" for column in columns):
        return []
    spans = {key: _span(shown.table[key]) for key in IMAGES if key in shown.table}
    told = [f"{IMAGES[key]} {span}" for key, span in spans.items() if span]
    return [f"FID, for its number of images: {'; '.join(told)}."] if told else []


def _span(values: Iterable[float]) -> str:
    """The least and the greatest of the values that there are; "" without any."""
    known = [value for value in values if not math.isnan(value)]
    return " to ".join(dict.fromkeys(f"{value:.2g}" for value in (min(known), max(known)))) if known else ""


def _floor_note(columns: Sequence[Metric], floor: Mapping[str, Any] | None) -> list[str]:
    if not floor:
        return []
    scores = [(column, floor[column.key]) for column in columns if floor.get(column.key) is not None]
    texts = [f"{column.name} {value * column.scale:.3g}" for column, value in scores]
    return [f"For comparison, {real_images(floor, 'held-out ')} score {', '.join(texts)}."] if texts else []


def real_images(floor: Mapping[str, Any], which: str = "") -> str:
    """What the floor is of."""
    return f"{floor['n_generated']} real {which}images" if "n_generated" in floor else f"real {which}images"
