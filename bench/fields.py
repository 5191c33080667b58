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
from bench.command import near
from bench.config.cell import CellConfig, field_names
from bench.config.errors import ConfigError
from bench.plugins import UnknownPlugin
from bench.report.metrics import METRICS

CELL = "cell"  # the fields that stand in no section
ROOMS: dict[str, Any] = {"strategies": strategies, "partitions": partitions}
METRICS_TABLE = "metrics"
WIDTH = 100
HOW = "Set by --set SECTION.FIELD=VALUE, of cell --set FIELD=VALUE. Also: strategies, partitions, metrics."
TYPES = {"integer": "int", "number": "float", "string": "text", "object": "table", "null": "none"}
MOST = 10**9  # bounds from here on only keep out what no machine could do, and are not shown

Row = tuple[str, str, str, str]


def show(section: str) -> None:
    """Print the table of a section, or for "" of every section of a cell.

    Raises:
        ConfigError: if there is no such section.
    """
    owners = {name: section_of(name) for name in field_names()}
    known = (*dict.fromkeys(owners.values()), *ROOMS, METRICS_TABLE)
    if section and section not in known:
        meant = [owner for name, owner in owners.items() if section in (name, name.rpartition(".")[2])]
        hint = near((meant or [section])[0], known)
        raise ConfigError(f"--fields {section}: no such section{hint}; there are {', '.join(known)}")
    console = Console(highlight=False)
    console.width = min(WIDTH, console.width) if console.is_terminal else WIDTH
    for name in [section] if section else dict.fromkeys(owners.values()):
        console.print(*tables(name), sep="\n")
    if not section:
        console.print(HOW, soft_wrap=True)


def section_of(field: str) -> str:
    """The section of a field by its dotted name."""
    return field.partition(".")[0] if "." in field else CELL


def tables(section: str) -> tuple[Text, Table]:
    """A title and a table."""
    if section == METRICS_TABLE:
        return Text("metrics of cells"), table(("metric", "in tables", "better", "what it is"), metric_rows())
    heads = ("name", "type", "default", "what it is")
    if section in ROOMS:
        return Text(f"{section}, each with its hyper-parameters"), table(heads, plugin_rows(ROOMS[section]))
    cls = CellConfig if section == CELL else type(CellConfig.model_fields[section].default)
    sections = set(map(section_of, field_names()))
    rows = (row for row in schema_rows(cls.model_json_schema(), attributes(cls)) if row[0] not in sections)
    return Text(f"{section}: {first_sentence(inspect.getdoc(cls))}"), table(heads, rows)


def table(heads: Iterable[str], rows: Iterable[Row]) -> Table:
    """A table whose last column has the room that the others leave."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=True)
    for head, most in zip(heads, (30, 22, 14, None), strict=True):
        made.add_column(head, max_width=most, overflow="fold", ratio=None if most else 1)
    for row in rows:
        made.add_row(*map(Text, row))
    made.add_row()
    return made


def metric_rows() -> Iterator[Row]:
    """Key, name, which way is better, and what it is."""
    for metric in METRICS.values():
        better = {-1: "lower", 1: "higher", 0: ""}[metric.better]
        yield metric.key, metric.name, better, metric.about


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
        for row in schema_rows(TypeAdapter(cls).json_schema(), attributes(cls)):
            if row[0] != "beta" or not getattr(cls, "uses_beta", False):  # that is a field of the cell
                yield (f"  {row[0]}", *row[1:])


# ------------------------------------------------------------------------------------------------- from docstrings


def attributes(cls: type) -> dict[str, str]:
    """The first sentences of the lists "Attributes:" in the docstrings of a class and its bases, by name."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, rest = inspect.cleandoc(base.__doc__ or "").partition("\nAttributes:\n")
        listed = re.split(r"\n(?=\S)", rest)[0]  # up to the next heading
        for entry in re.split(r"\n(?= {4}\S)", f"\n{listed}"):
            name, colon, text = entry.partition(":")
            found |= {name.strip(): first_sentence(text)} if colon else {}
    return found


def first_sentence(text: str | None) -> str:
    """The first sentence on one line."""
    words = " ".join((text or "").split())
    return re.split(r"(?<=\.) (?=[A-Z`])", words)[0].replace("`", "")


# ----------------------------------------------------------------------------------------------- from JSON schemas


def schema_rows(schema: Mapping[str, Any], sentences: Mapping[str, str]) -> Iterator[Row]:
    """Name, type, default and sentence of each property of an object's JSON schema."""
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
