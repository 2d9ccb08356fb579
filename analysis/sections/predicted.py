"""Predictions of any task: of a launch whose runs gave some, one run in detail.

Nobody here knows what the examples are, and whether the objective was measured on them: so they are
called what they are, and the run is not the best one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.study import Plan, Study
from analysis.data.task_predictions import DIGEST, PredictedValues, of
from analysis.figures import regression as figures
from analysis.output.model import Part, Picture, Table
from analysis.sections import any_task, one_run, wording
from analysis.stats import regression, seed_values
from analysis.text import words
from analysis.text.examples import EXAMPLES
from analysis.text.numbers import count, have


def parts(plan: Plan, study: Study) -> list[Part]:
    """Nothing where no run gave predictions. Draws every figure."""
    given = plan.runs[plan.runs["state"].eq("done") & plan.runs[DIGEST].notna()]
    if given.empty:
        return []
    title = f"{wording.title(plan)}: predictions"
    has = f"{count(len(given), 'run')} of {len(plan.runs)} {have(len(given))} predictions"
    point = any_task.best(plan) if plan.task.metric else None
    if point is None:
        return [Part(title, [f"{has}; none is shown, since no objective says of which point."])]
    at = seed_values.at(plan, point)
    run = _median(at[at.index.isin(given.index)], plan.task.direction)
    if run is None:
        return [Part(title, [f"{has}; none of the point with the best mean, {_words(point)}."])]
    predictions = of(study, plan, run)
    if predictions is None:
        said = f"{has}; those of {run['trial']} cannot be used: see the problems."
        return [Part(title, [said])]
    name = words.file_name(f"{wording.name(plan)}-{run['trial']}")
    title += f" of {run['trial']}"
    found = (
        _regression(predictions, name, title)
        if isinstance(predictions, PredictedValues)
        else one_run.classified(predictions, name, title, EXAMPLES)
    )
    found[0].notes[:0] = [f"{has}. {_choice(plan, point, run)}", _ABOUT]
    return found


_ABOUT = (
    "All figures are of the examples that the task predicted. Whether these are test data, and "
    "whether the objective was measured on them, only the task knows."
)


def _median(runs: pd.DataFrame, direction: str) -> dict[str, Any] | None:
    """The run of the median objective; of an even number the worse one in the middle, of equals the
    first by seed. None where none has a finite one."""
    value = runs["objective"].astype(float)
    known = runs[np.isfinite(value) & ~runs["repeated"]].assign(worth=value)
    if known.empty:
        return None
    order = known.sort_values(
        ["worth", "seed", "trial"], ascending=[direction == "maximize", True, True]
    )
    row = order.iloc[(len(order) - 1) // 2]
    return {str(key): one for key, one in row.items()} | {"among": len(order)}


def _choice(plan: Plan, point: dict[str, Any], run: dict[str, Any]) -> str:
    """Which run is shown, and why."""
    several = len(seed_values.points(plan)) > 1
    of_point = f" of the point with the best mean {plan.task.metric}, {_words(point)}"
    who = f"What follows is one run{of_point if several else ''}"
    if plan.task.seed:
        who += f" (seed {run['seed']})"
    if run["among"] == 1:
        flatters = (
            " The point was chosen by that value, which flatters where it was measured on these "
            "examples."
        )
        return f"{who}: the only one there with predictions and a value.{flatters * several}"
    which = "the median" if run["among"] % 2 else "the worse of the two middle values"
    return (
        f"{who}: of {run['among']} it has {which} of {plan.task.metric}. The best one would "
        "flatter."
    )


def _words(point: dict[str, Any]) -> str:
    return seed_values.words({axis: any_task.shown(value) for axis, value in point.items()})


def _regression(predictions: PredictedValues, name: str, title: str) -> list[Part]:
    targets, values, trial = predictions.targets, predictions.values, predictions.trial
    mean, reach = regression.mean_residual(targets, values)
    low, high = reach or (None, None)
    examples = count(len(targets), EXAMPLES.one)
    overall = pd.DataFrame(
        [
            {
                "examples": len(targets),
                "RMSE": _shown(regression.rmse(targets, values)),
                "MAE": _shown(regression.mae(targets, values)),
                "R squared": _shown(regression.r_squared(targets, values)),
                "mean residual": _shown(mean),
                "from": _shown(low),
                "to": _shown(high),
            }
        ]
    )
    largest = regression.largest(targets, values)
    for column in ("target", "predicted", "residual"):
        largest[column] = largest[column].map(_shown)
    against = (
        f"Predicted value against target of {trial}, {examples}; where both are equal a point lies "
        "on the dashed line"
    )
    left = (
        f"Residuals of {trial} against the predicted value, {examples}; beside them how many have "
        "such a residual. What is above the dashed line at 0 was predicted too low"
    )
    return [
        Part(
            title,
            [],
            [
                Table(f"{name}-regression", f"Errors of {trial} on {examples}", overall),
                Table(
                    f"{name}-residuals",
                    f"The {len(largest)} largest residuals of {trial}"
                    if len(largest) > 1
                    else f"The residual of {trial}",
                    largest,
                ),
            ],
            [
                Picture(f"{name}-predicted", against, figures.against_target(targets, values)),
                Picture(
                    f"{name}-residuals",
                    left,
                    figures.residuals(values, regression.residuals(targets, values)),
                ),
            ],
            [_ERRORS],
        )
    ]


_ERRORS = (
    "Residual: target minus predicted value. RMSE: root of the mean squared residual. MAE: mean of "
    "the residuals without their signs. R squared: 1 minus the squared residuals by the squared "
    "distances of the targets from their own mean; 0 is as good as that mean, and it is not "
    "defined where all targets are equal. from, to: Student's t interval (95 %) of the mean "
    "residual over the examples, as if they were independent; it says nothing of another seed, "
    f"and under {regression.MIN_EXAMPLES} examples there is none. index: the example's place in "
    "what the task gave, from 0."
)


def _shown(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(f"{value:.6g}")
