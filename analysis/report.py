"""python -m analysis.report: results/ to report.html, report.md, tables and figures.

The same results give the same bytes: nothing in a report depends on when or where it was made.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.errors import EXIT_DONE, EXIT_FLAGGED, run_command

if TYPE_CHECKING:
    from analysis.load import Study
    from analysis.page import Page, Part

SCHEMA_VERSION = 1

app = typer.Typer(add_completion=False)


@app.command(epilog="With --debug an error shows its traceback.")
def report(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Sweeps; none: all of them.")
    ] = None,
    results: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the sweeps' results lie.")
    ] = Path("results"),
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write; default: report/ in the results folder."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 where anything is flagged or damaged.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: the path, flags and problems.")
    ] = False,
) -> int:
    """Turn the results of sweeps into a report: HTML, Markdown, tables and figures."""
    from analysis.load import load

    print(f"reading {results}", file=sys.stderr)
    study = load(results, list(dict.fromkeys(names or [])))
    for problem in study.problems:
        print(f"warning: {problem.what}", file=sys.stderr)
    print(f"drawing {sum(len(plan.runs) for plan in study.plans)} trials", file=sys.stderr)
    path = build(study).write(out or results / "report")
    flags = [
        {"sweep": plan.sweep, "plan": plan.id, "trial": trial, "codes": codes}
        for plan in study.plans
        for trial, codes in zip(plan.runs["trial"], plan.runs["flags"], strict=True)
        if codes
    ]
    if as_json:
        answer = {
            "schema_version": SCHEMA_VERSION,
            "report": str(path),
            "flags": flags,
            "problems": [{"what": one.what, "help": one.help} for one in study.problems],
        }
        print(json.dumps(answer, indent=2))
    else:
        print(path)
    return EXIT_FLAGGED if strict and (flags or study.problems) else EXIT_DONE


def build(study: Study) -> Page:
    """The report's page. Draws every figure."""
    from analysis.kind import Kind, kind
    from analysis.page import Page, Section
    from analysis.sections import (
        architectures,
        grid,
        provenance,
        search,
        summary,
        sweep,
        trials,
    )

    rooms = {
        Kind.GRID: grid,
        Kind.ARCHITECTURES: architectures,
    }
    found: dict[Kind, list[Part]] = {one: [] for one in Kind}
    for plan in study.plans:
        room = search if plan.search is not None else rooms.get(kind(plan), sweep)
        found[kind(plan)] += room.parts(plan, study)
    everything = [part for plan in study.plans for part in trials.parts(plan, study)]
    return Page(
        "Report on " + ", ".join(sweep.name for sweep in study.sweeps),
        [
            summary.summary(study),
            *(Section(str(one), parts) for one, parts in found.items() if parts),
            Section("Every trial", everything),
            provenance.provenance(study),
            # Last, since the sections before read further files.
            provenance.problems(study),
        ],
    )


def main() -> None:
    run_command(app)


if __name__ == "__main__":
    main()
