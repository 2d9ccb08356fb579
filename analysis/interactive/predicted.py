"""Predicted: which class each trial predicts for each example, packed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.data import predictions, task_predictions
from analysis.data.predictions import Predictions
from analysis.data.study import Plan, Study
from analysis.data.task_predictions import PredictedClasses
from analysis.interactive import packed
from analysis.interactive.columns import ranked

# Classes that are kept, of all trials together.
_MOST = 2_000_000
_MOST_TRIALS = 100

_Classes = Predictions | PredictedClasses


def predicted(plan: Plan, study: Study) -> dict[str, Any] | None:
    """Of the best trials those that predict the same examples as the best of them; None where there
    are not two. Damaged files become problems of the study."""
    first: _Classes | None = None
    found: dict[int, _Classes] = {}
    best = ranked(plan)[:_MOST_TRIALS]
    for place, run in zip(best, plan.runs.iloc[best].to_dict("records"), strict=True):
        one = _read(plan, study, run)
        if one is None or (first is not None and not _same_examples(first, one)):
            continue
        first = first or one
        found[place] = one
        if (len(found) + 1) * len(first.labels) > _MOST:
            break
    if first is None or len(found) < 2:
        return None
    return {
        "classes": list(first.classes),
        "index": packed.array(_index(first).astype(np.uint32)),
        "labels": packed.array(first.labels.astype(np.uint32)),
        "data": first.data if isinstance(first, Predictions) else "",
        "rows": list(found),
        "predicted": [packed.array(one.predicted.astype(np.uint32)) for one in found.values()],
    }


def _read(plan: Plan, study: Study, run: dict[Any, Any]) -> _Classes | None:
    if plan.is_trainers:
        return predictions.of(study, plan, run)
    if not isinstance(run[task_predictions.DIGEST], str):
        return None
    found = task_predictions.of(study, plan, run)
    return None if isinstance(found, task_predictions.PredictedValues) else found


def _same_examples(a: _Classes, b: _Classes) -> bool:
    if isinstance(a, Predictions) and isinstance(b, Predictions) and a.data != b.data:
        return False
    return (
        a.classes == b.classes
        and np.array_equal(a.labels, b.labels)
        and np.array_equal(_index(a), _index(b))
    )


def _index(one: _Classes) -> NDArray[Any]:
    return one.index if isinstance(one, Predictions) else np.arange(len(one.labels))
