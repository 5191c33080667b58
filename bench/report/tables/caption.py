"""What a reader must know of a grid's numbers: a caption a table, and once the whole setting, for an appendix."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.config.cell import flatten
from bench.config.names import CENTRALIZED, value_text
from bench.config.plugin import Plugin
from bench.report.claims import MEASURES, STATEMENTS
from bench.report.metrics import METRICS
from bench.report.results import Results
from bench.report.tables.contents import Contents
from bench.report.tables.table import Table


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


# ------------------------------------------------------------------------------------------------------------- setting

DIGEST = 12  # digits of one that are shown
LEFT_OUT = ("extractor_weights", "device")  # of a machine, not of an experiment
PLUGINS = ("strategy", "partition")
SPLIT = "cell.partition"  # which centralized training has none of
IN_TABLES = ("n_clients", "beta", "seed", "recipe")  # beside strategies


def setting(results: Results) -> list[tuple[str, str]]:
    """All settings of the finished cells, a text a section of their configuration.

    Where cells differ all values stand, ``reset / keep (centralized)``, with the recipes that have them. Strategies,
    numbers of clients, betas and seeds stand in the tables.
    """
    made = [cell for cell in results.cells if cell.result]
    trees = [_tree(cell.result.model_dump(include={"config", "data", "extractor"})) for cell in made if cell.result]
    owners = [str(cell.labels["recipe"]) if "recipe" in cell.labels else CENTRALIZED * cell.central for cell in made]
    sections: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for tree in trees for key, _ in flatten(tree)):
        section, _, name = key.partition(".")
        if name not in LEFT_OUT:
            known = [pair for pair in zip(trees, owners, strict=True) if key != SPLIT or _at(pair[0], key)]
            texts = [value_text(_at(tree, key))[: DIGEST if name == "digest" else None] for tree, _ in known]
            if texts:
                sections.setdefault(section, []).append(f"{name} {_values(texts, [owner for _, owner in known])}")
    return [(section, ", ".join(texts)) for section, texts in sections.items()]


def _tree(made: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says of its setting, in sections; fields without one stand in "cell"."""
    config, data, extractor = made["config"], made["data"] or {}, {"extractor": made["extractor"] or {}}
    if not config:
        return extractor
    sections = {key: value for key, value in config.items() if isinstance(value, dict) and key not in PLUGINS}
    own = {key: value for key, value in config.items() if key not in (*sections, *PLUGINS, *IN_TABLES)}
    partition = Plugin.model_validate(config["partition"]).label if config.get("partition") else None
    images = {key: data[key] for key in ("digest", "n_train", "n_heldout") if key in data}
    return {"cell": {"partition": partition} | own} | sections | {"data": sections.get("data", {}) | images} | extractor


def _values(texts: Sequence[str], owners: Sequence[str]) -> str:
    """The different ones; of several each with those that have it, and with nothing where all kinds of cells do."""
    by_text: dict[str, list[str]] = {}
    for text, owner in zip(texts, owners, strict=True):
        if owner not in by_text.setdefault(text, []):
            by_text[text].append(owner)
    if len(by_text) == 1:
        return texts[0]
    every = set(owners)
    return " / ".join(
        text + (f" ({', '.join(of)})" if all(of) and set(of) != every else "") for text, of in by_text.items()
    )


def _at(tree: Any, path: str) -> Any:
    """What lies at a dotted path; None where nothing does."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


# ------------------------------------------------------------------------------------------------------------ captions


def caption(contents: Contents, table: Table) -> str:
    """A table's title, with the data, the number of samples and the seeds, and what its marks are: a few lines."""
    facts = of_what(contents.results)
    if not facts:
        return f"{table.title}. No cell is finished."
    spread = any("±" in place.beside for row in table.rows for place in row.places)
    return " ".join([f"{table.title}.", f"{facts}{' (mean ± sd)' if spread else ''}.", *_marks(contents, table)])


def of_what(results: Results, samples: bool = True) -> str:
    """The data, the number of samples and the seeds of the finished cells; "" without any.

    Args:
        samples: whether the number of samples is among them, which what shows no score of images does without.
    """
    configs = [result.config for result in results.done]
    name, size, count = (
        " / ".join(dict.fromkeys(value_text(_at(config, key)) for config in configs))
        for key in ("data.name", "data.size", "evaluation.n_samples")
    )
    seeds = len({_at(config, "seed") for config in configs} - {None})
    facts = [
        f"{name} at {' / '.join(f'{side}×{side}' for side in size.split(' / '))}",
        *([f"{count} samples"] if samples else []),
        f"{seeds} seed{'' if seeds == 1 else 's'}",
    ]
    return ", ".join(facts) if configs else ""


def _marks(contents: Contents, table: Table) -> list[str]:
    """What bold and underlined numbers are, where there are any."""
    marks = {place.mark for row in table.rows for place in row.places}
    told = [f"Bold: best{'' if table.name == 'ranks' else ' of its split'}"] if "best" in marks else []
    told += ["underlined: the seeds do not tell it from the best"] if "tied" in marks else []
    if "best" in marks and (contents.means["n"] <= 1).all():
        told.append("of one seed nothing tells whether it is better")
    return ["; ".join(told) + "."] if told else []


def setup(contents: Contents) -> list[tuple[str, str]]:
    """The whole setting, and how to read the tables: paragraphs with a title each, for an appendix."""
    parts = [("Setting", "; ".join(f"{section}: {text}" for section, text in setting(contents.results)))]
    parts.append(("Numbers", " ".join(_numbers(contents))))
    scores = [f"{metric.name}: {metric.about}." for metric in contents.metrics if metric.about]
    parts.append(("Metrics", " ".join([*scores, *_of_images(contents), floor_note(contents)]).strip()))
    parts.append(("Comparisons", " ".join(_comparisons(contents))))
    return [(title, text) for title, text in parts if text]


def _numbers(contents: Contents) -> list[str]:
    """What stands in the tables."""
    means = contents.means
    seeds = sorted({cell.labels["seed"] for cell in contents.results.cells if cell.done})
    told = [f"Seeds: {', '.join(map(str, seeds))}."] if seeds else []
    told += ["Means ± standard deviations over seeds."] if (means["n"] > 1).any() else []
    if (means["n"] < means["planned"]).any():
        told.append("Seeds as k/m: only k of m are finished.")
    marks = {mark for of_rows in contents.marks.values() for mark in of_rows}
    if "best" in marks:
        axes = ", ".join(contents.heading(axis) for axis in contents.axes[1:])
        told.append(f"Best federated strategy of each ({axes}) in bold.")
    if "tied" in marks:
        told.append(
            "Underlined: not told apart from the best, as the 95 % interval of the differences by seed includes 0."
        )
    told += untested_note(contents)
    if any(metric.minus for metric in contents.metrics):
        told.append("Δ: mean difference to centralized training of the same seed.")
    if any(metric.goal for metric in contents.metrics):
        told.append(REACHED)
        known = zip(contents.records, contents.seeds["reached_centralized"], strict=True)
        if any(0 < count < row["n"] for row, count in known):
            told.append("Known: of seeds whose centralized training is finished.")
    return told


def untested_note(contents: Contents) -> list[str]:
    """Where too few seeds are shared to tell the best from others."""
    if not any("untested" in marks for marks in contents.marks.values()):
        return []
    if (contents.means["n"] <= 1).all():
        return ["One seed: nothing tells whether the best is better than the others."]
    return ["Where a row shares fewer than two seeds with the best, nothing tells whether the best is better."]


def _of_images(contents: Contents) -> list[str]:
    """How far FIDs can be trusted, for the number of images that they are of."""
    if not any(metric.key == "fid" for metric in contents.metrics):
        return []
    keys = [key for key in ("fid_bias", "fid_images_bias", "fid_images_sd") if key in contents.means]
    told = [f"{METRICS[key].about} {span}" for key in keys if (span := _span(contents.means[key]))]
    return [f"FID, for its number of images: {'; '.join(told)}."] if told else []


def _span(values: Iterable[float]) -> str:
    """The least and the greatest of the values that there are; "" without any."""
    known = [value for value in values if not math.isnan(value)]
    return " to ".join(dict.fromkeys(f"{value:.2g}" for value in (min(known), max(known)))) if known else ""


def floor_note(contents: Contents) -> str:
    """What real held-out images score, "" where that is not known."""
    floor = floor_of(contents.results)
    known = [(metric, floor[metric.key]) for metric in contents.metrics if floor and floor.get(metric.key) is not None]
    texts = [f"{metric.name} {value * metric.scale:.3g}".replace(" -", " −") for metric, value in known]
    return f"For comparison, {real_images(floor, 'held-out ')} score {', '.join(texts)}." if floor and texts else ""


def real_images(floor: Mapping[str, Any], which: str = "") -> str:
    """What the floor is of."""
    return f"{floor['n_generated']} real {which}images" if "n_generated" in floor else f"real {which}images"


def _comparisons(contents: Contents) -> list[str]:
    """How rows were compared."""
    table = contents.differences
    told = ["Mean differences with 95 % t intervals over seeds."] if table["low"].notna().any() else []
    if table["p_holm"].notna().any():
        told.append("p: two-sided sign-flip test, after Holm's adjustment over all comparisons of a metric.")
    if table["images_low"].notna().any():
        told.append(
            "Of images: 95 % bootstrap interval of the difference between the models' expected FIDs at as many images."
        )
    told += list(CLAIMS) if contents.answers is not None else []
    return told + _caveats(contents.results)


def _caveats(results: Results) -> list[str]:
    """What may not be compared."""
    configs = [result.config for result in results.done]
    scales = {tuple(_at(config, f"diffusion.{key}") for key in ("schedule", "T")) for config in configs}
    spaces = {_at(config, "latent.mode") in (None, "off") for config in configs}
    told = ["Held-out losses compare within one noise schedule."] if len(scales) > 1 else []
    told += ["Held-out losses do not compare between pixels and latents."] if len(spaces) > 1 else []
    if any(_at(c, "evaluation.nll_rounded") and _at(c, "data.fit") not in ("none", "pad") for c in configs):
        told.append("Bits/dim are of images rounded to 8 bits after resizing: they compare with nothing published.")
    return told


REACHED = (
    "Of what it costs to reach centralized training a row has a mean where all its seeds get there, else it says how "
    "many do."
)
CLAIMS = (
    "Claims: the measure paper is the running training loss, fair the global model's loss on held-out images; values "
    f"with t intervals over seeds, {len(STATEMENTS) * len(MEASURES)} answers, each at 95 % by itself and not adjusted "
    "for their number.",
)
