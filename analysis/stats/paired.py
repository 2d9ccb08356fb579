"""Compare: two points of a launch, over the seeds that both have and on the same test images.

Over seeds it is the recipes that are compared: differences paired by seed, Student's t. On images
it is two trained networks: McNemar's exact test of one seed's pair. Both are adjusted by Holm for
all pairs of the table. Neither stands in for the other: a network can be better by luck of its
seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.data import predictions
from analysis.data.predictions import Predictions
from analysis.data.progress import OPEN
from analysis.data.study import Plan, Study
from analysis.stats.intervals import ALPHA, MIN_SEEDS, POWER_NOTE, holm, mcnemar
from analysis.stats.seed_values import Difference, Point, at, between, family, points, seed_of
from analysis.text.numbers import interval, p_value, percent, plural

# A p-value under this is written as this: far smaller ones are no longer floats.
SMALLEST = 1e-300

_SEEDS_NAMED = 5

NEEDED = "seeds needed"

SEEDS_NOTE = (
    "A minus B, in points: the mean over the seeds that both have; the same seed has the same "
    "split, order and draws of the augmentation. "
)
_TESTED_NOTE = (
    "95 %: Student's t interval of that mean, none under {seeds} seeds; each interval is for "
    "itself. seeds p: Student's paired t test on the test images, {family}; over seeds: one is "
    "better only where it is at most {alpha:g}. So where nothing differs, at most one table in "
    "twenty calls anything better. " + NEEDED + ": {power}"
)
_IMAGES_NOTE = (
    "only A right, only B right: test images on the lowest seed for which both have usable "
    "predictions of the same images; one seed, since those of several are not independent. images "
    "p: McNemar's exact test of these two numbers, {family}; two networks are told apart where it "
    "is under {alpha:g}. It is about these two trained networks, and says nothing of other seeds "
    "of their recipes."
)


@dataclass(frozen=True)
class Tally:
    """Images of one test set that only one of two networks gets right."""

    seed: int
    a_alone: int
    b_alone: int

    @property
    def p(self) -> float:
        return mcnemar(self.a_alone, self.b_alone)


@dataclass(frozen=True)
class Pair:
    """a against b. `tally` is None where no seed has predictions of the same images for both."""

    a: Point
    b: Point
    validation: Difference | None
    test: Difference | None
    tally: Tally | None

    @property
    def verdict(self) -> str:
        """What seeds say of the two recipes on the test images."""
        return verdict(self.test, label(self.a), label(self.b))


def verdict(found: Difference | None, a: str, b: str) -> str:
    """In words, of a minus b: one is better only where seeds tell them apart."""
    if found is None:
        return "no seed has both"
    if found.told_apart is None:
        return f"not enough seeds ({found.seeds})"
    if not found.told_apart:
        return "seeds do not tell them apart"
    return f"{a if found.mean > 0 else b} is better"


def networks(tally: Tally | None, adjusted: float) -> str:
    """What one seed's images say of the two networks, by McNemar's adjusted p-value."""
    if tally is None:
        return "-"
    if adjusted >= ALPHA:
        return "not told apart"
    return "A is right more often" if tally.a_alone > tally.b_alone else "B is right more often"


def label(point: Point) -> str:
    """A point by its values alone."""
    return ", ".join(map(value_words, point.values())) or "the only point"


def value_words(value: Any) -> str:
    if pd.api.types.is_float(value):
        return "none" if math.isnan(value) else f"{value:g}"
    return "none" if value is None else str(value)


def tally(a: Predictions, b: Predictions, seed: int) -> Tally | None:
    """None where they are not of the same test images."""
    if not predictions.same_images(a, b):
        return None
    return Tally(seed, int(np.sum(a.right & ~b.right)), int(np.sum(b.right & ~a.right)))


def all_pairs(plan: Plan) -> list[tuple[Point, Point]]:
    return list(itertools.combinations(points(plan), 2))


def against(others: Iterable[Point], baseline: Point) -> list[tuple[Point, Point]]:
    """Each of the other points, and the baseline as b."""
    return [(point, baseline) for point in others if label(point) != label(baseline)]


def compare(pairs: Iterable[tuple[Point, Point]], plan: Plan, study: Study) -> list[Pair]:
    """The pairs as one family: their differences' p-values are adjusted for their number.

    Predictions that cannot be used become the study's problems, and leave a pair without a tally.
    """
    pairs = list(pairs)
    validation, test = (
        family([between(plan, a, b, column) for a, b in pairs], "pairs of the table")
        for column in ("val_accuracy", "test_accuracy")
    )
    return [
        Pair(a, b, *both, _first_tally(runs(plan, a), runs(plan, b), plan, study))
        for (a, b), both in zip(pairs, zip(validation, test, strict=True), strict=True)
    ]


def runs(plan: Plan, point: Point) -> dict[int, Mapping[str, Any]]:
    """The point's rows of Plan.runs by their seed."""
    rows: list[Any] = at(plan, point).to_dict("records")
    return {seed_of(run["seed"], run["fingerprint"]): run for run in rows}


def _first_tally(
    a: Mapping[int, Mapping[str, Any]],
    b: Mapping[int, Mapping[str, Any]],
    plan: Plan,
    study: Study,
) -> Tally | None:
    for seed in sorted(a.keys() & b.keys()):
        sides = [predictions.of(study, plan, side[seed]) for side in (a, b)]
        if sides[0] is not None and sides[1] is not None:
            found = tally(sides[0], sides[1], seed)
            if found is not None:
                return found
    return None


# --- what is shown ---------------------------------------------------------------------------


def table(pairs: Sequence[Pair]) -> pd.DataFrame:
    """A row a pair; differences in points, p-values adjusted over all rows that have one."""
    known = [i for i, pair in enumerate(pairs) if pair.tally is not None]
    tallies = [pair.tally.p for pair in pairs if pair.tally is not None]
    adjusted = dict(zip(known, holm(tallies), strict=True))
    rows = []
    for i, pair in enumerate(pairs):
        row: dict[str, Any] = {"A": label(pair.a), "B": label(pair.b)}
        row["seeds"] = 0 if pair.test is None else pair.test.seeds
        for split, found in (("validation", pair.validation), ("test", pair.test)):
            row[f"{split} A - B"] = percent(None if found is None else found.mean, "+")
            row[f"{split} 95 %"] = interval(None if found is None else found.interval, "+")
        row["seeds p"] = _p_words(None if pair.test is None else pair.test.p)
        row["over seeds"] = pair.verdict
        undecided = pair.test is not None and not pair.test.told_apart
        row[NEEDED] = (pair.test.needed if pair.test and undecided else "") or "-"
        on = pair.tally
        row["on seed"] = "-" if on is None else on.seed
        row["only A right"] = "-" if on is None else on.a_alone
        row["only B right"] = "-" if on is None else on.b_alone
        p = adjusted.get(i, math.nan)
        row["images p"] = _p_words(None if on is None else p)
        row["these two networks"] = networks(on, p)
        rows.append(row)
    return pd.DataFrame(rows)


def notes(pairs: Sequence[Pair]) -> list[str]:
    """How the table is to be read, and which of its pairs lack predictions."""
    if all(pair.validation is None and pair.test is None for pair in pairs):
        return []
    tested = sum(pair.test is not None and pair.test.p is not None for pair in pairs)
    tallied = sum(pair.tally is not None for pair in pairs)
    note = _TESTED_NOTE.format(
        seeds=MIN_SEEDS, family=adjusted_for(tested), alpha=ALPHA, power=POWER_NOTE
    )
    few = f"No pair of the table has the {MIN_SEEDS} seeds that a test takes. {NEEDED}: "
    found = [SEEDS_NOTE + (note if tested else few + POWER_NOTE)]
    if tallied:
        found.append(_IMAGES_NOTE.format(family=adjusted_for(tallied), alpha=ALPHA))
    if any(pair.tally is not None and pair.tally.p < SMALLEST for pair in pairs):
        found.append(f"A p-value under {SMALLEST:g} is written as {SMALLEST:g}.")
    # Where a point has no result at all, the table says so itself.
    lacking = [
        f"{label(pair.a)} and {label(pair.b)}"
        for pair in pairs
        if pair.tally is None and pair.test is not None
    ]
    if lacking:
        found.append(
            "No seed has usable predictions of the same test images for both of: "
            f"{'; '.join(lacking)}."
        )
    return found


def adjusted_for(pairs: int, what: str = "pairs of the table") -> str:
    """How the p-values of so many comparisons are adjusted."""
    if pairs == 1:
        return f"which is the only one of the {what}, so that nothing is adjusted"
    return f"adjusted by Holm for the {pairs} {what} that have one"


def marks(found: Mapping[int, Mapping[str, Any]]) -> str:
    """What is flagged or not over among the runs of a point (by their seed), a line a code."""
    seeds: dict[str, list[int]] = {}
    for seed, run in sorted(found.items()):
        for code in run["flags"] or [run["state"]] * (run["state"] in OPEN):
            seeds.setdefault(code, []).append(seed)
    return "\n".join(
        f"{code}: {plural(len(them), 'seed')} {', '.join(map(str, them))}"
        if len(them) <= _SEEDS_NAMED
        else f"{code}: {len(them)} seeds"
        for code, them in sorted(seeds.items())
    )


def _p_words(p: float | None) -> str:
    return p_value(None if p is None else max(p, SMALLEST))
