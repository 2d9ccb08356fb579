"""Export results to what people already use: TensorBoard, W&B (offline), MLflow, Trackio, CSV.

python -m analysis.export [NAME ...] --results DIR --to tensorboard DEST [--watch]
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local_machine import clock
from local_machine.errors import (
    EXIT_DONE,
    EXIT_FLAGGED,
    InputError,
    folder_named,
    run_command,
    seldom_collect,
)
from local_machine.terminal import one_line

if TYPE_CHECKING:
    from analysis.export.target import Target
    from analysis.export.to_csv import CsvTables, Written
    from analysis.export.transfer import Counts, Transfer

SCHEMA_VERSION = 1
WATCH_SECONDS = 2.0

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Tool(StrEnum):
    TENSORBOARD = "tensorboard"
    WANDB = "wandb"
    MLFLOW = "mlflow"
    TRACKIO = "trackio"
    CSV = "csv"


@app.command(epilog="With --debug an error shows its traceback.")
def export(
    to: Annotated[
        tuple[Tool, Path],
        typer.Option(
            "--to", metavar=f"{'|'.join(Tool)} DEST", help="For what to write, and where."
        ),
    ],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Sweeps; none: all of them.")
    ] = None,
    results: Annotated[
        Path,
        typer.Option(metavar="DIR", parser=folder_named, help="Where the sweeps' results lie."),
    ] = Path("results"),
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Stay and add what comes, until every trial is over."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each pass.")
    ] = False,
) -> int:
    """Write trials, their metrics at each step and their results into another tool's own files.

    A second export adds only what is new. Nothing is sent anywhere.
    """
    tool, dest = to[0], folder_named(to[1])
    _check(results, dest)
    seldom_collect()
    told: list[str] = []
    with _passes(tool, results, names or (), dest) as passes:
        while True:
            done = passes.run()
            problems = [one.what for one in passes.problems]
            for what in problems:
                if what not in told:
                    print(f"warning: left out: {one_line(what)}", file=sys.stderr)
            if done.changed or problems != told or not watch or passes.is_over:
                _say(dest, done, problems, as_json)
            told = problems
            if not watch or passes.is_over:
                return EXIT_FLAGGED if problems else EXIT_DONE
            clock.sleep(WATCH_SECONDS)


def _check(results: Path, dest: Path) -> None:
    """Raises InputError where the destination is the results' own folder."""
    if dest.resolve() == results.resolve() or (dest / "plans").is_dir():
        raise InputError(
            f"{dest} holds the results themselves",
            f"name another folder: {dest / 'exported'}",
        )


@contextlib.contextmanager
def _passes(
    tool: Tool, results: Path, names: Sequence[str], dest: Path
) -> Iterator[Transfer | CsvTables]:
    from analysis.export import exported

    with exported.held(dest):
        if tool is Tool.CSV:
            from analysis.export.to_csv import CsvTables

            yield CsvTables(results, names, dest)
            return
        from analysis.export.transfer import Transfer

        target = _target(tool, dest)
        try:
            yield Transfer(results, names, dest, tool, target)
        finally:
            target.close()


def _target(tool: Tool, dest: Path) -> Target:
    """Each imports its library, and no other's."""
    match tool:
        case Tool.TENSORBOARD:
            from analysis.export.to_tensorboard import TensorBoard

            return TensorBoard(dest)
        case Tool.WANDB:
            from analysis.export.to_wandb import WandB

            return WandB(dest)
        case Tool.MLFLOW:
            from analysis.export.to_mlflow import MLflow

            return MLflow(dest)
        case _:
            from analysis.export.to_trackio import Trackio

            return Trackio(dest)


def _say(dest: Path, done: Counts | Written, problems: list[str], as_json: bool) -> None:
    if as_json:
        answer = {
            "schema_version": SCHEMA_VERSION,
            "destination": str(dest),
            **asdict(done),
            "problems": problems,
        }
        print(json.dumps(answer), flush=True)
    else:
        print(f"{one_line(str(dest))}: {done.in_words()}", flush=True)


def main() -> None:
    run_command(app)


if __name__ == "__main__":
    main()
