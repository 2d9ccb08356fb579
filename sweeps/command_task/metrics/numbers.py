"""Numbers: what a program wrote of one row, as the numbers that the records can have."""

from __future__ import annotations

import logging
import math
from typing import Any

from local_machine.errors import InputError
from sweeps.command_task.metrics.source import Raw
from trial_records.log import Number, Values
from trial_records.metrics import NAMED, STEPS, check_metric_name

log = logging.getLogger("sweeps.command_task")


class Numbers:
    """Of one program. What is left out is told once."""

    def __init__(self, step: str | None) -> None:
        """`step` is what the program calls a row's step, where that is not `step` or `epoch`."""
        self._step = step
        self._told: set[str] = set()

    def of(self, raw: Raw) -> Values:
        """The row as numbers, under names that the records can have."""
        found: Values = {}
        for name, value in raw.items():
            number = _number(value)
            if number is None:
                if name not in self._told and value is not None:
                    self._told.add(name)
                    log.warning("the metric %r is left out: %r is not a number", name, value)
                continue
            if name == self._step:
                name = STEPS[-1]
            name = f"{name}_value" if name.lower() in NAMED else name
            try:
                check_metric_name(name)
            except InputError as error:
                if name not in self._told:
                    self._told.add(name)
                    log.warning("a metric is left out: %s", error.what)
                continue
            found[name] = number
        return found


def _number(value: Any) -> Number | None:
    """Whole where it is written so."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.strip().replace("_", "")
        try:
            value = int(text)
        except ValueError:
            try:
                value = float(text)
            except ValueError:
                return None
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return value
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return value if isinstance(value, float) else None
