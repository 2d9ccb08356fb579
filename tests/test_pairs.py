"""Two points of a launch: the tests against references, and their words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from analysis.cifar10 import ablations
from analysis.data.predictions import Predictions
from analysis.stats import paired
from analysis.stats.intervals import holm, mcnemar
from analysis.stats.paired import Tally, networks, value_words, verdict
from analysis.stats.seed_values import Difference, difference

CLASSES = 10

counts = st.integers(0, 300)

p_values = st.lists(st.floats(0, 1), max_size=8)

accuracies = st.integers(0, 10_000).map(lambda right: right / 10_000)

pairs_of_accuracies = st.lists(st.tuples(accuracies, accuracies), min_size=3, max_size=8)


# --- statistics against references -----------------------------------------------------------


@given(counts, counts)
def test_mcnemar_is_the_exact_two_sided_binomial_test(a: int, b: int) -> None:
    n = a + b
    assert mcnemar(a, b) == mcnemar(b, a)
    if n == 0:
        assert mcnemar(a, b) == 1
        return
    assert mcnemar(a, b) == pytest.approx(
        scipy_stats.binomtest(a, n, 0.5, alternative="two-sided").pvalue, rel=1e-9
    )
    # All splits that are not likelier than the one that was seen, in whole numbers.
    seen = math.comb(n, a)
    total = sum(c for k in range(n + 1) if (c := math.comb(n, k)) <= seen)
    assert mcnemar(a, b) == pytest.approx(total / 2**n, rel=1e-9)


def step_down(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-value by its definition: the least level at which the step-down procedure,
    which goes on from the smallest p-value until one exceeds level / (those left), rejects it.
    """
    n = len(p_values)
    adjusted = []
    for p in p_values:
        # Equal p-values are rejected together; all smaller ones have to be rejected before.
        before = sorted(other for other in p_values if other < p)
        left = [(n - i) * other for i, other in enumerate(before)] + [(n - len(before)) * p]
        adjusted.append(min(1.0, max(left)))
    return adjusted


@given(p_values)
def test_holm_is_the_step_down_procedure(values: list[float]) -> None:
    assert holm(values) == pytest.approx(step_down(values))


@given(p_values.filter(bool), st.randoms())
def test_holm_keeps_the_order_and_does_not_depend_on_it(values: list[float], random: Any) -> None:
    adjusted = holm(values)
    assert all(0 <= p <= q <= 1 for p, q in zip(values, adjusted, strict=True))
    by_size = sorted(zip(values, adjusted, strict=True))
    assert [q for _, q in by_size] == sorted(q for _, q in by_size)
    places = list(range(len(values)))
    random.shuffle(places)
    assert holm([values[i] for i in places]) == [adjusted[i] for i in places]
    assert min(adjusted) <= min(1.0, len(values) * min(values)) + 1e-12  # Bonferroni's


@given(pairs_of_accuracies)
def test_the_paired_interval_is_scipys(pairs: list[tuple[float, float]]) -> None:
    a, b = [list(side) for side in zip(*pairs, strict=True)]
    gap = difference(dict(enumerate(a)), dict(enumerate(b)))
    assert gap is not None
    found = gap.interval
    assert found is not None
    gaps = np.subtract(a, b)
    if np.ptp(gaps) < 1e-9:  # no spread: scipy has no interval then
        assert found == pytest.approx((gaps.mean(), gaps.mean()), abs=1e-9)
        return
    wanted = scipy_stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found == pytest.approx((wanted.low, wanted.high), rel=1e-6, abs=1e-9)
    assert gap.p == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue, rel=1e-6)
    back = difference(dict(enumerate(b)), dict(enumerate(a)))
    assert back is not None
    assert back.interval == pytest.approx((-found[1], -found[0]))
    assert back.p == pytest.approx(gap.p)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_tally_counts_what_only_one_gets_right(rights: list[tuple[bool, bool]]) -> None:
    a, b = (predictions(np.array(side)) for side in zip(*rights, strict=True))
    found = paired.tally(a, b, 42)
    assert found is not None
    assert found.a_alone == rights.count((True, False))
    assert found.b_alone == rights.count((False, True))
    assert found.a_alone - found.b_alone == a.right.sum() - b.right.sum()
    swapped = paired.tally(b, a, 42)
    assert swapped == Tally(42, found.b_alone, found.a_alone)
    assert paired.tally(a, predictions(np.array([True] * (len(rights) + 1))), 42) is None


def predictions(right: np.ndarray[Any, Any], classes: int = CLASSES) -> Predictions:
    labels = np.arange(len(right)) % classes
    logits = np.eye(classes, dtype=np.float32)[np.where(right, labels, (labels + 1) % classes)]
    index = np.arange(len(right), dtype=np.int32)
    return Predictions("t", index, labels, logits, tuple("abcdefghij"[:classes]))


# --- words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([0.95, 0.951, 0.952], [0.94, 0.941, 0.9421], "A is better"),
        ([0.94, 0.941, 0.9421], [0.95, 0.951, 0.952], "B is better"),
        ([0.95, 0.93, 0.94], [0.94, 0.95, 0.93], "seeds do not tell them apart"),
        ([0.95, 0.95, 0.95], [0.95, 0.95, 0.95], "seeds do not tell them apart"),
        ([0.95, 0.95], [0.10, 0.10], "not enough seeds (2)"),
        ([0.95], [0.10], "not enough seeds (1)"),
        ([], [0.10], "no seed has both"),
    ],
)
def test_one_is_better_only_where_the_interval_leaves_out_0(
    a: list[float], b: list[float], words: str
) -> None:
    found = difference(dict(enumerate(a)), dict(enumerate(b)))
    assert verdict(found, "A", "B") == words


@pytest.mark.parametrize(
    ("tally", "adjusted", "words"),
    [
        (Tally(42, 30, 5), 0.049, "A is right more often"),
        (Tally(42, 5, 30), 0.049, "B is right more often"),
        (Tally(42, 30, 5), 0.05, "not told apart"),
        (None, math.nan, "-"),
    ],
)
def test_networks(tally: Tally | None, adjusted: float, words: str) -> None:
    assert networks(tally, adjusted) == words


@pytest.mark.parametrize(
    ("mean", "p", "words"),
    [
        (-0.01, 0.05, "agrees"),
        (0.01, 0.05, "disagrees"),
        (-0.01, 0.051, "neither agrees nor disagrees"),
        (-0.01, None, "not enough seeds (3 of 3;"),
    ],
)
def test_a_claim_is_judged_by_the_seeds_adjusted_p_value_alone(
    mean: float, p: float | None, words: str
) -> None:
    found = Difference(mean, (-0.02, -0.005), 3, p)
    assert ablations.agrees(found).startswith(words)
    assert ablations.agrees(None) == "no seed has both"


def test_values_in_words() -> None:
    given = (5e-4, 0.0, 1, None, math.nan, "step", False, "0.3,0.6")
    said = ["0.0005", "0", "1", "none", "none", "step", "False", "0.3,0.6"]
    assert [value_words(value) for value in given] == said
