"""Let runs that were made without us into the store, read-only, so that the report compares them.

python -m sweeps.adopt runs --name theirs --metrics metrics.csv --config args.json --minimize loss
python -m sweeps.adopt multirun --runs '*/*/*' --name theirs --metrics 'tensorboard' \
    --config .hydra/config.yaml --maximize val/accuracy:last
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from local_machine.errors import (
    EXIT_DONE,
    EXIT_FLAGGED,
    InputError,
    folder_named,
    run_command,
    seldom_collect,
)
from local_machine.terminal import counted, one_line
from sweeps.cli.options import Results, typed_after

if TYPE_CHECKING:
    from sweeps.adopt.entry import Outcome
    from sweeps.adopt.foreign_run import Asked, ForeignRun
    from sweeps.state.plan import Plan
    from sweeps.task import Objective

SCHEMA_VERSION = 1
_SHOWN = 10

app = typer.Typer(add_completion=False, rich_markup_mode=None)


Folder = Annotated[
    Path,
    typer.Argument(
        help="The folder that has the runs in it.", parser=folder_named, metavar="FOLDER"
    ),
]
Name = Annotated[str, typer.Option(metavar="NAME", help="What they are called in the store.")]
Metrics = Annotated[
    str,
    typer.Option(
        metavar="GLOB",
        help="What a run measured, a file in its folder: *.jsonl, *.csv, trainer_state.json, "
        "tensorboard[:GLOB]; or 'output: epoch {epoch} loss {loss}' with --output.",
    ),
]
Config = Annotated[
    list[str],
    typer.Option(
        metavar="GLOB|name",
        help="Its configuration: a JSON, YAML or TOML file in its folder; or name, where the "
        "folder's name says it (lr=0.1,bs=32 or lr0.1-bs32). May be repeated; the last wins.",
    ),
]
Metric = Annotated[
    str | None, typer.Option(metavar="METRIC[:last]", help="By what runs are compared.")
]
Runs = Annotated[
    str, typer.Option(metavar="GLOB", help="The runs' folders in FOLDER, such as '*/*'.")
]
Output = Annotated[
    str | None, typer.Option(metavar="GLOB", help="The file that has a run's output.")
]
Step = Annotated[str | None, typer.Option(metavar="NAME", help="What the metrics call the step.")]
Seed = Annotated[
    str | None, typer.Option(metavar="FIELD", help="The seed, where it is not found by itself.")
]
Ignored = Annotated[
    list[str] | None,
    typer.Option(metavar="FIELD", help="Is not part of a configuration; may be repeated."),
]
Done = Annotated[str | None, typer.Option(metavar="GLOB", help="Only runs that have this file.")]


@app.command()
def main(
    folder: Folder,
    name: Name,
    metrics: Metrics,
    config: Config,
    minimize: Metric = None,
    maximize: Metric = None,
    runs: Runs = "*",
    output: Output = None,
    step: Step = None,
    seed: Seed = None,
    ignore: Ignored = None,
    done: Done = None,
    update: Annotated[
        bool, typer.Option("--update", help="Take in again the runs whose files changed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would enter, and write nothing.")
    ] = False,
    results: Results = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Let runs that were made elsewhere into the store, as finished trials that nothing trains.

    Nothing in FOLDER is changed. Exit code 1 where a run was left out.
    """
    seldom_collect()
    from sweeps.adopt.entry import Entries
    from sweeps.adopt.foreign_run import Asked
    from sweeps.state.access import warn_of_writers
    from sweeps.state.liveness import Liveness
    from sweeps.state.trial_store import TrialStore

    _check_name(name)
    objective = _objective(minimize, maximize)
    root = Path(os.path.realpath(folder))
    asked = Asked(
        root, metrics, tuple(config), objective.metric, output, step, done, tuple(ignore or ())
    )
    asked.check()
    warn_of_writers(results)
    entries = Entries(TrialStore(results, name, Liveness.here()), objective, seed)
    read, problems = _read(asked, runs)
    command = typed_after("python -m sweeps.adopt")
    plan, found = entries.enter(read, command, update=update, dry_run=dry_run)
    found.problems[:0] = problems
    _warn(found)
    if as_json:
        print(json.dumps(_to_json(name, plan, found, dry_run=dry_run)))
    else:
        if dry_run:
            _show(read, plan, objective)
        _sum_up(name, plan, found, dry_run=dry_run)
    return EXIT_FLAGGED if found.problems else EXIT_DONE


def _warn(found: Outcome) -> None:
    for problem in found.problems:
        # A folder's name may have a line's end in it.
        print(f"warning: left out: {one_line(problem.what)}", file=sys.stderr)
        print(f"help: {one_line(problem.help)}", file=sys.stderr)


def _check_name(name: str) -> None:
    from trial_records.names import NAME_BYTES, is_name

    if not is_name(name):
        raise InputError(
            f"{name!r} is not a valid name for a sweep",
            f"use at most {NAME_BYTES} letters, digits, '_', '-' and '.', since it names a folder",
        )


def _objective(minimize: str | None, maximize: str | None) -> Objective:
    """Raises InputError where not just one of them is given."""
    from sweeps import task
    from trial_records.metrics import check_metric_name

    if (minimize is None) == (maximize is None):
        raise InputError(
            "nothing says by what the runs are compared"
            if minimize is None
            else "--minimize and --maximize are both given",
            "give one of them: --minimize val_loss, or --maximize accuracy:last",
        )
    given = minimize if minimize is not None else maximize
    assert given is not None
    metric = given.removesuffix(":last").removesuffix(":best")
    check_metric_name(metric)
    make = task.maximize if minimize is None else task.minimize
    return make(metric, "last" if given.endswith(":last") else "best")


def _read(asked: Asked, glob: str) -> tuple[list[ForeignRun], list[InputError]]:
    """The runs, and what is wrong with those that cannot be read. Raises InputError where there is
    no run at all."""
    from sweeps.adopt import foreign_files, foreign_run

    logging.getLogger("sweeps.command_task").addHandler(_Told())
    runs: list[ForeignRun] = []
    problems: list[InputError] = []
    others: list[str] = []
    folders = foreign_files.folders_of(asked.root, glob)
    for one in counted(folders, len(folders), "read {} of {} folders"):
        try:
            run = foreign_run.read(one, asked)
        except InputError as problem:
            problems.append(problem)
            continue
        if run is None:
            others.append(foreign_files.named(one.relative_to(asked.root)))
        else:
            runs.append(run)
    if not runs and not problems:
        what = f"none of its {len(folders)} folders has" if folders else "it has no folders with"
        raise InputError(
            f"{asked.root} has no runs: {what} {' or '.join((asked.metrics, *asked.configs))}",
            "say where their folders are, such as --runs '*/*'",
        )
    if others:
        _tell("no runs, since they have none of these files", others)
    if places := sorted({name for run in runs for name in run.left_out}):
        _tell("left out of the configurations, since they name a run's own folder", places)
    return runs, problems


class _Told(logging.Handler):
    """Prints what readers warn of, each thing of one name or file once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        given = record.args if isinstance(record.args, tuple) else ()
        key = f"{record.msg} {given[:1]}"
        if key not in self._told:
            self._told.add(key)
            print(f"note: {one_line(record.getMessage())}", file=sys.stderr)


def _tell(what: str, names: list[str]) -> None:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    print(f"note: {what}: {', '.join(names[:_SHOWN])}{more}", file=sys.stderr)


def _show(runs: list[ForeignRun], plan: Plan | None, objective: Objective) -> None:
    from sweeps.adopt.entry import measured
    from sweeps.cli import table
    from trial_records.fields.sections import flat_of

    axes = [] if plan is None else [*plan.axes]
    if plan is not None and plan.task.seed is not None:
        axes.append(plan.task.seed)
    rows = []
    for run in runs:
        flat = flat_of(run.values)
        value = measured(run, objective)["objective"]
        cells = [str(flat.get(axis, "-")) for axis in axes]
        shown = "-" if value is None else f"{value:.6g}"
        rows.append((run.folder.name, *cells, str(len(run.rows)), shown))
    table.show(("run", *axes, "rows", objective.metric), rows)


def _sum_up(name: str, plan: Plan | None, found: Outcome, *, dry_run: bool) -> None:
    count = 0 if plan is None else len(plan.trials)
    words = [
        f"{len(found.added)} new",
        f"{len(found.unchanged)} as they were",
        *([f"{len(found.updated)} updated"] if found.updated else []),
        *([f"{len(found.problems)} left out"] if found.problems else []),
    ]
    axes = "" if plan is None else f"; they differ in {', '.join(plan.axes) or 'nothing'}"
    seed = "" if plan is None or plan.task.seed is None else f", seed: {plan.task.seed}"
    print(f"{name}: {count} run{'s' * (count != 1)}: {', '.join(words)}{axes}{seed}")
    if dry_run:
        print("nothing was written", file=sys.stderr)
    elif plan is not None:
        print(f"compare them: python -m analysis.report {name}", file=sys.stderr)


def _to_json(name: str, plan: Plan | None, found: Outcome, *, dry_run: bool) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "sweep": name,
        "dry_run": dry_run,
        "trials": 0 if plan is None else len(plan.trials),
        "axes": [] if plan is None else plan.axes,
        "seed": None if plan is None else plan.task.seed,
        "added": found.added,
        "updated": found.updated,
        "unchanged": found.unchanged,
        "problems": [{"what": one.what, "help": one.help} for one in found.problems],
    }


if __name__ == "__main__":
    run_command(app)
