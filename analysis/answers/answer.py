"""Answer: what a launch asked, what is best, by how much, and how sure that is.

The rules, which tests pin, for a launch of any task:

- The best point has the best mean of what the launch is compared by: for the trainer validation
  accuracy, for another task its objective, the lowest where it is minimised. Of equal means the
  first planned one is the best.
- Its lead is over the point with the next best mean, paired by the seeds that both have: Student's
  t test, adjusted by Holm for all pairs of points, since any of them might have come first.
- How sure: `clear` where that p-value is at most 0.01, `likely` where it is at most 0.05,
  `undecided` where it is above, or where the best is not ahead on the seeds that both have, and
  `not enough seeds` under three such seeds, as in a search, which runs each of its points once.
- The interval of a lead is widened as the adjustment asks, so that it holds 0 where the lead is
  undecided: at confidence 1 - 0.05 / m, m being by how much Holm's method raised the p-value.
- A launch is a family of its own. Where nothing differs, one launch in a hundred says `clear`, and
  one in twenty says `clear` or `likely`: tests/test_calibration.py measures it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import fmean
from typing import Any

import pandas as pd
from scipy.stats import t as student

from analysis.data.study import POINT, Plan
from analysis.sections.search.asked_trials import OBJECTIVES, number
from analysis.stats import seed_values
from analysis.stats.intervals import ALPHA, Interval, comparable, sample_interval, seed_interval
from analysis.stats.paired import value_words
from analysis.stats.seed_values import Difference, Point
from analysis.text.numbers import percent

CLEAR_ALPHA = 0.01


class Sure(StrEnum):
    CLEAR = "clear"
    LIKELY = "likely"
    UNDECIDED = "undecided"
    FEW_SEEDS = "not enough seeds"
    NOTHING = "-"
    """There is nothing to compare: one point, or no result."""


@dataclass(frozen=True)
class Answer:
    """Of one launch. `values` are those of the best point by seed, `gap` its lead over the next
    best, in which more is better whatever the task's direction."""

    plan: Plan
    best: Point | None = None
    following: Point | None = None
    values: dict[int, float] = field(default_factory=dict)
    gap: Difference | None = None
    points: int = 0
    """How many have a value."""

    @property
    def sure(self) -> Sure:
        return Sure.NOTHING if self.following is None else judge(self.gap)

    @property
    def is_fraction(self) -> bool:
        return self.plan.is_trainers

    @property
    def mean(self) -> float:
        return fmean(self.values.values()) if self.values else math.nan

    def worded(self, value: float) -> str:
        return f"{percent(value)} %" if self.is_fraction else f"{value:.4g}"

    @property
    def lead(self) -> str:
        """`1.00 points (0.98 to 1.02)`; without an interval under three seeds."""
        if self.gap is None:
            return "-"
        if not self.gap.mean and not any(self.gap.interval or ()):
            return "none: a tie"
        ends = adjusted_interval(self.gap)
        within = "" if ends is None else f" ({' to '.join(map(self._size, ends))})"
        return f"{self.amount}{within}"

    @property
    def amount(self) -> str:
        """The lead without its interval."""
        assert self.gap is not None
        return self._size(self.gap.mean) + " points" * self.is_fraction

    def _size(self, value: float) -> str:
        return percent(value) if self.is_fraction else f"{value:.3g}"


def adjusted_interval(gap: Difference) -> Interval | None:
    """The 95 % interval of a difference, as wide as the adjustment of its p-value asks; None under
    three seeds."""
    if gap.p is None or gap.deviation is None:
        return None
    error, freedom = gap.deviation / math.sqrt(gap.seeds), gap.seeds - 1
    if not error:
        return gap.mean, gap.mean
    alone = 2 * float(student.sf(abs(gap.mean) / error, freedom))
    raised = gap.family if gap.p >= 1 or not alone else max(1.0, gap.p / alone)
    reach = error * float(student.isf(ALPHA / (2 * raised), freedom))
    return gap.mean - reach, gap.mean + reach


def judge(gap: Difference | None) -> Sure:
    """How sure it is that the best point is better than the next best."""
    if gap is None or gap.p is None:
        return Sure.FEW_SEEDS
    if gap.mean <= 0 or gap.p > ALPHA:
        return Sure.UNDECIDED
    return Sure.CLEAR if gap.p <= CLEAR_ALPHA else Sure.LIKELY


def answer(plan: Plan) -> Answer:
    column = measured(plan)
    if plan.task.metric is None:
        return Answer(plan)
    sign = -1.0 if plan.task.direction == "minimize" else 1.0
    known = _known(plan, column)
    points = _ranked(plan, known, column, sign)
    if not points:
        return Answer(plan)
    values = [_by_seed(known, rows, column) for _, rows in points[: _tested(plan, points)]]
    best, *others = (point for point, _ in points)
    gap = _gap(plan, values, len(points), known[column], sign) if others else None
    following = others[0] if others else None
    return Answer(plan, best, following, values[0], gap, len(points))


def best_points(plan: Plan, most: int) -> list[tuple[Point, list[float]]]:
    """The best points of a launch and their values over seeds, best mean first."""
    column = measured(plan)
    known = _known(plan, column)
    sign = -1.0 if plan.task.direction == "minimize" else 1.0
    return [
        (point, list(_by_seed(known, rows, column).values()))
        for point, rows in _ranked(plan, known, column, sign)[:most]
    ]


def measured(plan: Plan) -> str:
    """The column of the runs by which the launch's points are compared."""
    if not plan.is_trainers:
        return "objective"
    return "val_accuracy" if plan.search is None else OBJECTIVES[plan.search.objective][0]


def _known(plan: Plan, column: str) -> pd.DataFrame:
    """The runs that count: with a finite value, on the launch's images, no seed's result twice."""
    runs = plan.runs
    values = pd.to_numeric(runs[column], errors="coerce").astype(float)
    good = values.notna() & values.abs().lt(math.inf) & runs["same_data"] & ~runs["repeated"]
    if plan.search is not None:
        good &= runs["state"].eq("done")
    return runs.assign(**{column: values})[good].reset_index(drop=True)


def _ranked(
    plan: Plan, known: pd.DataFrame, column: str, sign: float
) -> list[tuple[dict[str, Any], Any]]:
    """Each point with a value and its rows of `known`, best mean first, of equals the first
    planned."""
    axes = [POINT + axis for axis in plan.axes]
    if known.empty:
        return []
    if not axes:
        return [({}, list(known.index))]
    groups = known.groupby(axes, sort=False, dropna=False)
    means = sign * groups[column].mean().map(comparable)
    numbers = groups.ngroup()
    order = numbers.drop_duplicates().map(lambda group: means.iloc[group])
    first = order.sort_values(ascending=False, kind="stable").index
    rows = known.groupby(numbers).groups
    points = known.loc[first, axes].itertuples(index=False)
    return [
        (dict(zip(plan.axes, point, strict=True)), rows[numbers[place]])
        for place, point in zip(first, points, strict=True)
    ]


def _by_seed(known: pd.DataFrame, rows: Any, column: str) -> dict[int, float]:
    some = known.loc[rows]
    return {
        seed_values.seed_of(seed, fingerprint): float(value)
        for seed, fingerprint, value in zip(
            some["seed"], some["fingerprint"], some[column], strict=True
        )
    }


def _tested(plan: Plan, points: list[Any]) -> int:
    """How many points are looked at seed by seed: of many, and of a search, two are enough."""
    return 2 if len(points) > seed_values.MANY_POINTS or plan.search is not None else len(points)


def _gap(
    plan: Plan,
    values: list[dict[int, float]],
    points: int,
    every: pd.Series[float],
    sign: float,
) -> Difference | None:
    signed = [{seed: sign * value for seed, value in one.items()} for one in values]
    images = seed_values.images(plan, "val_accuracy") if plan.is_trainers else None
    step = 0.0 if plan.is_trainers else seed_values.counted_in(every.tolist())
    if len(values) == points:
        return seed_values.first_against(signed, images, step)[0]
    alone = seed_values.difference(signed[0], signed[1], images, step)
    return alone and alone.bonferroni(math.comb(points, 2), seed_values.PAIRS)


# --- words -----------------------------------------------------------------------------------


def question(plan: Plan) -> str:
    """What the launch asks."""
    if plan.search is not None:
        return f"which {_listed(list(short(list(plan.search.space)).values()))}, by search"
    if not plan.axes:
        return "how good it is"
    return f"which {_listed(list(short(plan.axes).values()))}"


def short(axes: list[str]) -> dict[str, str]:
    """The axes by the last part of their names, as far as these differ: `model` of `model.name`."""
    brief = {axis: axis.removesuffix(".name").rpartition(".")[2] for axis in axes}
    seen = Counter(brief.values())
    return {axis: name if name and seen[name] == 1 else axis for axis, name in brief.items()}


_MOST_AXES = 4


def winner(plan: Plan, point: Point | None) -> str:
    """`model dla34`, or `batch_size 64, epochs 25`; of many axes the first ones."""
    if point is None:
        return "no result"
    if not point:
        return "-"
    names = short(list(point))
    said = [f"{names[axis]} {_value(value)}" for axis, value in point.items()]
    more = len(said) - _MOST_AXES
    if more <= 1:
        return ", ".join(said)
    return f"{', '.join(said[:_MOST_AXES])} and {more} more"


def _value(value: Any) -> str:
    if isinstance(value, float) and not math.isnan(value):
        return number(value)
    text = " ".join(value_words(value).split())
    return text if len(text) <= 40 else f"{text[:37].rstrip()}..."


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_AXES
    if more > 1:
        return f"{', '.join(names[:_MOST_AXES])} and {more} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def value(found: Answer) -> str:
    """The best point's mean; of one configuration alone with its interval, over seeds where there
    are three, else of the test images."""
    if not found.values:
        return "-"
    said = found.worded(found.mean)
    if found.points > 1 or found.plan.axes:
        return said
    ends = seed_interval(list(found.values.values()))
    if ends is None and found.is_fraction and len(found.values) == 1:
        images = seed_values.images(found.plan, "val_accuracy")
        ends = sample_interval(found.mean, images) if images else None
    if ends is None:
        return said
    low, high = (percent(end) if found.is_fraction else f"{end:.4g}" for end in ends)
    return f"{said} ({low} to {high})"
