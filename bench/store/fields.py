"""What configurations and records are made of: strict, frozen parts, and the numbers that their fields may hold."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1, le=10**9)]
Size = Annotated[int, Field(ge=1, le=2**14)]  # pixels or channels: more would not fit into any memory
Count = Annotated[int, Field(ge=0, le=10**9)]
Images = Annotated[int, Field(ge=2, le=10**9)]  # fewer have no covariance
Fraction = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A frozen part of a configuration, which allows no unknown key and converts no type."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)
