"""Values of TOML: read from a text, written as one, and refused where no field could take them."""

import json
import math
import tomllib
from collections.abc import Mapping
from typing import Any

from bench.config.errors import ConfigError

NOT_TOML = (ValueError, RecursionError)  # tomllib's own is a ValueError; it lets pass those of int() and of nesting
_DEEPEST = 20  # tables and lists inside each other
_LONGEST_TEXT = 10_000


def read_value(text: str) -> Any:
    """The value that TOML reads in `text`.

    Raises:
        ValueError, RecursionError: if it reads none, or more beside it.
    """
    read = tomllib.loads(f"x = {text}")
    if len(read) != 1:
        raise ValueError("more than one value")
    return read["x"]


def write_value(value: Any) -> str:
    """The value as TOML reads it, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={write_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(write_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def check_values(tree: Mapping[str, Any], source: str, finite: bool = False) -> None:
    """Refuse what no field takes and no message could show: numbers without end, long texts, deep nesting.

    Args:
        source: what messages begin with.
        finite: refuse infinity and NaN, too, which fields do themselves.
    Raises:
        ConfigError: with the key.
    """
    stack: list[tuple[str, Any, int]] = [("", tree, 0)]
    while stack:
        key, value, depth = stack.pop()
        where = f"{source}: {key}" if key else source
        if depth > _DEEPEST:
            raise ConfigError(f"{where}: tables or lists are nested more than {_DEEPEST} deep")
        if isinstance(value, dict):
            stack += [(f"{key}.{name}" if key else name, item, depth + 1) for name, item in value.items()]
        elif isinstance(value, list):
            stack += [(key, item, depth + 1) for item in value]
        elif finite and isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where}: got {value}; it must be a finite number")
        elif isinstance(value, int) and value.bit_length() > 64:
            raise ConfigError(f"{where}: got a whole number of {value.bit_length()} bits; at most 64 are allowed")
        elif isinstance(value, str) and len(value) > _LONGEST_TEXT:
            raise ConfigError(f"{where}: got a text of {len(value)} letters; at most {_LONGEST_TEXT} are allowed")
