"""Launches: the plans of each sweep of a results folder, and the searches in them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from analysis.data.search_space import Search
from local_machine.errors import EXIT_IO, InputError
from local_machine.secrets import masked_values
from trial_records import plan as plan_files
from trial_records.history.launch_changes import LaunchedTrials
from trial_records.plan import PlanFile, PlannedTrial


@dataclass(frozen=True)
class Launch:
    """A plan's file, and the search in it, where it is one."""

    file: PlanFile
    search: Search | None

    @property
    def id(self) -> str:
        return self.file.id

    @property
    def trials(self) -> list[PlannedTrial]:
        return self.file.trials

    @property
    def is_trainers(self) -> bool:
        """Whether its trials are of the trainer that comes with the project, and compared by its
        own metric; else they are shown as those of any task."""
        return self.file.task.is_trainers


def paths(results: Path, problems: list[InputError]) -> dict[str, list[Path]]:
    """The plans of each sweep; a folder that cannot be looked into is added to the problems."""
    help_line = "run a sweep first: python -m sweeps.launch NAME"
    found: dict[str, list[Path]] = {}
    if not results.is_dir():
        raise InputError(f"there is no results folder {results}", help_line)
    for name in plan_files.sweeps(results):
        try:
            if paths := plan_files.paths(results / name):
                found[name] = paths
        except InputError as problem:
            problems.append(problem)
    if not found and not problems:
        raise InputError(f"{results} holds no plan (<sweep>/plans/<id>.json)", help_line)
    return found


def read(path: Path) -> Launch:
    """Raises InputError where it cannot be read, FileNotFoundError where it is gone."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        # Neither a page nor a table can hold the name as it is.
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise InputError(
            f"the name of {shown} is not UTF-8",
            "it was left in place; rename it to be in the report",
            exit_code=EXIT_IO,
        ) from None
    plan = plan_files.read(path)
    if plan.search is None:
        return Launch(plan, None)
    try:
        search = Search.model_validate(plan.search)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("search", *first["loc"])))
        raise plan_files.damaged(path, f"{where}: {first['msg']}") from None
    for trial in plan.trials:
        for key, values in search.space.items():
            if key not in trial.point and values.when is not None:
                continue
            if not values.holds(given := trial.point.get(key)):
                what = f"{trial.name}: {key}={given!r} is not in the search's space"
                raise plan_files.damaged(path, what)
    return Launch(plan, search)


def launched(launch: Launch) -> LaunchedTrials:
    """What it asked for, to be compared with what another launch of its sweep did."""
    file = launch.file
    words = [f"{key}={value}" for key, value in masked_values(file.overrides).items()]
    return LaunchedTrials(
        file.id,
        file.created,
        " ".join([file.scale, *words]),
        {trial.fingerprint: trial.name for trial in file.trials},
    )


def superseded(plans: list[Launch]) -> set[str]:
    """Ids of the plans whose trials another one holds; of equal plans the last one stays.

    A search is none of them: it says how its trials were chosen, and a launch what was wanted.
    """
    plans = [plan for plan in plans if plan.search is None]
    trials = [{trial.fingerprint for trial in plan.trials} for plan in plans]
    return {
        plan.id
        for i, plan in enumerate(plans)
        if any(trials[i] < t or (trials[i] == t and j > i) for j, t in enumerate(trials) if j != i)
    }
