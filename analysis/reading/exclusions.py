"""Excluded trials: their records are left out before anything is compared, and it is said why.

The one place where this is done: all that follows finds such a trial as one without a result, in
the state `excluded`, with the reason and the person in `failure`.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from analysis.data.study import Plan
from trial_records.history.marks import Marks

EXCLUDED = "excluded"


def without(runs: pd.DataFrame, marks: Marks) -> pd.DataFrame:
    """The runs of the trials that are not excluded."""
    return runs[~runs["fingerprint"].isin(list(marks.excluded))]


def told(plan: Plan, marks: Marks) -> Plan:
    """The launch, with the column `marked`, and of the excluded trials the state and the reason;
    they have no flag."""
    marked = [marks.of(one) for one in plan.runs["fingerprint"]]
    runs = plan.runs.assign(marked=[one.remarks for one in marked])
    for number, one in enumerate(marked):
        if one.excluded is not None:
            row = runs.index[number]
            runs.at[row, "state"] = EXCLUDED
            runs.at[row, "failure"] = one.excluded.words
            runs.at[row, "flags"] = []
    return replace(plan, runs=runs)
