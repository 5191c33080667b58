"""Types of the tables in a grid file: fields by their dotted names."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from bench.config.cell import field_names, flatten
from bench.plugins import allowed


def _check_field(name: str) -> str:
    if name not in field_names():
        raise ValueError(f"unknown field{allowed(name, field_names())}")
    return name


def flat(table: Any) -> Any:
    """A table's leaves by dotted name; what is no table stays as it is."""
    return dict(flatten(table)) if isinstance(table, dict) else table


FieldName = Annotated[str, AfterValidator(_check_field)]
Fields = Annotated[dict[FieldName, Any], BeforeValidator(flat)]
