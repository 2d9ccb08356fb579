"""Study, Sweep, Plan: what a report is made from, as data frames.

`reading.loading` makes them. What cannot be read is left in place and named in `Study.problems`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.data.progress import Progress
from analysis.data.search_space import Search
from local_machine.errors import InputError
from trial_records.history.launch_changes import LaunchedTrials
from trial_records.history.marks import Marks
from trial_records.plan import FIRST_TASK, PlannedTask
from trial_records.verified import Verification

if TYPE_CHECKING:
    from analysis.data.task import Task

POINT = "point."
# Of the frame's columns, those that are neither of a configuration nor of an outcome.
OWN = (
    "trial", "sweep", "state", "result", "repeated", "exactness", "contradicted", "flags",
    "failure", "marked",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """One launch of a sweep and what its trials left.

    `runs` has a row a planned trial, in the plan's order: `trial` (folder name), `point.<axis>`
    (the axis' value in the definition, before scaling), every outcome column of run.parquet (empty
    where the trial has none), every field of the configuration (`fields`), `state` (done, excluded,
    or another word that run.parquet's `status` holds; without a result that of `progress`), the
    columns of
    dataset.columns, `result` (outliers.results) and `repeated` (whether an earlier trial of its
    point has it), `exactness` (of a resumed trial `exact` or `unverified`, else ""),
    `contradicted` (whether a rerun of it differs), `flags` (list of outliers.FLAGS' codes),
    `failure` (a sentence, or "") and `marked` (the tags and notes that people gave it, or "").
    Accuracies are fractions. A search's trials stand in the order in which it asked for them, and
    those that it pruned itself have no flag. Of an excluded trial no outcome is there.

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
    task: PlannedTask = FIRST_TASK
    """Whose trials these are, and by what they are compared."""
    logged: pd.DataFrame = field(default_factory=pd.DataFrame)
    """As `reading.frames.Records` has it, of a task other than the trainer, which has no epochs."""
    progress: Progress = field(default_factory=Progress)
    """Of its trials without a result."""

    @cached_property
    def by_seed(self) -> dict[tuple[Any, ...], dict[int, float]]:
        """What `stats.seed_values` found of its points, which many sections ask for."""
        return {}

    @property
    def is_trainers(self) -> bool:
        """Whether its trials are of the trainer that comes with the project, which has columns of
        its own, and are compared by its validation accuracy."""
        return self.task.is_trainers


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
    verified: list[Verification] = field(default_factory=list)
    """What came of running some of its finished trials again, one for each."""
    marks: Marks = field(default_factory=Marks)
    """What people say of it and of its trials."""
    launches: list[LaunchedTrials] = field(default_factory=list)
    """What each launch asked for, also those that a later one contains; no searches."""


@dataclass(frozen=True)
class Study:
    results: Path
    sweeps: list[Sweep]
    problems: list[InputError]
    task: Task = field(repr=False)
    predictions: dict[Path, Any] = field(default_factory=dict, repr=False)
    """What was read of each trial's folder, so that a file is read and reported once: Predictions
    or, of another task than the trainer, TaskPredictions; None where it cannot be used."""

    @property
    def plans(self) -> list[Plan]:
        return [plan for sweep in self.sweeps for plan in sweep.plans]

    @property
    def trials(self) -> pd.DataFrame:
        """The trials of all plans, each once, with a column `sweep`."""
        frames = [plan.runs.assign(sweep=plan.sweep) for plan in self.plans]
        return pd.concat(frames, ignore_index=True).drop_duplicates(["sweep", "trial"])

    @property
    def of_trainer(self) -> Study:
        """Of it the launches of the task that comes with the project."""
        return self.only(lambda plan: plan.is_trainers)

    def only(self, wanted: Callable[[Plan], bool]) -> Study:
        """Of it those launches."""
        kept = [
            replace(sweep, plans=[plan for plan in sweep.plans if wanted(plan)])
            for sweep in self.sweeps
        ]
        return replace(self, sweeps=[sweep for sweep in kept if sweep.plans])

    def folder(self, plan: Plan, trial: str) -> Path:
        return self.results / plan.sweep / trial
