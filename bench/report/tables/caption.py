"""What a reader must know of a grid's numbers: a caption a table, and the whole setting once, for an appendix."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from bench.config.names import value_text
from bench.report.claims import MEASURES, STATEMENTS
from bench.report.metrics import METRICS
from bench.report.results import Results
from bench.report.stats import LEAST_SEEDS
from bench.report.tables.contents import Contents
from bench.report.tables.setting import setting
from bench.report.tables.table import Mark, Table


def row_warnings(results: Results) -> list[str]:
    """What makes rows of one table doubtful to compare: other code, other package versions, other machines."""
    environments = [result.environment for result in results.done if result.environment.model_fields_set]
    packages = sorted({name for environment in environments for name in environment.packages})
    circumstances: dict[str, list[Any]] = {
        "commits of the code": [str(environment.commit)[:10] for environment in environments],
        "states of the working tree (dirty)": [environment.dirty for environment in environments],
        "versions of Python": [environment.python for environment in environments],
        **{f"versions of {name}": [each.packages.get(name) for each in environments] for name in packages},
        "devices, so seconds do not compare": [environment.device for environment in environments],
        "processors, so seconds do not compare": [environment.cpu for environment in environments],
    }
    different = {what: _different(values) for what, values in circumstances.items()}
    return [f"the rows come from different {what}: {values}" for what, values in different.items() if values]


def _different(values: Iterable[Any]) -> str:
    """The values with how many rows have each, if there are several."""
    counts = Counter("unknown" if value is None else str(value) for value in values)
    texts = [f"{value} ({n} cell{'' if n == 1 else 's'})" for value, n in counts.most_common()]
    return ", ".join(texts) if len(texts) > 1 else ""


def floor_of(results: Results) -> dict[str, Any] | None:
    """The scores of other real images, where all finished cells were judged by the same ones; else None."""
    floors = {json.dumps(result.floor, sort_keys=True): result.floor for result in results.done}
    (floor, *others) = floors.values() or [None]
    return floor if floor and not others else None


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
    marks = "; ".join(f"{LOOKS[mark]}: {text}" for mark, text in legend(table))
    notes = [f"{facts}{' (mean ± sd)' if spread else ''}.", *([f"{_capital(marks)}."] if marks else [])]
    return " ".join([f"{table.title}.", *notes])


def of_what(results: Results, samples: bool = True) -> str:
    """The data, the number of samples and the seeds of the finished cells, and how they were tuned; "" without any.

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
        *([f"tuned (k = {results.tuned.trials})"] if results.tuned else []),
    ]
    return ", ".join(facts) if configs else ""


LOOKS: dict[Mark, str] = {"best": "bold", "tied": "underlined"}
TOO_FEW = f"Nothing is marked as the best by fewer than {LEAST_SEEDS} seeds."


def legend(table: Table) -> list[tuple[Mark, str]]:
    """What the marks in a table are."""
    best = "best mean rank" if table.name == "ranks" else "best federated strategy of its split"
    texts: dict[Mark, str] = {"best": best, "tied": "not distinguishable from it"}
    marks = {place.mark for row in table.rows for place in row.places}
    return [(mark, text) for mark, text in texts.items() if mark in marks]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def setup(contents: Contents) -> list[tuple[str, str]]:
    """The whole setting, and how to read the tables: paragraphs with a title each, for an appendix."""
    scores = [f"{metric.name}: {metric.about}." for metric in contents.metrics]
    parts = [
        *setting(contents.results),
        ("Numbers", " ".join(_numbers(contents))),
        ("Metrics", " ".join([*scores, *_of_images(contents), floor_note(contents)]).strip()),
        ("Comparisons", " ".join(_comparisons(contents))),
    ]
    return [(title, text) for title, text in parts if text]


def _numbers(contents: Contents) -> list[str]:
    """What stands in the tables."""
    means = contents.means
    seeds = sorted({cell.labels["seed"] for cell in contents.results.cells if cell.done})
    notes = [f"Seeds: {', '.join(map(str, seeds))}."] if seeds else []
    notes += ["Numbers are means ± standard deviations over seeds."] if (means["n"] > 1).any() else []
    if (means["n"] < means["planned"]).any():
        notes.append("k/m: k of the m planned seeds.")
    marks = {mark for of_rows in contents.marks.values() for mark in of_rows}
    if "best" in marks:
        axes = ", ".join(contents.heading(axis) for axis in contents.axes[1:])
        notes.append(f"A split is one combination of ({axes}); strategies are compared within it.")
    if "tied" in marks:
        notes.append(
            "A strategy counts as distinguishable from the best of its split where Tukey's range test over all of the "
            "split's strategies, with seeds as blocks, tells it apart at 5 %, and the 95 % t interval of its "
            "differences to the best, paired by seed, excludes 0."
        )
    notes += untested_note(contents)
    if any(metric.goal for metric in contents.metrics):
        notes.append(REACHED)
        known = zip(contents.records, contents.seeds["reached_centralized"], strict=True)
        if any(0 < count < row["n"] for row, count in known):
            notes.append("Known are seeds whose centralized training is finished.")
    return notes


def untested_note(contents: Contents) -> list[str]:
    """Why rows have no mark that have too few seeds for one."""
    return [TOO_FEW] if any("untested" in marks for marks in contents.marks.values()) else []


def _of_images(contents: Contents) -> list[str]:
    """How far FIDs can be trusted, for the number of images that they are of."""
    if not any(metric.key == "fid" for metric in contents.metrics):
        return []
    keys = [key for key in ("fid_bias", "fid_images_bias", "fid_images_sd") if key in contents.means]
    found = {METRICS[key].about: span(contents.means[key]) for key in keys}
    texts = [f"{about} ({ends})" for about, ends in found.items() if ends]
    return [f"At this number of images: {', '.join(texts)}."] if texts else []


def span(values: Iterable[float]) -> str:
    """The least and the greatest of the values that there are; "" without any."""
    known = [value for value in values if not math.isnan(value)]
    return " to ".join(dict.fromkeys(f"{value:.2g}" for value in (min(known), max(known)))) if known else ""


def floor_note(contents: Contents) -> str:
    """What other real images score, "" where that is not known."""
    floor = floor_of(contents.results) or {}
    scores = [(metric, floor[metric.key]) for metric in contents.metrics if floor.get(metric.key) is not None]
    texts = [f"{metric.name} {value * metric.scale:.3g}".replace(" -", " −") for metric, value in scores]
    return f"For comparison, {real_images(floor, 'other ')} score {', '.join(texts)}." if texts else ""


def real_images(floor: Mapping[str, Any], which: str = "") -> str:
    """What the floor is of."""
    count = f"{floor['n_generated']} " if "n_generated" in floor else ""
    return f"{count}{which}real images"


def _comparisons(contents: Contents) -> list[str]:
    """How rows were compared."""
    table = contents.differences
    notes = ["Differences are means over seeds with 95 % t intervals."] if table["low"].notna().any() else []
    if table["p_t_holm"].notna().any():
        notes.append(
            "p is of the paired t test, with Holm's adjustment over all comparisons of a metric, or, of contrasts, "
            "over those along one axis."
        )
    if table["p_sign_holm"].notna().any():
        notes.append("p (flips) is the exact one of all sign flips of the differences, adjusted alike.")
    notes += [CLAIMS] if contents.answers is not None else []
    return notes + _caveats(contents.results)


def _caveats(results: Results) -> list[str]:
    """What may not be compared."""
    configs = [result.config for result in results.done]
    scales = {tuple(_at(config, f"diffusion.{key}") for key in ("schedule", "T")) for config in configs}
    spaces = {_at(config, "latent.mode") in (None, "off") for config in configs}
    notes = ["Validation and test losses are comparable within one noise schedule only."] if len(scales) > 1 else []
    notes += ["Validation and test losses of images and of latents are not comparable."] if len(spaces) > 1 else []
    if any(_at(c, "evaluation.nll_rounded") and _at(c, "data.fit") not in ("none", "pad") for c in configs):
        notes.append("Bits/dim are of images rounded to 8 bits after resizing; no published numbers compare with them.")
    return notes


REACHED = (
    "The cost of reaching centralized training's loss is a mean where every finished seed of a row reaches it; "
    "elsewhere the table says how many seeds do."
)
CLAIMS = (
    "Claims are answered by two measures: paper is the running training loss, fair the global model's loss on "
    f"validation images. Each of the {len(STATEMENTS) * len(MEASURES)} answers has a 95 % t interval over seeds, not "
    "adjusted for their number."
)
