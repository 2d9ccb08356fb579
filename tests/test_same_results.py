"""A seed that has no effect, of any task."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import results_folder
from task_results import finish, trials, write_plan

from analysis.cifar10.task import load
from analysis.stats import same_results


def written(results: Path, losses: list[list[float]], metric: str) -> list[list[str]]:
    """The flags of the seeds of one point."""
    planned = trials((0.1,), len(losses))
    write_plan(results, planned, metric=metric)
    for trial, values in zip(planned, losses, strict=True):
        finish(results / "mine" / trial["name"], trial, values, metric)
    (plan,) = load(results, []).plans
    flags: list[list[str]] = plan.runs["flags"].tolist()
    return flags


SAME = ["SAME_RESULT"]


@pytest.mark.parametrize(
    ("values", "metric", "flags"),
    [
        ([[2.0, 1.0]] * 3, "loss", [SAME] * 3),
        ([[2.0, 1.0], [2.0, 1.0], [2.0, 1.5]], "loss", [SAME, SAME, []]),
        # Two seeds may have as many right answers.
        ([[0.91, 0.92]] * 2, "accuracy", [[]] * 2),
        ([[0.91, 0.92, 0.93, 0.94, 0.95]] * 2, "accuracy", [SAME] * 2),
        # No share of a number of samples.
        ([[0.123456789012]] * 2, "score", [SAME] * 2),
    ],
)
def test_equal_results_of_seeds_are_flagged(
    tmp_path: Path, values: list[list[float]], metric: str, flags: list[list[str]]
) -> None:
    assert written(tmp_path, values, metric) == flags


def test_they_count_as_one_and_the_report_says_so(tmp_path: Path) -> None:
    written(tmp_path, [[2.0, 1.0], [2.0, 1.0], [2.0, 1.5]], "loss")
    assert results_folder.run("--results", tmp_path, "--out", tmp_path / "report") == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "Its mean is 1.25 over 2 trials." in text
    assert "2 trials with different seeds have 1 result between them" in text


def test_accuracies_of_a_few_epochs_are_seldom_taken_for_one() -> None:
    """Five seeds whose true accuracy is one, over 1,000 images and as many epochs as decide."""
    drawn, seeds, false = random.Random(0), 5, 0
    generator = np.random.default_rng(0)
    for _ in range(200):
        epochs = drawn.choice([1, 3, 5])
        counts = 900 + np.round(generator.normal(0, 2, (seeds, epochs)))
        names = [f"t{number}" for number in range(seeds)]
        logged = pd.DataFrame(
            {
                "trial": np.repeat(names, epochs),
                "at": np.tile(np.arange(epochs, dtype=float), seeds),
                "metric": "accuracy",
                "value": counts.ravel() / 1000,
            }
        )
        runs = pd.DataFrame({"trial": names, "state": "done", "objective": counts.max(1) / 1000})
        found = same_results.results(runs, runs[[]], logged, "accuracy").dropna()
        false += bool(found.duplicated().any())
    assert false <= 0.05 * 200
