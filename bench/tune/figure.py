"""The sensitivity of the score to what was tuned: a panel a hyper-parameter, a marker a strategy."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import strategies
from bench.pictures.axes import key, log_axis
from bench.pictures.style import MARKERS, Style, central_styles, save, strategy_styles
from bench.report.figures import USUAL_FORMATS
from bench.report.figures.captions import Picture, captions
from bench.report.figures.layout import FIXED, LOOK, Legend, settle, short_name, tiles
from bench.store.files import write_bytes
from bench.tune.contenders import Contender
from bench.tune.search import CHOSEN, DIVERGED, STOPPED, Trial
from bench.tune.tables import LOSS, name_of, title
from bench.tune.trials import Tuning

NAME = "sensitivity"
_EACH = 1.9  # inches of a row of panels
_ACROSS = 3
_STOPPED: dict[str, Any] = {"markerfacecolor": "none", "alpha": 0.55}
_RING: dict[str, Any] = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": "black", "mew": 0.9, "ls": ""}


def write(found: Tuning, folder: Path) -> None:
    """Draw it, and write its caption."""
    with rc_context(LOOK | FIXED):
        picture = sensitivity(found)
        settle(picture.figure)
        save(picture.figure, *(folder / f"{NAME}.{kind}" for kind in USUAL_FORMATS), dpi=None)
    for name, text in captions(found.grid.name, [(NAME, picture)], "png").items():
        write_bytes(folder / name, text.encode(errors="replace"))


def sensitivity(found: Tuning) -> Picture:
    """The scores over each value that was tuned; trials that were stopped have the score they had then."""
    contenders = [one.contender for one in found.searches]
    names = list(dict.fromkeys(name for each in contenders for name in each.spaces))
    styles = _styles(contenders)
    legend = [(short_name(title(found, each)), key(styles[each.label])) for each in contenders]
    figure, panels = tiles(len(names), min(len(names), _ACROSS), _EACH, [*legend, *_keys(found.every)])
    ends = _ends(found.every)
    for axes, name in zip(panels, names, strict=True):
        _panel(axes, name, found, styles, ends)
    for axes in panels[::_ACROSS]:
        axes.set_ylabel(f"{LOSS} (log)")
    return Picture(figure, _caption(found))


def _styles(contenders: Sequence[Contender]) -> dict[str, Style]:
    """As in every other picture, but those of centralized training have markers, too: a trial is one."""
    central = [each.label for each in contenders if strategies.load(each.plugin.name).centralized]
    marks = itertools.cycle(MARKERS)
    marked = {label: replace(style, marker=next(marks)) for label, style in central_styles(central).items()}
    return marked | strategy_styles([each.label for each in contenders if each.label not in central])


def _keys(every: Iterable[Trial]) -> Legend:
    """What the looks of markers say, of those that there are."""
    outcomes = {each.outcome for each in every}
    point: dict[str, Any] = {"color": "#555555", "ls": "", "marker": "o", "markersize": 4}
    keys = [("chosen", Line2D([], [], **point | _RING | {"markersize": 8}))]
    keys.append(("stopped early", Line2D([], [], **point | _STOPPED)))
    keys.append(("diverged", Line2D([], [], **point | {"marker": "x"})))
    return [pair for pair, kind in zip(keys, (CHOSEN, STOPPED, DIVERGED), strict=True) if kind in outcomes]


def _ends(every: Iterable[Trial]) -> tuple[float, float]:
    scores = [each.score for each in every if math.isfinite(each.score)]
    return min(scores), max(scores)


def _panel(axes: Axes, name: str, found: Tuning, styles: Mapping[str, Style], ends: tuple[float, float]) -> None:
    log_axis(axes, "y", *ends)
    shown = [(one, one.contender.spaces[name]) for one in found.searches if name in one.contender.spaces]
    texts = [text for _, space in shown for text in map(str, space.choices or [])]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    if places:
        axes.set_xticks(list(places.values()), list(places))
        axes.set_xlim(-0.5, len(places) - 0.5)
    elif any(space.log for _, space in shown):
        borders: list[Any] = [end for _, space in shown for end in space.ends]
        log_axis(axes, "x", min(borders), max(borders))
    axes.set_xlabel(f"{name_of(name)}{' (log)' if axes.get_xscale() == 'log' else ''}")
    for number, (one, space) in enumerate(shown):
        size = 3.2 + 3.0 * (1 - number / len(shown))  # the first are larger, so that they are seen below the others
        style, alone = styles[one.contender.label], len(one.contender.spaces) == 1
        points = [(places[str(each.values[name])] if places else each.values[name], each) for each in one.trials]
        if alone and space.choices is None:  # else neighbours differ in other values, too
            line = sorted((x, each.score) for x, each in points if each.whole)
            axes.plot(*zip(*line, strict=True), style.dash, color=style.colour, lw=0.7, alpha=0.6)
        for x, each in points:
            _mark(axes, x, each, style, size)


def _mark(axes: Axes, x: Any, each: Trial, style: Style, size: float) -> None:
    look: dict[str, Any] = {"color": style.colour, "ls": "", "marker": style.marker, "markersize": size}
    if each.outcome == DIVERGED:
        axes.plot(x, 0.98, transform=axes.get_xaxis_transform(), clip_on=False, **look | {"marker": "x"})
    else:
        axes.plot(x, each.score, zorder=3, **look if each.whole else look | _STOPPED)
    if each.outcome == CHOSEN:
        axes.plot(x, each.score, zorder=4, **_RING, markersize=size + 4.5)


def _caption(found: Tuning) -> str:
    tune = found.tune
    seeds = ", ".join(map(str, tune.seeds))
    notes = [f"Sensitivity of the {LOSS} to what was tuned: {tune.trials} trials a strategy, mean over seeds {seeds}."]
    notes.append("In a ring: the value that was chosen.")
    if any(each.outcome == STOPPED for each in found.every):
        notes.append("Hollow: stopped early, with the loss of the last round, higher than that of a whole training.")
    if any(len(one.contender.spaces) > 1 for one in found.searches):
        notes.append("Where a strategy tunes several values, its trials differ in all of them.")
    return " ".join(notes)
