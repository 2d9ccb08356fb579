"""Try the failed and lost trials of a sweep again.

python -m sweeps.retry NAME [--fresh]
python -m sweeps.retry NAME --host-gone HOST     # take back what a machine that is gone held
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, InputError, run_command
from local_machine.files import set_aside
from sweeps.cli.options import Where, with_where

if TYPE_CHECKING:
    from sweeps.state.plan import Plan
    from sweeps.state.trial_store import TrialStore

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_where()
def main(
    name: Annotated[str, typer.Argument(help="The sweep.")],
    where: Where,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="From epoch 0; the checkpoints are kept under another name."),
    ] = False,
    host_gone: Annotated[
        str | None,
        typer.Option(
            "--host-gone",
            metavar="HOST",
            help="Say that this machine is gone for good: what it holds of the sweep is lost.",
        ),
    ] = None,
) -> int:
    """Run the failed and lost trials again, from their checkpoints."""
    from sweeps.execution.request import request_of
    from sweeps.launching import dispatch
    from sweeps.state import elsewhere
    from sweeps.state.liveness import Liveness
    from sweeps.state.trial_store import resolve

    request = request_of(where, retry=True)
    if host_gone is not None:
        # A study has no trials of its own, and so no plans.
        is_sweep = elsewhere.take_back(host_gone, where.results, name, Liveness.here())
        if not is_sweep:
            return EXIT_DONE
    store = resolve(where.results, name)
    plans, problems = store.readable_plans()
    if not plans:
        advice = f"launch the sweep: python -m sweeps.launch {name}"
        raise problems[0] if problems else InputError(f"{name} has no plan yet", advice)
    for problem in problems:
        print(f"warning: {problem.what}\nhelp: {problem.help}", file=sys.stderr, flush=True)
    if fresh:
        _set_checkpoints_aside(store, plans)
    code = dispatch.run(store, plans, request, {})
    return max(code, EXIT_FLAGGED if problems else EXIT_DONE)


def _set_checkpoints_aside(store: TrialStore, plans: list[Plan]) -> None:
    from sweeps.state.trial_store import State
    from trial_records.rows import checkpoint_of

    for trial in (trial for plan in plans for trial in plan.trials):
        if store.standing(trial).state in (State.FAILED, State.LOST):
            folder = store.folder_of(trial)
            while (checkpoint := checkpoint_of(folder)) is not None:
                set_aside(checkpoint, "before-retry", folder)


if __name__ == "__main__":
    run_command(app)
