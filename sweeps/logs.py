"""What a trial's workers said.

python -m sweeps.logs NAME TRIAL [--follow]
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, InputError, nearest, run_command
from sweeps.cli.options import Results

if TYPE_CHECKING:
    from sweeps.execution.trial_log import TrialLog
    from sweeps.spec.trial import Trial
    from sweeps.state.trial_store import TrialStore

FOLLOW_SECONDS = 1.0

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="The sweep.")],
    trial: Annotated[str, typer.Argument(help="The trial: its name, or any part of it.")],
    results: Results = Path("results"),
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Stay until the trial is over; print what comes.")
    ] = False,
) -> int:
    """Print everything that was logged while the trial ran, attempt after attempt."""
    from sweeps.execution.trial_log import TrialLog
    from sweeps.state.liveness import Liveness
    from sweeps.state.plan import LOGS
    from sweeps.state.trial_store import resolve

    store = resolve(results, name)
    plans, problems = store.readable_plans()
    if problems and not plans:
        raise problems[0]
    for problem in problems:
        print(f"warning: {problem.what}", file=sys.stderr)
    trials = [one for plan in plans for one in plan.trials]
    names = {one.name for one in trials}
    found = [one for one in sorted(names) if one == trial] or [
        one for one in sorted(names) if trial in one
    ]
    if len(found) != 1:
        what = f"{len(found)} trials match {trial!r}" if found else f"no trial matches {trial!r}"
        raise InputError(f"{what} in {name}", nearest(trial, found or names))
    log = TrialLog(store, found[0])
    if follow:
        store.liveness = Liveness.here()
        _follow(log, store, next(one for one in trials if one.name == found[0]))
    elif not _print(log.new_lines(whole=True)):
        jobs = ", ".join(log.jobs())
        why = (
            f"job {jobs} wrote none: see that its node sees {store.folder / LOGS}"
            if jobs
            else "it has not run under launch, or the log was removed"
        )
        print(f"{found[0]} has no log: {why}", file=sys.stderr)
    return EXIT_FLAGGED if problems else EXIT_DONE


def _follow(log: TrialLog, store: TrialStore, trial: Trial) -> None:
    """Print what comes until the trial is over."""
    from sweeps.execution.watch import watch
    from sweeps.state.trial_store import State

    told: State | None = None

    def look() -> float | None:
        nonlocal told
        state = store.standing(trial).state
        ended = state.is_over and state == told  # the worker's last line follows its last record
        _print(log.new_lines(whole=ended))
        if state != told and state is not State.RUNNING:
            more = "" if state.is_over else ": waiting for its log; Ctrl-C ends this command alone"
            print(f"{trial.name} is {state}{more}", file=sys.stderr)
        told = state
        return None if ended else FOLLOW_SECONDS

    watch(look)


def _print(lines: Iterable[str]) -> bool:
    """Whether there was one."""
    empty = True
    for line in lines:
        print(line, flush=True)
        empty = False
    return not empty


if __name__ == "__main__":
    run_command(app, shows=True)
