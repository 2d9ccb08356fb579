"""Cancel what a sweep has queued and running.

python -m sweeps.cancel NAME          # lists it
python -m sweeps.cancel NAME --yes    # cancels it
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from trainer.errors import EXIT_DONE, EXIT_FLAGGED, run_command

app = typer.Typer(add_completion=False)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="The sweep.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only list.")] = False,
    results: Annotated[Path, typer.Option(help="Results folder.")] = Path("results"),
) -> int:
    """Cancel a sweep's jobs and local workers. Finished trials and checkpoints stay."""
    from slurm.queue import cancel
    from sweeps.ledger import State, resolve

    ledger = resolve(results, name)
    trials = {trial.name: trial for plan in ledger.plans() for trial in plan.trials}
    held = [
        one
        for one in ledger.standings(trials.values())
        if one.state in (State.QUEUED, State.RUNNING) and one.claim is not None
    ]
    jobs: list[str] = []
    processes: set[int] = set()
    for one in held:
        claim = one.claim
        assert claim is not None
        if claim.submission:
            job = claim.job or (one.job.id if one.job else "")
            jobs += [job] if job else []
            where = f"job {job or '(on its way to Slurm)'}"
        elif claim.is_own_process:
            processes.add(claim.pid)
            where = f"process {claim.pid}"
        else:
            where = f"process {claim.pid} of {claim.host}: not to be seen from here"
        print(f"{one.trial.name}  {one.state}  {where}")
    if not held:
        print(f"nothing of {name} is queued or running", file=sys.stderr)
        return EXIT_DONE
    if not yes:
        print(f"{len(held)} trials; --yes cancels them", file=sys.stderr)
        return EXIT_FLAGGED
    if jobs:
        cancel(dict.fromkeys(jobs))
    for process in processes:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
            os.kill(process, signal.SIGTERM)
    print(f"cancelled {len(set(jobs)) + len(processes)} jobs and processes", file=sys.stderr)
    return EXIT_DONE


if __name__ == "__main__":
    run_command(app)
