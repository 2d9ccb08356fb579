"""What readers are told of a trial: by `sweeps.status`, and by what a report is made from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from analysis.data.study import Plan, Study
from analysis.reading.standings import UNASKED
from simulation.task import rows_of
from sweeps.state.progress import Progress
from sweeps.state.trial_store import State


@dataclass(frozen=True)
class Told:
    name: str
    seed: int
    state: str
    epochs: int
    best: float | None
    """None for no epoch, NaN where the rows are not those of the first epochs, each once."""
    problem: str | None = None
    follows: bool = False
    """Whether the reader looks again for what was compacted meanwhile, whatever NFS says."""

    @property
    def is_done(self) -> bool:
        return self.state == State.DONE


def by_status(one: Progress) -> Told:
    """What `sweeps.status` shows of a trial."""
    problem = one.problem
    if problem is None and one.state is State.UNKNOWN:
        problem = "nobody knows its state"
    trial, best = one.trial, one.best
    return Told(trial.name, trial.seed or 0, str(one.state), one.epochs_done, best, problem)


def by_report(study: Study) -> list[Told]:
    """What a report is made from, a trial at a time."""
    found = [one for plan in study.plans for one in _by_plan(plan)]
    # That Slurm gives no answer is true where it is told, and says nothing of a trial.
    problems = [one.what for one in study.problems if not one.what.endswith(UNASKED)]
    return found + [Told("?", 0, "", 0, None, what) for what in problems]


def _by_plan(plan: Plan) -> Iterator[Told]:
    for name, seed, state, objective in zip(
        *(plan.runs[one] for one in ("trial", "seed", "state", "objective")), strict=True
    ):
        logged = plan.logged[plan.logged["trial"] == name]
        told = list(zip(logged["at"], logged["metric"], logged["value"], strict=True))
        rows = [(row["epoch"], "val", row["val"]) for row in rows_of(seed, len(told))]
        best = max((row[2] for row in rows), default=None)
        if told != rows or (state == State.DONE and objective != best):
            best = math.nan
        yield Told(name, seed, state, len(told), best, follows=True)
