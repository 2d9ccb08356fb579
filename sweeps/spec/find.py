"""Finding a definition by its name or its file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from local_machine.errors import InputError, nearest
from local_machine.files import matching, read_file
from local_machine.json_files import parse_json
from sweeps.spec.catalogue import DEFINITIONS, STUDIES, names
from sweeps.spec.loader import Definition, load, may_hold
from sweeps.spec.sweep import Search, Sweep
from sweeps.spec.task_loader import load as load_task
from trial_records import plan as plan_files
from trial_records.names import NAME_BYTES, is_name
from trial_records.plan import FIRST_TASK, PlannedTask

# So many folders up lies that of the sweep: RESULTS/SWEEP/searches/ID/best.json.
_DEPTH = 3


def find(name: str, results: Path | None = None) -> tuple[str, Sweep]:
    """The sweep called `name`, or the one defined in the Python file at that path; with its name.

    With `results`, also one that a command line has defined there. A configuration (.json) is a
    sweep of one trial. Raises InputError where there is none, or the file fails or has no `sweep`
    in it.
    """
    if name.endswith(".json"):
        path = Path(name)
        task = load_task(_planned(path))
        return stem(path), Sweep(task.read(path), task=task)
    return _loaded(name, Sweep, results)


def _planned(path: Path) -> PlannedTask:
    """The task that a configuration's file is of, as the plans of the sweep say in whose folder the
    file lies; the project's trainer where it names none. Raises InputError."""
    try:
        values = parse_json(path, read_file(path))
    except FileNotFoundError:
        return FIRST_TASK  # which says that there is no file
    if not isinstance(values, dict) or values.keys() != {"task", "values"}:
        return FIRST_TASK
    for folder in path.resolve().parents[:_DEPTH]:
        for plan in plan_files.paths(folder):
            task = plan_files.read(plan).task
            if task.name == values["task"]:
                return task
    raise InputError(
        f"{path} is of the task {str(values['task'])[:100]!r}, and no plan beside it says how that "
        "is imported",
        "give the file where it lies in its sweep's folder, or launch the task's definition with "
        "--set",
    )


def find_search(name: str, results: Path | None = None) -> tuple[str, Search]:
    """The search called `name`, as `find` finds a sweep."""
    return _loaded(name, Search, results)


def is_projects(name: str) -> bool:
    """Whether a definition, or a study, of that name comes with the project."""
    return _of_project(name).exists() or (STUDIES / f"{name}.py").exists()


def holds(path: Path, kind: str) -> bool:
    """Whether a definition file, once run, may have a `sweep`, or a `search`. Raises InputError,
    and FileNotFoundError where there is none."""
    return may_hold(path, kind)


def written(name: str, results: Path) -> Path:
    """Where the definition is that a command line of that name stands for."""
    return results / name / f"{name}.py"


def _loaded(name: str, kind: type[Definition], results: Path | None) -> tuple[str, Definition]:
    """The definition of that kind and name, or at that path. Raises InputError."""
    word = kind.__name__.lower()
    path = Path(name) if name.endswith(".py") else _of_project(name)
    stem(path)
    if results is not None and not name.endswith(".py") and not is_projects(name):
        path = written(name, results)
        _check_writer(path)
    try:
        return path.stem, load(path, word, kind)
    except FileNotFoundError:
        if name.endswith(".py"):
            raise InputError(
                f"no definition file {name}", "give the path of a Python file"
            ) from None
        raise InputError(
            f"no {word} is called {name!r}",
            f"{nearest(name, names(word))} Or give the path of a definition file (.py).",
        ) from None


def _check_writer(path: Path) -> None:
    """Raises InputError where the file in a results folder is not this user's own, since it would
    be run as this user; a path that is typed says that this is wanted."""
    try:
        facts = path.lstat()
        mode, owner = facts.st_mode, facts.st_uid
    except OSError:
        return  # whoever reads it says what is wrong
    if mode & stat.S_IWOTH or owner != os.geteuid():
        raise InputError(
            f"another user may have written {path}, and it would be run as you",
            f"look at it, then give its path instead of its name: {path}",
        )


def _of_project(name: str) -> Path:
    """The file of that name, in whichever folder of the project's definitions it lies."""
    file = f"{name}.py"
    return next(
        (path for path in matching(DEFINITIONS, "**/*.py") if path.name == file), DEFINITIONS / file
    )


def stem(path: Path) -> str:
    """The name that a definition file gives. Raises InputError for one that names no folder."""
    return check_name(path.stem)


def check_name(name: str) -> str:
    """The name of a sweep. Raises InputError for one that names no folder."""
    if not is_name(name):
        raise InputError(
            f"{name!r} is not a valid name for a sweep",
            f"use at most {NAME_BYTES} letters, digits, '_', '-' and '.', since it names a folder",
        )
    return name
