"""Every trial: what became of each that was planned."""

from __future__ import annotations

from analysis import tables, words
from analysis.load import Plan, Study
from analysis.page import Part, Table


def parts(plan: Plan, study: Study) -> list[Part]:
    return [
        Part(
            words.title(plan),
            tables=[
                Table(
                    f"{words.name(plan)}-trials",
                    f"Every planned trial of {plan.sweep}; accuracies in %, epochs from 1",
                    tables.trials(plan.runs),
                )
            ],
        )
    ]
