"""Study: sweeps and searches one after another, each choice made by rule, to the report.

    python -m sweeps.study cifar10 --dry-run                              # stages, trials, price
    python -m sweeps.study cifar10 --scale smoke --set data.name=digits   # minutes
    python -m sweeps.study cifar10 --until architectures
    python -m sweeps.study cifar10 --from architectures     # with the choices that were made

Starting again goes on. docs/study.md has the rule.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from local_machine import signals
from local_machine.errors import EXIT_DONE, EXIT_INTERRUPTED, run_command
from sweeps.cli.options import AtScale, ScaleName, Seeds, Settings, Where, with_where

if TYPE_CHECKING:
    from sweeps.study.runner import StudyRunner

app = typer.Typer(add_completion=False)


@app.command()
@with_where(without=("nodes", "gpus_per_node", "minutes"))
def main(
    name: Annotated[str, typer.Argument(help="A study's name, or its file (.py).")],
    scale: AtScale = ScaleName.FULL,
    settings: Settings = None,
    seeds: Seeds = None,
    *,
    where: Where,
    first: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="STAGE", help="Begin there; earlier choices as choices.json has them."
        ),
    ] = None,
    last: Annotated[
        str | None,
        typer.Option("--until", metavar="STAGE", help="End there; then without a report."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show stages, trials and price, and touch nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --dry-run: print one JSON object.")
    ] = False,
) -> int:
    """Run a study: its stages in order, the choice that each makes, and the report."""
    from local_machine.errors import InputError
    from sweeps.execution import preflight
    from sweeps.search.runner import check_backend
    from sweeps.state import driver_lock
    from sweeps.state.access import warn_of_writers
    from sweeps.study.runner import StudyRunner
    from sweeps.study.stages import find_study

    job = driver_lock.leave_job()
    study_name, study = find_study(name)
    warn_of_writers(where.results)
    stages = study.stages
    begin = study.index(first) if first is not None else 0
    end = study.index(last) if last is not None else len(stages) - 1
    if begin > end:
        raise InputError(f"--from {first} comes after --until {last}", "turn them round")
    if as_json and not dry_run:
        raise InputError("--json without --dry-run", "what a study chose is in its choices.json")
    request = where.request()
    check_backend(request)
    course = StudyRunner(
        study_name, study, where.results, scale, settings or [], seeds, request, job
    )
    if begin:
        course.recall(begin)
    if name.endswith(".py"):
        preflight.check_elsewhere(one for run in course.assumed() for one in run.configs)
    if dry_run:
        course.look_back()
        return _print(course, begin, end, as_json)
    course.assumed()  # so that what is wrong with any stage is told now
    signals.handle(signal.SIGTERM, _interrupt)
    advice = "wait for it, or look at its stages: python -m sweeps.status"
    try:
        with driver_lock.held(
            course.folder, where.results, job, course.scheduler, "study", advice
        ) as check:
            # What the stages have to say on stdout is for a person here.
            with contextlib.redirect_stdout(sys.stderr):
                code = course.go(begin, end, check)
            if code == EXIT_INTERRUPTED:
                return code
            if end < len(stages) - 1:
                print(course.path)
                return code
            return max(code, course.report())
    except KeyboardInterrupt:
        print("interrupted: the same command goes on", file=sys.stderr)
        return EXIT_INTERRUPTED


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _print(course: StudyRunner, begin: int, end: int, as_json: bool) -> int:
    from sweeps.cli import table
    from sweeps.state.plan import Plan
    from sweeps.study.runner import CHOICES

    rows, stages = [], []
    hours: list[float | None] = []
    devices: set[str] = set()
    runs = course.assumed()
    # What one stage has trained, or will, no other trains again.
    trained = {
        one.trial.fingerprint
        for run in runs for one in run.progress() if one.state == "done"
    }  # fmt: skip
    for number, run in enumerate(runs):
        if not begin <= number <= end:
            continue
        stage, cost, progress = run.stage, course.price(run, trained), run.progress()
        shared = sum(one.state != "done" and one.trial.fingerprint in trained for one in progress)
        trained |= {one.trial.fingerprint for one in progress}
        done = sum(one.state == "done" for one in progress)
        is_sweep = isinstance(run.asked, Plan)
        count = len(progress) if isinstance(run.asked, Plan) else run.asked.trials
        hours.append(cost.total)
        devices |= {cost.device} if cost.device else set()
        chosen = course.chosen.get(stage.name)
        values: dict[str, Any] = dict(chosen or stage.reported)
        what = ", ".join(f"{key}={value}" for key, value in values.items()) or "-"
        rows.append(
            (
                stage.name,
                "sweep" if is_sweep else "search",
                str(count),
                str(done),
                str(shared or "-"),
                what if chosen or not values else f"{what} (assumed)",
                "-" if cost.total is None else f"{cost.total:.3g}",
            )
        )
        stages.append(
            {
                "stage": stage.name,
                "kind": "sweep" if is_sweep else "search",
                "count": count,
                "done": done,
                "shared": shared,
                "chosen": dict(chosen) if chosen else None,
                "assumed": dict(stage.reported) if stage.reported and not chosen else None,
                "trials": [{**one.to_json()} for one in progress],
                "predicted_gpu_hours": cost.total,
            }
        )
    known = [one for one in hours if one is not None]
    total = sum(known) if len(known) == len(hours) else None
    if as_json:
        value = {
            "schema_version": 1,
            "study": course.name,
            "scale": str(course.scale),
            "choices": str(course.folder / CHOICES),
            "stages": stages,
            "predicted_gpu_hours": total,
            "predicted_on": sorted(devices),
        }
        print(json.dumps(value))
        return EXIT_DONE
    table.show(("stage", "kind", "trials", "done", "shared", "chooses", "hours"), rows)
    trials = sum(int(row[2]) for row in rows)
    price = "price not known" if total is None else f"at most about {total:.3g} device-hours"
    print(
        f"{course.name} ({course.scale}): {len(rows)} stages, {trials} trials; {price} on "
        f"{' and '.join(sorted(devices)) or 'any device'}; nothing was run or written",
        file=sys.stderr,
    )
    return EXIT_DONE


if __name__ == "__main__":
    run_command(app)
