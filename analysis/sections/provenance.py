"""Provenance: commands, versions, devices, and the files that could not be used."""

from __future__ import annotations

import pandas as pd

from analysis.data import dataset
from analysis.data.study import Plan, Study
from analysis.output.model import Part, Section, Table
from analysis.sections import wording
from analysis.stats import summary_tables
from analysis.text import words
from analysis.text.numbers import count, have, plural


def provenance(study: Study) -> Section:
    launches = [
        {
            "sweep": plan.sweep,
            "launch": plan.id,
            "created": plan.created,
            "overrides": wording.overrides(plan),
            "seeds": ", ".join(map(str, plan.seeds)),
            "command": plan.command,
        }
        for plan in study.plans
    ]
    runs, ours = study.trials, study.of_trainer
    notes = [
        *(dataset.notes(ours.trials) if ours.plans else []),
        *_of_attempts(runs),
        *_of_resumed(runs),
        *_late(study),
        *_adopted(study),
        *(note for plan in study.plans for note in _unlike(plan)),
        *_left_out(study),
    ]
    sources = summary_tables.sources(runs)
    if not ours.plans:
        # Only the trainer says what it evaluated, on which images.
        sources = sources.dropna(axis="columns", how="all")
    tables = [
        Table("commands", "The commands that planned the trials", pd.DataFrame(launches)),
        Table("sources", "What the finished trials ran on", sources),
    ]
    if (rerun := _rerun(study)) is not None:
        tables.append(rerun)
    return Section("Provenance", [Part(notes=notes, tables=tables)])


_MIXED = {
    "MIXED_CODE": "by attempts of different code",
    "MIXED_DEVICE": "by attempts on different devices, in different arithmetic or on different "
    "numbers of ranks",
}


def _of_attempts(runs: pd.DataFrame) -> list[str]:
    """Trials of code that no commit names, or of more than one code or device."""
    notes = []
    if runs["git_dirty"].eq(True).any():
        notes.append("Some trials ran with uncommitted changes: their commit does not tell all.")
    for flag, what in _MIXED.items():
        if mixed := sum(flag in codes for codes in runs["flags"]):
            notes.append(f"{count(mixed, 'trial')} finished {what} ({flag}).")
    if elsewhere := int(summary_tables.evaluated_elsewhere(runs).sum()):
        notes.append(
            f"The predictions and test figures of {count(elsewhere, 'trial')} were made on another "
            "device, or in other arithmetic, than the training."
        )
    return notes


def _of_resumed(runs: pd.DataFrame) -> list[str]:
    """How many trials were resumed, and of how many it is known to have changed nothing."""
    exact, unverified = (int(runs["exactness"].eq(word).sum()) for word in ("exact", "unverified"))
    if not exact + unverified:
        return []
    return [
        f"{count(exact + unverified, 'trial')} {have(exact + unverified)} several attempts: "
        f"{exact} exact, {unverified} unverified. Exact: the task declares that a resumed trial "
        "computes what an undisturbed one does, and the trial was run again bit for bit, or others "
        "by the same code on such a machine were, and none differed. Unverified: resumed, not "
        "verified."
    ]


def _rerun(study: Study) -> Table | None:
    """What came of running finished trials again."""
    rows = [
        {
            "sweep": sweep.name,
            "trial": one.trial,
            "verified": one.verified_at,
            "attempts": one.attempts,
            "outcome": {"equal": "bit for bit", "close": "within the tolerance"}.get(
                one.outcome, "not reproduced"
            ),
            "tolerance %": None if one.tolerance is None else 100 * one.tolerance,
            "largest %": None if one.largest is None else float(f"{100 * one.largest:.3g}"),
            "same code": {True: "yes", False: "no", None: "not known"}[one.is_same_code],
            "rerun on": one.rerun.get("device"),
            "first difference": "" if one.difference is None else one.difference.words,
        }
        for sweep in study.sweeps
        for one in sweep.verified
    ]
    if not rows:
        return None
    caption = (
        "Trials that were run again by sweeps.verify. Tolerance and largest difference are parts "
        "of the largest value in a column; without a tolerance, bits were compared"
    )
    return Table("verified", caption, pd.DataFrame(rows))


def _late(study: Study) -> list[str]:
    return [
        f"{sweep.name}: the plan of {count(len(sweep.late), 'trial')} was written after "
        f"{plural(len(sweep.late), 'it', 'they')} had finished."
        for sweep in study.sweeps
        if sweep.late
    ]


def _adopted(study: Study) -> list[str]:
    return [
        f"{plan.sweep}: {count(len(plan.runs), 'run')} from elsewhere, adopted as files. What "
        "trained them, on what and for how long, is not known; nor is whether there were more."
        for plan in study.plans
        if plan.task.is_adopted
    ]


def _unlike(plan: Plan) -> list[str]:
    """In what the trials of one launch differ that should be alike."""
    of = f"The trials of {plan.sweep} ({plan.id})"
    notes = []
    if (plan.runs.groupby("data")["split_sha256"].nunique() > 1).any():
        notes.append(f"{of} do not share one split into training and validation images.")
    for column, noun in (
        ("precision_used", "precisions"),
        ("step_used", "kinds of step"),
        ("world_size", "numbers of ranks"),
    ):
        ran = plan.runs[column].dropna()
        if ran.nunique() > 1:
            notes.append(f"{of} ran with different {noun}: {words.values(ran.sort_values())}.")
    return notes


def _left_out(study: Study) -> list[str]:
    notes = [
        f"{sweep.name}: left out since another launch holds all of their trials: "
        + ", ".join(sweep.superseded)
        for sweep in study.sweeps
        if sweep.superseded
    ]
    if undigested := sum(len(sweep.undigested) for sweep in study.sweeps):
        notes.append(
            f"The files of {count(undigested, 'trial')} are from before files had digests of their "
            "values: only the checksums of their pages were verified."
        )
    return notes


def problems(study: Study) -> Section:
    if not study.problems:
        return Section("Problems", [])
    rows = [{"file": one.what, "what to do": one.help} for one in study.problems]
    notes = ["These files could not be used. They were left in place; the rest was used."]
    table = Table("problems", "Files that could not be used", pd.DataFrame(rows))
    return Section("Problems", [Part(notes=notes, tables=[table])])
