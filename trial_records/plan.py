"""Plans: the files that say what a launch asked for, read as they were stored.

results/<sweep>/plans/<id>.json

A plan is data: its configurations are never checked against what today's version can train, so that
a field that was renamed, an architecture that was removed or a value that is out of today's range
is shown as it was stored. What is checked is that nobody changed it since: by its seal,
or, of a plan from before there were seals, by each trial's fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from local_machine import json_files
from local_machine.errors import EXIT_IO, InputError, move_away
from local_machine.files import read_file, unreadable
from trial_records.config import TRAINER, content_of, is_of

SCHEMA_VERSION = 2
FOLDER = "plans"
_SURROGATE = re.compile(rb"\\u[dD][89abAB]")
# What a scale changes of a configuration, after its point has set it.
_SCALED = frozenset(
    {"epochs", "schedule.warmup_epochs", "data.train_limit", "data.test_limit", "model.width"}
)


class _Stored(BaseModel):
    # Its other fields are for other versions.
    model_config = ConfigDict(strict=True, frozen=True)


class PlannedCommand(_Stored):
    """What a plan says of a task that is a command line."""

    template: str
    """The command line, with placeholders for values."""
    args: Literal["placeholders", "argparse", "hydra"] = "placeholders"
    """How the values follow that no placeholder uses."""
    shell: bool = False
    metrics: str | Annotated[tuple[str, ...], Field(strict=False)]
    """Where the program writes what it measures: a file in its folder, or a pattern of its output
    behind `output: `, or several of these."""
    step: str | None = None
    """What its metrics call the step, where that is neither `epoch` nor `step`."""
    done: str | None = None
    """The file in its folder that says that it is complete."""
    stop_signal: str = "TERM"
    grace: float = 30.0
    """How many seconds it may take to end after that signal."""
    processes: Literal["auto", "per_rank", "per_node"] = "auto"
    directory: str | None = None
    """Where it works: an absolute path, or `{folder}`, the trial's own; None: where its worker
    does."""
    resume: str | None = None
    """Words that follow the command where the folder has a file like `checkpoint`."""
    checkpoint: str | None = None
    predictions: str | None = None
    """A file in its folder with what it predicted, for predictions.parquet."""
    timings: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """The metrics that no two runs share, such as times."""


class PlannedTask(_Stored):
    """What a plan says of the program that its trials run."""

    name: str
    """Part of each trial's identity."""
    reference: str
    """How it is imported, by whoever trains."""
    budget: str | None = None
    """The field that says how long a trial trains, by its dotted name; None: there is none."""
    seed: str | None = None
    config: str | None = None
    """How the class of a configuration is imported, where the task does not know it by itself."""
    metric: str | None = None
    """What says how good a trial is; the best of its rows, the last, or what training returns."""
    direction: Literal["maximize", "minimize"] = "maximize"
    reduction: Literal["best", "last", "final"] = "best"
    command: PlannedCommand | None = None
    """The command line that it is; None for a task that is imported."""
    is_adopted: bool = False
    """Whether its trials were made elsewhere and adopted, so that nothing can train them."""

    @property
    def is_trainers(self) -> bool:
        """Whether it is the project's trainer, compared by its own metric, validation accuracy."""
        return (self.name, self.metric) == (TRAINER, FIRST_TASK.metric)

    @property
    def objective(self) -> tuple[str | None, str, str]:
        """Metric, direction and reduction: no part of what a trial is."""
        return self.metric, self.direction, self.reduction

    def as_told_by(self, other: PlannedTask) -> PlannedTask:
        """The same task with the other's objective and options of its command: neither is part of
        what a trial is."""
        names = ("metric", "direction", "reduction", "command")
        return self.model_copy(update={name: getattr(other, name) for name in names})

    def content(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a trial's config.json holds, and its fingerprint is of."""
        return content_of(values, self.name)


# What plans of schema 1 are of: our own trainer.
FIRST_TASK = PlannedTask(
    name=TRAINER,
    reference="trainer.task:task",
    budget="epochs",
    seed="seed",
    metric="val_accuracy",
)


class PlannedTrial(_Stored):
    name: str
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    point: dict[str, Any]
    """The axes' values as the definition has them, before any scaling."""
    config: dict[str, Any]
    """The configuration, nested, whatever its fields are."""


class PlanFile(_Stored):
    schema_version: Literal[1, 2]
    task: PlannedTask = FIRST_TASK
    """Whose trials these are; schema 1 does not say it."""
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    scale: str
    overrides: dict[str, Any]
    axes: list[str]
    seeds: list[int]
    created: str
    command: str
    search: dict[str, Any] | None = None
    """What a search says of itself."""
    trials: Annotated[list[PlannedTrial], Field(min_length=1)]


def identity(fingerprints: Iterable[str]) -> str:
    """The id of a sweep's plan: 8 hex digits of its set of trials."""
    return hashlib.sha256("\n".join(sorted(fingerprints)).encode()).hexdigest()[:8]


def paths(sweep: Path) -> list[Path]:
    """What lies in a sweep's folder under a plan's name; none where it has no plans. Raises
    InputError where the folder cannot be read."""
    folder = sweep / FOLDER
    return [folder / name for name in _names(folder) if name.endswith(".json") and name[0] != "."]


def sweeps(results: Path) -> list[str]:
    """The folders of a results folder that have plans, or may have some: those that this user
    cannot look into are among them. Raises InputError where the results folder cannot be read."""
    return [name for name in _names(results) if _may_have_plans(results / name)]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(folder, error) from None


def _may_have_plans(folder: Path) -> bool:
    try:
        return (folder / FOLDER).is_dir()
    except OSError:
        return True


def read(path: Path) -> PlanFile:
    """A plan whose integrity was checked. Raises FileNotFoundError where there is none, InputError
    where it cannot be read, is not a plan, or was changed since it was written."""
    content = read_file(path)
    try:
        values, sealed = json_files.opened(content)
        if _SURROGATE.search(content):
            json.dumps(values, ensure_ascii=False).encode()  # pairs make a character, others fail
        plan = PlanFile.model_validate(values)
        _check(plan, path.stem)
        if not sealed:
            _check_unsealed(plan)
        return plan
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = f"{where}{': ' if where else ''}{first['msg']}"
    except (ValueError, RecursionError) as error:
        what = str(error)
    raise damaged(path, what)


def damaged(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} is not a usable plan: {what}",
        "it was left in place; put it back from a backup, or move it away and launch the sweep "
        f"again: {move_away(path)}",
        exit_code=EXIT_IO,
    )


def _check(plan: PlanFile, stem: str) -> None:
    if plan.schema_version > 1 and "task" not in plan.model_fields_set:
        raise ValueError("task: it does not say whose trials these are")
    if plan.id != stem:
        raise ValueError(f"id: {plan.id} is not the name of the file")
    for what in ("name", "fingerprint"):
        found = [getattr(trial, what) for trial in plan.trials]
        if len(set(found)) < len(found):
            twice = next(one for one in found if found.count(one) > 1)
            raise ValueError(f"trials: the {what} {twice!r} is there twice")
    for number, trial in enumerate(plan.trials):
        if "/" in trial.name or "\0" in trial.name or trial.name[-8:] != trial.fingerprint[:8]:
            raise ValueError(
                f"trials.{number}.name: {trial.name!r} is not a folder's name that ends in the "
                f"fingerprint's first digits, {trial.fingerprint[:8]}"
            )


def _check_unsealed(plan: PlanFile) -> None:
    """What can be known of a plan that has no digest: its configurations are those that are named
    by their fingerprints, its set of trials by its id, and its points agree with its axes and
    with the configurations."""
    varied = {axis for trial in plan.trials for axis in trial.point}
    if varied != set(plan.axes):
        raise ValueError(f"axes: {plan.axes} are not those of its points, {sorted(varied)}")
    for number, trial in enumerate(plan.trials):
        if not is_of(plan.task.content(trial.config), trial.fingerprint):
            raise ValueError(
                f"trials.{number}.config: the configuration of {trial.name} is not the one that "
                "its fingerprint names"
            )
        _check_point(trial, plan.scale, f"trials.{number}.point")
    if plan.search is None and identity(trial.fingerprint for trial in plan.trials) != plan.id:
        raise ValueError(f"id: {plan.id} does not name this set of trials")


def _check_point(trial: PlannedTrial, scale: str, where: str) -> None:
    """A point's values are in the configuration, but where a scale or the count of seeds changes
    them later."""
    for axis, given in trial.point.items():
        stored: Any = trial.config
        for part in axis.split("."):
            if not isinstance(stored, dict) or part not in stored:
                raise ValueError(f"{where}: {axis!r} is not a field of the configuration")
            stored = stored[part]
        if scale != "full" and axis in _SCALED:
            continue
        if isinstance(stored, list):
            stored = ",".join(map(str, stored))
        if axis == "seed" and isinstance(given, int) and isinstance(stored, int):
            given = max(given, stored)  # seeds count up from it
        if isinstance(given, list):
            given = ",".join(map(str, given))
        if given != stored and not (isinstance(given, str) and _stands_for(given, stored)):
            raise ValueError(f"{where}: {axis}={given!r}, and {stored!r} in the configuration")


def _stands_for(text: str, stored: Any) -> bool:
    """Whether a definition may give the stored value as this text: "5e-4", "0.3, 0.6", "none"."""
    if stored is None:
        return text.lower() in ("none", "null")
    if isinstance(stored, bool):
        return True  # there are many words for it
    parts = [
        [_number(one) for one in str(some).strip("()[] ").split(",")] for some in (text, stored)
    ]
    return parts[0] == parts[1]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip()
