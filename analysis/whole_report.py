"""The whole report: from results folders to a page, and to the files of its folder."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from local_machine.errors import InputError, folder_named

if TYPE_CHECKING:
    from analysis.answers.answer import Answer
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
    from analysis.answers import at_a_glance, findings, first_screen
    from analysis.output.model import Section
    from analysis.output.page import Page
    from analysis.sections import any_task, predicted
    from analysis.sections.choices import choices
    from analysis.sections.history import launches as launch_changes
    from analysis.sections.history import marks
    from analysis.sections.provenance import problems, provenance
    from analysis.sections.summary import summary
    from analysis.sections.trials.progress import progress

    answers = first_screen.answers(study)
    first = first_screen.main(answers)
    ours, others = study.of_trainer, [plan for plan in study.plans if not plan.is_trainers]
    about_all, beside, sections = _of_trainer(ours, answers) if ours.plans else ([], [], [])
    if others:
        parts = [
            part
            for plan in others
            for part in (*any_task.parts(plan), *predicted.parts(plan, study))
        ]
        name = "Other tasks" if ours.plans else "Sweeps"
        sections.append(Section(name, parts, findings.of_launches(others, answers)))
    chosen, standing = choices(study), progress(study)
    if chosen.parts:
        sections.insert(0, replace(chosen, finding=findings.chosen(chosen)))
    if standing.parts:
        sections.insert(0, standing)
    history = [*marks.parts(study), *launch_changes.parts(study)]
    sections += [
        *about_all,
        summary(study),
        Section("Every trial", _trials(study), findings.every_trial(study)),
        *([Section("Notes and launches", history)] if history else []),
        replace(provenance(study), finding=findings.sources(study)),
    ]
    anchors = {
        part.title: anchor
        for section in reversed(sections)
        for part, anchor in zip(section.parts, section.anchors, strict=True)
    }
    lead, answer = first_screen.first_screen(study, answers, beside, anchors)
    return Page(
        first_screen.title(study),
        [
            at_a_glance.best_configuration(study, first),
            at_a_glance.flagged(study),
            at_a_glance.costs(study),
            *sections,
            # Last, since the sections before read further files.
            replace(problems(study), finding=findings.problems(study)),
        ],
        lead,
        first_screen.about(study),
        answer,
    )


def _trials(study: Study) -> list[Part]:
    """All trials of each launch, in a table and in a chart to explore."""
    from analysis.interactive.parts import charts
    from analysis.sections import any_task
    from analysis.sections.trials import every_trial

    ours, others = study.of_trainer, [plan for plan in study.plans if not plan.is_trainers]
    parts = [part for plan in ours.plans for part in every_trial.parts(plan, ours)]
    parts += [part for plan in others for part in any_task.trials(plan)]
    for plan, part in zip([*ours.plans, *others], parts, strict=True):
        part.interactive.extend(charts(plan, study))
    return parts


def _of_trainer(
    study: Study, answers: list[Answer]
) -> tuple[list[Section], list[str], list[Section]]:
    """Of the launches of the task that comes with the project: the sections about all of them, what
    the first screen says beside what was reported, and the sections about each."""
    from analysis.answers import findings
    from analysis.cifar10 import ablations, architectures, diagnostics, grid, weight_decay
    from analysis.cifar10.claims.every_claim import answered
    from analysis.cifar10.claims.scorecard import counts, scorecard
    from analysis.cifar10.claims.section import claims
    from analysis.cifar10.claims.verdict import verdict
    from analysis.cifar10.discrepancies import discrepancies
    from analysis.output.model import Part, Section
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
    launches = []
    for one, module in drawn_by.items():
        plans = [plan for plan in study.plans if kind(plan) is one]
        parts = [part for plan in plans for part in module.parts(plan, study)]
        if parts:
            launches.append(Section(str(one), parts, findings.of_launches(plans, answers)))
    found = answered(study)
    about_all = [
        Section("In words", [Part("", verdict(study, found))], "Each sweep in a paragraph."),
        *diagnostics.sections(study),
        claims(study, found),
        discrepancies(study),
        cost(study),
    ]
    return about_all, [counts(found)], [scorecard(found), *launches]
