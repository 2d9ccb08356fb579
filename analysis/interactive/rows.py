"""LoggedRows: what the trials of a launch logged, one table for every kind of task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.data.study import Plan

# A metric may be called as anything, a column of the table included.
_METRIC = "metric."
# Of the trainer's these come first; how fast it was, last.
_FIRST = ("val_accuracy", "val_loss", "train_accuracy", "train_loss")


@dataclass(frozen=True)
class LoggedRows:
    """`frame` has `trial`, `at` and a column per metric, which `values` gives, and a row for each
    step of each trial, in the order of the steps. `by` says what `at` counts: epochs and rows from
    1, steps as logged."""

    frame: pd.DataFrame
    by: str
    metrics: list[str]

    def values(self, metric: str) -> pd.Series[Any]:
        return self.frame[_METRIC + metric]

    def last(self, metric: str, trials: list[str]) -> pd.Series[Any]:
        """Of each trial the last value that it logged."""
        return self._last(_METRIC + metric, trials)

    def last_at(self, trials: list[str]) -> pd.Series[Any]:
        return self._last("at", trials)

    def _last(self, column: str, trials: list[str]) -> pd.Series[Any]:
        found = self.frame.groupby("trial", observed=True)[column].last()
        return found.astype(float).reindex(trials).reset_index(drop=True)


def of(plan: Plan) -> LoggedRows:
    """The metric that ranks the trials comes first."""
    rows = _of_trainer(plan) if plan.is_trainers else _of_any(plan)
    names = sorted(rows.metrics, key=lambda name: name != plan.task.metric)
    return LoggedRows(rows.frame, rows.by, names)


def _of_trainer(plan: Plan) -> LoggedRows:
    epochs = plan.epochs.drop_duplicates(["trial", "epoch"], keep="last")
    values = epochs.drop(columns=["trial", "epoch"]).dropna(axis="columns", how="all")
    frame = pd.DataFrame({"trial": epochs["trial"].astype(object), "at": epochs["epoch"] + 1.0})
    frame = pd.concat([frame, values.add_prefix(_METRIC)], axis=1)
    names = list(dict.fromkeys([*(name for name in _FIRST if name in values), *values.columns]))
    if (own := _of_any(plan)).metrics:
        frame = frame.merge(own.frame, on=["trial", "at"], how="left")
        names = [*names[:1], *own.metrics, *names[1:]]
    return LoggedRows(_sorted(frame), "epoch", names)


def _of_any(plan: Plan) -> LoggedRows:
    if plan.logged.empty:
        return LoggedRows(pd.DataFrame({"trial": [], "at": []}), "row", [])
    rows = plan.logged.dropna(subset=["at"]).drop_duplicates(["trial", "at", "metric"], keep="last")
    by = "/".join(dict.fromkeys(rows["by"]))
    wide = rows.pivot(index=["trial", "at"], columns="metric", values="value")
    frame = wide.add_prefix(_METRIC).reset_index()
    # People count from 1, and programs from 0 or from 1.
    if by in ("epoch", "row") and frame["at"].min() == 0:
        frame["at"] += 1
    return LoggedRows(_sorted(frame), by, list(dict.fromkeys(rows["metric"])))


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["trial", "at"], kind="stable", ignore_index=True)
