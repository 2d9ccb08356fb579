"""Run finished trials of a sweep again, and compare them with their records.

python -m sweeps.verify NAME [--trials K]        # resumed ones first, then spread over the points
python -m sweeps.verify NAME --trial TRIAL       # this one
"""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from local_machine import signals
from local_machine.errors import (
    EXIT_DONE,
    EXIT_FLAGGED,
    EXIT_IO,
    InputError,
    nearest,
    run_command,
    storage_error,
)
from sweeps.cli.options import Results

if TYPE_CHECKING:
    from sweeps.state.progress import Progress
    from sweeps.state.trial_store import TrialStore
    from trial_records.verified import Verification

SCHEMA_VERSION = 1
# So many trials that cannot be run again are told of; then no other is tried.
REFUSED = 20

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="The sweep, or the search.")],
    results: Results = Path("results"),
    trials: Annotated[int, typer.Option(min=1, metavar="K", help="How many are run again.")] = 3,
    only: Annotated[
        list[str] | None,
        typer.Option("--trial", metavar="TRIAL", help="This one; may be repeated."),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="On a GPU, or another machine than the trial's: how far a number may be off, as a "
            "part of the largest in its column.",
        ),
    ] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Run finished trials again, whole and undisturbed, and compare them with their records.

    Exit code 1 where one differs, or could not be run again.
    """
    from sweeps.state.trial_store import resolve

    signals.handle(signal.SIGTERM, _interrupt)
    store = resolve(results, name)
    done, problems = _finished(store, only)
    for problem in problems:
        print(f"warning: {problem.what}", file=sys.stderr, flush=True)
    chosen = done if only else _chosen(store, done)
    found = _verify(store, chosen, len(chosen) if only else trials, tolerance, as_json=as_json)
    if as_json:
        print(json.dumps(_to_json(name, found, problems), indent=2))
    else:
        _sum_up(store, found)
    is_fine = all(not isinstance(one, str) and one.outcome != "differs" for one in found.values())
    return EXIT_DONE if is_fine and not problems else EXIT_FLAGGED


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _finished(store: TrialStore, only: list[str] | None) -> tuple[list[Progress], list[InputError]]:
    """The finished trials of all plans, or those that are named; and the plans that cannot be
    read. Raises InputError where there is none, or one that is named is not finished."""
    from sweeps.state.progress import look, summary

    plans, problems = store.readable_plans()
    if not plans:
        advice = f"launch the sweep: python -m sweeps.launch {store.sweep}"
        raise problems[0] if problems else InputError(f"{store.sweep} has no plan yet", advice)
    if any(plan.task.is_adopted for plan in plans):
        raise InputError(
            f"{store.sweep} cannot be verified: its runs were made elsewhere and adopted, and "
            "nothing here can run them again",
            "verify what was launched here; python -m sweeps.status shows it",
        )
    trials = {trial.name: trial for plan in plans for trial in plan.trials}
    for word in only or ():
        if word not in trials:
            raise InputError(f"no trial {word!r} in {store.sweep}", nearest(word, trials))
    wanted = dict.fromkeys(only or trials)
    progress = look(store, [trials[word] for word in wanted], {})
    store.summaries.save()
    show = f"python -m sweeps.status {store.sweep}"
    for one in progress if only else ():
        if one.state != "done":
            raise InputError(
                f"{one.trial.name} is {one.state}, and only a finished trial can be verified", show
            )
        if one.problem is not None:
            raise InputError(one.problem, show)
    done = [one for one in progress if one.state == "done" and one.problem is None]
    if not done:
        raise InputError(
            f"{store.sweep} has no finished trial: {summary(progress)}",
            f"launch what is left: python -m sweeps.launch {store.sweep}",
        )
    return done, problems


def _chosen(store: TrialStore, done: list[Progress]) -> list[Progress]:
    """All, in the order in which they are worth a rerun."""
    from sweeps.verify.choice import in_order
    from trial_records import verified

    known, unread = verified.read(store.folder)
    for problem in unread:
        print(f"warning: {problem.what}", file=sys.stderr, flush=True)
    return in_order(done, known)


def _verify(
    store: TrialStore, chosen: list[Progress], count: int, tolerance: float, *, as_json: bool
) -> dict[str, Verification | str]:
    """What came of so many of the trials, each recorded at once; a text where one could not be run
    again. Those that were not even begun do not count."""
    from sweeps.verify.rerun import NotRerunError, RefusedError
    from sweeps.verify.verification import verify

    _check_writable(store)
    found: dict[str, Verification | str] = {}
    run = refused = 0
    try:
        for one in chosen:
            if run == count or refused == REFUSED:
                break
            run += 1
            name = one.trial.name
            print(f"running {name} again", file=sys.stderr, flush=True)
            try:
                # Whatever a task's file prints when it is imported is not our answer.
                with redirect_stdout(sys.stderr):
                    found[name] = result = verify(store, one.trial, tolerance)
                result.write(store.folder, uuid.uuid4().hex[:8])
                said = f"{result.words}; {result.seconds:.1f} s"
                said = f"resumed ({one.attempts} attempts), {said}" if one.attempts > 1 else said
            except NotRerunError as error:
                found[name] = str(error)
                said = f"not verified: {error}"
                if isinstance(error, RefusedError):
                    run, refused = run - 1, refused + 1
            if not as_json:
                print(f"{name}: {said}", flush=True)
    except OSError as error:
        raise storage_error(error) or error from None
    return found


def _check_writable(store: TrialStore) -> None:
    """Raise InputError where nothing could be recorded, before anybody waits for it."""
    from trial_records.verified import FOLDER

    folder = store.folder / FOLDER
    if not os.access(folder if folder.exists() else store.folder, os.W_OK):
        raise InputError(
            f"cannot write {folder}",
            "verify a copy of the results that you may write: --results DIR",
            exit_code=EXIT_IO,
        )


def _counts(found: dict[str, Verification | str]) -> dict[str, int]:
    words = [one if isinstance(one, str) else one.outcome for one in found.values()]
    known = {word: words.count(word) for word in ("equal", "close", "differs")}
    return {**known, "not_verified": len(words) - sum(known.values())}


def _sum_up(store: TrialStore, found: dict[str, Verification | str]) -> None:
    from trial_records.verified import FOLDER

    told = ", ".join(f"{n} {word.replace('_', ' ')}" for word, n in _counts(found).items() if n)
    ours = [one for one in found.values() if not isinstance(one, str)]
    where = f"; recorded in {store.folder / FOLDER}" if ours else ""
    print(f"{store.sweep}: {told}{where}", file=sys.stderr)
    for is_same, what in ((False, "are not by today's code"), (None, "do not say their code")):
        if names := [one.trial for one in ours if one.is_same_code is is_same]:
            print(f"warning: these records {what}: {', '.join(names)}", file=sys.stderr)
    if any(one.outcome == "differs" for one in ours):
        print(
            "help: where the metric is a time, its task's `timings` should name it; where the "
            "task draws random numbers, from the configuration's seed and the saved state alone",
            file=sys.stderr,
        )


def _to_json(
    name: str, found: dict[str, Verification | str], problems: list[InputError]
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "sweep": name,
        **_counts(found),
        "trials": [
            {"trial": trial, "outcome": None, "problem": one}
            if isinstance(one, str)
            else {**asdict(one), "is_same_code": one.is_same_code, "problem": None}
            for trial, one in found.items()
        ],
        "problems": [{"what": one.what, "help": one.help} for one in problems],
    }


if __name__ == "__main__":
    run_command(app)
