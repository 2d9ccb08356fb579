"""Search: let Optuna choose what to train, and find the best values of some fields.

    python -m sweeps.search weight_decay --scale smoke --set data.name=digits
    python -m sweeps.search weight_decay --trials 40      # later: goes on to forty
    python -m sweeps.search --name lr --float lr=1e-5..1e-1:log --metrics metrics.jsonl \\
        --minimize loss -- python train.py --lr {lr} --out {folder}

Starting again goes on: what was asked and not finished is found in the trials' folders.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, EXIT_INTERRUPTED, need, run_command
from sweeps.cli.options import (
    AtScale,
    ScaleName,
    Settings,
    Where,
    parse_settings,
    typed_after,
    with_options,
    with_where,
)
from sweeps.search.runner import Asked, check_backend, through
from sweeps.without_file.words import CommandBehindDashes, SearchWords, command_of

if TYPE_CHECKING:
    from sweeps.search.driver import Driver
    from sweeps.search.warm_start import WarmStart
    from sweeps.spec.sweep import Search
    from sweeps.state.trial_store import TrialStore

app = typer.Typer(add_completion=False, rich_markup_mode=None)


AtOnce = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1000,
        help="Trials at once; if not given, --per-gpu on each GPU, one without a GPU, 8 jobs on "
        "Slurm.",
    ),
]

From = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="SWEEP",
        help="A sweep or search whose finished trials it is told of first; may be repeated.",
    ),
]


@app.command(cls=CommandBehindDashes)
@with_options(SearchWords, "words")
@with_where(workers=AtOnce)
def main(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="A search's name, or a definition file (.py).")
    ] = None,
    scale: AtScale = ScaleName.FULL,
    settings: Settings = None,
    *,
    where: Where,
    words: SearchWords,
    trials: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="How many trials in all.")
    ] = None,
    warm: From = None,
    pruner: Annotated[
        str, typer.Option(help="Instead of the definition's: successive_halving, ..., none.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be searched and touch nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Search for the best values, training as little as that takes. Goes on where it was."""
    from sweeps.execution import preparation
    from sweeps.execution.request import request_of
    from sweeps.launching import preflight
    from sweeps.spec.find import is_projects
    from sweeps.spec.scale import Scale
    from sweeps.state import driver_lock
    from sweeps.state.access import warn_of_writers
    from sweeps.state.liveness import Liveness
    from sweeps.state.trial_store import TrialStore

    need("search", "a search")
    job = driver_lock.leave_job()
    warn_of_writers(where.results)
    fixed = parse_settings(settings)
    typed = command_of(context, name)
    more = {"trials": trials, "pruner": pruner or None}
    sweep_name, search, text = _defined(name, typed, words, fixed, more, where.results)
    search = replace(search, pruner=pruner or search.pruner)
    request = request_of(where, search.resources)
    check_backend(request)
    store = TrialStore(where.results, sweep_name, Liveness.here(request.site.query_seconds))
    asked = Asked.of(search, Scale(str(scale)), fixed if text is None else {}, trials)
    asked = replace(asked, text=text)
    preparation.check(asked.ends, request.ranks)
    if name is None or not is_projects(name):
        preflight.check_elsewhere(asked.ends)
    if request.on_slurm:
        preflight.check_jobs(request.site, request.resources, store, asked.ends[0].task)
    told = _told(asked, warm, where.results)
    if dry_run:
        return _print_search(asked, store, told, as_json)
    driver = through(asked, store, request, typed_after("python -m sweeps.search"), job, told)
    return EXIT_INTERRUPTED if driver is None else _end(driver, as_json)


def _defined(
    name: str | None,
    command: list[str] | None,
    words: SearchWords,
    fixed: dict[str, str],
    more: dict[str, Any],
    results: Path,
) -> tuple[str, Search, str | None]:
    """The search of that name, or of the command behind `--`, with its name; and the text of its
    definition file, where the command line is the definition. Raises InputError."""
    from sweeps.spec.find import find_search

    if command is None:
        assert name is not None
        return *find_search(name, results), None
    from sweeps.without_file.definition import search_of

    given = {key: value for key, value in more.items() if value is not None}
    made = search_of(words, command, fixed, given, results)
    return made.name, made.made, made.text


def _told(asked: Asked, sweeps: list[str] | None, results: Path) -> WarmStart | None:
    """What the search is told before it begins. Raises InputError."""
    if not sweeps:
        return None
    from sweeps.search.warm_start import WarmStart

    return WarmStart.of(asked, sweeps, results)


def _end(driver: Driver, as_json: bool) -> int:
    from sweeps.search.driver import BEST
    from sweeps.search.summary import SearchSummary

    finding = SearchSummary.of(driver.plan.id, driver.journal, driver.folder / BEST)
    for line in finding.lines():
        print(line, file=sys.stderr)
    if as_json:
        print(json.dumps(finding.to_json(), indent=2))
    elif finding.complete:
        print(finding.config)
    return EXIT_FLAGGED if finding.causes or not finding.complete else EXIT_DONE


def _print_search(asked: Asked, store: TrialStore, told: WarmStart | None, as_json: bool) -> int:
    from sweeps.cli import table
    from sweeps.search_space.base import RANGE
    from sweeps.state.plan import SEARCHES

    search, folder = asked.search, store.folder / SEARCHES / asked.identity
    if told is not None:
        told.say()
    if as_json:
        described = asked.describe()
        value = {"schema_version": 1, "folder": str(folder), "search": described, "trials": []}
        print(json.dumps(value, indent=2))
        return EXIT_DONE
    rows = [(key.removeprefix(RANGE), text) for key, text in search.searched.described().items()]
    table.show(("field", "range"), rows)
    budget = search.trained_by.budget
    most = f", of at most {asked.epochs} {budget} each" if budget else ""
    print(
        f"{asked.trials} trials by {search.sampler}, pruner {search.pruner}{most}; "
        f"journal in {folder}; nothing was run or written",
        file=sys.stderr,
    )
    return EXIT_DONE


if __name__ == "__main__":
    run_command(app)
