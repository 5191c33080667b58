"""Tables of a grid: tidy rows, a summary as CSV, LaTeX and on the terminal. Pure functions of the results' files."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from bench.files import write_bytes
from bench.store import FAILURES, Store
from bench.summary import AXES, cell_rows, summarise

MISSING = "--"


@dataclass(frozen=True)
class Column:
    """A metric as the summary shows it.

    Attributes:
        key: its name in the rows.
        head, latex: how it is headed on the terminal and in LaTeX.
        better: -1 if lower is better, 1 if higher is, 0 if neither (then no best is marked).
        scale: what values are multiplied by before they are shown.
        digits: after the point; None for as many as the values ask for.
        like: key of the column whose number of digits is taken.
        spread: where the standard deviation is shown, too.
        signed: whether a plus sign is written.
    """

    key: str
    head: str
    latex: str
    better: int = 0
    scale: float = 1.0
    digits: int | None = None
    like: str = ""
    spread: Literal["", "latex", "both"] = ""
    signed: bool = False


COLUMNS = (
    Column("fid", "FID", "FID", -1, spread="both"),
    Column("fid_minus_centralized", "ΔFID", r"$\Delta$FID", like="fid", spread="latex", signed=True),
    Column("fid_avg", "FID\navg", "FID-avg", -1, like="fid", spread="latex"),
    Column("reconstruction_fid", "rec.\nFID", "rec. FID", like="fid"),
    Column("kid_mean", "KID\n·10³", r"KID$\cdot 10^3$", -1, 1e3, spread="latex"),
    Column("is_mean", "IS", "IS", 1, digits=2, spread="latex"),
    Column("class_tv", "class\nTV", "TV", -1, digits=3, spread="latex"),
    Column("label_accuracy", "asked\nclass", "asked class", 1, digits=3, spread="latex"),
    Column("bits_per_dim", "bits/\ndim", "bits/dim", -1, digits=3, spread="latex"),
    Column("heldout_loss", "held-out\nloss", "held-out", -1, digits=4, spread="both"),
    Column(
        "heldout_loss_minus_centralized", "Δ held-\nout", r"$\Delta$held-out", digits=4, spread="latex", signed=True
    ),
    Column("train_loss", "train\nloss", "train", digits=4),
    Column("epsilon", "ε", r"$\epsilon$", -1, digits=1),
    Column("megabytes", "MB", "MB", digits=1),
    Column("seconds", "s", "s", digits=0),
)


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


def write_tables(store: Store) -> list[Path]:
    """Write summary.csv, summary_table.csv and summary_table.tex into the grid's folder; returns their paths."""
    rows = cell_rows(store)
    table = summarise(rows, store.plan()["extra_axes"])
    texts = {
        "summary.csv": rows.to_csv(index=False),
        "summary_table.csv": table.to_csv(index=False),
        "summary_table.tex": latex_table(store, table),
    }
    for name, text in texts.items():
        write_bytes(store.root / name, text.encode())
    return [store.root / name for name in texts]


# ---------------------------------------------------------------------------------------------- texts of cells


@dataclass(frozen=True)
class Shown:
    """A summary made ready to be shown: which columns, with how many digits, and which rows are best in which."""

    table: pd.DataFrame
    columns: tuple[Column, ...]
    digits: dict[str, int]
    best: dict[str, set[int]]

    def row(self, index: int, spreads: Sequence[str], plus_minus: str, minus: str) -> list[str]:
        """The metrics' texts of one row, standard deviations where the column's `spread` is among `spreads`.

        A row without a finished cell says in the first place why. `plus_minus` is the standard deviation's format.
        """
        values = self.table.loc[index]
        formats = [plus_minus if column.spread in spreads else "" for column in self.columns]
        texts = [self._text(values, *pair, minus) for pair in zip(self.columns, formats, strict=True)]
        if values["n"] == 0:
            texts[0] = next(state for state in (*FAILURES, "missing") if state in values["unfinished"])
        return texts

    def _text(self, values: pd.Series, column: Column, plus_minus: str, minus: str) -> str:
        mean, sd = values[column.key], values[f"{column.key}_sd"]
        if math.isnan(mean):
            return MISSING
        text = number(mean * column.scale, self.digits[column.key], column.signed, minus)
        if not plus_minus or math.isnan(sd):
            return text
        return text + plus_minus.format(number(sd * column.scale, self.digits[column.key]))


def prepare(table: pd.DataFrame, extra_axes: Sequence[str]) -> Shown:
    """The columns that have any number (FID always), with their digits and best rows."""
    columns = tuple(column for column in COLUMNS if column.key == "fid" or table[column.key].notna().any())
    digits = {column.key: _digits(table, column) for column in columns}
    best = {column.key: best_rows(table, column, digits[column.key], extra_axes) for column in columns}
    return Shown(table, columns, digits, best)


def _digits(table: pd.DataFrame, column: Column) -> int:
    """Digits after the point: given, or three significant ones of the smallest, at most four of the largest."""
    if column.digits is not None:
        return column.digits
    source = next(c for c in COLUMNS if c.key == (column.like or column.key))
    sizes = (table[source.key] * source.scale).abs()
    sizes = sizes[sizes > 0]
    if sizes.empty:
        return 2
    smallest, largest = (math.floor(math.log10(size)) for size in (sizes.min(), sizes.max()))
    return min(6, max(1, min(2 - smallest, 3 - largest)))


def number(value: float, digits: int, signed: bool = False, minus: str = "-") -> str:
    """A number with `digits` after the point; what rounds to zero has no sign."""
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    return text[1:] if float(text) == 0 and text[0] in "+-" else text.replace("-", minus)


def best_rows(table: pd.DataFrame, column: Column, digits: int, extra_axes: Sequence[str]) -> set[int]:
    """Index of the best federated row of each (n_clients, beta, further axes) with two rows or more, ties together.

    Rows tie that show the same number.
    """
    best: set[int] = set()
    if not column.better:
        return best
    federated = table[table["n_clients"].notna() & table[column.key].notna()]
    for _, block in federated.groupby(["n_clients", "beta", *extra_axes], dropna=False):
        values = (block[column.key] * column.scale).round(digits)
        top = values.max() if column.better > 0 else values.min()
        if len(block) > 1:
            best |= set(block.index[values == top])
    return best


def axis_text(value: Any) -> str:
    """An axis's value: whole numbers without a point, nothing as `MISSING`."""
    if pd.isna(value):
        return MISSING
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def seeds_text(row: pd.Series) -> str:
    """How many seeds stand behind a row: "3", or "1/3" where some are missing or failed."""
    return str(row["n"]) if row["n"] == row["planned"] else f"{row['n']}/{row['planned']}"


def floor_of(store: Store) -> dict[str, Any] | None:
    """The scores of real held-out images, where all finished cells were judged by the same ones; else None."""
    floors = {json.dumps(result["floor"], sort_keys=True): result["floor"] for result in _results(store)}
    return dict(next(iter(floors.values()))) if len(floors) == 1 else None


# ---------------------------------------------------------------------------------------------- terminal


def terminal_table(store: Store) -> Table:
    """The summary for a terminal, the best of each (n_clients, beta) in bold, the real images' floor below."""
    plan = store.plan()
    extra_axes = plan["extra_axes"]
    shown = prepare(summarise(cell_rows(store), extra_axes), extra_axes)
    made = Table(
        title=terminal_text(f"grid {plan['name']}"),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in ("strategy", "n", "beta", *extra_axes, "seeds"):
        made.add_column(terminal_text(name), justify="left" if name == "strategy" else "right", no_wrap=True)
    for column in shown.columns:
        made.add_column(f"{column.head}{_arrow(column, '↓', '↑')}", justify="right", no_wrap=True)
    last = None
    for index, row in shown.table.iterrows():
        block = (axis_text(row["n_clients"]), axis_text(row["beta"]))
        if last is not None and block != last:
            made.add_section()
        last = block
        texts = shown.row(index, ("both",), "±{}", "-")
        made.add_row(
            *(terminal_text(axis_text(row[axis])) for axis in (*AXES, *extra_axes)),
            seeds_text(row),
            *_marked(shown, index, texts, "[bold]{}[/bold]"),
        )
    _add_floor(made, store, shown, len(extra_axes) + 3)
    return made


def terminal_text(text: str) -> Text:
    """`text` as it is, with question marks for control characters: it can neither colour nor move nor retitle."""
    return Text("".join(c if c.isprintable() else "?" for c in text))


def _arrow(column: Column, lower: str, higher: str) -> str:
    return {-1: f" {lower}", 1: f" {higher}", 0: ""}[column.better]


def _marked(shown: Shown, index: int, texts: Sequence[str], mark: str) -> list[str]:
    """The texts with the best ones in `mark`."""
    pairs = zip(texts, shown.columns, strict=True)
    return [mark.format(text) if index in shown.best[column.key] else text for text, column in pairs]


def _add_floor(made: Table, store: Store, shown: Shown, blanks: int) -> None:
    floor = floor_of(store)
    if floor:
        values = [(floor.get(column.key), column) for column in shown.columns]
        texts = ["" if v is None else number(v * c.scale, shown.digits[c.key]) for v, c in values]
        made.add_section()
        made.add_row(f"{floor['n_generated']} real images", *[""] * blanks, *texts, style="dim")


# ---------------------------------------------------------------------------------------------- caption, LaTeX


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

    epochs = one("config", "training", "local_epochs")
    size, digest, accuracy = one("data", "size"), one("extractor", "digest"), one("extractor", "test_accuracy")
    return (
        f"{one('data', 'name')} at {size}x{size} ({one('config', 'data', 'fit')}), {one('data', 'n_train')} training "
        f"and {one('data', 'n_heldout')} held-out images; {one('config', 'training', 'rounds')} rounds of "
        f"{epochs} local epoch{'' if epochs == '1' else 's'}, batch {one('config', 'training', 'batch_size')}, "
        f"{one('config', 'client', 'optimizer')}, lr {one('config', 'client', 'lr')} "
        f"({one('config', 'client', 'lr_schedule')}){_client_policy(results)}; "
        f"{_recipe(results, 'recipe' in store.plan()['extra_axes'])}; "
        f"{one('config', 'evaluation', 'n_samples')} samples by {_samplers(results)}{_likelihoods(results)}; "
        f"features of {one('extractor', 'name')} "
        f"({digest if digest == 'several' else digest[:8]}, test accuracy {accuracy}); "
        f"seeds {', '.join(map(str, sorted({result['config']['seed'] for result in results})))}{_loss_scales(results)}"
    )


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

    EMA, guidance, latents and importance sampling are told where any cell uses them. `named`: whether cells
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
        "EMA": "" if ema["mode"] == "off" else f"EMA ({ema['mode']}, decay {ema['decay']:g})",
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


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{character: f"{{{character}}}" for character in "[]*"},  # which a line's end before them would take as its own
    **dict.fromkeys("\t\n\v\f\r", " "),
}


def escape(text: str) -> str:
    """`text` with LaTeX's special characters escaped; what is not printable ASCII becomes a question mark."""
    return "".join(_LATEX.get(c, c if c.isascii() and c.isprintable() else "?") for c in text)


def latex_table(store: Store, table: pd.DataFrame) -> str:
    """The summary as a LaTeX table for booktabs: centralized training first, the best of each (n, beta) in bold."""
    plan = store.plan()
    extra_axes = plan["extra_axes"]
    shown = prepare(table, extra_axes)
    blocks: dict[tuple[str, str], list[list[str]]] = {}
    for index, row in table.iterrows():
        axes = [escape(axis_text(row[axis])) for axis in (*AXES, *extra_axes)]
        texts = shown.row(index, ("both", "latex"), r"$_{{\pm {}}}$", "$-$")
        blocks.setdefault((axes[1], axes[2]), []).append(
            [*axes, seeds_text(row), *_marked(shown, index, texts, r"\textbf{{{}}}")]
        )
    heads = [column.latex + _arrow(column, r"$\downarrow$", r"$\uparrow$") for column in shown.columns]
    return _template("summary.tex.jinja").render(
        caption=_latex_caption(store, table),
        label="".join(c for c in plan["name"] if (c.isascii() and c.isalnum()) or c == "-"),
        heads=["strategy", "$n$", r"$\beta$", *map(escape, extra_axes), "seeds", *heads],
        blocks=list(blocks.values()),
    )


def _latex_caption(store: Store, table: pd.DataFrame) -> str:
    told = [f"Grid {escape(store.plan()['name'])}: {escape(caption(store))}."]
    if (table["n"] > 1).any():
        told.append(r"Means $\pm$ standard deviations over seeds.")
    if (table["n"] < table["planned"]).any():
        told.append("Seeds as $k/m$: only $k$ of $m$ are finished.")
    told.append(r"$\Delta$: mean difference to centralized training of the same seed.")
    if any(prepare(table, store.plan()["extra_axes"]).best.values()):
        further = "".join(f" and {escape(axis)}" for axis in store.plan()["extra_axes"])
        told.append(rf"Best federated strategy of each $(n, \beta)${further} in bold.")
    if table["reconstruction_fid"].notna().any():
        told.append("Rec. FID: what the autoencoder's reconstructions of real held-out images score.")
    if table["label_accuracy"].notna().any():
        told.append("Asked class: share of images that the extractor's classifier puts into the class asked for.")
    if floor := floor_of(store):
        scores = [(column, floor[column.key]) for column in COLUMNS if floor.get(column.key) is not None]
        texts = [f"{column.latex} {value * column.scale:.3g}" for column, value in scores]
        told.append(f"For comparison, {floor['n_generated']} real held-out images score {', '.join(texts)}.")
    return " ".join(told)


def _template(name: str) -> Template:
    """A template of bench/templates; its delimiters, << >> and <% %>, leave LaTeX's braces alone."""
    made = Environment(
        loader=PackageLoader("bench"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        keep_trailing_newline=True,
    )
    return made.get_template(name)


def print_whole(console: Console, table: Table) -> None:
    """Print a table at its full width: where the terminal is narrower its lines run on, and no number is cut."""
    needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    wide = Console(width=max(needed, console.width), quiet=console.quiet, force_terminal=console.is_terminal)
    wide.print(table, crop=False)
