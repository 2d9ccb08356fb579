"""Which trials of a point of any task have one result, as where the seed is ignored."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import pandas as pd

# How long it took, and how fast that was, is not a result.
_OF_TIME = re.compile(
    r"(?:^|_)(?:seconds?|secs?|time|duration|elapsed|ms|speed|throughput)(?:_|$)|per_s"
)
# Shares of so many, such as accuracies, may be equal by chance.
_MOST_COUNTED = 100_000
# So many different values of a metric are not.
_VALUES = 5


def results(
    runs: pd.DataFrame, points: pd.DataFrame, logged: pd.DataFrame, metric: str | None
) -> pd.Series[Any]:
    """A number for each trial that is done, the same for those of a point that logged the same, to
    the last digit, predicted the same and have the same objective; NaN where there is nothing to
    tell results by.

    `metric` is the objective's. What tells results: a loss, five different values of the metric, or
    one that is not a share of at most 100,000, such as an accuracy, which may be equal by chance.
    """
    known = logged[~logged["metric"].astype(str).str.lower().str.contains(_OF_TIME)]
    hashes = pd.util.hash_pandas_object(known[["at", "metric", "value"]], index=False)
    # A sum, since the step is in it: it is the same in whatever order they are stored.
    sums = hashes.groupby(known["trial"].astype(object)).sum()
    logs = runs["trial"].astype(object).map(sums)
    keys = pd.concat([points, runs["objective"].astype(float), logs.rename("log")], axis=1)
    if "predictions_sha256" in runs:
        keys = pd.concat([keys, runs["predictions_sha256"]], axis=1)
    keys = keys.set_axis(range(keys.shape[1]), axis=1)[runs["state"].eq("done")]
    numbers = keys.groupby(list(keys), sort=False, dropna=False).ngroup()
    told: dict[int, bool] = {}
    for place in numbers.index[numbers.duplicated()]:
        if (number := int(numbers[place])) not in told:
            mine = known[known["trial"] == runs["trial"][place]]
            told[number] = _tells(mine, metric, runs["objective"][place])
    return numbers.where(numbers.map(lambda one: told.get(one, True))).reindex(runs.index)


def _tells(logged: pd.DataFrame, metric: str | None, objective: Any) -> bool:
    losses = logged["metric"].astype(str).str.lower().str.contains("loss")
    if logged["value"][losses].notna().any():
        return True
    values = logged["value"][logged["metric"] == metric].dropna()
    return values.nunique() >= _VALUES or any(map(_is_measured, _finite([*values, objective])))


def _finite(values: Iterable[Any]) -> list[float]:
    return [float(one) for one in values if one is not None and abs(one) < float("inf")]


def _is_measured(value: float) -> bool:
    """Whether it is more than a count, or a share of a number of samples."""
    return float(Fraction(value).limit_denominator(_MOST_COUNTED)) != value
