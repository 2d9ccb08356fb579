"""What a trial's workers said.

python -m sweeps.logs NAME TRIAL
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, InputError, nearest, run_command
from local_machine.files import matching, read_file
from sweeps.cli.options import Results

if TYPE_CHECKING:
    from sweeps.state.trial_store import TrialStore

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="The sweep.")],
    trial: Annotated[str, typer.Argument(help="The trial: its name, or any part of it.")],
    results: Results = Path("results"),
) -> int:
    """Print everything that was logged while the trial ran, attempt after attempt."""
    from sweeps.state.job_log import logs_of
    from sweeps.state.plan import LOGS
    from sweeps.state.trial_store import resolve

    store = resolve(results, name)
    plans, problems = store.readable_plans()
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
    folder = store.folder / LOGS
    jobs = _jobs(store, found[0])
    own = {path for job in jobs for path in logs_of(folder, job)}
    found_logs = [
        *matching(folder, "*.log"),
        *matching(folder, "*_log.out"),
    ]  # of local workers, and of jobs
    logs = [path for path in found_logs if path.is_file()]
    logs.sort(key=lambda path: path.stat().st_mtime)
    empty = True
    for log in logs:
        for line in _lines(log) if log in own else _part(log, found[0]):
            empty = False
            print(line)
    if empty:
        why = (
            f"job {', '.join(jobs)} wrote none: see that its node sees {folder}"
            if jobs
            else "it has not run under launch, or the log was removed"
        )
        print(f"{found[0]} has no log: {why}", file=sys.stderr)
    return EXIT_FLAGGED if problems else EXIT_DONE


def _jobs(store: TrialStore, name: str) -> list[str]:
    """The jobs that ran, or were to run, this trial and no other: of each launch that sent it."""
    from sweeps.execution import job_entry
    from sweeps.state import lease as leases
    from sweeps.state.lease import WORKER
    from sweeps.state.plan import LOGS

    found: list[str] = []
    for path in matching(store.folder / LOGS, ".*.json"):
        # Other hidden files are there, and a damaged note must not hide what can be printed.
        with contextlib.suppress(InputError, OSError):
            note = job_entry.read_note(path)
            found += [job for one, job in zip(note.trials, note.jobs, strict=False) if one == name]
    with contextlib.suppress(InputError, OSError):
        lease = leases.read(store.folder / name)
        if lease is not None and lease.job and not lease.submission.startswith(WORKER):
            found.append(lease.job)
    return sorted(set(found))


def _lines(log: Path) -> list[str]:
    return read_file(log).decode(errors="replace").splitlines()


def _part(log: Path, name: str) -> Iterator[str]:
    """The lines between the marks that the worker sets around each attempt at the trial."""
    from sweeps.execution.worker import END, START

    inside = False
    for line in _lines(log):
        if START in line:
            inside = f"{START} {name}," in line
        if inside:
            yield line
        if END in line:
            inside = False


if __name__ == "__main__":
    run_command(app, shows=True)
