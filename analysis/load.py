"""From results/ to data frames: the plans of each sweep and what their trials left behind.

What cannot be read is left in place and named in `Study.problems`; everything else is used.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from analysis import anomalies, records
from analysis.anomalies import FLAGS
from analysis.space import Search
from trainer import compact
from trainer.config import TrainConfig, field_types
from trainer.errors import EXIT_IO, InputError, move_away, nearest
from trainer.record import PRUNED, RUN, SCHEMA_VERSION, Failure, Note, Pruned
from trainer.secrets import masked_command, masked_values

POINT = "point."


@dataclass(frozen=True)
class Plan:
    """One launch of a sweep and what its trials left.

    `runs` has a row a planned trial, in the plan's order: `trial` (folder name), `point.<axis>`
    (the axis' value in the definition, before scaling), every outcome column of run.parquet (empty
    where the trial has none), every field of TrainConfig under its dotted name, `state` (done,
    pruned, failed, missing, or another word that run.parquet's `status` holds), `flags` (list of
    anomalies.FLAGS' codes) and `failure` (a sentence, or ""). Accuracies are fractions. A search's
    trials stand in the order in which it asked for them, and those that it pruned itself have no
    flag.

    `epochs` has the columns of epochs.parquet and `trial`, a row an epoch of any trial that
    began.
    """

    sweep: str
    id: str
    scale: str
    overrides: dict[str, Any]
    axes: list[str]
    seeds: list[int]
    created: str
    command: str
    runs: pd.DataFrame
    epochs: pd.DataFrame
    search: Search | None = None


@dataclass(frozen=True)
class Sweep:
    """A sweep's plans, oldest first. `superseded` names plans that a later one contains, `late` the
    finished trials that every plan was written after."""

    name: str
    plans: list[Plan]
    superseded: list[str]
    late: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Study:
    results: Path
    sweeps: list[Sweep]
    problems: list[InputError]

    @property
    def plans(self) -> list[Plan]:
        return [plan for sweep in self.sweeps for plan in sweep.plans]

    @property
    def trials(self) -> pd.DataFrame:
        """The trials of all plans, each once, with a column `sweep`."""
        frames = [plan.runs.assign(sweep=plan.sweep) for plan in self.plans]
        return pd.concat(frames, ignore_index=True).drop_duplicates(["sweep", "trial"])

    def folder(self, plan: Plan, trial: str) -> Path:
        return self.results / plan.sweep / trial


def reported() -> dict[str, Any]:
    """The figures of the reference study, in percent: reported.json."""
    path = Path(__file__).with_name("reported.json")
    figures: dict[str, Any] = json.loads(path.read_bytes())
    return figures


def load(results: Path, names: list[str]) -> Study:
    """The named sweeps of a results folder; all of them where `names` is empty.

    A sweep with a damaged compact file is left out whole, and named in the problems: with many of
    its trials gone, what is left would be another sweep.

    Raises InputError where the folder is missing or holds no plan, for an unknown name, and where
    no plan at all could be read.
    """
    paths = _plan_paths(results)
    for name in names:
        if name not in paths:
            raise InputError(f"{results} has no plan of a sweep {name!r}", nearest(name, paths))
    problems: list[InputError] = []
    sweeps = [_settled(results / name, paths[name], problems) for name in names or sorted(paths)]
    if not any(sweep.plans for sweep in sweeps):
        raise problems[0]
    return Study(results, [sweep for sweep in sweeps if sweep.plans], problems)


# --- plans -----------------------------------------------------------------------------------


def _plain_name(name: str) -> str:
    if name in (".", "..") or "/" in name or "\0" in name:
        raise ValueError("must be the name of a folder, not a path")
    return name


def _known_axis(axis: str) -> str:
    if axis not in field_types():
        raise ValueError(f"unknown field {axis!r}")
    return axis


_Axis = Annotated[str, AfterValidator(_known_axis)]


@functools.cache
def _field(axis: str) -> TypeAdapter[Any]:
    return TypeAdapter(field_types()[axis], config=ConfigDict(strict=True))


# One with which every value of a number's or a tuple's field is allowed.
_BASE = TrainConfig().override({"epochs": 2**62, "model.name": "wrn_16_1"})


@functools.lru_cache(maxsize=10_000)
def _is_taken(axis: str, text: str) -> bool:
    """Whether a definition may give the value as this text, as in "0.3,0.6"."""
    try:
        _BASE.override({axis: text})
    except InputError:
        return False
    return True


def _of_its_fields(point: dict[str, Any]) -> dict[str, Any]:
    for axis, value in point.items():
        try:
            # A tuple is a list in JSON, which a strict field takes only of a parser.
            _field(axis).validate_python(tuple(value) if isinstance(value, list) else value)
        except ValidationError as error:
            if isinstance(value, str) and _is_taken(axis, value):
                continue
            raise ValueError(f"{axis}={value!r}: {error.errors()[0]['msg']}") from None
    return point


class _Trial(BaseModel):
    model_config = ConfigDict(strict=True)
    name: Annotated[str, Field(min_length=1), AfterValidator(_plain_name)]
    fingerprint: str
    point: Annotated[dict[_Axis, Any], AfterValidator(_of_its_fields)]
    config: TrainConfig


class _PlanFile(BaseModel):
    model_config = ConfigDict(strict=True)
    schema_version: Literal[1]
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    scale: str
    overrides: dict[str, Any]
    axes: list[_Axis]
    seeds: list[int]
    created: str
    command: str
    search: Search | None = None
    trials: Annotated[list[_Trial], Field(min_length=1)]

    @model_validator(mode="after")
    def _points_lie_in_the_space(self) -> _PlanFile:
        space = {} if self.search is None else self.search.space
        for trial in self.trials:
            for key, values in space.items():
                if not values.holds(trial.point.get(key)):
                    given = trial.point.get(key)
                    raise ValueError(f"{trial.name}: {key}={given!r} is not in the search's space")
        return self


def _plan_paths(results: Path) -> dict[str, list[Path]]:
    help_line = "run a sweep first: python -m sweeps.launch NAME"
    if not results.is_dir():
        raise InputError(f"there is no results folder {results}", help_line)
    found: dict[str, list[Path]] = {}
    for path in sorted(results.glob("*/plans/*.json")):
        found.setdefault(path.parent.parent.name, []).append(path)
    if not found:
        raise InputError(f"{results} holds no plan (<sweep>/plans/<id>.json)", help_line)
    return found


def _read_plan(path: Path) -> _PlanFile:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        # Neither a page nor a table can hold the name as it is.
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise InputError(
            f"the name of {shown} is no UTF-8",
            "it was left in place; rename it to be in the report",
            exit_code=EXIT_IO,
        ) from None
    try:
        return _PlanFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = f"{path} is no plan of version {SCHEMA_VERSION}: {where + ': ' if where else ''}"
        what += first["msg"]
    except OSError as error:
        what = f"cannot read {path}: {error.strerror}"
    raise InputError(
        what,
        f"it was left in place; move it away and launch again: {move_away(path)}",
        exit_code=EXIT_IO,
    ) from None


def _superseded(plans: list[_PlanFile]) -> set[str]:
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


def _settled(folder: Path, paths: list[Path], problems: list[InputError]) -> Sweep:
    """The sweep, read again where trials were compacted, or put back, while it was read; not both,
    which takes longer than reading does."""
    while True:
        found: list[InputError] = []
        try:
            parts = compact.parts(folder)
            sweep = _sweep(folder, paths, parts, found)
            if compact.parts(folder) != parts:
                continue
        except FileNotFoundError:
            continue
        except InputError as problem:
            problems.append(problem)
            return Sweep(folder.name, [], [])
        problems.extend(found)
        return sweep


def _sweep(folder: Path, paths: list[Path], parts: list[Path], problems: list[InputError]) -> Sweep:
    """Raises InputError where one of the compact files, `parts`, is damaged, FileNotFoundError
    where one is gone."""
    files: dict[str, _PlanFile] = {}
    for path in paths:
        try:
            plan = _read_plan(path)
        except InputError as problem:
            problems.append(problem)
        else:
            files[plan.id] = plan
    plans = sorted(files.values(), key=lambda plan: (plan.created, plan.id))
    gone = _superseded(plans)
    plans = [plan for plan in plans if plan.id not in gone]

    trials = {trial.name: trial for plan in plans for trial in plan.trials}
    found = records.read(folder, list(trials), parts, problems)
    runs, epochs = found.runs, found.epochs
    read = set(runs["trial"])
    runs = _own(folder, runs, trials, problems)
    # The epochs beside a run that is another configuration's are no more this trial's than it is.
    epochs = epochs[~epochs["trial"].isin(read - set(runs["trial"]))]
    impossible = _impossible(folder, runs, problems)
    runs = runs[~runs["trial"].isin(impossible)]
    rest = trials.keys() - set(runs["trial"]) - found.unread - impossible
    notes = _notes(Pruned, folder, (name for name in trials if name in rest), problems)
    pruned = {name: _pruned(note) for name, note in notes}
    rest -= pruned.keys()
    said = _notes(Failure, folder, (name for name in trials if name in rest), problems)
    failures = {name: _failure(note) for name, note in said}
    return Sweep(
        folder.name,
        [_frame(folder.name, plan, runs, epochs, failures, pruned) for plan in plans],
        sorted(gone),
        _late(files.values(), runs),
    )


def _late(plans: Iterable[_PlanFile], runs: pd.DataFrame) -> frozenset[str]:
    """The trials that had finished, by their own clock, before any plan asked for them."""
    planned: dict[str, float] = {}
    for plan in plans:
        created = _seconds(plan.created, -math.inf)
        for trial in plan.trials:
            planned[trial.name] = min(created, planned.get(trial.name, created))
    ended = zip(runs["trial"], runs["finished_at"], strict=True)
    return frozenset(name for name, end in ended if _seconds(end, math.inf) < planned[name])


def _seconds(stamp: object, unknown: float) -> float:
    """Seconds since 1970 of a moment in ISO 8601."""
    try:
        moment = datetime.fromisoformat(str(stamp))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return unknown


# --- trials ----------------------------------------------------------------------------------


def _own(
    folder: Path, runs: pd.DataFrame, trials: dict[str, _Trial], problems: list[InputError]
) -> pd.DataFrame:
    """The runs that are of the configuration planned under their name, one a trial."""
    planned = runs["trial"].astype(object).map({n: t.fingerprint for n, t in trials.items()})
    good = (runs["fingerprint"] == planned) & ~runs["trial"].duplicated()
    for name in runs["trial"][~good].unique():
        path = folder / name
        problems.append(
            InputError(
                f"{path / RUN} is of another configuration than the plan has under that name",
                f"it was left in place; move it away and launch again: {move_away(path, 'other')}",
                exit_code=EXIT_IO,
            )
        )
    return runs[good]


_ACCURACIES = (
    "train_accuracy", "train_accuracy_clean", "val_accuracy", "val_accuracy_last",
    "test_accuracy", "top_1", "top_3", "top_5",
)  # fmt: skip


def _broken(runs: pd.DataFrame) -> Iterator[tuple[str, pd.Series[bool], str]]:
    """A column, the runs in which it has no possible value, and what it must be. A NaN is read as
    a value that was not measured."""
    for name in _ACCURACIES:
        yield name, runs[name].notna() & ~runs[name].between(0, 1), "a fraction"
    # A run that does not say how many validation images it had has no error of them, and no more.
    yield "val_images", runs["val_images"] < 1, "at least 1"
    images, measured = runs["test_images"], runs["test_accuracy"].notna()
    few = (images < 0) | (measured & ~(images >= 1))
    yield "test_images", few, "at least 1 where there is an accuracy"
    seconds = runs["seconds"]
    yield "seconds", seconds.notna() & ~((seconds >= 0) & (seconds < np.inf)), "finite, at least 0"
    yield "world_size", runs["world_size"] < 1, "at least 1"
    share = runs["device_share"]
    yield "device_share", share.notna() & ~share.between(0, 1, "right"), "above 0 and at most 1"
    yield "epochs_run", ~(runs["epochs_run"] >= 1), "at least 1"
    yield "attempts", ~runs["attempts"].map(_is_told), "a list of objects in JSON"
    best = runs["best_epoch"]
    yield "best_epoch", ~((best >= 0) & (best < runs["epochs_run"])), "from 0 and below epochs_run"


def _is_told(text: object) -> bool:
    try:
        anomalies.attempts(text)
    except (ValueError, RecursionError):
        return False
    return True


def _given(value: Any) -> str:
    return repr(value[:40]) if isinstance(value, str) else f"{value:.15g}"


def _impossible(folder: Path, runs: pd.DataFrame, problems: list[InputError]) -> set[str]:
    """The done trials whose run has a value that none can have: each a problem, by the first."""
    done = runs[runs["status"] == "done"]
    found: dict[str, InputError] = {}
    for column, broken, rule in _broken(done):
        for name, value in zip(done["trial"][broken], done[column][broken], strict=True):
            path = folder / name
            given = "null" if pd.isna(value) else _given(value)
            problem = InputError(
                f"{path / RUN} is damaged: {column} is {given}, which must be {rule}",
                f"it was left in place; move it away and launch again: {move_away(path)}",
                exit_code=EXIT_IO,
            )
            found.setdefault(name, problem)
    problems.extend(found[name] for name in done["trial"] if name in found)
    return set(found)


def _notes(
    kind: type[Note], folder: Path, names: Iterable[str], problems: list[InputError]
) -> Iterator[tuple[str, Note | None]]:
    """The note of each trial whose folder has one; None for one that cannot be read, which becomes
    a problem."""
    for name in names:
        try:
            note = kind.read(folder / name)
        except InputError as problem:
            problems.append(problem)
            yield name, None
        else:
            if note is not None:
                yield name, note


def _failure(failure: Failure | None) -> tuple[str, str]:
    """Flag and sentence."""
    if failure is None:
        return "ERROR", "its failure.json is damaged"
    known = failure.cause in FLAGS
    cause = "" if known else f"{failure.cause}: "
    epoch = "" if failure.epoch is None else f" (epoch {failure.epoch})"
    words = " ".join(failure.exception.split())
    return failure.cause if known else "ERROR", cause + words + epoch


def _pruned(pruned: Pruned | None) -> tuple[str, str]:
    """Search and sentence; a damaged note is no search's."""
    if pruned is None:
        return "", f"its {PRUNED} is damaged"
    return pruned.search, f"pruned by search {pruned.search} (epoch {pruned.epoch})"


def _frame(
    sweep: str,
    plan: _PlanFile,
    runs: pd.DataFrame,
    epochs: pd.DataFrame,
    failures: dict[str, tuple[str, str]],
    pruned: dict[str, tuple[str, str]],
) -> Plan:
    names = [trial.name for trial in plan.trials]
    points = [trial.point for trial in plan.trials]
    axes = list(dict.fromkeys([*plan.axes, *(axis for point in points for axis in point)]))
    columns: dict[str, Any] = {"trial": names}
    columns |= {POINT + axis: [_value(point.get(axis)) for point in points] for axis in axes}
    outcomes = runs.set_index(runs["trial"].astype(object)).drop(columns=["trial", "fingerprint"])
    configs = _configs([trial.config for trial in plan.trials])
    frame = pd.concat(
        [
            pd.DataFrame(columns),
            pd.DataFrame({"fingerprint": [trial.fingerprint for trial in plan.trials]}),
            outcomes.reindex(names).reset_index(drop=True),
            configs,
        ],
        axis=1,
    )
    missing = frame["status"].isna()
    failed = missing & frame["trial"].isin(list(failures))
    stopped = frame["trial"].isin(list(pruned))
    states = frame["status"].astype(object).mask(missing, "missing")
    frame["state"] = states.mask(failed, "failed").mask(stopped, "pruned")
    # What a search prunes is its result; for whoever else planned the trial it is a hole.
    own = {name for name, (search, _) in pruned.items() if plan.search and search == plan.id}
    ends = failures | {name: ("PRUNED", pruned[name][1]) for name in pruned.keys() - own}
    axis_values = frame[[POINT + axis for axis in axes]].set_axis(axes, axis="columns")
    flags = anomalies.flags(frame, axis_values, ends)
    frame["flags"] = [
        [] if name in own else codes for name, codes in zip(names, flags, strict=True)
    ]
    frame["failure"] = [ends.get(name, ("", ""))[1] for name in names]
    return Plan(
        sweep=sweep,
        id=plan.id,
        scale=plan.scale,
        overrides=masked_values(plan.overrides),
        axes=axes,
        seeds=plan.seeds,
        created=plan.created,
        command=masked_command(plan.command),
        runs=frame,
        epochs=epochs[epochs["trial"].isin(names)].reset_index(drop=True),
        search=plan.search,
    )


def _configs(configs: list[TrainConfig]) -> pd.DataFrame:
    """TrainConfig.flat of each, a row each, by the column: a tenth of the time."""
    columns = {field: list(map(attrgetter(field), configs)) for field in field_types()}
    # Most fields are plain, and need no look at each of their values.
    return pd.DataFrame(
        {
            field: list(map(_value, column)) if isinstance(column[0], tuple) else column
            for field, column in columns.items()
        }
    )


def _value(value: Any) -> Any:
    """A field's value, as something that can be grouped by."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
