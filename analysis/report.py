"""python -m analysis.report: results/ to report.html, report.md, tables and figures.

The same results give the same bytes: nothing in a report depends on when or where it was made.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from local_machine.errors import (
    EXIT_DONE,
    EXIT_FLAGGED,
    InputError,
    folder_named,
    need,
    run_command,
    seldom_collect,
)

if TYPE_CHECKING:
    from analysis.whole_report import Written

SCHEMA_VERSION = 1

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        metavar="BEFORE AFTER",
        help="Set two results folders beside each other instead, before and after a change.",
    ),
]
Serve = Annotated[
    int | None,
    typer.Option(
        metavar="[PORT]",
        min=0,
        max=65535,
        help="Show it in a browser, live, until Ctrl-C; without PORT on any that is free.",
    ),
]


@app.command(epilog="With --debug an error shows its traceback.")
def report(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Sweeps; none: all of them.")
    ] = None,
    results: Annotated[
        Path,
        typer.Option(metavar="DIR", parser=folder_named, help="Where the sweeps' results lie."),
    ] = Path("results"),
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where to write; default: report/ in the results folder.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit with 1 where a finished trial is flagged; a damaged file always does.",
        ),
    ] = False,
    compare: Compare = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Write it again whenever results change, until every trial is over."
        ),
    ] = False,
    serve: Serve = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: the path, flags and problems.")
    ] = False,
) -> int:
    """Turn the results of sweeps into a report: HTML, Markdown, tables and figures."""
    need("report", "a report")
    from analysis.whole_report import one_line, write

    if watch or serve is not None:
        _refuse(as_json, compare)
        from analysis.live.watch import watch as watched

        return _code(watched(names or (), results, out or results / "report", serve), strict)
    seldom_collect()
    written = write(names or (), results, out, compare)
    print(_json(written) if as_json else one_line(str(written.path)))
    return _code(written, strict)


def _refuse(as_json: bool, compare: tuple[Path, Path] | None) -> None:
    """Raises InputError for options that ask for one report, beside those that ask for many."""
    for name, given in (("--json", as_json), ("--compare", compare is not None)):
        if given:
            raise InputError(f"{name} with --watch or --serve", "give one of them")


def _flags(written: Written) -> list[dict[str, Any]]:
    return [
        {"sweep": plan.sweep, "plan": plan.id, "trial": trial, "codes": codes}
        for plan in written.plans
        for trial, codes in zip(plan.runs["trial"], plan.runs["flags"], strict=True)
        if codes
    ]


def _json(written: Written) -> str:
    from analysis.sections.history import marks

    answer = {
        "schema_version": SCHEMA_VERSION,
        "report": str(written.path),
        "flags": _flags(written),
        "excluded": [one for study in written.studies for one in marks.to_json(study)],
        "problems": [{"what": one.what, "help": one.help} for one in written.problems],
    }
    return json.dumps(answer, indent=2)


def _code(written: Written, strict: bool) -> int:
    from analysis.whole_report import tell

    if not any(plan.runs["state"].eq("done").any() for plan in written.plans):
        tell("warning: no trial has a result yet")
        return EXIT_FLAGGED
    return EXIT_FLAGGED if written.problems or (strict and _flags(written)) else EXIT_DONE


def _with_port(words: Iterable[str]) -> list[str]:
    """`--serve` alone is `--serve 0`: typer has no option that may be given without its value."""
    given = [*words, ""]
    return [
        f"{word}=0" if word == "--serve" and not after.isdigit() else word
        for word, after in itertools.pairwise(given)
    ]


def main() -> None:
    sys.argv[1:] = _with_port(sys.argv[1:])
    run_command(app)


if __name__ == "__main__":
    main()
