"""Regression: what predicted numbers say beside their targets. Pure functions of two arrays of the
same examples, finite numbers, in the targets' own unit.

A residual is target minus predicted value, as in statistics (Draper and Smith 1998, Applied
Regression Analysis): above 0 where the prediction is too low.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from analysis.stats.intervals import LEVEL, Interval

Numbers = NDArray[np.float64]
# A spread over fewer says nothing.
MIN_EXAMPLES = 3


def residuals(targets: Numbers, values: Numbers) -> Numbers:
    """(n,): target minus predicted value."""
    return targets - values


def rmse(targets: Numbers, values: Numbers) -> float:
    """Root mean squared error: the root of the mean of the squared residuals."""
    return math.sqrt(float(np.mean(residuals(targets, values) ** 2)))


def mae(targets: Numbers, values: Numbers) -> float:
    """Mean absolute error: the mean of the residuals without their signs."""
    return float(np.mean(np.abs(residuals(targets, values))))


def r_squared(targets: Numbers, values: Numbers) -> float:
    """Coefficient of determination: 1 minus the sum of squared residuals by the sum of squared
    distances of the targets from their mean. 1 is exact, 0 as good as that mean, which is taken of
    these very examples; below 0 is worse. NaN where all targets are equal.
    """
    if targets.min() == targets.max():
        return math.nan
    total = float(np.sum((targets - targets.mean()) ** 2))
    return 1 - float(np.sum(residuals(targets, values) ** 2)) / total


def mean_residual(targets: Numbers, values: Numbers) -> tuple[float, Interval | None]:
    """The bias, and Student's t interval (95 %) of it over the examples: what another sample of as
    many, independent of one another and from the same source, may move it by. It says nothing of
    training again. None under three examples.
    """
    found = residuals(targets, values)
    n, mean = len(found), float(np.mean(found))
    if n < MIN_EXAMPLES:
        return mean, None
    error = float(np.std(found, ddof=1)) / math.sqrt(n)
    reach = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    return mean, (mean - reach, mean + reach)


def largest(targets: Numbers, values: Numbers, most: int = 10) -> pd.DataFrame:
    """The rows with the largest residuals, of whatever sign; equal ones in the order of the
    examples: `index` (from 0), `target`, `predicted`, `residual`."""
    found = residuals(targets, values)
    rows = np.argsort(-np.abs(found), kind="stable")[:most]
    return pd.DataFrame(
        {
            "index": rows,
            "target": targets[rows],
            "predicted": values[rows],
            "residual": found[rows],
        }
    )
