"""Answer: what follows for a claim from its evidence, by rules that no single claim can bend.

A claim of order rests on comparisons, which all have to go its way. It is reproduced where seeds
tell every one of them, so that the largest p-value decides and nothing is picked; contradicted
where seeds tell one that goes the other way, its p-values adjusted by Holm for all of the claim's.
A claim of figures is contradicted where the reported run could not be one more of ours, adjusted in
the same way, and reproduced where it could and the interval of one more run is narrow enough for
that to mean anything. The claims' own p-values are then one family, which Holm's method adjusts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from analysis.cifar10.claims.evidence import Evidence
from analysis.stats.intervals import ALPHA, holm


class Standing(StrEnum):
    REPRODUCED = "reproduced"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Answer:
    standing: Standing
    p: float | None = None
    """Adjusted for the claim's own comparisons and for all claims."""
    claims: int = 0
    """For how many claims it is adjusted."""


def answers(found: Sequence[Evidence | None]) -> list[Answer]:
    """One for each claim; None stands for one that no trial speaks to."""
    raw = [None if one is None or one.why_not else claim_p(one) for one in found]
    adjusted = iter(known := holm([p for p in raw if p is not None]))
    return [
        Answer(Standing.NOT_RUN)
        if one is None or one.why_not
        else Answer(Standing.UNDECIDED)
        if p is None
        else _answer(one, next(adjusted), len(known))
        for one, p in zip(found, raw, strict=True)
    ]


def _answer(evidence: Evidence, p: float, claims: int) -> Answer:
    standing = Standing.UNDECIDED
    if p <= ALPHA:
        agrees = evidence.is_near is None and _agrees(evidence)
        standing = Standing.REPRODUCED if agrees else Standing.CONTRADICTED
    elif evidence.is_near:
        standing = Standing.REPRODUCED
    return Answer(standing, p, claims)


def _agrees(evidence: Evidence) -> bool:
    return all(one.agrees for one in evidence.comparisons)


def claim_p(evidence: Evidence) -> float | None:
    """The claim's one p-value, before the family of all claims; None where it cannot be told."""
    every = evidence.comparisons
    known = [one for one in every if one.p is not None]
    complete = len(known) == len(every) > 0
    if evidence.is_near is not None:
        return min(holm([one.p for one in known if one.p is not None]), default=None)
    against = [one for one in known if not one.agrees]
    all_one_way = _agrees(evidence) or (evidence.any_value and len(against) == len(every))
    if all_one_way:
        return max(one.p for one in known if one.p is not None) if complete else None
    if evidence.any_value or not against:
        return None
    adjusted = holm([one.p for one in known if one.p is not None])
    return min(p for one, p in zip(known, adjusted, strict=True) if not one.agrees)
