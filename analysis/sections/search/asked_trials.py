"""A search's trials in the order of asking, and the one that it chose."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.data.progress import OPEN
from analysis.data.search_space import Search
from analysis.data.study import POINT
from analysis.stats.intervals import binomial_error

if TYPE_CHECKING:
    from analysis.data.study import Plan

OBJECTIVES = {
    "best": ("val_accuracy", "validation accuracy of the best epoch"),
    "last": ("val_accuracy_last", "validation accuracy of the last epoch"),
}


def asked(plan: Plan, search: Search) -> pd.DataFrame:
    """A row a configuration in the order of asking: `trial`, `order` (from 1), each searched field,
    `mark`, `value`, `epochs` (trained) and `flags`.

    `mark` is done, pruned, nonfinite, failed, or open for one without an end. `value` is the
    objective as a fraction: of a pruned trial what its epochs so far give, NaN where there is none.
    """
    runs = plan.runs
    epochs = plan.epochs.sort_values("epoch", kind="stable").groupby("trial", observed=True)
    validation = epochs["val_accuracy"]
    so_far = (validation.max() if search.objective == "best" else validation.last()).to_dict()
    trained = epochs.size().to_dict()
    rows = []
    for order, run in enumerate(runs.to_dict("records"), start=1):
        name, state = run["trial"], run["state"]
        if state == "excluded":
            continue
        value, mark = math.nan, "failed"
        if state == "done":
            value = as_float(run[OBJECTIVES[search.objective][0]])
            # A run without a validation accuracy is not a result of a search.
            mark = "failed" if math.isnan(value) else "done"
        elif state == "pruned":
            value, mark = as_float(so_far.get(name)), "pruned"
        elif state in OPEN:
            mark = "open"
        elif "NONFINITE" in run["flags"]:
            mark = "nonfinite"
        ran = run["epochs_run"] if state == "done" else None
        rows.append(
            {
                "trial": name,
                "order": order,
                **{field: run[POINT + field] for field in search.space},
                "mark": mark,
                "value": value,
                "epochs": int(trained.get(name, 0) if pd.isna(ran) else ran),
                "flags": ", ".join(run["flags"]),
            }
        )
    return pd.DataFrame(rows)


def chosen(trials: pd.DataFrame) -> pd.Series[Any] | None:
    """The completed trial with the best objective, of equals the first that was asked for."""
    done = trials[trials["mark"] == "done"]
    return None if done.empty else done.iloc[int(done["value"].argmax())]


def has(trial: pd.Series[Any], search: Search) -> list[str]:
    """The searched fields that the trial has."""
    return [field for field in search.space if not pd.isna(trial[field])]


def standard_error(plan: Plan, best: pd.Series[Any] | None) -> tuple[float | None, int]:
    """The chosen accuracy's standard error, and the number of validation images behind it."""
    images = None if best is None else plan.runs["val_images"].iloc[best["order"] - 1]
    if best is None or pd.isna(images) or not images > 0:
        return None, 0
    return binomial_error(float(best["value"]), int(images)), int(images)


def number(value: Any) -> str:
    """A value of a parameter: a float to four digits, anything else as it is; "" for none."""
    if value is None or pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def as_float(value: Any) -> float:
    return math.nan if value is None or pd.isna(value) else float(value)
