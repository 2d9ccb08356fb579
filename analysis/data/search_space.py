"""Search, Range, Choice: what a search says of itself in its plan."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# The part of a range, at either end, where a best value says that a better one may lie beyond.
EDGE = 0.05


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class _Field(_Part):
    """What a field may be."""

    when: list[dict[str, str | int | float | bool]] | None = None
    """The choices under which alone a trial has the field, where the plan says them; None: every
    trial has it."""

    @property
    def condition(self) -> str:
        """In words, to stand behind the range; "" where every trial has the field."""
        if self.when is None:
            return ""
        ways = [
            " and ".join(f"{key} is {value}" for key, value in one.items()) for one in self.when
        ]
        return f" (where {' or '.join(ways)})" if ways else " (in some trials)"


class Range(_Field):
    """Numbers from `low` to `high`, both included."""

    kind: Literal["float", "int"]
    low: Annotated[float, Field(allow_inf_nan=False)]
    high: Annotated[float, Field(allow_inf_nan=False)]
    log: bool = False

    @model_validator(mode="after")
    def _has_a_scale(self) -> Range:
        if self.low > self.high:
            raise ValueError(f"low={self.low:g} is above high={self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range cannot begin at {self.low:g}")
        return self

    def scale(self, value: float) -> float:
        """The value, or its logarithm, as the search drew it."""
        return math.log10(value) if self.log else value

    def edge(self, value: float) -> Literal["lower", "upper"] | None:
        """The end in whose outermost part the value lies, on the range's scale."""
        low, high = self.scale(self.low), self.scale(self.high)
        if low == high:
            return None
        place = (self.scale(value) - low) / (high - low)
        # A value right on the border is at the edge, whatever the last digit of a logarithm.
        if place <= EDGE + 1e-9:
            return "lower"
        return "upper" if place >= 1 - EDGE - 1e-9 else None

    def holds(self, value: Any) -> bool:
        """Whether it is a number of this range."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and self.low <= value <= self.high


class Choice(_Field):
    """One of some values, without an order."""

    kind: Literal["choice"]
    values: Annotated[list[str | int | float | bool], Field(min_length=1)]

    def holds(self, value: Any) -> bool:
        return value in self.values


class Search(_Part):
    """How a search chose its trials."""

    sampler: str
    pruner: str
    objective: Literal["best", "last", "final"]
    """Of which row the metric counted: the best, or the last, or none but what training returned.
    Our trainer's is validation accuracy, of the best epoch or of the last."""
    trials: int
    """How many it was to ask for."""
    seed: int
    """The sampler's."""
    space: Annotated[
        dict[str, Annotated[Range | Choice, Field(discriminator="kind")]], Field(min_length=1)
    ]
    """The searched fields and their values."""
