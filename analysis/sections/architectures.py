"""Architectures: every model beside what was reported of it."""

from __future__ import annotations

from analysis import tables, words
from analysis.load import Plan, Study, reported
from analysis.page import Part, Table
from analysis.sections.sweep import choice, curve_pictures, notes


def parts(plan: Plan, study: Study) -> list[Part]:
    """Draws every figure."""
    table = tables.architectures(plan.runs, reported()["architectures"])
    caption = f"Accuracy (%) of the architectures of {plan.sweep}: mean ± sd over seeds"
    return [
        Part(
            words.title(plan),
            [words.preface(plan), choice(table, ["model"])],
            [Table(words.name(plan), caption, table)],
            curve_pictures(plan),
            [
                "train: running mean over the augmented images of the best epoch. "
                "train clean: plain training images under the tested weights. "
                "The study does not say which its training accuracy is.",
                *notes(table),
            ],
        )
    ]
