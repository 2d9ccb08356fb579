"""Cancel what a sweep has queued and running.

python -m sweeps.cancel NAME          # lists it
python -m sweeps.cancel NAME --yes    # cancels it
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.request import Results
from trainer.errors import EXIT_DONE, EXIT_FLAGGED, run_command

if TYPE_CHECKING:
    from sweeps.claim import Claim
    from sweeps.ledger import Ledger
    from sweeps.sweep import Trial

# A worker holds no trial for an instant between two, so a second look comes so much later.
GAP_SECONDS = 1.0

app = typer.Typer(add_completion=False)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="The sweep.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only list.")] = False,
    results: Results = Path("results"),
) -> int:
    """Cancel a sweep's jobs and local workers. Finished trials and checkpoints stay."""
    from sweeps.ledger import resolve

    ledger = resolve(results, name)
    plans, problems = ledger.readable_plans()
    problems += ledger.drivers()[1]
    for problem in problems:
        print(f"warning: {problem.what}", file=sys.stderr)
    trials = list({trial.name: trial for plan in plans for trial in plan.trials}.values())
    unknown: dict[str, str] = {}
    held = _held(ledger, trials, unknown)
    if not held:
        time.sleep(GAP_SECONDS)
        held = _held(ledger, trials, unknown)
    for what in unknown.values():
        print(f"warning: {what}; whether that trial runs cannot be told", file=sys.stderr)
    if not held:
        print(f"nothing of {name} is queued or running", file=sys.stderr)
        return EXIT_FLAGGED if problems or unknown else EXIT_DONE
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
        time.sleep(GAP_SECONDS)
        held = _held(ledger, trials, unknown)
    print(f"cancelled {len(ended)} jobs and processes", file=sys.stderr)
    left = sorted({one.where for one in held} - ended)
    for where in left:
        print(f"not cancelled: {where}", file=sys.stderr)
    return EXIT_FLAGGED if left or problems or unknown else EXIT_DONE


@dataclass(frozen=True)
class _Held:
    """A trial that is queued or running, a worker that waits, or a search that is driven."""

    name: str
    state: str
    where: str
    """The job or the process that holds it, in words."""
    job: str = ""
    """Slurm's id, where it is known."""
    process: int = 0
    """Of this machine, or 0."""


def _from_claim(name: str, state: str, claim: Claim, job: str) -> _Held:
    if claim.submission:
        return _Held(name, state, f"job {job or '(on its way to Slurm)'}", job=job)
    if claim.is_own_process:
        return _Held(name, state, f"process {claim.pid}", process=claim.pid)
    return _Held(name, state, f"process {claim.pid} of {claim.host}, out of reach from here")


def _held(ledger: Ledger, trials: list[Trial], unknown: dict[str, str]) -> list[_Held]:
    """The drivers and waiting workers, which would start more, before the trials. Why a trial's
    files cannot tell is added to `unknown`."""
    from sweeps.ledger import LOGS, State

    drivers, _ = ledger.drivers()
    found = [_from_claim(name, "driven", claim, claim.job) for name, claim in drivers.items()]
    standings = ledger.standings(trials)
    unknown |= {one.trial.name: one.problem for one in standings if one.problem is not None}
    trials_held = [
        _from_claim(
            one.trial.name,
            str(one.state),
            one.claim,
            one.claim.job or (one.job.id if one.job else ""),
        )
        for one in standings
        if one.state in (State.QUEUED, State.RUNNING) and one.claim is not None
    ]
    busy = {one.job for one in trials_held}
    for job in ledger.scheduler.workers(ledger.folder / LOGS):
        if job.id not in busy:
            found.append(_Held("a worker", str(job.state).lower(), f"job {job.id}", job=job.id))
    return found + trials_held


def _cancel(held: list[_Held]) -> set[str]:
    """Cancel what can be cancelled from here; where that was, in words."""
    from slurm.queue import cancel

    if jobs := dict.fromkeys(one.job for one in held if one.job):
        cancel(jobs)
    for process in dict.fromkeys(one.process for one in held if one.process):
        with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
            os.kill(process, signal.SIGTERM)
    return {one.where for one in held if one.job or one.process}


if __name__ == "__main__":
    run_command(app)
