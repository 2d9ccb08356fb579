"""Note something about a sweep, or about one of its trials; the report shows it.

python -m sweeps.note SWEEP "the cluster was slow"
python -m sweeps.note SWEEP/TRIAL "its loss jumped in epoch 3"
python -m sweeps.note SWEEP                               # prints the notes and tags
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from local_machine.errors import EXIT_DONE, run_command
from sweeps.cli.options import Results

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    target: Annotated[str, typer.Argument(metavar="SWEEP[/TRIAL]", help="What it is about.")],
    text: Annotated[
        str | None, typer.Argument(help="The note; without it, print what is noted.")
    ] = None,
    results: Results = Path("results"),
) -> int:
    """Note something about a sweep or a trial. Notes stay; status and the report show them."""
    from sweeps.marks.history import show
    from sweeps.marks.marking import checked, target_of

    found = target_of(results, target)
    if text is None:
        show(found)
    else:
        said = checked("note", text)
        found.mark("note", said)
        print(f"{found.words}: noted")
    return EXIT_DONE


if __name__ == "__main__":
    run_command(app)
