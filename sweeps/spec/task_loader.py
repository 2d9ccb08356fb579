"""The loader of tasks: imports the task that a plan or a configuration names, once a process."""

from __future__ import annotations

from pathlib import Path
from types import FunctionType

from local_machine.code import references, snapshot
from local_machine.code.references import place_of
from local_machine.errors import InputError
from sweeps.command_task.task import CommandTask
from sweeps.function_task import FunctionTask
from sweeps.spec import loader
from sweeps.task import Task, Values
from trial_records.plan import FIRST_TASK, PlannedTask
from trial_records.schema import Schema

# By what a plan says: the task, or why it cannot be had.
_tried: dict[PlannedTask, Task | InputError] = {}
# By the reference that a configuration's class has.
_of_classes: dict[str, Task] = {}


def load(planned: PlannedTask) -> Task:
    """The task that a plan names. Raises InputError where it cannot be imported, is not a task, or
    another one of its name is loaded."""
    if planned not in _tried:
        try:
            _tried[planned] = _import(planned)
        except InputError as error:
            _tried[planned] = error
    found = _tried[planned]
    if isinstance(found, InputError):
        raise found
    return found


def loaded() -> list[Task]:
    """The tasks that this process has loaded."""
    return [task for task in _tried.values() if isinstance(task, Task)]


def keep(task: Task) -> None:
    """Have a task that a definition made in this process stand for its reference. Raises InputError
    where another one of its name is loaded."""
    check_one_of_a_name(task.planned, [one.planned for one in loaded()])
    _tried[task.planned] = task


def task_of(config: object) -> Task | None:
    """The task whose configuration this is, as its class says by `TASK`, the task's reference."""
    reference = getattr(type(config), "TASK", None)
    if not isinstance(reference, str):
        return None
    if reference not in _of_classes:
        task = _import(PlannedTask(name="", reference=reference))
        keep(task)
        _of_classes[reference] = task
    return _of_classes[reference]


def check_one_of_a_name(task: PlannedTask, others: list[PlannedTask]) -> None:
    """Raise InputError where one of the others has the task's name and another file: their trials
    could not be told apart."""
    for other in (FIRST_TASK, *others):
        if other.name == task.name and not _same_place(task.reference, other.reference):
            before = other.reference.rpartition(":")[0]
            if (
                task.command is not None
                and not task.reference.startswith("/")
                and before[:1] == "/"
            ):
                raise InputError(
                    f"the command {task.name!r} names no file here, and ran {before} before",
                    "launch from the folder from which that was launched, or give it results of "
                    "its own: --results DIR",
                )
            raise InputError(
                f"two tasks are called {task.name!r}: {task.reference} and {other.reference}",
                (
                    "write the whole path of the script into one of the commands, or give it "
                    if task.command is not None
                    else "give one of them another name, or "
                )
                + "results of its own: --results DIR",
            )


def _same_place(one: str, other: str) -> bool:
    """Whether two references lead to one program: to one file, to equal files, or to a file that
    moved, since the other one is gone."""
    first, second = place_of(one), place_of(other)
    if first == second:
        return True
    paths = Path(first), Path(second)
    if not all(path.suffix == ".py" for path in paths):
        return False
    try:
        return paths[0].read_bytes() == paths[1].read_bytes()
    except OSError:
        return True


def code_of(task: PlannedTask) -> Path | None:
    """The package or the file that a task is in; None where nobody finds it."""
    if task.command is not None:
        file = snapshot.found(Path(place_of(task.reference)))
        return file.resolve() if file.is_file() else None
    return references.code_of(task.reference)


def own_code_of(task: PlannedTask, values: Values) -> tuple[Path, ...]:
    """The files and packages, beside the task's own, that stored values of the project's trainer
    name. Of no other task: whoever only shows trials imports none."""
    is_trainers = task.reference == FIRST_TASK.reference
    return references.places_of(load(task).own_code(values)) if is_trainers else ()


def _import(planned: PlannedTask) -> Task:
    if planned.is_adopted:
        raise InputError(
            f"{planned.name} is not a program: these runs were made elsewhere and adopted, so they "
            "cannot be trained here",
            "to add runs, or to bring them up to date: python -m sweeps.adopt",
        )
    if planned.command is not None:
        return CommandTask(planned)
    called = f"the task {planned.name!r}" if planned.name else "the task"
    found = references.load(planned.reference, called, _of_file)
    if isinstance(found, FunctionType) and planned.metric is not None:
        kind = planned.config and references.load(
            planned.config, f"the configuration of {called}", _of_file
        )
        task: object = FunctionTask(found, Schema.of_class(kind) if kind else None, planned)
    else:
        # A sweep or a search stands for its task.
        task = found if isinstance(found, Task) else getattr(found, "task", None)
    if not isinstance(task, Task):
        raise InputError(
            f"{called}: {planned.reference} is a {type(found).__name__}, not a task",
            "name an instance of a class that implements sweeps.task.Task",
        )
    if planned.name and task.name != planned.name:
        raise InputError(
            f"{planned.reference} is the task {task.name!r} now, and was {planned.name!r}",
            "a task's name is part of its trials' identity: give it back the name that it had",
        )
    check_one_of_a_name(task.planned, [one.planned for one in loaded()])
    return task


def _of_file(path: Path, attribute: str) -> object:
    return loader.load(path, attribute, object)
