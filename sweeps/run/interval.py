"""Intervals of time as people write them: 300, "300s", "5min", "2h"."""

from __future__ import annotations

import math
import re

from local_machine.errors import InputError

_UNITS = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}


def seconds(interval: float | str) -> float:
    """Raises InputError for what is not a positive time."""
    text = str(interval).strip()
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text)
    value = float(found[1]) * _UNITS.get(found[2], math.nan) if found else math.nan
    if not value > 0 or math.isinf(value):
        raise InputError(f"{interval!r} is not an interval of time", 'write it as every="5min"')
    return value
