"""How a sweep stands: states, progress, time left, best so far, failures by cause.

python -m sweeps.status [NAME] [--json] [--watch] [--failures]
python -m sweeps.status NAME --launches      # what changed from one launch to the next
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from local_machine import clock
from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, run_command, seldom_collect
from sweeps.cli.options import Results
from sweeps.cli.trial_table import columns, summed_up

if TYPE_CHECKING:
    from local_machine.errors import InputError
    from sweeps.state.plan import Plan
    from sweeps.state.progress import Progress
    from sweeps.state.trial_store import TrialStore
    from trial_records.history.marks import Marked

WATCH_SECONDS = 1.0
# A worker holds no trial for an instant between two: so many looks in a row must find none held.
IDLE_LOOKS = 3

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    name: Annotated[str | None, typer.Argument(help="The sweep; without it, all of them.")] = None,
    results: Results = Path("results"),
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show what changes.")] = False,
    failures: Annotated[
        bool, typer.Option("--failures", help="Group equal failures, with their tracebacks.")
    ] = False,
    stale: Annotated[
        bool, typer.Option("--stale", help="Only what is done, where other code has trained it.")
    ] = False,
    launches: Annotated[
        bool,
        typer.Option("--launches", help="What appeared and vanished from launch to launch."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Show how a sweep stands."""
    from local_machine.errors import InputError
    from sweeps.cli import launch_table
    from sweeps.code.other_code import trained_by_other
    from trial_records.history import marks

    stores = _stores(results, name)
    if watch and (as_json or stale or launches):
        other = "--json" if as_json else "--stale" if stale else "--launches"
        raise InputError(f"--watch with {other}", "give one of them")
    if watch:
        return _watch(stores)
    problems: list[InputError] = []
    seldom_collect()
    seen = {store.sweep: _by_plan(store, {}, problems) for store in stores}
    if problems and not any(seen.values()):
        raise problems[0]
    for problem in problems:
        print(f"warning: {problem.what}", file=sys.stderr)
    if stale:
        seen = {
            sweep: [(plan, trained_by_other(ones)) for plan, ones in plans]
            for sweep, plans in seen.items()
        }
    everything = [one for plans in seen.values() for _, progress in plans for one in progress]
    said = {store.sweep: marks.read(store.folder)[0].of(None) for store in stores}
    if as_json:
        # On one line: indented, 10,000 trials take longer to print than to look at.
        print(json.dumps(_json(seen, said, problems, launches=launches)))
    elif failures:
        _print_failures(everything)
    elif launches:
        for plans in seen.values():
            launch_table.show(plans)
    else:
        _print_tables(seen, said, is_one=name is not None)
    return max(_code(everything), EXIT_FLAGGED if problems else EXIT_DONE)


def _stores(results: Path, name: str | None) -> list[TrialStore]:
    """Of the sweep, or of every one. Raises InputError where there is none."""
    from local_machine.errors import InputError
    from sweeps.state.liveness import Liveness
    from sweeps.state.trial_store import TrialStore, launched, resolve

    if name is None:
        names = launched(results)
        if not names:
            raise InputError(
                f"no sweep in {results}", "launch one: python -m sweeps.launch grid_bs_epoch"
            )
    else:
        names = [resolve(results, name).sweep]
    return [TrialStore(results, one, Liveness.here()) for one in names]


def _print_tables(
    seen: dict[str, list[tuple[Plan, list[Progress]]]],
    said: dict[str, Marked],
    *,
    is_one: bool,
) -> None:
    """A row for each plan; of one sweep, a table of its trials for each, and what is said of it."""
    from sweeps.cli import table
    from sweeps.code.other_code import in_words, trained_by_other
    from sweeps.state.progress import summary

    pairs = [(sweep, *pair) for sweep, plans in seen.items() for pair in plans]
    if not is_one:
        summed = [
            (sweep, plan.setting, summary(ones), ", ".join(said[sweep].tags))
            for sweep, plan, ones in pairs
        ]
        columns_shown = 4 if any(row[-1] for row in summed) else 3
        headings = ("sweep", "setting", "trials", "tags")[:columns_shown]
        table.show(headings, (row[:columns_shown] for row in summed))
        return
    for marked in said.values():
        if marked.words:
            table.console(sys.stdout).print(table.text(marked.words))
    for _, plan, ones in pairs:
        line, rows = summed_up(plan, ones)
        if count := len(trained_by_other(ones)):
            line += f"; {in_words(count)}"
        table.console(sys.stdout).print(table.text(line))
        table.show(columns(plan), rows)


def _by_plan(
    store: TrialStore, known: dict[str, Progress], problems: list[InputError]
) -> list[tuple[Plan, list[Progress]]]:
    """The plans that can be read, with their trials' progress; the others are added to problems."""
    from sweeps.state.progress import look
    from trial_records import verified
    from trial_records.history import marks

    plans, unread = store.readable_plans()
    problems += unread + verified.read(store.folder)[1] + marks.read(store.folder)[1]
    found = [(plan, look(store, plan.trials, known)) for plan in plans]
    store.summaries.save()
    return found


def _json(
    seen: dict[str, list[tuple[Plan, list[Progress]]]],
    said: dict[str, Marked],
    problems: list[InputError],
    *,
    launches: bool,
) -> dict[str, Any]:
    """A trial that two launches compare by different objectives has an entry for each, and counts
    once."""
    from sweeps.cli import launch_table
    from sweeps.code.other_code import trained_by_other
    from sweeps.cost.tally import tally
    from sweeps.state.progress import counts

    others = {
        id(one) for plans in seen.values() for _, ones in plans for one in trained_by_other(ones)
    }
    trials: dict[tuple[Any, ...], dict[str, Any]] = {}
    progress: dict[tuple[str, str], Progress] = {}
    for sweep, plans in seen.items():
        for plan, ones in plans:
            for one in ones:
                progress[sweep, one.trial.name] = one
                key = (sweep, one.trial.name, plan.task.objective)
                about = {**one.to_json(), "trained_by_other_code": id(one) in others}
                trials.setdefault(key, {"sweep": sweep, **about, "plans": []})
                trials[key]["plans"].append(plan.id)
    spent, to_come = tally(progress.values())
    return {
        "schema_version": 1,
        "trials": list(trials.values()),
        "counts": counts(progress.values()),
        "training_hours_done": spent,
        "training_hours_to_come": to_come,
        "sweeps": {
            sweep: {"tags": one.tags, "notes": one.to_json()["notes"]}
            for sweep, one in said.items()
        },
        **(
            {
                "launches": [
                    change
                    for sweep, plans in seen.items()
                    for change in launch_table.to_json(sweep, (plan for plan, _ in plans))
                ]
            }
            if launches
            else {}
        ),
        "problems": [{"what": one.what, "help": one.help} for one in problems],
    }


def _print_failures(progress: list[Progress]) -> None:
    """Failures with one traceback together, the most frequent first; then what was lost, by how
    its jobs ended."""
    from sweeps.state.progress import lost_alike, why_lost

    groups: dict[tuple[str, str], list[Progress]] = {}
    for one in progress:
        if one.standing.failure is not None:
            key = (str(one.standing.failure.cause), one.standing.failure.traceback)
            groups.setdefault(key, []).append(one)
    for (cause, traceback), ones in sorted(groups.items(), key=lambda item: -len(item[1])):
        failure = ones[0].standing.failure
        assert failure is not None
        names = list(dict.fromkeys(one.trial.name for one in ones))
        print(f"{cause}: {len(names)} trial{'s' * (len(names) != 1)}: {', '.join(names)}")
        print(traceback.rstrip())
        print("the log's end:", *failure.log_tail, sep="\n  ")
        print()
    lost = lost_alike(progress)
    for ones in lost:
        print(why_lost(ones))
        print(*(one.trial.name for one in ones), sep=", ")
        print("python -m sweeps.logs prints the whole log of one of them\n")
    if not groups and not lost:
        print("no failures", file=sys.stderr)


def _watch(stores: list[TrialStore]) -> int:
    """Redraw until every trial is over; off a terminal, print a line whenever something changed."""
    from rich.live import Live

    from sweeps.cli import table
    from sweeps.cli.fitted_view import fitted
    from sweeps.state.progress import summary

    known: dict[str, dict[str, Progress]] = {store.sweep: {} for store in stores}
    last, idle = "", 0
    with Live(console=table.console(sys.stdout), auto_refresh=False) as live:
        while True:
            problems: list[InputError] = []
            plans = [
                pair for store in stores for pair in _by_plan(store, known[store.sweep], problems)
            ]
            if problems and not plans:
                raise problems[0]
            if sys.stdout.isatty():
                live.update(fitted(plans, live.console), refresh=True)
            else:
                now = "\n".join(f"{plan.sweep}: {summary(ones)}" for plan, ones in plans)
                if now != last:
                    print(now, flush=True)
                last = now
            progress = [one for _, ones in plans for one in ones]
            driven = any(store.drivers()[0] for store in stores)
            if not driven and all(one.state.is_over for one in progress):
                break
            held = driven or any(one.state in ("running", "queued") for one in progress)
            idle = 0 if held else idle + 1
            if idle == IDLE_LOOKS:
                break
            clock.sleep(WATCH_SECONDS)
    return max(_code(progress), EXIT_FLAGGED if problems else EXIT_DONE)


def _code(progress: list[Progress]) -> int:
    failed = any(one.state == "failed" or one.problem is not None for one in progress)
    return EXIT_FLAGGED if failed else EXIT_DONE


if __name__ == "__main__":
    run_command(app, shows=True)
