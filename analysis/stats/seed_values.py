"""Points: the values of a sweep's points by seed, and what differs between two of them.

Two points are compared on the seeds that both have: the same seed means the same split, the same
order of images and the same draws of the augmentation, so that their difference is paired.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.data.study import POINT, Plan
from analysis.stats.intervals import (
    ALPHA,
    MIN_SEEDS,
    POWER,
    Interval,
    comparable,
    deviation,
    holm,
    mean_p,
    needed,
    seed_interval,
    seeds_to_tell,
)
from analysis.text.numbers import p_value, percent

Point = Mapping[str, Any]

# Of more points than this, Bonferroni's correction takes the place of Holm's, which would look at
# every pair: it asserts a little less.
MANY_POINTS = 60
_IMAGES = {"val_accuracy": "val_images", "test_accuracy": "test_images"}


def points(plan: Plan) -> list[dict[str, Any]]:
    """Every point of the launch once, in its order: axis to value."""
    columns = [POINT + axis for axis in plan.axes]
    if not columns:
        return [{}]
    rows = plan.runs[columns].drop_duplicates()
    return [dict(zip(plan.axes, row, strict=True)) for row in rows.itertuples(index=False)]


def at(plan: Plan, point: Point, columns: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of `plan.runs` at a point, which may name some axes only, or fields as well; of some
    columns, in a tenth of the time."""
    runs = plan.runs
    here = np.ones(len(runs), bool)
    for key, value in point.items():
        found = runs[POINT + key if POINT + key in runs else key]
        here &= (found.isna() if pd.isna(value) else found == value).to_numpy(bool)
    return (runs[list(columns)] if columns else runs)[here]


def places(plan: Plan) -> list[npt.NDArray[np.intp]]:
    """Of each of `points`, where its rows stand in `plan.runs`; in one pass over them."""
    columns = [POINT + axis for axis in plan.axes]
    if not columns:
        return [np.arange(len(plan.runs))]
    number = plan.runs.groupby(columns, sort=False, dropna=False).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if len(order) else []


def by_seed(plan: Plan, point: Point, column: str = "val_accuracy") -> dict[int, float]:
    """A column's value for every seed of the point that has one, on the launch's images; of seeds
    with one and the same result, for the first.
    """
    key = (column, *point.items())
    if key not in plan.by_seed:
        plan.by_seed[key] = _by_seed(plan, point, column)
    return dict(plan.by_seed[key])


def _by_seed(plan: Plan, point: Point, column: str) -> dict[int, float]:
    runs = at(plan, point, ["seed", "fingerprint", "same_data", "repeated", column])
    known = runs[runs[column].notna() & runs["same_data"] & ~runs["repeated"]]
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
    runs = plan.runs[plan.runs["same_data"] & ~plan.runs["repeated"]]
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
    p: float | None
    """Of Student's paired t test, adjusted for the family; None under three seeds."""
    family: int = 1
    """Among how many comparisons this one was picked."""
    among: str = "comparisons"
    """What these are, in the plural."""
    method: str = "Holm"
    """By which p is adjusted for them."""
    deviation: float | None = None
    """Of one seed's difference; None under two seeds."""

    @property
    def told_apart(self) -> bool | None:
        """Whether seeds tell a from b; None where there are too few."""
        return None if self.p is None else self.p <= ALPHA

    @property
    def needed(self) -> str:
        """How many seeds would tell a from b, were both the difference and its spread as measured;
        empty where one seed shows no spread.
        """
        if self.deviation is None:
            return ""
        return needed(seeds_to_tell(self.mean, self.deviation, self.family))

    def bonferroni(self, comparisons: int, among: str) -> Difference:
        """The same, picked among so many comparisons whose p-values are not known."""
        p = None if self.p is None else min(1.0, self.p * comparisons)
        return replace(self, p=p, family=comparisons, among=among, method="Bonferroni")

    def __str__(self) -> str:
        said = f"{percent(self.mean, '+')} points"
        if self.interval is None:
            return f"{said} ({self.seeds} of {MIN_SEEDS} seeds that an interval takes)"
        low, high = self.interval
        said += f" (95 % over {self.seeds} seeds: {percent(low, '+')} to {percent(high, '+')}"
        if self.family > 1:
            said += (
                f"; p {p_value(self.p)}, adjusted by {self.method} for {self.family} {self.among}"
            )
        return said + ")"


def difference(
    a: Mapping[int, float],
    b: Mapping[int, float],
    images: int | None = None,
    step: float = 0.0,
) -> Difference | None:
    """None where no seed has both. `images` is on how many the values were counted; else `step`
    says in which steps."""
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return None
    gaps = [a[seed] - b[seed] for seed in seeds]
    step = 1 / images if images else step
    return Difference(
        math.fsum(gaps) / len(seeds),
        seed_interval(gaps),
        len(seeds),
        mean_p(gaps, step),
        deviation=deviation(gaps, step),
    )


def family(
    differences: Sequence[Difference | None], among: str = "comparisons"
) -> list[Difference | None]:
    """The differences as one family, whose p-values Holm's method adjusts: however many are looked
    at, one in twenty such families asserts anything where nothing differs. `among` says what they
    are.
    """
    known = [(i, one) for i, one in enumerate(differences) if one is not None and one.p is not None]
    adjusted = holm([one.p for _, one in known if one.p is not None])
    # What has too few seeds yet will be one of all, when it has enough.
    size = sum(one is not None for one in differences)
    found = [one and replace(one, family=size, among=among) for one in differences]
    for (i, one), p in zip(known, adjusted, strict=True):
        found[i] = replace(one, p=p, family=len(known), among=among)
    return found


def between(plan: Plan, a: Point, b: Point, column: str = "val_accuracy") -> Difference | None:
    """a minus b, of two points of a launch, in validation or test accuracy."""
    return difference(by_seed(plan, a, column), by_seed(plan, b, column), images(plan, column))


def images(plan: Plan, column: str) -> int | None:
    """On how many images a launch's accuracies were counted; None where that is unknown."""
    most = plan.runs[_IMAGES[column]].max()
    return None if pd.isna(most) else int(most)


PAIRS = "pairs of points"


def against_first(
    plan: Plan, found: Sequence[Point], column: str = "val_accuracy"
) -> list[Difference | None]:
    """The first of the points minus each of the others, where the points come in the order of what
    was seen: their family is all pairs of the points, any of which might have come first.
    """
    values = [by_seed(plan, point, column) for point in found]
    return first_against(values, images(plan, column))


def first_against(
    values: Sequence[Mapping[int, float]], images: int | None = None, step: float = 0.0
) -> list[Difference | None]:
    """As `against_first`, of the values of the points by seed."""
    others = [difference(values[0], one, images, step) for one in values[1:]]
    if len(values) > MANY_POINTS:
        pairs = math.comb(len(values), 2)
        return [one and one.bonferroni(pairs, PAIRS) for one in others]
    rest = [difference(a, b, images, step) for a, b in itertools.combinations(values[1:], 2)]
    return family([*others, *rest], PAIRS)[: len(others)]


def counted_in(values: Sequence[float]) -> float:
    """The step in which the values seem to be counted, such as one example of a hundred: the least
    distance of two different ones, which is next to nothing where they are not counted."""
    known = sorted({float(f"{value:.9g}") for value in values})
    return min((b - a for a, b in itertools.pairwise(known)), default=0.0)


def lead(plan: Plan, ranked: Sequence[Point]) -> str:
    """By how much the best of at least two ranked points is ahead of the next on validation, and
    whether chance explains that: a sentence.
    """
    gap, name = against_first(plan, ranked)[0], words(ranked[1])
    if gap is None:
        return f"No seed has a result both of it and of the next best, {name}."
    if gap.mean <= 0:
        return f"On the seeds that both have it is not ahead of the next best, {name}: {gap}."
    return f"Its lead on validation over the next best, {name}, is {gap}: {judged(gap)}."


def judged(found: Difference) -> str:
    """What follows from a difference, in the words that the report uses everywhere."""
    if found.told_apart:
        return "more than seeds explain"
    few = found.told_apart is None
    said = "not enough seeds to tell them apart" if few else "seeds do not tell them apart"
    return f"{said} ({would_tell(found)})"


def would_tell(found: Difference) -> str:
    """How many seeds would tell a from b."""
    if found.deviation is None:
        return "one seed does not show how many would"
    return would_words(seeds_to_tell(found.mean, found.deviation, found.family))


def would_words(seeds: int | None) -> str:
    """What `seeds_to_tell` found, as a clause."""
    return f"{needed(seeds)} would, with {percent(POWER, digits=0)} % power"
