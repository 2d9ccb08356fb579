"""The whole report: from results folders to a page, and to the files of its folder."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local_machine.errors import InputError, folder_named

if TYPE_CHECKING:
    from analysis.data.study import Plan, Study
    from analysis.output.model import Part, Section
    from analysis.output.page import Page


@dataclass(frozen=True)
class Written:
    """A report on disk, and what it was made from."""

    path: Path
    """Of report.html."""
    studies: list[Study]

    @property
    def problems(self) -> list[InputError]:
        return [problem for study in self.studies for problem in study.problems]

    @property
    def plans(self) -> list[Plan]:
        return [plan for study in self.studies for plan in study.plans]


def write(
    names: Iterable[str],
    results: Path,
    out: Path | None = None,
    compare: tuple[Path, Path] | None = None,
) -> Written:
    """As `analysis.write_report`, with what the report was made from."""
    from analysis.output.publish import check_out

    chosen = list(dict.fromkeys(names))
    folders = [results] if compare is None else [folder_named(folder) for folder in compare]
    out = out or (results / "report" if compare is None else compare[1] / "comparison")
    studies = [read(folder, chosen) for folder in folders]
    check_out(out)
    from analysis.sections.comparison import comparison

    page = build(*studies) if compare is None else comparison(*studies)
    written = Written(out / "report.html", studies)
    # Only now: drawing reads further files.
    for problem in written.problems:
        tell(f"warning: {problem.what}")
    page.write(out)
    return written


def read(results: Path, names: list[str]) -> Study:
    from analysis.cifar10.task import load

    tell(f"reading {results}")
    study = load(results, names)
    tell(f"drawing {sum(len(plan.runs) for plan in study.plans)} trials")
    return study


def tell(text: str) -> None:
    print(one_line(text), file=sys.stderr)


def one_line(text: str) -> str:
    """What a terminal would obey in a file's words is not passed on."""
    return "".join(char if char.isprintable() else "?" for char in text)


def build(study: Study) -> Page:
    """The report's page. Draws every figure."""
    from analysis.output.model import Section
    from analysis.output.page import Page
    from analysis.sections import any_task, predicted
    from analysis.sections.choices import choices
    from analysis.sections.provenance import problems, provenance
    from analysis.sections.summary import summary
    from analysis.sections.trials import every_trial
    from analysis.sections.trials.progress import progress

    ours, others = study.of_trainer, [plan for plan in study.plans if not plan.is_trainers]
    launches, conclusions, lead = _of_trainer(ours) if ours.plans else ([], [], [])
    if others:
        parts = [
            part
            for plan in others
            for part in (*any_task.parts(plan), *predicted.parts(plan, study))
        ]
        launches.append(Section("Other tasks" if ours.plans else "Sweeps", parts))
    chosen, standing = choices(study), progress(study)
    everything = [part for plan in ours.plans for part in every_trial.parts(plan, ours)]
    everything += [part for plan in others for part in any_task.trials(plan)]
    return Page(
        "Report on " + ", ".join(sweep.name for sweep in study.sweeps),
        [
            summary(study),
            *([standing] if standing.parts else []),
            *([chosen] if chosen.parts else []),
            *launches,
            *conclusions,
            Section("Every trial", everything),
            provenance(study),
            # Last, since the sections before read further files.
            problems(study),
        ],
        lead=lead,
    )


def _of_trainer(study: Study) -> tuple[list[Section], list[Section], list[str]]:
    """Of the launches of the task that comes with the project: the sections about each, those
    about all of them, and what a reader reads first."""
    from analysis.cifar10 import ablations, architectures, diagnostics, grid, weight_decay
    from analysis.cifar10.claims.every_claim import answered
    from analysis.cifar10.claims.section import claims
    from analysis.cifar10.claims.verdict import verdict
    from analysis.cifar10.discrepancies import discrepancies
    from analysis.output.model import Section
    from analysis.sections import sweep
    from analysis.sections.cost import cost
    from analysis.sections.routing import Kind, kind
    from analysis.sections.search import section as search

    drawn_by = {
        Kind.GRID: grid,
        Kind.ARCHITECTURES: architectures,
        Kind.DECAY: weight_decay,
        Kind.ABLATION: ablations,
        Kind.SEARCH: search,
        Kind.SWEEP: sweep,
    }
    found: dict[Kind, list[Part]] = {one: [] for one in Kind}
    for plan in study.plans:
        if kind(plan) in drawn_by:
            found[kind(plan)] += drawn_by[kind(plan)].parts(plan, study)
    answers = answered(study)
    launches = [Section(str(one), parts) for one, parts in found.items() if parts]
    conclusions = [
        *diagnostics.sections(study), claims(study, answers), discrepancies(study), cost(study),
    ]  # fmt: skip
    return launches, conclusions, verdict(study, answers)
