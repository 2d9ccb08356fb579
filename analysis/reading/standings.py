"""Standings: where trials without a result stand, by the same source as `sweeps.status`.

The one place of the report that knows more than records: a lease says who holds a trial, and only
the kernel and Slurm know whether that holder still lives. So what a report says of a trial that is
held depends on the machine that reads it; where nothing is held, it depends on the files alone.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.data.progress import Progress, Unfinished
from analysis.reading.launches import Launch
from local_machine.errors import EXIT_IO, InputError, SlurmError
from trial_records import archive
from trial_records.plan import PlanFile, PlannedTrial
from trial_records.trial_files import RUN

if TYPE_CHECKING:
    from sweeps.spec.sweep import Trial
    from sweeps.state.liveness import Liveness
    from sweeps.state.progress import Progress as Found

UNASKED = "trials that jobs hold are shown as running"
"""What a problem ends with where Slurm gives no answer: it is not of a trial."""
_LEFT = "it was left in place: python -m sweeps.status says more"


class Standings:
    """Answers for launches; asks Slurm, where there is one, at most once in 15 s."""

    def __init__(self) -> None:
        self._looked: dict[Path, list[Trial]] = {}

    @cached_property
    def _liveness(self) -> Liveness:
        from sweeps.state.liveness import Liveness

        return Liveness.here()

    def look(
        self, folder: Path, launches: Iterable[Launch], problems: list[InputError]
    ) -> dict[str, list[Found]]:
        """How far the trials without a run.parquet have come, by launch, of a sweep's folder.

        To be asked before records are read: a trial that ends between the two is then done.
        """
        try:
            packed: Mapping[str, Path] = archive.trials(folder)
        except InputError:
            packed = {}  # the records tell of it
        found = {
            launch.id: self._of(folder, launch.file, trials, problems)
            for launch in launches
            if (trials := _without_run(folder, launch.trials, packed))
        }
        self._looked[folder] = [one.trial for ones in found.values() for one in ones]
        return found

    def told(self) -> list[str]:
        """What can be said of the trials that had no run.parquet at the last look, without their
        records: it may change where no file does, as when a process dies. Raises SlurmError."""
        from sweeps.state.progress import Progress as Found
        from sweeps.state.trial_store import TrialStore

        stores = [
            (TrialStore(folder.parent, folder.name, self._liveness), trials)
            for folder, trials in self._looked.items()
        ]
        return [
            f"{one.trial.name} {one.state} {Found(one).note}"
            for store, trials in stores
            for one in store.standings(trials)
        ]

    def is_driven(self, results: Path) -> bool:
        """Whether a search or a study goes on there, which may add trials. Raises SlurmError."""
        from sweeps.state import lease as leases
        from sweeps.state.trial_store import TrialStore

        for folder in results.iterdir():
            try:
                lease = leases.read(folder) if folder.is_dir() else None
            except (InputError, OSError):
                continue
            if lease is not None and self._liveness.is_alive(lease, folder):
                return True
            if TrialStore(results, folder.name, self._liveness).drivers()[0]:
                return True
        return False

    def _of(
        self,
        folder: Path,
        plan: PlanFile,
        trials: Iterable[PlannedTrial],
        problems: list[InputError],
    ) -> list[Found]:
        from sweeps.state.liveness import Liveness
        from sweeps.state.progress import look
        from sweeps.state.trial_store import TrialStore

        wanted = [_trial(plan, one) for one in trials]
        try:
            return look(TrialStore(folder.parent, folder.name, self._liveness), wanted, {})
        except SlurmError as error:
            what = f"{error.what}; {UNASKED}"
            if all(one.what != what for one in problems):
                problems.append(InputError(what, error.help, exit_code=error.exit_code))
            return look(TrialStore(folder.parent, folder.name, Liveness()), wanted, {})


def progress(
    folder: Path,
    launch: Launch,
    found: Iterable[Found],
    rest: Container[str],
    paces: Mapping[str, float],
    problems: list[InputError],
) -> Progress:
    """The launch's progress. `found` is what `Standings.look` found, `rest` the trials without a
    usable record, `paces` the seconds for a unit of the budget of those that are done. A damaged
    file that records do not tell of becomes a problem."""
    from sweeps.state.progress import Progress as Found
    from sweeps.state.progress import eta_seconds
    from sweeps.state.trial_store import Standing, State

    by_name = {one.trial.name: one for one in found if one.trial.name in rest}
    told = {problem.what for problem in problems}
    unfinished = []
    for trial in launch.trials:
        one = by_name.get(trial.name)
        if one is not None and one.problem is not None and one.problem not in told:
            problems.append(InputError(one.problem, _LEFT, exit_code=EXIT_IO))
        if one is not None and one.state is not State.DONE:
            state, reason = str(one.state), one.note
            unfinished.append(
                Unfinished(trial.name, state, one.epochs_done, one.trial.epochs, reason)
            )
        elif trial.name in rest:
            place = f"{folder / trial.name}{os.sep}"
            reason = next((what for what in told if what.startswith(place)), "")
            unfinished.append(Unfinished(trial.name, str(State.UNKNOWN), reason=reason))
    done = [
        Found(Standing(_trial(launch.file, one), State.DONE), seconds_per_epoch=paces[one.name])
        for one in launch.trials
        if one.name in paces and one.name not in rest
    ]
    return Progress(unfinished, eta_seconds([*by_name.values(), *done]))


def _without_run(
    folder: Path, trials: Iterable[PlannedTrial], packed: Container[str]
) -> list[PlannedTrial]:
    return [
        trial
        for trial in trials
        # Not by Path, whose question may raise.
        if trial.name not in packed and not os.path.exists(f"{folder}/{trial.name}/{RUN}")  # noqa: PTH110
    ]


def _trial(plan: PlanFile, trial: PlannedTrial) -> Trial:
    from sweeps.spec.sweep import Trial

    return Trial(trial.name, trial.point, trial.config, trial.fingerprint, plan.task)
