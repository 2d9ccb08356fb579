"""A time budget: a study stops by itself after so many hours, and the same command goes on later.

    python -m sweeps.study cifar10 --dry-run                              # stages, trials, cost
    python -m sweeps.study cifar10 --scale smoke --set data.name=digits   # minutes
    python -m sweeps.study cifar10 --until architectures
    python -m sweeps.study cifar10 --from architectures     # with the choices that were made
    python -m sweeps.study cifar10 --scale cpu --stop-after 2   # two hours of a core, today

Starting again goes on. docs/study.md has the rule.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from local_machine import signals
from local_machine.errors import EXIT_DONE, EXIT_INTERRUPTED, run_command
from sweeps.cli.options import AtScale, ScaleName, Seeds, Settings, Where, with_where

if TYPE_CHECKING:
    from sweeps.study.runner import StudyRunner
    from sweeps.study.time_budget import TimeBudget

app = typer.Typer(add_completion=False, rich_markup_mode=None)

StopAfter = Annotated[
    float | None,
    typer.Option(
        metavar="HOURS",
        min=1e-6,
        help="Stop after so many hours of a GPU, or of a core on a CPU; the same command goes on.",
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="STAGE", help="Begin there; earlier choices as choices.json has them."
    ),
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="STAGE", help="End there; then without a report.")
]


@app.command()
@with_where(without=("nodes", "gpus_per_node", "minutes"))
def main(
    name: Annotated[str, typer.Argument(help="A study's name, or its file (.py).")],
    scale: AtScale = ScaleName.FULL,
    settings: Settings = None,
    seeds: Seeds = None,
    *,
    where: Where,
    first: From = None,
    last: Until = None,
    stop_after: StopAfter = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show stages, trials and cost, and touch nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --dry-run: print one JSON object.")
    ] = False,
) -> int:
    """Run a study: its stages in order, the choice that each makes, and the report."""
    from local_machine.errors import InputError, need
    from sweeps.execution.request import request_of
    from sweeps.launching import preflight
    from sweeps.search.runner import check_backend
    from sweeps.state import driver_lock
    from sweeps.state.access import warn_of_writers
    from sweeps.study import dry_run as outlook
    from sweeps.study.runner import StudyRunner
    from sweeps.study.stages import find_study
    from sweeps.study.time_budget import TimeBudget

    if as_json and not dry_run:
        raise InputError("--json without --dry-run", "what a study chose is in its choices.json")
    for extra in ("search", "report"):
        need(extra, "a study")
    job = driver_lock.leave_job()
    study_name, study = find_study(name)
    warn_of_writers(where.results)
    begin, end = study.span(first, last)
    request = request_of(where)
    check_backend(request)
    budget = TimeBudget.of(stop_after, request)
    runner = StudyRunner(
        study_name, study, where.results, scale, settings or [], seeds, request, job
    )
    if begin:
        runner.recall(begin)
    if name.endswith(".py"):
        preflight.check_elsewhere(one for run in runner.assumed() for one in run.trials)
    if dry_run:
        outlook.show(runner, begin, end, as_json)
        return EXIT_DONE
    return _run_within(runner, begin, end, budget)


def _run_within(runner: StudyRunner, begin: int, end: int, budget: TimeBudget) -> int:
    """Drive the study, and say what is left where its budget ended it; the exit code."""
    code = _drive(runner, begin, end, budget)
    if code == EXIT_INTERRUPTED and budget.is_over:
        budget.tell_what_is_left(runner, begin, end)
    return code


def _drive(runner: StudyRunner, begin: int, end: int, budget: TimeBudget) -> int:
    """Run the stages of these numbers while no other process drives the study, and the report after
    the last; the exit code."""
    from sweeps.state import driver_lock

    runner.assumed()  # so that what is wrong with any stage is told now
    signals.handle(signal.SIGTERM, _interrupt)
    advice = "wait for it, or look at its stages: python -m sweeps.status"
    held = driver_lock.held(
        runner.folder, runner.results, runner.job, runner.liveness, "study", advice
    )
    try:
        with held as check:
            # What the stages have to say on stdout is for a person here.
            with contextlib.redirect_stdout(sys.stderr), budget.running():
                code = runner.go(begin, end, check)
            if code == EXIT_INTERRUPTED:
                return code
            if end < len(runner.study.stages) - 1:
                print(runner.path)
                return code
            return max(code, runner.report())
    except KeyboardInterrupt:
        if not budget.is_over:
            print("interrupted: the same command goes on", file=sys.stderr)
        return EXIT_INTERRUPTED


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    run_command(app)
