"""Intervals, 95 %, and tests. Two sources of error that are never mixed: which images happened to
be in the test set (Wilson, Newcombe), and which seed was drawn (Student's t).

What a report asserts is decided by p-values over seeds, adjusted by Holm for the family of
comparisons that it was picked from: tests/test_calibration.py measures how often each is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

LEVEL = 0.95
ALPHA = 0.05
MIN_SEEDS = 3
# A report says how many seeds would show a difference in this share of repetitions, up to so many.
POWER = 0.80
MANY_SEEDS = 100
# Of a point whose seeds differ by chance alone, how often Grubbs' test calls one an outlier.
OUTLIER_ALPHA = 0.015

Interval = tuple[float, float]


def comparable(accuracy: float) -> float:
    """As many right answers can have means that differ in their last bit: equal without it."""
    return round(accuracy, 12)


def sample_interval(accuracy: float, images: int) -> Interval:
    """Wilson (1927): of an accuracy (a fraction) that was seen on so many test images. A mean over
    seeds need not be a whole number of images.
    """
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    middle = accuracy + z * z / (2 * images)
    reach = z * math.sqrt(accuracy * (1 - accuracy) / images + (z / (2 * images)) ** 2)
    scale = 1 + z * z / images
    # Where none or all are right the interval ends there, whatever rounding makes of it.
    low = (middle - reach) / scale if accuracy > 0 else 0.0
    high = (middle + reach) / scale if accuracy < 1 else 1.0
    return max(0.0, low), min(1.0, high)


def seed_interval(values: Sequence[float]) -> Interval | None:
    """Student's t: of the mean over seeds. None under three seeds, where it would say nothing."""
    n, spread = len(values), deviation(values)
    if n < MIN_SEEDS or spread is None:
        return None
    mean = math.fsum(values) / n
    reach = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * spread / math.sqrt(n)
    return mean - reach, mean + reach


def difference_interval(a: float, images_a: int, b: float, images_b: int) -> Interval:
    """Newcombe (1998, method 10): of accuracy a minus accuracy b, on two independent samples.

    Two models on the same test images err together, so that this is then on the wide side.
    """
    low_a, high_a = sample_interval(a, images_a)
    low_b, high_b = sample_interval(b, images_b)
    return (
        a - b - math.hypot(a - low_a, high_b - b),
        a - b + math.hypot(high_a - a, b - low_b),
    )


def binomial_error(accuracy: float, images: int) -> float:
    """The standard error of an accuracy (a fraction) that was seen on so many images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def deviation(values: Sequence[float], resolution: float = 0.0) -> float | None:
    """The standard deviation over seeds, `resolution` as in `mean_p`; None under two."""
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return math.sqrt(variance + resolution**2 / 6)


def mean_p(values: Sequence[float], resolution: float = 0.0) -> float | None:
    """The two-sided p-value of Student's t test that the mean of the values is 0; None under three.

    `resolution` is the step in which values are counted, such as one image of the test set: values
    that are equal because they are coarse are not sure, so that their deviation is never taken to
    be under that of the rounding (step / sqrt(12) for each of the two sides of a difference).
    """
    n, spread = len(values), deviation(values, resolution)
    if n < MIN_SEEDS or spread is None:
        return None
    return _two_sided(math.fsum(values) / n, spread / math.sqrt(n), n - 1)


def prediction_p(
    single: float, values: Sequence[float], resolution: float = 0.0, error: float = 0.0
) -> float | None:
    """The two-sided p-value that a single run is one more of the values: the prediction interval of
    Student's t (mean, sd x sqrt(1 + 1 / n)), which is wider than that of the mean. None under three
    values. `resolution` is as in `mean_p`; `error` is a standard error that the single run has
    beside that of its seed, such as its own test images'.
    """
    n = len(values)
    if n < MIN_SEEDS:
        return None
    away = single - math.fsum(values) / n
    return _two_sided(away, _prediction_error(values, resolution, error), n - 1)


def prediction_interval(
    values: Sequence[float], resolution: float = 0.0, error: float = 0.0
) -> Interval | None:
    """Where 95 % of single runs lie that are one more of the values, as in `prediction_p`."""
    n = len(values)
    if n < MIN_SEEDS:
        return None
    mean = math.fsum(values) / n
    t = float(stats.t.ppf((1 + LEVEL) / 2, n - 1))
    reach = t * _prediction_error(values, resolution, error)
    return mean - reach, mean + reach


def _prediction_error(values: Sequence[float], resolution: float, error: float) -> float:
    spread = deviation(values, resolution) or 0.0
    return math.hypot(spread * math.sqrt(1 + 1 / len(values)), error)


def proportions_p(a: int, images_a: int, b: int, images_b: int) -> float:
    """Fisher's exact test (1922), two-sided: that two shares, a and b of so many images, are of one
    probability. On the same images, which both runs find as hard, it is on the safe side.
    """
    table = np.array([[a, images_a - a], [b, images_b - b]])
    return float(stats.fisher_exact(table).pvalue)


def _two_sided(away: float, error: float, freedom: int) -> float:
    if error == 0:
        return 1.0 if away == 0 else 0.0
    # scipy.stats' own function, without what makes it take a hundred times as long.
    return float(2 * special.stdtr(freedom, -abs(away) / error))


def seeds_to_tell(
    difference: float, deviation: float, comparisons: int = 1, *, single: bool = False
) -> int | None:
    """How many seeds tell a difference of this size from 0 with POWER at the level of ALPHA, by
    Bonferroni for so many comparisons; None where more than MANY_SEEDS do.

    `deviation` is that of one seed's difference, in the same unit. The power is that of Student's
    two-sided t test by the noncentral t distribution (Cohen 1988, Statistical Power Analysis for
    the Behavioral Sciences, chapter 2): of paired differences, or, where `single`, of one run
    against the mean of n others, whose own deviation then is `deviation` (`prediction_p`).
    """
    if difference == 0:
        return None
    if deviation == 0:
        return MIN_SEEDS
    n = np.arange(MIN_SEEDS, MANY_SEEDS + 1)
    away = abs(difference) / (deviation * np.sqrt(1 / n + single))
    bound = stats.t.ppf(1 - ALPHA / comparisons / 2, n - 1)
    upper, lower = stats.nct.sf(bound, n - 1, away), stats.nct.cdf(-bound, n - 1, away)
    # Far out in its tails scipy's distribution is not a number.
    power = np.where(np.isnan(upper), away > bound, upper) + np.nan_to_num(lower)
    enough = power >= POWER
    return int(n[np.argmax(enough)]) if enough.any() else None


# What is undecided says with how many seeds it would not be.
POWER_NOTE = (
    "How many seeds would tell: with how many the same test, at the level of Bonferroni for its "
    f"number of comparisons, finds the difference in {100 * POWER:.0f} % of repetitions, if it and "
    "its spread over seeds are as measured (the noncentral t distribution). Of a few seeds that is "
    "a rough guess."
)


def needed(seeds: int | None) -> str:
    """What `seeds_to_tell` found, in words."""
    return f"more than {MANY_SEEDS} seeds" if seeds is None else f"about {seeds} seeds"


def grubbs(values: Sequence[float]) -> int | None:
    """Which value is an outlier among normally distributed ones, by Grubbs' two-sided test (1969)
    at OUTLIER_ALPHA, whose bound knows their number; None where none is, and under three.
    """
    n = len(values)
    if n < MIN_SEEDS:
        return None
    mean = math.fsum(values) / n
    away = [abs(value - mean) for value in values]
    deviation = math.sqrt(math.fsum(one * one for one in away) / (n - 1))
    farthest = max(range(n), key=away.__getitem__)
    t = float(stats.t.ppf(1 - OUTLIER_ALPHA / (2 * n), n - 2))
    bound = (n - 1) / math.sqrt(n) * math.sqrt(t * t / (n - 2 + t * t))
    return farthest if away[farthest] > bound * deviation else None


def mcnemar(a_alone: int, b_alone: int) -> float:
    """The p-value of McNemar's test (1947), exact: of two classifiers on the same images, how
    likely so uneven a split of the images that only one of them gets right is by chance.
    """
    if a_alone + b_alone == 0:
        return 1.0
    return float(stats.binomtest(a_alone, a_alone + b_alone).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm (1979): p-values adjusted for their number, in the order given."""
    n = len(p_values)
    adjusted = [0.0] * n
    highest = 0.0
    for rank, i in enumerate(sorted(range(n), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (n - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted
