"""What a trial's workers said.

python -m sweeps.logs NAME TRIAL
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from sweeps.request import Results
from trainer.errors import EXIT_DONE, EXIT_FLAGGED, InputError, nearest, run_command
from trainer.record import read_file

app = typer.Typer(add_completion=False)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="The sweep.")],
    trial: Annotated[str, typer.Argument(help="The trial: its name, or any part of it.")],
    results: Results = Path("results"),
) -> int:
    """Print everything that was logged while the trial ran, attempt after attempt."""
    from sweeps.ledger import LOGS, resolve

    ledger = resolve(results, name)
    plans, problems = ledger.readable_plans()
    if problems and not plans:
        raise problems[0]
    for problem in problems:
        print(f"warning: {problem.what}", file=sys.stderr)
    names = {one.name for plan in plans for one in plan.trials}
    found = [one for one in sorted(names) if one == trial] or [
        one for one in sorted(names) if trial in one
    ]
    if len(found) != 1:
        what = f"{len(found)} trials match {trial!r}" if found else f"no trial matches {trial!r}"
        raise InputError(f"{what} in {name}", nearest(trial, found or names))
    folder = ledger.folder / LOGS
    found_logs = [*folder.glob("*.log"), *folder.glob("*_log.out")]  # of local workers, and of jobs
    logs = [path for path in found_logs if path.is_file()]
    logs.sort(key=lambda path: path.stat().st_mtime)
    empty = True
    for log in logs:
        for line in _part(log, found[0]):
            empty = False
            print(line)
    if empty:
        print(
            f"{found[0]} has no log: it has not run under launch, or the log was removed",
            file=sys.stderr,
        )
    return EXIT_FLAGGED if problems else EXIT_DONE


def _part(log: Path, name: str) -> Iterator[str]:
    """The lines between the marks that the worker sets around each attempt at the trial."""
    from sweeps.worker import END, START

    inside = False
    for line in read_file(log).decode(errors="replace").splitlines():
        if START in line:
            inside = f"{START} {name}," in line
        if inside:
            yield line
        if END in line:
            inside = False


if __name__ == "__main__":
    run_command(app, shows=True)
