"""Gather a sweep's finished trials into a few Parquet files, and put them back.

python -m sweeps.compact NAME                              # reversible, also while the sweep runs
python -m sweeps.compact NAME --undo                       # every folder as it was, byte for byte
python -m sweeps.compact NAME --drop-checkpoints [--yes]   # for good; without --yes, only counts
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, InputError, run_command
from sweeps.cli.options import Results

if TYPE_CHECKING:
    from sweeps.compact.archive_writer import Gathered
    from sweeps.state.trial_store import TrialStore

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="The sweep.")],
    results: Results = Path("results"),
    undo: Annotated[bool, typer.Option("--undo", help="Write the folders back.")] = False,
    drop: Annotated[
        bool,
        typer.Option("--drop-checkpoints", help="Remove the compacted trials' weights, for good."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --drop-checkpoints: do it; without, only count.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Gather a sweep's finished trials into a few files. All commands read them as before."""
    from sweeps.compact import archive_writer
    from sweeps.state.trial_store import resolve

    if undo and drop:
        raise InputError("--undo with --drop-checkpoints", "give one of them")
    store = resolve(results, name)
    with archive_writer.held(store) as folder:
        if undo:
            _show_undone(store, archive_writer.put_back(store), as_json)
            return EXIT_DONE
        plans, problems = store.readable_plans()
        trials = {trial.name: trial for plan in plans for trial in plan.trials}
        found = archive_writer.gather(store, trials.values(), folder)
        checkpoints, size = archive_writer.drop_checkpoints(store, really=drop and yes)
    for problem in [*problems, *found.damaged.values()]:
        print(f"warning: left as it is: {problem.what}", file=sys.stderr)
    if as_json:
        _print({**_to_json(name, found, checkpoints, size), "checkpoints_dropped": drop and yes})
    else:
        print(
            f"{name}: {_trials(found.compacted)} in {store.folder / folder.name}, {found.added} "
            f"of them new; left as they are: {found.open} not done, {len(found.damaged)} damaged"
        )
        if checkpoints and drop and yes:
            print(f"{checkpoints} checkpoints dropped, {size / 1e9:.3g} GB")
    if checkpoints and drop and not yes:
        print(
            f"{checkpoints} checkpoints, {size / 1e9:.3g} GB, to drop; --yes does it, and their "
            "trials have no Grad-CAM then",
            file=sys.stderr,
        )
        return EXIT_FLAGGED
    return EXIT_FLAGGED if found.damaged or problems else EXIT_DONE


def _show_undone(store: TrialStore, count: int, as_json: bool) -> None:
    if as_json:
        _print({"sweep": store.sweep, "put_back": count})
    else:
        print(f"{store.sweep}: {_trials(count)} put back into {store.folder}")


def _to_json(name: str, found: Gathered, checkpoints: int, size: int) -> dict[str, object]:
    return {
        "sweep": name,
        "added": found.added,
        "compacted": found.compacted,
        "open": found.open,
        "damaged": {trial: problem.what for trial, problem in found.damaged.items()},
        "checkpoints": checkpoints,
        "checkpoint_bytes": size,
    }


def _trials(count: int) -> str:
    return f"{count} trial{'s' * (count != 1)}"


def _print(value: dict[str, object]) -> None:
    print(json.dumps({"schema_version": 1, **value}, indent=2))


if __name__ == "__main__":
    run_command(app)
