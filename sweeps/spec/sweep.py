"""Sweep, Search: definitions, which expand to trials.

A definition is a Python file with a known name in it, `sweep` or `search` or both; its docstring
says what it is for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Unpack

from local_machine.errors import InputError, nearest
from slurm.site import Resources
from sweeps.command_task.command import CommandOptions
from sweeps.command_task.task import CommandTask
from sweeps.search_space.allowed import examples
from sweeps.search_space.base import Drawn, MissingError, SearchSpace, readable
from sweeps.search_space.distributions import Range
from sweeps.search_space.function import SpaceFunction
from sweeps.search_space.given import space_of
from sweeps.search_space.tree import RangeTree
from sweeps.spec.grid import MAX_TRIALS, Point, Space, axes_of, check_count
from sweeps.spec.loader import guarded, shown
from sweeps.spec.trained_by import judged, refuse_options_alone, task_for, trained, values_for
from sweeps.spec.trial import Trial as Trial
from sweeps.spec.trial import by_task as by_task
from sweeps.task import Objective, Task
from trial_records.plan import FIRST_TASK

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
        refuse_options_alone(command, options)
        task_given = task
        if command is not None:
            base = values_for(command, first, base, space[0] if space else {})
            task = CommandTask.of(command, base, objective, options)
        else:
            base, task = trained(first, base, objective, task, "sweep")
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
        found = task_for(
            self.task,
            config,
            'give a TrainConfig, such as reported("resnet18"), or a function of the point; or say '
            "what trains it: task=",
        )
        return found if self.objective is None else judged(found, self.objective, config)

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
    space: Mapping[str, Range] | SpaceFunction
    """The fields that are searched, by dotted key; see sweeps.search_space. Or a function of an
    Optuna trial that returns the point: {field: value}."""
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
    where: Callable[[Point], bool] | None = None
    """Which points of the space may be trained; None: all."""

    def __init__(
        self,
        first: Any = None,
        /,
        space: Mapping[str, Range] | SpaceFunction | None = None,
        trials: int = 20,
        sampler: str = "tpe",
        pruner: str = "successive_halving",
        objective: str | Objective | None = None,
        seed: int = 0,
        start: Sequence[Point] = (),
        resources: Resources = Resources(),  # noqa: B008 - frozen
        task: Task | None = None,
        *,
        where: Callable[[Point], bool] | None = None,
        base: Any = None,
        command: str | Sequence[str] | None = None,
        **options: Unpack[CommandOptions],
    ) -> None:
        """`first` is the base; or, beside a `base`, the function `train(config, run)` that trains.
        Or a `command` trains, with the values of `base` and `space` for its placeholders. Of these
        two, `objective` says what is best. Raises InputError for what is not a valid search."""
        refuse_options_alone(command, options)
        if command is not None:
            ranges = space if isinstance(space, Mapping) else {}
            ends = {key: one.ends[0] for key, one in ranges.items() if hasattr(one, "ends")}
            base = values_for(command, first, base, ends)
            task = CommandTask.of(command, base, objective, options, "search")
        else:
            base, task = trained(first, base, objective, task, "search")
        given = (
            base, {} if space is None else space, trials, sampler, pruner, objective, seed, start,
            resources, task, where,
        )  # fmt: skip
        for one, value in zip(fields(self), given, strict=True):
            object.__setattr__(self, one.name, value)
        object.__setattr__(self, "objective", self._objective())
        self._check()

    def _objective(self) -> str | Objective:
        """As it was given, or the task's. Raises InputError for another than the task can have."""
        given = self.objective
        task = self._task
        if isinstance(given, Objective) and task.name == FIRST_TASK.name:
            return judged(task, given, self.base).objective
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

    @functools.cached_property
    def searched(self) -> SearchSpace:
        """Its space, as what it can say. Raises InputError for what is not a valid one."""
        given = self.space
        if not callable(given):
            return space_of(given)
        return space_of(lambda trial: guarded(lambda: given(trial), lambda _: "space", ""))

    def allows(self, point: Point) -> bool:
        """Whether the point satisfies `where`. Raises InputError where that cannot be said."""
        if self.where is None:
            return True
        condition = self.where
        found = guarded(
            lambda: condition(dict(point)), lambda _: f"where, at {readable(point)}", ""
        )
        if found is None:
            raise InputError(
                f"where, at {readable(point)}: it returns None", "return True or False"
            )
        return bool(found)

    @functools.cached_property
    def examples(self) -> Sequence[Drawn]:
        """Allowed points at the ends of the ranges, of every branch; the lowest one first."""
        return examples(self.searched, self.allows)

    def _check_space(self, task: Task) -> None:
        space = self.searched
        if self.where is not None and not callable(self.where):
            raise InputError(
                f"where is {shown(self.where)}",
                'give a function: where=lambda point: point["lr"] < 1',
            )
        if self.sampler == "grid":
            if not isinstance(space, RangeTree):
                raise InputError("sampler grid takes no function", 'space={"lr": choice([...])}')
            check_count(space.count() * (MAX_TRIALS // MAX_ASKED), "the points of sampler grid")
            for key, values in space.numbers():
                raise InputError(
                    f"{key}: sampler grid takes no {values}", f'"{key}": choice([...])'
                )
        points = [one.point for one in self.examples]
        if isinstance(space, RangeTree) and self.where is None:
            points = [*space.single_ends(), *(() if space.is_flat else points)]
        for point in points:
            task.override(self.base, point)

    def _check_start(self, task: Task) -> None:
        if isinstance(self.start, Mapping) or not isinstance(self.start, Sequence):
            raise InputError(
                f"start is a {type(self.start).__name__}", "give a list of points: start=[{...}]"
            )
        for point in self.start:
            task.override(self.base, self._started(point).point)

    def _started(self, point: Point) -> Drawn:
        """A point to start with, as the space has it. Raises InputError where it has not."""
        fields = self.searched.fields
        what = f"start: {shown(point)}: not the fields of the space"
        if not isinstance(point, Mapping):
            raise InputError(what, f"give a value to each of: {', '.join(fields)}")
        try:
            one = self.searched.at(point)
        except MissingError:
            raise InputError(what, f"give a value to each of: {', '.join(fields)}") from None
        except InputError as error:
            raise InputError(f"start: {error.what}", error.help) from None
        if more := [key for key in point if key not in {*one.point, *one.params}]:
            raise InputError(
                f"start: {readable(point)}: the space has no {shown(more[0])} there",
                f"give a value to each of: {', '.join(one.point)}",
            )
        if not self.allows(one.point):
            raise InputError(f"start: {readable(point)} does not satisfy where", "leave it out")
        return one

    @functools.cached_property
    def first(self) -> Sequence[Drawn]:
        """The points that it begins with, those of sampler grid included."""
        found = [*map(self._started, self.start)]
        if self.sampler == "grid" and isinstance(self.searched, RangeTree):
            found += [one for one in self.searched.every() if self.allows(one.point)]
        return found

    @property
    def trained_by(self) -> Task:
        """What trains its trials. Raises InputError where nobody says."""
        task, given = self._task, self.objective
        return judged(task, given, self.base) if isinstance(given, Objective) else task

    @property
    def _task(self) -> Task:
        help_line = 'give a TrainConfig, such as reported("resnet18"), or say what trains it: task='
        return task_for(self.task, self.base, help_line)

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


def _check_resources(resources: object) -> None:
    if not isinstance(resources, Resources):
        raise InputError(
            f"resources is a {type(resources).__name__}",
            "give slurm.site's: resources=Resources(nodes=1, gpus_per_node=2)",
        )
