"""How many seeds would tell two points apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from analysis.data.study import POINT
from analysis.stats.intervals import ALPHA, POWER, prediction_p, seeds_to_tell
from analysis.stats.seed_values import at, difference, family, judged, places, points, would_tell


@pytest.mark.parametrize(
    ("effect", "seeds"),
    # Cohen's d of paired differences, 5 %, two-sided, 80 %: as G*Power 3.1 has them.
    [(0.3, 90), (0.5, 34), (0.8, 15), (1.0, 10), (1.2, 8), (0.25, None), (0.0, None), (50.0, 3)],
)
def test_the_number_of_seeds_is_that_of_the_tables(effect: float, seeds: int | None) -> None:
    assert seeds_to_tell(effect, 1.0) == seeds
    assert seeds_to_tell(-effect / 100, 0.01) == seeds


def test_no_spread_and_many_comparisons() -> None:
    assert seeds_to_tell(0.001, 0.0) == 3
    assert seeds_to_tell(0.0, 0.0) is None
    assert (seeds_to_tell(1.0, 1.0, 15) or 0) > (seeds_to_tell(1.0, 1.0) or 0)
    # Where the test is far out in its tail, for any number of comparisons.
    for size in (5, 50, 500, 1e5):
        assert seeds_to_tell(size, 1.0, 1770) is not None


@pytest.mark.parametrize("single", [False, True])
def test_so_many_seeds_have_that_power_and_one_less_has_not(single: bool) -> None:
    """Simulated: nothing of the formula is used."""
    effect, studies = (3.5 if single else 1.0), 20_000
    n = seeds_to_tell(effect, 1.0, single=single)
    assert n is not None
    random = np.random.default_rng(5)
    found = []
    for seeds in (n, n - 1):
        values = random.normal(0, 1, (studies, seeds))
        alone = random.normal(0, 1, studies) if single else np.zeros(studies)
        error = values.std(axis=1, ddof=1) * np.sqrt(1 / seeds + single)
        away = np.abs(effect + alone - values.mean(axis=1)) / error
        found.append(float(np.mean(away > scipy_stats.t.ppf(1 - ALPHA / 2, seeds - 1))))
    assert found[0] >= POWER - 0.01 and found[1] < POWER + 0.01


def test_a_large_difference_among_many_pairs_takes_more_than_the_fewest_seeds() -> None:
    """Where three seeds have a power of 36 % and four of 93 %, by simulation."""
    random, level = np.random.default_rng(6), ALPHA / 15
    for seeds, power in ((3, 0.36), (4, 0.93)):
        values = random.normal(4.8, 0.72, (20_000, seeds))
        away = values.mean(axis=1) / (values.std(axis=1, ddof=1) / np.sqrt(seeds))
        bound = scipy_stats.t.ppf(1 - level / 2, seeds - 1)
        assert np.mean(away > bound) == pytest.approx(power, abs=0.02)
    assert seeds_to_tell(4.8, 0.72, 15) == 4


def test_one_reported_run_may_be_out_of_reach_of_any_number() -> None:
    assert seeds_to_tell(2.0, 1.0, single=True) is None
    p = prediction_p(2.0, list(np.linspace(-1.7, 1.7, 100)))
    assert p is not None and p > 0.04


def test_what_is_undecided_says_how_many_seeds_would_tell() -> None:
    a = difference({1: 0.91, 2: 0.93, 3: 0.92}, {1: 0.90, 2: 0.90, 3: 0.92})
    assert a is not None and a.told_apart is False
    assert judged(a) == ("seeds do not tell them apart (about 13 seeds would, with 80 % power)")
    alone = difference({1: 0.91}, {1: 0.9})
    assert alone is not None
    assert would_tell(alone) == "one seed does not show how many would"
    two = difference({1: 0.91, 2: 0.93}, {1: 0.90, 2: 0.90})
    assert two is not None
    assert judged(two).startswith("not enough seeds to tell them apart (about ")
    # Among more comparisons it takes more, and too few seeds now are one comparison as well.
    many = family([two, a, a, None])
    assert [one and one.family for one in many] == [3, 2, 2, None]


VALUES = st.sampled_from([0.1, 1, 1.0, 2, "1", "sgd", None, float("nan"), True])


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=12))
def test_each_point_has_the_places_of_its_rows(rows: list[tuple[object, object]]) -> None:
    columns = {
        POINT + name: list(held) for name, held in zip("ab", zip(*rows, strict=True), strict=True)
    }
    plan: Any = SimpleNamespace(axes=["a", "b"], runs=pd.DataFrame(columns, dtype=object))
    for point, found in zip(points(plan), places(plan), strict=True):
        assert plan.runs.iloc[found].index.tolist() == at(plan, point).index.tolist()
    alone: Any = SimpleNamespace(axes=[], runs=plan.runs)
    assert [one.tolist() for one in places(alone)] == [list(range(len(rows)))]
