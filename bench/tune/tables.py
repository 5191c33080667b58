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
from bench.tune.contenders import HYPER, Contender, fields_of
from bench.tune.search import CHOSEN, DIVERGED, Search, Trial
from bench.tune.trials import METRIC, Cost, Tuning

LOSS = "validation loss"
_DIGITS = 4


def fields(found: Tuning) -> list[str]:
    """The fields that strategies tune."""
    return list(dict.fromkeys(key for each in found.every for key in fields_of(each.contender.spaces)))


def title(found: Tuning, contender: Contender) -> str:
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


_HYPER = Head("hyper-parameters", "text", key="hyper_parameters")
_LOSS = Head(LOSS, key="loss", spread=True)
_COSTS = Head("steps", key="gradient_steps"), Head("s", key="seconds")


def summary(found: Tuning) -> Table:
    """A row a strategy: what was chosen, its loss and that of the grid's own values, and what all its trials cost."""
    keys = fields(found)
    middle = *(Head(name_of(key), key=key) for key in keys), _HYPER, _LOSS, Head("grid's own", key="own")
    heads = Head("strategy", "axis", key="strategy"), *middle, Head("trials", key="trials"), *_COSTS
    rows = tuple(_strategy(found, one, keys) for one in found.searches)
    return Table("tuned", "The values that tuning chose, and what it cost", heads, (rows,), notes=_notes(found))


def _strategy(found: Tuning, one: Search, keys: Sequence[str]) -> Row:
    best, own = one.best, one.trials[0]
    places = [*words([title(found, one.contender)]), *_values(best, keys), replace(_loss(found, best), mark="")]
    places.append(_loss(found, own) if own.whole else Place(f"{own.outcome} after {found.trained(own)}"))
    return Row((*places, _count(len(one.trials)), *_costs(found.cost(one.trials))))


def trials(found: Tuning) -> Table:
    """A row a trial."""
    keys = fields(found)
    leads = Head("strategy", "axis", key="strategy"), Head("trial", "axis", key="trial")
    middle = *(Head(name_of(key), key=key) for key in keys), _HYPER, Head("rounds", key="rounds"), _LOSS
    heads = *leads, *middle, Head("outcome", "text", key="outcome"), *_COSTS
    blocks = tuple(tuple(_trial(found, each, keys) for each in one.trials) for one in found.searches)
    return Table("trials", "All trials of the tuning", heads, blocks, leads=2, once=1, notes=_notes(found))


def _trial(found: Tuning, each: Trial, keys: Sequence[str]) -> Row:
    leads = words([title(found, each.contender), str(each.number)])
    measured = _count(found.trained(each)), _loss(found, each), *words([each.outcome])
    return Row((*leads, *_values(each, keys), *measured, *_costs(found.cost([each]))))


def _values(each: Trial, keys: Sequence[str]) -> list[Place]:
    """Those of fields, a place each, and all hyper-parameters in one."""
    found = [each.values.get(key) for key in keys]
    places = [Place(value_text(v), float(v) if isinstance(v, int | float) else str(v)) for v in found]
    return [*places, *words([hyper_text(each.values)])]


def _costs(cost: Cost) -> tuple[Place, Place]:
    return _count(cost.gradient_steps), _count(round(cost.seconds))


def _count(number: int) -> Place:
    return Place(f"{number:,}", float(number))


def _loss(found: Tuning, each: Trial) -> Place:
    """The score, with the standard deviation over its cells where there are several."""
    if each.outcome == DIVERGED:
        return Place(MISSING)
    sd = _sd(found, each)
    spread = "" if sd is None else f"± {sd:.{_DIGITS}f}"
    return Place(f"{each.score:.{_DIGITS}f}", each.score, spread, mark="best" if each.outcome == CHOSEN else "")


def _notes(found: Tuning) -> tuple[str, ...]:
    """What has to be known of the scores."""
    tune = found.tune
    seeds = f"seed{'s' if len(tune.seeds) > 1 else ''} {', '.join(map(str, tune.seeds))}"
    where = split_name(tune.where)
    kept = "; ".join(f"beyond round {rung}: {n}" for rung, n in zip(tune.rungs, tune.counts()[1:], strict=True))
    told = f"{LOSS.capitalize()}: mean over {seeds}{f' at {where}' if where else ''}, after the trial's last round."
    first = "The first trial of each strategy has the grid's own values."
    halved = f"{tune.trials} trials a strategy{kept and f', trained {kept}'}."
    chance = "The least of several scores is too low by chance: only fresh seeds compare strategies."
    return (told, first, halved, chance, *_edges(found))


def _edges(found: Tuning) -> Iterator[str]:
    """Chosen numbers of the outer 1 / k of their range, by k trials: better ones may lie beyond it."""
    edge, ends = 1 / found.tune.trials, []
    for best in (one.best for one in found.searches):
        for key, space in best.contender.spaces.items():
            place = 0.5 if space.choices else space.position(best.values[key])
            if not edge <= place <= 1 - edge:
                end = "lower" if place < 0.5 else "upper"
                ends.append(f"{title(found, best.contender)} ({name_of(key)}, the {end})")
    if ends:
        yield f"Near an end of its range: {'; '.join(ends)}."


def caption(table: Table, found: Tuning) -> str:
    """Of a paper: the title, and what it cost."""
    cost = found.cost(found.every)
    spent = f"{len(found.plan.jobs):,} trainings, {cost.gradient_steps:,} gradient steps, {cost.seconds:,.0f} s"
    return f"{table.title}: {spent} in all."


def write(found: Tuning, folder: Path) -> None:
    """Write both tables as CSV, LaTeX with captions and Markdown."""
    texts = {"trials.csv": trials_csv(found)}
    for table in (summary(found), trials(found)):
        text = caption(table, found)
        texts[f"{table.name}.md"] = markdown.markdown(table, text)
        texts |= latex.files(table, text, found.grid.name, latex.WIDTHS["text"])
    for name, text in texts.items():
        write_bytes(folder / name, text.encode(errors="replace"), sync=False)


def trials_csv(found: Tuning) -> str:
    """A row a trial, with all digits; `tried` is the strategy as a grid has it."""
    keys = fields(found)
    rows = [
        {"strategy": each.contender.label, "trial": each.number, "tried": each.label}
        | {key: each.values.get(key) for key in keys}
        | {
            "rounds": found.trained(each),
            METRIC: each.score if each.outcome != DIVERGED else None,
            f"{METRIC}_sd": _sd(found, each),
        }
        | {"outcome": each.outcome, "cells": len(found.jobs[each])}
        | found.cost([each])._asdict()
        for each in found.every
    ]
    return str(pd.DataFrame(rows).to_csv(index=False))


def _sd(found: Tuning, each: Trial) -> float | None:
    """The standard deviation over a trial's cells, divisor n - 1; None where there is none."""
    losses = found.losses(each, each.rounds)
    return statistics.stdev(losses) if len(losses) > 1 and each.outcome != DIVERGED else None
