"""Which finished trials were trained by other code than the one that is here now.

Code is not part of a trial's identity, since a comment must not run a sweep again; so a person is
told of it, and says what to do.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from local_machine import origin
from sweeps.spec.task_loader import code_of, own_code_of
from sweeps.state.progress import Progress
from sweeps.state.trial_store import State
from trial_records.plan import PlannedTask


def trained_by_other(progress: Iterable[Progress]) -> list[Progress]:
    """The finished trials whose record says another hash of the task's code than the code has now.
    Not those whose record, or whose task, does not tell it."""

    @functools.cache
    def now(task: PlannedTask, more: tuple[Path, ...]) -> str | None:
        place = code_of(task)
        is_here = place is not None and all(one.exists() for one in (place, *more))
        return origin.hash_of(place, *more) if place is not None and is_here else None

    done = (one for one in progress if one.state is State.DONE and one.code is not None)
    return [
        one
        for one in done
        if now(one.trial.task, own_code_of(one.trial.task, one.trial.values))
        not in (None, one.code)
    ]


def in_words(count: int) -> str:
    return f"{count} done trial{'s were' if count != 1 else ' was'} trained by other code"
