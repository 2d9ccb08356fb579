"""Words: how a report calls a launch, and what it says of it before any figure."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.data import dataset
from analysis.data.study import POINT, Plan
from analysis.stats.outliers import SAME_RESULT
from analysis.text.numbers import count
from analysis.text.words import file_name, values


def title(plan: Plan) -> str:
    return f"{plan.sweep}, {plan.scale} scale ({plan.id})"


def name(plan: Plan) -> str:
    """What the names of the launch's tables and figures begin with."""
    return file_name(f"{plan.sweep}-{plan.id}")


def preface(plan: Plan, why_no_evidence: Sequence[str] = ()) -> str:
    """Scale, data and overrides; where figures are reported, why these do not compare with them."""
    runs = plan.runs
    words = (
        f"Scale: {plan.scale}. Data set: {dataset.titles(runs)}. "
        f"Model: {values(runs['model.name'])}. {count(runs['seed'].nunique(), 'seed')}: "
        f"{values(runs['seed'])}. Overrides: {overrides(plan)}."
    )
    if why_no_evidence:
        words += f" These figures are not evidence about the study ({', '.join(why_no_evidence)})."
    if not runs["same_data"].all():
        others = count(int((~runs["same_data"]).sum()), "trial")
        words += (
            f" On other images than the rest: {others}, flagged {dataset.OTHER_DATA} and left out "
            "where settings are compared and where one is chosen."
        )
    return words + same_results(plan)


def same_results(plan: Plan) -> str:
    """That seeds of a point have one and the same result, a sentence; else nothing."""
    runs = plan.runs
    if not runs["repeated"].any():
        return ""
    same = runs[runs["result"].isin(runs["result"][runs["repeated"]])]
    of = count(int(same["result"].nunique()), "result")
    return (
        f" {count(len(same), 'trial')} with different seeds have {of} between them, equal to the "
        f"last digit (flagged {SAME_RESULT}): the seed changed nothing, as where the training "
        "program ignores it. Each such result counts as one seed in all that follows."
    )


def over_seeds(plan: Plan) -> str:
    """What the accuracies of the launch's tables are: a mean where a point has several seeds."""
    axes = [POINT + axis for axis in plan.axes]
    several = plan.runs.duplicated(axes).any() if axes else len(plan.runs) > 1
    return "mean ± sd over seeds" if several else "of one seed each"


def overrides(plan: Plan) -> str:
    return ", ".join(f"{key}={value}" for key, value in plan.overrides.items()) or "none"
