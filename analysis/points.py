"""Points: the values of a sweep's points by seed, and what differs between two of them.

Two points are compared on the seeds that both have: the same seed means the same split, the same
order of images and the same draws of the augmentation, so that their difference is paired.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.load import POINT, Plan
from analysis.stats import MIN_SEEDS, Interval, comparable, paired_interval

Point = Mapping[str, Any]


def points(plan: Plan) -> list[dict[str, Any]]:
    """Every point of the launch once, in its order: axis to value."""
    columns = [POINT + axis for axis in plan.axes]
    if not columns:
        return [{}]
    rows = plan.runs[columns].drop_duplicates()
    return [dict(zip(plan.axes, row, strict=True)) for row in rows.itertuples(index=False)]


def at(plan: Plan, point: Point) -> pd.DataFrame:
    """The rows of `plan.runs` at a point, which may name some axes only, or fields as well."""
    runs = plan.runs
    for key, value in point.items():
        found = runs[POINT + key if POINT + key in runs else key]
        runs = runs[found.isna() if pd.isna(value) else found == value]
    return runs


def by_seed(plan: Plan, point: Point, column: str = "val_accuracy") -> dict[int, float]:
    """A column's value for every seed of the point that has one, on the launch's images."""
    runs = at(plan, point)
    known = runs[runs[column].notna() & runs["same_data"]]
    return {
        seed_of(seed, fingerprint): float(value)
        for seed, fingerprint, value in zip(
            known["seed"], known["fingerprint"], known[column], strict=True
        )
    }


def seed_of(seed: Any, fingerprint: str) -> int:
    """The trial's seed; of a configuration that stores none, a number that no other one has."""
    if isinstance(seed, int | float) and seed == seed // 1:
        return int(seed)
    return -int(fingerprint[:12], 16)


def ranked(plan: Plan) -> list[dict[str, Any]]:
    """The points that have a validation accuracy on the launch's images, best mean first, of equals
    the first planned."""
    columns = [POINT + axis for axis in plan.axes]
    runs = plan.runs[plan.runs["same_data"]]
    if not columns:
        return [{}] if runs["val_accuracy"].notna().any() else []
    means = runs.groupby(columns, sort=False, dropna=False)["val_accuracy"].mean().map(comparable)
    best = means.dropna().reset_index().sort_values("val_accuracy", ascending=False, kind="stable")
    rows = best[columns].itertuples(index=False)
    return [dict(zip(plan.axes, row, strict=True)) for row in rows]


def words(point: Point) -> str:
    return ", ".join(f"{axis} {value}" for axis, value in point.items()) or "the only point"


@dataclass(frozen=True)
class Difference:
    """a minus b, as fractions, over the seeds that both have."""

    mean: float
    interval: Interval | None
    seeds: int

    @property
    def told_apart(self) -> bool | None:
        """Whether the interval over seeds leaves out 0; None where there is none."""
        return None if self.interval is None else not self.interval[0] <= 0 <= self.interval[1]

    def __str__(self) -> str:
        said = f"{100 * self.mean:+.2f} points"
        if self.interval is None:
            return f"{said} ({self.seeds} of {MIN_SEEDS} seeds that an interval takes)"
        low, high = self.interval
        return f"{said} (95 % over {self.seeds} seeds: {100 * low:+.2f} to {100 * high:+.2f})"


def difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference | None:
    """None where no seed has both."""
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return None
    first, second = [a[seed] for seed in seeds], [b[seed] for seed in seeds]
    mean = math.fsum(x - y for x, y in zip(first, second, strict=True)) / len(seeds)
    return Difference(mean, paired_interval(first, second), len(seeds))


def judged(found: Difference) -> str:
    """What follows from a difference, in the words that the report uses everywhere."""
    if found.told_apart is None:
        return "not enough seeds to tell them apart"
    return "more than seeds explain" if found.told_apart else "seeds do not tell them apart"
