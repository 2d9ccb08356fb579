"""What trains a sweep or search, by what its definition gives: a base, a function or a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local_machine.errors import InputError, nearest
from sweeps.command_task.command import CommandOptions
from sweeps.function_task import FunctionTask
from sweeps.spec.loader import shown
from sweeps.spec.task_loader import keep, task_of
from sweeps.task import Objective, Task
from trial_records.config import flat_of
from trial_records.schema import Schema


def judged(task: Task, objective: object, config: Any) -> Task:
    """The task by an objective. Raises InputError where it is none of its."""
    if not isinstance(objective, Objective):
        raise InputError(
            f"objective is {shown(objective)}",
            'say what is compared: objective=maximize("val_accuracy")',
        )
    if objective == task.objective:
        return task
    judged = task.judged_by(objective, config)
    keep(judged)
    return judged


def trained(
    first: Any, base: Any, objective: Any, task: Task | None, what: str
) -> tuple[Any, Task | None]:
    """The base and the task of a sweep or search: its first argument is the one, or a function that
    is the other. Raises InputError where that function can be no task."""
    if base is None:
        return first, task
    return base, task if first is None else FunctionTask.of(first, base, objective, what)


def values_for(command: object, first: Any, base: Any, point: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a command: the base's, and those that only the space has. Raises InputError."""
    if first is not None:
        raise InputError(
            f"{shown(first)} stands beside the command {shown(command)}",
            "a command has values by name: base={...}",
        )
    values = {} if base is None else Schema.of(base).values(base)
    known = flat_of(values)
    for key, value in point.items():
        if key not in known:
            if not isinstance(key, str):
                raise InputError(f"{shown(key)} is not a value's name", 'name it: "lr"')
            values[key] = list(value) if isinstance(value, tuple) else value
    return values


def refuse_options_alone(command: object, options: Mapping[str, Any]) -> None:
    """Raises InputError for what no command can have, or has without one."""
    known = CommandOptions.__annotations__
    for name in options:
        if name not in known:
            raise InputError(f"unknown argument {name!r}", nearest(name, known))
        if command is None:
            raise InputError(f"{name} is given without a command", f'command="...", {name}=...')


def task_for(task: Task | None, config: Any, help_line: str) -> Task:
    if task is not None:
        keep(task)
        return task
    found = task_of(config)
    if found is None:
        raise InputError(f"base is a {type(config).__name__}", help_line)
    return found
