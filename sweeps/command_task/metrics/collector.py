"""Collector: takes what a program wrote of its metrics over into the trial's log, each row once."""

from __future__ import annotations

import math
from typing import Any

from sweeps.command_task.metrics.numbers import Numbers
from sweeps.command_task.metrics.source import Source
from sweeps.run.handle import Run
from trial_records.log import Number, Values
from trial_records.metrics import STEPS


class Collector:
    """Of one attempt; `run.load` was called before."""

    def __init__(self, run: Run, source: Source, step: str | None) -> None:
        """`step` is what the program calls a row's step, where that is not `step` or `epoch`."""
        self._run, self._source = run, source
        self._numbers = Numbers(step)
        self._known: dict[Any, Values] = {}
        self._count = 0
        for row in run.loaded_rows:
            self._known.setdefault(self._key(row), {}).update(row)
        self._goes_on = bool(run.loaded_rows)

    def poll(self) -> bool:
        """Log what came since; whether there was something. Raises OSError."""
        rows = [self._numbers.of(raw) for raw in self._source.read()]
        return sum(self._take(row) for row in rows if row) > 0

    def end(self) -> None:
        """Log what came last: the program has ended, and by itself. Raises OSError."""
        self._source.end(is_whole=True)
        self.poll()

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


def _same(one: Number, other: Number) -> bool:
    return one == other or (one != one and other != other)
