"""Cancel what a sweep has queued and running.

python -m sweeps.cancel NAME          # lists it
python -m sweeps.cancel NAME --yes    # cancels it
"""

from __future__ import annotations

import contextlib
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local_machine import clock, processes
from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, run_command
from sweeps.cli.options import Results

if TYPE_CHECKING:
    from slurm.job_state import Job
    from sweeps.spec.sweep import Trial
    from sweeps.state.lease import Lease
    from sweeps.state.trial_store import TrialStore

# A worker holds no trial for an instant between two, so a second look comes so much later.
GAP_SECONDS = 1.0

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="The sweep.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only list.")] = False,
    results: Results = Path("results"),
) -> int:
    """Cancel a sweep's jobs and local workers. Finished trials and checkpoints stay."""
    from sweeps.state.trial_store import resolve

    store = resolve(results, name)
    plans, problems = store.readable_plans()
    problems += store.drivers()[1]
    for problem in problems:
        print(f"warning: {problem.what}", file=sys.stderr)
    trials = list({trial.name: trial for plan in plans for trial in plan.trials}.values())
    held, unknown = _held(store, trials)
    if not held:
        clock.sleep(GAP_SECONDS)
        held, unknown = _held(store, trials)
    for what in unknown:
        print(f"warning: {what}; whether it runs cannot be told", file=sys.stderr)
    flagged = EXIT_FLAGGED if problems or unknown else EXIT_DONE
    if not held:
        print(f"nothing of {name} is queued or running", file=sys.stderr)
        return flagged
    if not yes:
        for one in held:
            print(f"{one.name}  {one.state}  {one.where}")
        print(f"{len(held)} to cancel; --yes does it", file=sys.stderr)
        return EXIT_FLAGGED
    seen: set[str] = set()
    ended: set[str] = set()
    # Until a look finds nothing new: what was between two trials shows itself by the next.
    while new := [one for one in held if one.where not in seen]:
        for one in new:
            print(f"{one.name}  {one.state}  {one.where}")
        seen |= {one.where for one in new}
        ended |= _cancel(new)
        clock.sleep(GAP_SECONDS)
        held, _ = _held(store, trials)
    print(f"cancelled {len(ended)} jobs and processes", file=sys.stderr)
    left = {one.where: one.by_hand for one in held if one.where not in ended}
    for where, by_hand in sorted(left.items()):
        print(f"not cancelled: {where}{': ' * bool(by_hand)}{by_hand}", file=sys.stderr)
    return EXIT_FLAGGED if left else flagged


@dataclass(frozen=True)
class _Held:
    """A trial that is queued or running, a worker that waits, or a search that is driven."""

    name: str
    state: str
    where: str
    """The job or the process that holds it, in words."""
    job: str = ""
    """Slurm's id, where it is known and the job is proven to be this sweep's."""
    process: int = 0
    """Of this machine, proven to be this sweep's, or 0."""
    by_hand: str = ""
    """Where nothing is proven: what a person may type, in words."""


def _from_lease(store: TrialStore, name: str, state: str, lease: Lease, job: Job | None) -> _Held:
    from sweeps.execution import holder_proof

    folder = store.folder / name
    if lease.submission:
        known = lease.job or (job.id if job is not None else "")
        where = f"job {known or '(on its way to Slurm)'}"
        if (
            job is not None
            and (doubt := holder_proof.against_job(store.folder, folder, lease, job)) is None
        ):
            return _Held(name, state, where, job=job.id)
        if not known:
            return _Held(name, state, where, by_hand="again in a minute")
        doubt = doubt if job is not None else "Slurm does not tell of it here"
        return _Held(name, state, where, by_hand=f"{doubt}; if it is yours: scancel {known}")
    where = f"process {lease.pid} of {lease.host}"
    if lease.is_elsewhere:
        return _Held(
            name, state, f"{where}, out of reach from here",
            by_hand=f"there: kill {lease.pid}",
        )  # fmt: skip
    if (doubt := holder_proof.against_process(store.folder, folder, lease)) is None:
        return _Held(name, state, f"process {lease.pid}", process=lease.pid)
    return _Held(name, state, where, by_hand=f"{doubt}; if it is yours: kill {lease.pid}")


def _held(store: TrialStore, trials: list[Trial]) -> tuple[list[_Held], list[str]]:
    """The drivers and waiting workers, which would start more, before the trials; and what cannot
    be told."""
    from sweeps.state.plan import LOGS
    from sweeps.state.trial_store import State

    drivers, _ = store.drivers()
    store.liveness.look(drivers.values())
    found = [
        _from_lease(store, name, "driven", lease, store.liveness.job(lease))
        for name, lease in drivers.items()
    ]
    standings = store.standings(trials)
    trials_held = [
        _from_lease(store, one.trial.name, str(one.state), one.lease, one.job)
        for one in standings
        if one.state in (State.QUEUED, State.RUNNING) and one.lease is not None
    ]
    busy = {one.job for one in trials_held}
    for job in store.liveness.workers(store.folder / LOGS):
        if job.id not in busy:
            found.append(_Held("a worker", str(job.state).lower(), f"job {job.id}", job=job.id))
    unknown = [one.problem for one in standings if one.problem is not None]
    return found + trials_held, unknown


def _cancel(held: list[_Held]) -> set[str]:
    """Cancel what is proven to be the sweep's; where that was, in words."""
    from slurm.commands import cancel

    if jobs := dict.fromkeys(one.job for one in held if one.job):
        cancel(jobs)
    for process in dict.fromkeys(one.process for one in held if one.process):
        with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
            processes.send_signal(process, signal.SIGTERM)
    return {one.where for one in held if one.job or one.process}


if __name__ == "__main__":
    run_command(app)
