"""What the tasks of trials say before any is leased: whether they could run, and what they need."""

from __future__ import annotations

from collections.abc import Iterable

from local_machine.errors import need
from sweeps.spec.sweep import Trial, by_task


def check(trials: Iterable[Trial], ranks: int = 1) -> None:
    """Raises InputError where a trial on so many ranks could not be; touches nothing."""
    if ranks > 1:
        need("torch", "a trial on several ranks")
    for task, group in by_task(trials):
        task.check((trial.config for trial in group), ranks)


def prepare(trials: Iterable[Trial]) -> None:
    """Do what all of them need before any worker needs it. Raises InputError."""
    for task, group in by_task(trials):
        task.prepare(trial.config for trial in group)
