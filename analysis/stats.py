"""Intervals, 95 %. Two sources of error that are never mixed: which images happened to be in the
test set (Wilson, Newcombe), and which seed was drawn (Student's t).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

LEVEL = 0.95
MIN_SEEDS = 3

Interval = tuple[float, float]


def comparable(accuracy: float) -> float:
    """As many right answers can have means that differ in their last bit: equal without it."""
    return round(accuracy, 12)


def sample_interval(accuracy: float, images: int) -> Interval:
    """Wilson (1927): of the accuracy (a fraction) that was seen on so many test images."""
    test = stats.binomtest(round(accuracy * images), images)
    found = test.proportion_ci(confidence_level=LEVEL, method="wilson")
    return float(found.low), float(found.high)


def seed_interval(values: Sequence[float]) -> Interval | None:
    """Student's t: of the mean over seeds. None under three seeds, where it would say nothing."""
    n = len(values)
    if n < MIN_SEEDS:
        return None
    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
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


def paired_interval(a: Sequence[float], b: Sequence[float]) -> Interval | None:
    """Student's t: of the mean of a - b over seeds, where a[i] and b[i] have the same seed. None
    under three seeds.
    """
    return seed_interval([x - y for x, y in zip(a, b, strict=True)])


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
