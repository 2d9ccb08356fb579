"""Progress: which trials have no result yet, how far each has come, and why it stands there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pandas as pd

from analysis.data.progress import Unfinished
from analysis.data.study import Plan, Study
from analysis.output.model import Look, Part, Section, Table
from analysis.sections import wording
from analysis.text.numbers import count

TITLE = "Progress"
# In the order in which a reader wants them.
_ORDER = ("running", "queued", "lost", "failed", "unknown", "pending")


def progress(study: Study) -> Section:
    """A part for each launch that has trials without a result; those that a search pruned have all
    that it wanted of them."""
    plans = [plan for plan in study.plans if _open(plan)]
    return Section(TITLE, [_part(plan) for plan in plans], _finding(plans), Look.OPEN)


def _finding(plans: list[Plan]) -> str:
    states = Counter(one.state for plan in plans for one in _open(plan))
    return ", ".join(f"{states[one]} {one}" for one in _ORDER if states[one]) + "."


def _open(plan: Plan) -> list[Unfinished]:
    found = [one for one in plan.progress.trials if one.state in _ORDER]
    return sorted(found, key=lambda one: _ORDER.index(one.state))


def _part(plan: Plan) -> Part:
    found = _open(plan)
    states = Counter(plan.runs["state"])
    told = ", ".join(f"{states[one]} {one}" for one in ("done", "pruned", *_ORDER) if states[one])
    said = f"{count(len(plan.runs), 'trial')}: {told}."
    if plan.progress.seconds_left is not None:
        said += f" About {_duration(plan.progress.seconds_left)} left."
    begun = [one for one in found if one.state != "pending" or one.done or one.reason]
    waiting = len(found) - len(begun)
    if begun and waiting:
        said += f" {count(waiting, 'trial')} not begun: not in this table."
    return Part(wording.title(plan), [said], [_table(plan, begun)] * bool(begun))


def _table(plan: Plan, found: list[Unfinished]) -> Table:
    column, last = _last(plan)
    unit = "epoch" if plan.is_trainers else (plan.task.budget or "rows").rpartition(".")[2]
    rows = [
        {
            "trial": one.trial,
            "state": one.state,
            unit: str(one.done) if one.planned is None else f"{one.done} of {one.planned}",
            column: last.get(one.trial),
            "reason": one.reason,
        }
        for one in found
    ]
    caption = f"Trials of {plan.sweep} without a result yet; {unit}: how many of how many are over"
    caption += "; validation: accuracy (%) after the last of them" * plan.is_trainers
    return Table(f"{wording.name(plan)}-progress", caption, pd.DataFrame(rows))


def _last(plan: Plan) -> tuple[str, Mapping[str, float]]:
    """The value of the objective's metric that each trial logged last, under its column's name."""
    if plan.is_trainers:
        found = plan.epochs.groupby("trial", observed=True)["val_accuracy"].last()
        return "validation", dict(found)
    metric, rows = plan.task.metric or "value", plan.logged
    if rows.empty:
        return f"last {metric}", {}
    found = rows[rows["metric"] == metric].groupby("trial", observed=True)["value"].last()
    return f"last {metric}", {str(name): float(f"{value:.6g}") for name, value in found.items()}


def _duration(seconds: float) -> str:
    """`40 s`, `3 min`, `2.5 h`: no more digits than the guess deserves."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
