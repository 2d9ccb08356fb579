"""Own scale: what trials below full scale answer to the claims of order, of their scale alone.

They are not evidence about the reported study, whose networks, epochs or images are others: a claim
that holds here may not hold there.
"""

from __future__ import annotations

from dataclasses import replace

from analysis.cifar10.claims.answers import Answer, answers
from analysis.cifar10.claims.every_claim import Answered
from analysis.cifar10.claims.evidence import Evidence


def at_own_scale(found: list[Answered]) -> list[Answer | None]:
    """One for each claim, by the same rules, adjusted for all that are asked so; None where the
    claim is one of figures, which another scale cannot have, or is not asked below full scale."""
    asked = [_asked(one.evidence) for one in found]
    answered = answers([None if one is None else replace(one, why_not=()) for one in asked])
    return [None if one is None else answer for one, answer in zip(asked, answered, strict=True)]


def _asked(evidence: Evidence | None) -> Evidence | None:
    """Where nothing but its scale keeps it from being evidence about the reported study."""
    if evidence is None or evidence.is_near is not None:
        return None
    scales = {f"{one.scale} scale" for one in evidence.by}
    return evidence if evidence.why_not and set(evidence.why_not) <= scales else None
