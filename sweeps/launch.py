"""Launch a sweep: expand it, see what is left to do, run that.

    python -m sweeps.launch grid_bs_epoch --dry-run
    python -m sweeps.launch grid_bs_epoch --scale smoke --set data.name=digits
    python -m sweeps.launch grid_bs_epoch --budget-gpu-hours 5
    python -m sweeps.launch --name lr --grid lr=0.1,0.01 --metrics metrics.jsonl --minimize loss \\
        -- python train.py --lr {lr} --out {folder}

Launching again does what is left: finished trials are skipped, running ones left alone, lost and
failed ones resume from their checkpoints.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local_machine import clock
from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, InputError, run_command, seldom_collect
from sweeps.cli.options import (
    AtScale,
    ScaleName,
    Seeds,
    Settings,
    Where,
    parse_settings,
    plan_of,
    typed_after,
    with_options,
    with_where,
)
from sweeps.without_file.words import CommandBehindDashes, SweepWords, command_of

if TYPE_CHECKING:
    from sweeps.cost.estimate import CostEstimate
    from sweeps.execution.request import LaunchRequest
    from sweeps.spec.sweep import Sweep
    from sweeps.state.plan import Plan
    from sweeps.state.progress import Progress
    from sweeps.state.trial_store import TrialStore

app = typer.Typer(add_completion=False, rich_markup_mode=None)
# What a dry run shows of our own trainer's trials, whatever varies.
_SHOWN = {"batch": "batch_size", "model": "model.name", "seed": "seed"}
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget-gpu-hours",
        metavar="H",
        min=0.0,
        help="Launch nothing that is predicted to take more; hours of the CPU without a GPU.",
    ),
]

Stale = Annotated[
    bool,
    typer.Option(
        "--stale",
        help="Train again what is done, where other code has trained it; the records are kept.",
    ),
]


@app.command(cls=CommandBehindDashes)
@with_options(SweepWords, "words")
@with_where()
def main(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="A sweep's name, or a definition file (.py).")
    ] = None,
    scale: AtScale = ScaleName.FULL,
    settings: Settings = None,
    seeds: Seeds = None,
    *,
    where: Where,
    words: SweepWords,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the trials and touch nothing.")
    ] = False,
    budget: Budget = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once the workers run; they go on alone.")
    ] = False,
    stale: Stale = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Run what is left of a sweep, and watch it."""
    seldom_collect()
    from sweeps.execution.request import request_of
    from sweeps.launching import dispatch, outlook
    from sweeps.spec.find import is_projects
    from sweeps.state.access import warn_of_writers
    from sweeps.state.liveness import Liveness
    from sweeps.state.progress import look
    from sweeps.state.trial_store import TrialStore

    warn_of_writers(where.results)
    fixed = parse_settings(settings)
    typed = command_of(context, name)
    sweep_name, sweep, text = _defined(name, typed, words, fixed, seeds, where.results)
    is_own = name is None or not (name.endswith(".json") or is_projects(name))
    request = request_of(
        where, sweep.resources, detach=detach, as_json=as_json, defined_here=is_own, stale=stale
    )
    store = TrialStore(where.results, sweep_name, Liveness.here(request.site.query_seconds))
    command = typed_after("python -m sweeps.launch")
    # What a command line says is in its definition.
    changes = (fixed, seeds) if text is None else ({}, None)
    plan = plan_of(sweep, store, scale, *changes, command, text)
    flag = _told_of_unread(store)
    known: dict[str, Progress] = {}
    if dry_run or budget is not None:
        progress = look(store, plan.trials, known)
        predict(store, plan, progress, request, budget, dry_run=dry_run)
    if dry_run:
        return flag
    if text is None:
        outlook.tell(
            store, plan, look(store, plan.trials, known), request,
            lambda other: plan_of(sweep, store, ScaleName(other), *changes, command),
        )  # fmt: skip
    return max(flag, dispatch.run(store, [plan], request, known))


def _told_of_unread(store: TrialStore) -> int:
    """Say which plans cannot be read; the exit code for that."""
    unread = store.readable_plans()[1]
    for problem in unread:
        print(f"warning: {problem.what}\nhelp: {problem.help}", file=sys.stderr, flush=True)
    return EXIT_FLAGGED if unread else EXIT_DONE


def _defined(
    name: str | None,
    command: list[str] | None,
    words: SweepWords,
    fixed: dict[str, str],
    seeds: int | None,
    results: Path,
) -> tuple[str, Sweep, str | None]:
    """The sweep of that name, or of the command behind `--`, with its name; and the text of its
    definition file, where the command line is the definition. Raises InputError."""
    from sweeps.spec.find import find
    from sweeps.state.trial_store import TrialStore
    from trial_records.names import is_name

    if command is None:
        assert name is not None
        try:
            return *find(name, results), None
        except InputError:
            if is_name(name):
                TrialStore(results, name).refuse_adopted()
            raise
    from sweeps.without_file.definition import sweep_of

    made = sweep_of(words, command, fixed, seeds, results)
    return made.name, made.made, made.text


def predict(
    store: TrialStore,
    plan: Plan,
    progress: list[Progress],
    request: LaunchRequest,
    budget: float | None,
    *,
    dry_run: bool,
) -> None:
    """Look at all that a launch would look at, and at what it would take; show it on a dry run.
    Raises InputError where it would take more than the budget, and as `dispatch.check` does."""
    from sweeps.cost.estimate import estimate_cost
    from sweeps.launching import dispatch
    from sweeps.launching.preflight import ask_slurm

    batch = None
    if dry_run:
        trials = dispatch.to_run(store, progress, clock.now(), stale=request.stale)
        code = dispatch.captured(store, trials, request, [plan])
        batch = dispatch.check(store, plan, trials, request, code)
        if batch is not None:
            ask_slurm(batch)
    results = store.folder.parent
    cost = estimate_cost(
        results, progress, request.backend, request.at_once, request.ranks, measure=True
    )
    if dry_run:
        _print_plan(plan, progress, cost, dispatch.shown(batch), request.as_json)
    if budget is not None:
        cost.check_budget(plan.sweep, budget)


def _print_plan(
    plan: Plan, progress: list[Progress], cost: CostEstimate, script: str | None, as_json: bool
) -> None:
    from sweeps.cli import table
    from sweeps.state.plan import trial_to_json
    from sweeps.state.progress import counts, summary
    from trial_records.plan import FIRST_TASK

    if as_json:
        trials = [
            {
                **trial_to_json(one.trial),
                **one.to_json(),
                "predicted_gpu_hours": hours,
                "predicted_from": source,
            }
            for one, hours, source in zip(progress, cost.hours, cost.sources, strict=True)
        ]
        value = {
            "schema_version": 1,
            "sweep": plan.sweep,
            "plan": plan.id,
            "scale": plan.scale,
            "overrides": dict(plan.overrides),
            "axes": plan.axes,
            "trials": trials,
            "counts": counts(progress),
            "predicted_gpu_hours": cost.total,
            "predicted_on": cost.device,
            "sbatch": script,
        }
        # On one line: indented, 10,000 trials take longer to print than all the rest.
        print(json.dumps(value))
        return
    shown = _SHOWN if plan.task == FIRST_TASK else {axis: axis for axis in plan.axes}
    rows = [
        (
            one.trial.name,
            str(one.state),
            f"{one.epochs_done}/{one.trial.epochs or '-'}",
            *(str(one.trial.stored(field)) for field in shown.values()),
            "-" if hours is None else f"{hours:.3g}",
        )
        for one, hours in zip(progress, cost.hours, strict=True)
    ]
    table.show(("trial", "state", plan.task.budget or "trained", *shown, "hours"), rows)
    if script is not None:
        print(script)
    print(
        f"{plan.sweep} ({plan.setting}): {summary(progress)}; {cost.line()}; "
        "nothing was run or written",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run_command(app)
