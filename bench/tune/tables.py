"""What was tried and what it cost, as tables: a row a strategy, and a row a trial."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

import strategies
from bench.config.names import MISSING, split_name, value_text
from bench.config.plugin import symbol
from bench.config.tuning import Value
from bench.report.tables import latex, markdown
from bench.report.tables.setting import WORDS
from bench.report.tables.table import Head, Place, Row, Table, words
from bench.store.files import write_bytes
from bench.tune.contenders import HYPER, Contender, fields_of, tune_of
from bench.tune.outcome import CHOSEN, DIVERGED, Outcome, Tried, chosen, total
from bench.tune.trials import METRIC, Cost

LOSS = "validation loss"
_DIGITS = 4


def fields(found: Outcome) -> list[str]:
    """The fields that strategies tune."""
    return list(dict.fromkeys(key for each in found.every for key in fields_of(each.contender.spaces)))


def title(found: Outcome, contender: Contender) -> str:
    """The strategy for people: by the grid's [labels], or without the hyper-parameters that are tuned."""
    kind = strategies.load(contender.plugin.name)
    given = {key: value for key, value in contender.plugin.params.items() if f"{HYPER}{key}" not in contender.spaces}
    plugin = contender.plugin.model_copy(update={"params": given}).short(kind)
    return found.grid.labels.get(contender.label) or plugin.title(vars(kind).get("title") or contender.plugin.name)


def name_of(key: str) -> str:
    """Something tuned, for people: learning rate, μ."""
    if key.startswith(HYPER):
        return symbol(key.removeprefix(HYPER))
    last = key.rpartition(".")[2]
    return WORDS.get(last) or last.replace("_", " ")


def hyper_text(values: dict[str, Value]) -> str:
    """The tuned hyper-parameters, e.g. ``μ = 0.01``; `MISSING` for none."""
    texts = [f"{name_of(key)} = {value_text(value)}" for key, value in values.items() if key.startswith(HYPER)]
    return ", ".join(texts) or MISSING


def summary(found: Outcome) -> Table:
    """A row a strategy: what was chosen, its loss and that of the grid's own values, and what all its trials cost."""
    keys = fields(found)
    heads = [Head("strategy", "axis", key="strategy"), *(Head(name_of(key), key=key) for key in keys)]
    heads += [Head("hyper-parameters", "text", key="hyper_parameters"), Head(LOSS, key="loss", spread=True)]
    heads += [Head("grid's own", key="own"), Head("trials", key="trials"), Head("steps", key="gradient_steps")]
    heads.append(Head("s", key="seconds"))
    rows = [_strategy(found, tried, keys) for tried in found.tried]
    caption = "The values that tuning chose, and what it cost"
    return Table("tuned", caption, tuple(heads), (tuple(rows),), notes=_notes(found))


def _strategy(found: Outcome, tried: Sequence[Tried], keys: Sequence[str]) -> Row:
    best, (own, *_) = chosen(tried), tried
    places = [*words([title(found, best.contender)]), *_values(best, keys), *words([hyper_text(best.values)])]
    places += [replace(_loss(best), mark=""), _loss(own) if own.whole else Place(f"{own.outcome} after {own.rounds}")]
    return Row((*places, _count(len(tried)), *_costs(total(tried))))


def trials(found: Outcome) -> Table:
    """A row a trial."""
    keys = fields(found)
    heads = [Head("strategy", "axis", key="strategy"), Head("trial", "axis", key="trial")]
    heads += [Head(name_of(key), key=key) for key in keys]
    heads += [Head("hyper-parameters", "text", key="hyper_parameters"), Head("rounds", key="rounds")]
    heads += [Head(LOSS, key="loss", spread=True), Head("outcome", "text", key="outcome")]
    heads += [Head("steps", key="gradient_steps"), Head("s", key="seconds")]
    blocks = tuple(tuple(_trial(found, each, keys) for each in tried) for tried in found.tried)
    return Table("trials", "All trials of the tuning", tuple(heads), blocks, leads=2, once=1, notes=_notes(found))


def _trial(found: Outcome, each: Tried, keys: Sequence[str]) -> Row:
    leads = words([title(found, each.contender), str(each.number)])
    values = [*_values(each, keys), *words([hyper_text(each.values)]), _count(each.rounds), _loss(each)]
    return Row((*leads, *values, *words([each.outcome]), *_costs(each.cost)))


def _values(each: Tried, keys: Sequence[str]) -> list[Place]:
    found = [each.values.get(key) for key in keys]
    return [Place(value_text(v), float(v) if isinstance(v, int | float) else str(v)) for v in found]


def _costs(cost: Cost) -> tuple[Place, Place]:
    return _count(cost.gradient_steps), _count(round(cost.seconds))


def _count(number: int) -> Place:
    return Place(f"{number:,}", float(number))


def _loss(each: Tried) -> Place:
    """The score, with the standard deviation over its cells where there are several."""
    if each.outcome == DIVERGED:
        return Place(MISSING)
    sd = _sd(each)
    spread = "" if sd is None else f"± {sd:.{_DIGITS}f}"
    return Place(f"{each.score:.{_DIGITS}f}", each.score, spread, mark="best" if each.outcome == CHOSEN else "")


def _notes(found: Outcome) -> tuple[str, ...]:
    """What has to be known of the scores."""
    tune = tune_of(found.grid)
    seeds = f"seed{'s' if len(tune.seeds) > 1 else ''} {', '.join(map(str, tune.seeds))}"
    where = split_name(tune.where)
    kept = "; ".join(f"beyond round {rung}: {n}" for rung, n in zip(tune.rungs, tune.counts()[1:], strict=True))
    told = f"{LOSS.capitalize()}: mean over {seeds}{f' at {where}' if where else ''}, after the trial's last round."
    first = "The first trial of each strategy has the grid's own values."
    halved = f"{tune.trials} trials a strategy{kept and f', trained {kept}'}."
    chance = "The least of several scores is too low by chance: only fresh seeds compare strategies."
    return (told, first, halved, chance, *_edges(found))


def _edges(found: Outcome) -> Iterator[str]:
    """Chosen numbers that are the least or the greatest tried: better ones may lie beyond."""
    ends = []
    for tried in found.tried:
        best = chosen(tried)
        for key, space in best.contender.spaces.items():
            values = [each.values[key] for each in tried]
            if space.choices is None and best.values[key] in (min(values), max(values)):
                end = "least" if best.values[key] == min(values) else "greatest"
                ends.append(f"{title(found, best.contender)} ({name_of(key)}, the {end})")
    if ends:
        yield f"At an end of what was tried: {'; '.join(ends)}."


def caption(table: Table, found: Outcome) -> str:
    """Of a paper: the title, and what it cost."""
    cost = found.cost
    spent = f"{found.cells:,} trainings, {cost.gradient_steps:,} gradient steps, {cost.seconds:,.0f} s"
    return f"{table.title}: {spent} in all."


def write(found: Outcome, folder: Path) -> list[Path]:
    """Write both tables as CSV, LaTeX with captions and Markdown; returns the files."""
    texts = {"trials.csv": trials_csv(found)}
    for table in (summary(found), trials(found)):
        text = caption(table, found)
        texts[f"{table.name}.md"] = markdown.markdown(table, text)
        for number, body in enumerate(latex.bodies(table, latex.WIDTHS["text"]), 1):
            name = table.name if number == 1 else f"{table.name}_{number}"
            told = text if number == 1 else f"{table.title}, continued."
            label = latex.label(found.grid.name, name)
            texts |= {f"{name}.tex": body, f"{name}_caption.tex": latex.caption(told, label)}
    for name, text in texts.items():
        write_bytes(folder / name, text.encode(errors="replace"), sync=False)
    return [folder / name for name in texts]


def trials_csv(found: Outcome) -> str:
    """A row a trial, with all digits; `tried` is the strategy as a grid has it."""
    keys = fields(found)
    rows = [
        {"strategy": each.contender.label, "trial": each.number, "tried": each.label}
        | {key: each.values.get(key) for key in keys}
        | {"rounds": each.rounds, METRIC: each.score if each.outcome != DIVERGED else None, f"{METRIC}_sd": _sd(each)}
        | {"outcome": each.outcome, "cells": len(each.losses)}
        | {"gradient_steps": each.cost.gradient_steps, "seconds": each.cost.seconds}
        for each in found.every
    ]
    return str(pd.DataFrame(rows).to_csv(index=False))


def _sd(each: Tried) -> float | None:
    """The standard deviation over a trial's cells, divisor n - 1; None where there is none."""
    return statistics.stdev(each.losses) if len(each.losses) > 1 and each.outcome != DIVERGED else None
