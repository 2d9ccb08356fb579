"""Collector: takes what a program wrote of its metrics over into the trial's log, each row once."""

from __future__ import annotations

import logging
import math
from typing import Any

from local_machine.errors import InputError
from sweeps.command_task.metrics.source import Raw, Source
from sweeps.run.handle import Run
from trial_records.log import Number, Values
from trial_records.metrics import NAMED, STEPS, check_metric_name

log = logging.getLogger("sweeps.command_task")


class Collector:
    """Of one attempt; `run.load` was called before."""

    def __init__(self, run: Run, source: Source, step: str | None) -> None:
        """`step` is what the program calls a row's step, where that is not `step` or `epoch`."""
        self._run, self._source, self._step = run, source, step
        self._known: dict[Any, Values] = {}
        self._count = 0
        for row in run.loaded_rows:
            self._known.setdefault(self._key(row), {}).update(row)
        self._goes_on = bool(run.loaded_rows)
        self._told: set[str] = set()

    def poll(self) -> bool:
        """Log what came since; whether there was something. Raises OSError."""
        rows = [self._numbers(raw) for raw in self._source.read()]
        return sum(self._take(row) for row in rows if row) > 0

    @property
    def rows(self) -> list[Values]:
        """All rows that count."""
        return list(self._known.values())

    @property
    def names(self) -> set[str]:
        return {name for row in self._known.values() for name in row}

    def _key(self, row: Values) -> Any:
        """What tells a row from the others: its step, or its place among those without."""
        named = tuple(row.get(name) for name in STEPS)
        if named != (None, None):
            return named
        self._count += 1
        return self._count

    def _take(self, row: Values) -> bool:
        key = self._key(row)
        known = self._known.get(key, {})
        if all(name in known and _same(known[name], value) for name, value in row.items()):
            return False
        if self._goes_on:
            self._goes_on = False
            self._rewind(row)
        self._run.log(**row)
        self._known.setdefault(key, {}).update(row)
        return True

    def _rewind(self, row: Values) -> None:
        """What an attempt before this one wrote behind its first row counts no more: the program
        went on from an earlier save."""
        name = next((name for name in reversed(STEPS) if name in row), None)
        if name is None:
            return
        behind = [key for key, old in self._known.items() if old.get(name, -math.inf) > row[name]]
        if behind:
            self._run.files.rewind({name: row[name]})
            for key in behind:
                del self._known[key]

    def _numbers(self, raw: Raw) -> Values:
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


def _same(one: Number, other: Number) -> bool:
    return one == other or (one != one and other != other)


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
        return value if -(2**63) <= value < 2**63 else float(value)
    return value if isinstance(value, float) else None
