"""Entries: foreign runs in the store, as finished trials that nothing trains.

A trial's records are written before the plan that has it, so that nobody ever sees one without
records. Whoever kills this leaves folders that no plan names; the next call goes on there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_machine import clock, origin
from local_machine.errors import EXIT_IO, InputError, storage_error
from sweeps.adopt import foreign_task
from sweeps.adopt.foreign_run import ForeignRun
from sweeps.run import attempt_folder
from sweeps.run.attempt_files import see_config, settle
from sweeps.run.ends import LostTrialError
from sweeps.spec.expand import name_of
from sweeps.spec.sweep import Trial
from sweeps.state import lease as leases
from sweeps.state.lease import Lease
from sweeps.state.plan import PLANS, Plan
from sweeps.state.trial_store import TrialStore
from sweeps.task import Objective
from trial_records import metrics, tables, trial_files
from trial_records.plan import PlannedTask

FROM, AT, FILES = "adopted_from", "adopted_at", "adopted_files"
"""The columns of run.parquet that say where an adopted run comes from."""


@dataclass
class Outcome:
    """What became of the runs."""

    added: list[str] = field(default_factory=list)  # their origins
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    problems: list[InputError] = field(default_factory=list)  # one for each that is left out


@dataclass(frozen=True)
class _Known:
    """A trial that was adopted before."""

    trial: Trial
    origin: str | None
    """None where its records cannot be read."""
    files: Mapping[str, str]
    is_gone: bool = False
    """Whether it has no records."""


@dataclass(frozen=True)
class _Wanted:
    """A run that is to be written."""

    run: ForeignRun
    fingerprint: str
    old: _Known | None = None
    """What stands for it by now, where it changed."""

    @property
    def is_other(self) -> bool:
        """Whether no trial of its configuration was adopted before."""
        return self.old is None or self.old.trial.fingerprint != self.fingerprint


class Entries:
    """The adopted runs of one sweep's folder."""

    def __init__(self, store: TrialStore, objective: Objective, seed: str | None = None) -> None:
        """`seed` is the field of the seed, where it is told. Raises InputError where the sweep has
        trials that were trained here, was adopted by another objective, or has a damaged plan."""
        self._store, self._objective, self._seed = store, objective, seed
        plans = store.plans()
        for plan in plans:
            _check_plan(plan, objective)
        trials = {one.fingerprint: one for plan in plans for one in plan.trials}
        self._known = {key: self._said(one) for key, one in trials.items()}
        self._by_origin = {one.origin: one for one in self._known.values() if one.origin}

    def enter(
        self, runs: Sequence[ForeignRun], command: str, *, update: bool, dry_run: bool
    ) -> tuple[Plan | None, Outcome]:
        """Enter the runs that are new, and with `update` those that changed; the plan of all, None
        where there is no run. Raises InputError where nothing can be written, or a run has no such
        seed."""
        found, wanted = Outcome(), []
        for one in self._wanted(runs, found):
            if one.old is not None and not update:
                found.problems.append(_changed(one))
            else:
                wanted.append(one)
        plan = self._plan_of(wanted, command)
        if plan is None:
            return None, found
        try:
            self._write_all(plan, wanted, found, dry_run=dry_run)
        except OSError as error:
            raise storage_error(error) or error from None
        return plan, found

    def _wanted(self, runs: Iterable[ForeignRun], found: Outcome) -> list[_Wanted]:
        """The runs that are new or changed; the others are put into what was found."""
        wanted: dict[str, _Wanted] = {}
        task = foreign_task.task_of(self._store.sweep, self._objective, [], None)
        for run in runs:
            (trial,) = foreign_task.trials_of(task, [run.values], [])
            known, same = self._known.get(trial.fingerprint), wanted.get(trial.fingerprint)
            before = self._by_origin.get(run.origin)
            if known is not None and known.is_gone:
                known = None
            if same is not None:
                found.problems.append(_twice(run, same.run.origin))
            elif known is not None and known.origin is not None and known.files == run.files:
                # Another folder's with the same files was moved, or is a copy.
                found.unchanged.append(run.origin)
            elif known is not None and known.origin not in (None, run.origin):
                found.problems.append(_twice(run, str(known.origin)))
            else:
                wanted[trial.fingerprint] = _Wanted(run, trial.fingerprint, known or before)
        return list(wanted.values())

    def _plan_of(self, wanted: Sequence[_Wanted], command: str) -> Plan | None:
        """The plan of what was adopted before and of what is wanted now."""
        gone = {one.fingerprint for one in wanted}
        gone |= {one.old.trial.fingerprint for one in wanted if one.old is not None}
        kept = [one.trial for key, one in self._known.items() if key not in gone]
        configs = [*(one.values for one in kept), *(one.run.values for one in wanted)]
        if not configs:
            return None
        task = foreign_task.task_of(self._store.sweep, self._objective, configs, self._seed)
        axes = foreign_task.axes_of(configs, task.seed)
        trials = [
            one.renamed(
                name_of(
                    one,
                    {key: value for key, value in one.point.items() if key != task.seed},
                    [self._store.sweep],
                )
            )
            for one in foreign_task.trials_of(task, configs, axes)
        ]
        named = self._store.settle_names(trials)
        return Plan(self._store.sweep, named, "full", {}, axes, command, task=task)

    def _write_all(
        self, plan: Plan, wanted: Iterable[_Wanted], found: Outcome, *, dry_run: bool
    ) -> None:
        """Raises InputError, OSError."""
        trials = {one.fingerprint: one for one in plan.trials}
        replaced = []
        for one in wanted:
            trial = trials[one.fingerprint]
            try:
                if not dry_run:
                    self._enter(trial, one, plan.task)
            except InputError as problem:
                found.problems.append(problem)
                if one.is_other:
                    del trials[one.fingerprint]
                    if one.old is not None:
                        trials[one.old.trial.fingerprint] = one.old.trial
                continue
            (found.added if one.old is None else found.updated).append(one.run.origin)
            if one.old is not None and one.is_other:
                replaced.append(one.old.trial)
        if dry_run or not trials:
            return
        self._write_plan(plan, list(trials.values()))
        for trial in replaced:
            shutil.rmtree(self._store.folder_of(trial), ignore_errors=True)

    def _write_plan(self, plan: Plan, trials: list[Trial]) -> None:
        """Of all trials, in place of those of before, each of which has fewer."""
        whole = Plan(
            plan.sweep, trials, plan.scale, {}, plan.axes, plan.command, task=plan.task
        )  # fmt: skip
        self._store.write_plan(whole)
        for old in self._store.plans():
            if old.id != whole.id:
                (self._store.folder / PLANS / f"{old.id}.json").unlink(missing_ok=True)

    # One trial

    def _said(self, trial: Trial) -> _Known:
        folder = self._store.folder_of(trial)
        try:
            said = tables.read_run(folder, trial.fingerprint, ["fingerprint", FROM, FILES])
            return _Known(trial, said[FROM], json.loads(said[FILES] or "{}"))
        except FileNotFoundError:
            return _Known(trial, None, {}, is_gone=True)
        except (InputError, ValueError, TypeError):
            return _Known(trial, None, {})

    def _enter(self, trial: Trial, wanted: _Wanted, task: PlannedTask) -> None:
        """Write its records. Raises InputError where the trial is another's, OSError."""
        folder = self._store.folder_of(trial)
        replaces = wanted.old is not None and wanted.old.trial.name == trial.name
        lease = self._lease(trial, replaces=replaces and (folder / trial_files.RUN).exists())
        if lease is None:
            known = self._said(trial)
            if known.origin is not None and known.files == wanted.run.files:
                return  # entered by a call that was killed before it wrote the plan
            raise InputError(
                f"{wanted.run.folder}: {folder} is compacted, or another process enters it",
                f"put it back, and try again: python -m sweeps.compact {self._store.sweep} --undo",
                exit_code=EXIT_IO,
            )
        try:
            self._write(folder, lease, trial, wanted.run, task)
        except LostTrialError:
            self._store.release(trial, lease)
            raise InputError(
                f"{wanted.run.folder}: another process entered it", "adopt it again"
            ) from None
        except BaseException:
            self._store.release(trial, lease)
            raise
        self._store.finish(trial, lease)

    def _lease(self, trial: Trial, *, replaces: bool) -> Lease | None:
        """Hold the trial; None where it is done, or held by another. `replaces`: its records stay
        until those in their place are written. Raises OSError."""
        if not replaces:
            return self._store.lease(trial, clock.now(), log="")
        folder, wanted = self._store.folder_of(trial), Lease(1, 0, clock.now(), "")
        attempt_folder.make(folder, wanted.token)
        held = None
        try:
            held = leases.take(folder, wanted, self._store.liveness.is_alive)
        finally:
            if held is None:
                attempt_folder.drop(folder, wanted.token)
        return held

    def _write(
        self, folder: Path, lease: Lease, trial: Trial, run: ForeignRun, task: PlannedTask
    ) -> None:
        """Raises LostTrialError, InputError, OSError."""
        content = json.dumps(task.content(trial.values), indent=2, allow_nan=False) + "\n"
        see_config(folder, trial.fingerprint, content)
        place = attempt_folder.take_over(folder, lease.token)
        settle(folder, place, content)
        whose = metrics.whose(folder, trial.fingerprint, task.name)
        with attempt_folder.guarded(place):
            digest = tables.write_rows(place / trial_files.EPOCHS, run.rows, whose)
            tables.write_run(
                place,
                {
                    **whose,
                    "status": "done",
                    "seed": trial.seed,
                    tables.DIGESTS[trial_files.EPOCHS]: digest,
                    FROM: run.origin,
                    AT: origin.now(),
                    FILES: json.dumps(run.files),
                    **metrics.configured(trial.values),
                    **measured(run, self._objective),
                },
            )
        # Where there are older ones: no run.parquet beside rows that are not its own.
        (folder / trial_files.RUN).unlink(missing_ok=True)
        attempt_folder.publish(place, folder, [trial_files.EPOCHS, trial_files.RUN])
        attempt_folder.remove(folder, lease.token)


def measured(run: ForeignRun, objective: Objective) -> dict[str, Any]:
    """The columns of its run.parquet that follow from its rows."""
    return metrics.measured(
        run.rows, None, objective.metric, objective.direction, objective.reduction
    )


def _check_plan(plan: Plan, objective: Objective) -> None:
    """Raises InputError where a plan is not of runs adopted by that objective."""
    task = plan.task
    if not task.is_adopted:
        raise InputError(
            f"{plan.sweep} has trials that were trained here, of {task.name}",
            "adopt the runs under another name: --name NAME; the report compares both",
        )
    before = Objective(task.metric or "", task.direction, task.reduction)
    if before != objective:
        option = f"--{task.direction} {task.metric}" + ":last" * (task.reduction == "last")
        raise InputError(
            f"{plan.sweep} was adopted to {before.in_words}, and is now to {objective.in_words}",
            f"give the same: {option}; or another name: --name NAME",
        )


def _changed(wanted: _Wanted) -> InputError:
    old, run = wanted.old, wanted.run
    assert old is not None
    if old.origin is None:
        what = "its records in the store are damaged"
    elif old.trial.fingerprint != wanted.fingerprint:
        what = "its configuration is another one than when it was adopted"
    else:
        what = f"changed since it was adopted: {', '.join(_different(old.files, run.files))}"
    return InputError(f"{run.folder}: {what}", "to take it in as it is now, add --update")


def _different(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def _twice(run: ForeignRun, other: str) -> InputError:
    return InputError(
        f"{run.folder} has the same configuration as {other}, which stands for it",
        "where they differ in a seed that --config does not say, have it in their names, "
        "seed0 and seed1, and add --config name",
    )
