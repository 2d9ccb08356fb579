"""Figures of predicted numbers: known answers, and those of scikit-learn and scipy."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from analysis.figures import regression as figures
from analysis.figures.style import png
from analysis.stats import regression

NUMBERS = st.floats(-1e6, 1e6)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=40)


def test_known_answers() -> None:
    targets, values = np.array([1.0, 2.0, 3.0, 6.0]), np.array([1.0, 4.0, 3.0, 4.0])
    assert regression.residuals(targets, values).tolist() == [0, -2, 0, 2]
    assert regression.rmse(targets, values) == math.sqrt(2)
    assert regression.mae(targets, values) == 1
    assert regression.r_squared(targets, values) == 1 - 8 / 14
    mean, reach = regression.mean_residual(targets, values)
    assert mean == 0 and reach is not None
    # Student's t of 3 degrees of freedom; sd sqrt(8 / 3), over 4.
    assert reach == pytest.approx((-2.598457, 2.598457), abs=1e-6)


def test_the_mean_of_the_targets_has_an_r_squared_of_0() -> None:
    targets = np.array([1.0, 2.0, 6.0])
    assert regression.r_squared(targets, np.full(3, 3.0)) == 0
    assert regression.r_squared(targets, targets) == 1
    assert math.isnan(regression.r_squared(np.full(3, 0.1), targets))


def test_few_examples_have_no_interval() -> None:
    assert regression.mean_residual(np.array([1.0, 2.0]), np.array([0.0, 0.0])) == (1.5, None)


@given(PAIRS)
def test_they_are_scikit_learns_and_scipys(pairs: list[tuple[float, float]]) -> None:
    targets, values = np.array(pairs).T
    assert regression.rmse(targets, values) == pytest.approx(
        metrics.root_mean_squared_error(targets, values), rel=1e-9
    )
    assert regression.mae(targets, values) == pytest.approx(
        metrics.mean_absolute_error(targets, values), rel=1e-9
    )
    if np.ptp(targets) > 1e-3:
        theirs = metrics.r2_score(targets, values)
        assert regression.r_squared(targets, values) == pytest.approx(theirs, rel=1e-6, abs=1e-6)
    mean, reach = regression.mean_residual(targets, values)
    left = targets - values
    if reach is not None and left.std() > 1e-6:
        theirs = stats.t.interval(0.95, len(left) - 1, left.mean(), stats.sem(left))
        assert reach == pytest.approx(theirs, rel=1e-6, abs=1e-6)
        assert reach[0] < mean < reach[1]


def test_the_interval_holds_the_mean_of_the_source_in_95_of_100_samples() -> None:
    draws = np.random.default_rng(0).normal(0.3, 1, (4000, 12))
    ends = [regression.mean_residual(one, np.zeros(12))[1] for one in draws]
    held = np.mean([low < 0.3 < high for low, high in filter(None, ends)])
    assert held == pytest.approx(0.95, abs=0.011)


def test_the_largest_residuals_of_whatever_sign() -> None:
    targets = np.array([0.0, 5.0, -5.0, 1.0, 0.0])
    table = regression.largest(targets, np.zeros(5), most=3)
    assert table["index"].tolist() == [1, 2, 3]
    assert table["residual"].tolist() == [5.0, -5.0, 1.0]


@pytest.mark.long
@pytest.mark.parametrize("scale", [0.0, 1e-300, 1.0, 1e99], ids=str)
@pytest.mark.parametrize("n", [1, 2, figures.MOST_POINTS + 1])
def test_figures_are_drawn_of_any_numbers(n: int, scale: float) -> None:
    drawn = np.random.default_rng(0).normal(0, scale, (2, n))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in (figures.against_target(*drawn), figures.residuals(*drawn)):
            assert png(figure).startswith(b"\x89PNG")
