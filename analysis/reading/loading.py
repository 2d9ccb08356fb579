"""From a results folder to a study: the plans of each sweep and what their trials left behind."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from analysis.data.study import Study, Sweep
from analysis.data.task import Task
from analysis.reading import (
    exclusions,
    impossible_values,
    launch_frame,
    launches,
    objectives,
    unfinished,
)
from analysis.reading import frames as record_frames
from analysis.reading.launches import Launch
from analysis.reading.standings import Standings, progress
from local_machine.errors import InputError, nearest
from trial_records import archive, verified
from trial_records.history import marks
from trial_records.plan import PlanFile, PlannedTrial
from trial_records.verified import Exactness, Verification


def load(
    results: Path, names: Sequence[str], task: Task, standings: Standings | None = None
) -> Study:
    """The named sweeps of a results folder; all of them where `names` is empty. `standings` is for
    who loads again and again.

    A sweep with a damaged compact file is left out whole, and named in the problems: with many of
    its trials gone, what is left would be another sweep.

    Raises InputError where the folder is missing or holds no plan, for an unknown name, and where
    no plan at all could be read.
    """
    problems: list[InputError] = []
    paths = launches.paths(results, problems)
    for name in names:
        if name not in paths:
            if problems:
                raise problems[0]
            raise InputError(f"{results} has no plan of a sweep {name!r}", nearest(name, paths))
    standings = standings or Standings()
    sweeps = [
        _settled(results / name, paths[name], task, standings, problems)
        for name in names or sorted(paths)
    ]
    if not any(sweep.plans for sweep in sweeps):
        raise problems[0]
    return Study(results, [sweep for sweep in sweeps if sweep.plans], problems, task)


def _settled(
    folder: Path, paths: list[Path], task: Task, standings: Standings, problems: list[InputError]
) -> Sweep:
    """The sweep, read again where trials were compacted, or put back, while it was read; not both,
    which takes longer than reading does."""
    while True:
        found: list[InputError] = []
        try:
            parts = archive.parts(folder)
            sweep = _sweep(folder, paths, parts, task, standings, found)
            if any(plan.runs["status"].isna().any() for plan in sweep.plans):
                archive.look_anew(folder)  # what was just compacted, NFS hides for a minute
            if archive.parts(folder) != parts:
                continue
        except FileNotFoundError:
            continue
        except InputError as problem:
            problems.append(problem)
            return Sweep(folder.name, [], [])
        problems.extend(found)
        return sweep


def _sweep(
    folder: Path,
    paths: list[Path],
    parts: list[Path],
    task: Task,
    standings: Standings,
    problems: list[InputError],
) -> Sweep:
    """Raises InputError where one of the compact files, `parts`, is damaged, FileNotFoundError
    where one is gone."""
    files = _launches(paths, problems)
    gone = launches.superseded(files)
    plans = [plan for plan in files if plan.id not in gone]

    trials = {trial.name: trial for plan in plans for trial in plan.trials}
    others = {trial.name for plan in plans if not plan.is_trainers for trial in plan.trials}
    standing = standings.look(folder, plans, problems)
    found = record_frames.read(folder, list(trials), parts, problems, others, _judged(trials))
    runs = impossible_values.of_plan(folder, found.runs, trials, problems)
    # The epochs beside a run that is another configuration's are no more this trial's than it is.
    foreign = set(found.runs["trial"]) - set(runs["trial"])
    epochs = found.epochs[~found.epochs["trial"].isin(foreign)]
    logged = found.logged[~found.logged["trial"].isin(foreign)]
    impossible = impossible_values.impossible(folder, runs, problems, others)
    runs = runs[~runs["trial"].isin(impossible)]
    marked, unread = marks.read(folder)
    problems += unread
    runs = exclusions.without(runs, marked)
    excluded = {trial.name for trial in trials.values() if trial.fingerprint in marked.excluded}
    epochs, logged = (one[~one["trial"].isin(excluded)] for one in (epochs, logged))
    compared = [objectives.of_launch(folder, plan, runs, logged, problems) for plan in plans]
    rest = trials.keys() - set(runs["trial"]) - excluded
    noted = rest - found.unread - impossible
    ends = unfinished.ends(folder, [name for name in trials if name in noted], problems)
    paces = _paces(epochs, runs)
    stands = [
        progress(folder, plan, standing.get(plan.id, []), rest, paces, problems) for plan in plans
    ]
    notes, unread = verified.read(folder)
    problems += unread
    said = _exactness(runs, notes)
    return Sweep(
        folder.name,
        [
            exclusions.told(
                launch_frame.plan_of(
                    folder.name, plan, runs, (epochs, logged), stand, ends, said, task
                ),
                marked,
            )
            for plan, runs, stand in zip(plans, compared, stands, strict=True)
        ],
        sorted(gone),
        frozenset(found.undigested),
        # What another sweep trained has finished before this one asked for it.
        _late([launch.file for launch in files], runs[runs["shared_from"].isna()]),
        [one.last for one in said.values() if one.last is not None],
        marked,
        [launches.launched(launch) for launch in files if launch.search is None],
    )


def _paces(epochs: pd.DataFrame, runs: pd.DataFrame) -> dict[str, float]:
    """Seconds an epoch took, of each trial that is done."""
    done = epochs[epochs["trial"].isin(runs["trial"]) & epochs["seconds"].notna()]
    found = done.groupby("trial", observed=True)["seconds"].mean()
    return {str(name): float(seconds) for name, seconds in found.items()}


def _exactness(runs: pd.DataFrame, notes: Mapping[str, list[Verification]]) -> dict[str, Exactness]:
    """What may be said of each finished trial, by its name."""
    columns = ["trial", "fingerprint", "row_sha256", "attempts", "world_size"]
    found = {}
    done = runs.loc[runs["status"] == "done", columns]
    for values in done.itertuples(index=False, name=None):
        row = dict(zip(columns, values, strict=True))
        attempts = max(1, len(verified.attempts_of(row)))
        if attempts > 1 or notes:
            run, setting = verified.digest_of(row), verified.setting_of(row)
            said = verified.exactness(notes, row["fingerprint"], run, attempts, setting)
            found[row["trial"]] = said
    return found


def _launches(paths: list[Path], problems: list[InputError]) -> list[Launch]:
    """Oldest first; of two with one id the one that was found last."""
    files: dict[str, Launch] = {}
    for path in paths:
        try:
            plan = launches.read(path)
        except InputError as problem:
            problems.append(problem)
        except FileNotFoundError:
            continue  # moved away meanwhile
        else:
            files[plan.id] = plan
    return sorted(files.values(), key=lambda plan: (plan.file.created, plan.id))


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


def _judged(trials: Mapping[str, PlannedTrial]) -> set[str]:
    """Those of the trainer that log metrics of a person's own."""
    return {name for name, trial in trials.items() if trial.config.get("metrics")}
