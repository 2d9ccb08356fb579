"""Tag a sweep or one of its trials; status and the report show its tags.

python -m sweeps.tag SWEEP[/TRIAL] baseline paper
python -m sweeps.tag SWEEP[/TRIAL] paper --remove
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from local_machine.errors import EXIT_DONE, InputError, nearest, run_command
from sweeps.cli.options import Results

_TAG = re.compile(r"\w[\w.:+/-]{0,39}")

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    target: Annotated[str, typer.Argument(metavar="SWEEP[/TRIAL]", help="What is tagged.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="TAG...", help="None: print its tags.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take these tags off.")] = False,
    results: Results = Path("results"),
) -> int:
    """Tag a sweep or a trial, or take tags off."""
    from sweeps.marks.marking import target_of

    found = target_of(results, target)
    tags = found.marked().tags
    if words:
        _check(words, tags if remove else None, found.words)
        tags = found.mark("untag" if remove else "tag", tags=list(dict.fromkeys(words))).tags
    elif remove:
        raise InputError("--remove without a tag", "name the tags to take off")
    print(f"{found.words}: {', '.join(tags) or 'no tags'}")
    return EXIT_DONE


def _check(words: list[str], there: list[str] | None, where: str) -> None:
    """Raises InputError for what is not a valid tag, and where one of them is to be taken off and
    is not among those that are there."""
    for word in words:
        if there is not None:
            if word not in there:
                help_line = nearest(word, there) if there else "it has no tags"
                raise InputError(f"{where} has no tag {word!r}", help_line)
        elif not _TAG.fullmatch(word):
            raise InputError(
                f"{word!r} is not a valid tag",
                "use at most 40 letters, digits and _ . : + / -, beginning with a letter or digit; "
                "a sentence is a note: python -m sweeps.note",
            )


if __name__ == "__main__":
    run_command(app)
