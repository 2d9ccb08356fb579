"""Launch a sweep: expand it, see what is left to do, run that.

    python -m sweeps.launch grid_bs_epoch --dry-run
    python -m sweeps.launch grid_bs_epoch --scale smoke --set data.name=digits

Launching again does what is left: finished trials are skipped, running ones left alone, lost and
failed ones resume from their checkpoints.
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.errors import EXIT_DONE, EXIT_FLAGGED, EXIT_INTERRUPTED, InputError, run_command

if TYPE_CHECKING:
    from sweeps.ledger import Ledger, Plan
    from sweeps.progress import Progress

POLL_SECONDS = 0.5

app = typer.Typer(add_completion=False)


class Where(StrEnum):
    """What runs the trials."""

    AUTO = "auto"
    LOCAL = "local"
    DEBUG = "debug"


class ScaleName(StrEnum):
    """sweeps.scale.Scale, named here so that --help need not import it."""

    FULL = "full"
    SMOKE = "smoke"


On = Annotated[
    Where,
    typer.Option(help="local: worker processes on this machine; debug: in this process."),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Worker processes; one a GPU, or one without a GPU, if not given."),
]
Results = Annotated[Path, typer.Option(help="Results folder.")]


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="A sweep's name, or a definition file (.py).")],
    on: On = Where.AUTO,
    scale: Annotated[
        ScaleName, typer.Option(help="smoke: the same grid, small enough for minutes on a CPU.")
    ] = ScaleName.FULL,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a field in every trial."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Run every point with so many seeds.")
    ] = None,
    workers: Workers = None,
    results: Results = Path("results"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the trials and touch nothing.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once the workers run; they go on alone.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Run what is left of a sweep, and watch it."""
    from sweeps.ledger import Ledger, Plan
    from sweeps.progress import look
    from sweeps.scale import Scale
    from sweeps.space import axes_of
    from sweeps.sweep import expand, find
    from sweeps.worker import check_data

    sweep_name, sweep = find(name)
    overrides = parse_settings(settings or [])
    chosen = Scale(str(scale))
    ledger = Ledger(results, sweep_name)
    trials = expand(sweep, scale=chosen, overrides=overrides, seeds=seeds)
    plan = Plan(
        sweep=sweep_name,
        trials=ledger.settle_names(trials),
        scale=str(chosen),
        overrides=overrides,
        axes=axes_of(sweep.space),
        command=shlex.join(["python", "-m", "sweeps.launch", *sys.argv[1:]]),
    )
    known: dict[str, Progress] = {}
    progress = look(ledger, plan.trials, known)
    if dry_run:
        if any(one.state != "done" for one in progress):
            check_data(one.config.data for one in plan.trials)
        _print_plan(plan, progress, as_json)
        return EXIT_DONE
    return run(ledger, [plan], known, on, workers, detach=detach, as_json=as_json)


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """KEY=VALUE words as a mapping; values stay text, which the field's type parses.

    Raises InputError for a word without '=', and for a key given twice.
    """
    parsed: dict[str, Any] = {}
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InputError(f"--set {word}", "write KEY=VALUE, as in --set optimizer.lr=0.05")
        if key in parsed:
            raise InputError(f"--set {key} is given twice", "give it once")
        parsed[key] = value
    return parsed


def run(
    ledger: Ledger,
    plans: list[Plan],
    known: dict[str, Progress],
    on: Where,
    workers: int | None,
    *,
    retry: bool = False,
    detach: bool = False,
    as_json: bool = False,
) -> int:
    """Run the open trials of the plans and see them through; the command's exit code."""
    from sweeps.local import Pool, visible_gpus
    from sweeps.progress import look, summary
    from sweeps.worker import Worker, check_data, prepare_data, start_logging

    trials = list({trial.name: trial for plan in plans for trial in plan.trials}.values())
    launch = time.time()
    worker = Worker(ledger, launch, log="", retry_only=retry)
    progress = look(ledger, trials, known)
    open_trials = [one.trial for one in progress if worker.wants(one.standing)]
    counted = f"{summary(progress)}; {len(open_trials)} to run"
    print(f"{ledger.sweep}: {counted}", file=sys.stderr)
    if not open_trials:
        return _end(ledger, progress, as_json)
    check_data(trial.config.data for trial in open_trials)
    prepare_data(trial.config.data for trial in open_trials)
    for plan in plans:
        ledger.write_plan(plan)
    if on is Where.DEBUG:
        start_logging(worker)
        logging.getLogger("matplotlib").setLevel(logging.WARNING)
        try:
            worker.run(trials)
        except KeyboardInterrupt:
            return _interrupted(ledger)
        return _end(ledger, look(ledger, trials, known), as_json)
    count = min(workers or len(visible_gpus()) or 1, len(open_trials))
    pool = Pool(ledger, plans, launch, count, retry=retry, detach=detach)
    pool.start()
    if detach:
        print(
            f"{count} worker{'s' * (count != 1)} started; "
            f"watch: python -m sweeps.status {ledger.sweep} --results {ledger.folder.parent} "
            "--watch",
            file=sys.stderr,
        )
        print(ledger.folder)
        return EXIT_DONE
    try:
        _see_through(ledger, plans[0] if len(plans) == 1 else None, trials, pool, known)
    except KeyboardInterrupt:
        pool.stop()
        return _interrupted(ledger)
    except BaseException:
        pool.stop()
        raise
    return _end(ledger, look(ledger, trials, known), as_json)


def _see_through(
    ledger: Ledger,
    plan: Plan | None,
    trials: list[Any],
    pool: Any,
    known: dict[str, Progress],
) -> None:
    """Show progress until no worker is left: a live table on a terminal, a line a change off it."""
    from rich.live import Live

    from sweeps import table
    from sweeps.progress import look
    from sweeps.status import view

    said: dict[str, str] = {}
    terminal = sys.stderr.isatty() and plan is not None
    with Live(console=table.console(sys.stderr), auto_refresh=False, transient=False) as live:
        while True:
            alive = pool.poll()
            progress = look(ledger, trials, known)
            if terminal and plan is not None:
                live.update(view(plan, progress), refresh=True)
            else:
                _say_changes(progress, said)
            if not alive:
                return
            time.sleep(POLL_SECONDS)


def _say_changes(progress: list[Progress], said: dict[str, str]) -> None:
    over = sum(one.state.is_over for one in progress)
    for one in progress:
        best = one.best_val_accuracy
        words = str(one.state)
        if one.state == "done" and best is not None:
            words += f", best validation {100 * best:.2f} % in {one.epochs_done} epochs"
        elif one.state == "failed":
            words += f", {one.note}"
        if one.trial.name not in said and one.state in ("pending", "done", "failed", "lost"):
            said[one.trial.name] = words  # how things stood at the start is no news
        elif said.get(one.trial.name) != words:
            said[one.trial.name] = words
            print(f"[{over}/{len(progress)}] {one.trial.name}: {words}", file=sys.stderr)


def _end(ledger: Ledger, progress: list[Progress], as_json: bool) -> int:
    from sweeps.progress import counts, summary

    print(f"{ledger.sweep}: {summary(progress)}", file=sys.stderr)
    failed = [one for one in progress if one.state == "failed"]
    if as_json:
        trials = [one.to_json() for one in progress]
        print(
            json.dumps(
                {"schema_version": 1, "trials": trials, "counts": counts(progress)}, indent=2
            )
        )
    else:
        print(ledger.folder)
    if failed:
        where = f"{ledger.sweep} --results {ledger.folder.parent}"
        print(
            f"{len(failed)} failed: python -m sweeps.status {where} --failures says why, "
            f"python -m sweeps.retry {where} tries them again",
            file=sys.stderr,
        )
    unfinished = [one for one in progress if one.state != "done"]
    return EXIT_FLAGGED if unfinished else EXIT_DONE


def _interrupted(ledger: Ledger) -> int:
    print(
        f"interrupted: {ledger.sweep}'s workers gave their trials back; the same command goes on "
        "from the last epoch",
        file=sys.stderr,
    )
    return EXIT_INTERRUPTED


def _print_plan(plan: Plan, progress: list[Progress], as_json: bool) -> None:
    from sweeps import table
    from sweeps.ledger import trial_to_json
    from sweeps.progress import counts, summary

    if as_json:
        trials = [{**trial_to_json(one.trial), **one.to_json()} for one in progress]
        value = {
            "schema_version": 1,
            "sweep": plan.sweep,
            "plan": plan.id,
            "scale": plan.scale,
            "overrides": dict(plan.overrides),
            "axes": plan.axes,
            "trials": trials,
            "counts": counts(progress),
        }
        print(json.dumps(value, indent=2))
        return
    rows = [
        (
            one.trial.name,
            str(one.state),
            f"{one.epochs_done}/{one.trial.config.epochs}",
            str(one.trial.config.batch_size),
            one.trial.config.model.name,
            str(one.trial.config.seed),
        )
        for one in progress
    ]
    table.show(("trial", "state", "epochs", "batch", "model", "seed"), rows)
    print(
        f"{plan.sweep} ({plan.setting}): {summary(progress)}; nothing was run or written",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run_command(app)
