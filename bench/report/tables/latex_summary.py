"""The summary of a grid in LaTeX: all metrics in one table, and each in one of its own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

from bench.config.names import MISSING
from bench.report.metrics import Metric
from bench.report.tables.latex import Frame, Numbers, Place, Tabular, inline, line, numbers, pages, panels, row, typeset
from bench.report.tables.shown import Entry, Shown, seeds_text, unique

MOST_METRICS = 7  # side by side
MOST_SPLITS = 6
CENTRAL = (MISSING, MISSING)
Key = tuple[str, ...]  # a strategy and further axes
Split = tuple[str, str]  # n_clients and beta


def summary_table(frame: Frame, shown: Shown, caption: str) -> str:
    """All metrics: centralized training first, then blocks of rows to be compared."""
    tabulars = [
        _summary_part(shown, panel, blocks, frame.siunitx)
        for panel in panels(shown.together, MOST_METRICS)
        for blocks in pages(_summary_blocks(shown))
    ]
    return frame.table(tabulars, caption)


def _summary_blocks(shown: Shown) -> list[list[int]]:
    """Indices of rows of one n_clients and beta."""
    texts = {index: shown.axis_texts(index)[1:3] for index in range(len(shown.rows))}
    return [list(group) for _, group in groupby(texts, key=texts.__getitem__)]


def _summary_part(shown: Shown, panel: Sequence[Metric], blocks: Sequence[Sequence[int]], siunitx: bool) -> Tabular:
    places = {
        index: [_in_summary(*pair) for pair in zip(shown.entries(index), shown.together, strict=True)]
        for block in blocks
        for index in block
    }
    at = [shown.together.index(column) for column in panel]
    columns = [numbers([told[i] for told in places.values()], siunitx) for i in at]

    def one(index: int) -> str:
        cells = [column.cell(places[index][i]) for column, i in zip(columns, at, strict=True)]
        return row([*map(typeset, shown.axis_texts(index)), seeds_text(shown.rows[index]), *cells])

    axes = ["strategy", "$n$", r"$\beta$", *map(typeset, shown.extra_axes), "seeds"]
    heads = [column.head(metric.name + metric.arrow()) for column, metric in zip(columns, panel, strict=True)]
    return Tabular(
        "l" + "r" * (len(axes) - 1) + "".join(column.columns for column in columns),
        [line([*axes, *heads])],
        [[one(index) for index in block] for block in blocks],
        rules=2 if shown.axis_texts(blocks[0][0])[1] == MISSING else 1,
    )


def _in_summary(entry: Entry, column: Metric) -> Place:
    beside = rf"$_{{\pm {entry.sd}}}$" if entry.sd and column.spread else ""
    return Place(entry.mean, entry.why, beside, entry.mark)


# -------------------------------------------------------------------------------------------------- one metric a table


def metric_table(frame: Frame, shown: Shown, metric: Metric, caption: str) -> str:
    """One metric: strategies below one another, n_clients and beta side by side, further axes as groups of rows."""
    grid = _grid(shown)
    splits = unique_pairs(split for cells in grid.values() for split in cells if split != CENTRAL) or [CENTRAL]
    places = {index: _alone(shown.entry(index, metric)) for index in range(len(shown.rows))}
    groups = [list(group) for _, group in groupby(grid, key=lambda key: key[1:])]
    groups = [group for group in groups if any(places[i].why != MISSING for key in group for i in grid[key].values())]
    blocks = [part for group in groups for part in ([group] if shown.extra_axes else _central_first(group, grid))]
    tabulars = [
        _metric_part(shown, grid, places, panel, page, frame.siunitx)
        for panel in panels(splits, MOST_SPLITS)
        for page in pages(blocks)
    ]
    return frame.table(tabulars, caption, metric.file)


def _grid(shown: Shown) -> dict[Key, dict[Split, int]]:
    """Index of the summary's row by strategy and further axes, and by n_clients and beta; groups of axes together."""
    found: dict[Key, dict[Split, int]] = {}
    for index in range(len(shown.rows)):
        strategy, n, beta, *extra = shown.axis_texts(index)
        found.setdefault((strategy, *extra), {})[n, beta] = index
    order = {extra: place for place, extra in enumerate(dict.fromkeys(key[1:] for key in found))}
    return dict(sorted(found.items(), key=lambda item: order[item[0][1:]]))


def unique_pairs(splits: Iterable[Split]) -> list[Split]:
    """The splits once each, those of one n_clients side by side."""
    known = list(dict.fromkeys(splits))
    order = unique(n for n, _ in known)
    return sorted(known, key=lambda split: order.index(split[0]))


def _central_first(group: Sequence[Key], grid: Mapping[Key, Mapping[Split, int]]) -> list[list[Key]]:
    parts = [[key for key in group if (CENTRAL in grid[key]) is central] for central in (True, False)]
    return [part for part in parts if part]


def _alone(entry: Entry) -> Place:
    sd = rf"\,{{\scriptsize$\pm$\,{entry.sd}}}" if entry.sd else ""
    seeds = rf"\textsuperscript{{{entry.seeds}}}" if entry.seeds else ""
    return Place(entry.mean, entry.why, sd + seeds, entry.mark)


def _metric_part(
    shown: Shown,
    grid: Mapping[Key, Mapping[Split, int]],
    places: Mapping[int, Place],
    splits: Sequence[Split],
    page: Sequence[Sequence[Key]],
    siunitx: bool,
) -> Tabular:
    blank = Place(why=MISSING)
    by_split = {
        split: {
            key: places.get(grid[key].get(split, grid[key].get(CENTRAL, -1)), blank) for block in page for key in block
        }
        for split in splits
    }
    beside = any(place.beside for told in by_split.values() for place in told.values())
    columns = {split: numbers(told.values(), siunitx, beside) for split, told in by_split.items()}
    width = sum(column.width for column in columns.values())

    def one(key: Key) -> str:
        if CENTRAL in grid[key] and len(splits) > 1:
            return rf"\multicolumn{{{width}}}{{c}}{{{inline(places[grid[key][CENTRAL]])}}}"
        return row(column.cell(by_split[split][key]) for split, column in columns.items())

    leads = [*map(typeset, shown.extra_axes), "strategy"]
    return Tabular(
        "l" * len(leads) + "".join(column.columns for column in columns.values()),
        _split_heads(leads, columns),
        [_block_rows(block, one) for block in page],
        rules=len(page),
    )


def _block_rows(block: Sequence[Key], one: Callable[[Key], str]) -> list[str]:
    """Rows of one group, whose further axes stand once for all of them."""
    rows = []
    for place, (strategy, *extra) in enumerate(block):
        axes = [rf"\multirow{{{len(block)}}}{{*}}{{{typeset(axis)}}}" if place == 0 else "" for axis in extra]
        rows.append(row([*axes, typeset(strategy), one((strategy, *extra))]))
    return rows


def _split_heads(leads: Sequence[str], columns: Mapping[Split, Numbers]) -> list[str]:
    """One line for one split, else n_clients above beta."""
    if len(columns) == 1:
        ((n, beta), column), *_ = columns.items()
        return [line([*leads, column.head("" if (n, beta) == CENTRAL else f"n = {n}, β = {beta}")])]
    upper, rules, at = [], [], len(leads) + 1
    for n, group in groupby(columns.items(), key=lambda item: item[0][0]):
        width = sum(column.width for _, column in group)
        upper.append(rf"\multicolumn{{{width}}}{{c}}{{{typeset(f'n = {n}')}}}")
        rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
        at += width
    betas = [column.head(f"β = {beta}") for (_, beta), column in columns.items()]
    tall = [rf"\multirow{{2}}{{*}}{{{lead}}}" for lead in leads]
    return [line([*tall, *upper]), "".join(rules), line([*[""] * len(leads), *betas])]
