"""Running a search: what was asked for, and driving it to its end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_machine import signals
from local_machine.errors import InputError
from sweeps.spec.backend_name import BackendName

if TYPE_CHECKING:
    from sweeps.execution.request import LaunchRequest
    from sweeps.search.driver import Driver
    from sweeps.search.optuna_journal import Journal
    from sweeps.search.warm_start import WarmStart
    from sweeps.spec.scale import Scale
    from sweeps.spec.sweep import Search, Trial
    from sweeps.state.plan import Plan
    from sweeps.state.trial_store import TrialStore


# Trials at the ends of ranges that are looked at before a search begins.
MAX_ENDS = 100


def check_backend(request: LaunchRequest) -> None:
    """Raises InputError where a search cannot run as it is asked for."""
    if request.backend is BackendName.DEBUG:
        raise InputError(
            "--on debug", "a search runs its trials in workers: --on local --workers 1"
        )
    if request.on_slurm and request.per_gpu not in (None, 1):
        raise InputError(
            "--per-gpu on Slurm: a search sends each trial as a job of its own",
            "drive it in a job on a GPU node: --on local --per-gpu N",
        )


@dataclass(frozen=True)
class Asked:
    """A search as it is asked for: at a scale, with overrides, for so many trials."""

    search: Search
    scale: Scale
    overrides: Mapping[str, Any]
    trials: int
    """In all."""
    ends: Sequence[Trial]
    """Trials at the lower ends of all ranges and at the upper ones, of every branch; at most
    MAX_ENDS."""
    epochs: int
    """The most that a trial has, in units of its task's budget; 1 where it does not say that."""
    identity: str
    """8 hex digits, which name its folder and its plan."""
    text: str | None = None
    """The definition file's, where a command line is the definition."""

    @classmethod
    def of(
        cls, search: Search, scale: Scale, overrides: Mapping[str, Any], trials: int | None = None
    ) -> Asked:
        """Raises InputError for overrides that the search cannot take."""
        from sweeps.search.optuna_journal import grid_size
        from sweeps.spec.expand import trial_at

        points = [one.point for one in search.examples[:MAX_ENDS]]
        ends = [trial_at(search, point, scale, overrides) for point in points]
        budget = ends[0].task.budget
        return cls(
            search,
            scale,
            overrides,
            min(trials or search.trials, grid_size(search) or sys.maxsize),
            ends,
            max([1, *(one.epochs or 1 for one in ends), *_most(search, budget)]),
            _identity([str(scale), dict(sorted(overrides.items()))]),
        )

    def by_definition(self) -> Asked:
        """The same under an identity of its definition too: with another base or other ranges it
        is another search, where a person would be asked what to do with the first one's journal."""
        head = [str(self.scale), dict(sorted(self.overrides.items()))]
        return replace(self, identity=_identity([*head, self.definition]))

    @property
    def definition(self) -> dict[str, Any]:
        """What an earlier journal must agree with."""
        from trial_records.config import flat_of  # --help needs no pydantic

        space = self.search.searched
        # A field that only some points have is the base's in others.
        base = self.ends[0] if space.is_flat else self._base
        fields = flat_of(base.values)
        head: dict[str, Any] = {"objective": self.search.objective}
        if not self.search.is_trainers:
            # Named as no field can be.
            words = self.search.goal.in_words
            head = {"the task": self.ends[0].task.name, "the objective": words}
        return {
            **head,
            **space.described(),
            **{key: value for key, value in fields.items() if key not in space.always},
        }

    @property
    def _base(self) -> Trial:
        from sweeps.spec.expand import trial_at

        return trial_at(self.search, {}, self.scale, self.overrides)

    def describe(self) -> dict[str, Any]:
        """The search as its plan has it, for the report."""
        return {
            "sampler": self.search.sampler,
            "pruner": self.search.pruner,
            "objective": self.search.goal.reduction,
            "trials": self.trials,
            "seed": self.search.seed,
            "space": {key: one.to_json() for key, one in self.search.searched.fields.items()},
        }


def through(
    asked: Asked,
    store: TrialStore,
    request: LaunchRequest,
    command: str,
    job: dict[str, Any],
    warm: WarmStart | None = None,
) -> Driver | None:
    """Drive a search to its end; None where it was interrupted. `job` is driver_lock.leave_job's,
    `warm` what it is told before it begins.

    Only in the main thread: while it runs, it takes SIGTERM and SIGINT. Raises InputError where
    another drives it, where its journal is of another definition, and where all trials fail.
    """
    from sweeps.execution import preparation
    from sweeps.execution.shutdown import Stop
    from sweeps.execution.worker import PATIENCE_SECONDS
    from sweeps.launching import dispatch
    from sweeps.search.driver import Driver
    from sweeps.state import driver_lock
    from sweeps.state.plan import SEARCHES

    folder = store.folder / SEARCHES / asked.identity
    advice = f"watch it: python -m sweeps.status {store.sweep} --watch"
    with (
        driver_lock.held(
            folder, store.folder.parent, job, store.liveness, "search", advice
        ) as check_lock,
        dispatch.backend_of(store, request) as backend,
        signals.kept(signal.SIGTERM, signal.SIGINT, signal.SIGALRM),
    ):
        backend.code = dispatch.captured(store, asked.ends, request)
        preparation.prepare(asked.ends)
        journal = _journal(asked, folder, warm)
        plan = _plan(asked, store, command)
        room = backend.room(asked.ends)
        stop = Stop(PATIENCE_SECONDS, in_steps=True)
        stop.listen(signal.SIGTERM, signal.SIGINT)
        driver = Driver(
            store, folder, asked.search, asked.scale, asked.overrides, asked.trials, room,
            journal, backend, plan,
        )  # fmt: skip
        print(
            f"{store.sweep}: {journal.asked} of {asked.trials} trials asked before, "
            f"{len(driver.running)} of them under way",
            file=sys.stderr,
            flush=True,
        )
        try:
            stopped = stop.during(lambda: not _driven(driver, check_lock, stop))
        finally:
            # The workers may take longer than this process's own patience.
            backend.cancel()
        if stopped:
            goes = "the jobs go on" if backend.goes_on else "its trials were given back"
            print(f"interrupted: {goes}; the same command goes on", file=sys.stderr)
            return None
        return driver


def _journal(asked: Asked, folder: Path, warm: WarmStart | None) -> Journal:
    """The search's, which is told what it is given. Says what was repaired and told."""
    from sweeps.search.optuna_journal import Journal

    given = warm.taken if warm is not None else ()
    journal = Journal(folder, asked.search, asked.definition, asked.epochs, given)
    if journal.repaired:
        print(f"warning: {journal.repaired}", file=sys.stderr)
    if warm is not None:
        warm.say(journal.added)
    return journal


def _driven(driver: Driver, check_lock: Callable[[], None], stop: Callable[[], bool]) -> bool:
    """Whether the search came to its end before it was to stop."""
    from sweeps.cli.live_view import Display
    from sweeps.search.driver import drive

    def should_stop() -> bool:
        check_lock()
        return stop()

    with Display(live=sys.stderr.isatty()) as display:
        return drive(driver, should_stop, lambda one: one.show(display))


def _plan(asked: Asked, store: TrialStore, command: str) -> Plan:
    """The search's plan, without the trials that it has asked for. The definition file of a command
    line is written."""
    from sweeps.state.plan import Plan

    plan = Plan(
        sweep=store.sweep,
        trials=[],
        scale=str(asked.scale),
        overrides=asked.overrides,
        axes=asked.search.searched.names,
        command=command,
        search=asked.describe(),
        search_id=asked.identity,
        task=asked.ends[0].task,
        definition=asked.text,
    )
    store.check_task(plan.task)
    store.keep_definition(plan)
    # It was made when it was first asked for, and is only gone on with.
    with contextlib.suppress(InputError):
        plan = replace(plan, created=store.plan(plan.id).created)
    return plan


def _identity(parts: list[Any]) -> str:
    """8 hex digits: the same sweep at another scale or with other overrides is another search."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def _most(search: Search, budget: str | None) -> list[int]:
    """The upper end of the budget, where the search varies it."""
    found = search.searched.fields.get(budget) if budget is not None else None
    return [] if found is None else [int(max(found.range.ends))]
