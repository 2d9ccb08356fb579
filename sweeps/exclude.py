"""Leave a trial out of the report's comparisons, with a reason that the report shows.

python -m sweeps.exclude SWEEP/TRIAL --reason "its node had a broken disk"
python -m sweeps.exclude SWEEP/TRIAL --undo
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from local_machine.errors import EXIT_DONE, InputError, run_command
from sweeps.cli.options import Results

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    target: Annotated[str, typer.Argument(metavar="SWEEP/TRIAL", help="The trial.")],
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; the report shows it.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Compare it again.")] = False,
    results: Results = Path("results"),
) -> int:
    """Leave a trial out of every comparison of the report. Its records stay as they are."""
    from sweeps.marks.marking import checked, target_of

    if undo == (reason is not None):
        raise InputError(
            "--reason with --undo" if undo else "nothing says why it is excluded",
            "give one of them" if undo else 'say it: --reason "its node had a broken disk"',
        )
    found = target_of(results, target)
    if found.trial is None:
        raise InputError(
            f"{found.words} is a sweep, and a trial is excluded",
            f"name one: {found.words}/TRIAL; python -m sweeps.status {found.words} shows them",
        )
    before = found.marked().excluded
    if reason is None:
        if before is None:
            raise InputError(f"{found.words} is not excluded", "there is nothing to undo")
        found.mark("include")
        print(f"{found.words}: compared again; it was {before.words}")
    else:
        after = found.mark("exclude", checked("reason", reason)).excluded
        assert after is not None
        print(f"{found.words}: {after.words}")
    return EXIT_DONE


if __name__ == "__main__":
    run_command(app)
