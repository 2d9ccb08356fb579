"""Dispatch: send a plan's open trials to a backend, and see them through."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from local_machine import clock
from local_machine.errors import EXIT_DONE, EXIT_FLAGGED
from local_machine.secrets import masked
from slurm.send import Batch
from sweeps.cli.live_view import Display
from sweeps.code.launched import LaunchedCode, capture, check_revision
from sweeps.code.other_code import trained_by_other
from sweeps.cost.estimate import seconds_alike
from sweeps.execution import preparation
from sweeps.execution.backends.backend import Backend, Work
from sweeps.execution.request import LaunchRequest
from sweeps.execution.trial_order import write_seconds
from sweeps.execution.watch import watch
from sweeps.execution.worker import Worker
from sweeps.launching import ending, preflight
from sweeps.launching.stale import set_aside
from sweeps.spec.backend_name import BackendName
from sweeps.spec.sweep import Trial
from sweeps.spec.task_loader import code_of, own_code_of
from sweeps.state import lease as leases
from sweeps.state.adoption import adopt
from sweeps.state.plan import Plan
from sweeps.state.progress import Progress, look, summary
from sweeps.state.trial_store import State, TrialStore


def backend_of(store: TrialStore, request: LaunchRequest) -> Backend:
    """What runs the store's trials."""
    if request.on_slurm:
        from sweeps.execution.backends.slurm import Slurm

        return Slurm(store, request)
    if request.backend is BackendName.DEBUG:
        from sweeps.execution.backends.debug import Debug

        return Debug()
    from sweeps.execution.backends.local import Local

    return Local(store, request)


def captured(
    store: TrialStore, trials: Sequence[Trial], request: LaunchRequest, plans: Sequence[Plan] = ()
) -> LaunchedCode | None:
    """The code of the trials' tasks as it is now, which nothing changes for them from here on; None
    where they run the code where it lies. Raises InputError where it cannot be captured; where
    there is nothing to run, too, where `--code` names no commit of the plans' project."""
    if not request.snapshot:
        return None
    tasks = dict.fromkeys([trial.task for trial in trials] or [plan.task for plan in plans])
    places = [code_of(task) for task in tasks]
    if trials:
        more = dict.fromkeys(
            place for trial in trials for place in own_code_of(trial.task, trial.values)
        )
        return capture([*places, *more], store.folder.parent, request.revision, more)
    if request.revision is not None:
        check_revision(places, store.folder.parent, request.revision)
    return None


def run(
    store: TrialStore, plans: list[Plan], request: LaunchRequest, known: dict[str, Progress]
) -> int:
    """Run the open trials of the plans and see them through; the command's exit code."""
    trials = list({trial.name: trial for plan in plans for trial in plan.trials}.values())
    with backend_of(store, request) as backend:
        progress = look(store, trials, known)
        work, flag = _opened(store, plans, progress, request)
        backend.code = captured(store, work.trials, request, plans)
        check(store, plans[0], work.trials, request, backend.code)
        preparation.prepare(work.trials)
        for plan in plans:
            store.write_plan(plan)
        if request.stale:
            for trial in set_aside(store, work.trials):
                known.pop(trial.name, None)
            progress = look(store, trials, known)
        # What another sweep has trained may be by other code, too.
        elif adopted := _adopted(work):
            work = replace(work, trials=[one for one in work.trials if one.name not in adopted])
            progress = look(store, trials, known)
        if not work.trials:
            stays = not (request.retry or request.detach)
            if stays and any(_is_under_way(store, one) for one in progress):
                return max(flag, _see_others_through(store, plans, trials, request, known))
            # What others have queued or running is not a failure where nobody waits for it.
            return max(flag, ending.ended(store, progress, request.as_json, unfinished=not stays))
        _predict(work, progress, request)
        return max(flag, _see_through(backend, work, trials, request, known))


def _opened(
    store: TrialStore, plans: list[Plan], progress: list[Progress], request: LaunchRequest
) -> tuple[Work, int]:
    """What there is to run, and the exit code for what this version cannot train."""
    launch = clock.now()
    wanted = to_run(store, progress, launch, retry=request.retry, stale=request.stale)
    refused = [trial.problem for trial in wanted if trial.problem is not None]
    trials = [trial for trial in wanted if trial.problem is None]
    print(f"{store.sweep}: {summary(progress)}; {len(trials)} to run", file=sys.stderr, flush=True)
    if not request.stale and request.revision is None:
        ending.tell_of_other_code(store, progress)
    for problem in refused:
        print(f"warning: {problem.what}\nhelp: {problem.help}", file=sys.stderr, flush=True)
    work = Work(store, plans, trials, launch, request.retry)
    return work, EXIT_FLAGGED if refused else EXIT_DONE


def to_run(
    store: TrialStore,
    progress: list[Progress],
    launch: float,
    *,
    retry: bool = False,
    stale: bool = False,
) -> list[Trial]:
    """The trials that a launch would run now."""
    worker = Worker(store, launch, log="", retry_only=retry)
    again = {one.trial.name for one in trained_by_other(progress)} if stale else set()
    return [one.trial for one in progress if worker.wants(one.standing) or one.trial.name in again]


def check(
    store: TrialStore,
    plan: Plan,
    trials: Sequence[Trial],
    request: LaunchRequest,
    code: LaunchedCode | None = None,
) -> Batch | None:
    """All that a launch of these trials looks at before it leases or writes anything; a dry run
    looks at the same. The jobs that would be sent first, on Slurm.

    Raises InputError and SlurmError.
    """
    if not trials:
        return None
    preparation.check(trials, request.ranks)
    if request.defined_here and request.backend is not BackendName.DEBUG:
        preflight.check_elsewhere(trials, code)
    if not request.on_slurm:
        return None
    from sweeps.execution.backends.slurm import batch_of, jobs_of

    preflight.check_stop(plan.task, request.site)
    batch = batch_of(request, store, plan, len(trials), code)
    preflight.check_batch(batch, jobs_of(request, len(trials))[0])
    return batch


def shown(batch: Batch | None) -> str | None:
    """The jobs' script for a person, without the secrets of the site's environment."""
    return None if batch is None else masked(batch.script())


def _adopted(work: Work) -> set[str]:
    """The names of the trials that another sweep of the results folder has trained already."""
    adopted = adopt(work.store, list(work.trials), work.launch)
    if adopted:
        print(
            f"{work.store.sweep}: {len(adopted)} of them are taken from other sweeps in "
            f"{work.store.folder.parent}, which trained the same",
            file=sys.stderr,
            flush=True,
        )
    return adopted


def _predict(work: Work, progress: list[Progress], request: LaunchRequest) -> None:
    """Workers take the trials in an order of their own, by how long each is predicted to take."""
    if not request.on_slurm or request.workers is not None:
        results = work.store.folder.parent
        seconds = seconds_alike(results, progress, request.backend, request.workers)
        for plan in work.plans:
            write_seconds(work.store, plan.id, seconds)


def _see_through(
    backend: Backend,
    work: Work,
    trials: list[Trial],
    request: LaunchRequest,
    known: dict[str, Progress],
) -> int:
    """Submit the work and see it through, or leave it alone; the command's exit code."""
    store, is_submitted = work.store, False
    try:
        backend.submit(work)
        is_submitted = True
        if request.detach and backend.goes_on:
            backend.detach()
            return ending.left(store, look(store, trials, known), request.as_json)
        _watch(backend, work, trials, known)
    except KeyboardInterrupt:
        backend.cancel()
        if backend.goes_on and not is_submitted:
            raise  # it may be that nothing goes on
        return ending.interrupted(store, backend.goes_on)
    except BaseException:
        backend.cancel()
        raise
    backend.tell_early_ends()
    progress = look(store, trials, known)
    return ending.ended(store, progress, request.as_json, unfinished=request.retry)


def _watch(backend: Backend, work: Work, trials: list[Trial], known: dict[str, Progress]) -> None:
    """Show how the trials stand until nothing runs any more: a live table of one plan on a
    terminal, else a line a change."""
    with Display(live=sys.stderr.isatty() and len(work.plans) == 1) as display:

        def step() -> float | None:
            alive = backend.poll()
            _show(display, work.plans[0], look(work.store, trials, known))
            return backend.seconds if alive else None

        watch(step)


def _see_others_through(
    store: TrialStore,
    plans: list[Plan],
    trials: list[Trial],
    request: LaunchRequest,
    known: dict[str, Progress],
) -> int:
    """Watch what jobs and other launches run; the command's exit code."""
    what = "jobs or another launch run what is left; Ctrl-C ends this command alone"
    try:
        print(f"{store.sweep}: {what}", file=sys.stderr, flush=True)
        wait(store, plans[0], request, trials)
    except KeyboardInterrupt:
        return ending.interrupted(store, goes_on=True)
    progress = look(store, trials, known)
    return ending.ended(store, progress, request.as_json, unfinished=False)


def wait(
    store: TrialStore, plan: Plan, request: LaunchRequest, trials: Sequence[Trial] = ()
) -> bool:
    """Until none of the trials (not given: the plan's) is queued or running, whoever runs it;
    whether one was. Of a holder of which nothing is heard any more nobody waits for the end."""
    known: dict[str, Progress] = {}
    waited = False
    seconds = backend_of(store, request).seconds
    with Display(live=sys.stderr.isatty()) as display:

        def step() -> float | None:
            nonlocal waited
            progress = look(store, trials or plan.trials, known)
            if not any(_is_under_way(store, one) for one in progress):
                return None
            waited = True
            _show(display, plan, progress)
            return seconds

        watch(step)
    return waited


def _is_under_way(store: TrialStore, one: Progress) -> bool:
    lease = one.standing.lease
    if one.state is State.RUNNING and lease is not None and lease.is_elsewhere:
        return (leases.silence(store.folder_of(one.trial)) or 0.0) <= leases.SILENT_SECONDS
    return one.state in (State.QUEUED, State.RUNNING)


def _show(display: Display, plan: Plan, progress: list[Progress]) -> None:
    over = sum(one.state.is_over for one in progress)
    display.show(plan, progress, over, len(progress))
