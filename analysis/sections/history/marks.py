"""Marks: which trials are excluded, why and by whom; notes and tags."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.data.study import Study
from analysis.output.model import Part, Table
from analysis.text.numbers import count
from trial_records.history.marks import Mark

_SHOWN = 5


def excluded(study: Study) -> list[str]:
    """How many trials are in no comparison, and why; a sentence for each reason."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for name, mark in _exclusions(study):
        by_reason.setdefault((mark.text, mark.by), []).append(f"{name} ({mark.at[:10]})")
    return [
        f"{count(len(names), 'trial')} excluded by {by}: {reason}: {_listed(names)}. No comparison "
        "and no claim of this report has a part of it."
        if len(names) == 1
        else f"{count(len(names), 'trial')} excluded by {by}: {reason}: {_listed(names)}. No "
        "comparison and no claim of this report has a part of them."
        for (reason, by), names in by_reason.items()
    ]


def to_json(study: Study) -> list[dict[str, Any]]:
    """The excluded trials."""
    return [
        {"trial": name, "reason": mark.text, "by": mark.by, "at": mark.at}
        for name, mark in _exclusions(study)
    ]


def parts(study: Study) -> list[Part]:
    """A table of all that people say of the sweeps and their trials; none where nobody does."""
    rows = []
    for sweep in study.sweeps:
        names = _names(study, sweep.name)
        of_sweep = sweep.marks.of(None)
        found = [(sweep.name, of_sweep)]
        found += [(f"{sweep.name}/{name}", sweep.marks.of(key)) for key, name in names.items()]
        rows += [
            {
                "of": name,
                "tags": ", ".join(marked.tags),
                "excluded": marked.excluded.words if marked.excluded else "",
                "notes": "\n".join(f"{one.who}: {one.text}" for one in marked.notes),
            }
            for name, marked in found
            if marked.words
        ]
    if not rows:
        return []
    caption = "Notes, tags and exclusions: what people say of sweeps and trials"
    return [Part(tables=[Table("marks", caption, pd.DataFrame(rows))])]


def _exclusions(study: Study) -> list[tuple[str, Mark]]:
    """`sweep/trial` and why, of the trials that the report's launches planned."""
    return [
        (f"{sweep.name}/{name}", sweep.marks.excluded[key])
        for sweep in study.sweeps
        for key, name in _names(study, sweep.name).items()
        if key in sweep.marks.excluded
    ]


def _names(study: Study, sweep: str) -> dict[str, str]:
    """The trials of a sweep, by fingerprint."""
    return {
        key: name
        for plan in study.plans
        if plan.sweep == sweep
        for key, name in zip(plan.runs["fingerprint"], plan.runs["trial"], strict=True)
    }


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
