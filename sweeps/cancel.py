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
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.errors import EXIT_DONE, EXIT_FLAGGED, run_command

if TYPE_CHECKING:
    from sweeps.ledger import Ledger, Standing
    from sweeps.sweep import Trial

# A worker holds no trial for an instant between two, so a second look comes so much later.
GAP_SECONDS = 1.0

app = typer.Typer(add_completion=False)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="The sweep.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only list.")] = False,
    results: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
) -> int:
    """Cancel a sweep's jobs and local workers. Finished trials and checkpoints stay."""
    from sweeps.ledger import resolve

    ledger = resolve(results, name)
    plans, problems = ledger.readable_plans()
    for problem in problems:
        print(f"warning: {problem.what}", file=sys.stderr)
    trials = list({trial.name: trial for plan in plans for trial in plan.trials}.values())
    held = _held(ledger, trials)
    if not held:
        time.sleep(GAP_SECONDS)
        held = _held(ledger, trials)
    if not held:
        print(f"nothing of {name} is queued or running", file=sys.stderr)
        return EXIT_FLAGGED if problems else EXIT_DONE
    if not yes:
        for one in held:
            print(f"{one.trial.name}  {one.state}  {_where(one)}")
        print(f"{len(held)} trials; --yes cancels them", file=sys.stderr)
        return EXIT_FLAGGED
    seen: set[str] = set()
    ended: set[str] = set()
    # Until a look finds nothing new: what was between two trials shows itself by the next.
    while new := [one for one in held if _where(one) not in seen]:
        for one in new:
            print(f"{one.trial.name}  {one.state}  {_where(one)}")
        seen |= {_where(one) for one in new}
        ended |= _cancel(new)
        time.sleep(GAP_SECONDS)
        held = _held(ledger, trials)
    print(f"cancelled {len(ended)} jobs and processes", file=sys.stderr)
    left = sorted({_where(one) for one in held} - ended)
    for where in left:
        print(f"not cancelled: {where}", file=sys.stderr)
    return EXIT_FLAGGED if left or problems else EXIT_DONE


def _held(ledger: Ledger, trials: list[Trial]) -> list[Standing]:
    """The trials that are queued or running."""
    from sweeps.ledger import State

    return [
        one
        for one in ledger.standings(trials)
        if one.state in (State.QUEUED, State.RUNNING) and one.claim is not None
    ]


def _where(one: Standing) -> str:
    """The job or the process that holds a trial, in words."""
    claim = one.claim
    assert claim is not None
    if claim.submission:
        return f"job {_job(one) or '(on its way to Slurm)'}"
    if claim.is_own_process:
        return f"process {claim.pid}"
    return f"process {claim.pid} of {claim.host}, out of reach from here"


def _job(one: Standing) -> str:
    assert one.claim is not None
    return one.claim.job or (one.job.id if one.job else "")


def _cancel(held: list[Standing]) -> set[str]:
    """Cancel what can be cancelled from here; where that was, in words."""
    from slurm.queue import cancel

    jobs = [one for one in held if one.claim is not None and one.claim.submission and _job(one)]
    own = [
        one
        for one in held
        if one.claim is not None and not one.claim.submission and one.claim.is_own_process
    ]
    if jobs:
        cancel(dict.fromkeys(_job(one) for one in jobs))
    for one in own:
        assert one.claim is not None
        with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
            os.kill(one.claim.pid, signal.SIGTERM)
    return {_where(one) for one in [*jobs, *own]}


if __name__ == "__main__":
    run_command(app)
