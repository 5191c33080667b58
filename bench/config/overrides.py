"""Values of the option --set: ``field=value``, or ``field=value,value`` for an axis."""

from typing import Any

from bench.config.cell import field_names
from bench.config.errors import ConfigError
from bench.config.toml import NOT_TOML, check_values, read_value
from bench.plugins import allowed

_PARTNERS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'"}


def read_override(text: str) -> tuple[str, list[Any]]:
    """The field that a --set names, and its values.

    Raises:
        ConfigError: if it names no field or gives no value.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not value.strip():
        raise ConfigError(f"--set {text}: write --set FIELD=VALUE, or FIELD=VALUE,VALUE for an axis")
    if key not in field_names():
        raise ConfigError(f"--set {text}: unknown field {key!r}{allowed(key, field_names())}")
    values = [_value(part) for part in _split(value, f"--set {text}")]
    check_values({key: values}, f"--set {text}")
    return key, values


def _split(text: str, where: str) -> list[str]:
    """The parts between commas that stand outside brackets and quotes.

    Raises:
        ConfigError: if a part is empty, or a bracket or quote has no partner.
    """
    parts = [""]
    open_marks: list[str] = []
    for mark in text:
        quoted = bool(open_marks) and open_marks[-1] in "\"'"
        if open_marks and mark == open_marks[-1]:
            open_marks.pop()
        elif not quoted and mark in _PARTNERS:
            open_marks.append(_PARTNERS[mark])
        elif not quoted and mark in ")]}":
            raise ConfigError(f"{where}: {mark!r} has no partner")
        if mark == "," and not open_marks:
            parts.append("")
        else:
            parts[-1] += mark
    if open_marks:
        raise ConfigError(f"{where}: a closing {open_marks[-1]!r} is missing")
    if not all(part.strip() for part in parts):
        raise ConfigError(f"{where}: a value is missing beside a comma")
    return [part.strip() for part in parts]


def _value(text: str) -> Any:
    """The value TOML reads in `text`; where it reads none, the text itself, so that names need no quotes."""
    try:
        return read_value(text)
    except NOT_TOML:
        return text
