"""Numbers as text, everywhere in a report: percent and points, intervals, p-values, counts.

What is missing (None, NaN) is a dash. What rounds to nothing has no minus.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Literal

MISSING = "-"


def percent(fraction: float | None, sign: Literal["", "+"] = "", digits: int = 2) -> str:
    """A fraction in percent, or, signed, a difference of fractions in points; no unit."""
    return fixed(None if fraction is None else 100 * fraction, sign, digits)


def fixed(value: float | None, sign: Literal["", "+"] = "", digits: int = 4) -> str:
    """With so many digits behind the point."""
    return MISSING if value is None or math.isnan(value) else f"{value:{sign}z.{digits}f}"


def interval(ends: Sequence[float] | None, sign: Literal["", "+"] = "") -> str:
    """Both ends, fractions, in percent."""
    return MISSING if ends is None else " to ".join(percent(end, sign) for end in ends)


def spread(values: Sequence[float], text: Callable[[float], str] = percent) -> str:
    """Mean and standard deviation; of one value, that alone."""
    mean = text(statistics.fmean(values))
    return mean if len(values) < 2 else f"{mean} ± {text(statistics.stdev(values))}"


def p_value(p: float | None) -> str:
    return MISSING if p is None or math.isnan(p) else f"{p:.2g}"


def count(number: int, noun: str, many: str = "") -> str:
    """`1 seed`, `1,234 seeds`."""
    return f"{number:,} {plural(number, noun, many)}"


def plural(number: int, one: str, many: str = "") -> str:
    """A word for one or for many; many things have an s."""
    return one if number == 1 else many or f"{one}s"


def be(number: int) -> str:
    return plural(number, "is", "are")


def have(number: int) -> str:
    return plural(number, "has", "have")
