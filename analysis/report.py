"""python -m analysis.report: results/ to report.html, report.md, tables and figures.

The same results give the same bytes: nothing in a report depends on when or where it was made.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local_machine.errors import EXIT_DONE, EXIT_FLAGGED, folder_named, run_command, seldom_collect

if TYPE_CHECKING:
    from analysis.data.study import Study
    from analysis.output.model import Part
    from analysis.output.page import Page

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
    from analysis.output.publish import check_out

    chosen = list(dict.fromkeys(names or []))
    if compare is None:
        studies = [_read(results, chosen)]
        out = out or results / "report"
        check_out(out)
        page = build(*studies)
    else:
        from analysis.sections.comparison import comparison

        studies = [_read(folder, chosen) for folder in map(folder_named, compare)]
        out = out or compare[1] / "comparison"
        check_out(out)
        page = comparison(*studies)
    # Only now: drawing reads further files.
    problems = [problem for study in studies for problem in study.problems]
    for problem in problems:
        print(_line(f"warning: {problem.what}"), file=sys.stderr)
    path = page.write(out)
    plans = [plan for study in studies for plan in study.plans]
    flags = [
        {"sweep": plan.sweep, "plan": plan.id, "trial": trial, "codes": codes}
        for plan in plans
        for trial, codes in zip(plan.runs["trial"], plan.runs["flags"], strict=True)
        if codes
    ]
    if as_json:
        answer = {
            "schema_version": SCHEMA_VERSION,
            "report": str(path),
            "flags": flags,
            "problems": [{"what": one.what, "help": one.help} for one in problems],
        }
        print(json.dumps(answer, indent=2))
    else:
        print(_line(str(path)))
    if not any(plan.runs["state"].eq("done").any() for plan in plans):
        print("warning: no trial has a result yet", file=sys.stderr)
        return EXIT_FLAGGED
    return EXIT_FLAGGED if problems or (strict and flags) else EXIT_DONE


def _line(text: str) -> str:
    """One line; what a terminal would obey in a file's words is not passed on."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _read(results: Path, names: list[str]) -> Study:
    from analysis.data.study import load

    seldom_collect()
    print(_line(f"reading {results}"), file=sys.stderr)
    study = load(results, names)
    print(f"drawing {sum(len(plan.runs) for plan in study.plans)} trials", file=sys.stderr)
    return study


def build(study: Study) -> Page:
    """The report's page. Draws every figure."""
    from analysis.cifar10 import ablations, architectures, grid, weight_decay
    from analysis.cifar10.claims_section import claims
    from analysis.cifar10.discrepancies import discrepancies
    from analysis.output.model import Section
    from analysis.output.page import Page
    from analysis.sections import diagnostics, search, sweep, trials
    from analysis.sections.choices import choices
    from analysis.sections.conclusions import conclusions
    from analysis.sections.cost import cost
    from analysis.sections.provenance import problems, provenance
    from analysis.sections.routing import Kind, kind
    from analysis.sections.summary import summary

    rooms = {
        Kind.GRID: grid,
        Kind.ARCHITECTURES: architectures,
        Kind.DECAY: weight_decay,
        Kind.ABLATION: ablations,
        Kind.SEARCH: search,
        Kind.SWEEP: sweep,
    }
    found: dict[Kind, list[Part]] = {one: [] for one in Kind}
    for plan in study.plans:
        if kind(plan) in rooms:
            found[kind(plan)] += rooms[kind(plan)].parts(plan, study)
    chosen = choices(study)
    everything = [part for plan in study.plans for part in trials.parts(plan, study)]
    return Page(
        "Report on " + ", ".join(sweep.name for sweep in study.sweeps),
        [
            summary(study),
            *([chosen] if chosen.parts else []),
            *(Section(str(one), parts) for one, parts in found.items() if parts),
            *diagnostics.sections(study),
            claims(study),
            discrepancies(study),
            cost(study),
            Section("Every trial", everything),
            provenance(study),
            # Last, since the sections before read further files.
            problems(study),
        ],
        lead=conclusions(study),
    )


def main() -> None:
    run_command(app)


if __name__ == "__main__":
    main()
