"""What a grid can say, as tables for the terminal: fields of a cell, strategies, partitions, and metrics of results.

Types and defaults are those of the classes, sentences those of their docstrings.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import partitions
import strategies
from bench.config.cell import CellConfig, field_names
from bench.config.errors import ConfigError
from bench.config.plugin import takes_beta
from bench.plugins import UnknownPlugin, allowed

CELL = "cell"  # the fields that stand in no section
METRICS = "metrics"
ROOMS: dict[str, Any] = {"strategies": strategies, "partitions": partitions}
WIDTH = 100
HOW = "Set by --set SECTION.FIELD=VALUE, of cell --set FIELD=VALUE. Also: strategies, partitions, metrics."
TYPES = {"integer": "int", "number": "float", "string": "text", "object": "table", "null": "none"}
MOST = 10**9  # bounds from here on only keep out what no machine could do, and are not shown

Row = tuple[str, str, str, str]


def show(section: str, metrics: Iterable[Row]) -> None:
    """Print the table of a section, or for "" of every section of a cell.

    Args:
        metrics: key, name, which way is better and what it is, of each metric.
    Raises:
        ConfigError: if there is no such section, naming those that have a field, plugin or metric of that name.
    """
    rows, fields = list(metrics), sections()
    names = fields | {room: [plugins.registry.kind, *plugins.registry.names()] for room, plugins in ROOMS.items()}
    names[METRICS] = [key for key, *_ in rows]
    if section and section not in names:
        *given, last = section.split(".")
        meant = [name for name in names if last in names[name] and given in ([], [name])]
        raise ConfigError(f"--fields {section}: no such section{allowed(section, names, meant)}")
    console = Console(highlight=False)
    console.width = min(WIDTH, console.width) if console.is_terminal else WIDTH
    for name in [section] if section else fields:
        console.print(*tables(name, rows), sep="\n")
    if not section:
        console.print(HOW, soft_wrap=True)


def sections() -> dict[str, list[str]]:
    """The fields of a cell by section."""
    names: dict[str, list[str]] = {}
    for field in field_names():
        section, _, name = field.rpartition(".")
        names.setdefault(section or CELL, []).append(name)
    return names


def tables(section: str, metrics: Iterable[Row] = ()) -> tuple[Text, Table]:
    """A title and a table."""
    if section == METRICS:
        return Text("metrics of cells"), table(("metric", "in tables", "better", "what it is"), metrics)
    heads = ("name", "type", "default", "what it is")
    if section in ROOMS:
        return Text(f"{section}, each with its hyper-parameters"), table(heads, plugin_rows(ROOMS[section]))
    cls = CellConfig if section == CELL else type(CellConfig.model_fields[section].default)
    rows = (row for row in schema_rows(cls) if row[0] in sections()[section])
    return Text(f"{section}: {first_sentence(inspect.getdoc(cls))}"), table(heads, rows)


def table(heads: Iterable[str], rows: Iterable[Row]) -> Table:
    """A table whose last column has the width that the others leave."""
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=True)
    for head, most in zip(heads, (30, 22, 14, None), strict=True):
        grid.add_column(head, max_width=most, overflow="fold", ratio=None if most else 1)
    for row in rows:
        grid.add_row(*map(Text, row))
    grid.add_row()
    return grid


def plugin_rows(room: Any) -> Iterator[Row]:
    """A room's strategies or partitions, those of installed packages among them, each before its hyper-parameters."""
    for name in room.registry.names():
        try:
            cls = room.load(name)
        except UnknownPlugin as error:
            yield name, "", "", f"cannot be loaded: {error}"
            continue
        one_a_file = cls.__module__.startswith(f"{room.__name__}.")  # whose first line says it in words
        yield name, "", "", first_sentence(inspect.getdoc(sys.modules[cls.__module__] if one_a_file else cls))
        for key, kind, default, sentence in schema_rows(cls):
            if not (key == "beta" and takes_beta(cls)):  # that is a field of the cell
                yield f"  {key}", kind, default, sentence


# ------------------------------------------------------------------------------------------------- from docstrings


def attributes(cls: type) -> dict[str, str]:
    """The first sentences of the lists "Attributes:" in the docstrings of a class and its bases, by name."""
    sentences: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, rest = inspect.cleandoc(base.__doc__ or "").partition("\nAttributes:\n")
        listed = re.split(r"\n(?=\S)", rest)[0]  # up to the next heading
        for entry in re.split(r"\n(?= {4}\S)", f"\n{listed}"):
            name, colon, text = entry.partition(":")
            sentences |= {name.strip(): first_sentence(text)} if colon else {}
    return sentences


def first_sentence(text: str | None) -> str:
    """The first sentence on one line."""
    words = " ".join((text or "").split())
    return re.split(r"(?<=\.) (?=[A-Z`])", words)[0].replace("`", "")


# ----------------------------------------------------------------------------------------------- from JSON schemas


def schema_rows(cls: type) -> Iterator[Row]:
    """Name, type, default and sentence of each field of a model or dataclass."""
    schema, sentences = TypeAdapter(cls).json_schema(), attributes(cls)
    for name, item in schema.get("properties", {}).items():
        default = "required" if name in schema.get("required", ()) else value_text(item.get("default", {}))
        yield name, type_text(item), default, sentences.get(name, "")


def value_text(value: Any) -> str:
    """A default as a grid's file or --set has it; "none" for what is left out there."""
    if isinstance(value, dict) and "name" in value:  # a plugin
        return str(value["name"])
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def type_text(schema: Mapping[str, Any]) -> str:
    """What values a JSON schema allows, e.g. ``float in (0, 1]`` or ``adam | sgd``."""
    if "anyOf" in schema:
        return " or ".join(map(type_text, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " | ".join(map(str, schema.get("enum", [schema.get("const")])))
    if "$ref" in schema:  # a plugin
        return "name(key=value)"
    if schema.get("type") == "boolean":
        return "true | false"
    if schema.get("type") == "array":
        return f"list of {type_text(schema.get('items', {}))}"
    return TYPES.get(schema.get("type", ""), "any") + range_text(schema)


def range_text(schema: Mapping[str, Any]) -> str:
    """The bounds of a number, e.g. `` > 0`` or `` in (0, 1]``."""
    low, high = (schema.get(f"{end}imum", schema.get(f"exclusiveM{end[1:]}imum")) for end in ("min", "max"))
    if low is None:
        return ""
    if high is None or high >= MOST:
        return f" {'≥' if 'minimum' in schema else '>'} {low:g}"
    return f" in {'[' if 'minimum' in schema else '('}{low:g}, {high:g}{']' if 'maximum' in schema else ')'}"
