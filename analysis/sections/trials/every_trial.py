"""Every trial: what became of each that was planned."""

from __future__ import annotations

from analysis.data.study import Plan, Study
from analysis.output.model import Part, Table
from analysis.sections import wording
from analysis.stats import summary_tables


def parts(plan: Plan, study: Study) -> list[Part]:
    return [
        Part(
            wording.title(plan),
            tables=[
                Table(
                    f"{wording.name(plan)}-trials",
                    f"Every planned trial of {plan.sweep}; accuracies in %, epochs from 1",
                    summary_tables.trials(plan.runs),
                    best=("validation", "maximize"),
                )
            ],
        )
    ]
