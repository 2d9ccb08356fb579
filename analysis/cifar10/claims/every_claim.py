"""Every claim of the reference study, and what a report's trials answer to each."""

from __future__ import annotations

from typing import NamedTuple

from analysis.cifar10.claims import final_runs, models, settings
from analysis.cifar10.claims.answers import Answer, Standing, answers
from analysis.cifar10.claims.evidence import Evidence
from analysis.cifar10.reported import reported
from analysis.data.study import Study

CLAIMS = settings.CLAIMS + models.CLAIMS + final_runs.CLAIMS


class Answered(NamedTuple):
    statement: str
    where: str
    """It is reported."""
    evidence: Evidence | None
    answer: Answer
    command: str
    """What would ask."""


def answered(study: Study) -> list[Answered]:
    known = reported()
    found = [claim.looks(study, known) for claim in CLAIMS]
    return [
        Answered(claim.says(known), claim.where, evidence, answer, claim.command)
        for claim, evidence, answer in zip(CLAIMS, found, answers(found), strict=True)
    ]


def summary(found: list[Answered]) -> str:
    """How many claims have which answer, and which are reproduced or contradicted."""
    said = []
    for standing in Standing:
        of_it = [one.statement for one in found if one.answer.standing is standing]
        named = standing in (Standing.REPRODUCED, Standing.CONTRADICTED) and of_it
        which = f" ({' '.join(of_it)})" if named else ""
        said += [f"{len(of_it)} {standing}{which}"] * bool(of_it)
    return f"Of {len(found)} claims of the reported study: {'; '.join(said)}."
