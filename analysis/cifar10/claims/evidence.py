"""Evidence: what the trials of a launch have to say to a claim of the reference study."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from analysis.cifar10.comparable import why_no_evidence
from analysis.data.study import POINT, Plan, Study
from analysis.sections.routing import WEIGHT_DECAY
from analysis.stats.intervals import deviation, prediction_interval, prediction_p, seeds_to_tell
from analysis.stats.paired import value_words
from analysis.stats.seed_values import Difference, Point, between, by_seed, would_words
from analysis.text.numbers import count, percent, spread

PAIRED = "Student's paired t over seeds"
PREDICTION = "prediction of one more run"
TEST, VALIDATION = "test_accuracy", "val_accuracy"


@dataclass(frozen=True)
class Comparison:
    """Whether it goes the claim's way, and the p-value of there being no difference; None where
    there are too few seeds or no trials."""

    agrees: bool
    p: float | None
    away: float = 0.0
    """By how much it differs."""
    spread: float | None = None
    """Of one seed's difference, or, of a `single` reported run, of one of ours."""
    single: bool = False

    @property
    def would(self) -> str:
        """How many seeds would tell, in words; empty where no spread is known."""
        if self.spread is None:
            return ""
        return would_words(seeds_to_tell(self.away, self.spread, single=self.single))


class Ran(NamedTuple):
    """What has the trials of an evidence."""

    sweep: str
    scale: str
    seeds: int
    devices: tuple[str, ...]


def ran(plan: Plan) -> Ran:
    done = plan.runs[plan.runs[TEST].notna()]
    devices = sorted({str(one) for one in done["device"].dropna()})
    return Ran(plan.sweep, plan.scale, int(done["seed"].nunique()), tuple(devices))


@dataclass(frozen=True)
class Evidence:
    """What the trials of a launch have to say to a claim."""

    measured: str
    test: str
    comparisons: tuple[Comparison, ...]
    why_not: tuple[str, ...] = ()
    """In what the launch is not the reported study, so that nothing is answered."""
    any_value: bool = False
    """Whether the claim does not say which of the compared values it means: then it is contradicted
    only where all go the other way."""
    is_near: bool | None = None
    """Of a claim of figures: whether every reported one lies in the interval of one more run, and
    that within the margin. None for a claim of order."""
    by: tuple[Ran, ...] = ()


def launch(
    study: Study, asks: Callable[[Plan], bool], model: str | None = None
) -> tuple[Plan, tuple[str, ...]] | None:
    """The newest launch that asks, of those that are evidence where there are any, and in what it
    is not the reported study."""
    found = [
        (plan, tuple(why_no_evidence(plan, model)))
        for plan in study.plans
        if plan.search is None and asks(plan) and plan.runs[TEST].notna().any()
    ]
    if not found:
        return None
    plan, why_not = max(found, key=lambda one: (not one[1], one[0].created))
    # A hundred columns make it slow to look at points.
    points = [name for name in plan.runs.columns if name.startswith(POINT)]
    return replace(plan, runs=plan.runs[[*points, *_COLUMNS]]), why_not


_COLUMNS = [
    "trial", "seed", "fingerprint", "same_data", "repeated", TEST, VALIDATION, "test_images",
    "val_images",
    "model.name", "device", WEIGHT_DECAY,
]  # fmt: skip


def _name(point: Point) -> str:
    return " x ".join(value_words(value) for value in point.values())


def over(
    plan: Plan,
    pairs: Sequence[tuple[Point, Point]],
    column: str = TEST,
    why_not: tuple[str, ...] = (),
    any_value: bool = False,
) -> Evidence:
    """Evidence that the first of every pair lies over the second."""
    gaps = [between(plan, a, b, column) for a, b in pairs]
    images = "test" if column == TEST else "validation"
    seen: dict[str, str] = {}
    for point in (point for pair in pairs for point in pair):
        if values := by_seed(plan, point, column):
            seen[_name(point)] = percent(statistics.fmean(values.values()))
    named = zip(gaps, pairs, strict=True)
    known = [(gap, f"{_name(a)} minus {_name(b)}") for gap, (a, b) in named if gap is not None]
    said = ", ".join(f"{name} {mean}" for name, mean in seen.items())
    measured = f"{images} accuracy, %: {said}" if seen else "no trial of it has a result"
    if known:
        gap, name = min(known, key=lambda one: one[0].mean)
        measured += f"; {'least of the differences, ' * (len(known) > 1)}{name}: {gap}"
    comparisons = tuple(map(compared, gaps))
    return Evidence(measured, PAIRED, comparisons, why_not, any_value, by=(ran(plan),))


def compared(gap: Difference | None) -> Comparison:
    """What has no result yet neither agrees nor speaks against."""
    if gap is None:
        return Comparison(True, None)
    return Comparison(gap.mean > 0, gap.p, gap.mean, gap.deviation)


def figure(
    reported: float, values: Sequence[float], margin: float, resolution: float, error: float = 0.0
) -> tuple[Comparison, bool]:
    """Whether a reported figure may be one more of the values, and whether that says anything."""
    p = prediction_p(reported, values, resolution, error)
    interval = prediction_interval(values, resolution, error)
    near = interval is not None and interval[0] <= reported <= interval[1]
    narrow = interval is not None and interval[1] - interval[0] <= 2 * margin
    away = reported - statistics.fmean(values) if values else 0.0
    one = Comparison(False, p, away, deviation(values, resolution), single=True)
    return one, near and narrow


def over_seeds(values: Sequence[float], text: Callable[[float], str] = percent) -> str:
    """Mean, spread and number of seeds."""
    return f"{spread(values, text)} ({count(len(values), 'seed')})"
