"""The driver of a search: asks the study for trials, has them run, tells it what became of them.

Its trials are ordinary ones of the store, under a plan that grows. What is asked and not told is
found again in the trials' folders, so that a driver may die at any moment.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from optuna.trial import Trial as OptunaTrial

from local_machine import clock
from local_machine.errors import InputError, SlurmError, move_away
from local_machine.files import read_file, write_atomic
from sweeps.cli.live_view import Display
from sweeps.execution.backends.backend import Backend, Work
from sweeps.execution.watch import watch
from sweeps.search.optuna_journal import CAUSE, FROM, TRIAL, Journal, cause_of
from sweeps.search.outcome import NoMetricError, outcome
from sweeps.spec.expand import trial_at
from sweeps.spec.scale import Scale
from sweeps.spec.sweep import Search, Trial
from sweeps.state import lease as leases
from sweeps.state.adoption import adopt
from sweeps.state.elsewhere import way_out
from sweeps.state.plan import Plan, trial_to_json
from sweeps.state.progress import Progress, look, units_after
from sweeps.state.trial_store import State, TrialStore
from trial_records import rows, trial_files

BEST = "best.json"
# Of an Optuna trial: what the leases of its attempts name as their launch.
LAUNCHES = "launches"
# Of an Optuna trial: the epoch after which the pruner wanted no more of it.
VERDICT = "verdict"
# How many of the best trials the live view shows under those that run.
SHOWN = 10
# How often a driver asks a Slurm that does not answer, and for how long.
RETRY_SECONDS = 30.0
TROUBLE_SECONDS = 3600.0
# A search none of whose trials succeeds is given up after so many.
MAX_FAILURES = 3


@dataclass
class Driver:
    """One search being driven. The caller holds the lease on its folder."""

    store: TrialStore
    folder: Path
    search: Search
    scale: Scale
    overrides: Mapping[str, Any]
    trials: int
    """How many to ask for in all, over all drivers."""
    workers: int
    """How many may run at once."""
    journal: Journal
    backend: Backend
    plan: Plan
    has_stepped: bool = False
    """Whether a step has come to its end, so that what Slurm was asked was not wrong."""
    known: dict[str, Progress] = field(default_factory=dict)
    """How it stands with the best of what was told before and all that was told since, by name."""
    running: dict[int, tuple[OptunaTrial, Trial]] = field(default_factory=dict)
    """What is asked and not told, by Optuna's number."""
    _given: dict[str, FrozenTrial] = field(default_factory=dict)  # by fingerprint
    _names: dict[str, str] = field(default_factory=dict)  # that a plan gave, by fingerprint
    _entries: dict[str, str] = field(default_factory=dict)  # of the plan, as JSON, by name
    _reported: dict[int, int] = field(default_factory=dict)  # the last step, by Optuna's number
    _told: set[str] = field(default_factory=set)  # the trials' names
    _launches: dict[str, float] = field(default_factory=dict)  # when each trial was first started
    _silent: set[str] = field(default_factory=set)  # leases whose holders were said to be silent
    _failures: list[str] = field(default_factory=list)  # told in a row, in words

    def __post_init__(self) -> None:
        """Take up what an earlier driver left. Raises InputError where its own plan is damaged."""
        self.store.has_plan(self.plan.id)
        plans, unread = self.store.readable_plans()
        for problem in unread:
            print(f"warning: {problem.what}", file=sys.stderr, flush=True)
        for plan in plans:
            for trial in plan.trials:
                self._names.setdefault(trial.fingerprint, trial.name)
        asked = []
        told_before = self.journal.told()
        elsewhere = [one for one in told_before if FROM in one.user_attrs]
        for frozen in elsewhere:
            if (given := self._possible(frozen)) is not None:
                self._given[given.fingerprint] = frozen
        for frozen in (one for one in told_before if FROM not in one.user_attrs):
            if (told := self._possible(frozen)) is not None:
                asked.append(told)
                # What failed is asked for again, and may run again.
                if frozen.state is not TrialState.FAIL:
                    self._told.add(told.name)
        # Not all: to read the files of a thousand takes seconds.
        own = [one for one in self.journal.complete() if FROM not in one.user_attrs]
        best = [self._trial_of(frozen) for frozen in own[:SHOWN]]
        for progress in look(self.store, {one.name: one for one in best}.values(), {}):
            self.known[progress.trial.name] = progress
        for one in self.journal.running():
            if (ours := self._take(one)) is not None:
                asked.append(ours)
        self._keep(plans, {trial.name for trial in asked})
        self._note(asked)
        self._write_best()

    def _keep(self, plans: list[Plan], asked: set[str]) -> None:
        """Where the journal was started over, what the old one had asked for stays in a plan."""
        for plan in plans:
            left = [trial for trial in plan.trials if trial.name not in asked]
            if plan.id == self.plan.id and left:
                self.store.write_plan(replace(plan, trials=left, search=None, search_id=""))

    def _possible(self, frozen: FrozenTrial) -> Trial | None:
        """A told trial; None for one whose values go together in no configuration."""
        try:
            return self._trial_of(frozen)
        except InputError:
            return None

    @property
    def is_over(self) -> bool:
        return not self.running and self.journal.asked >= self.trials

    def show(self, display: Display) -> None:
        """Those under way first, then the best."""
        open_trials = {trial.name: trial for _, trial in self.running.values()}
        now = look(self.store, open_trials.values(), {})
        told = [one for name, one in self.known.items() if name not in open_trials]
        sign = -1 if self.search.goal.direction == "maximize" else 1
        told.sort(key=lambda one: math.inf if one.best is None else sign * one.best)
        # A table has room for some; a line a change is said of each.
        progress = now + (told[:SHOWN] if display.live else told)
        display.show(self.plan, progress, len(self.journal.told()), self.trials)

    def step(self) -> None:
        """Tell what has ended, prune what lags behind, ask for more, have it run.

        Raises InputError where the backend cannot go on or every trial fails, SlurmError where
        Slurm does not answer, OSError where the results cannot be written.
        """
        self.backend.poll()
        self._see(self.running)
        new: dict[str, Trial] = {}
        while len(self.running) < self.workers and self.journal.asked < self.trials:
            trial = self.journal.ask()
            if (ours := self._take(trial)) is not None:
                new[ours.name] = ours
                adopt(self.store, [ours], clock.now())
                # What the store has finished already needs no worker: another one is asked for.
                self._see([trial.number])
        self._note(new.values())
        self._start()

    def _start(self) -> None:
        """Have what is asked and held by nobody run, as far as there is room."""
        open_trials = {trial.name: trial for _, trial in self.running.values()}
        idle = (State.PENDING, State.LOST, State.FAILED, State.PRUNED)
        to_start = {
            one.trial.name: one.trial
            for one in self.store.standings(open_trials.values())
            if one.state in idle and not self.backend.holds(one.trial)
        }
        room = self.workers - (len(open_trials) - len(to_start))
        by_launch: dict[float, list[Trial]] = {}
        for trial in list(to_start.values())[: max(0, room)]:
            # The same at a second start: that is how an attempt's deaths are counted.
            launch = self._launches.setdefault(trial.name, clock.now())
            by_launch.setdefault(launch, []).append(trial)
        for launch, trials in by_launch.items():
            names = {trial.name for trial in trials}
            for asked, ours in self.running.values():
                if ours.name in names:
                    launches = self.journal.frozen(asked).user_attrs.get(LAUNCHES, [])
                    asked.set_user_attr(LAUNCHES, [*launches, launch])
            self.backend.submit(Work(self.store, [self.plan], trials, launch, apart=True))

    def _take(self, trial: OptunaTrial) -> Trial | None:
        """Note that a trial was asked for; which of the store's it is.

        None where its values go together in no configuration: it is told as failed; and where it
        was given with its value.
        """
        try:
            ours = self._trial_of(trial)
        except InputError as error:
            self._tell_failure(trial, error.what)
            return None
        if (known := self._given.get(ours.fingerprint)) is not None:
            # Trained elsewhere, and so not here.
            for key in (TRIAL, FROM):
                trial.set_user_attr(key, known.user_attrs[key])
            self.journal.study.tell(trial.number, known.value)
            return None
        self.running[trial.number] = (trial, ours)
        reported = self.journal.frozen(trial).intermediate_values
        self._reported[trial.number] = max(reported, default=0)
        trial.set_user_attr(TRIAL, ours.name)
        return ours

    def _trial_of(self, asked: OptunaTrial | FrozenTrial) -> Trial:
        point = self.journal.point_of(asked)
        trial = trial_at(self.search, point, self.scale, self.overrides)
        return trial.renamed(self._names.setdefault(trial.fingerprint, trial.name))

    def _note(self, trials: Iterable[Trial]) -> None:
        """Put the trials into the plan, where a worker finds them."""
        new = [trial for trial in trials if trial.name not in self._entries]
        if not new:
            return
        self._entries |= {trial.name: json.dumps(trial_to_json(trial)) for trial in new}
        self.plan = replace(self.plan, trials=[*self.plan.trials, *new])
        self.store.rewrite_plan(self.plan, self._entries.values())

    def _see(self, numbers: Iterable[int]) -> None:
        chosen = [(number, *self.running[number]) for number in list(numbers)]
        for (number, trial, ours), one in zip(
            chosen, look(self.store, [ours for _, _, ours in chosen], {}), strict=True
        ):
            if self._is_told(trial, ours, one):
                del self.running[number]
                self.known[ours.name] = one
                self._told.add(ours.name)

    def _is_told(self, trial: OptunaTrial, ours: Trial, one: Progress) -> bool:
        """Report a trial's new epochs; tell the study, where it has ended."""
        study, number = self.journal.study, trial.number
        if one.problem is not None:
            self._tell_failure(trial, one.problem)
            return True
        try:
            wants_no_more = self._report(trial, ours)
            if one.state is State.DONE:
                told = outcome(self.search, self.store.folder_of(ours), ours.fingerprint)
        except NoMetricError as error:
            if not self.journal.complete():
                raise InputError(
                    error.what, f"{error.help}: {move_away(self.folder, 'before')}", exit_code=1
                ) from None
            self._tell_failure(trial, error.what)
            return True
        except InputError as error:
            self._tell_failure(trial, error.what)
            return True
        if one.state is State.DONE:
            if told.val_images is not None:
                trial.set_user_attr("val_images", told.val_images)
            study.tell(number, told.value)
            self._failures.clear()
            self._write_best()
            return True
        launches = self.journal.frozen(trial).user_attrs.get(LAUNCHES, [])
        seen_before = ours.name in self._told
        pruned, failure = one.standing.pruned, one.standing.failure
        if pruned is not None and (seen_before or self._is_own(pruned, number, launches)):
            study.tell(number, state=TrialState.PRUNED)
            return True
        # What failed in somebody else's launch is tried in ours, once.
        if failure is not None and (seen_before or set(failure.launches) & set(launches)):
            if failure.cause == "NONFINITE" and self.search.is_trainers:
                # It has no accuracy, and to the sampler that is the worst there is.
                trial.set_user_attr(CAUSE, failure.cause)
                study.tell(number, 0.0)
                self._fail(f"{failure.cause}: {failure.exception}")
            else:
                self._tell_failure(trial, f"{failure.cause}: {failure.exception}")
            return True
        lease = one.standing.lease
        self._warn_of_silence(one)
        # What somebody else's launch runs is wanted whole.
        if (
            one.state is State.RUNNING
            and lease is not None
            and lease.launch in launches
            and wants_no_more
        ):
            pruned = trial_files.Pruned(
                self.plan.id, number, one.epochs_done - 1, clock.now(), [lease.launch]
            )
            pruned.write(self.store.folder_of(ours))
        return False

    def _warn_of_silence(self, one: Progress) -> None:
        """Say once that a search waits for a machine of which nothing was heard for a while."""
        lease, since = one.standing.lease, leases.since(one.standing.heard)
        if lease is None or not lease.is_elsewhere or not since or lease.token in self._silent:
            return
        self._silent.add(lease.token)
        todo = way_out(self.store.folder.parent, self.store.sweep, lease.host)
        print(
            f"warning: {one.trial.name} is held on {lease.host}{since}; {todo}",
            file=sys.stderr,
            flush=True,
        )

    def _is_own(self, pruned: trial_files.Pruned, number: int, launches: list[float]) -> bool:
        """Whether it was this question's attempt that was pruned."""
        if pruned.launches:
            return bool(set(pruned.launches) & set(launches))
        return (pruned.search, pruned.number) == (self.plan.id, number)  # as 0.1 wrote it

    def _report(self, trial: OptunaTrial, ours: Trial) -> bool:
        """Give the study the rows that are new; whether its pruner wants no more of the trial."""
        try:
            found = rows.read(self.store.folder_of(ours))
        except FileNotFoundError:
            return False
        logged = [row.values for row in found]
        # Steps are epochs trained, or what else is the budget: what pruners count as resource.
        steps = units_after(ours.task, logged)
        # A pruner says it once; an earlier driver may not have lived to do it.
        wants_no_more = VERDICT in self.journal.frozen(trial).user_attrs
        for step, row in zip(steps, logged, strict=True):
            value = row.get(self.search.goal.metric)
            if value is None or step <= self._reported[trial.number]:
                continue
            if not math.isfinite(value):
                break
            trial.report(value, step)
            self._reported[trial.number] = step
            if trial.should_prune() and not wants_no_more:
                trial.set_user_attr(VERDICT, step - 1)
                wants_no_more = True
        return wants_no_more and max(steps, default=0) < (ours.epochs or math.inf)

    def _write_best(self) -> None:
        """The best configuration as a file, where that is not there yet."""
        complete = self.journal.complete()
        if not complete:
            return
        text = self._trial_of(complete[0]).to_json()
        path = self.folder / BEST
        if not path.is_file() or read_file(path) != text.encode():
            write_atomic(path, lambda file: file.write(text.encode()))

    def _tell_failure(self, trial: OptunaTrial, words: str) -> None:
        trial.set_user_attr(CAUSE, words.partition("\n")[0])
        self.journal.study.tell(trial.number, state=TrialState.FAIL)
        self._fail(words)

    def _fail(self, words: str) -> None:
        self._failures.append(words)
        if len(self._failures) >= MAX_FAILURES and not self._has_succeeded():
            common = max(set(self._failures), key=self._failures.count).partition("\n")[0]
            raise InputError(
                f"the first {len(self._failures)} trials failed: {common}",
                f"python -m sweeps.status {self.store.sweep} --failures says more; fix that, "
                "then the same command goes on",
                exit_code=1,
            )

    def _has_succeeded(self) -> bool:
        return not all(cause_of(trial) for trial in self.journal.told())


def drive(driver: Driver, stop: Callable[[], bool], show: Callable[[Driver], None]) -> bool:
    """Drive the search to its end; False where it was stopped before. What its backend runs goes on
    until the caller cancels that."""
    trouble: float | None = None  # since when Slurm has not answered

    def step() -> float | None:
        nonlocal trouble
        if driver.is_over:
            return None
        try:
            driver.step()
        except SlurmError as error:
            # A controller that is away, or a full queue, passes; a refusal at the start stays.
            if trouble is None and not driver.has_stepped:
                raise
            trouble = trouble or clock.monotonic()
            if clock.monotonic() - trouble > TROUBLE_SECONDS:
                raise
            print(f"warning: {error.what}; going on", file=sys.stderr, flush=True)
            return RETRY_SECONDS
        trouble = None
        driver.has_stepped = True
        show(driver)
        return None if driver.is_over else driver.backend.seconds

    return watch(step, stop)
