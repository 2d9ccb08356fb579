"""Trial: one configuration of a sweep, with its name, its fingerprint and what trains it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from local_machine.errors import InputError
from sweeps.spec.grid import Point
from sweeps.spec.task_loader import load, task_of
from sweeps.task import Task
from trial_records.config import as_before, fingerprint_of, flat_of
from trial_records.plan import FIRST_TASK, PlannedTask


@dataclass(frozen=True)
class Trial:
    """One training configuration of a sweep, identified by its content."""

    name: str
    """Readable, unique in the sweep, a safe folder name; ends in 8 digits of the fingerprint."""
    point: Point
    """The axes' values as the definition has them, before any scaling."""
    values: Mapping[str, Any]
    """The configuration as it is stored, nested as in JSON: it may be of another version, under
    whose rules it was checked when it was launched."""
    fingerprint: str
    """The configuration's, and its task's."""
    task: PlannedTask = FIRST_TASK
    """What trains it."""

    @classmethod
    def of(cls, name: str, point: Point, config: Any, task: Task | None = None) -> Trial:
        """The trial of a configuration that today's version has checked."""
        task = task or task_of(config)
        if task is None:
            raise InputError(f"base is a {type(config).__name__}", "say what trains it")
        values, planned = task.values(config), task.planned
        made = cls(name, point, values, fingerprint_of(planned.content(values)), planned)
        made.__dict__["_made"] = config
        return made

    def renamed(self, name: str) -> Trial:
        renamed = Trial(name, self.point, self.values, self.fingerprint, self.task)
        if "_made" in self.__dict__:
            renamed.__dict__["_made"] = self.__dict__["_made"]
        return renamed

    @property
    def config(self) -> Any:
        """The configuration, checked by today's rules: for whoever trains or prices it, and for
        nobody who only shows it. Raises InputError, which names the trial, where today's version
        cannot train it."""
        if isinstance(self._made, InputError):
            raise self._made
        return self._made

    @property
    def problem(self) -> InputError | None:
        """Why today's version cannot train it; None where it can."""
        return self._made if isinstance(self._made, InputError) else None

    @functools.cached_property
    def _made(self) -> Any:
        try:
            task = load(self.task)
        except InputError as error:
            return InputError(f"{self.name}: {error.what}", error.help)
        try:
            made = task.parse(self.values, where=self.name)
        except InputError as error:
            why = f"{error.what} ({error.help})"
        else:
            values = task.values(made)
            if fingerprint_of(task.planned.content(values)) == self.fingerprint:
                return made
            is_first = self.task.name == FIRST_TASK.name
            stored = as_before(self.values) if is_first else self.values
            here, there = flat_of(values), flat_of(stored)
            more = [key for key in here if key not in there or here[key] != there[key]]
            why = f"{self.name}: it was planned without {', '.join(more) or 'a field of today'}"
        return InputError(
            f"this version cannot train {why}",
            "train it with the version that planned it, or launch it again from a definition",
        )

    def stored(self, key: str) -> Any:
        """The stored value of a field by its dotted name; None where there is none."""
        return Task.stored(self.values, key)

    @property
    def seed(self) -> Any:
        return Task.stored(self.values, self.task.seed)

    def to_json(self) -> str:
        """What its config.json holds. Raises InputError where today's version cannot train it."""
        return load(self.task).to_json(self.config)

    @property
    def epochs(self) -> int | None:
        """How many it was planned for, in units of its task's budget, where it says that."""
        found = Task.stored(self.values, self.task.budget)
        return found if type(found) is int and found > 0 else None


def by_task(trials: Iterable[Trial]) -> Iterator[tuple[Task, list[Trial]]]:
    """The trials of each task. Raises InputError for a task that cannot be loaded."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.task.reference, []).append(trial)
    for group in groups.values():
        yield load(group[0].task), group
