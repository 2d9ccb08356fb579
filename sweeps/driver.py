"""The driver of a search: asks the study for trials, has them run, tells it what became of them.

Its trials are ordinary ones of the ledger, under a plan that grows. What is asked and not told is
found again in the trials' folders, so that a driver may die at any moment.
"""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from optuna.trial import Trial as OptunaTrial
from optuna.trial import TrialState

from sweeps.dispatch import Cluster
from sweeps.journal import Journal
from sweeps.ledger import LOGS, Ledger, Plan, State, trial_to_json
from sweeps.local import start_worker, stop_all, words_of
from sweeps.progress import Progress, look
from sweeps.scale import Scale
from sweeps.sweep import Search, Trial, trial_at
from trainer import record
from trainer.errors import EXIT_IO, EXIT_USAGE, InputError

NOTE = "search.json"
BEST = "best.json"
# How many of the best trials the live view shows under those that run.
SHOWN = 10
# How long a driver may take to notice that it is to stop.
SLICE_SECONDS = 0.2
# A search none of whose trials succeeds is given up after so many.
MAX_FAILURES = 3


class Runner(Protocol):
    """What runs the trials that a driver asks for."""

    def holds(self, trial: Trial) -> bool:
        """Whether it will see to the trial, though no claim shows that yet."""

    def start(self, plan: Plan, trials: list[Trial]) -> None: ...

    def check(self) -> None:
        """Raises InputError where it cannot go on."""

    def stop(self) -> None:
        """Let go of what runs, where that cannot go on alone."""


@dataclass
class Processes:
    """A worker process on this machine for each trial."""

    ledger: Ledger
    launch: float
    workers: int
    running: dict[int, tuple[str, subprocess.Popen[bytes], Path]] = field(default_factory=dict)

    def holds(self, trial: Trial) -> bool:
        return trial.name in [name for name, _, _ in self.running.values()]

    def start(self, plan: Plan, trials: list[Trial]) -> None:
        (self.ledger.folder / LOGS).mkdir(parents=True, exist_ok=True)
        for trial in trials:
            slot = next(n for n in range(len(self.running) + 1) if n not in self.running)
            words = ["--plan", plan.id, "--only", trial.name]
            process, log = start_worker(
                self.ledger, words, self.launch, slot, self.workers, stays=False
            )
            self.running[slot] = (trial.name, process, log)

    def check(self) -> None:
        for slot, (name, process, log) in list(self.running.items()):
            code = process.poll()
            if code is None:
                continue
            del self.running[slot]
            if code in (EXIT_USAGE, EXIT_IO):
                raise words_of(log, code)
            if code > 0:
                raise InputError(
                    f"the worker of {name} was stopped", "the same command goes on", exit_code=1
                )

    def stop(self) -> None:
        stop_all(process for _, process, _ in self.running.values())
        self.running.clear()


@dataclass
class Jobs:
    """A Slurm job for each trial. They go on when the driver ends."""

    ledger: Ledger
    launch: float
    cluster: Cluster

    def holds(self, trial: Trial) -> bool:
        return False  # the claim is there before the job

    def start(self, plan: Plan, trials: list[Trial]) -> None:
        from slurm.queue import Queue
        from sweeps.submit import Submission

        site, resources = self.cluster.site, self.cluster.resources
        queue = self.ledger.scheduler.queue or Queue()
        Submission(self.ledger, plan, self.launch, site, resources, queue).trials(trials)

    def check(self) -> None:
        """The ledger tells what became of a job."""

    def stop(self) -> None:
        """Nothing: jobs need no driver."""


@dataclass
class Driver:
    """One search being driven. The caller holds the claim on its folder."""

    ledger: Ledger
    folder: Path
    search: Search
    scale: Scale
    overrides: Mapping[str, Any]
    trials: int
    """How many to ask for in all, over all drivers."""
    workers: int
    """How many may run at once."""
    journal: Journal
    runner: Runner
    plan: Plan
    known: dict[str, Progress] = field(default_factory=dict)
    """How it stands with the best of what was told before and all that was told since, by name."""
    running: dict[int, tuple[OptunaTrial, Trial]] = field(default_factory=dict)
    """What is asked and not told, by Optuna's number."""
    _names: dict[str, str] = field(default_factory=dict)  # that a plan gave, by fingerprint
    _entries: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the plan, by name
    _reported: dict[int, int] = field(default_factory=dict)  # epochs, by Optuna's number
    _told: set[str] = field(default_factory=set)  # the trials' names
    _failures: list[str] = field(default_factory=list)  # told in a row, in words

    def __post_init__(self) -> None:
        """Take up what an earlier driver left. Raises InputError for a damaged plan."""
        for plan in self.ledger.plans():
            for trial in plan.trials:
                self._names.setdefault(trial.config.fingerprint, trial.name)
        asked = [self._trial_of(frozen.params) for frozen in self.journal.told()]
        self._told = {trial.name for trial in asked}
        # Not all: to read the files of a thousand takes seconds.
        best = [self._trial_of(frozen.params) for frozen in self.journal.complete()[:SHOWN]]
        for progress in look(self.ledger, {one.name: one for one in best}.values(), {}):
            self.known[progress.trial.name] = progress
        asked += [self._take(one) for one in self.journal.running()]
        self._note(asked)

    @property
    def is_over(self) -> bool:
        return not self.running and self.journal.asked >= self.trials

    def progress(self) -> list[Progress]:
        """The trials of the search, those under way first, then the best."""
        open_trials = {trial.name: trial for _, trial in self.running.values()}
        now = look(self.ledger, open_trials.values(), {})
        told = [one for name, one in self.known.items() if name not in open_trials]
        return now + sorted(told, key=lambda one: -(one.best_val_accuracy or 0.0))

    def step(self) -> None:
        """Tell what has ended, prune what lags behind, ask for more, have it run.

        Raises InputError where the runner cannot go on or every trial fails, SlurmError where Slurm
        does not answer, OSError where the results cannot be written.
        """
        self.runner.check()
        self._see(self.running)
        new: dict[str, Trial] = {}
        while len(self.running) < self.workers and self.journal.asked < self.trials:
            trial = self.journal.ask()
            ours = self._take(trial)
            new[ours.name] = ours
            # What the ledger has finished already needs no worker, so another one is asked for.
            self._see([trial.number])
        self._note(new.values())
        to_start = {
            one.trial.name: one.trial
            for one in look(self.ledger, [trial for _, trial in self.running.values()], {})
            if one.state in (State.PENDING, State.LOST, State.FAILED, State.PRUNED)
            and not self.runner.holds(one.trial)
        }
        if to_start:
            self.runner.start(self.plan, list(to_start.values()))

    def _take(self, trial: OptunaTrial) -> Trial:
        """Note that a trial was asked for, in its folder too; which of the ledger's it is."""
        ours = self._trial_of(trial.params)
        self.running[trial.number] = (trial, ours)
        self._reported[trial.number] = len(self.journal.frozen(trial).intermediate_values)
        trial.set_user_attr("trial", ours.name)
        folder = self.ledger.folder_of(ours)
        folder.mkdir(parents=True, exist_ok=True)
        note = {
            "schema_version": 1,
            "search": self.plan.id,
            "number": trial.number,
            "params": dict(trial.params),
        }
        record.write_json(folder / NOTE, note)
        return ours

    def _trial_of(self, params: Mapping[str, Any]) -> Trial:
        trial = trial_at(self.search, params, self.scale, self.overrides)
        name = self._names.setdefault(trial.config.fingerprint, trial.name)
        return replace(trial, name=name)

    def _note(self, trials: Iterable[Trial]) -> None:
        """Put the trials into the plan, where a worker finds them."""
        new = [trial for trial in trials if trial.name not in self._entries]
        if not new:
            return
        self._entries |= {trial.name: trial_to_json(trial) for trial in new}
        self.plan = replace(self.plan, trials=[*self.plan.trials, *new])
        self.ledger.rewrite_plan(self.plan, list(self._entries.values()))

    def _see(self, numbers: Iterable[int]) -> None:
        chosen = [(number, *self.running[number]) for number in list(numbers)]
        for (number, trial, ours), one in zip(
            chosen, look(self.ledger, [ours for _, _, ours in chosen], {}), strict=True
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
        wants_no_more = self._report(trial, ours)
        if one.state is State.DONE:
            run = record.read_run(self.ledger.folder_of(ours), ours.config.fingerprint)
            column = "val_accuracy" if self.search.objective == "best" else "val_accuracy_last"
            trial.set_user_attr("val_images", run["val_images"])
            study.tell(number, float(run[column]))
            self._failures.clear()
            if self.journal.best().number == number:
                text = ours.config.to_json()
                record.write_atomic(self.folder / BEST, lambda file: file.write(text.encode()))
            return True
        began = self.journal.frozen(trial).datetime_start
        asked_at = began.timestamp() if began else 0.0
        seen_before = ours.name in self._told
        pruned = one.standing.pruned
        if pruned is not None and (seen_before or pruned.pruned_at >= asked_at):
            study.tell(number, state=TrialState.PRUNED)
            return True
        failure = one.standing.failure
        if failure is not None and (seen_before or failure.failed_at >= asked_at):
            if failure.cause == "NONFINITE":
                # It has no accuracy, and to the sampler that is the worst there is.
                trial.set_user_attr("cause", failure.cause)
                study.tell(number, 0.0)
                self._fail(f"{failure.cause}: {failure.exception}")
            else:
                self._tell_failure(trial, f"{failure.cause}: {failure.exception}")
            return True
        if one.state is State.RUNNING and wants_no_more:
            pruned = record.Pruned(self.plan.id, number, one.epochs_done - 1, time.time())
            pruned.write(self.ledger.folder_of(ours))
        return False

    def _report(self, trial: OptunaTrial, ours: Trial) -> bool:
        """Give the study the epochs that are new; whether its pruner wants no more of the trial."""
        try:
            accuracies = record.read_epochs(self.ledger.folder_of(ours))["val_accuracy"].to_pylist()
        except FileNotFoundError:
            return False
        wants_no_more = False
        for epoch in range(self._reported[trial.number], len(accuracies)):
            value = accuracies[epoch]
            if value is None or not math.isfinite(value):
                break
            # Steps are epochs trained, which is what pruners count as resource.
            trial.report(value, epoch + 1)
            self._reported[trial.number] = epoch + 1
            wants_no_more = trial.should_prune() or wants_no_more
        return wants_no_more and len(accuracies) < ours.config.epochs

    def _tell_failure(self, trial: OptunaTrial, words: str) -> None:
        trial.set_user_attr("cause", words)
        self.journal.study.tell(trial.number, state=TrialState.FAIL)
        self._fail(words)

    def _fail(self, words: str) -> None:
        self._failures.append(words)
        if len(self._failures) >= MAX_FAILURES and not self._has_succeeded():
            common = max(set(self._failures), key=self._failures.count)
            raise InputError(
                f"the first {len(self._failures)} trials failed: {common}",
                f"python -m sweeps.status {self.ledger.sweep} --failures says more; mend that, "
                "then the same command goes on",
                exit_code=1,
            )

    def _has_succeeded(self) -> bool:
        return any("cause" not in trial.user_attrs for trial in self.journal.told())


def drive(
    driver: Driver, stop: Callable[[], bool], show: Callable[[Driver], None], seconds: float
) -> bool:
    """Drive the search to its end; False where it was stopped before."""
    try:
        while not driver.is_over:
            driver.step()
            show(driver)
            if driver.is_over:
                break
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if stop():
                    return False
                time.sleep(min(seconds, SLICE_SECONDS))
    finally:
        driver.runner.stop()
    return True
