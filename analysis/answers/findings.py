"""Finding: what a reader who leaves a section closed knows of it, in one line, by a rule each."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.answers.answer import Answer, Sure, winner
from analysis.answers.first_screen import state
from analysis.data.study import Plan, Study
from analysis.output.model import Section
from analysis.text.numbers import count

_MOST = 3


def of_launches(plans: Sequence[Plan], answers: Sequence[Answer]) -> str:
    """The best point of each launch, and how sure its lead is; of many launches the first ones."""
    mine = [one for one in answers if any(one.plan is plan for plan in plans)]
    said = [_of_launch(one) for one in mine[:_MOST]]
    more = len(mine) - _MOST
    return "; ".join(said) + (
        f"; and {count(more, 'more launch', 'more launches')}." if more > 0 else "."
    )


def _of_launch(found: Answer) -> str:
    name = found.plan.sweep
    if not found.values:
        return f"{name}: no result yet"
    if not found.best:
        return f"{name}: {found.worded(found.mean)} over {count(len(found.values), 'seed')}"
    said = f"{name}: {winner(found.plan, found.best)}, {found.worded(found.mean)}"
    if found.sure is Sure.NOTHING:
        return said
    sure = (
        "its lead has not enough seeds"
        if found.sure is Sure.FEW_SEEDS
        else f"its lead is {found.sure}"
    )
    return f"{said}, {sure}"


def every_trial(study: Study) -> str:
    return state(study.trials)


def chosen(section: Section) -> str:
    """What the last stage of a study chose."""
    parts = section.parts
    frame = parts[-1].tables[0].frame
    last = frame.iloc[-1]
    return f"{count(len(frame), 'stage')}; the last, {last['stage']}, chose {last['chosen']}."


def sources(study: Study) -> str:
    """On how many devices, and by how many versions of the code, the trials ran."""
    runs = study.trials
    devices, commits = (int(runs[name].dropna().nunique()) for name in ("device", "git_commit"))
    told = [count(n, word) for n, word in ((devices, "device"), (commits, "commit")) if n]
    return (
        f"{count(len(study.plans), 'launch', 'launches')}"
        + "".join(f", {one}" for one in told)
        + "."
    )


def problems(study: Study) -> str:
    n = len(study.problems)
    return f"{count(n, 'file')} could not be used." if n else "Every file was read."
