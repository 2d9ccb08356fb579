"""Sweep, Search: definitions, which expand to trials.

A definition is a Python file with a known name in it, `sweep` or `search` or both; its docstring
says what it is for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Unpack

from local_machine.errors import InputError, nearest
from slurm.site import Resources
from sweeps.command_task.command import CommandOptions
from sweeps.command_task.task import CommandTask
from sweeps.function_task import FunctionTask
from sweeps.spec.distributions import Choice, Numbers, Range
from sweeps.spec.grid import MAX_TRIALS, Point, Space, axes_of, check_count
from sweeps.spec.loader import shown
from sweeps.spec.task_loader import keep, task_of
from sweeps.spec.trial import Trial as Trial
from sweeps.spec.trial import by_task as by_task
from sweeps.task import Objective, Task
from trial_records.config import flat_of
from trial_records.plan import FIRST_TASK
from trial_records.schema import Schema

if TYPE_CHECKING:
    from sweeps import OpenedSweeps

SAMPLERS = ("tpe", "random", "grid", "cmaes", "gp")
PRUNERS = ("successive_halving", "hyperband", "median", "none")
OBJECTIVES = ("best", "last")
# Of a search: Optuna reads its whole journal for each.
MAX_ASKED = 100_000
# Of a trial's folder, which stands in paths and tables.
NAME_LENGTH = 100


@dataclass(frozen=True, init=False)
class Sweep:
    """A named set of trials: a base configuration and the points at which it is changed.

    Sweep(reported("resnet18"), grid({...}))                     # our trainer's
    Sweep(train, base=Config(), space=grid({...}), objective=maximize("accuracy"))
    """

    base: Any
    """The configuration at every point, or a function of the point where they differ by it."""
    space: Space = ({},)
    """The points, each a set of overrides; see sweeps.spec.grid."""
    seeds: int = 1
    """How many seeds each point is run with, counted up from the configuration's own."""
    seed_offset: int = 0
    """Added to the configuration's own seed before counting: so a stage of a study gets seeds that
    no choice before it has seen."""
    resources: Resources = field(default_factory=Resources)
    """What a Slurm job asks for; the command line wins. No part of a trial's identity."""
    task: Task | None = None
    """What trains; not given where the configuration's class says it, as a TrainConfig does."""
    objective: Objective | None = None
    """By what trials of a configuration's own task are compared; not given: by that task's."""

    def __init__(
        self,
        first: Any = None,
        /,
        space: Space = ({},),
        seeds: int = 1,
        seed_offset: int = 0,
        resources: Resources = Resources(),  # noqa: B008 - frozen
        task: Task | None = None,
        *,
        base: Any = None,
        objective: Objective | None = None,
        command: str | Sequence[str] | None = None,
        **options: Unpack[CommandOptions],
    ) -> None:
        """`first` is the base; or, beside a `base`, the function `train(config, run)` that trains.
        Or a `command` trains, with the values of `base` and `space` for its placeholders. Of these
        two, `objective` says what is compared. Raises InputError for what is not a valid sweep."""
        _refuse_options_alone(command, options)
        task_given = task
        if command is not None:
            base = _values_for(command, first, base, space[0] if space else {})
            task = CommandTask.of(command, base, objective, options)
        else:
            base, task = _trained(first, base, objective, task, "sweep")
        # A function's or a command's is its task's.
        others = objective if task is None or task is task_given else None
        given = (base, space, seeds, seed_offset, resources, task, others)
        for one, value in zip(fields(self), given, strict=True):
            object.__setattr__(self, one.name, value)
        self._check()

    def _check(self) -> None:
        if self.task is not None or not callable(self.base):
            self.task_for(self.base)
        if not isinstance(self.space, tuple) or not all(
            isinstance(point, Mapping) for point in self.space
        ):
            raise InputError(
                f"space is {shown(self.space)}, not a tuple of points",
                'make it with grid, zipped or chain, as in grid({"epochs": [25, 50]})',
            )
        if odd := [key for key in axes_of(self.space) if not isinstance(key, str)]:
            raise InputError(f"{shown(odd[0])} is not a field", 'name it: "optimizer.lr"')
        if type(self.seeds) is not int or self.seeds < 1:
            raise InputError(f"seeds is {shown(self.seeds)}", "give a whole number: seeds=3")
        if type(self.seed_offset) is not int or self.seed_offset < 0:
            raise InputError(
                f"seed_offset is {shown(self.seed_offset)}",
                "give a whole number from 0: seed_offset=1000",
            )
        check_count(len(self.space) * self.seeds, f"{len(self.space)} points of {self.seeds} seeds")
        _check_resources(self.resources)

    def task_for(self, config: Any) -> Task:
        """What trains a configuration of the sweep. Raises InputError where nobody says."""
        found = _task_for(
            self.task,
            config,
            'give a TrainConfig, such as reported("resnet18"), or a function of the point; or say '
            "what trains it: task=",
        )
        return found if self.objective is None else _judged(found, self.objective, config)

    def launch(self, name: str, **words: Any) -> OpenedSweeps:
        """Run what is left of it, under this name: `sweeps.launch_sweep`, which has the words."""
        from sweeps import launch_sweep

        return launch_sweep(self, name, **words)


@dataclass(frozen=True, init=False)
class Search:
    """A search for the best values of some fields: a base configuration and ranges.

    Search(reported("resnet18"), {"optimizer.lr": log_uniform(1e-3, 1)})     # our trainer's
    Search(train, base=Config(), space={"lr": log_uniform(1e-4, 1)}, objective=minimize("loss"))
    """

    base: Any
    space: Mapping[str, Range]
    """The fields that are searched, by dotted key; see sweeps.spec.distributions."""
    trials: int = 20
    """How many are asked for in all."""
    sampler: str = "tpe"
    """Who proposes the next values; one of SAMPLERS."""
    pruner: str = "successive_halving"
    """Who stops bad trials early; one of PRUNERS."""
    objective: str | Objective = "best"
    """Of our trainer, what is maximised: validation accuracy of the `best` epoch, or of the `last`,
    or another objective of its epochs, such as minimize("val_loss"). Of another task, its own."""
    seed: int = 0
    """The sampler's; not the trials' own."""
    start: Sequence[Point] = ()
    """Points to try first, such as known good ones."""
    resources: Resources = field(default_factory=Resources)
    """What a Slurm job asks for; the command line wins."""
    task: Task | None = None
    """What trains; not given where the configuration's class says it, as a TrainConfig does."""

    def __init__(
        self,
        first: Any = None,
        /,
        space: Mapping[str, Range] | None = None,
        trials: int = 20,
        sampler: str = "tpe",
        pruner: str = "successive_halving",
        objective: str | Objective | None = None,
        seed: int = 0,
        start: Sequence[Point] = (),
        resources: Resources = Resources(),  # noqa: B008 - frozen
        task: Task | None = None,
        *,
        base: Any = None,
        command: str | Sequence[str] | None = None,
        **options: Unpack[CommandOptions],
    ) -> None:
        """`first` is the base; or, beside a `base`, the function `train(config, run)` that trains.
        Or a `command` trains, with the values of `base` and `space` for its placeholders. Of these
        two, `objective` says what is best. Raises InputError for what is not a valid search."""
        _refuse_options_alone(command, options)
        if command is not None:
            ends = {key: one.ends[0] for key, one in (space or {}).items() if hasattr(one, "ends")}
            base = _values_for(command, first, base, ends)
            task = CommandTask.of(command, base, objective, options, "search")
        else:
            base, task = _trained(first, base, objective, task, "search")
        given = (base, space, trials, sampler, pruner, objective, seed, start, resources, task)
        for one, value in zip(fields(self), given, strict=True):
            object.__setattr__(self, one.name, value)
        object.__setattr__(self, "objective", self._objective())
        self._check()

    def _objective(self) -> str | Objective:
        """As it was given, or the task's. Raises InputError for another than the task can have."""
        given = self.objective
        task = self._task
        if isinstance(given, Objective) and task.name == FIRST_TASK.name:
            return _judged(task, given, self.base).objective
        if task.name == FIRST_TASK.name:
            found = "best" if given is None else given
            if not isinstance(found, str) or found not in OBJECTIVES:
                raise InputError(
                    f"unknown objective {shown(found)}", nearest(shown(found), OBJECTIVES)
                )
            return found
        if given is not None and given != task.objective:
            raise InputError(
                f"objective is {shown(given)}, and {task.name} has its own: "
                f"{task.objective.in_words}",
                "leave it out",
            )
        return task.objective

    def _check(self) -> None:
        if not isinstance(self.space, Mapping) or not self.space:
            raise InputError(
                "an empty space: the search varies nothing",
                'give it a field: space={"optimizer.weight_decay": log_uniform(1e-5, 1e-2)}',
            )
        for word, choices, what in (
            (self.sampler, SAMPLERS, "sampler"),
            (self.pruner, PRUNERS, "pruner"),
        ):
            if not isinstance(word, str) or word not in choices:
                raise InputError(f"unknown {what} {shown(word)}", nearest(shown(word), choices))
        if type(self.trials) is not int or not 1 <= self.trials <= MAX_ASKED:
            raise InputError(
                f"trials is {shown(self.trials)}",
                f"give a whole number from 1 to {MAX_ASKED}: trials=20",
            )
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {shown(self.seed)}", "give a whole number from 0: seed=0")
        _check_resources(self.resources)
        self._check_space(self.trained_by)
        self._check_start(self.trained_by)

    def _check_space(self, task: Task) -> None:
        for key, values in self.space.items():
            if not isinstance(key, str):
                raise InputError(f"{shown(key)} is not a field", 'name it: "optimizer.lr"')
            if not isinstance(values, (Numbers, Choice)):
                raise InputError(
                    f"{key}: {shown(values)} is not a range",
                    "make it with log_uniform, choice, ...",
                )
            if self.sampler == "grid" and not isinstance(values, Choice):
                raise InputError(
                    f"{key}: sampler grid takes no {values}", f'"{key}": choice([...])'
                )
            for value in values.ends:
                task.override(self.base, {key: value})
        if self.sampler == "grid":
            product = math.prod(len(values.ends) for values in self.space.values())
            check_count(product * (MAX_TRIALS // MAX_ASKED), "the points of sampler grid")

    def _check_start(self, task: Task) -> None:
        if isinstance(self.start, Mapping) or not isinstance(self.start, Sequence):
            raise InputError(
                f"start is a {type(self.start).__name__}", "give a list of points: start=[{...}]"
            )
        for point in self.start:
            if not isinstance(point, Mapping) or set(point) != set(self.space):
                raise InputError(
                    f"start: {shown(point)}: not the fields of the space",
                    f"give a value to each of: {', '.join(self.space)}",
                )
            for key, value in point.items():
                if not self.space[key].holds(value):
                    raise InputError(
                        f"start: {key}={shown(value)} lies outside of {self.space[key]}",
                        "widen the range, or start within it",
                    )
            task.override(self.base, point)

    @property
    def trained_by(self) -> Task:
        """What trains its trials. Raises InputError where nobody says."""
        task, given = self._task, self.objective
        return _judged(task, given, self.base) if isinstance(given, Objective) else task

    @property
    def _task(self) -> Task:
        help_line = 'give a TrainConfig, such as reported("resnet18"), or say what trains it: task='
        return _task_for(self.task, self.base, help_line)

    @property
    def is_trainers(self) -> bool:
        """Whether it is by the validation accuracy of the project's own trainer."""
        return self.trained_by.planned.is_trainers

    @property
    def goal(self) -> Objective:
        """Which metric is to be how, of which of a trial's rows."""
        if isinstance(self.objective, Objective):
            return self.objective
        last = self.objective == "last"
        return replace(self.trained_by.objective, reduction="last" if last else "best")


def _judged(task: Task, objective: object, config: Any) -> Task:
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


def _trained(
    first: Any, base: Any, objective: Any, task: Task | None, what: str
) -> tuple[Any, Task | None]:
    """The base and the task of a sweep or search: its first argument is the one, or a function that
    is the other. Raises InputError where that function can be no task."""
    if base is None:
        return first, task
    return base, task if first is None else FunctionTask.of(first, base, objective, what)


def _values_for(command: object, first: Any, base: Any, point: Mapping[str, Any]) -> dict[str, Any]:
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


def _refuse_options_alone(command: object, options: Mapping[str, Any]) -> None:
    """Raises InputError for what no command can have, or has without one."""
    known = CommandOptions.__annotations__
    for name in options:
        if name not in known:
            raise InputError(f"unknown argument {name!r}", nearest(name, known))
        if command is None:
            raise InputError(f"{name} is given without a command", f'command="...", {name}=...')


def _task_for(task: Task | None, config: Any, help_line: str) -> Task:
    if task is not None:
        keep(task)
        return task
    found = task_of(config)
    if found is None:
        raise InputError(f"base is a {type(config).__name__}", help_line)
    return found


def _check_resources(resources: object) -> None:
    if not isinstance(resources, Resources):
        raise InputError(
            f"resources is a {type(resources).__name__}",
            "give slurm.site's: resources=Resources(nodes=1, gpus_per_node=2)",
        )
