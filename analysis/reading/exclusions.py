"""Excluded trials: their records are left out before anything is compared, and it is said why.

The one place where this is done: all that follows finds such a trial as one without a result, in
the state `excluded`, with the reason and the person in `failure`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.data.study import Plan
from trial_records.history.marks import Marks

EXCLUDED = "excluded"
_TOLD = ("state", "failure", "flags")


def without(runs: pd.DataFrame, marks: Marks) -> pd.DataFrame:
    """The runs of the trials that are not excluded."""
    return runs[~runs["fingerprint"].isin(list(marks.excluded))]


def told(plan: Plan, marks: Marks) -> Plan:
    """The launch, with the column `marked`, and of the excluded trials the state and the reason;
    they have no flag."""
    marked = [marks.of(one) for one in plan.runs["fingerprint"]]
    by_trial = list(zip(marked, *(plan.runs[name] for name in _TOLD), strict=True))
    flags: list[Any] = [[] if one.excluded else codes for one, _, _, codes in by_trial]
    runs = plan.runs.assign(
        marked=[one.remarks for one in marked],
        state=[EXCLUDED if one.excluded else state for one, state, _, _ in by_trial],
        failure=[one.excluded.words if one.excluded else said for one, _, said, _ in by_trial],
        flags=flags,
    )
    return replace(plan, runs=runs)
