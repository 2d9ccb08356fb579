"""python -m analysis.report: results/ to report.html, report.md, tables and figures.

The same results give the same bytes: nothing in a report depends on when or where it was made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, folder_named, run_command, seldom_collect

if TYPE_CHECKING:
    from analysis.whole_report import Written

SCHEMA_VERSION = 1

app = typer.Typer(add_completion=False)


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
            help="Exit with 1 where a trial is flagged, too; a damaged file always does.",
        ),
    ] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="BEFORE AFTER",
            help="Set two results folders beside each other instead, before and after a change.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: the path, flags and problems.")
    ] = False,
) -> int:
    """Turn the results of sweeps into a report: HTML, Markdown, tables and figures."""
    from analysis.sections.history import marks
    from analysis.whole_report import one_line, tell, write

    seldom_collect()
    written = write(names or (), results, out, compare)
    flags = _flags(written)
    if as_json:
        answer = {
            "schema_version": SCHEMA_VERSION,
            "report": str(written.path),
            "flags": flags,
            "excluded": [one for study in written.studies for one in marks.to_json(study)],
            "problems": [{"what": one.what, "help": one.help} for one in written.problems],
        }
        print(json.dumps(answer, indent=2))
    else:
        print(one_line(str(written.path)))
    if not any(plan.runs["state"].eq("done").any() for plan in written.plans):
        tell("warning: no trial has a result yet")
        return EXIT_FLAGGED
    return EXIT_FLAGGED if written.problems or (strict and flags) else EXIT_DONE


def _flags(written: Written) -> list[dict[str, Any]]:
    return [
        {"sweep": plan.sweep, "plan": plan.id, "trial": trial, "codes": codes}
        for plan in written.plans
        for trial, codes in zip(plan.runs["trial"], plan.runs["flags"], strict=True)
        if codes
    ]


def main() -> None:
    run_command(app)


if __name__ == "__main__":
    main()
