"""What a reader must know of a grid's numbers, told from its cells' configs and results."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.store import Store
from bench.tables.columns import Column, Shown


def warnings(store: Store) -> list[str]:
    """What makes rows of one table doubtful to compare: other code, other package versions, other machines."""
    made = [environment for result in _results(store) if (environment := result.get("environment"))]
    packages = sorted({name for environment in made for name in environment.get("packages", {})})
    told = {
        "commits of the code": _different(str(environment.get("commit"))[:10] for environment in made),
        "states of the working tree (dirty)": _different(environment.get("dirty") for environment in made),
        "versions of Python": _different(environment.get("python") for environment in made),
        **{
            f"versions of {name}": _different(environment.get("packages", {}).get(name) for environment in made)
            for name in packages
        },
        "devices, so seconds do not compare": _different(environment.get("device") for environment in made),
        "processors, so seconds do not compare": _different(environment.get("cpu") for environment in made),
    }
    return [f"the rows come from different {what}: {values}" for what, values in told.items() if values]


def _different(values: Iterable[Any]) -> str:
    """The values with how many rows have each, if there are several."""
    counts = Counter("unknown" if value is None else str(value) for value in values)
    told = [f"{value} ({n} cell{'' if n == 1 else 's'})" for value, n in counts.most_common()]
    return ", ".join(told) if len(told) > 1 else ""


def _results(store: Store) -> list[dict[str, Any]]:
    """result.json of all finished cells, in the plan's order."""
    return [result for cell in store.planned() if (result := store.cell(cell.cell_id).result()) is not None]


def floor_of(store: Store) -> dict[str, Any] | None:
    """The scores of real held-out images, where all finished cells were judged by the same ones; else None."""
    floors = {json.dumps(result["floor"], sort_keys=True): result["floor"] for result in _results(store)}
    return dict(next(iter(floors.values()))) if len(floors) == 1 else None


def caption(store: Store) -> str:
    """What a reader must know of the numbers: data, budget, optimizer, diffusion, sampler, extractor, samples, seeds.

    Settings in which the finished cells differ read "several", those of the diffusion are named as such.
    """
    results = _results(store)
    if not results:
        return "no cell is finished"

    def one(*path: str) -> str:
        value = _common(_at(result, path) for result in results)
        return f"{value:g}" if isinstance(value, float) else str(value)

    epochs, size = one("config", "training", "local_epochs"), one("data", "size")
    data, extractor = (_short(one(name, "digest")) for name in ("data", "extractor"))
    return (
        f"{one('data', 'name')} ({data}) at {size}x{size} ({one('config', 'data', 'fit')}), "
        f"{one('data', 'n_train')} training "
        f"and {one('data', 'n_heldout')} held-out images; {one('config', 'training', 'rounds')} rounds of "
        f"{epochs} local epoch{'' if epochs == '1' else 's'}, batch {one('config', 'training', 'batch_size')}, "
        f"{one('config', 'client', 'optimizer')}, lr {one('config', 'client', 'lr')} "
        f"({one('config', 'client', 'lr_schedule')}){_client_policy(results)}; "
        f"{_recipe(results, 'recipe' in store.plan()['extra_axes'])}; "
        f"{one('config', 'evaluation', 'n_samples')} samples by {_samplers(results)}{_likelihoods(results)}; "
        f"features of {one('extractor', 'name')} "
        f"({extractor}, test accuracy {one('extractor', 'test_accuracy')}); "
        f"{_seeds({result['config']['seed'] for result in results})}{_loss_scales(results)}"
    )


def _short(digest: str) -> str:
    """The beginning of a digest."""
    return digest if digest == SEVERAL else digest[:8]


def _seeds(seeds: Iterable[int]) -> str:
    """The seeds in order, many that follow one another as "0 to 9"."""
    known = sorted(seeds)
    if len(known) > 3 and known == list(range(known[0], known[-1] + 1)):
        return f"seeds {known[0]} to {known[-1]}"
    return f"seed{'' if len(known) == 1 else 's'} {', '.join(map(str, known))}"


def _loss_scales(results: Sequence[Mapping[str, Any]]) -> str:
    """A warning where held-out losses of rows are on different scales."""
    scales = {
        (c["diffusion"]["schedule"], c["diffusion"]["T"], c["latent"]["mode"] == "off")
        for c in (result["config"] for result in results)
    }
    told = "; held-out losses compare within one noise schedule, and not between pixels and latents"
    return told if len(scales) > 1 else ""


def _client_policy(results: Sequence[Mapping[str, Any]]) -> str:
    """How clients take part, which is nothing to centralized training."""
    federated = [result["config"] for result in results if result["config"]["n_clients"] is not None]
    states = sorted({config["client"]["optimizer_state"] for config in federated})
    shares = sorted({config["training"]["participation"] for config in federated} - {1.0})
    names = sorted({config["partition"]["name"] for config in federated})
    losses = {
        name: sorted({config["training"].get(name, 0.0) for config in federated} - {0.0})
        for name in ("stragglers", "failures")
    }
    told = f", clients' optimizer state: {' and '.join(states)}; {' and '.join(names)} partition" if federated else ""
    told += f", participation {' and '.join(f'{share:g}' for share in shares)}" if shares else ""
    if shares and {config["training"].get("sampling") for config in federated} == {"poisson"}:
        told += " by Poisson sampling"
    return told + "".join(
        f", {name} {' and '.join(f'{x:g}' for x in found)}" for name, found in losses.items() if found
    )


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
    """A cell's diffusion by name of the setting; "" for what it does not use."""
    d, ema, latent, scale = config["diffusion"], config["ema"], config["latent"], config["sampler"]["guidance_scale"]
    conditional = config["model"]["class_conditional"]
    first_stage = "" if latent["mode"] == "off" else f"{latent['mode']} autoencoder"
    federated = {} if config["n_clients"] is None else {"autoencoder": first_stage}  # centralized training has one way
    return {
        "steps of the diffusion": f"T = {d['T']}",
        "noise schedule": f"{d['schedule']} noise",
        "prediction": f"{d['prediction']}-prediction",
        "loss": f"{d['loss']} loss" + (f" (gamma {d['min_snr_gamma']:g})" if d["loss"] == "min-snr" else ""),
        "variance": f"{d['variance']} variance",
        "timesteps": "" if d["timesteps"] == "uniform" else f"{d['timesteps']} timesteps",
        "EMA": "no EMA" if ema["mode"] == "off" else f"EMA ({ema['mode']}, decay {ema['decay']:g})",
        "classes": "class-conditional" if conditional else "",
        "guidance": f"guidance scale {scale:g}" if conditional else "",
        "latents": "" if latent["mode"] == "off" else "diffusion of latents",
    } | federated


def _samplers(results: Sequence[Mapping[str, Any]]) -> str:
    """Each sampler with its steps, eta where DDIM is used, and the spacing where it is not the usual one."""
    samplers = [result["config"]["sampler"] for result in results]
    used = list(dict.fromkeys((sampler["name"], sampler["steps"]) for sampler in samplers))
    (first, steps), rest = used[0], used[1:]
    names = f"{first} sampling in {steps} steps" + "".join(f", {name} in {number}" for name, number in rest)
    etas = sorted({sampler["eta"] for sampler in samplers if sampler["name"] == "ddim"})
    spacings = sorted({sampler["spacing"] for sampler in samplers})
    told = [f"DDIM's eta {' and '.join(f'{eta:g}' for eta in etas)}"] if etas else []
    told += [f"{' and '.join(spacings)} spacing"] if spacings != ["fractional"] else []
    return names + (f" ({', '.join(told)})" if told else "")


def _likelihoods(results: Sequence[Mapping[str, Any]]) -> str:
    """Of what bits/dim are, where any cell has them."""
    configs = [result["config"] for result in results if result["config"]["evaluation"]["nll"]]
    if not configs:
        return ""
    images = " or ".join(f"{count}" for count in sorted({config["evaluation"]["nll"] for config in configs}))
    steps = sorted({config["evaluation"]["nll_steps"] or config["diffusion"]["T"] for config in configs})
    told = f"; bits/dim of {images} held-out images over {' or '.join(map(str, steps))} timesteps"
    if any(c["evaluation"]["nll_rounded"] and c["data"]["fit"] not in ("none", "pad") for c in configs):
        told += ", of images rounded to 8 bits after resizing: they compare with nothing published"
    return told


def _at(tree: Any, path: Sequence[str]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


# ------------------------------------------------------------------------------------------------------------- notes


def notes(shown: Shown, columns: Sequence[Column], floor: Mapping[str, Any] | None) -> list[str]:
    """Sentences on what stands in these columns: marks, differences and names, each where it occurs.

    Args:
        floor: of `floor_of`.
    """
    table = shown.table
    told = ["Means ± standard deviations over seeds."] if (table["n"] > 1).any() else []
    if (table["n"] < table["planned"]).any():
        told.append("Seeds as k/m: only k of m are finished.")
    told += _marks(shown, columns)
    if any(column.signed for column in columns):
        told.append("Δ: mean difference to centralized training of the same seed.")
    told += [f"{column.name}: {column.about}." for column in columns if column.about]
    if any(column.goal for column in columns):
        told.append("A row has a mean where all its seeds get there, else it says how many do.")
    told += _image_notes(shown, columns)
    return told + _floor_note(columns, floor)


def _marks(shown: Shown, columns: Sequence[Column]) -> list[str]:
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


def _image_notes(shown: Shown, columns: Sequence[Column]) -> list[str]:
    """How far FIDs can be trusted, for the number of images that they are of."""
    if not any(column.key == "fid" for column in columns):
        return []
    bias, sd = (_span(shown.table[key]) for key in ("fid_bias", "fid_images_sd"))
    told = [f"its expected bias from the number of images is {bias} (closed form)"] if bias else []
    told += [f"its standard deviation over resampled images {sd}"] if sd else []
    return [f"FID: {', '.join(told)}."] if told else []


def _span(values: Iterable[float]) -> str:
    """The least and the greatest of the values that there are; "" without any."""
    known = [value for value in values if not math.isnan(value)]
    return " to ".join(dict.fromkeys(f"{value:.2g}" for value in (min(known), max(known)))) if known else ""


def _floor_note(columns: Sequence[Column], floor: Mapping[str, Any] | None) -> list[str]:
    if not floor:
        return []
    scores = [(column, floor[column.key]) for column in columns if floor.get(column.key) is not None]
    texts = [f"{column.name} {value * column.scale:.3g}" for column, value in scores]
    return [f"For comparison, {floor['n_generated']} real held-out images score {', '.join(texts)}."] if texts else []
