"""From results/ to data frames: the plans of each sweep and what their trials left behind.

What cannot be read is left in place and named in `Study.problems`; everything else is used.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from analysis.data import dataset
from analysis.data import frames as record_frames
from analysis.data.search_space import Search
from analysis.stats import outliers
from analysis.stats.outliers import FLAGS
from local_machine.errors import EXIT_IO, InputError, move_away, nearest
from local_machine.secrets import masked_command, masked_values
from trainer.config import TrainConfig, field_types
from trial_records import archive
from trial_records import plan as plan_files
from trial_records.config import ADDED, flat_of
from trial_records.plan import PlanFile, PlannedTrial
from trial_records.trial_files import PRUNED, RUN, Failure, Note, Pruned

POINT = "point."
# Columns of the tables beside a point's axes, which an axis of another version may be called.
_TABLES = frozenset(
    {
        "train", "train sd", "train clean", "train clean sd", "validation", "validation sd", "test",
        "test sd", "test unflagged", "n", "planned", "images", "flags", "minutes", "trial", "order",
        "mark", "value", "x", "point", "model", "asked", "reported", "difference", "accuracy",
        "state", "failure", "fingerprint", "axis",
    }
)  # fmt: skip
# The kinds of a field's values, by that of its default.
_KINDS: dict[type, set[type]] = {
    bool: {bool},
    int: {int},
    float: {int, float},
    str: {str},
    type(None): {type(None), int, str, float},  # pandas makes floats of whole numbers and None
}
# Of the frame's columns, those that are neither of a configuration nor of an outcome.
OWN = ("trial", "sweep", "state", "result", "repeated", "flags", "failure")


@dataclass(frozen=True)
class Plan:
    """One launch of a sweep and what its trials left.

    `runs` has a row a planned trial, in the plan's order: `trial` (folder name), `point.<axis>`
    (the axis' value in the definition, before scaling), every outcome column of run.parquet (empty
    where the trial has none), every field of the configuration (`fields`), `state` (done,
    pruned, failed, missing, or another word that run.parquet's `status` holds), the columns of
    dataset.columns, `result` (anomalies.results) and `repeated` (whether an earlier trial of its
    point has it), `flags` (list of anomalies.FLAGS' codes) and `failure` (a sentence, or "").
    Accuracies are fractions. A search's trials stand in the order in which it asked for them, and
    those that it pruned itself have no flag.

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
    fields: tuple[str, ...] = ()
    """The configuration's, as columns of `runs`: today's, and what else other versions stored."""
    is_of_today: bool = True
    """Whether every field of today is there, as a value of today's kind."""


@dataclass(frozen=True)
class Sweep:
    """A sweep's plans, oldest first. `superseded` names plans that a later one contains,
    `undigested` the trials with a file from before files had digests of their values, `late` the
    finished trials that every plan was written after."""

    name: str
    plans: list[Plan]
    superseded: list[str]
    undigested: frozenset[str] = frozenset()
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


def load(results: Path, names: list[str]) -> Study:
    """The named sweeps of a results folder; all of them where `names` is empty.

    A sweep with a damaged compact file is left out whole, and named in the problems: with many of
    its trials gone, what is left would be another sweep.

    Raises InputError where the folder is missing or holds no plan, for an unknown name, and where
    no plan at all could be read.
    """
    problems: list[InputError] = []
    paths = _plan_paths(results, problems)
    for name in names:
        if name not in paths:
            if problems:
                raise problems[0]
            raise InputError(f"{results} has no plan of a sweep {name!r}", nearest(name, paths))
    sweeps = [_settled(results / name, paths[name], problems) for name in names or sorted(paths)]
    if not any(sweep.plans for sweep in sweeps):
        raise problems[0]
    return Study(results, [sweep for sweep in sweeps if sweep.plans], problems)


# --- plans -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Launch:
    """A plan's file, and the search in it, where it is one."""

    file: PlanFile
    search: Search | None

    @property
    def id(self) -> str:
        return self.file.id

    @property
    def trials(self) -> list[PlannedTrial]:
        return self.file.trials


def _plan_paths(results: Path, problems: list[InputError]) -> dict[str, list[Path]]:
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


def _read_plan(path: Path) -> _Launch:
    """Raises InputError where it cannot be read, FileNotFoundError where it is gone."""
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
    plan = plan_files.read(path)
    if plan.search is None:
        return _Launch(plan, None)
    try:
        search = Search.model_validate(plan.search)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("search", *first["loc"])))
        raise plan_files.damaged(path, f"{where}: {first['msg']}") from None
    for trial in plan.trials:
        for key, values in search.space.items():
            if not values.holds(given := trial.point.get(key)):
                what = f"{trial.name}: {key}={given!r} is not in the search's space"
                raise plan_files.damaged(path, what)
    return _Launch(plan, search)


def _superseded(plans: list[_Launch]) -> set[str]:
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
            parts = archive.parts(folder)
            sweep = _sweep(folder, paths, parts, found)
            if archive.parts(folder) != parts:
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
    files: dict[str, _Launch] = {}
    for path in paths:
        try:
            plan = _read_plan(path)
        except InputError as problem:
            problems.append(problem)
        except FileNotFoundError:
            continue  # moved away meanwhile
        else:
            files[plan.id] = plan
    plans = sorted(files.values(), key=lambda plan: (plan.file.created, plan.id))
    gone = _superseded(plans)
    plans = [plan for plan in plans if plan.id not in gone]

    trials = {trial.name: trial for plan in plans for trial in plan.trials}
    found = record_frames.read(folder, list(trials), parts, problems)
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
        frozenset(found.undigested),
        # What another sweep trained has finished before this one asked for it.
        _late([launch.file for launch in files.values()], runs[runs["shared_from"].isna()]),
    )


def _late(plans: Iterable[PlanFile], runs: pd.DataFrame) -> frozenset[str]:
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
    folder: Path, runs: pd.DataFrame, trials: dict[str, PlannedTrial], problems: list[InputError]
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
        outliers.attempts(text)
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
    plan: _Launch,
    runs: pd.DataFrame,
    epochs: pd.DataFrame,
    failures: dict[str, tuple[str, str]],
    pruned: dict[str, tuple[str, str]],
) -> Plan:
    names = [trial.name for trial in plan.trials]
    points = [{_axis(axis): v for axis, v in trial.point.items()} for trial in plan.trials]
    found = [*map(_axis, plan.file.axes), *(axis for point in points for axis in point)]
    axes = list(dict.fromkeys(found))
    columns: dict[str, Any] = {"trial": names}
    columns |= {POINT + axis: _column([point.get(axis) for point in points]) for axis in axes}
    outcomes = runs.set_index(runs["trial"].astype(object)).drop(columns=["trial", "fingerprint"])
    taken = {"fingerprint", *OWN, *outcomes, *columns}
    configs = _configs([trial.config for trial in plan.trials], taken)
    frame = pd.concat(
        [
            pd.DataFrame(columns),
            pd.DataFrame({"fingerprint": [trial.fingerprint for trial in plan.trials]}),
            outcomes.reindex(names).reset_index(drop=True),
            configs,
        ],
        axis=1,
    )
    frame = pd.concat([frame, dataset.columns(frame)], axis=1)
    missing = frame["status"].isna()
    failed = missing & frame["trial"].isin(list(failures))
    stopped = frame["trial"].isin(list(pruned))
    states = frame["status"].astype(object).mask(missing, "missing")
    frame["state"] = states.mask(failed, "failed").mask(stopped, "pruned")
    # What a search prunes is its result; for whoever else planned the trial it is a hole.
    own = {name for name, (search, _) in pruned.items() if plan.search and search == plan.id}
    ends = failures | {name: ("PRUNED", pruned[name][1]) for name in pruned.keys() - own}
    axis_values = frame[[POINT + axis for axis in axes]].set_axis(axes, axis="columns")
    epochs = epochs[epochs["trial"].isin(names)].reset_index(drop=True)
    frame["result"] = outliers.results(frame, axis_values, epochs)
    frame["repeated"] = outliers.repeated(frame)
    flags = outliers.flags(frame, axis_values, ends)
    frame["flags"] = [
        [] if name in own else codes for name, codes in zip(names, flags, strict=True)
    ]
    frame["failure"] = [ends.get(name, ("", ""))[1] for name in names]
    return Plan(
        sweep=sweep,
        id=plan.id,
        scale=plan.file.scale,
        overrides=masked_values(plan.file.overrides),
        axes=axes,
        seeds=plan.file.seeds,
        created=plan.file.created,
        command=masked_command(plan.file.command),
        runs=frame,
        epochs=epochs,
        search=plan.search
        and plan.search.model_copy(
            update={"space": {_axis(key): one for key, one in plan.search.space.items()}}
        ),
        fields=tuple(configs.columns),
        is_of_today=_is_of_today(configs),
    )


def _axis(name: str) -> str:
    """The axis as the tables call it, which have columns of their own."""
    return f"config.{name}" if name in _TABLES else name


def _configs(configs: list[dict[str, Any]], taken: Container[str]) -> pd.DataFrame:
    """Every field of today's TrainConfig and every other that is stored, a row each; a field that
    bears the name of an outcome is called `config.<name>`. By the column, in a tenth of the time.
    """
    flat = [flat_of(values) for values in configs]
    names = dict.fromkeys([*field_types(), *(name for one in flat for name in one)])
    return pd.DataFrame(
        {
            f"config.{name}" if name in taken else name: _column(
                [one.get(name, ADDED.get(name)) for one in flat]
            )
            for name in names
        }
    )


def _is_of_today(configs: pd.DataFrame) -> bool:
    return all(
        set(map(type, configs[name])) <= _KINDS[type(value)]
        and (value is None or configs[name].notna().all())
        for name, value in TrainConfig().flat().items()
    )


def _column(values: list[Any]) -> list[Any]:
    """Values as they can be grouped by and sorted: texts where some are texts and some numbers."""
    if any(isinstance(value, list | dict) for value in values):
        values = [_value(value) for value in values]
    if len({isinstance(value, str) for value in values if value is not None}) < 2:
        return values
    return [value if value is None else str(value) for value in values]


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
