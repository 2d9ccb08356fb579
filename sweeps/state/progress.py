"""Progress: how far each trial has come, read from its records."""

from __future__ import annotations

import itertools
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from local_machine.errors import InputError
from slurm.job_state import JobState
from slurm.waiting import why
from sweeps.spec.sweep import Trial
from sweeps.state import job_log, summary_cache
from sweeps.state import lease as leases
from sweeps.state.lease import Lease
from sweeps.state.plan import LOGS
from sweeps.state.summary_cache import Figures
from sweeps.state.trial_store import Standing, State, TrialStore
from trial_records import archive, trial_files, verified
from trial_records.history import marks
from trial_records.history.marks import NOTHING, Marked
from trial_records.metrics import objective
from trial_records.plan import FIRST_TASK, PlannedTask
from trial_records.verified import Exactness, Verification

Values = Mapping[str, Any]

# Slurm's words for the end of a job, in ours.
CAUSES: dict[JobState, trial_files.Cause] = {
    JobState.OUT_OF_MEMORY: "OUT_OF_MEMORY",
    JobState.TIMEOUT: "TIMEOUT",
    JobState.DEADLINE: "TIMEOUT",
    JobState.NODE_FAIL: "NODE_FAILURE",
    JobState.BOOT_FAIL: "NODE_FAILURE",
}


@dataclass(frozen=True)
class Progress:
    """One trial's standing and its figures: of validation, so that no test image chooses."""

    standing: Standing
    epochs_done: int = 0  # in units of its task's budget
    best: float | None = None  # by its task's objective
    seconds_per_epoch: float | None = None
    stopped_early: bool = False
    # As its run says, a shared one by its part; 0 where another sweep trained it.
    devices: float | None = None
    attempts: int = 1  # of a finished trial, those that added to its result
    run: str | None = field(default=None, compare=False)  # as `verified.digest_of` says it
    setting: str | None = None  # as `verified.setting_of` says it
    code: str | None = None  # the hash of the code that trained it, once it is done
    problem: str | None = None  # a damaged file, by name
    said: str = ""  # the last line of the log of a job that lost its trial
    exactness: Exactness | None = None  # of a finished trial, where there is anything to say
    marked: Marked = NOTHING  # what people say of it

    @property
    def trial(self) -> Trial:
        return self.standing.trial

    @property
    def state(self) -> State:
        return self.standing.state

    @property
    def metric(self) -> str | None:
        return self.trial.task.metric

    @property
    def is_trainers(self) -> bool:
        """Whether it is compared by the validation accuracy of the project's own trainer."""
        return self.trial.task.is_trainers

    @property
    def what(self) -> str:
        """The name of what is best."""
        return "validation" if self.is_trainers else str(self.metric)

    @property
    def best_in_words(self) -> str:
        """In percent, where it is the trainer's accuracy."""
        assert self.best is not None
        return percent(self.best) if self.is_trainers else f"{self.best:.4g}"

    @property
    def epochs_left(self) -> int:
        if self.state.is_over or self.trial.epochs is None:
            return 0
        return max(0, self.trial.epochs - self.epochs_done)

    @property
    def eta_seconds(self) -> float | None:
        """For a running trial, as its epochs have gone so far."""
        if self.state is not State.RUNNING or self.seconds_per_epoch is None:
            return None
        return self.epochs_left * self.seconds_per_epoch

    @property
    def note(self) -> str:
        """Why it failed, where it runs, what is damaged; and what people say of it."""
        return "; ".join(one for one in (self._note, self.marked.words) if one)

    @property
    def _note(self) -> str:
        lease, failure = self.standing.lease, self.standing.failure
        if self.problem:
            return self.problem
        if failure is not None:
            return f"{failure.cause}: {failure.exception}"
        if lease is not None:
            return self._whereabouts(lease)
        said = self.exactness.words if self.exactness else ""
        return ", ".join(one for one in ("stopped early" * self.stopped_early, said) if one)

    def _whereabouts(self, lease: Lease) -> str:
        words = [f"pid {lease.pid} on {lease.host}{leases.since(self.standing.heard)}"]
        if self.standing.lost is not None:
            words = [self.standing.lost, self.said]
        elif lease.submission:
            job = self.standing.job
            words = [f"job {lease.job or (job.id if job else '')}".rstrip()]
            if self.state is State.QUEUED:
                words.append(why(job) if job else self._unseen(lease))
            elif lease.started:
                words.append(f"on {lease.host}{leases.since(self.standing.heard)}")
        if lease.attempt > 1:
            words.append(f"attempt {lease.attempt}")
        return ", ".join(word for word in words if word)

    def _unseen(self, lease: Lease) -> str:
        """Of a job that Slurm did not tell of."""
        return (
            f"which only the Slurm of {lease.host} can tell of"
            if lease.job
            else "on its way to Slurm"
        )

    @property
    def ending(self) -> str:
        """How what held a lost trial ended, without its job's number."""
        job = self.standing.job
        return job_log.ending(job) if job and job.state.is_over else self.standing.lost or ""

    @property
    def cause(self) -> str | None:
        """The word for why it failed, or why Slurm ended its job."""
        failure, job = self.standing.failure, self.standing.job
        if failure is not None:
            return failure.cause
        return CAUSES.get(job.state) if self.state is State.LOST and job is not None else None

    @property
    def verified(self) -> dict[str, Any] | None:
        """What came of running it again, and when; None where nobody did."""
        last = self.exactness.last if self.exactness else None
        if last is None:
            return None
        return {"at": last.verified_at, "outcome": last.outcome, "words": last.words}

    def to_json(self) -> dict[str, Any]:
        lease, failure = self.standing.lease, self.standing.failure
        return {
            "name": self.trial.name,
            "fingerprint": self.trial.fingerprint,
            "point": dict(self.trial.point),
            "state": str(self.state),
            "epochs_done": self.epochs_done,
            "epochs": self.trial.epochs,
            "best_val_accuracy": self.best if self.metric == FIRST_TASK.metric else None,
            "metric": self.metric,
            "direction": self.trial.task.direction,
            "reduction": self.trial.task.reduction,
            "best": self.best,
            "eta_seconds": self.eta_seconds,
            "stopped_early": self.stopped_early,
            "exactness": self.exactness.word or None if self.exactness else None,
            "verified": self.verified,
            "attempt": lease.attempt if lease else failure.attempt if failure else None,
            "cause": self.cause,
            "job": self.standing.job.id if self.standing.job else None,
            "note": self.note,
            "problem": self.problem,
            **self.marked.to_json(),
        }


def look(store: TrialStore, trials: Iterable[Trial], known: dict[str, Progress]) -> list[Progress]:
    """How far the trials have come. `known` keeps what can no longer change between looks.

    A damaged file becomes the problem of its trial. Raises SlurmError where Slurm does not answer.
    """
    trials = list(trials)
    try:
        parts = archive.trials(store.folder)
    except InputError:
        parts = {}  # the trials that this concerns tell of it below
    for trial in trials:
        if trial.name in known and known[trial.name].trial.task.objective != trial.task.objective:
            del known[trial.name]  # another plan compares it by another objective
        if trial.name not in known:
            figures = store.summaries.find(trial, store.folder_of(trial), parts)
            if figures is not None:
                known[trial.name] = Progress(Standing(trial, State.DONE), *figures)
    standings = store.standings(trial for trial in trials if trial.name not in known)
    found = {one.trial.name: _look(store, one, known, parts) for one in standings}
    notes, said = verified.read(store.folder)[0], marks.read(store.folder)[0]
    every = (known.get(trial.name) or found[trial.name] for trial in trials)
    judged = [_judged(one, notes) if one.state is State.DONE else one for one in every]
    if not said.every:
        return judged
    return [replace(one, marked=said.of(one.trial.fingerprint)) for one in judged]


def _judged(one: Progress, notes: Mapping[str, list[Verification]]) -> Progress:
    """With what may be said of the finished trial's exactness."""
    if (one.attempts < 2 and not notes) or one.problem is not None:
        return one
    said = verified.exactness(notes, one.trial.fingerprint, one.run, one.attempts, one.setting)
    return replace(one, exactness=said)


def _look(
    store: TrialStore,
    standing: Standing,
    known: dict[str, Progress],
    parts: Mapping[str, Path],
) -> Progress:
    trial = standing.trial
    if standing.problem is not None:
        return Progress(standing, problem=standing.problem)
    said = _said(store, standing)
    if standing.state is State.PENDING and not store.folder_of(trial).exists():
        return Progress(standing)
    folder = store.folder_of(trial)
    done = standing.state is State.DONE
    stamp = summary_cache.stamp(folder, parts) if done else None
    # Not where all was seen before: pyarrow takes a quarter of a second.
    from trial_records import rows, tables

    def read() -> tuple[dict[str, Any], list[Values]]:
        if not done:
            return {}, [row.values for row in rows.read(folder)]
        run = tables.read_run(folder, trial.fingerprint)
        table = tables.read_epochs(folder, run.get(tables.DIGESTS[trial_files.EPOCHS]))
        return run, table.to_pylist()

    try:
        try:
            run, logged = read()
        except FileNotFoundError:
            if not done:
                return Progress(standing, said=said)
            # It may have been compacted a moment ago, or put back.
            archive.look_anew(store.folder, folder)
            run, logged = read()
    except FileNotFoundError:
        return Progress(standing, problem=f"{folder / trial_files.EPOCHS} is gone")
    except InputError as error:
        return Progress(standing, problem=error.what)
    figures = Figures(
        # A last row of step 200, counted from 0, may be of 200 steps.
        epochs_done=min(units_done(trial.task, logged), trial.epochs or sys.maxsize),
        best=value_of(trial.task, logged, run),
        seconds_per_epoch=_pace(trial.task, logged, run),
        stopped_early=bool(run.get("stopped_early")),
        devices=_devices(run) if run else None,
        attempts=max(1, len(verified.attempts_of(run))),
        run=verified.digest_of(run),
        setting=verified.setting_of(run),
        code=run.get("code_sha256"),
    )
    progress = Progress(standing, *figures, said=said)
    if done:
        known[trial.name] = progress
        store.summaries.keep(trial, stamp, figures)
    return progress


def units_done(task: PlannedTask, rows: Sequence[Values]) -> int:
    """Of the task's budget."""
    return max(units_after(task, rows), default=0)


def units_after(task: PlannedTask, rows: Sequence[Values]) -> list[int]:
    """Of the task's budget, after each row: what rows count, under the name of the budget, such as
    `max_epochs`, or as `epoch`; else the rows. A program may count from 1, all else from 0."""
    for name in _names_of(task.budget or ""):
        if values := _finite(rows, name):
            least = min(values)
            from_0 = task.command is None or (least < 1 and least == int(least))
            first = 1 if from_0 else 0
            counted = (max(_finite([row], name), default=-first) for row in rows)
            return [int(most) + first for most in itertools.accumulate(counted, max)]
    return list(range(1, len(rows) + 1))


def _names_of(budget: str) -> list[str]:
    """What rows may call the unit of a budget."""
    last = budget.rpartition(".")[2]
    unit = last.removeprefix("max_").removesuffix("s")
    steps = ["step"] if unit in ("iter", "iteration", "update") else []
    return [budget, budget.removesuffix("s"), unit, *steps]


def best_of(task: PlannedTask, rows: Sequence[Values]) -> float | None:
    """The best value of the task's metric in the rows; None where none has it."""
    better = max if task.direction == "maximize" else min
    return better(_finite(rows, task.metric or ""), default=None)


def value_of(task: PlannedTask, rows: Sequence[Values], run: Values) -> float | None:
    """What a trial has by its task's objective; `run` is the row of its run.parquet, empty before
    it is done, when what training returns is not known yet. None where that is nothing finite."""
    if task.metric is None or (task.reduction == "final" and not run):
        return None
    if not run and task.reduction == "best":
        return best_of(task, rows)
    value = objective(run, lambda: rows, task.metric, task.direction, task.reduction)
    return value if value is not None and math.isfinite(value) else None


def _pace(task: PlannedTask, rows: Sequence[Values], run: Values) -> float | None:
    """Seconds for a unit of the budget."""
    if seconds := _finite(rows, "seconds"):
        return sum(seconds) / len(seconds)
    whole, units = run.get("seconds"), units_done(task, rows)
    return whole / units if whole and units else None


def _devices(run: Mapping[str, Any]) -> float:
    if run.get("shared_from") is not None:
        return 0.0
    return (run.get("world_size") or 1) * (run.get("device_share") or 1.0)


def _said(store: TrialStore, standing: Standing) -> str:
    """Why a job lost its trial, in the last words of its log."""
    lease, job = standing.lease, standing.job
    if standing.state is not State.LOST or lease is None or not lease.submission:
        return ""
    number = lease.job or (job.id if job else "")
    return " ".join(job_log.last_words(store.folder / LOGS, number)) if number else ""


def _finite(rows: Iterable[Values], name: str) -> list[float]:
    values = (row.get(name) for row in rows)
    return [value for value in values if value is not None and math.isfinite(value)]


def counts(progress: Iterable[Progress]) -> dict[str, int]:
    """How many trials are in each state, every state named."""
    found = Counter(one.state for one in progress)
    return {str(state): found[state] for state in State}


def summary(progress: list[Progress]) -> str:
    """The counts in a line: `9 trials: 3 done, 1 running, 5 pending`."""
    named = ", ".join(f"{number} {state}" for state, number in counts(progress).items() if number)
    excluded = sum(one.marked.excluded is not None for one in progress)
    said = f" ({excluded} excluded)" if excluded else ""
    return f"{len(progress)} trial{'s' * (len(progress) != 1)}: {named}{said}"


def eta_seconds(progress: list[Progress]) -> float | None:
    """Until the last trial ends, with as many at once as run now; None while that is not known."""
    running = [one for one in progress if one.state == "running"]
    timed = [one.seconds_per_epoch for one in progress if one.seconds_per_epoch is not None]
    if not running or not timed:
        return None
    mean = sum(timed) / len(timed)
    left = sum(
        one.epochs_left * (one.seconds_per_epoch or mean)
        for one in progress
        if not one.state.is_over
    )
    return left / len(running)


def lost_alike(progress: Iterable[Progress]) -> list[list[Progress]]:
    """The lost trials, those with one cause together, the most frequent first."""
    groups: dict[tuple[str, str], list[Progress]] = {}
    for one in progress:
        if one.state is State.LOST:
            groups.setdefault((one.ending, one.said), []).append(one)
    return sorted(groups.values(), key=len, reverse=True)


def why_lost(alike: list[Progress]) -> str:
    """`2 lost: job 56_2, FAILED, exit code 127, python: No such file or directory`."""
    return f"{len(alike)} lost: {alike[0].note}"


def percent(accuracy: float) -> str:
    return f"{100 * accuracy:.2f} %"
