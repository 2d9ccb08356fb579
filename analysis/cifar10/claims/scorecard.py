"""Scorecard: each claim of the reported study, its answer, and in a few words why."""

from __future__ import annotations

import pandas as pd

from analysis.cifar10.claims.answers import Standing
from analysis.cifar10.claims.every_claim import Answered
from analysis.output.model import Look, Part, Section, Table
from analysis.text.numbers import be, count, p_value

# What asks a claim, at full scale, in hours of one NVIDIA H100 80GB HBM3: predicted by the roofline
# with that GPU's measured peaks and the WRN-28-10 trial that ran there (docs/study.md), by trial.
H100_HOURS = {
    "grid_bs_epoch --seeds 3": 0.69,
    "weight_decay --seeds 3": 2.87,
    "architectures --seeds 3": 0.93,
    "mixup --seeds 3": 0.23,
    "schedules --seeds 3": 0.23,
    "wrn_final --seeds 5": 0.58,
}


def scorecard(found: list[Answered]) -> Section:
    rows = [
        {
            "claim": one.statement,
            "answer": str(one.answer.standing),
            "why": reason(one),
            "GPU-hours to ask": H100_HOURS[one.command] if _is_open(one) else None,
        }
        for one in found
    ]
    table = Table("scorecard", "The claims of the reported study, in brief", pd.DataFrame(rows))
    notes = []
    if open_ := {one.command for one in found if _is_open(one)}:
        hours = sum(H100_HOURS[command] for command in open_)
        notes.append(
            f"GPU-hours are predicted for one H100: {hours:.1f} for all that is not run, since "
            "claims that one sweep asks share its hours. On other devices they are not known."
        )
    return Section(
        "Reported claims", [Part("", tables=[table], footnotes=notes)], counts(found), Look.OPEN
    )


def _is_open(one: Answered) -> bool:
    return one.answer.standing is Standing.NOT_RUN


def hours_left(one: Answered) -> float | None:
    """GPU-hours that would answer it: of all that asks it, or of the seeds that are missing. None
    where it is answered, or how many seeds would answer it is not known."""
    hours, asked = H100_HOURS[one.command], int(one.command.rpartition(" ")[2])
    if _is_open(one):
        return hours
    if one.answer.standing is not Standing.UNDECIDED or one.answer.p is not None:
        return None
    seeds = min((by.seeds for by in one.evidence.by), default=0) if one.evidence else 0
    return hours * (1 - seeds / asked) if seeds < asked else None


def counts(found: list[Answered]) -> str:
    """`Of 16 reported claims, 3 are reproduced and 13 not run.`"""
    if all(map(_is_open, found)):
        claims = "1 claim is" if len(found) == 1 else f"{len(found)} claims are"
        return f"No trial here compares with the reported study, so its {claims} not tested."
    of = {one: sum(one is each.answer.standing for each in found) for one in Standing}
    (first, n), *rest = [(str(one), n) for one, n in of.items() if n]
    told = [f"{n} {be(n)} {first}", *(f"{n} {one}" for one, n in rest)]
    listed = told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"
    return f"Of {count(len(found), 'reported claim')}, {listed}."


def reason(one: Answered) -> str:
    """One line."""
    answer, evidence = one.answer, one.evidence
    if answer.standing is Standing.NOT_RUN:
        name = one.command.split()[0]
        if evidence is None:
            return f"no {name} here"
        why = _first(evidence.why_not)
        at = f"at {why} only" if why.endswith(" scale") else f"with {why}"
        return f"{name} ran {at}"
    if answer.p is None:
        return "too few seeds or trials for a test"
    if answer.standing is Standing.UNDECIDED:
        return f"seeds do not tell (p {p_value(answer.p)})"
    if evidence is not None and evidence.is_near:
        return "the reported figures may be one more run of ours"
    return f"p {p_value(answer.p)} after Holm for all claims"


def _first(why: tuple[str, ...]) -> str:
    """The first reason stands for all of them."""
    return why[0] if len(why[0]) <= 40 else why[0].partition(":")[0]
